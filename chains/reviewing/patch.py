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
# What stands before the files of a further commit, or of a further mail.
_NEXT = re.compile(rb"(?:commit|From) [0-9a-f]{40}(?:[0-9a-f]{24})?\b")
_BINARY = re.compile(rb"Binary files (.{1,4096}) and (.{1,4096}) differ\s*$")
# In a context diff, what begins one side of a hunk.
_MOVED = re.compile(rb"(rename|copy) (from|to) ")
_RANGE = re.compile(rb"--- \d+(?:,\d+)? ----\s*$")


@dataclass(frozen=True, slots=True)
class PatchedFile:
    """One file of a patch. `known` are all lines of the new text that the patch shows, by number.

    `old_path` or `path` is empty where that side is nothing. `is_text` is false where its lines are no text. `added`
    are the bytes of all lines that begin as added ones, wherever they stand; `copied` is whether the old file stays.
    `trouble` says why this part of the patch
    is not what it claims to be: then nobody knows what it changes.
    """

    path: str
    old_path: str
    hunks: tuple[Hunk, ...]
    known: dict[int, str]
    is_text: bool = True
    old_mode: int = 0
    new_mode: int = 0
    added: bytes = b""
    trouble: str = ""
    copied: bool = False


@dataclass(slots=True)
class _Open:
    """A file while its part of the patch is read. `marks` is how many signs its lines begin with, of a merge several.

    `named` are the names that lines `---` and `+++` gave it.
    """

    old: bytes | None = None
    new: bytes | None = None
    binary: bool = False
    old_mode: int = 0
    new_mode: int = 0
    by_git: bool = False
    copied: bool = False
    marks: int = 1
    named: int = 0
    trouble: str = ""
    hunks: list[_RawHunk] = field(default_factory=list)
    added: list[bytes] = field(default_factory=list)

    def fault(self, what: str) -> None:
        """Something is wrong with it; the first such thing is told."""
        self.trouble = self.trouble or what


@dataclass(slots=True)
class _RawHunk:
    old_start: int
    new_start: int
    old_left: int
    new_left: int
    lines: list[bytes] = field(default_factory=list)

    def takes(self, line: bytes) -> bool:
        """Whether it still waits for such a line; then it has it."""
        line = b"" if line == b"\r" else line
        kind = line[:1]
        if kind == b"\\":
            self.lines.append(line)
            return True
        old, new = kind in (b" ", b"-", b""), kind in (b" ", b"+", b"")
        if not (old or new) or (old and self.old_left < 1) or (new and self.new_left < 1):
            return False
        self.lines.append(line)
        self.old_left -= old
        self.new_left -= new
        return True


def parse_patch(data: bytes) -> list[PatchedFile]:
    """The files of a unified diff, git's or plain; words around it (a mail) are passed over.

    A part that cannot be read is a file with its trouble. One without any path holds added lines of no file.

    :raises UsageError: there is not one file in it, though it is not blank.
    """
    files = [_closed(item) for item in _opened(data)]
    if data.strip() and not any(item.path or item.old_path or item.trouble for item in files):
        raise UsageError(
            "There is no unified diff in the input.", "Make one: git diff | agent review --diff -"
        )
    return [item for item in files if item.path or item.old_path or item.trouble or item.added]


def _opened(data: bytes) -> Iterator[_Open]:
    """Line by line: a line that a hunk still waits for is never taken for a header, whatever it says."""
    now = _Open()
    hunk: _RawHunk | None = None
    lines = data.split(b"\n")
    for line in lines if lines[-1] else lines[:-1]:
        if hunk is not None and (hunk.old_left > 0 or hunk.new_left > 0):
            if hunk.takes(line):
                if line[:1] == b"+":
                    now.added.append(line[1:])
                continue
            now.fault("a hunk ends before its lines do")
        hunk = None
        if _begins(now, line):
            yield now
            now = _begun(line)
        else:
            hunk = _header(now, line)
    if hunk is not None and (hunk.old_left > 0 or hunk.new_left > 0):
        now.fault("a hunk ends before its lines do")
    yield now


def _begins(now: _Open, line: bytes) -> bool:
    """Whether a line outside of hunks is the first of another file, or of a commit or a mail with more of them."""
    if line.startswith((b"diff --git ", b"diff --cc ", b"diff --combined ")) or _NEXT.match(line):
        return True
    over = bool(now.hunks) or now.marks == 0 or now.named == 2 or (now.binary and not now.by_git)
    fresh = over or (now.old is None and now.new is None and not now.named)
    if line.startswith(b"--- "):
        return fresh and not _RANGE.match(line)
    return fresh and not now.by_git and _BINARY.match(line) is not None


def _begun(line: bytes) -> _Open:
    if line.startswith(b"diff --git "):
        return _Open(*_git_names(line), by_git=True)
    binary = _BINARY.match(line)
    if binary is not None:
        return _Open(_name(binary[1]), _name(binary[2]), binary=True)
    if line.startswith(b"diff --c"):
        name = _unquoted(line.split(b" ", 2)[2])
        return _Open(name, name, by_git=True, trouble="a combined diff")
    return _Open(_name(line[4:]), named=1) if line.startswith(b"--- ") else _Open()


def _header(now: _Open, line: bytes) -> _RawHunk | None:
    """A line outside of hunks: the head of one, something said of the file, or a line that has no place there."""
    if line.startswith(b"@@@"):
        now.marks = len(line) - len(line.lstrip(b"@")) - 1
        now.fault("a combined diff")
    elif line.startswith(b"@@"):
        return _hunk(now, line)
    elif line.rstrip() == b"*" * 15:
        now.marks = 0
        now.fault("a context diff")
    elif now.hunks or not _says(now, line):
        _stray(now, line)
    return None


def _hunk(now: _Open, line: bytes) -> _RawHunk | None:
    match = _HUNK.match(line)
    if match is None:
        now.fault("a line that begins a hunk, and names no lines")
        return None
    old, old_count, new, new_count = match.groups()
    hunk = _RawHunk(int(old), int(new), int(old_count or b"1"), int(new_count or b"1"))
    last = now.hunks[-1] if now.hunks else None
    if last is not None and hunk.new_start < last.new_start + sum(
        part[:1] not in (b"-", b"\\") for part in last.lines
    ):
        now.fault("hunks that overlap")
    if hunk.new_left and not hunk.new_start:
        now.fault("a hunk with lines before the first")
    now.hunks.append(hunk)
    return hunk


def _says(now: _Open, line: bytes) -> bool:
    """What a line before the first hunk says of the file; false for one that says nothing."""
    if line.startswith(b"--- ") and not _RANGE.match(line):
        now.old, now.named = _name(line[4:]), 1
    elif line.startswith(b"+++ ") and now.named < 2:
        now.new, now.named = _name(line[4:]), 2
    elif moved := _MOVED.match(line):
        name = _unquoted(line[moved.end() :])
        now.copied = now.copied or moved[1] == b"copy"
        now.old, now.new = (name, now.new) if moved[2] == b"from" else (now.old, name)
    elif line.startswith(b"new file mode "):
        now.old, now.new_mode = None, _mode(line)
    elif line.startswith(b"deleted file mode "):
        now.new, now.old_mode = None, _mode(line)
    elif line.startswith(b"old mode "):
        now.old_mode = _mode(line)
    elif line.startswith(b"new mode "):
        now.new_mode = _mode(line)
    elif line.startswith(b"index ") and line.count(b" ") == 2:
        now.old_mode = now.new_mode = _mode(line)
    elif line.startswith((b"Binary files ", b"GIT binary patch")):
        now.binary = True
    else:
        return False
    return True


def _stray(now: _Open, line: bytes) -> None:
    """A line outside of hunks that looks like one of a hunk: where it goes, nobody can tell."""
    signs = line[: max(1, now.marks)]
    if b"+" in signs.strip(b" ")[:1] or (now.marks == 0 and line.startswith(b"! ")):
        now.added.append(line[max(1, now.marks) :])
    # Two dashes and a space stand before the signature of a mail.
    elif not line.startswith(b"-") or line.rstrip() in (b"--", b"---"):
        return
    if now.old is not None or now.new is not None:
        now.fault("lines outside of hunks")


def _mode(line: bytes) -> int:
    """The mode that a line ends with; 0 for none."""
    word = line.split()[-1]
    return int(word, 8) if re.fullmatch(rb"[0-7]{6}", word) else 0


def _closed(item: _Open) -> PatchedFile:
    if item.named == 1 and not item.hunks and not item.trouble and not item.added:
        item.old = item.new = None  # a line of prose that begins with three dashes
    path, old_path = (os.fsdecode(name) if name else "" for name in (item.new, item.old))
    if item.hunks and item.binary:
        item.fault("called binary, and with lines of text")
    if item.hunks and not path and (item.added or not old_path):
        item.fault("lines added to a file that is not there")
    if item.named == 2 and not item.hunks and not item.binary:
        item.fault("without a hunk")
    found: list[Hunk] = []
    known: dict[int, str] = {}
    text = not item.binary
    for raw in item.hunks:
        body = text_of(b"\n".join(raw.lines))
        if not isinstance(body, str):
            text = False
            continue
        found += _hunks(raw, body.split("\n"), known)
    return PatchedFile(
        path,
        old_path,
        tuple(found) if text else (),
        known if text else {},
        text,
        item.old_mode,
        item.new_mode,
        b"\n".join(item.added),
        item.trouble,
        item.copied,
    )


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
