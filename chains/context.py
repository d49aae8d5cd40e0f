"""Pack hits into a token budget: labelled sources in the model's own tokens, and what was left out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chains.types import Context, Dropped, Source
from indexers.types import Hit

CountTokens = Callable[[str], int]

# Hits weaker than this share of the best one are noise that costs reading time.
WORTH_READING = 0.12


def source_block(path: str, start_line: int, end_line: int, text: str, scope: Sequence[str] = ()) -> str:
    """One source as the model reads it. Depends on the source alone, never on the question or its neighbours.

    The fence is longer than any run of backticks inside, so that the text cannot close it.
    """
    fence = "`" * max(3, _longest_run(text, "`") + 1)
    inside = f", inside {' > '.join(scope)}" if scope else ""
    return f"Source [{path}:{start_line}-{end_line}]{inside}:\n{fence}\n{text}\n{fence}\n"


def pack(hits: Sequence[Hit], budget: int, count: CountTokens) -> Context:
    """The best hits that fit `budget` tokens, best first; one that does not fit leaves room for others."""
    sources: list[Source] = []
    dropped: list[Dropped] = []
    spent = 0
    best = max((hit.score for hit in hits), default=0.0)
    for hit in hits:
        block = source_block(hit.path, hit.start_line, hit.end_line, hit.text, hit.scope)
        tokens = count(block)
        if hit.score < best * WORTH_READING and best > 0:
            dropped.append(Dropped(hit.label, tokens, "much weaker than the best source"))
        elif spent + tokens > budget:
            dropped.append(Dropped(hit.label, tokens))
        else:
            spent += tokens
            sources.append(Source(hit.path, hit.start_line, hit.end_line, block, tokens, hit.score))
    return Context(tuple(sources), tuple(dropped), budget)


def _longest_run(text: str, char: str) -> int:
    longest = run = 0
    for c in text:
        run = run + 1 if c == char else 0
        longest = max(longest, run)
    return longest
