"""Completing code at a place in a file: what the model is shown, and what of its text is taken."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from chains.prompts import prompt_text
from chains.types import Source, Usage
from chains.writing.infill import Hole, continuing_ids, end_ids, ended, infill_ids, marks_of, trimmed
from indexers.errors import UsageError

if TYPE_CHECKING:
    from chains.engines import ServerModel
    from chains.llm import LlamaCpp
    from indexers.stored import StoredChunk
    from indexers.types import Place

DEFAULT_SUFFIX_LINES = 20
# Tokens of the text before the hole, of definitions from elsewhere, and of what is written.
PREFIX_TOKENS, DEFINITION_TOKENS, DEFAULT_MAX_TOKENS = 768, 256, 128
_MOST_SUFFIX_LINES = 1_000
# Lines around the hole whose names are looked up, names looked up, definitions shown, lines of each.
_LINES_ABOVE, _LINES_BELOW, _MOST_NAMES, _MOST_SHOWN, _MOST_LINES = 24, 8, 40, 4, 12
# A name that this many places define says little about which is meant.
_MOST_PLACES = 2
_NAME = re.compile(r"[A-Za-z_]\w{2,79}")
# How the text came to be, for `Completion.method`.
INFILL, CONTINUED, ASKED = "infill", "continued", "asked"


@dataclass(frozen=True, slots=True)
class CompleteSettings:
    """Bounds: lines behind the hole that are shown; tokens of what stands before, of definitions, of the text."""

    suffix_lines: int = DEFAULT_SUFFIX_LINES
    prefix_tokens: int = PREFIX_TOKENS
    definition_tokens: int = DEFINITION_TOKENS
    max_tokens: int = DEFAULT_MAX_TOKENS

    def __post_init__(self) -> None:
        if not 0 <= self.suffix_lines <= _MOST_SUFFIX_LINES:
            raise UsageError(f"The suffix may have 0 to {_MOST_SUFFIX_LINES} lines, not {self.suffix_lines}.")
        if self.prefix_tokens < 1 or self.definition_tokens < 0 or self.max_tokens < 1:
            raise UsageError("Token budgets must be positive.")


@dataclass(frozen=True, slots=True)
class Completion:
    """Text for a place in a file: `line` and `column`, both from 1; the text goes before what stands there.

    `method` is "infill" where the model knew what stands behind, "continued" where it only went on with what stands
    before, and "asked" where a server's chat model was asked for it. `sources` are definitions that it was shown.
    """

    path: str
    line: int
    column: int
    text: str
    method: str
    model: str
    sources: tuple[Source, ...] = ()
    usage: Usage = Usage()
    notes: tuple[str, ...] = ()


class Definitions(Protocol):
    """Where names are defined, and the lines there: `indexers.relations.Relations` and its ledger."""

    def definitions_of(self, name: str) -> list[Place]:
        """Every definition of a name."""


def hole_at(path: str, text: str, line: int, column: int | None = None) -> Hole:
    """The place in a file's text; without a column the end of the line.

    :raises UsageError: the file has no such line or column.
    """
    lines = text.split("\n")
    if not 1 <= line <= len(lines):
        raise UsageError(
            f"{path} has {len(lines):,} lines, and no line {line:,}.", f"{path}:{len(lines)} is its end."
        )
    row = lines[line - 1].removesuffix("\r")
    at = len(row) if column is None else column - 1
    if not 0 <= at <= len(row):
        raise UsageError(f"Line {line} of {path} has {len(row)} columns; column {column} is behind its end.")
    prefix = "\n".join([*lines[: line - 1], row[:at]])
    suffix = "\n".join([lines[line - 1][at:], *lines[line:]])
    return Hole(path, prefix.replace("\r\n", "\n"), suffix.replace("\r\n", "\n"))


def cut(hole: Hole, settings: CompleteSettings, count: Callable[[str], int]) -> Hole:
    """The hole with as many whole lines before it as fit the budget, and so many behind it."""
    lines = hole.prefix.split("\n")
    least, most = 1, len(lines)
    while least < most:  # the most lines that fit; a longer line than the budget stays whole
        middle = (least + most + 1) // 2
        if count("\n".join(lines[-middle:])) <= settings.prefix_tokens:
            least = middle
        else:
            most = middle - 1
    behind = hole.suffix.split("\n")
    # The rest of the hole's own line is shown whatever is wanted of the lines behind it.
    return Hole(hole.path, "\n".join(lines[-least:]), "\n".join(behind[: 1 + settings.suffix_lines]))


def names_in_view(hole: Hole) -> list[str]:
    """Names around the hole, the nearest before it first."""
    above = hole.prefix.split("\n")[-_LINES_ABOVE:]
    below = hole.suffix.split("\n")[:_LINES_BELOW]
    found = [name for line in reversed(above) for name in reversed(_NAME.findall(line))]
    return list(dict.fromkeys([*found, *(name for line in below for name in _NAME.findall(line))]))[
        :_MOST_NAMES
    ]


def definitions(
    hole: Hole,
    relations: Any,
    budget: int,
    count: Callable[[str], int],
) -> tuple[Source, ...]:
    """Definitions from other files of names in view, the nearest name's first, as many as fit the budget."""
    shown: list[Source] = []
    spent = 0
    for name in names_in_view(hole):
        places = [place for place in relations.definitions_of(name) if place.name.rpartition(".")[2] == name]
        if not places or len(places) > _MOST_PLACES or any(place.path == hole.path for place in places):
            continue
        source = _source(places[0], relations.ledger.chunks_of(places[0].path), count)
        if source is None or any(source.label == other.label for other in shown):
            continue
        if spent + source.tokens <= budget:
            spent += source.tokens
            shown.append(source)
        if len(shown) == _MOST_SHOWN:
            break
    return tuple(shown)


def _source(place: Place, chunks: Sequence[StoredChunk], count: Callable[[str], int]) -> Source | None:
    """The first lines of a definition, as the index holds them: secrets are out of it."""
    chunk = next((s.chunk for s in chunks if s.chunk.start_line <= place.line <= s.chunk.end_line), None)
    lines = chunk.text.split("\n") if chunk is not None else []
    if chunk is None or len(lines) != chunk.end_line - chunk.start_line + 1:
        return None
    start = max(chunk.start_line, place.start_line)
    end = min(chunk.end_line, place.end_line, start + _MOST_LINES - 1)
    text = "\n".join(lines[start - chunk.start_line : end - chunk.start_line + 1])
    return Source(place.path, start, end, text, count(text))


def fill(
    hole: Hole, model: LlamaCpp | ServerModel, settings: CompleteSettings, sources: Sequence[Source] = ()
) -> Completion:
    """The text for the hole, by whatever way the model has to fill one."""
    from chains.engines import ServerModel

    started = time.monotonic()
    before = [(source.path, source.text) for source in reversed(sources)]
    if isinstance(model, ServerModel):
        found = _by_server(hole, model, settings, before)
    else:
        found = _here(hole, model, settings, before)
    usage = replace(found.usage, seconds=round(time.monotonic() - started, 3))
    return replace(found, sources=tuple(sources), usage=usage)


# -- a model in this process -----------------------------------------------------------------------


def _here(
    hole: Hole, model: LlamaCpp, settings: CompleteSettings, before: Sequence[tuple[str, str]]
) -> Completion:
    vocabulary = model.vocabulary
    marks = marks_of(model.info, vocabulary)
    notes: tuple[str, ...] = ()
    if marks is None:
        ids = continuing_ids(vocabulary, hole, before)
        notes = (f"{model.info.label} was not trained to fill holes: it goes on with what stands before.",)
    else:
        ids = infill_ids(marks, vocabulary, hole, before)
    text, usage = _read(model.go_on(ids, end_ids(vocabulary), max_tokens=settings.max_tokens), hole)
    taken = trimmed(text, hole, complete=usage.finish_reason != "length")
    return _completion(hole, taken, INFILL if marks else CONTINUED, model.label, usage, notes)


def _read(chunks: Iterator[Any], hole: Hole) -> tuple[str, Usage]:
    """The text up to where it is of no use any more, and what it cost."""
    started, first, text, usage = time.monotonic(), 0.0, "", Usage()
    count = 0
    for chunk in chunks:
        if chunk.text:
            first = first or time.monotonic() - started
            text += chunk.text
            count += 1
        told = chunk.message.usage_metadata
        if told:
            usage = Usage(
                prompt_tokens=told["input_tokens"],
                cached_tokens=(told.get("input_token_details") or {}).get("cache_read", 0),
                completion_tokens=told["output_tokens"],
                finish_reason=str(chunk.message.response_metadata.get("finish_reason", "")),
            )
        elif ended(text, hole):
            getattr(chunks, "close", lambda: None)()
            usage = Usage(completion_tokens=count, finish_reason="stop")
            break
    return text, replace(usage, first_token_seconds=round(first, 3))


# -- a model behind a server -----------------------------------------------------------------------


def _by_server(
    hole: Hole, model: ServerModel, settings: CompleteSettings, before: Sequence[tuple[str, str]]
) -> Completion:
    filled = model.infill(hole, before, settings.max_tokens)
    if filled is not None:
        taken = trimmed(filled.text, hole, complete=filled.finish != "length")
        usage = Usage(filled.read, 0, filled.written, 0.0, 0.0, filled.finish)
        return _completion(hole, taken, INFILL, model.label, usage)
    from langchain_core.messages import HumanMessage, SystemMessage

    parts = [f"{path}:\n{text}\n" for path, text in before]
    parts.append(
        f"{hole.path}, before the hole:\n{hole.prefix}<HOLE>\n\nbehind the hole:\n<HOLE>{hole.suffix}"
    )
    messages = [SystemMessage(prompt_text("complete")), HumanMessage("\n".join(parts))]
    answer = model.invoke(messages, max_tokens=settings.max_tokens)
    told = answer.usage_metadata
    finish = str(answer.response_metadata.get("finish_reason", ""))
    usage = Usage(told["input_tokens"], 0, told["output_tokens"], 0.0, 0.0, finish) if told else Usage()
    note = f"{model.where.host} has no infilling: its chat model was asked for the text."
    taken = trimmed(_unwrapped(str(answer.text), hole), hole, complete=finish != "length")
    return _completion(hole, taken, ASKED, model.label, usage, (note,))


def _unwrapped(text: str, hole: Hole) -> str:
    """What a chat model says, without the fence around it and without what stands before the hole already."""
    found = re.search(r"```[^\n]*\n(.*?)(?:\n?```|\Z)", text, re.DOTALL)
    bare = found[1] if found else text
    line = hole.prefix.rpartition("\n")[2]
    if line.strip() and bare.lstrip().startswith(line.strip()):
        return bare.lstrip()[len(line.strip()) :]
    return bare.removeprefix(line) if not line.strip() else bare


def _completion(
    hole: Hole, text: str, method: str, model: str, usage: Usage, notes: tuple[str, ...] = ()
) -> Completion:
    lines = hole.prefix.split("\n")
    return Completion(
        hole.path, len(lines), len(lines[-1]) + 1, text, method, model, usage=usage, notes=notes
    )
