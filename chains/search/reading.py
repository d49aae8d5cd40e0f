"""What a model is to read for a question: the hits, the best one whole, and what they call. Retrieval for reading."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chains.search.briefs import brief
from chains.search.expansion import expanded
from chains.search.query import understand
from chains.search.retrieval import Search, plain_hit, relevant
from indexers.comments import is_comment

if TYPE_CHECKING:
    from indexers.relations import Relations
    from indexers.types import Chunk, Hit

# Hits offered to the packer; small chunks, and those told in brief, let more of them through.
HITS = 48
# How many of the best hits are completed to whole functions, and what a completing chunk is worth of its hit. On the
# questions of chains/search/expansion.py the share of names found is 0.685 with one, 0.669 with two or three.
WHOLE_FUNCTIONS = 1
NEIGHBOUR_SHARE = 0.9
MOST_EACH_WAY = 2
_WORD = re.compile(r"\w+")
_BODIES = frozenset({"function", "method"})
# Chunks of one comment that are passed over to reach what it is about.
MOST_OF_A_COMMENT = 10
# Whoever looks for a place wants different files; whoever answers a question needs more of the right one.
SAME_FILE = 0.95


@dataclass(frozen=True, slots=True)
class Reading:
    """Hits in the order in which they are worth reading, and whether they are about the question at all."""

    hits: tuple[Hit, ...]
    relevant: bool


def read_for(
    question: str, search: Search, relations: Relations | None = None, *, briefs: bool = True
) -> Reading:
    """What to read for a question.

    :param relations: who calls what; without it nothing is added to what the search found.
    :param briefs: whether each hit says what may stand for it where there is no room for all of it.
    """
    hits = reading_list(question, search, HITS)
    about = relevant(question, hits, search.index)
    if about and relations is not None:
        hits = expanded(question, hits, relations, only=search.only)
    return Reading(tuple(_told(hits, search)) if briefs else tuple(hits), about)


def _told(hits: Sequence[Hit], search: Search) -> Iterator[Hit]:
    """The hits, each with its brief form."""
    chunks = {path: search.index.ledger.chunks_of(path) for path in {hit.path for hit in hits}}
    for hit in hits:
        around = (stored.chunk for stored in chunks[hit.path])
        symbols = next((c.symbols for c in around if c.start_line <= hit.start_line <= c.end_line), ())
        rows = hit.end_line - hit.start_line + 1
        # Cells of a notebook: rows are not lines.
        countable = hit.text.count("\n") + 1 == rows
        yield replace(hit, brief=brief(hit.text, hit.start_line, symbols) if countable else "")


def reading_list(question: str, search: Search, k: int) -> list[Hit]:
    """The hits for a question that a model is to answer: the best ones whole, where a function was cut.

    A function longer than a chunk is of little use without the rest of it, which seldom ranks on its own.
    """
    hits = replace(search, weights=replace(search.weights, same_file=SAME_FILE)).hits(question, k)
    listed = {hit.chunk_id for hit in hits[:WHOLE_FUNCTIONS]}
    reading: list[Hit] = []
    asked = {name.lower() for name in understand(question).names}
    for number, hit in enumerate(hits):
        if number < WHOLE_FUNCTIONS:
            # A class is read on into only when it is what the question is about.
            named = any(symbol.lower() in asked for symbol in hit.symbols)
            # What is documented says more than what is said about it.
            reading += _documented(hit, search, listed)
            reading += [hit, *_rest_of(hit, search, listed, _BODIES | {"class"} if named else _BODIES)]
        elif hit.chunk_id not in listed:
            reading.append(hit)
    return reading


def _rest_of(hit: Hit, search: Search, listed: set[int], kinds: frozenset[str]) -> list[Hit]:
    """Chunks before and after a hit that belong to the same definition, in order of lines."""
    around = search.index.ledger.chunks_of(hit.path)
    here = next((n for n, stored in enumerate(around) if stored.id == hit.chunk_id), None)
    if here is None:
        return []
    defined = [symbol for item in around for symbol in item.chunk.symbols]
    others = {s.name for s in defined if s.kind not in kinds} - {s.name for s in defined if s.kind in kinds}

    def continues(at: int) -> bool:
        """Whether the chunk there goes on with the definition that the chunk before it begins or is inside of."""
        first, second = around[at].chunk, around[at + 1].chunk
        if not second.scope or second.scope[-1] in others:
            return False
        begun = {symbol.name for symbol in first.symbols if symbol.kind in kinds}
        return second.scope[-1] in begun or (second.scope == first.scope and _in_function(first, second))

    first = last = here
    while here - first < MOST_EACH_WAY and first and continues(first - 1):
        first -= 1
    while last - here < MOST_EACH_WAY and last + 1 < len(around) and continues(last):
        last += 1
    rest = [stored for stored in around[first : last + 1] if stored.id not in listed]
    listed.update(stored.id for stored in rest)
    return [plain_hit(stored, hit.score * NEIGHBOUR_SHARE) for stored in rest]


def _documented(hit: Hit, search: Search, listed: set[int]) -> list[Hit]:
    """The definition that a hit made of nothing but comments leads up to, which is cut off from it, and its next part.

    Scores stay below that of the hit: what is dropped as much weaker is measured against it.
    """
    if hit.symbols or not is_comment(hit.text):
        return []
    after = [s for s in search.index.ledger.chunks_of(hit.path) if s.chunk.start_line > hit.end_line]
    place = next((n for n, s in enumerate(after) if s.chunk.symbols or not is_comment(s.chunk.text)), None)
    if place is None or place >= MOST_OF_A_COMMENT or not after[place].chunk.symbols:
        return []
    found = [after[place]]
    names = {symbol.name for symbol in after[place].chunk.symbols}
    # Members and implementations stand in pieces of their own, which name in their first line what they belong to.
    following = after[place + 1].chunk if len(after) > place + 1 else None
    if following and not names.isdisjoint((*following.scope, *_WORD.findall(following.text.split("\n")[0]))):
        found.append(after[place + 1])
    fresh = [stored for stored in found if stored.id not in listed]
    listed.update(stored.id for stored in fresh)
    return [plain_hit(stored, hit.score * NEIGHBOUR_SHARE) for stored in fresh]


def _in_function(first: Chunk, second: Chunk) -> bool:
    """Two chunks of one scope that define nothing are two pieces of one body."""
    return not first.symbols and not second.symbols
