"""Changes of files as one unified diff, as git writes it and `git apply` reads it. Pure."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence

from chains.writing.edits import FileChange, FileState, Text
from indexers.errors import AgentError

_CONTEXT = 3
_NO_NEWLINE = "\\ No newline at end of file"
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def unified_diff(changes: Sequence[FileChange]) -> str:
    """All changes as one diff; a file that was removed and one that appeared with the same bytes are a rename."""
    renames = _renames(changes)
    targets = set(renames.values())
    parts = []
    for change in changes:
        if change.path in targets:
            continue
        renamed = renames.get(change.path)
        if renamed is None:
            parts.append(_file(change))
        else:
            after = next(other.after for other in changes if other.path == renamed)
            parts.append(_renamed(change.path, renamed, change.before, after))
    return "".join(parts)


def _renames(changes: Sequence[FileChange]) -> dict[str, str]:
    """Old path to new path, where the new file is the old one or most of it."""
    gone = {change.path: change.before for change in changes if change.after is None and change.before}
    new = {change.path: change.after for change in changes if change.before is None and change.after}
    found: dict[str, str] = {}
    for path, before in gone.items():
        for target, after in new.items():
            if target not in found.values() and _alike(before.data, after.data):
                found[path] = target
                break
    return found


def _alike(before: bytes, after: bytes) -> bool:
    if before == after:
        return True
    kept, total = set(before.split(b"\n")) & set(after.split(b"\n")), set(before.split(b"\n"))
    return len(kept) > len(total) / 2


def _renamed(path: str, target: str, before: FileState | None, after: FileState | None) -> str:
    assert before is not None and after is not None
    head = f"diff --git {_name('a/', path)} {_name('b/', target)}\n"
    if before.mode != after.mode:
        head += f"old mode {_mode(before)}\nnew mode {_mode(after)}\n"
    head += f"rename from {_name('', path)}\nrename to {_name('', target)}\n"
    if before.data == after.data:
        return head
    return head + _body(path, target, before, after)


def _file(change: FileChange) -> str:
    path, before, after = change.path, change.before, change.after
    head = f"diff --git {_name('a/', path)} {_name('b/', path)}\n"
    if before is None and after is not None:
        head += f"new file mode {_mode(after)}\n"
    elif after is None and before is not None:
        head += f"deleted file mode {_mode(before)}\n"
    elif before and after and before.mode != after.mode:
        head += f"old mode {_mode(before)}\nnew mode {_mode(after)}\n"
    if (before.data if before else b"") == (after.data if after else b""):
        return head if before is None or after is None or before.mode != after.mode else ""
    return head + _body(path, path, before, after)


def _body(path: str, target: str, before: FileState | None, after: FileState | None) -> str:
    old = _name("a/", path) if before else "/dev/null"
    new = _name("b/", target) if after else "/dev/null"
    try:
        a, b = _lines(before), _lines(after)
    except AgentError:
        return f"Binary files {old} and {new} differ\n"
    return f"--- {old}\n+++ {new}\n" + "".join(f"{line}\n" for line in _hunks(a, b))


def _lines(state: FileState | None) -> list[str]:
    """Lines with their ends, so that a last line without one differs from one with."""
    if state is None or not state.data:
        return []
    text = Text.of(state.data)
    # Where a line feed is, and nowhere else: Python's splitlines would also end lines at form feeds.
    lines = [line + "\n" for line in text.lines[:-1]] + ([text.lines[-1]] if text.lines[-1] else [])
    return ["\ufeff" + lines[0], *lines[1:]] if text.mark and lines else lines


def common_ends(a: Sequence[str], b: Sequence[str]) -> tuple[int, int]:
    """How many lines two texts begin with in common, and how many of the rest they end with."""
    top = 0
    while top < min(len(a), len(b)) and a[top] == b[top]:
        top += 1
    tail = 0
    while tail < min(len(a), len(b)) - top and a[-1 - tail] == b[-1 - tail]:
        tail += 1
    return top, tail


def _hunks(a: Sequence[str], b: Sequence[str]) -> Iterator[str]:
    """The hunks of a diff. Only what lies between the first and the last difference is compared line by line."""
    top, tail = common_ends(a, b)
    start, keep = max(0, top - _CONTEXT), max(0, tail - _CONTEXT)
    old, new = a[start : len(a) - keep], b[start : len(b) - keep]
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        first, last = group[0], group[-1]
        spans = (_span(first[1] + start, last[2] + start), _span(first[3] + start, last[4] + start))
        yield f"@@ -{spans[0]} +{spans[1]} @@"
        for tag, i, j, k, m in group:
            if tag == "equal":
                yield from _marked(" ", old[i:j])
                continue
            yield from _marked("-", old[i:j])
            yield from _marked("+", new[k:m])


def _marked(sign: str, lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield sign + line.removesuffix("\n")
        if not line.endswith("\n"):
            yield _NO_NEWLINE


def _span(start: int, stop: int) -> str:
    count = stop - start
    if count == 1:
        return str(start + 1)
    return f"{start + (count > 0)},{count}"


def _mode(state: FileState) -> str:
    return "100755" if state.mode & 0o100 else "100644"


def _name(prefix: str, path: str) -> str:
    """A path as git writes it: in quotes, bytes escaped, where it holds anything unusual."""
    if path.isascii() and path.isprintable() and not set(path) & set('"\\'):
        return prefix + path
    data = os.fsencode(prefix + path)
    shown = "".join(
        _ESCAPES.get(chr(byte), chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}") for byte in data
    )
    return f'"{shown}"'
