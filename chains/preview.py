"""A short answer from what is quickly read, to look at while the rest of the prompt is: a preview of the answer."""

# Reading decides how long a question waits, and no way of reading less or of joining what was read elsewhere kept the
# answers (README, "Reading nothing twice"). So the answer stays what it is, and something true of the best source is
# said long before it. The answer reads its own prompt: not a letter of it depends on the preview.

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from chains.ask import Prepared, is_large, messages, repeats
from chains.context import source_of
from chains.engine.streams import closed_after
from chains.kv.turns import new_sources, repeated
from chains.types import Context, Preview, Source

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

# Tokens of sources that a preview may read: with the question's own a matter of seconds on two cores.
PREVIEW_TOKENS = 160
# And tokens it may write. It is to be over when it is read.
PREVIEW_ANSWER = 80
# Where the answer begins sooner than this many seconds after its preview would, there is no use for one.
WORTH_WAITING = 12.0
# Fewer tokens than this are read before a preview of them would be.
_LEAST_UNREAD = 400
# A source cut shorter than this says nothing.
_LEAST_LINES = 3
# Behind what was longer.
_GOES_ON = " …"
# What the instructions have the model say where the sources lack the answer: the preview's lack most of them.
_UNKNOWN = "The sources do not show this"


class Reads(Protocol):
    """What is asked of a model: to write, to count, and what of a prompt it would find read."""

    def stream(self, input: Any, **options: Any) -> Iterator[Any]:
        """Chunks of the answer to messages."""

    def count_tokens(self, text: str) -> int:
        """Tokens of a piece of text inside a prompt."""

    def kept(self, messages: Sequence[BaseMessage], sources: int) -> tuple[int, int]:
        """How many tokens up to the end of so many sources are kept, and how many there are."""

    @property
    def cost(self) -> Mapping[str, Any]:
        """What the last prompt cost: `tokens_read` and `prefill_seconds`."""


def preview(prepared: Prepared, model: Reads) -> Iterator[Preview]:
    """Pieces of a preview, the last one empty; nothing at all where the answer itself is near.

    It stands on the sources that the prompt begins with and that are kept, and on the best of the others, as far as
    `PREVIEW_TOKENS` go. Closing the iterator stops the model.
    """
    if not prepared.retrieved.relevant:
        return
    earlier = repeated(prepared.question.history)
    shown = new_sources(prepared.context.prompted, earlier)
    before = sum(len(new_sources(turn.read, earlier[:at])) for at, turn in enumerate(earlier))
    kept, tokens = model.kept(prepared.messages, before + len(shown))
    if tokens - kept < _LEAST_UNREAD:
        return
    known = _known(prepared, model, before, len(shown))
    chosen = (*shown[:known], *_quickly_read(prepared, shown[known:], model))
    if chosen:
        yield from _written(prepared, chosen, model, tokens - kept)


def _known(prepared: Prepared, model: Reads, before: int, count: int) -> int:
    """How many of the prompt's first new sources are kept, in their place."""
    for number in range(1, count + 1):
        kept, tokens = model.kept(prepared.messages, before + number)
        if kept < tokens:
            return number - 1
    return count


def _quickly_read(prepared: Prepared, unread: Sequence[Source], model: Reads) -> list[Source]:
    """The best of what was not read, the very best last as in every prompt, and cut where it alone is too long."""
    room, chosen = PREVIEW_TOKENS, list[Source]()
    for number, source in enumerate(reversed(unread)):
        fits: Source | None = source
        if source.tokens > room:
            fits = _cut(prepared, source, room, model) if number == 0 else None
        if fits is not None:
            room -= fits.tokens
            chosen.insert(0, fits)
    return chosen


def _cut(prepared: Prepared, source: Source, room: int, model: Reads) -> Source | None:
    """The first lines of a source, as many as fit, under a label that says so; None where hardly any do."""
    hit = next((hit for hit in prepared.retrieved.hits if hit.label == source.label), None)
    lines = hit.text.split("\n") if hit is not None else []
    if hit is None or len(lines) <= _LEAST_LINES:
        return None

    def first(count: int) -> Source:
        part = replace(hit, text="\n".join(lines[:count]), end_line=hit.start_line + count - 1)
        return source_of(part, model.count_tokens)

    fits = bisect_right(range(1, len(lines) + 1), room, key=lambda count: first(count).tokens)
    return first(fits) if fits >= _LEAST_LINES else None


def _written(prepared: Prepared, chosen: Sequence[Source], model: Reads, unread: int) -> Iterator[Preview]:
    """What the model says from `chosen`, unless reading has shown that the answer itself is near."""
    context = Context(tuple(reversed(chosen)))
    asked = messages(prepared.question, context, large=is_large(model))
    total = len(dict.fromkeys(prepared.context.prompted))
    said, seconds, begun = "", 0.0, False
    with closed_after(model.stream(list(asked), max_tokens=PREVIEW_ANSWER)) as writing:
        for chunk in writing:
            piece, said = chunk.text, said + chunk.text
            if not begun:
                if _says_unknown(said):
                    if len(said.lstrip()) >= len(_UNKNOWN):
                        return
                    continue
                seconds = _seconds(unread, model.cost)
                if seconds < WORTH_WAITING:
                    return
                begun, piece = True, said
            if chunk.response_metadata.get("finish_reason") == "length":
                piece += _GOES_ON
            if piece:
                yield Preview(piece, context.sources, total, seconds)
            if repeats(said):
                break
    if begun:
        yield Preview("", context.sources, total, seconds)


def _says_unknown(said: str) -> bool:
    """Whether a text says, as far as it goes, that the sources lack the answer."""
    return _UNKNOWN.startswith(said.lstrip()[: len(_UNKNOWN)])


def _seconds(tokens: int, cost: Mapping[str, Any]) -> float:
    """How long so many tokens take, if they are read as fast as the last ones were; 0 where that is not known."""
    read, seconds = float(cost.get("tokens_read", 0)), float(cost.get("prefill_seconds", 0.0))
    return tokens * seconds / read if read else 0.0
