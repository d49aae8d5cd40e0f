"""A short answer from what is quickly read, to look at while the rest of the prompt is: a preview of the answer."""

# Reading decides how long a question waits, and no way of reading less or of joining what was read elsewhere kept the
# answers (README, "Reading nothing twice"). So the answer stays what it is, and something is said of the best source
# long before it. The answer reads its own prompt: not a letter of it depends on the preview.

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from chains.ask import Prepared, is_large, messages, repeats
from chains.context import source_of
from chains.engine.streams import closed_after
from chains.kv.turns import new_sources, repeated
from chains.types import Context, Preview, Source

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

# Tokens of sources that a preview may read: with the question's own, seconds for a 1.5B model on two cores.
PREVIEW_TOKENS = 160
# And tokens it may write. It is to be over when it is read.
PREVIEW_ANSWER = 80
# Where the answer begins sooner than this many seconds after its preview would, there is no use for one.
WORTH_WAITING = 12.0
# Fewer tokens than this are read before a preview of them would be.
_LEAST_UNREAD = 400
# What stands before the sources is read for the preview as well: a head may be new, a conversation is too long.
_MOST_BEFORE = 2 * PREVIEW_TOKENS
# Where the best sources do not show the answer, the next best may.
_ATTEMPTS = 2
# A source cut shorter than this says nothing.
_LEAST_LINES = 3
# Behind what was longer.
_GOES_ON = " …"
# What the instructions have the model say where the sources lack the answer: the preview's lack most of them.
_UNKNOWN, _QUOTED = "The sources do not show this", " \n\"'*`“"


class Reads(Protocol):
    """What is asked of a model: to write, to count, and what of a prompt it would find read."""

    def stream(self, input: Any, **options: Any) -> Iterator[Any]:
        """Chunks of the answer to messages."""

    def count_tokens(self, text: str) -> int:
        """Tokens of a piece of text inside a prompt."""

    def reach(self, messages: Sequence[BaseMessage]) -> tuple[int, tuple[tuple[int, int], ...]]:
        """How many of a prompt's first tokens are kept, and where each of its sources begins and ends in it."""

    @property
    def cost(self) -> Mapping[str, Any]:
        """What the last prompt cost: `tokens_read` and `prefill_seconds`."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a preview reads: the `known` sources and some of the `others`.

    They are some of `total`, and `unread` are the tokens that the answer still has to read.
    """

    known: tuple[Source, ...]
    others: tuple[Source, ...]
    total: int
    unread: int


def preview(prepared: Prepared, model: Reads, max_tokens: int = PREVIEW_ANSWER) -> Iterator[Preview]:
    """Pieces of a preview, the last one empty; nothing at all where the answer itself is near.

    It stands on the sources that the prompt begins with and that are kept, and on the best of the others, as far as
    `PREVIEW_TOKENS` go. Where those do not show the answer, the next best are asked. Closing the iterator stops the
    model.

    :param max_tokens: of the answer; a preview is not longer.
    """
    plan = _planned(prepared, model) if prepared.retrieved.relevant else None
    if plan is None:
        return
    spent = 0
    for offer in _offers(prepared, plan.others, model):
        if (yield from _written(prepared, plan, offer, model, min(max_tokens, PREVIEW_ANSWER), spent)):
            return
        spent += int(model.cost.get("tokens_read", 0))


def _planned(prepared: Prepared, model: Reads) -> _Plan | None:
    """What can be read at once; None where that is nothing, or hardly less than all."""
    turns = repeated(prepared.question.history)
    earlier = sum(len(new_sources(turn.read, turns[:at])) for at, turn in enumerate(turns))
    shown = new_sources(prepared.context.prompted, turns)
    kept, spans = model.reach(prepared.messages)
    own = spans[earlier:]
    if not shown or len(own) != len(shown) or own[0][0] - kept > _MOST_BEFORE:
        return None
    known = sum(end <= kept for _, end in own)
    unread = own[-1][1] - max(kept, own[0][0])
    if unread < _LEAST_UNREAD:
        return None
    return _Plan(tuple(shown[:known]), tuple(shown[known:]), len({source.text for source in shown}), unread)


def _offers(prepared: Prepared, unread: Sequence[Source], model: Reads) -> Iterator[tuple[Source, ...]]:
    """What to read of the sources not read: the best of them as far as there is room, and then the best of the rest.

    The very best stands last, as in every prompt, cut where it alone is too long. Where it cannot be there is nothing:
    lesser ones do not speak for it.
    """
    # A prompt has pieces of one body in the order of the file, and its best source may stand there twice.
    rank = {hit.label: place for place, hit in reversed(list(enumerate(prepared.retrieved.hits)))}
    left = sorted(
        {source.label: source for source in unread}.values(), key=lambda s: rank.get(s.label, len(rank))
    )
    for _ in range(_ATTEMPTS):
        best = _shortened(prepared, left[0], model) if left else None
        if best is None:
            return
        room, chosen, over = PREVIEW_TOKENS - best.tokens, [best], list[Source]()
        for source in left[1:]:
            fits = source.tokens <= room
            room -= source.tokens if fits else 0
            (chosen if fits else over).append(source)
        yield tuple(reversed(chosen))
        left = over


def _shortened(prepared: Prepared, source: Source, model: Reads) -> Source | None:
    """A source, or its first lines, as many as there is room for, under a label that says so.

    None where those are hardly any, and where its text is not its lines one by one: a cell of a notebook.
    """
    if source.tokens <= PREVIEW_TOKENS:
        return source
    hit = next((hit for hit in prepared.retrieved.hits if hit.label == source.label), None)
    lines = hit.text.split("\n") if hit is not None else []
    if hit is None or len(lines) != hit.end_line - hit.start_line + 1:
        return None

    def first(count: int) -> Source:
        part = replace(hit, text="\n".join(lines[:count]), end_line=hit.start_line + count - 1)
        return source_of(part, model.count_tokens)

    fits = bisect_right(range(1, len(lines) + 1), PREVIEW_TOKENS, key=lambda count: first(count).tokens)
    return first(fits) if fits >= _LEAST_LINES else None


def _written(
    prepared: Prepared, plan: _Plan, offer: Sequence[Source], model: Reads, max_tokens: int, spent: int
) -> Generator[Preview, None, bool]:
    """What the model says from these sources, unless reading them has shown that the answer itself is near.

    :param spent: tokens that were read for it before.
    :returns: false where these sources do not show the answer, so that others may.
    """
    sources = (*plan.known, *offer)
    asked = messages(prepared.question, Context(tuple(reversed(sources))), large=is_large(model))
    # Best first, as in an answer, and what stands twice in a prompt once.
    about = Preview("", tuple(dict.fromkeys(reversed(sources))), plan.total)
    said, begun = "", False
    with closed_after(model.stream(list(asked), max_tokens=max_tokens)) as writing:
        for chunk in writing:
            piece, said = chunk.text, said + chunk.text
            if not begun and piece:
                about = _priced(about, plan.unread, model.cost, spent)
                if about.seconds < WORTH_WAITING:
                    return True
                if _says_unknown(said):
                    if len(said.lstrip(_QUOTED)) >= len(_UNKNOWN):
                        return False
                    continue
                begun, piece = True, said
            if begun and chunk.response_metadata.get("finish_reason") == "length":
                piece += _GOES_ON
            if begun and piece:
                yield replace(about, piece=piece)
            if repeats(said):
                break
    if begun:
        yield about
    return begun


def _says_unknown(said: str) -> bool:
    """Whether a text says, as far as it goes, that the sources lack the answer."""
    return _UNKNOWN.startswith(said.lstrip(_QUOTED)[: len(_UNKNOWN)])


def _priced(about: Preview, unread: int, cost: Mapping[str, Any], spent: int) -> Preview:
    """With what was read for it, and the seconds that `unread` tokens take if they are read as fast; 0 if unknown."""
    read, seconds = int(cost.get("tokens_read", 0)), float(cost.get("prefill_seconds", 0.0))
    return replace(about, tokens=spent + read, seconds=unread * seconds / read if read else 0.0)
