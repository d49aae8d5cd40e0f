"""What may be written where: paths that stay inside the repository, and what needs a separate yes. Pure."""

# Measured with git 2.39: `git apply` refuses `..`, absolute paths, `.git` in several spellings and symbolic links on
# the way; it takes `.g\u200cit` (`.git` on HFS+), new modes, settings of hooks and editors. Those are ours to judge.

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from chains.writing.edits import FileChange, FileState
from chains.writing.sensitive import reader_of
from indexers.errors import AgentError

_LONGEST_NAME = 255
_LONGEST_PATH = 1_024
# What a file system or a reader does not see in a name (HFS+ ignores some of these), beside category Cf. U+3164 and
# U+FFA0 have become U+1160 by then.
_IGNORABLE = frozenset(
    {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F}
    | set(range(0xFE00, 0xFE10))
    | set(range(0xE0000, 0xE1000))
)
# NTFS's short names for `.git`; the second where many names begin alike.
_SHORT_GIT = re.compile(r"git~\d+|gi[0-9a-f]{4}~\d+")

# What ordinary files may have: no writing by others, no bit that runs a file as its owner.
_ORDINARY_MODE = 0o755
# Of the lines of two files, so many are in both when one is the other under a new name.
_ALIKE = 0.5


class PolicyError(AgentError):
    """A change that is not made: where it would go, or without a yes of its own."""


@dataclass(frozen=True, slots=True)
class Concern:
    """Why a change needs a separate yes."""

    path: str
    reason: str


def forbidden(path: str) -> str:
    """Why nothing is ever written at a path relative to the repository; empty when it may be.

    Only what the name tells: links on the way are looked at when files are opened.
    """
    if not path or path.startswith("/"):
        return "it is not relative to the repository"
    if not path.isprintable() or len(path.encode("utf-8", "surrogateescape")) > _LONGEST_PATH:
        return "it has characters that are no part of a name, or is too long"
    if "\\" in path:
        return "it has a backslash, which separates directories elsewhere"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "it leaves the repository or names no file"
        if len(part.encode("utf-8", "surrogateescape")) > _LONGEST_NAME:
            return "a name in it is too long"
        if re.match(r"[A-Za-z]:", part):
            return "it names a drive"
        if _is_git(part):
            return "it is inside git's own directory"
    return ""


def executes_later(path: str) -> str:
    """What will run or obey a file at this path some day, as a reason; empty where nothing is known to."""
    return reader_of(_plain_parts(path))


def concerns(changes: Sequence[FileChange], hooks: Collection[str] = ()) -> list[Concern]:
    """What of these changes needs a separate yes: files that execute later, and new permission bits.

    :param hooks: files and directories of the repository that git's hooks are in; see `jail.hook_places`.
    """
    places = [_plain_parts(place) for place in hooks]
    found = []
    for change in changes:
        reason = executes_later(change.path) or _runs_as_hook(change.path, places)
        found += [Concern(change.path, why) for why in (reason, _mode_concern(change, changes)) if why]
    return found


def _runs_as_hook(path: str, places: Sequence[Sequence[str]]) -> str:
    parts = _plain_parts(path)
    inside = any(parts[: len(place)] == place for place in places)
    return "git is configured to run hooks from there" if inside else ""


def _mode_concern(change: FileChange, changes: Sequence[FileChange]) -> str:
    """What is unusual about the permission bits that a file gets; empty where nothing is."""
    if change.after is None:
        return ""
    mode = change.after.mode
    if change.before is not None:
        changed = mode != change.before.mode
        return f"its mode changes from {change.before.mode:o} to {mode:o}" if changed else ""
    if _is_rename(change.after, changes):
        return ""
    if mode & ~_ORDINARY_MODE:
        return f"the new file's mode would be {mode:o}: others may write it, or it runs as its owner"
    return "the new file would be executable" if mode & 0o111 else ""


def checked(changes: Sequence[FileChange]) -> None:
    """Refuse changes outside of the repository or inside of git's directory, and such as exclude one another.

    :raises PolicyError: the first path that is refused.
    """
    for change in changes:
        reason = forbidden(change.path)
        if reason:
            raise _refused(change.path, reason)
    _check_together([change for change in changes if change.after is not None])


def _check_together(changes: Sequence[FileChange]) -> None:
    """Refuse files that cannot all be there: a new one of the same name, as some file systems see it, or one that is
    inside another.
    """
    files: set[str] = set()
    spelled: dict[str, set[str]] = {}
    # Those that are there first: what they are called is so already.
    for change in sorted(changes, key=lambda change: change.before is None):
        if change.path in files:
            raise _refused(change.path, "it would be written twice")
        files.add(change.path)
        for place in places_of(change.path):
            known = spelled.setdefault(folded(place), set())
            if change.before is None and known and place not in known:
                raise _refused(change.path, f"{min(known)!r} is the same name on some file systems")
            known.add(place)
    for path in files:
        above = next((place for place in places_of(path)[:-1] if place in files), "")
        if above:
            raise _refused(path, f"{above!r} would be a file and a directory")


def _refused(path: str, reason: str) -> PolicyError:
    return PolicyError(f"{path!r} is not written: {reason}.")


def places_of(path: str) -> list[str]:
    """The directories on the way to a file, outer ones first, and the file itself."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def folded(name: str) -> str:
    """A name as a file system that ignores case, composition and invisible characters sees it."""
    text = unicodedata.normalize("NFKC", name)
    text = "".join(
        char for char in text if unicodedata.category(char) != "Cf" and ord(char) not in _IGNORABLE
    )
    return unicodedata.normalize("NFKC", text.casefold())


def _plain(name: str) -> str:
    """A name as Windows too sees it: a stream's name, closing dots and spaces do not count."""
    return folded(name).split(":", 1)[0].rstrip(". ")


def _plain_parts(path: str) -> list[str]:
    return [_plain(part) for part in path.split("/")]


def _is_git(part: str) -> bool:
    name = _plain(part)
    return name == ".git" or _SHORT_GIT.fullmatch(name) is not None


def _is_rename(after: FileState, changes: Sequence[FileChange]) -> bool:
    """Whether a new file is one that goes away in the same step: its mode, and what it holds."""
    return any(
        other.after is None
        and other.before is not None
        and other.before.mode == after.mode
        and _alike(other.before.data, after.data)
        for other in changes
    )


def _alike(before: bytes, after: bytes) -> bool:
    """Whether two files are the same, or share at least half of the lines of the longer one."""
    if before == after:
        return True
    old, new = (
        Counter(line for raw in data.split(b"\n") if (line := raw.strip())) for data in (before, after)
    )
    return (old & new).total() >= _ALIKE * max(old.total(), new.total(), 1)
