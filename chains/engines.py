"""`ServerModel`: a model behind any OpenAI-compatible server, with the same interface as `LlamaCpp`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from chains.engine import estimates
from chains.engine import tools as calling
from chains.engine.bound import call_chunk
from chains.engine.conversation import conversation
from chains.engine.families import Message, alternating
from chains.engine.forms import form_of
from chains.engine.streams import closed_after
from chains.server.about import LLAMA_CPP, likeliest
from chains.server.base import ConnectedModel
from chains.server.connection import Request, Turn
from chains.writing.infill import Hole
from indexers.errors import ContextTooSmall, ModelError, UsageError

_LEAST_ANSWER = 16
# A form that was not kept is asked for again so often.
_ATTEMPTS = 3
# A prompt of which the server read less than this share of our exact count was cut.
_WHOLE = 0.9
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "seed")
_CALL_OPTIONS = frozenset(
    (*_SAMPLING, "grammar", "json_schema", "max_tokens", "cancel", "tools", "tool_choice", "draft")
)


@dataclass(frozen=True, slots=True)
class Filled:
    """What a server's own infilling gave: the text, why it ended, tokens read and written."""

    text: str
    finish: str
    read: int
    written: int


class ServerModel(ConnectedModel):
    """A model behind an OpenAI-compatible server; the first call or `load()` asks the server about itself.

    Calls take the same keyword arguments as those of `LlamaCpp`. A grammar, a schema or tools are handed to servers
    that hold a model to them; otherwise the answer is checked, and asked for again with what was wrong with it.
    """

    # -- LangChain ---------------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "openai-compatible-server"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "base_url": self.base_url,
            "model": self.model,
            "temperature": self.temperature,
            "seed": self.seed,
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return LangSmithParams(
            ls_provider="openai-compatible", ls_model_name=self.model, ls_model_type="chat"
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with closed_after(self._stream(messages, stop, run_manager, **kwargs)) as chunks:
            return generate_from_stream(chunks)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        request = self._request(messages, stop, kwargs)
        answer = self._bound(request) if request.form.checked else self._free(request)
        for chunk in answer:
            if run_manager is not None:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _request(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> Request:
        unknown = sorted(set(options) - _CALL_OPTIONS)
        if unknown:
            raise UsageError(
                f"ServerModel does not know the option {unknown[0]!r}.",
                f"It knows {', '.join(sorted(_CALL_OPTIONS))}.",
            )
        form = form_of(options)
        listed = tuple(alternating(conversation(messages, form.tools)))
        wanted = options.get("max_tokens")
        wanted = self.max_tokens if wanted is None else wanted
        if wanted < 1:
            raise UsageError("max_tokens must be at least 1.")
        stops = tuple(text for text in (*(self.stop or ()), *(stop or ())) if text)
        cancel = options.get("cancel")
        return Request(
            listed, self._sampled(options), wanted, stops, form, (cancel,) if cancel is not None else ()
        )

    def _sampled(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """How tokens are chosen, as far as it is said: servers have defaults of their own."""
        chosen = {
            name: options[name] if options.get(name) is not None else getattr(self, name)
            for name in _SAMPLING
        }
        return {name: value for name, value in chosen.items() if value is not None}

    # -- beside chatting -----------------------------------------------------------------------------

    def next_probabilities(
        self, messages: Sequence[BaseMessage], words: Sequence[str], cancel: threading.Event | None = None
    ) -> Mapping[str, float] | None:
        """The share of each word among all that could begin the answer, of the twenty likeliest that a server tells.

        None where it does not, or when cancelled.
        """
        connection, server = self._connection, self._state.server
        if server is None or "logprobs" in self._state.lacks or (cancel is not None and cancel.is_set()):
            return None
        listed = alternating(conversation(messages))
        self._turn(listed, 1)
        body = {
            "model": connection.told.model,
            "messages": [{"role": message.role, "content": message.text} for message in listed],
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": True,
            "top_logprobs": 20,
        }
        reply = server.ask(f"{self.where.base_url}/chat/completions", body, self.timeout)
        shares = likeliest(reply.get("choices", 0, "logprobs", "content", 0, "top_logprobs"))
        if shares is None:
            self._state.lacks.add("logprobs")
            self._note(
                f"{self.where.host} does not say how likely a word is: findings are not asked about twice."
            )
            return None
        return {word: shares.get(word, 0.0) for word in words}

    def infill(self, hole: Hole, before: Sequence[tuple[str, str]], max_tokens: int) -> Filled | None:
        """The server's own infilling; None where it has none, or its model was not trained to.

        :param before: other files' paths and texts that help.
        """
        connection, server = self._connection, self._state.server
        if connection.told.kind != LLAMA_CPP or server is None or "infill" in self._state.lacks:
            return None
        counted = sum(
            self.count_tokens(text) for text in (hole.prefix, hole.suffix, *(text for _, text in before))
        )
        if not self.where.loopback and self.on_send is not None:
            self.on_send(self.where.host, counted)
        body = {
            "input_prefix": hole.prefix,
            "input_suffix": hole.suffix,
            "input_extra": [{"filename": path, "text": text} for path, text in before],
            "n_predict": max_tokens,
            "temperature": self.temperature,
        }
        reply = server.ask(f"{self.where.root}/infill", body, self.timeout)
        text = reply.get("content")
        if not isinstance(text, str):
            if reply.status == 0:
                raise ModelError(
                    f"{self.where.host} did not answer: {reply.problem}", "Look into the server's log."
                )
            self._state.lacks.add("infill")
            return None
        limited = reply.get("stop_type") == "limit"
        read, written = reply.get("tokens_evaluated"), reply.get("tokens_predicted")
        return Filled(text, "length" if limited else "stop", read or 0, written or 0)

    # -- one answer --------------------------------------------------------------------------------

    def _free(self, request: Request) -> Iterator[ChatGenerationChunk]:
        """An answer as it comes."""
        turn, reader = self._turn(request.messages, request.max_tokens), request.form.reader()
        for text in self._connection.texts(request, request.messages, turn):
            shown = reader.feed(text) if reader is not None else text
            if reader is not None and reader.call is not None:
                turn.finish = "tool_calls"
                break
            if shown:
                yield ChatGenerationChunk(message=AIMessageChunk(content=shown))
        rest = reader.rest() if reader is not None else ""
        yield self._last(turn, rest, reader.call if reader is not None else None)
        self._measure(turn)

    def _bound(self, request: Request) -> Iterator[ChatGenerationChunk]:
        """An answer that must have a form: read to its end, checked, and asked for again where it has it not."""
        listed, wrong = request.messages, ""
        for _ in range(_ATTEMPTS):
            turn = self._turn(listed, request.max_tokens)
            text = request.form.bare("".join(self._connection.texts(request, listed, turn)))
            self._measure(turn)
            wrong = "" if turn.finish in ("length", "cancelled") else request.form.problem(text)
            if not wrong:
                call = request.form.call(text)
                turn.finish = "tool_calls" if call is not None else turn.finish
                yield self._last(turn, "" if call is not None else text, call)
                return
            self._note(
                f"{self.where.host} does not hold its model to a form: answers are checked, and asked again."
            )
            again = f"That is not in the form asked for: {wrong}. Answer again, with nothing but {request.form.words}."
            listed = (*request.messages, Message("assistant", (text or "-",)), Message("user", (again,)))
        raise ModelError(
            f"The model at {self.where.host} did not keep to the form asked for, in {_ATTEMPTS} attempts ({wrong}).",
            "Take a server that holds models to JSON schemas, as llama.cpp's does, or a larger model.",
        )

    def _turn(self, messages: Sequence[Message], most: int) -> Turn:
        """Count what is to be sent, and send nothing that cannot fit."""
        counted, window = self._counted(messages), self.context_window
        least = counted if self.counts_exactly else sum(estimates.at_least(m.text) for m in messages)
        if least >= window:
            raise ContextTooSmall(
                f"The prompt takes {'' if least == counted else 'at least '}{least:,} tokens, the context window of "
                f"{self.where.host} has {window:,}.",
                "Shorten the question or what goes with it, or start the server with a larger context.",
            )
        if not self.where.loopback and self.on_send is not None:
            self.on_send(self.where.host, counted)
        asked = max(1, min(most, max(window - counted, _LEAST_ANSWER)))
        return Turn(counted, least, asked, time.monotonic())

    def _last(self, turn: Turn, text: str, call: calling.Call | None = None) -> ChatGenerationChunk:
        """The last chunk: what was held back, the tool call, what it cost, and why it ended."""
        now = time.monotonic()
        read = turn.read or turn.counted
        written = turn.written or self.count_tokens(turn.text)
        usage = UsageMetadata(
            input_tokens=read,
            output_tokens=written,
            total_tokens=read + written,
            input_token_details=InputTokenDetails(cache_read=turn.cached),
        )
        metadata: dict[str, Any] = {
            "finish_reason": turn.finish,
            "model_name": self._told.model,
            "server": self.where.host,
            "usage_counted_by": "server" if turn.read else "us",
            "prefill_seconds": round((turn.first or now) - turn.started, 4),
            "generation_seconds": round(now - turn.first, 4) if turn.first else 0.0,
        }
        message = AIMessageChunk(
            content=text,
            tool_call_chunks=[call_chunk(call)] if call is not None else [],
            usage_metadata=usage,
            response_metadata=metadata,
            chunk_position="last",
        )
        return ChatGenerationChunk(message=message, generation_info={"finish_reason": turn.finish})

    def _measure(self, turn: Turn) -> None:
        """Believe what the server read, not what it said it could.

        :raises ContextTooSmall: it read less than it was sent.
        """
        host = self.where.host
        if not turn.read:
            if turn.finish in ("stop", "length"):
                self._note(
                    f"{host} does not say how many tokens it reads: a prompt that it cuts would go unseen."
                )
            return
        least = turn.least * _WHOLE if self.counts_exactly else turn.least
        if turn.read < least:
            self._connection.measured = turn.read + turn.written
            raise ContextTooSmall(
                f"{host} read only {turn.read:,} of {'' if self.counts_exactly else 'at least '}{turn.least:,} "
                "tokens: it cut the prompt without saying so, and the answer stands on what was left of it.",
                f"Start the server with a larger context, or tell its real window: --context {turn.read}",
            )
        full = turn.read + turn.written
        if turn.finish == "length" and turn.written < turn.asked - 1 and full < self.context_window - 1:
            self._connection.measured = full
            self._note(f"The context window of {host} ended after {full:,} tokens, before what it said.")
