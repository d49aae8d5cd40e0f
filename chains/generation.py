"""One generation of a local model: the prompt is read, tokens are written, and text comes of them in chunks."""

from __future__ import annotations

import codecs
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGenerationChunk

from chains.engine import tools as calling
from chains.engine.bound import call_chunk
from chains.engine.drafting import Drafted, Pace, Plain
from chains.engine.families import Prompt
from chains.engine.runtime import Interrupted, Runtime
from chains.engine.sampler import Sampling
from chains.engine.stops import StopFilter
from chains.engine.vocabulary import Vocabulary
from chains.kv.policy import Decision
from chains.kv.reader import Reader, Reading


@dataclass(frozen=True, slots=True)
class Request:
    """One generation: what to read, how to write, when to stop.

    `reading` says how sources are read; `by_token` reuses of what is in memory every token, and nothing on disk.
    """

    prompt: Prompt
    sampling: Sampling
    max_tokens: int
    stops: tuple[str, ...]
    stop_ids: frozenset[int]
    drops_space: bool
    cancels: tuple[threading.Event, ...]
    turn: calling.TurnReader | None = None
    drafts: bool = False
    reading: Decision | None = None
    by_token: bool = False

    def cancelled(self) -> bool:
        """Whether somebody asked to stop."""
        return any(event.is_set() for event in self.cancels)


@dataclass(slots=True)
class Counts:
    """What a generation cost so far."""

    reading: Reading
    how: str = ""
    written: int = 0
    prefill_seconds: float = 0.0
    generation_seconds: float = 0.0
    drafted: int = 0
    accepted: int = 0

    def cost(self) -> dict[str, Any]:
        """What the prompt cost, as it is told with an answer."""
        return {
            "prefill_seconds": round(self.prefill_seconds, 4),
            "tokens_read": self.reading.read,
            "sources_joined": self.reading.joined,
            "sources_fresh": list(self.reading.fresh),
            "reading": self.how,
        }


class Generation:
    """What becomes of one request to a model that is loaded; nobody else may use the model meanwhile."""

    def __init__(
        self,
        runtime: Runtime,
        reader: Reader,
        request: Request,
        model_name: str,
        on_prefill: Callable[[int, int], None] | None = None,
    ) -> None:
        self._runtime = runtime
        self._reader = reader
        self._request = request
        self._model_name = model_name
        self._on_prefill = on_prefill
        self._counts = Counts(Reading(len(request.prompt.ids)))
        self._read = False

    @property
    def cost(self) -> dict[str, Any]:
        """What the prompt cost, once it is read; empty before."""
        return self._counts.cost() if self._read else {}

    def run(self) -> Iterator[ChatGenerationChunk]:
        """Read the prompt, then text as it is written; the last chunk says what it cost and why it ended."""
        started = time.perf_counter()
        runtime, request, counts = self._runtime, self._request, self._counts
        try:
            if request.by_token:
                kept = runtime.prefill(request.prompt.ids, self._on_prefill, request.cancelled)
                counts.reading = Reading(len(request.prompt.ids), len(request.prompt.ids) - kept)
            else:
                decision = request.reading
                repair = decision.repair if decision is not None else None
                counts.how = f"{decision.name}: {decision.reason}" if decision is not None else ""
                counts.reading = self._reader.read(
                    request.prompt, repair, self._on_prefill, request.cancelled
                )
        except Interrupted:
            counts.prefill_seconds = time.perf_counter() - started
            yield last_chunk(self._model_name, counts, "cancelled", request.sampling)
            return
        written = time.perf_counter()
        counts.prefill_seconds = written - started
        self._read = True
        writer = Writer(runtime.vocabulary, request.stops, request.drops_space)
        finish = yield from self._write(writer)
        counts.generation_seconds = time.perf_counter() - written
        rest, call = writer.rest(), None
        if request.turn is not None:
            rest, call = request.turn.feed(rest) + request.turn.rest(), request.turn.call
        finish = "tool_calls" if call is not None else finish
        self._reader.keep_said()
        yield last_chunk(self._model_name, counts, finish, request.sampling, rest, call)

    def _write(self, writer: Writer) -> Generator[ChatGenerationChunk, None, str]:
        """Yield the answer's text as it comes; the return value says why it ended."""
        runtime, request, counts = self._runtime, self._request, self._counts
        sampler = runtime.sampler(request.sampling)
        turn = request.turn

        def ends(token: int) -> bool:
            # A grammar that is complete allows llama.cpp's end tokens, which may not be the family's.
            by_grammar = request.sampling.grammar and runtime.vocabulary.ends(token)
            return token in request.stop_ids or bool(by_grammar)

        read = counts.reading.read
        rate = read / counts.prefill_seconds if counts.prefill_seconds > 0 else 0.0
        steps = Drafted(runtime, sampler, ends, Pace(rate)) if request.drafts else Plain(runtime, sampler)
        try:
            while counts.written < request.max_tokens:
                if request.cancelled():
                    return "cancelled"
                token = steps.next(request.max_tokens - counts.written)
                if ends(token):
                    return "stop"
                counts.written += 1
                text = writer.feed(token)
                if turn is not None:
                    text = turn.feed(text)
                    if turn.call is not None:
                        return "stop"
                    if turn.answering:
                        # No grammar knows how this family ends an answer.
                        sampler.release()
                if text:
                    yield ChatGenerationChunk(message=AIMessageChunk(content=text))
                if writer.stopped:
                    return "stop"
            return "length"
        finally:
            counts.drafted, counts.accepted = steps.drafted, steps.accepted
            sampler.close()


class Writer:
    """Tokens to text: whole characters only, nothing of a stop string, no space before the first word."""

    def __init__(self, vocabulary: Vocabulary, stops: Sequence[str], drops_space: bool = False) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._filter = StopFilter(stops)
        self._drops_space = drops_space

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met."""
        return self._filter.stopped

    def feed(self, token: int) -> str:
        """The text that can be shown now."""
        text = self._decoder.decode(self._vocabulary.piece(token))
        if text and self._drops_space:
            self._drops_space = False
            text = text.removeprefix(" ")
        return self._filter.feed(text)

    def rest(self) -> str:
        """What was held back, once nothing follows. Bytes of an unfinished character are dropped."""
        return self._filter.rest()


def unread(model_name: str) -> ChatGenerationChunk:
    """The only chunk of a request that was cancelled before the model was free."""
    return last_chunk(model_name, Counts(Reading(0)), "cancelled", Sampling())


def last_chunk(
    model_name: str,
    counts: Counts,
    finish: str,
    sampling: Sampling,
    text: str = "",
    call: calling.Call | None = None,
) -> ChatGenerationChunk:
    """The last chunk: what was held back, the tool call, what it cost, and why it ended."""
    usage = UsageMetadata(
        input_tokens=counts.reading.tokens,
        output_tokens=counts.written,
        total_tokens=counts.reading.tokens + counts.written,
        input_token_details=InputTokenDetails(cache_read=counts.reading.cached),
    )
    metadata: dict[str, Any] = {
        "finish_reason": finish,
        "model_name": model_name,
        "generation_seconds": round(counts.generation_seconds, 4),
        **counts.cost(),
    }
    if counts.drafted:
        metadata |= {"draft_tokens": counts.drafted, "draft_accepted": counts.accepted}
    if sampling.temperature > 0:
        metadata["seed"] = sampling.seed
    message = AIMessageChunk(
        content=text,
        tool_call_chunks=[call_chunk(call)] if call is not None else [],
        usage_metadata=usage,
        response_metadata=metadata,
        chunk_position="last",
    )
    return ChatGenerationChunk(message=message, generation_info={"finish_reason": finish})
