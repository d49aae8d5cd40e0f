"""A unified diff as files and hunks, whatever its paths are called and whatever bytes its lines hold. Pure."""

# Not the unidiff package: it reads text, and a patch is bytes in which every file has an encoding of its own; and it
# gives up on the whole patch where one header is odd.

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from chains.reviewing.types import Hunk
from indexers.errors import UsageError
from indexers.files import text_of

_HUNK = re.compile(rb"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_NOWHERE = b"/dev/null"


@dataclass(frozen=True, slots=True)
class PatchedFile:
    """One file of a patch. `known` are all lines of the new text that the patch shows, by number.

    `old_path` or `path` is empty where that side is nothing. `is_text` is false where its lines are no text.
    """

    path: str
    old_path: str
    hunks: tuple[Hunk, ...]
    known: dict[int, str]
    is_text: bool = True


@dataclass(slots=True)
class _Open:
    """A file while its part of the patch is read."""

    old: bytes | None = None
    new: bytes | None = None
    binary: bool = False
    hunks: list[_RawHunk] = field(default_factory=list)


@dataclass(slots=True)
class _RawHunk:
    old_start: int
    new_start: int
    old_left: int
    new_left: int
    lines: list[bytes] = field(default_factory=list)


def parse_patch(data: bytes) -> list[PatchedFile]:
    """The files of a unified diff, git's or plain; words around it (a mail) are passed over.

    :raises UsageError: there is not one file in it, though it is not blank.
    """
    files = [_closed(item) for item in _opened(data)]
    found = [item for item in files if item.path or item.old_path]
    if not found and data.strip():
        raise UsageError(
            "There is no unified diff in the input.", "Make one: git diff | agent review --diff -"
        )
    return found


def _opened(data: bytes) -> Iterator[_Open]:
    """Line by line: a line that a hunk still waits for is never taken for a header, whatever it says."""
    now: _Open | None = None
    hunk: _RawHunk | None = None
    for line in data.split(b"\n"):
        if hunk is not None and (hunk.old_left > 0 or hunk.new_left > 0):
            hunk.lines.append(line)
            if line[:1] != b"\\":
                hunk.old_left -= line[:1] in (b" ", b"-", b"")
                hunk.new_left -= line[:1] in (b" ", b"+", b"")
            continue
        hunk = None
        if line.startswith(b"diff --git "):
            if now is not None:
                yield now
            now = _Open(*_git_names(line))
        elif line.startswith(b"--- ") and (now is None or now.hunks):
            if now is not None:
                yield now
            now = _Open(_name(line[4:]))
        elif now is not None:
            hunk = _header(now, line)
    if now is not None:
        yield now


def _header(now: _Open, line: bytes) -> _RawHunk | None:
    match = _HUNK.match(line)
    if match is not None:
        old, old_count, new, new_count = match.groups()
        hunk = _RawHunk(int(old), int(new), int(old_count or b"1"), int(new_count or b"1"))
        now.hunks.append(hunk)
        return hunk
    if line.startswith(b"--- "):
        now.old = _name(line[4:])
    elif line.startswith(b"+++ "):
        now.new = _name(line[4:])
    elif line.startswith(b"rename from "):
        now.old = _unquoted(line[12:])
    elif line.startswith(b"rename to "):
        now.new = _unquoted(line[10:])
    elif line.startswith(b"new file mode "):
        now.old = None
    elif line.startswith(b"deleted file mode "):
        now.new = None
    elif line.startswith((b"Binary files ", b"GIT binary patch")):
        now.binary = True
    return None


def _closed(item: _Open) -> PatchedFile:
    path, old_path = (os.fsdecode(name) if name else "" for name in (item.new, item.old))
    found: list[Hunk] = []
    known: dict[int, str] = {}
    text = not item.binary
    for raw in item.hunks:
        body = text_of(b"\n".join(raw.lines))
        if not isinstance(body, str):
            text = False
            continue
        found += _hunks(raw, body.split("\n"), known)
    return PatchedFile(path, old_path, tuple(found) if text else (), known if text else {}, text)


def _hunks(raw: _RawHunk, lines: list[str], known: dict[int, str]) -> Iterator[Hunk]:
    """The runs of changed lines of one hunk, without the lines of context between."""
    # Where a side has no lines, its number is that of the line before.
    new = raw.new_start + (1 if not any(line[:1] in ("+", " ", "") for line in lines) else 0)
    old = raw.old_start
    added: list[str] = []
    removed: list[str] = []
    for number, line in enumerate([*lines, " "]):
        kind, text = line[:1], line[1:]
        if kind == "+":
            known[new + len(added)] = text
            added.append(text)
        elif kind == "-":
            removed.append(text)
        elif kind in (" ", ""):
            if added or removed:
                yield Hunk(new, tuple(added), old, tuple(removed))
                new, old = new + len(added), old + len(removed)
                added, removed = [], []
            if number < len(lines):
                known.setdefault(new, text)
            new, old = new + 1, old + 1


def _git_names(line: bytes) -> tuple[bytes | None, bytes | None]:
    """Both names of `diff --git a/x b/x`, which lines that follow may correct; a plain name may hold spaces."""
    rest = line[len(b"diff --git ") :]
    if rest.startswith(b'"'):
        end = _quote_end(rest)
        return _stripped(_unquoted(rest[:end])), _stripped(_unquoted(rest[end:].strip()))
    middle = len(rest) // 2
    if rest[middle : middle + 1] == b" " and rest[2:middle] == rest[middle + 3 :]:
        return _stripped(rest[:middle]), _stripped(rest[middle + 1 :])
    first, _, second = rest.partition(b" ")
    return _stripped(first), _stripped(_unquoted(second))


def _quote_end(text: bytes) -> int:
    match = re.match(rb'"(?:[^"\\]|\\.)*"', text, re.DOTALL)
    return match.end() if match else len(text)


def _name(text: bytes) -> bytes | None:
    # A plain diff writes the time behind a tab, git only where a name holds a space.
    name = _unquoted(text if text.startswith(b'"') else text.partition(b"\t")[0].rstrip(b"\r"))
    return None if name == _NOWHERE else _stripped(name)


def _stripped(name: bytes) -> bytes:
    return name[2:] if name[:2] in (b"a/", b"b/", b"i/", b"w/", b"c/", b"o/") else name


def _unquoted(name: bytes) -> bytes:
    """A name that git wrote in quotes, with its escapes undone."""
    name = name.strip()
    if not (name.startswith(b'"') and name.endswith(b'"') and len(name) > 1):
        return name

    def plain(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return bytes([int(code, 8) & 0xFF]) if code[:1].isdigit() else _ESCAPES.get(code, code)

    return _ESCAPE.sub(plain, name[1:-1])
