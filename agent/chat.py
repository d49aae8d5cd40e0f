"""A conversation in which follow-up questions lean on the turns before them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from chains.types import Answer, Turn
from indexers.filters import EVERYTHING, Filter

if TYPE_CHECKING:
    from agent.api import Agent
    from agent.asking import OnPreview


class Chat:
    """A conversation: follow-up questions are searched and answered with the turns before them in mind."""

    def __init__(self, agent: Agent, only: Filter = EVERYTHING) -> None:
        self.agent = agent
        self.only = only
        self.turns: list[Turn] = []
        self.last: Answer | None = None

    def ask(self, question: str) -> Answer:
        """The answer to the next question."""
        *_, answer = self.stream(question)
        assert isinstance(answer, Answer)
        return answer

    def stream(self, question: str, on_preview: OnPreview | None = None) -> Iterator[str | Answer]:
        """Pieces of the answer, then the `Answer`; only a finished turn is remembered."""
        for item in self.agent.stream(question, history=self.turns, only=self.only, on_preview=on_preview):
            if isinstance(item, Answer):
                self.turns.append(Turn(question, item.text, item.sources))
                self.last = item
            yield item

    def reset(self) -> None:
        """Forget the turns so far."""
        self.turns.clear()
        self.last = None
