"""What a chunk says in brief: the heads of its definitions, each with the first line of what is said about it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from indexers.types import Symbol

ELISION = "..."
# Lines that the head of one definition may take, lines and definitions of a chunk.
_HEAD_LINES, _MOST_LINES, _MOST_DEFINITIONS = 6, 10, 4
_COMMENT = re.compile(r"\s*(?://|#|/?\*|--|;;|%|@|\"\"\"|''')")
# What begins or ends a comment and says nothing.
_BARE = re.compile(r"\s*(?:/\*+|\*+/?|\"\"\"|'''|//+|#+|--+)\s*")
_DOCSTRING = re.compile(r"\s*[rRuU]?(?:\"\"\"|''')")
_STRING = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")
# A line that goes on with the head of a definition whose brackets are closed.
_GOES_ON = re.compile(r"\s*(?:where\b|throws\b|extends\b|implements\b|with\b|->|[:{)>]|[A-Z]\w*\s*:)")
_ENDS = ("{", ":", ";", "=>", " do", "}")


def brief(text: str, start_line: int, symbols: Sequence[Symbol]) -> str:
    """The heads of the definitions that begin in some lines, "..." for what is left out; empty where there are none.

    It is the same whatever is asked, so that it can be read once and kept.

    :param start_line: the number of the first line of the text.
    """
    lines = text.split("\n")
    kept: set[int] = set()
    for symbol in symbols[:_MOST_DEFINITIONS]:
        row = symbol.line - start_line
        if symbol.kind == "section" or not 0 <= row < len(lines):
            continue
        rows = {*_enclosing(lines, row), *_about(lines, row), *_head(lines, row)}
        if len(kept | rows) > _MOST_LINES:
            break
        kept |= rows
    return _elided(lines, sorted(kept))


def _head(lines: Sequence[str], row: int) -> range:
    """The rows from the one that names a definition to where its brackets close and its body begins."""
    depth = 0
    for last in range(row, min(len(lines), row + _HEAD_LINES)):
        code = _STRING.sub("", lines[last]).rstrip()
        depth += sum(map(code.count, "([")) - sum(map(code.count, ")]"))
        following = lines[last + 1] if last + 1 < len(lines) else ""
        if depth <= 0 and (code.endswith(_ENDS) or not _GOES_ON.match(following)):
            return range(row, last + 1)
    return range(row, min(len(lines), row + (_HEAD_LINES if depth > 0 else 1)))


def _enclosing(lines: Sequence[str], row: int) -> range:
    """The rows of the head around a definition, where it stands in these lines: a class, or what has no name (impl)."""
    indent = _indent(lines[row])
    last = next((n for n in range(row - 1, -1, -1) if lines[n].strip() and _indent(lines[n]) < indent), None)
    if last is None or _COMMENT.match(lines[last]):
        return range(0)
    first, outer = last, _indent(lines[last])
    # From a brace of its own line up to where the head begins.
    while (
        first
        and last - first < _HEAD_LINES
        and (_indent(lines[first]) > outer or _GOES_ON.match(lines[first]))
    ):
        first -= 1
    return range(first, last + 1)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _about(lines: Sequence[str], row: int) -> list[int]:
    """The row that begins the comment above a definition, or the docstring below its head."""
    first = row
    while first and _COMMENT.match(lines[first - 1]):
        first -= 1
    above = [n for n in range(first, row) if not _BARE.fullmatch(lines[n])]
    below = _head(lines, row)[-1] + 1
    inside = [below] if below < len(lines) and _DOCSTRING.match(lines[below]) else []
    # An opening alone on its line says nothing: the next one does.
    if inside and _BARE.fullmatch(lines[below]) and below + 1 < len(lines):
        inside.append(below + 1)
    return [*above[:1], *inside]


def _elided(lines: Sequence[str], rows: Sequence[int]) -> str:
    """The rows as text, with a mark wherever others are left out."""
    if not rows:
        return ""
    shown: list[str] = []
    last = -1
    for row in rows:
        if row > last + 1:
            shown.append(ELISION)
        shown.append(lines[row])
        last = row
    if last < len(lines) - 1:
        shown.append(ELISION)
    return "\n".join(shown)
