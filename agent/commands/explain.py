"""How a search came by its order: how the query was read, and what each signal gave to a hit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.output import Output
from agent.wording import count_text

if TYPE_CHECKING:
    from chains.search.query import Query
    from indexers.filters import Filter
    from indexers.types import Hit

BAR_COLUMNS = 24
MOST_WORDS = 20
_SIMILARITY = "similarity"


def as_json(query: Query, only: Filter) -> dict[str, object]:
    """How the query was read, as an object; what each signal gave stands with its hit."""
    filtered = {"paths": only.paths, "languages": only.languages, "tests": only.tests}
    return {"kind": query.kind, "tokens": query.tokens, "names": query.names, "filter": filtered}


def show_query(output: Output, query: Query, only: Filter) -> None:
    """How the query was read, above the hits."""
    lines = {
        "query": query.kind,
        "tokens": _words(query.tokens),
        "names": _words(query.names),
        "only": str(only),
    }
    for name, text in lines.items():
        if text:
            output.line((f"{name:<8}", "bold"), text)
    output.line()


def show_signals(output: Output, hit: Hit, hits: Sequence[Hit]) -> None:
    """What each signal gave to a hit, with columns and bars that are the same for all `hits`."""
    given = [(name, value) for other in hits for name, value in other.signals.items()]
    width = max(map(len, [_SIMILARITY, *(name for name, _ in given)]))
    largest = max((abs(value) for _, value in given), default=0.0)
    for name, value in hit.signals.items():
        size = round(BAR_COLUMNS * abs(value) / largest) if largest else 0
        sign, colour = ("-", "red") if value < 0 else ("+", "green")
        output.line((f"  {name:<{width}}", "dim"), f" {value:+8.3f}  ", (sign * max(size, 1), colour))
    output.line((f"  {'score':<{width}}", "dim"), (f" {hit.score:8.3f}", "bold"))
    if hit.similarity is not None:
        output.line((f"  {_SIMILARITY:<{width}}  {hit.similarity:7.3f}  cosine to the query", "dim"))


def _words(words: Sequence[str]) -> str:
    more = len(words) - MOST_WORDS
    return " ".join(words[:MOST_WORDS]) + (f" and {count_text(more, 'other')}" if more > 0 else "")
