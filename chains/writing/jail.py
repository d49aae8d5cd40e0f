"""Opens what lies inside a work tree, never through a symbolic link and never in another repository."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from chains.writing.edits import FileChange, FileState
from chains.writing.policy import PolicyError, folded, forbidden, places_of
from chains.writing.sensitive import GIT_HOOKS

if TYPE_CHECKING:
    from indexers.git import Repository

# A file larger than this is nobody's source.
MOST_BYTES = 16 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Git takes a directory for one of its own by what is in it, whatever its name: HEAD, and either these or that.
_HEAD, _STORES, _SHARED_STORES = "HEAD", ("objects", "refs"), "commondir"


def state_of(root: Path, path: str) -> FileState | None:
    """A file's bytes and permission bits; None when there is none.

    :raises PolicyError: the path leads out of the repository, or to something that is no regular file.
    :raises OSError: it cannot be read.
    """
    try:
        with parent_of(root, path) as (directory, name):
            return state_in(directory, name, path)
    except FileNotFoundError:
        return None


def state_in(directory: int, name: str, path: str) -> FileState | None:
    """The same, in a directory that is open already."""
    try:
        entry = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    _judge(entry, path)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, dir_fd=directory), "rb") as file:
        opened = os.fstat(file.fileno())
        _judge(opened, path)
        return FileState(file.read(MOST_BYTES + 1), stat.S_IMODE(opened.st_mode))


@contextmanager
def parent_of(root: Path, path: str, *, made: list[str] | None = None) -> Iterator[tuple[int, str]]:
    """A descriptor of the directory that a path lies in, and the path's last name.

    :param made: makes the directories that are missing, and is told which.
    :raises PolicyError: the path leads out of the repository, through a link, or into another repository.
    :raises FileNotFoundError: a directory is missing and none is to be made.
    """
    reason = forbidden(path)
    if reason:
        raise PolicyError(f"{path!r} is not written: {reason}.")
    *folders, name = path.split("/")
    current = os.open(root, _DIRECTORY)
    try:
        for count, part in enumerate(folders, 1):
            place = "/".join(folders[:count])
            below = _open_below(current, part, place, made)
            os.close(current)
            current = below
            if _has(current, ".git"):
                raise PolicyError(f"{path!r} is not written: {place} is another repository.")
            if _is_gits(current):
                raise PolicyError(f"{path!r} is not written: {place} is a directory of git's own.")
        yield current, name
    finally:
        os.close(current)


def twins_on_the_way(root: Path, path: str) -> list[str]:
    """What some file systems take for a new file, or for a new directory on the way to it (README.md, readme.md)."""
    at = root
    for place in places_of(path):
        above, _, name = place.rpartition("/")
        names = _names_in(at)
        if name not in names:
            # Nothing lies below what is not there.
            wanted = folded(name)
            return [f"{above}/{other}".lstrip("/") for other in sorted(names) if folded(other) == wanted]
        at = at / name
    return []


def check_no_twin(root: Path, path: str, gone: Collection[str], *, there: bool) -> None:
    """Refuse a new file whose name, or that of a directory on its way, some file systems take for another one's.

    :param gone: files that are removed in the same step.
    :param there: the file system itself takes them for one: the old name cannot go when the new one is there.
    :raises PolicyError: there is such a name.
    """
    twins = [twin for twin in twins_on_the_way(root, path) if there or twin not in gone]
    if twins:
        raise PolicyError(f"{path!r} is not written: {twins[0]!r} is the same name on some file systems.")


def check_not_gits(root: Path, changes: Sequence[FileChange], known: Collection[Path] = ()) -> None:
    """Refuse changes in directories that git takes for its own, or would take for its own with them.

    :param known: directories that are git's, wherever they lie and whatever is in them.
    :raises PolicyError: the first change that is refused.
    """
    # Told by what they are and not by their names, which may be spelled in several ways.
    own = {_identity(os.stat(place)) for place in known if place.exists()}
    added = _added(changes)
    for change in changes:
        for place in places_of(change.path):
            if own and _identity_of(root / place) in own:
                raise PolicyError(f"{change.path!r} is not written: {place} is git's own directory.")
            if change.after is not None and _would_be_gits(added.get(place, set()), root / place):
                raise PolicyError(f"{change.path!r} is not written: git would take {place} for its own.")


def _added(changes: Sequence[FileChange]) -> dict[str, set[str]]:
    """The names that changes put into each directory."""
    added: dict[str, set[str]] = {}
    for place in (place for change in changes if change.after for place in places_of(change.path)):
        above, _, name = place.rpartition("/")
        added.setdefault(above, set()).add(folded(name))
    return added


def _would_be_gits(names: set[str], directory: Path) -> bool:
    """Whether git takes a directory for its own once it has these names too."""
    if names.isdisjoint((_HEAD.lower(), _SHARED_STORES, *_STORES)):
        return False
    names = names | set(map(folded, _names_in(directory)))
    return _HEAD.lower() in names and (_SHARED_STORES in names or names.issuperset(_STORES))


def _is_gits(directory: int) -> bool:
    return _has(directory, _HEAD) and (
        _has(directory, _SHARED_STORES) or all(_has(directory, name) for name in _STORES)
    )


def _has(directory: int, name: str) -> bool:
    return os.access(name, os.F_OK, dir_fd=directory, follow_symlinks=False)


def _names_in(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        return _identity(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _identity(entry: os.stat_result) -> tuple[int, int]:
    return entry.st_dev, entry.st_ino


def hook_places(repository: Repository) -> set[str]:
    """What git runs as hooks inside the work tree: core.hooksPath, and files that its hooks are links to."""
    directory = repository.hooks_dir()
    found = {os.path.normpath(directory), os.path.realpath(directory)}
    with suppress(OSError), os.scandir(directory) as entries:
        found |= {os.path.realpath(entry.path) for entry in entries if _is_hook(entry)}
    inside = (Path(place) for place in found if Path(place).is_relative_to(repository.root))
    places = {place.relative_to(repository.root).as_posix() for place in inside}
    # With the whole work tree for their directory, hooks are known by their names alone.
    return places - {"."} | set(GIT_HOOKS if "." in places else ())


def _is_hook(entry: os.DirEntry[str]) -> bool:
    """Whether a link is one of git's hooks, or one that was put aside as `pre-commit.SOMETHING` to run before ours."""
    return entry.is_symlink() and entry.name.partition(".")[0] in GIT_HOOKS


def _open_below(parent: int, part: str, place: str, made: list[str] | None) -> int:
    try:
        return os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        if made is None:
            raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
            raise PolicyError(
                f"{place} is a symbolic link or no directory: nothing is written there."
            ) from None
        raise
    os.mkdir(part, dir_fd=parent)
    made.append(place)
    return os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)


def _judge(entry: os.stat_result, path: str) -> None:
    if stat.S_ISLNK(entry.st_mode):
        raise PolicyError(f"{path!r} is a symbolic link: it is neither followed nor replaced.")
    if not stat.S_ISREG(entry.st_mode):
        raise PolicyError(f"{path!r} is no regular file.")
    if entry.st_size > MOST_BYTES:
        raise PolicyError(
            f"{path!r} has {entry.st_size:,} bytes; larger files than {MOST_BYTES:,} are not edited."
        )
