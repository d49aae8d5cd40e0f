"""One hop from what was found: the definitions that the best hits call, and their tests where tests are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chains.search.query import Query, understand
from indexers.filters import EVERYTHING, Filter
from indexers.tokens import tokenize
from indexers.types import Hit

if TYPE_CHECKING:
    from indexers.relations import Relations
    from indexers.stored import StoredChunk
    from indexers.types import Place

# How many of the best hits are followed, how many definitions are added at most, and behind how many hits.
# Measured on 48 questions about requests, as the share of the gold answers' names that stand in 1,800 tokens of
# sources: 0.685 without, 0.707 so; 0.690 behind the third hit, and no more with called definitions that share no word.
FOLLOWED, MOST_ADDED, BEHIND = 3, 3, 5
# What a called definition is worth of the hit that calls it.
_SHARE = 0.5
# A longer definition is cut to the lines of its first chunk.
_MOST_LINES = 60


@dataclass(frozen=True, slots=True)
class _Called:
    """A definition that a hit calls: how many words it shares with the question, and which hit it was."""

    place: Place
    shared: int
    caller: int


def expanded(
    question: str, hits: Sequence[Hit], relations: Relations, *, only: Filter = EVERYTHING
) -> list[Hit]:
    """The hits with what `one_hop` adds behind the best ones.

    Hits keep their order, so that what is added costs the last of them their place in a budget.
    """
    return [*hits[:BEHIND], *one_hop(question, hits, relations, only=only), *hits[BEHIND:]]


def one_hop(
    question: str,
    hits: Sequence[Hit],
    relations: Relations,
    *,
    only: Filter = EVERYTHING,
    most: int = MOST_ADDED,
) -> list[Hit]:
    """At most `most` definitions that the best hits call and no hit holds, as hits of their own, best first.

    Called definitions count that share a word with the question, by name or by what encloses them. A question about
    tests gets the tests of what the best hit defines.
    Only names tell what is called, so that a call which could mean several definitions is not followed.

    :param only: what the search was limited to.
    """
    query = understand(question)
    places = [*_tests(query, hits, relations), *(called.place for called in _called(query, hits, relations))]
    shown = list(hits)
    added: list[Hit] = []
    for place, score in zip(places, _scores(hits, len(places)), strict=True):
        if len(added) >= most:
            break
        if any(_holds(hit, place) for hit in shown):
            continue
        hit = _hit(place, relations, score, only)
        if hit is not None:
            added.append(hit)
            shown.append(hit)
    return added


def _called(query: Query, hits: Sequence[Hit], relations: Relations) -> list[_Called]:
    """What the best hits call, most words shared with the question first, then in the order of hits and calls."""
    words = set(query.tokens)
    found: dict[tuple[str, int], _Called] = {}
    for number, hit in enumerate(hits[:FOLLOWED]):
        for place in relations.called_by(hit):
            shared = len(words & set(_words(place)))
            known = (place.path, place.line) in found or any(_holds(other, place) for other in hits)
            if shared and not known:
                found[place.path, place.line] = _Called(place, shared, number)
    return sorted(found.values(), key=lambda called: (-called.shared, called.caller))


def _words(place: Place) -> Iterator[str]:
    """The words that a definition is called by: of its name and of what encloses it."""
    yield from tokenize(" ".join((*place.scope[-1:], place.name)))


def _tests(query: Query, hits: Sequence[Hit], relations: Relations) -> list[Place]:
    """The tests of what the best hit defines, where the question is about tests and the hit is none."""
    if not query.wants_tests or not hits:
        return []
    uses = (use for name in hits[0].symbols[:1] for use in relations.tests_of(name) if use.enclosing)
    places: list[Place] = []
    for use in uses:
        named = relations.definitions_of(".".join(use.enclosing[-2:]))
        places += [place for place in named if place.path == use.path and place.line == use.enclosing_line]
        if len(places) >= MOST_ADDED:
            break
    return places


def _scores(hits: Sequence[Hit], count: int) -> Iterable[float]:
    """Falling, and below every hit that is followed: the packer drops what is much weaker than the best."""
    best = min((hit.score for hit in hits[:FOLLOWED]), default=0.0) * _SHARE
    return [best * (1 - 0.01 * min(number, 50)) for number in range(count)]


def _holds(hit: Hit, place: Place) -> bool:
    return hit.path == place.path and hit.start_line <= place.line <= hit.end_line


def _hit(place: Place, relations: Relations, score: float, only: Filter) -> Hit | None:
    """A definition as a hit: its own lines as far as the chunk goes that it begins in."""
    stored = _chunk_at(relations.ledger.chunks_of(place.path), place.line)
    if stored is None or not only.admits(place.path, stored.chunk.language):
        return None
    chunk = stored.chunk
    start = max(chunk.start_line, min(place.start_line, place.line))
    end = min(chunk.end_line, place.end_line, start + _MOST_LINES - 1)
    lines = chunk.text.split("\n")
    if len(lines) != chunk.end_line - chunk.start_line + 1:  # cells of a notebook: rows are not lines
        start, end = chunk.start_line, chunk.end_line
    else:
        lines = lines[start - chunk.start_line : end - chunk.start_line + 1]
    return Hit(
        path=place.path,
        start_line=start,
        end_line=end,
        text="\n".join(lines),
        score=score,
        language=chunk.language,
        scope=place.scope,
        symbols=(place.name,),
        chunk_id=stored.id,
        signals={"called": score},
    )


def _chunk_at(chunks: Sequence[StoredChunk], line: int) -> StoredChunk | None:
    return next(
        (stored for stored in chunks if stored.chunk.start_line <= line <= stored.chunk.end_line), None
    )
