"""`Agent`: the verbs of the command line as a Python object, for notebooks and scripts."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from agent import upkeep
from agent.chat import Chat
from agent.chosen_model import ChosenModel
from agent.config import Settings, load_settings, silence_tracing
from agent.display import Hits
from agent.upkeep import Status
from agent.workspace import OnProgress, Workspace
from chains.search.repo_map import DEFAULT_TOKENS, RepoMap, repo_map
from chains.types import Answer, Step, Turn
from chains.writing.types import Stage
from indexers.errors import UsageError
from indexers.filters import EVERYTHING, Filter
from indexers.git import Repository
from indexers.types import Hit, IndexReport

if TYPE_CHECKING:
    from agent.asking import OnPreview
    from agent.warming import Warming
    from agent.writing import Proposal
    from chains.commit_message import CommitMessage
    from chains.completing import Completion
    from chains.engines import ServerModel
    from chains.llm import LlamaCpp
    from chains.reviewing.types import ReviewReport
    from chains.search.query import Query
    from chains.search.retriever import CodeRetriever
    from chains.writing.journal import Record
    from indexers.verify import Explanation, Verification

MAX_RESULTS = 1_000
# How long a search reads files never read before it answers from those likeliest to match, in seconds.
SEARCH_PATIENCE = 3.0


class Agent:
    """One repository, its index and a local model: open with `Agent.open(".")`, close by `with` or `close()`.

    Methods raise `AgentError` and its subclasses with a message and a remedy.
    """

    def __init__(
        self,
        repository: Repository,
        settings: Settings,
        on_progress: OnProgress | None = None,
        directory: Path | None = None,
        background: bool = False,
    ) -> None:
        silence_tracing()
        self.workspace = Workspace(repository, settings, on_progress, directory, background)
        self.model = ChosenModel(settings, self.workspace.progress)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] = ".",
        *,
        model: str | None = None,
        settings: Settings | None = None,
        on_progress: OnProgress | None = None,
        background: bool = False,
    ) -> Agent:
        """The agent of the repository that holds `path`: its top, a subdirectory or a worktree.

        :param model: a model's name or a GGUF file; otherwise settings, else the best one installed.
        :param background: leave the vectors that a search finds missing to a worker process that outlives us; the
            command line does, a library starts no processes unless told to.
        :raises RepositoryError: `path` is in no repository, or git refuses it.
        """
        repository = Repository.discover(Path(path))
        chosen = settings or load_settings(repository.root, {})
        if model is not None:
            chosen = replace(chosen, model=model)
        return cls(repository, chosen, on_progress, background=background)

    @property
    def repository(self) -> Repository:
        """The repository, through the hardened git door."""
        return self.workspace.repository

    @property
    def settings(self) -> Settings:
        """What defaults, files, environment and flags come to."""
        return self.workspace.settings

    @property
    def notes(self) -> list[str]:
        """What a person should be told, gathered since it was last taken."""
        return self.workspace.notes

    @notes.setter
    def notes(self, notes: list[str]) -> None:
        self.workspace.notes = notes

    @property
    def root(self) -> Path:
        """The top of the work tree."""
        return self.repository.root

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the index and the model; safe to call twice."""
        self.workspace.close()
        self.model.close()

    # -- index -----------------------------------------------------------------------------------

    def index(
        self, *, rebuild: bool = False, wait: bool = False, timeout: float | None = None
    ) -> IndexReport:
        """Bring everything up to date: text, keywords, vectors, Chroma. Interrupted, it keeps what is done.

        A worker in the background makes way for us.

        :param rebuild: drop the index first. Vectors are kept: they are stored by content and stay true.
        :param wait: let a worker finish instead, and then do what is left.
        :param timeout: seconds that waiting and embedding may take.
        :raises BusyError: another process did not finish in time, or vectors are still to come after `timeout`.
        """
        return upkeep.index(self.workspace, rebuild=rebuild, wait=wait, timeout=timeout)

    def index_in_background(self) -> IndexReport:
        """Bring text and keywords up to date, and leave the vectors to a worker process."""
        return upkeep.index_in_background(self.workspace)

    def stop_background(self, seconds: float = 30.0) -> bool:
        """Ask a worker in the background to stop after the batch in hand, and wait for it; false when there is none.

        :raises BusyError: it did not stop in time, or it is no worker that makes vectors.
        """
        return upkeep.stop_background(self.workspace, seconds)

    def warm(
        self,
        paths: Sequence[str] = (),
        *,
        seconds: float | None = 600.0,
        bytes: int | None = None,
        wait: bool = False,
        on_battery: bool = False,
    ) -> Warming:
        """Read ahead what is likeliest to be asked: the head of prompts, and sources as far as that is lossless.

        A worker in the background does it, unless `wait`: then we do, and a worker makes way.

        :param paths: patterns as in a .gitignore, relative to the top of the repository; none for all files.
        :param seconds: of reading, after which it stops by itself, as after `bytes` of states; None for no limit.
        :param on_battery: also where this machine runs on its battery; with `wait` it always does.
        :raises BusyError: `wait`, and another process is at it.
        """
        from agent import warming

        budget = warming.Budget(seconds, bytes)
        only = Filter(paths=paths)
        return warming.warm(self.workspace, self.model, budget, only, wait=wait, on_battery=on_battery)

    def warm_follow_ups(self) -> bool:
        """Leave what is likely to be asked after the last answer to a worker; whether one was started.

        Within the setting `follow_up_seconds` (none unless set), never on a battery, and never where no worker may be
        started (`background`).
        """
        from agent import warming

        return warming.follow(self.workspace, self.model)

    def stop_warming(self, seconds: float = 60.0) -> bool:
        """Ask a worker that reads ahead to stop after the batch in hand, and wait for it; false when there is none.

        :raises BusyError: it did not stop in time.
        """
        from agent import warming

        return warming.stop(self.workspace, seconds)

    def refresh(self) -> IndexReport | None:
        """Re-read what changed in the work tree, text and keywords only; milliseconds when nothing did.

        None, with a note, when another process is indexing or the disk is full: what is stored is answered from.
        :raises BusyError: another process is indexing, and nothing is stored yet.
        :raises StorageError: the disk is full or fails, and nothing is stored yet.
        """
        return self.workspace.refresh()

    def check(self) -> Verification:
        """Compare the index with itself, the work tree and Chroma; every file is read once, nothing is changed.

        :raises BusyError: another process has the Chroma index open.
        """
        return upkeep.check(self.workspace)

    def explain(self, paths: Sequence[str]) -> list[Explanation]:
        """Why each path is in the index, as the tree is now, or why not.

        :param paths: absolute, or relative to the current directory, or else to the top of the work tree.
        """
        return upkeep.explain(self.workspace, paths)

    def status(self) -> Status:
        """Counts and freshness, without changing anything."""
        return upkeep.status(self.workspace, self.model.label(), self.model.installed_path())

    def self_test(self) -> tuple[bool, str]:
        """Whether stored chunks are found by their own text; and a sentence saying what was tried."""
        return upkeep.self_test(self.workspace)

    # -- search ----------------------------------------------------------------------------------

    def search(self, query: str, k: int = 10, *, only: Filter = EVERYTHING) -> Hits:
        """The `k` best places for a query in words or an identifier, from the tree as it is now.

        :param only: the files to look in: `Filter(paths=["src/**"], languages=["python"], tests=False)`.
        """
        if not query.strip():
            raise UsageError("The query is empty.", 'Say what to look for: agent search "retry back-off"')
        if not 1 <= k <= MAX_RESULTS:
            raise UsageError(f"k must be between 1 and {MAX_RESULTS}, not {k}.")
        self.workspace.refresh_for(query, SEARCH_PATIENCE, only)
        if only:
            self.workspace.passes_any(only)

        def found() -> Hits:
            search = self.workspace.search(only)
            ranked = search.hits(query, k)
            if not ranked and self.workspace.unread:
                # Nothing found is said of the whole tree.
                self.workspace.refresh()
                search = self.workspace.search(only)
                ranked = search.hits(query, k)
            absent = () if self.workspace.unread else search.absent(query)
            hits = Hits(ranked, query, absent)
            self.workspace.go_on_behind([hit.chunk_id for hit in hits])
            return hits

        return self.workspace.mended(found)

    def understood(self, query: str) -> Query:
        """How a query is read: its kind, the names of code in it, and the tokens that are looked up."""
        with self.workspace.guarded():
            return self.workspace.search().searched(query)

    def retriever(self, k: int = 10, *, only: Filter = EVERYTHING) -> CodeRetriever:
        """The search as a LangChain retriever, to be joined with `|`."""
        from chains.search.retriever import CodeRetriever

        return CodeRetriever(search=self.search, k=k, only=only)

    def map(
        self, tokens: int = DEFAULT_TOKENS, *, focus: str | Sequence[str] = (), only: Filter = EVERYTHING
    ) -> RepoMap:
        """The most important definitions as an outline of at most so many tokens, the same while the tree is.

        :param tokens: counted as about four characters each, whatever model is in use: no model is loaded for it.
        :param focus: paths, directories or names that importance is seen from.
        :param only: the files to show; all of them count.
        """
        self.refresh()
        if only:
            self.workspace.passes_any(only)
        with self.workspace.guarded():
            words = [focus] if isinstance(focus, str) else focus
            return repo_map(self.workspace.names(), tokens, focus=words, only=only)

    # -- review ----------------------------------------------------------------------------------

    def review(
        self,
        *,
        commit: str | None = None,
        range: str | None = None,
        diff: bytes | None = None,
        block_at: str | None = None,
        strict: bool = False,
        deadline: float | None = None,
        use_model: bool = True,
        model: str | None = None,
    ) -> ReviewReport:
        """A review of what is staged, or of a commit, a range `A..B`, or a unified diff.

        It runs in a process of its own, which ends with the deadline, unless this one has threads: then it runs here,
        and a step that takes long is waited for.

        :param block_at: the severity (low, medium, high, critical) from which `exit_code` is 1.
        :param strict: `exit_code` is 3 where something was not reviewed.
        :param deadline: seconds after which what is left is listed as not reviewed.
        :param use_model: False for the checks alone. A model is never fetched for a review.
        :param model: a model's name or a GGUF file; otherwise settings, else the best one installed.
        :raises UsageError: there is no such commit, or the diff is none.
        """
        from agent.guard import guarded
        from agent.review import Request, reports, seconds_allowed

        request = Request(
            commit=commit,
            range=range,
            diff=diff,
            block_at=block_at,
            strict=strict,
            deadline=deadline,
            use_model=use_model,
            model=model,
        )
        started = time.monotonic()

        def work() -> Iterator[ReviewReport]:
            return reports(self.repository, self.settings, request, started)

        return guarded(work, started=started, deadline=seconds_allowed(self.settings, request))

    # -- ask -------------------------------------------------------------------------------------

    def ask(
        self,
        question: str,
        *,
        history: Sequence[Turn] = (),
        only: Filter = EVERYTHING,
        context_tokens: int | None = None,
        max_tokens: int | None = None,
        deep: bool = False,
        max_steps: int | None = None,
    ) -> Answer:
        """A checked, cited answer from the tree as it is now, or from `only` some of its files.

        :param deep: let the model look things up before it answers, in at most `max_steps` steps; see `deep`.
        """
        limits: dict[str, Any] = {"context_tokens": context_tokens, "max_tokens": max_tokens}
        if max_steps is not None and not deep:
            raise UsageError("max_steps bounds the lookups of deep=True; without it there are none.")
        if deep:
            *_, answer = self.deep(question, history=history, only=only, max_steps=max_steps, **limits)
        else:
            *_, answer = self.stream(question, history=history, only=only, **limits)
        assert isinstance(answer, Answer)
        return answer

    def stream(
        self,
        question: str,
        *,
        history: Sequence[Turn] = (),
        only: Filter = EVERYTHING,
        context_tokens: int | None = None,
        max_tokens: int | None = None,
        on_preview: OnPreview | None = None,
    ) -> Iterator[str | Answer]:
        """Pieces of the answer as they come, then the `Answer`. Closing the iterator stops the model.

        :param on_preview: called with a piece at a time of what a local model says from the few sources that are
            quickly read, where the answer would begin much later and what was read is kept. That costs the answer some
            seconds and not one letter. What it raises stops the model.
        """
        from agent import asking

        yield from asking.stream(
            self.workspace,
            self.model,
            question,
            history=history,
            only=only,
            context_tokens=context_tokens,
            max_tokens=max_tokens,
            on_preview=on_preview,
        )

    def deep(
        self,
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
        from agent import asking

        yield from asking.deep(
            self.workspace,
            self.model,
            question,
            history=history,
            only=only,
            max_steps=max_steps,
            context_tokens=context_tokens,
            max_tokens=max_tokens,
        )

    def prompt(
        self,
        question: str,
        *,
        history: Sequence[Turn] = (),
        only: Filter = EVERYTHING,
        context_tokens: int | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """The prompt as the model would read it, control tokens shown, without running the model."""
        from agent import asking

        return asking.prompt(
            self.workspace,
            self.model,
            question,
            history=history,
            only=only,
            context_tokens=context_tokens,
            max_tokens=max_tokens,
        )

    def complete(
        self,
        path: str,
        line: int,
        column: int | None = None,
        *,
        suffix_lines: int | None = None,
        max_tokens: int | None = None,
    ) -> Completion:
        """Text for a place in a file: fill-in-the-middle where the model knows it, with definitions of names in view.

        :param path: absolute, or relative to the current directory, or else to the top of the work tree.
        :param line: from 1, as `column`; without a column the end of the line.
        :param suffix_lines: lines behind the place that the model reads.
        :raises UsageError: no such file, line or column, or a file that is never read.
        """
        from agent import completing
        from chains.completing import CompleteSettings

        given = {"suffix_lines": suffix_lines, "max_tokens": max_tokens}
        settings = CompleteSettings(**{name: value for name, value in given.items() if value is not None})
        return completing.complete(self.workspace, self.model, path, line, column, settings)

    # -- write -----------------------------------------------------------------------------------

    def write(self, request: str, *, only: Filter = EVERYTHING, **limits: Any) -> Proposal:
        """Edits that do what is asked for, drafted and checked; nothing is written until `.apply()`.

        :param only: the files that may be changed.
        :param limits: as of `writing`.
        """
        *_, proposal = self.writing(request, only=only, **limits)
        assert not isinstance(proposal, Stage)
        return proposal

    def writing(
        self,
        request: str,
        *,
        only: Filter = EVERYTHING,
        test: str | None = None,
        rounds: int | None = None,
        context_tokens: int | None = None,
        max_tokens: int | None = None,
        seconds: float | None = None,
    ) -> Iterator[Stage | Proposal]:
        """Like `write`, but each state as it ends, then the proposal. Closing the iterator stops the model.

        :param test: a command that has to pass, run in a copy of the work tree; at most `seconds` a run.
        :param rounds: drafts at most.
        """
        from agent import writing

        limits = {
            "rounds": rounds,
            "context_tokens": context_tokens,
            "max_tokens": max_tokens,
            "seconds": seconds,
        }
        settings = writing.write_settings(self.workspace, test=test, **limits)
        yield from writing.writing(self.workspace, self.model, request, settings, only=only)

    def new_code(
        self,
        request: str,
        *,
        only: Filter = EVERYTHING,
        context_tokens: int | None = None,
        max_tokens: int | None = None,
    ) -> Iterator[str | Answer]:
        """Pieces of new code made of what the repository has, then the `Answer` that cites each symbol it reuses."""
        from agent import new_code

        yield from new_code.stream(
            self.workspace,
            self.model,
            request,
            only=only,
            context_tokens=context_tokens,
            max_tokens=max_tokens,
        )

    def commit_message(self, *, context_tokens: int | None = None) -> CommitMessage:
        """The subject of a commit message for what is staged, in the style of the last commits."""
        from chains.commit_message import DEFAULT_CONTEXT_TOKENS, commit_message

        tokens = context_tokens or self.settings.context_tokens or DEFAULT_CONTEXT_TOKENS
        return replace(
            commit_message(self.repository, self.llm, context_tokens=tokens), model=self.model.label()
        )

    def undo(self) -> Record:
        """Take the last applied edit back: bytes and modes, unless its files changed since."""
        from agent import writing

        return writing.undo_last(self.repository)

    def chat(self, *, only: Filter = EVERYTHING) -> Chat:
        """A conversation that remembers its turns."""
        return Chat(self, only)

    @property
    def llm(self) -> LlamaCpp | ServerModel:
        """The model, chosen and made on first use; the first call that needs its weights loads them."""
        return self.model.llm

    def model_path(self) -> Path:
        """The GGUF file to use; the small default is downloaded when none is installed.

        :raises ModelError: the model named in the settings is not installed.
        :raises DownloadError: no model is installed and none can be fetched.
        """
        return self.model.path()


__all__ = ["Agent", "Chat", "Hit", "Status"]
