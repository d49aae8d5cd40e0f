"""Streams of a model that are closed whatever becomes of their reader: an open one holds the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

_Item = TypeVar("_Item")


@contextmanager
def closed_after(stream: Iterator[_Item]) -> Iterator[Iterator[_Item]]:
    """The stream, closed at the end, which stops the model.

    An interrupted reader's frame lives as long as the traceback does, and would keep the stream open with it.
    """
    try:
        yield stream
    finally:
        # A plain iterator has nothing to close.
        getattr(stream, "close", lambda: None)()


def cost_so_far(model: Any, messages: Sequence[Any], written: int) -> dict[str, Any]:
    """The usage of a stream that was closed before it told its own: tokens read and written.

    :param written: pieces that came, each of them one token.
    """
    counted = getattr(model, "prompt_tokens", None)
    tokens = len(counted(list(messages))) if counted else 0
    cost = getattr(model, "cost", {})
    known = max(0, tokens - cost["tokens_read"]) if cost else 0
    return {
        "input_tokens": tokens,
        "output_tokens": written,
        "input_token_details": {"cache_read": known},
        **cost,
    }
