"""A model's code put back where it belongs: margin, indentation and the imports that it wrote on top. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chains.writing.regions import Region
from chains.writing.replies import margin_of, with_margin, without_margin
from indexers.definitions import from_tree
from indexers.syntax import parse

_IMPORT = re.compile(r"(?:import|from)\s")
_TAB_WIDTH = 4
# Stands before a line while its margin must not be touched. No text has it: Unicode keeps it free for such uses.
_HELD = "\ufdd0"
_STRINGS = re.compile(r"string|heredoc|template|text_block")
# Where a string stands that nobody takes the value of: a docstring.
_STATEMENTS = ("expression_statement", "block", "module")


@dataclass(frozen=True, slots=True)
class Fitted:
    """Code for a place, and import lines that belong to the top of its file."""

    code: str
    imports: tuple[str, ...] = ()


def fitted(written: str, original: str, region: Region | None, language: str) -> Fitted:
    """What a model wrote for a place, with the place's own margin and way of indenting.

    :param original: the lines of the place as they are, or of the one that an addition follows.
    :param region: the definition that was to be rewritten; None where new code was asked for.
    """
    margin = _margin_of(original, language)
    code = _holding(written.strip("\n").rstrip(), original, margin, language)
    code = _at_the_left(code)
    if language == "python":
        code, imports = _imports_apart(code, original)
    else:
        imports = ()
    if region is not None and region.kind != "lines":
        code = _only(code, region, language)
    code = _indented_like(_at_the_left(code), original)
    lines = with_margin(code, margin).split("\n")
    return Fitted("\n".join(line.removeprefix(f"{margin}{_HELD}") for line in lines), imports)


def _at_the_left(code: str) -> str:
    """The code without the margin of the lines that are not held."""
    return without_margin(
        code, margin_of("\n".join(ln for ln in code.split("\n") if not ln.startswith(_HELD)))
    )


def _margin_of(text: str, language: str) -> str:
    """The margin of a text but for lines that begin inside a string."""
    inside = _inside_strings(text, language)
    return margin_of("\n".join(line for row, line in enumerate(text.split("\n")) if row not in inside))


def _holding(code: str, original: str, margin: str, language: str) -> str:
    """The code with a mark before each line that begins inside a string, where another margin would be another value.

    Not where the model shifted the string with its code: the original has that line at its place then.
    """
    inside, own = _inside_strings(code, language), _margin_of(code, language)
    known = frozenset(original.split("\n"))

    def stays(line: str) -> bool:
        if own == margin:
            return not line.startswith(own)
        return line in known or margin + line.removeprefix(own) not in known

    lines = code.split("\n")
    return "\n".join(
        _HELD + line if row in inside and line.strip() and stays(line) else line
        for row, line in enumerate(lines)
    )


def _inside_strings(text: str, language: str) -> frozenset[int]:
    """The rows (from 0) that begin inside a string, other than one that documents what it stands in."""
    tree = parse(text, language)
    if tree is None:
        return frozenset()
    rows: set[int] = set()
    pending = [tree.root]
    while pending:
        node = pending.pop()
        first, last = node.start_point.row, node.end_point.row
        if first == last:
            continue
        if not _STRINGS.search(node.type):
            pending.extend(node.children)
        elif node.parent is None or node.parent.type not in _STATEMENTS:
            rows.update(range(first + 1, last + 1))
    return frozenset(rows)


def _imports_apart(code: str, original: str) -> tuple[str, tuple[str, ...]]:
    """Imports that stand over the code and not in the original: they go to the top of the file."""
    lines = code.split("\n")
    if any(_IMPORT.match(line) for line in original.lstrip("\n").split("\n")[:1]):
        return code, ()
    count = 0
    while count < len(lines) and (not lines[count].strip() or _IMPORT.match(lines[count])):
        count += 1
    if count == len(lines) or any(line.endswith(("(", "\\")) for line in lines[:count]):
        return code, ()
    return "\n".join(lines[count:]), tuple(line.strip() for line in lines[:count] if line.strip())


def _only(code: str, region: Region, language: str) -> str:
    """Of an answer that holds more than the definition that was asked for, what belongs there.

    Wrapped in its class, the definition alone is taken. What follows it and is no definition (a call that shows how it
    is used) is dropped; further definitions stay.
    """
    tree = parse(code, language)
    if tree is None:
        return code
    name = region.name.split(".")[-1]
    definitions = from_tree(tree)
    wanted = [d for d in definitions if d.name == name and d.kind in ("function", "method", "class", "type")]
    if not wanted:
        return code
    lines = code.split("\n")
    first = wanted[0]
    owner = region.name.split(".")[-2:-1]
    if owner and len(first.path) > 1 and first.path[-2:-1] == tuple(owner):
        start = first.start
        while start > 0 and lines[start - 1].strip().startswith("@"):
            start -= 1
        return "\n".join(lines[start : first.end + 1])
    top = [d for d in definitions if len(d.path) == 1]
    last = max(d.end for d in top)
    return "\n".join(lines[: last + 1]) if region.kind in ("function", "method", "class") else code


def _indented_like(code: str, original: str) -> str:
    """The code with tabs where the original has tabs, and spaces where that has spaces."""
    tabs = sum(line.startswith("\t") for line in original.split("\n"))
    spaces = sum(line.startswith("  ") for line in original.split("\n"))
    if tabs > spaces:
        return "\n".join(map(_tabbed, code.split("\n")))
    if spaces > tabs and any(line.startswith("\t") for line in code.split("\n")):
        return "\n".join(_spaced(line) for line in code.split("\n"))
    return code


def _tabbed(line: str) -> str:
    body = line.lstrip(" ")
    width = len(line) - len(body)
    return "\t" * (width // _TAB_WIDTH) + " " * (width % _TAB_WIDTH) + body if width else line


def _spaced(line: str) -> str:
    body = line.lstrip("\t")
    return " " * _TAB_WIDTH * (len(line) - len(body)) + body
