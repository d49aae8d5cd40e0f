"""The model's part in writing: what it is asked, what it says, when it goes round in circles, and what that costs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chains.engine.streams import closed_after
from chains.types import Usage
from chains.writing.replies import Fence
from chains.writing.types import Exchange
from indexers.types import Progress

_LOOP_LINES, _LOOPS = 3, 8
# So many definitions in a row that differ in names and strings alone, of at most so many lines each.
_SERIES_LINES, _SERIES = 8, 10
_DEFINES = re.compile(r"^\s*(?:[\w@]+\s+)*(?:def|function|func|fn|class|struct|sub)\s", re.MULTILINE)
_STRING = re.compile(r"""(["'`])(?:\\.|(?!\1).)*\1""")
# How freely a model answers what it was asked before.
_AGAIN = 0.8


class Speaker:
    """A model with everything that was said to it: `usage` is the cost of all, `exchanges` prompts and replies."""

    def __init__(self, model: Any, on_progress: Callable[[Progress], None]) -> None:
        self._model = model
        self._progress = on_progress
        self.usage = Usage()
        self.exchanges: list[Exchange] = []

    def say(
        self,
        stage: str,
        messages: Sequence[Any],
        grammar: str,
        limit: int,
        fence: Fence | None = None,
        *,
        draft: bool = False,
    ) -> tuple[str, str]:
        """What the model answers, and why it ended: stop, length, cancelled, or loop."""
        began, pieces, finish = time.monotonic(), list[str](), ""
        usage: Mapping[str, Any] = {}
        first = 0.0
        options: dict[str, Any] = {"grammar": grammar, "max_tokens": limit}
        prompt = _words(messages)
        again = sum(exchange.prompt == prompt for exchange in self.exchanges)
        if again:
            # The likeliest answer to the same words would be the same answer.
            options |= {"temperature": _AGAIN, "seed": again}
        if draft and isinstance(getattr(self._model, "draft", None), str):
            options["draft"] = "prompt"
        with closed_after(self._model.stream(list(messages), **options)) as writing:
            for chunk in writing:
                if chunk.text:
                    first = first or time.monotonic() - began
                    pieces.append(chunk.text)
                    self._progress(Progress(stage, len(pieces), limit))
                usage = chunk.usage_metadata or usage
                finish = str(chunk.response_metadata.get("finish_reason", finish) or finish)
                if chunk.text and "\n" in chunk.text and loops("".join(pieces)):
                    finish = "loop"
                    break
        reply = "".join(pieces)
        if fence is not None and fence.closes(reply):
            finish = "stop"
        self._count(stage, prompt, reply, usage, finish, first, len(pieces), time.monotonic() - began)
        return reply, finish

    def _count(
        self,
        stage: str,
        prompt: str,
        reply: str,
        usage: Mapping[str, Any],
        finish: str,
        first: float,
        pieces: int,
        seconds: float,
    ) -> None:
        total = self.usage
        cached = int((usage.get("input_token_details") or {}).get("cache_read", 0) or 0)
        own = Usage(
            int(usage.get("input_tokens", 0)),
            cached,
            int(usage.get("output_tokens", pieces)),
            first,
            seconds,
            finish,
        )
        self.usage = Usage(
            total.prompt_tokens + own.prompt_tokens,
            total.cached_tokens + own.cached_tokens,
            total.completion_tokens + own.completion_tokens,
            total.first_token_seconds or own.first_token_seconds,
            total.seconds + own.seconds,
            own.finish_reason,
        )
        self.exchanges.append(Exchange(stage, prompt, reply, own))


def _words(messages: Sequence[Any]) -> str:
    return "\n\n".join(f"<{message.type}>\n{message.text}" for message in messages)


def loops(text: str) -> bool:
    """Whether the last lines of a text have been said many times in a row."""
    lines = [line for line in text.split("\n")[:-1] if line.strip()]
    return any(_ends_in(lines, size, _LOOPS) for size in range(1, _LOOP_LINES + 1))


def _ends_in(lines: list[str], size: int, times: int) -> bool:
    """Whether the last `size` lines come so many times in a row."""
    return len(lines) >= size and lines[-size * times :] == lines[-size:] * times


def goes_on_inventing(text: str) -> bool:
    """Whether the last lines of new code are one definition after the other of the same shape, and many.

    What small models do that were asked for one function: routes, handlers, getters without end, under other names.
    """
    lines = [line for line in text.split("\n")[:-1] if line.strip()][-_SERIES_LINES * _SERIES :]
    shapes = [re.sub(r"\w+", "w", _STRING.sub("s", line)) for line in lines]
    for size in range(2, _SERIES_LINES + 1):
        if _ends_in(shapes, size, _SERIES):
            return _DEFINES.search("\n".join(lines[-size:])) is not None
    return False
