"""The model layer of a review: asks about one hunk, checks the answer against it, and asks again whether it is true."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from chains.engine.likelihood import odds
from chains.prompts import prompt_text
from chains.review import Verdict
from chains.reviewing.answers import Answered, capped, kept, read_answer
from chains.reviewing.codec import findings_from_data, findings_to_data
from chains.reviewing.context import ContextFinder
from chains.reviewing.prompt import HunkPrompt, answer_schema, claim, hunk_prompt, texts_of
from chains.reviewing.types import FileDiff, Finding, Hunk, Reason, Severity
from indexers.errors import ContextTooSmall, ModelError

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

YES, NO = ("yes", "Yes"), ("no", "No")
BELOW, UNLIKELY = "below the threshold", "in a hunk that looks fine"
# Two findings of every field at its longest.
_MAX_TOKENS = 420
_TOO_LARGE = "longer than a model can read at once"


class ReviewModel(Protocol):
    """A chat model that can be bound to a schema and asked how likely a next word is."""

    def stream(self, input: Any, **kwargs: Any) -> Iterator[Any]:
        """LangChain's."""

    def next_probabilities(
        self, messages: Sequence[BaseMessage], words: Sequence[str], cancel: threading.Event | None = None
    ) -> Mapping[str, float] | None:
        """The share of each word among all that could come next; None when cancelled."""


class Verdicts(Protocol):
    """Verdicts of earlier reviews."""

    def get(self, key: str) -> dict[str, Any] | None:
        """What was put there."""

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep it."""


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """How to read. Thresholds are probabilities from 0 to 1, None to do without that pass.

    `screen` is what a hunk must reach to be asked about at all, `verify` what a finding must reach to be told.
    `most` caps the severity of what the model finds; `context_chars` is what other code may take of a prompt. `suggest`
    asks for a line that mends a fault, which is told where it applies and parses.
    """

    screen: float | None = None
    verify: float | None = 0.5
    context_chars: int = 1_600
    suggest: bool = True
    most: Severity = Severity.MEDIUM


class ModelReader:
    """Reads hunks with a model that is loaded when the first one is not known already."""

    def __init__(
        self,
        label: str,
        identity: str,
        load: Callable[[], ReviewModel],
        context: ContextFinder,
        options: ReaderOptions,
        verdicts: Verdicts | None = None,
    ) -> None:
        """:param identity: what tells this model from any other; part of every verdict's key."""
        self.label = label
        self.threshold = options.verify
        self._identity = identity
        self._load = load
        self._model: ReviewModel | None = None
        self._context = context
        self._options = options
        self._verdicts = verdicts

    def read(self, file: FileDiff, hunk: Hunk, end: float) -> Verdict:
        """The verdict on one hunk; see `review.Reader`."""
        prompt = hunk_prompt(file, hunk, self._context.around(file, hunk))
        if prompt is None:
            return Verdict(unreviewed=Reason.TOO_LARGE, detail=_TOO_LARGE)
        key = self._key(file, prompt)
        known = self._verdicts.get(key) if self._verdicts is not None else None
        if known is not None:
            try:
                return self._told(
                    findings_from_data(known["findings"], file.path, prompt.lines), known["rejected"], True
                )
            except (KeyError, TypeError, ValueError):
                pass  # of another version, or damaged: asked anew
        with _cut_at(end) as cancel:
            try:
                return self._asked(file, prompt, key, cancel)
            except ContextTooSmall:
                return Verdict(unreviewed=Reason.TOO_LARGE, detail=_TOO_LARGE)
            except ModelError as error:
                return Verdict(unreviewed=Reason.MODEL_FAILED, detail=error.message)

    def _asked(self, file: FileDiff, prompt: HunkPrompt, key: str, cancel: threading.Event) -> Verdict:
        if self._model is None:
            self._model = self._load()
        messages = conversation(prompt, suggest=self._options.suggest)
        if self._options.screen is not None:
            likely = self._ask_yes(screen_messages(prompt), cancel)
            if cancel.is_set():
                return Verdict(unreviewed=Reason.DEADLINE)
            if likely is not None and likely < self._options.screen:
                return self._concluded(key, (), {}, prompt)
        text, finish = self._written(messages, answer_schema(prompt, suggest=self._options.suggest), cancel)
        if cancel.is_set() or finish == "cancelled":
            return Verdict(unreviewed=Reason.DEADLINE)
        answer: Answered = read_answer(text, file, prompt)
        if answer.unreviewed is not None:
            detail = "it was cut off" if finish == "length" else ""
            return Verdict(unreviewed=answer.unreviewed, detail=detail)
        found = answer.findings
        if self._options.verify is not None and found:
            checked = self._verified(messages, text, prompt, found, cancel)
            if checked is None:
                return Verdict(unreviewed=Reason.DEADLINE, detail="while its findings were checked")
            found = checked
        return self._concluded(key, found, answer.rejected or {}, prompt)

    def _verified(
        self,
        messages: Sequence[BaseMessage],
        text: str,
        prompt: HunkPrompt,
        found: tuple[Finding, ...],
        cancel: threading.Event,
    ) -> tuple[Finding, ...] | None:
        """The findings with the probability that they are true; None when the time was over."""
        from langchain_core.messages import AIMessage, HumanMessage

        seen = {real: shown for shown, real in prompt.lines.items()}
        checked: list[Finding] = []
        for item in found:
            asked = [
                *messages,
                AIMessage(text),
                HumanMessage(claim(seen[item.line], item.quote, item.message)),
            ]
            probability = self._ask_yes(asked, cancel)
            if cancel.is_set():
                return None
            checked.append(replace(item, probability=None if probability is None else round(probability, 4)))
        return tuple(checked)

    def _ask_yes(self, messages: Sequence[BaseMessage], cancel: threading.Event) -> float | None:
        assert self._model is not None
        found = self._model.next_probabilities(messages, (*YES, *NO), cancel)
        return odds(found, YES, NO) if found is not None else None

    def _written(
        self, messages: Sequence[BaseMessage], schema: dict[str, Any], cancel: threading.Event
    ) -> tuple[str, str]:
        assert self._model is not None
        pieces: list[str] = []
        finish = ""
        for chunk in self._model.stream(
            list(messages), json_schema=schema, max_tokens=_MAX_TOKENS, temperature=0.0, cancel=cancel
        ):
            pieces.append(chunk.text)
            finish = str(chunk.response_metadata.get("finish_reason", finish) or finish)
        return "".join(pieces), finish

    def _concluded(
        self, key: str, found: tuple[Finding, ...], rejected: Mapping[str, int], prompt: HunkPrompt
    ) -> Verdict:
        if self._verdicts is not None:
            data = {"findings": findings_to_data(found, prompt.lines), "rejected": dict(rejected)}
            self._verdicts.put(key, data)
        return self._told(found, rejected, False)

    def _told(self, found: tuple[Finding, ...], rejected: Mapping[str, int], cached: bool) -> Verdict:
        good, below = kept(found, self._options.verify)
        counts = {str(reason): int(count) for reason, count in rejected.items()}
        if below:
            counts[BELOW] = counts.get(BELOW, 0) + below
        return Verdict(capped(good, self._options.most), counts, cached=cached)

    def _key(self, file: FileDiff, prompt: HunkPrompt) -> str:
        options = self._options
        passes = f"{options.screen} {options.verify is not None} {options.suggest}"
        texts = texts_of(
            prompt_text("review"), _ask(options.suggest), self._identity, passes, file.path, prompt.text
        )
        return hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()


def _ask(suggest: bool) -> str:
    return prompt_text("review_ask_fix" if suggest else "review_ask")


def conversation(prompt: HunkPrompt, *, suggest: bool = False) -> list[BaseMessage]:
    """What the model is asked first. The head is the same for every hunk, and what follows begins with the hunk.

    :param suggest: for lines that mend the faults, too.
    """
    from langchain_core.messages import HumanMessage, SystemMessage

    return [SystemMessage(prompt_text("review")), HumanMessage(content=_blocks(prompt, _ask(suggest)))]


def screen_messages(prompt: HunkPrompt) -> list[BaseMessage]:
    """The short question before: the same head and hunk, so that it is read once for both."""
    from langchain_core.messages import HumanMessage, SystemMessage

    asked = _blocks(prompt, prompt_text("review_screen"))
    return [SystemMessage(prompt_text("review")), HumanMessage(content=asked)]


def _blocks(prompt: HunkPrompt, ask: str) -> list[str | dict[str, Any]]:
    """Other code by itself, so that a change made again does not read it again; the change; what is asked of it."""
    texts = (prompt.text[: prompt.around], prompt.text[prompt.around :] + "\n\n", ask)
    return [{"type": "text", "text": text} for text in texts if text]


@contextmanager
def _cut_at(end: float) -> Iterator[threading.Event]:
    """An event that is set when the time is over."""
    cancel = threading.Event()
    timer = threading.Timer(max(0.0, end - time.monotonic()), cancel.set)
    timer.daemon = True
    timer.start()
    try:
        yield cancel
    finally:
        timer.cancel()
