"""What is likeliest to be asked about: what matters most, changed last, was shown; and what may follow an answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from indexers.filters import EVERYTHING, Filter, is_test
from indexers.tokens import last_component

if TYPE_CHECKING:
    from indexers.graph import Ranks
    from indexers.relations import Relations, Stretch
    from indexers.stored import StoredChunk

# Reciprocal rank fusion (Cormack, Clarke, Buettcher 2009) with their constant: the three orders have no common scale.
_SMOOTHING = 60
# Files that are looked at, of each order: the rest has no chance.
_MOST_FILES = 300
# Headings are defined too, and nobody asks how they work.
_HEADING = "section"
# Names that one place is asked about.
_MOST_NAMES = 2


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


def about(chunks: Iterable[StoredChunk], relations: Relations) -> Iterator[str]:
    """A question about what each chunk defines that is worth most, each name once."""
    ranks, told = relations.ranks(), set()
    for stored in chunks:
        names = [last_component(symbol.name) for symbol in stored.chunk.symbols if symbol.kind != _HEADING]
        name = max(names, key=lambda name: ranks.names.get((stored.chunk.path, name), 0.0), default="")
        if name and name not in told:
            told.add(name)
            yield f"How does {name} work?"


def follow_ups(relations: Relations, cited: Sequence[Stretch]) -> list[str]:
    """Questions that may follow an answer: about what was cited, what that calls, who calls it, and its tests.

    Of each place in turn, so that a short time goes to the first of all; only what there is something to say about.
    """
    return list(
        dict.fromkeys(
            text
            for row in zip_longest(*(_after(relations, place) for place in cited))
            for text in row
            if text
        )
    )


def _after(relations: Relations, place: Stretch) -> Iterator[str]:
    names = _defined(relations, place)[:_MOST_NAMES]
    called = (found.name for found in relations.called_by(place))
    yield from (f"What does {name} do?" for name in list(called)[:_MOST_NAMES])
    yield from (f"How is {name} tested?" for name in names if relations.tests_of(name))
    yield from (f"Who calls {name}?" for name in names if relations.callers_of(name, 1))
    yield from (f"How does {name} work?" for name in names)


def _defined(relations: Relations, place: Stretch) -> list[str]:
    """The names of what is defined in some lines, in order."""
    chunks = relations.ledger.chunks_of(place.path)
    symbols = (
        symbol for stored in chunks if _overlap(stored.chunk, place) for symbol in stored.chunk.symbols
    )
    inside = (s.name for s in symbols if place.start_line <= s.line <= place.end_line and s.kind != _HEADING)
    return list(dict.fromkeys(map(last_component, inside)))


def _overlap(one: Stretch, other: Stretch) -> bool:
    return one.path == other.path and one.start_line <= other.end_line and other.start_line <= one.end_line


def _worth(stored: StoredChunk, ranks: Ranks) -> float:
    """What the names that a chunk defines are worth to those who use them."""
    names = {last_component(symbol.name) for symbol in stored.chunk.symbols}
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
