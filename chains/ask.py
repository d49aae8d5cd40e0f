"""The question chain: retrieve -> pack -> prompt -> model -> checked answer, as LangChain Runnables."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from chains.engine.streams import closed_after, cost_so_far
from chains.kv.turns import blocks, fitting_turns, new_sources, repeated, texts_of, with_tokens
from chains.packing import NOTHING, ReadBefore, packed
from chains.parsing import check
from chains.prompts import prompt_text
from chains.search.query import STOP_WORDS
from chains.types import OVER_BUDGET, REPEATED, Answer, Context, Cost, Question, Retrieved, Turn, Usage
from indexers.errors import ContextTooSmall, UsageError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import Runnable

    from indexers.types import Hit

DEFAULT_CONTEXT_TOKENS = 1_800
DEFAULT_MAX_TOKENS = 512
# Framing that is not counted piece by piece: roles, separators, the words around the question.
_FRAMING_TOKENS = 64
# Weights from which on a model is large.
_LARGE = 1_000_000_000
_LEAST_CONTEXT = 128
# A sentence shorter than this may well be said twice.
_LEAST_REPEATED = 40
_ALLOWED_REPEATS = 1
# So many words in a row, so many times in the last characters: no prose and no code says that.
_RUN_WORDS, _CIRCLES, _LOOKED_BACK = 6, 9, 2_000
_DIGITS = re.compile(r"\d+")
_SENTENCE_ENDS = ".!?\n]"
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")
_PRONOUNS = frozenset(
    """it its that this they them those these there he she his her one ones same former latter
    also""".split()
)
_BACKTICKED = re.compile(r"`([^`\n]{3,80})`")
NOT_FOUND = "Nothing in this repository seems to be about that, so there is nothing to answer from."


class CountingModel(Protocol):
    """What the packer needs of a chat model: its tokenizer and the size of its window."""

    def count_tokens(self, text: str) -> int:
        """Tokens of repository text in the model's own vocabulary."""

    @property
    def context_window(self) -> int:
        """Tokens that prompt and answer may have together."""


@dataclass(frozen=True, slots=True)
class AskSettings:
    """Budgets in tokens: what sources may cost, and how long the answer may get."""

    context_tokens: int = DEFAULT_CONTEXT_TOKENS
    max_tokens: int = DEFAULT_MAX_TOKENS


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything before the model runs: the question, what was found, what was packed, and the messages."""

    question: Question
    retrieved: Retrieved
    context: Context
    messages: tuple[BaseMessage, ...]
    started: float


def retrieval_query(question: Question) -> str:
    """The text to search for: a follow-up that leans on what was said before takes that along."""
    words = re.findall(r"[\w']+", question.text.lower())
    content = [w for w in words if w not in STOP_WORDS and w not in _PRONOUNS]
    if not question.history or (len(content) >= 4 and not _PRONOUNS & set(words)):
        return question.text
    last = question.history[-1]
    names = list(dict.fromkeys(_BACKTICKED.findall(last.answer)))[:5]
    return " ".join((question.text, last.question, *names))


def messages(question: Question, context: Context, *, large: bool = False) -> tuple[BaseMessage, ...]:
    """System prompt, earlier turns as they were asked, then new sources and question; see `turns`.

    :param large: say at the end that every part is to be answered, and once more that statements need labels; see
        `is_large`.
    """
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

    last = prompt_text("ask_last_large" if large else "ask_last")
    found: list[BaseMessage] = [SystemMessage(prompt_text("ask"))]
    turns = repeated(question.history)
    for number, turn in enumerate(turns):
        asked = blocks(turn.question, new_sources(turn.read, turns[:number]), last)
        found += [HumanMessage(content=asked if turn.read else turn.question), AIMessage(turn.answer)]
    found.append(HumanMessage(content=blocks(question.text, new_sources(context.prompted, turns), last)))
    return tuple(found)


def is_large(model: object) -> bool:
    """Whether a model can be asked for more at the end, from a billion weights on: smaller ones go round in labels."""
    count = getattr(model, "parameter_count", 0)
    return isinstance(count, int) and count >= _LARGE


def fitting(model: CountingModel, question: Question, settings: AskSettings) -> tuple[Question, int]:
    """The question with as many of its latest turns as fit, and the tokens left for sources in this model's window.

    :raises ContextTooSmall: question, instructions and answer alone do not fit.
    """
    parts = ("ask", "ask_last_large" if is_large(model) else "ask_last")
    asked = (question.text, *map(prompt_text, parts))
    fixed = sum(map(model.count_tokens, asked)) + _FRAMING_TOKENS + settings.max_tokens
    room = model.context_window - fixed
    if room < _LEAST_CONTEXT:
        # Advice that could not help is left out: the instructions alone may be too long for a tiny window.
        possible = room + settings.max_tokens > _LEAST_CONTEXT
        smaller = "Shorten the question, lower --max-tokens, or " if possible else "Shorten the question, or "
        raise ContextTooSmall(
            f"The question and its instructions take {fixed - settings.max_tokens:,} tokens and the answer may take "
            f"{settings.max_tokens:,}, but the model's context window has {model.context_window:,}.",
            f"{smaller}choose a model with a larger context: agent models list",
        )
    # New sources come before old turns: half of the room is theirs, whatever was said before.
    spare = room - min(settings.context_tokens, max(room // 2, _LEAST_CONTEXT))

    def cost(turn: Turn) -> int:
        texts = (turn.question, turn.answer, *(source.text for source in turn.read))
        framing = _FRAMING_TOKENS if turn.read else _FRAMING_TOKENS // 4
        return sum(map(model.count_tokens, texts)) + framing

    kept = fitting_turns(question.history, spare, cost)
    room -= sum(map(cost, kept))
    return replace(question, history=kept), min(settings.context_tokens, room)


def prepare(
    question: Question,
    retrieved: Retrieved,
    model: CountingModel,
    settings: AskSettings,
    started: float,
    before: ReadBefore = NOTHING,
) -> Prepared:
    """Pack what was found into the model's budget and write the messages.

    :param before: what the model is recorded to have read; a conversation goes by its own turns instead.
    """
    question, budget = fitting(model, question, settings)
    shown = texts_of(question.history)

    def price(text: str) -> int:
        return 0 if text in shown else model.count_tokens(text)

    recorded = NOTHING if question.history else before
    context = packed(retrieved.hits, budget, price, recorded, model.context_window if recorded else 0)
    context = with_tokens(context, model.count_tokens)
    if retrieved.relevant and retrieved.hits and not context.sources:
        smallest = min(item.tokens for item in context.dropped if item.reason == OVER_BUDGET)
        raise ContextTooSmall(
            f"None of the {len(retrieved.hits)} sources found fits into {budget:,} tokens; "
            f"the smallest takes {smallest:,}.",
            f"Allow more: --context-tokens {smallest}"
            if budget == settings.context_tokens
            else "Lower --max-tokens, or choose a model with a larger context: agent models list",
        )
    return Prepared(question, retrieved, context, messages(question, context, large=is_large(model)), started)


def not_found(prepared: Prepared, model_name: str) -> Answer:
    """The answer when nothing relevant was found: said without the model, which would invent something."""
    seconds = time.monotonic() - prepared.started
    return Answer(
        text=NOT_FOUND,
        model=model_name,
        found=False,
        dropped=prepared.context.dropped,
        usage=Usage(first_token_seconds=seconds, seconds=seconds, finish_reason="not_found"),
    )


def nothing_to_read(question: Question, model_name: str, started: float) -> Answer:
    """The answer where there is no file to answer from, for which no model has to be loaded."""
    retrieved = Retrieved(question, question.text, (), relevant=False)
    return not_found(Prepared(question, retrieved, Context(()), (), started), model_name)


def answer_stream(
    prepared: Prepared, model: BaseChatModel, settings: AskSettings, model_name: str
) -> Iterator[str | Answer]:
    """Text pieces as the model writes them, then the checked answer. Closing the iterator stops the model."""
    if not prepared.retrieved.relevant or not prepared.context.sources:
        answer = not_found(prepared, model_name)
        yield answer.text
        yield answer
        return
    pieces: list[str] = []
    first = 0.0
    usage: dict[str, Any] = {}
    finish = ""
    with closed_after(model.stream(list(prepared.messages), max_tokens=settings.max_tokens)) as writing:
        for chunk in writing:
            piece = chunk.text
            if piece:
                first = first or time.monotonic() - prepared.started
                pieces.append(piece)
                yield piece
            if chunk.usage_metadata:
                usage = {**chunk.usage_metadata, **chunk.response_metadata}
            finish = str(chunk.response_metadata.get("finish_reason", finish) or finish)
            if repeats("".join(pieces)):
                finish = REPEATED
                break
    if finish == REPEATED:
        usage = usage or cost_so_far(model, prepared.messages, len(pieces))
    yield finished(prepared, "".join(pieces), usage, finish, first, model_name)


def repeats(text: str) -> bool:
    """Whether a small model goes round in circles: a sentence said before, or a run of words over and over.

    Numbers count as equal, so that an invented list which only counts up is a circle too.
    """
    words = _DIGITS.sub("0", text[-_LOOKED_BACK:]).split()
    last = words[-_RUN_WORDS:]
    if len(last) == _RUN_WORDS:
        starts = range(len(words) - _RUN_WORDS + 1)
        if sum(words[start : start + _RUN_WORDS] == last for start in starts) >= _CIRCLES:
            return True
    if text.rstrip(" ")[-1:] not in _SENTENCE_ENDS:
        return False
    said = [part.strip() for part in _SENTENCES.split(text) if len(part.strip()) >= _LEAST_REPEATED]
    return bool(said) and said.count(said[-1]) > _ALLOWED_REPEATS


def finished(
    prepared: Prepared,
    text: str,
    usage: dict[str, Any],
    finish: str,
    first_token_seconds: float,
    model_name: str,
) -> Answer:
    """Check what the model wrote against what it was shown."""
    earlier = (source for turn in prepared.question.history for source in turn.read)
    shown = tuple(dict.fromkeys((*prepared.context.sources, *earlier)))
    checked = check(text, shown, prepared.question.text)
    return Answer(
        text=text.strip(),
        citations=checked.citations,
        sources=prepared.context.sources,
        dropped=prepared.context.dropped,
        model=model_name,
        unverified=checked.unverified,
        costs=costs(prepared, usage),
        usage=Usage(
            prompt_tokens=int(usage.get("input_tokens", 0)),
            cached_tokens=int((usage.get("input_token_details") or {}).get("cache_read", 0) or 0),
            tokens_read=int(usage.get("tokens_read", 0)),
            joined_sources=int(usage.get("sources_joined", 0)),
            reading=str(usage.get("reading", "")),
            completion_tokens=int(usage.get("output_tokens", 0)),
            first_token_seconds=round(first_token_seconds, 3),
            seconds=round(time.monotonic() - prepared.started, 3),
            finish_reason=finish,
        ),
    )


def costs(prepared: Prepared, usage: dict[str, Any]) -> tuple[Cost, ...]:
    """What each source cost, in the order of the prompt; empty where the model does not say."""
    turns = repeated(prepared.question.history)
    shown = new_sources(prepared.context.prompted, turns)
    fresh = [int(count) for count in usage.get("sources_fresh") or ()]
    if len(fresh) < len(shown):
        return ()
    read = int(usage.get("tokens_read", 0))
    each = float(usage.get("prefill_seconds", 0.0)) / read if read else 0.0
    # Sources of earlier turns stand before them.
    own = fresh[len(fresh) - len(shown) :]
    return tuple(
        Cost(source.label, source.tokens, count, round(count * each, 3))
        for source, count in zip(shown, own, strict=True)
    )


def hits_of(documents: Sequence[Any]) -> tuple[Hit, ...]:
    """LangChain documents as hits; `path`, `start_line` and `end_line` must be in their metadata.

    Other retrievers know less than ours: what a document does not tell keeps its default.
    """
    from indexers.types import Hit

    found = []
    for document in documents:
        data = document.metadata
        try:
            place = (str(data["path"]), int(data["start_line"]), int(data["end_line"]))
        except KeyError as error:
            raise UsageError(f"The retriever's documents lack {error} in their metadata.") from error
        # Without scores all weigh the same: the packer must not take a late rank for a weak match.
        score = float(data.get("score", 1.0))
        found.append(
            Hit(
                *place,
                document.page_content,
                score,
                language=str(data.get("language", "")),
                scope=tuple(data.get("scope", ())),
                symbols=tuple(data.get("symbols", ())),
                signals=dict(data.get("signals", {})),
                similarity=data.get("similarity"),
                blob=str(data.get("blob", "")),
            )
        )
    return tuple(found)


def ask_chain(
    retriever: Runnable[str, Any], model: Any, settings: AskSettings | None = None
) -> Runnable[Any, Answer]:
    """A Runnable from a question (`str` or `Question`) to a checked `Answer`.

    :param retriever: anything that turns a string into documents with `path`, `start_line` and `end_line`.
    :param model: a chat model that also counts tokens, such as `LlamaCpp`.
    """
    from langchain_core.runnables import RunnableLambda

    chosen = settings or AskSettings()

    def retrieve(question: str | Question) -> Retrieved:
        asked = question if isinstance(question, Question) else Question(question)
        query = retrieval_query(asked)
        hits = hits_of(retriever.invoke(query))
        return Retrieved(asked, query, hits, relevant=bool(hits))

    def to_prompt(retrieved: Retrieved) -> Prepared:
        return prepare(retrieved.question, retrieved, model, chosen, time.monotonic())

    def generate(prepared: Prepared) -> Answer:
        *_, answer = answer_stream(
            prepared, model, chosen, getattr(model, "model_name", type(model).__name__)
        )
        assert isinstance(answer, Answer)
        return answer

    return RunnableLambda(retrieve) | RunnableLambda(to_prompt) | RunnableLambda(generate)
