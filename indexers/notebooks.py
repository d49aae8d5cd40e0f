"""Reads a notebook's raw JSON as one text of its cells, every line knowing where in the file it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from indexers import borders as cuts
from indexers.borders import Border, Lines
from indexers.definitions import Definition
from indexers.languages import MARKDOWN, NOTEBOOK, TEXT
from indexers.outline import Outline, outline_of

_TOKEN = re.compile(r'\s*(?:("[^"\\]*(?:\\.[^"\\]*)*")|([\[\]{},:])|([^\s"\[\]{},:]+))', re.DOTALL)
_BLOB = re.compile(r"[A-Za-z0-9+/=\\n\", :{}\[\]_.-]*$")
_LONG_BLOB = 400
# Text above code explains it: cutting before a code cell is dearer than before a markdown cell.
_CODE_CELL = Border(0.15, 0)
_TEXT_CELL = Border(-0.05, 0)
_INSIDE_CELL = 10
_KERNELS = {
    "ipython": "python",
    "python3": "python",
    "c++": "cpp",
    "c#": "csharp",
    "f#": "fsharp",
    "node": "javascript",
}
_MAGICS = {"sh": "bash", "script": "bash", "js": "javascript", "html": TEXT, "latex": TEXT, "writefile": TEXT}
_MAGICS |= {name: name for name in ("bash", "sql", "javascript", "ruby", "perl", "r", MARKDOWN)}


class _Piece(NamedTuple):
    """One JSON string of a cell's source, and the line of the file it stands on."""

    text: str
    line: int


@dataclass(slots=True)
class _Cell:
    kind: str = "code"
    pieces: list[_Piece] = field(default_factory=list)


@dataclass(slots=True)
class _Notebook:
    cells: list[_Cell] = field(default_factory=list)
    language: str = "python"


def outline_of_notebook(text: str, limit: int) -> Outline:
    """Cells by their source, outputs left out. A file that is no notebook is outlined by its lines."""
    try:
        notebook = _read(text)
    except ValueError:
        return _of_broken(text)
    outline = Outline(Lines([]), numbers=[], languages=[])
    rows: list[str] = []
    for number, cell in enumerate(notebook.cells, start=1):
        _append_cell(outline, rows, cell, number, notebook.language, limit)
    outline.lines = Lines(rows)
    return outline


def _append_cell(
    outline: Outline, rows: list[str], cell: _Cell, number: int, language: str, limit: int
) -> None:
    assert outline.numbers is not None and outline.languages is not None
    lines = list(_lines_of(cell.pieces))
    if not any(line.text.strip() for line in lines):
        return
    if rows:  # a blank line between cells, so that their texts stay apart when they share a chunk
        rows.append("")
        outline.numbers.append(outline.numbers[-1])
        outline.languages.append(outline.languages[-1])
    base = len(rows)
    language = _language_of(cell, lines[0].text, language)
    part = outline_of("\n".join(line.text for line in lines), language, limit)
    name = f"cell {number}"
    for row, border in part.borders.items():
        outline.borders[base + row] = Border(border.cost, border.level + _INSIDE_CELL)
    first = next(row for row, line in enumerate(lines) if line.text.strip())
    outline.borders[base + first] = _TEXT_CELL if language == MARKDOWN else _CODE_CELL
    rows.extend(line.text for line in lines)
    outline.numbers.extend(line.line for line in lines)
    outline.languages.extend([language] * len(lines))
    # It starts a row early, so that it encloses its own first line.
    outline.definitions.append(Definition(name, "scope", base, base - 1, len(rows) - 1, (name,)))
    for d in part.definitions:
        moved = replace(d, row=d.row + base, start=d.start + base, end=d.end + base, path=(name, *d.path))
        outline.definitions.append(moved)


def _lines_of(pieces: list[_Piece]) -> Iterator[_Piece]:
    """The lines of a cell, each with the line of the file its first character stands on."""
    text, line = "", 0
    for piece in pieces:
        for position, part in enumerate(piece.text.split("\n")):
            if position:
                yield _Piece(text, line or piece.line)
                text, line = "", 0
            if part:
                text, line = text + part, line or piece.line
    if text:
        yield _Piece(text, line)


def _language_of(cell: _Cell, first_line: str, language: str) -> str:
    if cell.kind != "code":
        return TEXT if cell.kind == "raw" else MARKDOWN
    if first_line.startswith("%%"):
        return _MAGICS.get(first_line[2:].split(" ")[0].strip(), language)
    return language


def _read(text: str) -> _Notebook:
    """Cells and kernel language out of the JSON; ValueError when it is not a notebook."""
    notebook = _Notebook()
    for path, token, line in _strings(text):
        if path[0] == "metadata" and path[1:] in (("kernelspec", "language"), ("language_info", "name")):
            name = _decoded(token).lower()
            notebook.language = _KERNELS.get(name, name)
            continue
        if path[0] == "worksheets":  # notebooks of format 3
            path = path[2:]
        if len(path) < 3 or path[0] != "cells" or not isinstance(path[1], int):
            continue
        while len(notebook.cells) <= path[1]:
            notebook.cells.append(_Cell())
        cell = notebook.cells[path[1]]
        if path[2] == "cell_type":
            cell.kind = _decoded(token)
        elif path[2] in ("source", "input") and len(path) <= 4:
            cell.pieces.append(_Piece(_decoded(token), line))
    return notebook


def _strings(text: str) -> Iterator[tuple[tuple[str | int, ...], str, int]]:
    """Every string value of a JSON object, with its path and its line; no recursion, whatever the depth."""
    path: list[str | int | None] = []  # a key, None before the first key, or a position in a list
    position, line, seen = 0, 1, 0
    text = text.rstrip()
    is_value = True
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise ValueError("not JSON")
        position = token.end()
        string, mark, _ = token.groups()
        if string is not None and not is_value:
            path[-1] = _decoded(string)
        elif string is not None:
            line += text.count("\n", seen, token.start(1))
            seen = token.start(1)
            if 1 < len(path) <= 8:
                yield tuple(step for step in path if step is not None), string, line
        elif mark is not None:
            is_value = _step(path, mark)
            if not path and position < len(text):
                raise ValueError("text after the end")
    if path or not text.startswith("{"):
        raise ValueError("not an object, or cut off")


def _step(path: list[str | int | None], mark: str) -> bool:
    """Move the path over a bracket, comma or colon; whether a value, rather than a key, comes next."""
    if mark in "{[":
        path.append(None if mark == "{" else 0)
        return mark == "["
    if not path:
        raise ValueError("unbalanced")
    here = path[-1]
    if mark in "}]":
        if isinstance(here, int) != (mark == "]"):
            raise ValueError("unbalanced")
        path.pop()
        return True
    if mark == "," and isinstance(here, int):
        path[-1] = here + 1
        return True
    return mark == ":"


def _decoded(token: str) -> str:
    """A JSON string as text; half of a surrogate pair becomes a replacement character."""
    value = json.loads(token, strict=False)
    return str(value).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _of_broken(text: str) -> Outline:
    """By lines, without what is evidently an encoded picture."""
    rows = ["" if len(line) > _LONG_BLOB and _BLOB.match(line) else line for line in text.split("\n")]
    lines = Lines(rows)
    numbers = list(range(1, len(rows) + 1))
    return Outline(
        lines, cuts.of_lines(lines, 0, len(rows) - 1), numbers=numbers, languages=[NOTEBOOK] * len(rows)
    )
