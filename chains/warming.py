"""Prompts read before they are asked for: the head, and sources behind it in the order in which they will stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from chains.ask import is_large, messages
from chains.types import Context, Question, Source

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from chains.kv.reader import Reading

# Where no source is to be read: the head ends where one would begin.
_ANY = Source("x", 1, 1, "Source [x:1-1]:\n```\nx\n```\n", 16)


class AheadModel(Protocol):
    """What reading ahead needs of a model; `LlamaCpp` has it."""

    @property
    def written(self) -> tuple[int, str]:
        """Bytes of states written by this process, and why no more can be, if so."""

    def kept(self, messages: Sequence[BaseMessage], sources: int) -> tuple[int, int]:
        """How many tokens of a prompt's beginning are kept, and how many it has."""

    def read_ahead(
        self, messages: Sequence[BaseMessage], sources: int, stopped: Callable[[], bool]
    ) -> Reading | None:
        """Read and keep a prompt's beginning; None when stopped."""


class Patience(Protocol):
    """Whether to go on: asked before batches and within them, so it must not wait; `rest` may."""

    def __call__(self) -> bool:
        """Whether to stop, for now or for good."""

    def rest(self) -> bool:
        """Wait until it may go on; false where it is to stop for good."""

    def clock(self) -> float:
        """Seconds, without those of rest."""


@dataclass(slots=True)
class Ahead:
    """Reads beginnings of prompts, each unless it is kept already, and counts what that took.

    `read` are tokens that the model read in `seconds`; `known` are beginnings that had been kept before. `failure` says
    why something could not be kept.
    """

    model: AheadModel
    patience: Patience
    read: int = 0
    seconds: float = 0.0
    known: int = 0
    head: int = 0
    failure: str = ""

    def ahead(self, sources: Sequence[Source] = ()) -> bool:
        """Whether the head and behind it these sources, in this order, are kept now. False: stopped, or no room."""
        shown = Context(tuple(reversed(sources or (_ANY,))))
        asked = messages(Question("?"), shown, large=is_large(self.model))
        kept, whole = self.model.kept(asked, len(sources))
        self.head = self.head if sources else whole
        if kept >= whole:
            self.known += 1
            return True
        if not self._read(asked, len(sources)):
            return False
        kept, whole = self.model.kept(asked, len(sources))
        if kept < whole:
            self.failure = self.model.written[1] or "what was read is too large to be kept"
        return not self.failure

    def _read(self, asked: Sequence[BaseMessage], sources: int) -> bool:
        """Read, again from where it was stopped as long as that was not for good."""
        while True:
            if self.patience() and not self.patience.rest():
                return False
            started = self.patience.clock()
            reading = self.model.read_ahead(asked, sources, self.patience)
            self.seconds += self.patience.clock() - started
            if reading is not None:
                self.read += reading.read
                return True
