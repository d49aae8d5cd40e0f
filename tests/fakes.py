"""Real, small stand-ins: a chat model that says, and calls, what it is told to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr


class ScriptedChat(BaseChatModel):
    """Answers with its script, in order and then again from the start, word by word. A token is a word.

    A line of the script that is written as `chains.engine.tools` writes calls (several: one under the other) is a call.
    `seen` holds the messages of every call, `options` its keyword arguments, `written` the pieces handed out
    in the last call, and `stopped` whether that call was left before its end.
    """

    script: Sequence[str] = ("It is so.",)
    window: int = 4_096
    model_name: str = "scripted"
    _seen: list[list[BaseMessage]] = PrivateAttr(default_factory=list)
    _options: list[dict[str, Any]] = PrivateAttr(default_factory=list)
    _written: list[str] = PrivateAttr(default_factory=list)
    _stopped: bool = PrivateAttr(default=False)

    @property
    def seen(self) -> list[list[BaseMessage]]:
        return self._seen

    @property
    def options(self) -> list[dict[str, Any]]:
        return self._options

    @property
    def written(self) -> list[str]:
        return self._written

    @property
    def stopped(self) -> bool:
        return self._stopped

    @property
    def context_window(self) -> int:
        return self.window

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        text = self.script[len(self._seen) % len(self.script)]
        self._seen.append(messages)
        self._options.append(kwargs)
        calls = []
        if text.startswith('{"tool":'):
            calls, text = [json.loads(line) for line in text.splitlines()], ""
        self._written, self._stopped = [], True
        pieces = re.findall(r"\s*\S+\s*", text) or [text]
        limit = kwargs.get("max_tokens") or len(pieces)
        for piece in pieces[:limit]:
            self._written.append(piece)
            yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
        self._stopped = False
        read = sum(self.count_tokens(message.text) for message in messages)
        usage = UsageMetadata(
            input_tokens=read,
            output_tokens=len(self._written),
            total_tokens=read + len(self._written),
            input_token_details=InputTokenDetails(cache_read=7),
        )
        chunks = [
            tool_call_chunk(
                name=call["tool"], args=json.dumps(call["arguments"]), id=f"{len(self._seen)}.{at}", index=at
            )
            for at, call in enumerate(calls)
        ]
        finish = "stop" if limit >= len(pieces) else "length"
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                content="",
                tool_call_chunks=chunks,
                usage_metadata=usage,
                response_metadata={"finish_reason": finish},
            )
        )

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))
