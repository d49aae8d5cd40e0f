"""One request to a model server and its answer, piece by piece: waited for, made simpler, measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from chains.engine.families import Message
from chains.engine.forms import Form
from chains.engine.stops import StopFilter
from chains.engine.waiting import Waited
from chains.server.about import Told, broke_off
from chains.server.errors import BUSY, errors, refusal, translated
from indexers.errors import ModelError

if TYPE_CHECKING:
    import threading

    from chains.server.endpoints import Endpoint

# A busy server is asked again so long, in seconds.
PATIENCE_SECONDS, _FIRST_WAIT = 60.0, 1.0
# OpenAI takes so many stop strings; the rest are looked for here.
_MOST_STOPS = 4
_POLL_SECONDS = 0.1
# No token is longer, runs of blanks apart.
_MOST_CHARS = 128
_MESSAGES: Mapping[str, type[BaseMessage]] = {
    "system": SystemMessage,
    "user": HumanMessage,
    "assistant": AIMessage,
}


@dataclass(slots=True)
class Turn:
    """One answer as it arrives: what was counted before, what the server says of it after."""

    counted: int
    least: int
    asked: int
    started: float
    first: float = 0.0
    finish: str = ""
    read: int = 0
    cached: int = 0
    written: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One call: what is said, how it is sampled, in which form the answer is wanted, and who may stop it."""

    messages: tuple[Message, ...]
    sampling: Mapping[str, Any]
    max_tokens: int
    stops: tuple[str, ...]
    form: Form
    cancels: tuple[threading.Event, ...]

    def cancelled(self) -> bool:
        """Whether somebody asked to stop."""
        return any(event.is_set() for event in self.cancels)


class Connection:
    """A server that has told of itself, and what was learnt of it since."""

    def __init__(
        self, where: Endpoint, told: Told, client: Any, seconds: float, note: Callable[[str], None]
    ) -> None:
        """
        :param client: LangChain's client for OpenAI, connected to the server.
        :param seconds: how long nothing may come.
        :param note: takes what a person should know of the server.
        """
        self.where = where
        self.told = told
        self.measured = 0
        """The window in tokens, as far as it was found to be smaller than told."""
        self._client = client
        self._seconds = seconds
        self._note = note
        self._without: set[str] = set()

    def texts(self, request: Request, messages: Sequence[Message], turn: Turn) -> Iterator[str]:
        """The pieces of text that come, up to a stop string; `turn` takes in the rest of what is told."""
        stops = StopFilter(request.stops)
        for chunk in self._chunks(request, messages, turn):
            _take_in(turn, chunk)
            piece = chunk.text
            if piece:
                turn.first = turn.first or time.monotonic()
                shown = stops.feed(piece)
                turn.text += shown
                if shown:
                    yield shown
            if stops.stopped or len(turn.text) > _MOST_CHARS * (turn.asked + 8):
                # A server that goes on and on is left as one that was told where to stop.
                turn.finish = "stop" if stops.stopped else "length"
                return
        rest = stops.rest()
        turn.text += rest
        if rest:
            yield rest
        if not turn.finish:
            raise ModelError(
                f"{self.where.host} ended in the middle of the answer.", "Look into the server's log."
            )

    def _chunks(
        self, request: Request, messages: Sequence[Message], turn: Turn
    ) -> Iterator[ChatGenerationChunk]:
        """What the client yields, a busy server waited for, and a request made simpler that it does not take."""
        until, wait = time.monotonic() + PATIENCE_SECONDS, _FIRST_WAIT
        while True:
            began = False
            try:
                for chunk in self._cancellable(request, messages, turn):
                    began = True
                    yield chunk
                return
            except errors() as error:
                no = refusal(error)
                if no is not None and not began:
                    if no.status in BUSY and time.monotonic() + max(wait, no.wait) < until:
                        _pause(max(wait, no.wait), request)
                        if request.cancelled():
                            turn.finish = "cancelled"
                            return
                        wait *= 2
                        continue
                    if no.of_the_form and self._simplify(request.form):
                        continue
                    if no.too_long and no.window:
                        self.measured = no.window
                raise translated(
                    error, self.where, self.told.model, began=began, seconds=self._seconds
                ) from error

    def _simplify(self, form: Form) -> bool:
        """Leave out what the server may not know; false when there is nothing left to leave out."""
        without = self._without
        for feature in (*form.features(self.told.kind, frozenset(without)), "usage"):
            if feature not in without:
                without.add(feature)
                return True
        return False

    def _cancellable(
        self, request: Request, messages: Sequence[Message], turn: Turn
    ) -> Iterator[ChatGenerationChunk]:
        """The client's chunks; where somebody may cancel, they are waited for in short turns."""
        chunks = self._sent(request, messages, turn)
        if not request.cancels:
            yield from chunks
            return
        yield from Waited(chunks, request.cancelled, _POLL_SECONDS)
        if request.cancelled():
            turn.finish = turn.finish or "cancelled"

    def _sent(
        self, request: Request, messages: Sequence[Message], turn: Turn
    ) -> Iterator[ChatGenerationChunk]:
        told, without = self.told, frozenset(self._without)
        if not request.form.held(told.kind, without):
            self._note(f"{self.where.host} cannot hold its model to a form: its answers are only checked.")
        body = {**request.sampling, **request.form.body(told.kind, without)}
        listed = [_MESSAGES[message.role](message.text) for message in messages]
        stops = list(request.stops)[:_MOST_STOPS] or None
        own = ("temperature", "top_p", "seed")
        options: dict[str, Any] = {key: body.pop(key) for key in own if key in body}
        options |= {"max_tokens": turn.asked, **({"extra_body": body} if body else {})}
        empty = True
        try:
            for chunk in self._client._stream(listed, stops, stream_usage="usage" not in without, **options):
                empty = False
                yield chunk
        except errors() as error:
            if not empty or not broke_off(error):
                raise
        if empty:
            # llama-cpp-python hangs up on what it cannot begin to answer; asked without a stream, it says why.
            yield from self._at_once(listed, stops, options)

    def _at_once(
        self, messages: Sequence[BaseMessage], stops: list[str] | None, options: Mapping[str, Any]
    ) -> Iterator[ChatGenerationChunk]:
        """The answer without a stream; once more where the connection that was kept had been closed meanwhile."""
        try:
            result = self._client._generate(messages, stops, **options)
        except errors() as error:
            if not broke_off(error):
                raise
            result = self._client._generate(messages, stops, **options)
        yield from _whole(result)


def _whole(result: ChatResult) -> Iterator[ChatGenerationChunk]:
    """An answer that came at once, as a stream of one."""
    for generation in result.generations[:1]:
        message = generation.message
        chunk = AIMessageChunk(
            content=message.content,
            usage_metadata=getattr(message, "usage_metadata", None),
            response_metadata=message.response_metadata,
        )
        yield ChatGenerationChunk(message=chunk, generation_info=generation.generation_info)


def _take_in(turn: Turn, chunk: ChatGenerationChunk) -> None:
    info = {**(chunk.generation_info or {}), **chunk.message.response_metadata}
    turn.finish = str(info.get("finish_reason") or turn.finish)
    usage = getattr(chunk.message, "usage_metadata", None)
    if usage:
        turn.read, turn.written = int(usage["input_tokens"]), int(usage["output_tokens"])
        turn.cached = int((usage.get("input_token_details") or {}).get("cache_read") or 0)


def _pause(seconds: float, request: Request) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not request.cancelled():
        time.sleep(_POLL_SECONDS)
