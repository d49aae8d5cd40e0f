"""What was read last stands first again where that saves reading: the order of sources is sticky. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chains.types import Context, Source

# A source that the question does not need takes room and attention: one such token must save two others.
_PRICE = 0.5
# Fewer tokens saved are not worth another order than by rank.
_LEAST = 100


def continued(context: Context, trail: Sequence[Source], spare: int) -> Context:
    """The context in an order that begins as the last prompt did, as far as that saves more than it costs.

    A prompt shows sources in reverse, the best last; those kept from the trail become the last of `context.sources`.

    :param trail: what the last prompt showed, in that order; only what still is in the files.
    :param spare: tokens that sources may take that the question does not need.
    """
    start = beginning(trail, context.sources, spare)
    kept = {source.text for source in start}
    rest = [source for source in context.sources if source.text not in kept]
    ranked = {source.text: source for source in context.sources}
    return replace(context, sources=(*rest, *(ranked.get(s.text, s) for s in reversed(start))))


def beginning(trail: Sequence[Source], wanted: Sequence[Source], spare: int) -> tuple[Source, ...]:
    """How much of the trail is worth repeating: up to a source that is wanted, and few that are not before it."""
    texts = {source.text for source in wanted}
    best, length, gain, extra = float(_LEAST), 0, 0.0, 0
    for number, source in enumerate(trail, 1):
        needed = source.text in texts
        gain += source.tokens if needed else -_PRICE * source.tokens
        extra += 0 if needed else source.tokens
        if extra > spare:
            break
        if needed and gain > best:
            best, length = gain, number
    return tuple(trail[:length])
