"""Pieces of indexed files: lines, definitions, paths, as the ledger holds them. Nothing is read from disk."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from indexers.filters import EVERYTHING, Filter
from indexers.index import Index
from indexers.stored import StoredChunk
from indexers.types import Chunk, Hit, Symbol

_NAME = re.compile(r"\w+")
# Chunks that may go on with a definition, and chunks looked at for a name that very many define.
_CONTINUED, _MOST_LOADED = 2, 24
_NOTEBOOK = ".ipynb"
_CODE = frozenset({"function", "method", "class", "type", "module"})


class Passages:
    """What an index holds, as far as a filter lets it through."""

    def __init__(self, index: Index, only: Filter = EVERYTHING) -> None:
        self._index = index
        self._only = only
        self._passing = index.selected(only).chunks if only else None

    def paths(self) -> list[str]:
        """The indexed paths of which something may be seen."""
        paths = self._index.paths()
        if self._passing is None:
            return list(paths)
        return [path for path, ids in paths.items() if any(i in self._passing for i in ids)]

    def resolved(self, wanted: str) -> tuple[str, list[str]]:
        """The indexed path that is meant, or "" and others that may be: those of the same name."""
        paths = self.paths()
        path = wanted.replace("\\", "/").removeprefix("./").strip("/")
        if path in paths:
            return path, []
        ending = [known for known in paths if known.endswith("/" + path)] if path else []
        if len(ending) == 1:
            return ending[0], []
        name = PurePosixPath(path).name
        return "", sorted(ending or [known for known in paths if PurePosixPath(known).name == name != ""])

    def lines(self, path: str, start: int, end: int) -> list[Hit]:
        """Lines of a file, in runs without gaps and in their order; empty where the index holds none of them.

        Where a chunk's lines cannot be told apart (notebooks), the whole chunk.
        """
        lines: dict[int, str] = {}
        found: list[Hit] = []
        for stored, before in self._with_gaps(path):
            chunk = stored.chunk
            text = chunk.text.split("\n")
            if chunk.end_line < start or chunk.start_line > end:
                continue
            if path.endswith(_NOTEBOOK) or len(text) != chunk.end_line - chunk.start_line + 1:
                found.append(hit_of(stored))
                continue
            lines.update((number, "") for number in before)
            lines.update(zip(range(chunk.start_line, chunk.end_line + 1), text, strict=True))
        numbers = [number for number in sorted(lines) if start <= number <= end]
        return [*found, *_runs(path, numbers, lines)]

    def last_line(self, path: str) -> int:
        """The last line of a file that the index holds; 0 for none."""
        return max((stored.chunk.end_line for stored in self._chunks_of(path)), default=0)

    def defining(self, name: str, owner: str = "", ranked: Sequence[int] = ()) -> list[StoredChunk]:
        """The chunks in which a definition of that name starts, the best first, each with what goes on with it.

        :param owner: what the definition should lie in; others come later.
        :param ranked: chunk ids in an order of preference.
        """
        order = {chunk_id: place for place, chunk_id in enumerate(ranked)}
        ids = sorted(self._index.defining(name, self._only), key=lambda i: order.get(i, len(order)))
        found = sorted(
            self._index.chunks(ids[:_MOST_LOADED]).values(),
            key=lambda stored: (
                not any(symbol.name == name for symbol in stored.chunk.symbols),
                bool(owner) and owner not in _around(stored.chunk),
                order.get(stored.id, len(order)),
                stored.id,
            ),
        )
        return [part for stored in found for part in (stored, *self._continued(stored, name))]

    def places(self, name: str) -> list[tuple[str, Symbol]]:
        """Where code of exactly this name is defined, as path and symbol."""
        ids = self._index.defining(name, self._only)[:_MOST_LOADED]
        return [
            (stored.chunk.path, symbol)
            for stored in self._index.chunks(ids).values()
            for symbol in stored.chunk.symbols
            if symbol.name == name and symbol.kind in _CODE
        ]

    def _continued(self, stored: StoredChunk, name: str) -> list[StoredChunk]:
        """The chunks that go on with a definition, where it is longer than one."""
        rest: list[StoredChunk] = []
        for other in self._chunks_of(stored.chunk.path):
            if other.chunk.start_line > stored.chunk.end_line and len(rest) < _CONTINUED:
                if name not in other.chunk.scope:
                    break
                rest.append(other)
        return rest

    def _chunks_of(self, path: str) -> list[StoredChunk]:
        return [stored for stored, _ in self._with_gaps(path)]

    def _with_gaps(self, path: str) -> Iterator[tuple[StoredChunk, range]]:
        """The chunks of a file that may be seen, each with the blank lines between it and the one before."""
        last = None
        for stored in self._index.ledger.chunks_of(path):
            if self._passing is not None and stored.id not in self._passing:
                last = None
                continue
            # Only blank lines are in no chunk.
            yield (
                stored,
                range(last + 1 if last is not None else stored.chunk.start_line, stored.chunk.start_line),
            )
            last = stored.chunk.end_line


def hit_of(stored: StoredChunk) -> Hit:
    """A chunk as a hit that nothing has ranked."""
    chunk = stored.chunk
    return Hit(chunk.path, chunk.start_line, chunk.end_line, chunk.text, 1.0, scope=chunk.scope)


def qualified(asked: str) -> tuple[str, str]:
    """The name before the last one of `Owner.name()`, or "", and the last."""
    names = _NAME.findall(asked)
    return (names[-2] if len(names) > 1 else "", names[-1] if names else "")


def merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping or touching spans made one, in order of lines."""
    done: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if done and first <= done[-1][1] + 1:
            done[-1] = (done[-1][0], max(last, done[-1][1]))
        else:
            done.append((first, last))
    return done


def _around(chunk: Chunk) -> tuple[str, ...]:
    return (*chunk.scope, *(symbol.name for symbol in chunk.symbols))


def _runs(path: str, numbers: Sequence[int], lines: dict[int, str]) -> list[Hit]:
    """Numbered lines as hits; blank lines at the ends of a run are left out."""
    runs: list[list[int]] = []
    for number in (number for number in numbers if number in lines):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        elif lines[number].strip():
            runs.append([number])
    for run in runs:
        while not lines[run[-1]].strip():
            run.pop()
    return [Hit(path, run[0], run[-1], "\n".join(lines[n] for n in run), 1.0) for run in runs]
