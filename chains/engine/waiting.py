"""An iterator that somebody may stop waiting for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class Waited(Generic[_T]):
    """An iterator read by a thread of its own, so that waiting for it can be given up.

    Given up, the thread ends with the next item or the end of the iterator, and drops what it has.
    """

    def __init__(self, items: Iterator[_T], given_up: Callable[[], bool], poll_seconds: float) -> None:
        self._items = items
        self._given_up = given_up
        self._poll = poll_seconds
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._left = threading.Event()

    def __iter__(self) -> Iterator[_T]:
        threading.Thread(target=self._read, daemon=True).start()
        try:
            while not self._given_up():
                try:
                    kind, value = self._queue.get(timeout=self._poll)
                except queue.Empty:
                    continue
                if kind == "end":
                    return
                if kind == "error":
                    raise value
                yield value
        finally:
            self._left.set()

    def _read(self) -> None:
        try:
            for item in self._items:
                if self._left.is_set():
                    break
                self._queue.put(("item", item))
            self._queue.put(("end", None))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._queue.put(("error", error))
        finally:
            getattr(self._items, "close", lambda: None)()
