"""Which chunks are likeliest to be asked about: those that matter most, that changed last, that were shown before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from indexers.filters import EVERYTHING, Filter, is_test

if TYPE_CHECKING:
    from indexers.graph import Ranks
    from indexers.ledger import StoredChunk
    from indexers.relations import Relations, Stretch
    from indexers.types import Place, Use

# Reciprocal rank fusion (Cormack, Clarke, Buettcher 2009) with their constant: the three orders have no common scale.
_SMOOTHING = 60
# Files that are looked at, of each order: the rest has no chance.
_MOST_FILES = 300
_MOST_OF_A_NAME = 3


def likely(
    relations: Relations, changed: Mapping[str, int], shown: Sequence[str] = (), only: Filter = EVERYTHING
) -> list[StoredChunk]:
    """Chunks in the order in which they are worth reading ahead: by importance, by last change, by what was shown.

    Only chunks that define what somebody uses count, or that were shown. The same for the same tree and record.

    :param changed: paths, with how many commits ago they changed; see `indexers.history.changed`.
    :param shown: labels of sources that earlier prompts showed, the last first.
    """
    ranks = relations.ranks()
    by_rank = sorted(ranks.files, key=lambda path: (-ranks.files[path], path))
    by_change = sorted(changed, key=lambda path: (changed[path], path))
    paths = dict.fromkeys((*by_rank[:_MOST_FILES], *by_change[:_MOST_FILES], *map(_path, shown)))
    chunks = [stored for path in paths for stored in relations.ledger.chunks_of(path)]
    chunks = [stored for stored in chunks if only.admits(stored.chunk.path, stored.chunk.language)]
    worth = {stored.id: _worth(stored, ranks) for stored in chunks}
    used = sorted(
        (stored for stored in chunks if worth[stored.id] and not is_test(stored.chunk.path)),
        key=lambda stored: (-worth[stored.id], stored.chunk.path, stored.chunk.start_line),
    )
    recent = [stored for stored in used if stored.chunk.path in changed]
    recent.sort(key=lambda stored: changed[stored.chunk.path])
    by_label = {stored.chunk.label: stored for stored in chunks}
    known = [by_label[label] for label in dict.fromkeys(shown) if label in by_label]
    return _fused((used, recent, known))


def follow_ups(relations: Relations, cited: Sequence[Stretch], shown: Sequence[Stretch]) -> list[StoredChunk]:
    """Chunks that a follow-up is likely to be about: of what was cited, what it calls, who calls it, and its tests.

    One of each kind in turn, without what was shown already.
    """
    found: dict[int, StoredChunk] = {}
    for place in cited:
        kinds = (relations.called_by(place), _callers(relations, place), _tests(relations, place))
        for item in (item for row in zip_longest(*kinds) for item in row if item is not None):
            stored = _chunk_at(relations, item.path, item.line)
            if stored is not None and not any(_overlap(stored.chunk, other) for other in (*shown, *cited)):
                found.setdefault(stored.id, stored)
    return list(found.values())


def _callers(relations: Relations, place: Stretch) -> list[Use]:
    uses = (use for name in _defined(relations, place) for use in relations.callers_of(name, _MOST_OF_A_NAME))
    return [use for use in uses if not is_test(use.path)]


def _tests(relations: Relations, place: Stretch) -> list[Use | Place]:
    return [use for name in _defined(relations, place) for use in relations.tests_of(name)[:_MOST_OF_A_NAME]]


def _defined(relations: Relations, place: Stretch) -> list[str]:
    """The names of what is defined in some lines, in order."""
    chunks = relations.ledger.chunks_of(place.path)
    symbols = (
        symbol for stored in chunks if _overlap(stored.chunk, place) for symbol in stored.chunk.symbols
    )
    inside = (s.name for s in symbols if place.start_line <= s.line <= place.end_line)
    return list(dict.fromkeys(inside))


def _chunk_at(relations: Relations, path: str, line: int) -> StoredChunk | None:
    chunks = relations.ledger.chunks_of(path)
    return next((s for s in chunks if s.chunk.start_line <= line <= s.chunk.end_line), None)


def _overlap(one: Stretch, other: Stretch) -> bool:
    return one.path == other.path and one.start_line <= other.end_line and other.start_line <= one.end_line


def _worth(stored: StoredChunk, ranks: Ranks) -> float:
    """What the names that a chunk defines are worth to those who use them."""
    names = {symbol.name.rpartition(".")[2] for symbol in stored.chunk.symbols}
    return sum(ranks.names.get((stored.chunk.path, name), 0.0) for name in names)


def _fused(orders: Iterable[Sequence[StoredChunk]]) -> list[StoredChunk]:
    scores: dict[int, float] = {}
    chunks: dict[int, StoredChunk] = {}
    for order in orders:
        for number, stored in enumerate(order, 1):
            chunks[stored.id] = stored
            scores[stored.id] = scores.get(stored.id, 0.0) + 1 / (_SMOOTHING + number)
    place = {key: (stored.chunk.path, stored.chunk.start_line) for key, stored in chunks.items()}
    return [chunks[key] for key in sorted(chunks, key=lambda key: (-scores[key], place[key]))]


def _path(label: str) -> str:
    return label.rpartition(":")[0]
