"""Who uses a name, and what there is: the seam to a symbol graph, and what exact words tell without one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol

from chains.search.passages import Passages
from indexers.filters import EVERYTHING, Filter
from indexers.tokens import tokenize, whole_word

if TYPE_CHECKING:
    from chains.context import CountTokens
    from indexers.index import Index

# Chunks looked at for each line wanted, and lines taken from one.
_CHUNKS_EACH, _LINES_EACH = 10, 2
# What the line that says how much was left out may cost.
_LAST_LINE_TOKENS = 20


class Located(Protocol):
    """A line of a file, 1-based."""

    @property
    def path(self) -> str:
        """Relative to the repository."""

    @property
    def line(self) -> int:
        """Its number."""


@dataclass(frozen=True, slots=True)
class WordFound:
    """A line in which a word stands; see `Located`."""

    path: str
    line: int


class Graph(Protocol):
    """What is known of who uses what."""

    def callers_of(self, name: str, limit: int) -> Sequence[Located]:
        """Lines that use a name, the most telling first; never the line of its own definition."""

    def overview(self, tokens: int, count: CountTokens) -> str:
        """An outline of the repository that costs at most so many tokens."""


class KeywordGraph:
    """Who uses what, as far as exact words tell."""

    def __init__(self, index: Index, only: Filter = EVERYTHING) -> None:
        self._index = index
        self._only = only

    def callers_of(self, name: str, limit: int) -> list[WordFound]:
        """Lines that hold the identifier, in the order of the best keyword matches; see `Graph`."""
        word = whole_word(name)
        found: list[WordFound] = []
        scored = self._index.by_keyword(tokenize(name), _CHUNKS_EACH * limit, self._only)
        chunks = self._index.chunks([item.chunk_id for item in scored])
        for chunk in (chunks[item.chunk_id].chunk for item in scored if item.chunk_id in chunks):
            text = chunk.text.split("\n")
            # A notebook's cells have other lines than its file.
            numbers = range(chunk.start_line, chunk.end_line + 1)
            if len(text) != len(numbers):
                numbers = range(chunk.start_line, chunk.start_line + 1)
                text = [" ".join(text)]
            defined = {symbol.line for symbol in chunk.symbols if symbol.name == name}
            lines = zip(numbers, text, strict=True)
            uses = [number for number, line in lines if number not in defined and word.search(line)]
            found += [WordFound(chunk.path, number) for number in uses[:_LINES_EACH]]
            if len(found) >= limit:
                break
        return found[:limit]

    def overview(self, tokens: int, count: CountTokens) -> str:
        """The directories and how many indexed files lie in each, as many as fit."""
        held: dict[str, int] = {}
        for path in Passages(self._index, self._only).paths():
            parent = str(PurePosixPath(path).parent)
            held[parent] = held.get(parent, 0) + 1
        lines = [
            f"{json.dumps(parent, ensure_ascii=False)}: {held[parent]} file{'' if held[parent] == 1 else 's'}"
            for parent in sorted(held)
        ]
        while len(lines) > 1 and count("\n".join(lines)) > tokens - _LAST_LINE_TOKENS:
            lines = lines[: len(lines) * 3 // 4]
        left = len(held) - len(lines)
        return "\n".join([*lines, *([f"and {left} directories more"] if left else [])])
