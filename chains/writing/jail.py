"""Opens what lies inside a work tree, never through a symbolic link and never in another repository."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chains.writing.edits import FileState
from chains.writing.policy import PolicyError, folded, forbidden

# A file larger than this is nobody's source.
MOST_BYTES = 16 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


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
            if os.access(".git", os.F_OK, dir_fd=current, follow_symlinks=False):
                raise PolicyError(f"{path!r} is not written: {place} is another repository.")
        yield current, name
    finally:
        os.close(current)


def twin_of(directory: int, name: str) -> str:
    """Another name in a directory that some file systems take for this one (README.md, readme.md); else empty."""
    wanted = folded(name)
    return next((other for other in os.listdir(directory) if other != name and folded(other) == wanted), "")


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
