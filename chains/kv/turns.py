"""Earlier turns of a conversation, repeated as they were asked, so that a prompt begins with the one before. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from chains.types import Context, Source, Turn

# Turns whose sources are not known are short; more of them than this say little about the question.
_BARE_TURNS = 3


def repeated(history: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns that are worth repeating: all that know what they read, else the last few."""
    return tuple(history if any(turn.read for turn in history) else history[-_BARE_TURNS:])


def fitting_turns(history: Sequence[Turn], room: int, cost: Callable[[Turn], int]) -> tuple[Turn, ...]:
    """The turns that fit into `room` tokens. Where one does not, the conversation begins anew with it.

    Dropping the oldest each time would change the beginning of every prompt, and all of it would be read again.
    """
    kept: list[Turn] = []
    spent = 0
    for turn in repeated(history):
        price = cost(turn)
        if spent + price > room:
            kept, spent = [], 0
        if price <= room:
            kept.append(turn)
            spent += price
    return tuple(kept)


def new_sources(sources: Sequence[Source], before: Sequence[Turn]) -> list[Source]:
    """Those that no earlier turn showed, best last: nearest to the question, where small models attend best."""
    shown = texts_of(before)
    return [source for source in reversed(sources) if source.text not in shown]


def texts_of(turns: Sequence[Turn]) -> frozenset[str]:
    """The texts of all sources that turns read."""
    return frozenset(source.text for turn in turns for source in turn.read)


def blocks(question: str, sources: Sequence[Source], last: str) -> list[str | dict[str, Any]]:
    """One turn as the model is asked it: every source a block of its own, then the question."""
    found: list[str | dict[str, Any]] = [
        {"type": "text", "text": source.text + "\n", "source": True} for source in sources
    ]
    return [*found, {"type": "text", "text": f"Question: {question}\n\n{last}"}]


def with_tokens(context: Context, count: Callable[[str], int]) -> Context:
    """A context whose sources cost what they cost, also those that were free because they had been shown."""
    counted = (
        source if source.tokens else replace(source, tokens=count(source.text)) for source in context.sources
    )
    return replace(context, sources=tuple(counted))
