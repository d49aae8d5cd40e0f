"""From a question to the answer's pieces: the tree is read while the model loads, then searched, packed and asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent import trails, warming
from agent.loading import Background
from chains.engine.streams import closed_after
from chains.search.query import asks_for_code
from chains.types import Answer, Preview, Question, Retrieved, Source, Step, Turn
from indexers.errors import AgentError, UsageError
from indexers.filters import EVERYTHING, Filter

if TYPE_CHECKING:
    from agent.chosen_model import ChosenModel
    from agent.config import Settings
    from agent.workspace import Workspace
    from chains.ask import AskSettings, Prepared
    from chains.lookups import DeepSettings
    from chains.packing import ReadBefore


OnPreview = Callable[[Preview], None]

# How long a question waits for files never read, in seconds; what has to do with it is read first, and the rest behind
# it. Lookups (`deep`) go anywhere, and wait for all.
ASK_PATIENCE = 8.0


@dataclass(frozen=True, slots=True)
class _Begun:
    """A question whose tree has been read and whose model is loading; `started` is by `time.monotonic`."""

    question: Question
    loading: Background
    started: float


@dataclass(frozen=True, slots=True)
class _Previewed:
    """A preview that is over: what it said, seconds from the question to its first token, tokens read for it."""

    text: str = ""
    seconds: float = 0.0
    tokens: int = 0


def stream(
    workspace: Workspace,
    model: ChosenModel,
    question: str,
    *,
    history: Sequence[Turn] = (),
    only: Filter = EVERYTHING,
    context_tokens: int | None = None,
    max_tokens: int | None = None,
    on_preview: OnPreview | None = None,
) -> Iterator[str | Answer]:
    """Pieces of the answer as they come, then the `Answer`. Closing the iterator stops the model.

    What asks for code that is not there yet is answered with a block of it, made of what the repository has.

    :param on_preview: called with pieces of a preview, where the answer is far; see `chains.preview`. What it raises
        stops the model.
    """
    settings = _ask_settings(workspace.settings, context_tokens, max_tokens)
    # Whoever reads ahead rests from here on: loading and searching too need the cores.
    with warming.asking(workspace.directory):
        if history or not asks_for_code(question):
            yield from _streamed(workspace, model, question, history, settings, only, on_preview)
            return
        from agent import new_code

        limits = {"context_tokens": context_tokens, "max_tokens": max_tokens}
        yield from new_code.stream(workspace, model, question, only=only, **limits, fenced=True)


def _streamed(
    workspace: Workspace,
    model: ChosenModel,
    question: str,
    history: Sequence[Turn],
    settings: AskSettings,
    only: Filter,
    on_preview: OnPreview | None,
) -> Iterator[str | Answer]:
    from chains.ask import answer_stream

    prepared = _prepare(workspace, model, question, history, settings, only, ASK_PATIENCE)
    if isinstance(prepared, Answer):
        yield prepared.text
        yield replace(prepared, index=workspace.freshness())
        return
    place, shown = (
        (workspace.directory, workspace.repository.root),
        tuple(reversed(prepared.context.prompted)),
    )
    stamped = trails.indexed(workspace.ledger.manifest(), shown)
    answer: Answer | None = None
    told = _previewed(prepared, model, settings.max_tokens, on_preview) if on_preview else _Previewed()
    for item in answer_stream(prepared, model.llm, settings, model.label()):
        answer = item if isinstance(item, Answer) else None
        if isinstance(item, Answer):
            usage = replace(item.usage, preview_seconds=round(told.seconds, 3), preview_tokens=told.tokens)
            yield replace(item, preview=told.text.strip(), usage=usage, index=workspace.freshness())
        else:
            yield item
    asked_alone = not prepared.question.history and not only
    if answer is not None and answer.usage.prompt_tokens and asked_alone and _keeps(model):
        kind = trails.SHOWN if model.local.joins else trails.ASKED
        trails.save(*place, model.label(), shown, answer.citations, stamped, kind=kind)
    # Not before: the model needs every core.
    workspace.go_on_behind()


def _previewed(prepared: Prepared, model: ChosenModel, max_tokens: int, on_preview: OnPreview) -> _Previewed:
    """What was said before the answer; nothing where the answer is near, or nobody knows how near it is."""
    from chains.preview import preview

    # Servers do not say what they have read, and what is joined was chosen for being quick.
    if not model.is_local or model.local.joins or not model.local.keeps:
        return _Previewed()
    told = _Previewed()
    with closed_after(preview(prepared, model.local, max_tokens)) as pieces:
        for item in pieces:
            seconds = told.seconds or time.monotonic() - prepared.started
            told = _Previewed(told.text + item.piece, seconds, item.tokens)
            on_preview(item)
    return told


def deep(
    workspace: Workspace,
    model: ChosenModel,
    question: str,
    *,
    history: Sequence[Turn] = (),
    only: Filter = EVERYTHING,
    max_steps: int | None = None,
    context_tokens: int | None = None,
    max_tokens: int | None = None,
) -> Iterator[Step | str | Answer]:
    """Like `stream`, but the model first looks things up: each lookup as it is done, then pieces, then the answer.

    The lookups only read the index. They are bounded in number, in tokens (`context_tokens` for all results) and
    in time; then the model answers from what they found.
    """
    settings = _deep_settings(workspace.settings, max_steps, context_tokens, max_tokens)
    begun = _begin(workspace, model, question, history, only)
    if isinstance(begun, Answer):
        yield begun.text
        yield replace(begun, index=workspace.freshness())
        return
    # LangChain takes a second to import; weights load meanwhile. A server's client imports parts of the same
    # packages, and two threads that do so at once can get half a module.
    if not model.is_local:
        begun.loading.wait()
    from chains.deep import deep_ask

    begun.loading.wait()
    with workspace.guarded(), warming.asking(workspace.directory):
        search, names = workspace.search(only), workspace.names()
        items = deep_ask(
            begun.question,
            search,
            model.llm,
            settings,
            model.label(),
            relations=names,
            started=begun.started,
        )
        for item in items:
            yield replace(item, index=workspace.freshness()) if isinstance(item, Answer) else item
        workspace.go_on_behind()


def prompt(
    workspace: Workspace,
    model: ChosenModel,
    question: str,
    *,
    history: Sequence[Turn] = (),
    only: Filter = EVERYTHING,
    context_tokens: int | None = None,
    max_tokens: int | None = None,
) -> str:
    """The prompt as the model would read it, control tokens shown, without running the model."""
    if not history and asks_for_code(question):
        from agent import new_code

        return new_code.prompt(
            workspace, model, question, only=only, context_tokens=context_tokens, max_tokens=max_tokens
        )
    settings = _ask_settings(workspace.settings, context_tokens, max_tokens)
    prepared = _prepare(workspace, model, question, history, settings, only)
    if isinstance(prepared, Answer):
        raise AgentError("There is no prompt to show: no file to read.", "See why: agent index --verbose")
    return model.llm.prompt_text(list(prepared.messages))


def _prepare(
    workspace: Workspace,
    model: ChosenModel,
    question: str,
    history: Sequence[Turn],
    settings: AskSettings,
    only: Filter,
    patience: float | None = None,
) -> Prepared | Answer:
    """What the model is to read; or the answer itself, where there is not one file to read."""
    from chains.ask import prepare, retrieval_query
    from chains.search.reading import read_for

    begun = _begin(workspace, model, question, history, only, patience)
    if isinstance(begun, Answer):
        return begun
    query = retrieval_query(begun.question)
    with workspace.guarded():
        reading = read_for(query, workspace.search(only), workspace.names())
        if workspace.unread and not reading.relevant:
            # That there is nothing about it is said of the whole tree.
            workspace.refresh()
            reading = read_for(query, workspace.search(only), workspace.names())
    begun.loading.wait()
    retrieved = Retrieved(begun.question, query, reading.hits, reading.relevant)
    before = _read_before(workspace, model, only)
    return prepare(begun.question, retrieved, model.llm, settings, begun.started, before)


def foreseen(workspace: Workspace, model: ChosenModel, question: str) -> tuple[Source, ...]:
    """The sources that a prompt with this question would show now, in that order; none where none are relevant.

    The model must be loaded, and the tree have been read.
    """
    from chains.ask import prepare
    from chains.search.reading import read_for

    asked = Question(question)
    reading = read_for(question, workspace.search(), workspace.names())
    if not reading.relevant:
        return ()
    retrieved = Retrieved(asked, question, reading.hits)
    settings = _ask_settings(workspace.settings, None, None)
    before = replace(_read_before(workspace, model, EVERYTHING), needed_only=True)
    return tuple(reversed(prepare(asked, retrieved, model.llm, settings, 0.0, before).context.prompted))


def _read_before(workspace: Workspace, model: ChosenModel, only: Filter) -> ReadBefore:
    """What is recorded that the packer may go by; nothing with a filter, and where all is to be read anew."""
    from chains.packing import NOTHING, ReadBefore

    if only or not _keeps(model):
        return NOTHING
    where = (workspace.directory, workspace.repository.root, model.label())
    if getattr(model.llm, "sticks", False):
        return ReadBefore(trails=trails.trails(*where))
    return ReadBefore(joined=trails.to_join(*where)) if model.local.joins else NOTHING


def _keeps(model: ChosenModel) -> bool:
    """Whether what a model reads is kept for later questions."""
    return model.is_local and bool(getattr(model.llm, "kv_dir", ""))


def _begin(
    workspace: Workspace,
    model: ChosenModel,
    question: str,
    history: Sequence[Turn],
    only: Filter,
    patience: float | None = None,
) -> _Begun | Answer:
    """Read the tree while the model loads; or the answer itself, where there is not one file to read.

    :param patience: seconds after which what is left of files never read is left to a worker; None for all.
    """
    from chains.ask import nothing_to_read, retrieval_query

    if not question.strip():
        raise UsageError("The question is empty.", 'Ask something: agent ask "where are retries configured?"')
    started = time.monotonic()
    asked = Question(question.strip(), tuple(history))
    # Before a model is loaded, or even fetched, there must be something to read with it.
    known = workspace.passes_any(only, tell=False)
    query = retrieval_query(asked)
    if not known:
        workspace.refresh_for(query, patience, only)
        if not workspace.passes_any(only):
            return nothing_to_read(asked, model.label(), started)
    # The weights load while the tree is read and searched: both take about as long.
    loading = Background(model.llm.load)
    workspace.ready_embedder(download=True)
    if known:
        workspace.refresh_for(query, patience, only)
    return _Begun(asked, loading, started)


def _ask_settings(settings: Settings, context_tokens: int | None, max_tokens: int | None) -> AskSettings:
    from chains.ask import DEFAULT_CONTEXT_TOKENS, DEFAULT_MAX_TOKENS, AskSettings

    chosen = AskSettings(
        context_tokens or settings.context_tokens or DEFAULT_CONTEXT_TOKENS,
        max_tokens or settings.max_tokens or DEFAULT_MAX_TOKENS,
    )
    if chosen.context_tokens < 1 or chosen.max_tokens < 1:
        raise UsageError("Token budgets must be positive.")
    return chosen


def _deep_settings(
    settings: Settings, max_steps: int | None, context_tokens: int | None, max_tokens: int | None
) -> DeepSettings:
    from chains.lookups import DeepSettings

    given = {
        "steps": max_steps,
        "tokens": context_tokens or settings.context_tokens,
        "max_tokens": max_tokens or settings.max_tokens,
    }
    return DeepSettings(**{name: value for name, value in given.items() if value is not None})
