"""Streams of a model that are closed whatever becomes of their reader: an open one holds the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

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
