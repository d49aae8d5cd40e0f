"""What was read before stands first again where that saves reading: the order of sources is sticky. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Start:
    """Sources of a trail that a prompt begins with, and the tokens this saves, less what is shown for that alone.

    `again`: the best source is among them and away from the question, so that it has to be shown once more.
    """

    sources: tuple[Source, ...] = ()
    again: bool = False
    saves: float = 0.0


def continued(
    context: Context,
    trails: Sequence[Trail],
    spare: int,
    welcome: Mapping[str, Source] | None = None,
    room: int | None = None,
) -> Context:
    """The context in an order that begins as an earlier prompt did, as far as that saves more than it costs.

    A prompt shows sources in reverse, the best last; those kept from the trail become the last of `context.sources`.
    What stands last decides what a small model says, so that the best source stands there whatever the trail had.

    :param trails: what was read, the last first; only what still is in the files.
    :param spare: tokens that sources may take that the question does not need.
    :param welcome: sources by text that the budget had no room for; on the trail they come for nothing.
    :param room: tokens that both of these may take together; `spare` when left out.
    """
    more = welcome or {}
    start = nearest(trails, context.sources, spare, more, room)
    kept = {source.label for source in start.sources}
    rest = [source for source in context.sources if source.label not in kept]
    ranked = {**more, **{source.text: source for source in context.sources}}
    shown = (*rest, *(ranked.get(s.text, s) for s in reversed(start.sources)))
    labels = {source.label for source in shown}
    dropped = tuple(item for item in context.dropped if item.label not in labels)
    again = context.sources[0] if start.again else None
    return replace(context, sources=shown, dropped=dropped, again=again)


def nearest(
    trails: Sequence[Trail],
    wanted: Sequence[Source],
    spare: int,
    welcome: Collection[str] = (),
    room: int | None = None,
) -> Start:
    """The beginning that saves most."""
    found = (start for trail in trails for start in _starts(trail, wanted, spare, welcome, room))
    return max(found, key=lambda start: start.saves, default=Start())


def _starts(
    trail: Trail, wanted: Sequence[Source], spare: int, welcome: Collection[str], room: int | None
) -> Iterator[Start]:
    """Up to the best source, which then comes last; and beyond it, at the price of showing it once more."""
    if not wanted:
        return
    best, texts = wanted[0], [source.text for source in trail.sources]
    # What showed its best source once more ends with it.
    doubled = bool(texts) and texts[-1] in texts[:-1]
    twice = doubled and texts[-1] == best.text
    sources = trail.sources[:-1] if doubled else trail.sources
    # The best source in another form cannot stand for it, and the same lines are not shown in two.
    sources = tuple(takewhile(lambda s: s.text == best.text or s.label != best.label, sources))
    before = tuple(takewhile(lambda source: source.text != best.text, sources))
    short = beginning(before, wanted, spare, welcome, room)
    yield Start(short, saves=saved(short, wanted, welcome))
    if trail.ahead or len(before) == len(sources):
        return
    full = beginning(sources, wanted, spare, welcome, room)
    gain = saved(full, wanted, welcome)
    labels = {source.label for source in full}
    if full[-1:] == sources[-1:] and all(source.label in labels for source in wanted):
        last = full[-1].text == best.text
        if last or twice:
            yield Start(full, twice, gain + (best.tokens if twice else 0))
            return
    extra = sum(source.tokens for source in full if source.label not in {w.label for w in wanted})
    if len(full) > len(before) and extra + best.tokens <= (spare if room is None else room):
        yield Start(full, True, gain - best.tokens)


def beginning(
    sources: Sequence[Source],
    wanted: Sequence[Source],
    spare: int,
    welcome: Collection[str] = (),
    room: int | None = None,
) -> tuple[Source, ...]:
    """How much of a trail is worth repeating: up to a source that is wanted, and few that are not before it."""
    best, length, gain, unneeded, free = float(_LEAST), 0, 0.0, 0, 0
    for number, source in enumerate(sources, 1):
        needed, liked = _needs(wanted, source), source.text in welcome
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
    return sum(
        s.tokens if _needs(wanted, s) else 0.0 if s.text in welcome else -_PRICE * s.tokens for s in start
    )


def _needs(wanted: Sequence[Source], source: Source) -> bool:
    """Whether a question needs a source: as it is, or for any but the best the same lines whole or in brief."""
    return any(
        one.text == source.text or (number > 0 and one.label == source.label)
        for number, one in enumerate(wanted)
    )
