"""Packing that knows the price: what was read before costs no wait, and is preferred where it is as good. Pure."""

# The outcome must not depend on what happens to be cached. So the price goes by records, never by the cache: where
# sources are read in their place, by the trails of earlier prompts, which decide the order there anyway; where they are
# joined, by the list of what somebody had read ahead (`agent warm`), which a question does not change. A cleared cache
# then costs time and alters no text.

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from chains.context import CountTokens, is_weak, pack, source_of
from chains.kv.trail import Trail, continued, nearest
from chains.types import OVER_BUDGET, Context, Source
from indexers.types import Hit

# One part in so many of what sources may take, for sources that only save others from being read again.
_SPARE = 4
# And for those together with what was read before and the budget had no room for: a warm repository shows up to half
# as much again for the same wait.
_ROOM = 2


@dataclass(frozen=True, slots=True)
class ReadBefore:
    """What is recorded to have been read: `trails`, the last first; texts of sources that were read to be `joined`.

    `needed_only`: nothing is shown because it was read, as for prompts that others are to begin with.
    """

    trails: tuple[Trail, ...] = ()
    joined: frozenset[str] = frozenset()
    needed_only: bool = False

    def __bool__(self) -> bool:
        return bool(self.trails or self.joined)


NOTHING = ReadBefore()


def packed(
    hits: Sequence[Hit], budget: int, count: CountTokens, before: ReadBefore = NOTHING, window: int = 0
) -> Context:
    """The best hits that fit `budget` tokens of reading, and what was read before and comes for nothing.

    :param window: tokens that the model's context has; sources take no more than half of it for what is free.
    """
    known: dict[str, int] = {}

    def counted(text: str) -> int:
        if text not in known:
            known[text] = count(text)
        return known[text]

    most = 0 if before.needed_only else max(0, window // 2 - budget)
    spare, room = min(budget // _SPARE, most), min(budget // _ROOM, most)
    if before.joined:
        return pack(hits, budget, counted, read=before.joined, room=room)
    plain = pack(hits, budget, counted)
    if not before.trails or not plain.sources:
        return plain
    offered = {source.text: source for source in _offered(hits, counted)}
    near = _nearest(before.trails, plain, offered, spare, room)
    context = pack(hits, budget, counted, read=near) if near else plain
    over = {item.label for item in context.dropped if item.reason == OVER_BUDGET}
    welcome = {text: source for text, source in offered.items() if source.label in over}
    return continued(context, before.trails, spare, welcome, room)


def _offered(hits: Sequence[Hit], count: CountTokens) -> list[Source]:
    """Every hit that is worth reading, whole."""
    best = max((hit.score for hit in hits), default=0.0)
    return [source_of(hit, count) for hit in hits if not is_weak(hit, best)]


def _nearest(
    trails: Sequence[Trail], plain: Context, offered: Collection[str], spare: int, room: int
) -> frozenset[str]:
    """The texts of the trail that saves most, as far as it could be repeated if all that is offered were packed."""
    start = nearest(trails, plain.sources, spare, offered, room)
    return frozenset(source.text for source in start.sources) & frozenset(offered)
