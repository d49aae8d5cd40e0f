"""Places of a file that an edit may be about: definitions with what stands over them, or runs of lines. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from indexers.config import IndexConfig
from indexers.definitions import Definition, from_lines, from_tree
from indexers.syntax import Syntax, parse
from indexers.types import SourceFile

# A longer definition is offered by its parts.
MOST_LINES = 120
_LONGEST_NAME = 80
_LONGEST_LINE = 100
_BODIES = frozenset({"function", "method"})
# Attributes and comments that belong to the definition below them; Python's decorators are asked of the tree.
_ATTACHED = re.compile(r"\s*(?:@|#\[|///|//|/\*|\*|#(?!!)|--\s)")
_DECORATED = "(decorated_definition) @whole"


@dataclass(frozen=True, slots=True)
class Region:
    """Lines of a file (1-based, inclusive) under a name; `first` is the line that tells most about them.

    `kind` is that of the definition, or "lines".
    """

    path: str
    start_line: int
    end_line: int
    name: str
    kind: str
    first: str = ""

    @property
    def label(self) -> str:
        """How the region is written when it is chosen: the name, which decides, then the place."""
        return f"{self.name} in {self.path}:{self.start_line}-{self.end_line}"

    @property
    def length(self) -> int:
        """How many lines it has."""
        return self.end_line - self.start_line + 1


def regions_of(path: str, text: str, language: str) -> list[Region]:
    """All regions of a file, in order: each definition that is not too long, what lies between as runs of lines."""
    lines = text.split("\n")
    definitions, tree = _definitions(text, lines, language)
    starts = _decorated(tree)
    found = []
    for item in definitions:
        start = starts.get(item.start, item.start)
        start = _attached(lines, start)
        if item.is_hidden or item.kind in ("constant", "section"):
            continue
        name = ".".join(item.path)
        if not name.isprintable() or len(name) > _LONGEST_NAME:
            continue
        if item.end - start < MOST_LINES and not _is_local(item, definitions):
            first = lines[item.row].strip()[:_LONGEST_LINE]
            found.append(Region(path, start + 1, item.end + 1, name, item.kind, first))
    covered = {number for region in found for number in range(region.start_line, region.end_line + 1)}
    found += [
        run
        for run in _runs(path, text, language)
        if not covered.issuperset(range(run.start_line, run.end_line + 1))
    ]
    return sorted(found, key=lambda region: (region.start_line, -region.end_line))


def near(regions: Sequence[Region], spans: Iterable[tuple[int, int]]) -> list[Region]:
    """Those regions that share lines with spans, in the order of the spans; inner before outer."""
    chosen: dict[Region, None] = {}
    for start, end in spans:
        touching = [r for r in regions if r.start_line <= end and start <= r.end_line]
        for region in sorted(touching, key=lambda r: (r.length, r.start_line)):
            chosen[region] = None
    return list(chosen)


def named(regions: Sequence[Region], names: Iterable[str]) -> list[Region]:
    """The definitions with one of these names, which may be qualified; in the order of the names."""
    found: dict[Region, None] = {}
    for name in names:
        parts = [part for part in re.split(r"[.:#]+", name) if part]
        for region in regions:
            own = region.name.split(".")
            if region.kind != "lines" and parts and own[-len(parts) :] == parts:
                found[region] = None
    return list(found)


def scope_of(regions: Sequence[Region], region: Region) -> Region | None:
    """The innermost definition that a region lies in."""
    around = [
        other
        for other in regions
        if other != region
        and other.kind != "lines"
        and other.start_line <= region.start_line
        and region.end_line <= other.end_line
    ]
    return min(around, key=lambda other: other.length, default=None)


def _definitions(text: str, lines: Sequence[str], language: str) -> tuple[list[Definition], Syntax | None]:
    tree = parse(text, language)
    return (from_tree(tree), tree) if tree is not None else (from_lines(lines, language), None)


def _decorated(tree: Syntax | None) -> dict[int, int]:
    """Row of a definition in Python to the row of its first decorator."""
    if tree is None or tree.grammar != "python":
        return {}
    rows = {}
    for node in tree.captures(_DECORATED).get("whole", ()):
        inner = node.child_by_field_name("definition")
        if inner is not None:
            rows[inner.start_point.row] = node.start_point.row
    return rows


def _attached(lines: Sequence[str], start: int) -> int:
    """The first row of the attributes and comments right over a row, as deep as it."""
    indent = _indent(lines[start]) if start < len(lines) else 0
    while start > 0 and _ATTACHED.match(lines[start - 1]) and _indent(lines[start - 1]) == indent:
        start -= 1
    return start


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_local(item: Definition, definitions: Sequence[Definition]) -> bool:
    """Whether a definition lies in the body of a function: it is changed with that one."""
    return any(
        other.kind in _BODIES and other is not item and other.start <= item.start and item.end <= other.end
        for other in definitions
        if other.end - other.start < MOST_LINES
    )


def _runs(path: str, text: str, language: str) -> Iterator[Region]:
    from indexers.chunking import chunk_source

    for chunk in chunk_source(SourceFile(path, "", text, language), IndexConfig()):
        first = next((line.strip() for line in chunk.text.split("\n") if line.strip()), "")[:_LONGEST_LINE]
        yield Region(
            path,
            chunk.start_line,
            chunk.end_line,
            f"lines {chunk.start_line}-{chunk.end_line}",
            "lines",
            first,
        )
