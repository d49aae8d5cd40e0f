"""What was read before stands first again where that saves reading: the order of sources is sticky. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from chains.types import Context, Source

# A source that the question does not need takes room and attention: one such token must save two others.
_PRICE = 0.5
# Fewer tokens saved are not worth another order than by rank.
_LEAST = 100


@dataclass(frozen=True, slots=True)
class Trail:
    """Sources that were read behind the head, in that order: by a prompt, or ahead of any question.

    One that was read `ahead` of any question says nothing about what this one is about: it is followed up to the best
    source, which keeps its place next to the question.
    """

    sources: tuple[Source, ...]
    ahead: bool = False


def continued(
    context: Context,
    trails: Sequence[Trail],
    spare: int,
    welcome: Mapping[str, Source] | None = None,
    room: int | None = None,
) -> Context:
    """The context in an order that begins as an earlier prompt did, as far as that saves more than it costs.

    A prompt shows sources in reverse, the best last; those kept from the trail become the last of `context.sources`.

    :param trails: what was read, the last first; only what still is in the files.
    :param spare: tokens that sources may take that the question does not need.
    :param welcome: sources by text that the budget had no room for; on the trail they come for nothing.
    :param room: tokens that both of these may take together; `spare` when left out.
    """
    more = welcome or {}
    start = max(
        (beginning(trail, context.sources, spare, more, room) for trail in trails),
        key=lambda found: saved(found, context.sources, more),
        default=(),
    )
    kept = {source.text for source in start}
    rest = [source for source in context.sources if source.text not in kept]
    ranked = {**more, **{source.text: source for source in context.sources}}
    shown = (*rest, *(ranked.get(s.text, s) for s in reversed(start)))
    labels = {source.label for source in shown}
    dropped = tuple(item for item in context.dropped if item.label not in labels)
    return replace(context, sources=shown, dropped=dropped)


def beginning(
    trail: Trail | Sequence[Source],
    wanted: Sequence[Source],
    spare: int,
    welcome: Collection[str] = (),
    room: int | None = None,
) -> tuple[Source, ...]:
    """How much of a trail is worth repeating: up to a source that is wanted, and few that are not before it."""
    sources = trail.sources if isinstance(trail, Trail) else trail
    if isinstance(trail, Trail) and trail.ahead and wanted:
        sources = tuple(takewhile(lambda source: source.text != wanted[0].text, sources))
    texts = {source.text for source in wanted}
    best, length, gain, unneeded, free = float(_LEAST), 0, 0.0, 0, 0
    for number, source in enumerate(sources, 1):
        needed, liked = source.text in texts, source.text in welcome
        gain += source.tokens if needed else 0.0 if liked else -_PRICE * source.tokens
        unneeded += 0 if needed or liked else source.tokens
        free += source.tokens if liked and not needed else 0
        if unneeded > spare or unneeded + free > (spare if room is None else room):
            break
        if (needed and gain > best) or (liked and length and gain >= best):
            best, length = gain, number
    return tuple(sources[:length])


def saved(start: Sequence[Source], wanted: Sequence[Source], welcome: Collection[str] = ()) -> float:
    """Tokens that need not be read when a prompt begins so, less what is shown for that alone."""
    texts = {source.text for source in wanted}
    return sum(
        s.tokens if s.text in texts else 0.0 if s.text in welcome else -_PRICE * s.tokens for s in start
    )
