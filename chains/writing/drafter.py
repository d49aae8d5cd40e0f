"""The code of one target: what the model is shown of it, how much it may write, and what is wrong with the writing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chains.writing.choosing import Target
from chains.writing.edits import FileState, Kind, Text
from chains.writing.policy import PolicyError
from chains.writing.prompts import Attempt, draft_messages
from chains.writing.regions import regions_of, scope_of
from chains.writing.replies import Fence, margin_of, without_margin
from chains.writing.speaking import Speaker
from chains.writing.stubs import Stub, stub_of, wants_body
from chains.writing.types import WriteSettings
from indexers.languages import language_of
from indexers.redact import redact

if TYPE_CHECKING:
    from chains.types import Source

# A rewritten place may grow by this much: its tokens again, and so many.
_GROWTH, _ROOM = 2, 400
_EMPTY = re.compile(
    r"not ?implemented|\b(?:todo|stub|empty|placeholder|abstract|raise|pass|nothing|no-?op)\b", re.IGNORECASE
)
SECRET = "it holds what looks like a secret, which is not sent to a server"
LOCAL = "Use a model in this process: --engine llama.cpp"
# From so many lines on, what is rewritten is tried as a draft of itself.
_LONG = 25


class Drafter:
    """Writes for one request.

    :param removes: something was to be removed, so that nothing may be an answer.
    :param local: the model is in this process; what looks like a secret is sent to no other.
    """

    def __init__(
        self,
        request: str,
        model: Any,
        settings: WriteSettings,
        speaker: Speaker,
        *,
        removes: bool,
        local: bool = True,
    ) -> None:
        self._request = request
        self._model = model
        self._settings = settings
        self._speaker = speaker
        self._removes = removes
        self._local = local

    def code(
        self,
        stage: str,
        target: Target,
        files: Mapping[str, FileState],
        sources: Sequence[Source],
        attempt: Attempt | None = None,
    ) -> tuple[str, list[str]]:
        """The code that the model writes for a target, and what is wrong with the writing itself."""
        if target.kind in (Kind.DELETE, Kind.RENAME):
            return "", []
        shown, scope = self._shown(files, target)
        if attempt is not None and not self._local:
            # What a linter or a test says of a file may quote it.
            attempt = replace(attempt, problems=tuple(_redacted(problem) for problem in attempt.problems))
        language = _fence_language(target.path, shown)
        if attempt is not None and stub_of(attempt.code, language):
            attempt = replace(attempt, code="")
        fence = Fence.around(shown + (attempt.code if attempt else ""), language)
        stub = self._stub(target, shown, language, attempt)
        messages = draft_messages(
            self._request, sources, target, shown, fence, scope=scope, stub=stub, attempt=attempt
        )
        limit = self._settings.max_tokens
        if target.kind is Kind.REPLACE:
            limit = min(limit, _GROWTH * self._model.count_tokens(shown) + _ROOM)
        # What is rewritten stands in the prompt: as a draft it makes the writing faster, and never another.
        long = target.region is not None and target.region.length >= _LONG and target.kind is Kind.REPLACE
        grammar = fence.grammar(stub.barred(self._request)) if stub else fence.grammar()
        reply, finish = self._speaker.say(stage, messages, grammar, limit, fence, draft=long)
        code = fence.body(reply)
        if stub and code.strip():
            code = stub.joined(code, language)
        if finish == "length":
            return code, [f"It was cut off after {limit} tokens: write less."]
        if finish == "loop":
            return code, ["It repeats the same lines over and over."]
        if not code.strip() and not self._removes:
            return "", ["Nothing was written."]
        if stub_of(code, language) and (stub or self._empties(shown, language)):
            return code, ["The body is still missing: write what the function has to do."]
        return code, []

    def _stub(self, target: Target, shown: str, language: str, attempt: Attempt | None) -> Stub | None:
        """The function to fill, where the request is about that, or where one came back as empty as it was."""
        if target.kind is not Kind.REPLACE:
            return None
        came_back = attempt is not None and not attempt.code
        return stub_of(shown, language) if came_back or wants_body(self._request) else None

    def _empties(self, shown: str, language: str) -> bool:
        """Whether an empty function would take the place of one that is not, and nobody asked for that."""
        return not self._removes and not stub_of(shown, language) and not _EMPTY.search(self._request)

    def _shown(self, files: Mapping[str, FileState], target: Target) -> tuple[str, str]:
        region = target.region
        if region is None:
            return "", ""
        text = Text.of(files[region.path].data)
        shown = text.shown(region.start_line, region.end_line)
        lines = range(region.start_line, region.end_line + 1)
        if not self._local and not secret_lines(text.text, region.path).isdisjoint(lines):
            raise PolicyError(
                f"{region.label}: {SECRET}.",
                LOCAL,
            )
        around = scope_of(regions_of(region.path, text.text, language_of(region.path, text.lines[0])), region)
        first = around.first if around else ""
        # The line that it lies in is cut off where it is long, and with it what a secret is known by.
        if around and not self._local and around.start_line in secret_lines(text.text, region.path):
            first = ""
        return without_margin(shown, margin_of(shown)), first


def secret_lines(text: str, path: str) -> frozenset[int]:
    """The lines (1-based) of a file that hold what looks like a secret."""
    marked = redact(text, os.urandom(16), path).text
    pairs = zip(text.split("\n"), marked.split("\n"), strict=True)
    return frozenset(number for number, (line, other) in enumerate(pairs, 1) if line != other)


def _redacted(text: str) -> str:
    return redact(text, os.urandom(16)).text


def _fence_language(path: str, shown: str) -> str:
    language = language_of(path, shown.split("\n", 1)[0])
    return language if language.isalnum() and language != "text" else ""
