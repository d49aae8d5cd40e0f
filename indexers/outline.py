"""Reads one text into its outline: lines, borders at which it may be cut, and definitions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from indexers import borders as cuts
from indexers import definitions as finder
from indexers import sections, syntax
from indexers.borders import Border, Lines
from indexers.definitions import Definition
from indexers.languages import MARKDOWN, NOTEBOOK, RST
from indexers.types import Symbol

DEFAULT_LIMIT = 1_500
_SCRIPT = re.compile(r"<script\b[^>]*>(.*?)</script>", re.DOTALL | re.IGNORECASE)
COMPONENTS = frozenset({"vue", "svelte", "html"})
# Each is parsed at its place in an empty text, so that very many cost the square of the file.
_MOST_SCRIPTS = 50


@dataclass(slots=True)
class Outline:
    """The structure of a text.

    `numbers` is each row's line in the file, and `languages` each row's language, where the text is not the
    file itself (notebooks).
    """

    lines: Lines
    borders: dict[int, Border] = field(default_factory=dict)
    definitions: list[Definition] = field(default_factory=list)
    numbers: list[int] | None = None
    languages: list[str] | None = None

    def number(self, row: int) -> int:
        """The line of the file, 1-based, in which a row stands."""
        return row + 1 if self.numbers is None else self.numbers[row]

    def symbols(self) -> list[Symbol]:
        """The definitions as others see them, in order of lines."""
        found = [s for s in (self.symbol(definition) for definition in self.definitions) if s is not None]
        return sorted(found, key=lambda symbol: symbol.line)

    def symbol(self, definition: Definition) -> Symbol | None:
        """A definition with its line in the file; None for what only encloses."""
        if definition.is_hidden:
            return None
        return Symbol(definition.name, definition.kind, self.number(definition.row))


def outline_of(text: str, language: str, limit: int = DEFAULT_LIMIT) -> Outline:
    """The outline of a text; structure smaller than `limit` characters is not looked into for borders."""
    if language == NOTEBOOK:
        from indexers.notebooks import outline_of_notebook

        return outline_of_notebook(text, limit)
    lines = Lines(text.split("\n"))
    if language in (MARKDOWN, RST):
        read = sections.markdown if language == MARKDOWN else sections.restructured
        return Outline(lines, *read(lines))
    if language in COMPONENTS:
        return _of_component(text, lines, limit)
    return _of_code(text, lines, language, limit)


def _of_code(text: str, lines: Lines, language: str, limit: int) -> Outline:
    tree = syntax.parse(text, language)
    if tree is None:
        outline = Outline(lines, cuts.of_lines(lines, 0, len(lines.text) - 1))
    else:
        outline = Outline(lines, cuts.of_tree(tree, lines, limit), finder.from_tree(tree))
    if not outline.definitions:
        outline.definitions = finder.from_lines(lines.text, language)
    cuts.prefer_definitions(outline.borders, outline.definitions)
    return outline


def scripts(text: str) -> Iterator[tuple[int, str]]:
    """The scripts of a component, each behind as many empty lines as stand above it; and its first row."""
    for script in islice(_SCRIPT.finditer(text), _MOST_SCRIPTS):
        first = text.count("\n", 0, script.start(1))
        if script[1].strip() and script[1].count("\n") >= 2:
            yield first, "\n" * first + script[1]


def _of_component(text: str, lines: Lines, limit: int) -> Outline:
    """HTML, Vue, Svelte: markup by lines, scripts by syntax, each at its own place in an empty text."""
    outline = Outline(lines, cuts.of_lines(lines, 0, len(lines.text) - 1))
    for first, script in scripts(text):
        tree = syntax.parse(script, "typescript")
        if tree is None:
            continue
        last = script.count("\n")
        for row in range(first + 1, last):
            outline.borders.pop(row, None)
        for row, border in cuts.of_tree(tree, lines, limit).items():
            if first < row < last:
                outline.borders[row] = border
        outline.definitions.extend(finder.from_tree(tree))
    cuts.prefer_definitions(outline.borders, outline.definitions)
    return outline
