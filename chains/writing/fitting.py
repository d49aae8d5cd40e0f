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
    code = written.strip("\n").rstrip()
    code = without_margin(code, margin_of(code))
    if language == "python":
        code, imports = _imports_apart(code, original)
    else:
        imports = ()
    if region is not None and region.kind != "lines":
        code = _only(code, region, language)
    code = without_margin(code, margin_of(code))
    code = _indented_like(code, original)
    return Fitted(with_margin(code, margin_of(original)), imports)


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
