"""`Agent`: the verbs of the command line as a Python object, for notebooks and scripts."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from agent.config import Settings, load_settings, silence_tracing
from agent.display import Hits
from agent.paths import cache_dir, index_dir, secure_directory
from chains.repo_map import DEFAULT_TOKENS, RepoMap, repo_map
from chains.retrieval import Search, relevant
from chains.types import Answer, Question, Retrieved, Step, Turn
from indexers import made_by
from indexers.build import Builder
from indexers.errors import (
    AgentError,
    BusyError,
    DownloadError,
    IndexDamaged,
    ModelError,
    StorageError,
    UsageError,
)
from indexers.filters import EVERYTHING, Filter
from indexers.git import Repository
from indexers.index import Index
from indexers.ledger import Ledger, StoredChunk, is_sound, translated
from indexers.locks import DEFAULT_WAIT_SECONDS, locked
from indexers.relations import Relations
from indexers.types import Hit, IndexReport, Progress

if TYPE_CHECKING:
    from agent.models import InstalledModel
    from chains.ask import AskSettings, Prepared
    from chains.llm import LlamaCpp
    from chains.lookups import DeepSettings
    from chains.query import Query
    from chains.retriever import CodeRetriever
    from indexers.embedding import Embedder
    from indexers.verify import Explanation, Verification

OnProgress = Callable[[Progress], None]
_T = TypeVar("_T")

# How long a search may spend on vectors that its candidates lack, in seconds.
EMBED_WHILE_WAITING = 1.5
# And where somebody has waited for the tree to be read already, as on a repository never seen.
EMBED_AFTER_READING = 0.1
LONG_READING = 1.0
MAX_RESULTS = 1_000
# From so many vectors on, a worker takes long enough to be told of.
WORTH_TELLING = 200
# How long a search waits for another process that is indexing before it answers from what is there, in seconds.
WAIT_TO_REFRESH = 3.0
# And before it gives up storing the vectors that it made for itself.
WAIT_TO_STORE = 0.5


@dataclass(frozen=True, slots=True)
class Status:
    """What `agent status` shows. Sizes are bytes, `last_indexed` is seconds since 1970, 0 for never.

    `embedding` is a process that makes vectors now: pid, command, root, background, done, total, rate (a second) and
    seconds_left.
    """

    root: str
    head: str | None
    branch: str | None
    index_dir: str
    generation: int
    files: int
    skipped: int
    chunks: int
    vectors: int
    vectors_pending: int
    stale: bool
    bytes_on_disk: int
    model: str
    embedder: str
    last_indexed: int
    notes: tuple[str, ...] = ()
    embedding: Mapping[str, object] | None = None


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
        self.repository = repository
        self.settings = settings
        self.notes: list[str] = list(settings.warnings)
        self._progress = on_progress or (lambda _: None)
        self._directory = directory or index_dir(repository)
        self._background = background
        self._embedder: Embedder | None = None
        self._embedder_tried = False
        self._llm: LlamaCpp | None = None
        self._fresh = False
        self._reading_seconds = 0.0
        self._index_cache: Index | None = None
        self._relations: Relations | None = None
        self._dropped: list[str] = []
        self._ledger = self._open_ledger()

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
        self._ledger.close()
        if self._llm is not None:
            self._llm.close()
            self._llm = None

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
        deadline = None if timeout is None else time.monotonic() + timeout
        if rebuild:
            self._reset()
        embedder = self._ready_embedder(download=True)
        if rebuild and embedder is not None:
            self._forget_damaged(embedder)
        patience = DEFAULT_WAIT_SECONDS if timeout is None else min(timeout, DEFAULT_WAIT_SECONDS)
        if wait:
            self._builder().wait_for_others(deadline)
        report = self._mended(lambda: self._builder(patience).run(embedder, deadline))
        if deadline is not None and report.vectors_pending and not report.interrupted:
            raise BusyError(
                f"{report.vectors_pending:,} vectors are still to come after {timeout:.0f} s.",
                "What is done is kept. Go on: agent index --wait",
            )
        self._tell_if_empty(report)
        return replace(report, notes=(*report.notes, *self._take_notes()))

    def index_in_background(self) -> IndexReport:
        """Bring text and keywords up to date, and leave the vectors to a worker process."""
        report = self._mended(lambda: self._builder().refresh())
        embedder = self._ready_embedder(download=True)
        with self._guarded():
            pending = self._ledger.counts(embedder.fingerprint()).pending if embedder else 0
        if pending and not report.interrupted and not self._start_worker():
            self._note("no worker was started: one is at work, or memory or battery are low")
        self._tell_if_empty(report)
        return replace(report, vectors_pending=pending, notes=(*report.notes, *self._take_notes()))

    def stop_background(self, seconds: float = 30.0) -> bool:
        """Ask a worker in the background to stop after the batch in hand, and wait for it; false when there is none.

        :raises BusyError: it did not stop in time, or it is no worker that makes vectors.
        """
        claim = self._builder().claim
        holder = claim.holder()
        claim.wait(lambda _: None, time.monotonic() + seconds, stop=True)
        return holder is not None

    def refresh(self) -> IndexReport | None:
        """Re-read what changed in the work tree, text and keywords only; milliseconds when nothing did.

        None, with a note, when another process is indexing or the disk is full: what is stored is answered from.
        :raises BusyError: another process is indexing, and nothing is stored yet.
        :raises StorageError: the disk is full or fails, and nothing is stored yet.
        """
        if self._ledger.is_replaced():
            self._ledger.close()
            self._ledger = self._open_ledger()
        try:
            report = self._mended(lambda: self._builder(WAIT_TO_REFRESH).refresh())
        except (BusyError, StorageError) as error:
            if not self._ledger.counts("").chunks:
                raise
            self.notes.append(f"{error.message} Answered from what is indexed so far.")
            self._fresh = False
            return None
        self._fresh = True
        self._reading_seconds = report.seconds
        if report.interrupted:
            raise KeyboardInterrupt
        self._tell_if_empty(report)
        return report

    def check(self) -> Verification:
        """Compare the index with itself, the work tree and Chroma; every file is read once, nothing is changed.

        :raises BusyError: another process has the Chroma index open.
        """
        from indexers.verify import Fault, verify

        with self._guarded():
            found = verify(self._builder(), self._ready_embedder(download=False))
        dropped = tuple(Fault("ledger", note, "agent index") for note in self._dropped)
        self.notes = [note for note in self.notes if note not in self._dropped]
        return replace(found, faults=(*dropped, *found.faults))

    def explain(self, paths: Sequence[str]) -> list[Explanation]:
        """Why each path is in the index, as the tree is now, or why not.

        :param paths: absolute, or relative to the current directory, or else to the top of the work tree.
        """
        from indexers.verify import explain

        self.refresh()
        with self._guarded():
            return explain(self._builder(), paths)

    def status(self) -> Status:
        """Counts and freshness, without changing anything."""
        fingerprint = self._fingerprint_if_known()
        with self._guarded():
            counts = self._ledger.counts(fingerprint)
            plan = self._builder().plan(self._ledger.manifest(), trust_stat=True)
            generation = self._ledger.generation()
            last = int(self._ledger.meta("indexed_at", "0"))
        return Status(
            root=str(self.root),
            head=self.repository.head(),
            branch=self.repository.branch(),
            index_dir=str(self._directory),
            generation=generation,
            files=counts.files,
            skipped=counts.skipped,
            chunks=counts.chunks,
            vectors=counts.chunks - counts.pending,
            vectors_pending=counts.pending,
            stale=bool(plan.added or plan.removed or plan.changed),
            bytes_on_disk=_tree_size(self._directory) + _file_size(self._ledger.vectors_path),
            model=self._model_label(),
            embedder=self.settings.embedder,
            last_indexed=last,
            notes=tuple(self.notes),
            embedding=self._embedding(),
        )

    def self_test(self) -> tuple[bool, str]:
        """Whether stored chunks are found by their own text; and a sentence saying what was tried."""
        self.refresh()
        ids = self._ledger.chunk_ids()
        if not ids:
            return False, "the index is empty: run agent index"
        sample = ids[:: max(1, len(ids) // 8)][:8]
        found = 0
        for chunk_id, stored in self._ledger.chunks(sample).items():
            hits = self._search().hits(stored.chunk.text, 20)
            found += any(hit.chunk_id == chunk_id or hit.text == stored.chunk.text for hit in hits)
        # Twins (licence headers, generated stubs) may push one another out; a broken index finds nothing.
        return found >= len(
            sample
        ) * 0.75, f"{found} of {len(sample)} stored chunks are found by their own text"

    # -- search ----------------------------------------------------------------------------------

    def search(self, query: str, k: int = 10, *, only: Filter = EVERYTHING) -> Hits:
        """The `k` best places for a query in words or an identifier, from the tree as it is now.

        :param only: the files to look in: `Filter(paths=["src/**"], languages=["python"], tests=False)`.
        """
        if not query.strip():
            raise UsageError("The query is empty.", 'Say what to look for: agent search "retry back-off"')
        if not 1 <= k <= MAX_RESULTS:
            raise UsageError(f"k must be between 1 and {MAX_RESULTS}, not {k}.")
        self.refresh()
        if only:
            self._passes_any(only)

        def found() -> Hits:
            search = self._search(only)
            hits = Hits(search.hits(query, k), query, search.absent(query))
            self._go_on_behind()
            return hits

        return self._mended(found)

    def understood(self, query: str) -> Query:
        """How a query is read: its kind, the names of code in it, and the tokens that are looked up."""
        with self._guarded():
            return self._search().searched(query)

    def retriever(self, k: int = 10, *, only: Filter = EVERYTHING) -> CodeRetriever:
        """The search as a LangChain retriever, to be joined with `|`."""
        from chains.retriever import CodeRetriever

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
            self._passes_any(only)
        with self._guarded():
            words = [focus] if isinstance(focus, str) else focus
            return repo_map(self._names(), tokens, focus=words, only=only)

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
    ) -> Iterator[str | Answer]:
        """Pieces of the answer as they come, then the `Answer`. Closing the iterator stops the model."""
        from chains.ask import answer_stream

        settings = self._ask_settings(context_tokens, max_tokens)
        prepared = self._prepare(question, history, settings, only)
        if isinstance(prepared, Answer):
            yield prepared.text
            yield replace(prepared, index=self._freshness())
            return
        for item in answer_stream(prepared, self.llm, settings, self._model_label()):
            yield replace(item, index=self._freshness()) if isinstance(item, Answer) else item
        # Not before: the model needs every core.
        self._go_on_behind()

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
        settings = self._deep_settings(max_steps, context_tokens, max_tokens)
        begun = self._begin(question, history, only)
        if isinstance(begun, Answer):
            yield begun.text
            yield replace(begun, index=self._freshness())
            return
        # LangChain takes a second to import; the weights load meanwhile.
        from chains.deep import deep_ask

        begun.loading.wait()
        with self._guarded():
            search, label = self._search(only), self._model_label()
            for item in deep_ask(begun.question, search, self.llm, settings, label, started=begun.started):
                yield replace(item, index=self._freshness()) if isinstance(item, Answer) else item
            self._go_on_behind()

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
        settings = self._ask_settings(context_tokens, max_tokens)
        prepared = self._prepare(question, history, settings, only)
        if isinstance(prepared, Answer):
            raise AgentError("There is no prompt to show: no file to read.", "See why: agent index --verbose")
        return self.llm.prompt_text(list(prepared.messages))

    def chat(self, *, only: Filter = EVERYTHING) -> Chat:
        """A conversation that remembers its turns."""
        return Chat(self, only)

    @property
    def llm(self) -> LlamaCpp:
        """The model, chosen and made on first use; the first call that needs its weights loads them."""
        if self._llm is None:
            self._llm = self._make_llm(self.model_path())
        return self._llm

    def model_path(self) -> Path:
        """The GGUF file to use; the small default is downloaded when none is installed.

        :raises ModelError: the model named in the settings is not installed.
        :raises DownloadError: no model is installed and none can be fetched.
        """
        from agent import models

        wanted = self.settings.model
        if wanted:
            path = models.find(wanted, self._models_dirs())
        else:
            best = self._best_installed()
            path = best.path if best is not None else None
        if path is not None:
            return path
        name = wanted or models.DEFAULT_MODEL
        if not self.settings.download:
            raise ModelError(f"The model {name} is not installed.", f"Fetch it: agent models pull {name}")
        return models.pull(name, self._progress)

    # -- inside ----------------------------------------------------------------------------------

    def _prepare(
        self, question: str, history: Sequence[Turn], settings: AskSettings, only: Filter
    ) -> Prepared | Answer:
        """What the model is to read; or the answer itself, where there is not one file to read."""
        from chains.ask import HITS, prepare, retrieval_query
        from chains.expansion import expanded

        begun = self._begin(question, history, only)
        if isinstance(begun, Answer):
            return begun
        query = retrieval_query(begun.question)
        with self._guarded():
            hits = self._search(only).reading_list(query, HITS)
            about = relevant(query, hits, self._index())
            hits = expanded(query, hits, self._names(), only=only) if about else hits
        begun.loading.wait()
        retrieved = Retrieved(begun.question, query, tuple(hits), about)
        return prepare(begun.question, retrieved, self.llm, settings, begun.started)

    def _begin(self, question: str, history: Sequence[Turn], only: Filter) -> _Begun | Answer:
        """Read the tree while the model loads; or the answer itself, where there is not one file to read."""
        from chains.ask import nothing_to_read

        if not question.strip():
            raise UsageError(
                "The question is empty.", 'Ask something: agent ask "where are retries configured?"'
            )
        started = time.monotonic()
        asked = Question(question.strip(), tuple(history))
        # Before a model is loaded, or even fetched, there must be something to read with it.
        known = self._passes_any(only, tell=False)
        if not known:
            self.refresh()
            if not self._passes_any(only):
                return nothing_to_read(asked, self._model_label(), started)
        # The weights load while the tree is read and searched: both take about as long.
        loading = _Background(self.llm.load)
        self._ready_embedder(download=True)
        if known:
            self.refresh()
        return _Begun(asked, loading, started)

    def _tell_if_empty(self, report: IndexReport) -> None:
        if report.chunks or report.interrupted:
            return
        skipped = ", ".join(f"{count:,} {reason}" for reason, count in report.skipped_by_reason().items())
        files = f"every file was skipped ({skipped})" if skipped else "the repository has no files"
        self._note(f"Nothing is indexed: {files}.")

    def _passes_any(self, only: Filter, *, tell: bool = True) -> bool:
        """Whether anything that is indexed passes a filter; told where it is the filter that leaves nothing."""
        with self._guarded():
            stored = self._index().counts("").chunks
            passes = bool(stored and (not only or self._index().selected(only).count))
        if tell and stored and not passes:
            self._note(f"No indexed file passes {only}")
        return passes

    def _note(self, note: str) -> None:
        if note and note not in self.notes:
            self.notes.append(note)

    def _ask_settings(self, context_tokens: int | None, max_tokens: int | None) -> AskSettings:
        from chains.ask import DEFAULT_CONTEXT_TOKENS, DEFAULT_MAX_TOKENS, AskSettings

        chosen = AskSettings(
            context_tokens or self.settings.context_tokens or DEFAULT_CONTEXT_TOKENS,
            max_tokens or self.settings.max_tokens or DEFAULT_MAX_TOKENS,
        )
        if chosen.context_tokens < 1 or chosen.max_tokens < 1:
            raise UsageError("Token budgets must be positive.")
        return chosen

    def _deep_settings(
        self, max_steps: int | None, context_tokens: int | None, max_tokens: int | None
    ) -> DeepSettings:
        from chains.lookups import DeepSettings

        given = {
            "steps": max_steps,
            "tokens": context_tokens or self.settings.context_tokens,
            "max_tokens": max_tokens or self.settings.max_tokens,
        }
        return DeepSettings(**{name: value for name, value in given.items() if value is not None})

    def _make_llm(self, path: Path) -> LlamaCpp:
        from chains.llm import LlamaCpp

        llm = LlamaCpp(
            model_path=str(path),
            n_gpu_layers=self.settings.gpu_layers,
            n_threads=self.settings.threads,
            temperature=self.settings.temperature,
            seed=self.settings.seed,
        )
        llm.on_prefill = lambda done, total: self._progress(Progress("prefill", done, total))
        return llm

    def _model_label(self) -> str:
        from agent import models

        if self._llm is not None:
            return Path(self._llm.model_path).stem
        if self.settings.model:
            return self.settings.model
        best = self._best_installed()
        return best.name if best is not None else f"{models.DEFAULT_MODEL} (not downloaded)"

    def _best_installed(self) -> InstalledModel | None:
        from agent import models
        from agent.hardware import detect

        return models.choose_default(detect().memory_available, self._models_dirs())

    def _models_dirs(self) -> list[Path]:
        return [Path(directory) for directory in self.settings.models_dirs]

    def _ready_embedder(self, *, download: bool) -> Embedder | None:
        """The embedder, or None with a note when its weights are not here and cannot be had."""
        if self._embedder is not None or self.settings.embedder == "none":
            return self._embedder
        from agent import models
        from indexers.embedding import open_embedder

        directory = models.embedder_dir()
        if self.settings.embedder == "minilm" and not models.embedder_installed():
            if not download or self._embedder_tried:
                return None
            self._embedder_tried = True
            if not self.settings.download:
                self._note(
                    "searching by keywords only: the embedding model is not installed, agent models pull minilm"
                )
                return None
            try:
                directory = models.ensure_embedder(self._progress)
            except DownloadError as error:
                self.notes.append(f"searching by keywords only: {error.message}")
                return None
        self._embedder = open_embedder(self.settings.embedder, directory)
        self._note(made_by.changed(self._ledger, self._embedder))
        return self._embedder

    def _fingerprint_if_known(self) -> str:
        embedder = self._ready_embedder(download=False)
        return embedder.fingerprint() if embedder else ""

    def _go_on_behind(self) -> None:
        """Leave what a search found to be missing to a worker, if we may.

        Not where the embedder is another one than the vectors were made by: whoever changed it says when.
        """
        embedder = self._embedder
        if not self._background or embedder is None:
            return
        pending = self._index().counts(embedder.fingerprint()).pending
        if not pending or made_by.changed(self._ledger, embedder):
            return
        if self._start_worker() and pending >= WORTH_TELLING:
            self._note(f"{pending:,} vectors are still to come; a worker makes them: agent status")

    def _start_worker(self) -> bool:
        from agent import background

        return background.start(self._builder(), self._directory, self.settings.embedder)

    def _embedding(self) -> Mapping[str, object] | None:
        holder = self._builder().claim.holder()
        if holder is None:
            return None
        return {**asdict(holder), "rate": holder.rate, "seconds_left": holder.seconds_left}

    def _search(self, only: Filter = EVERYTHING) -> Search:
        embedder = self._ready_embedder(download=False)
        seconds = EMBED_AFTER_READING if self._reading_seconds > LONG_READING else EMBED_WHILE_WAITING

        def embed_now(chunks: Sequence[StoredChunk]) -> None:
            assert embedder is not None
            # Keywords answer when another process has the index for so long, or there is no room for vectors.
            with suppress(BusyError, StorageError), self._guarded():
                self._builder(WAIT_TO_STORE).embed(embedder, chunks, seconds)

        return Search(self._index(), embedder, embed_now, only=only)

    def _index(self) -> Index:
        if self._index_cache is None:
            self._index_cache = Index(self._ledger, self._builder().store)
        return self._index_cache

    def _names(self) -> Relations:
        """Who defines, calls and tests what; what it parses is stored, and in memory it is kept for this agent."""
        if self._relations is None:
            self._relations = Relations(self._ledger, self._builder().keep_facts, self._progress)
        return self._relations

    def _builder(self, wait_seconds: float = DEFAULT_WAIT_SECONDS) -> Builder:
        return Builder(
            self.repository,
            self._ledger,
            self.settings.index_config(),
            self._directory,
            on_progress=self._progress,
            wait_seconds=wait_seconds,
        )

    def _freshness(self) -> Mapping[str, object]:
        counts = self._index().counts(self._fingerprint_if_known())
        return {
            "generation": self._ledger.generation(),
            "head": self.repository.head(),
            "files": counts.files,
            "chunks": counts.chunks,
            "vectors_pending": counts.pending,
            "fresh": self._fresh,
        }

    def _open_ledger(self) -> Ledger:
        self._index_cache = None
        self._relations = None
        secure_directory(self._directory)
        vectors = secure_directory(cache_dir() / "vectors")
        path = self._directory / "ledger.sqlite"
        shared = vectors / f"{self.repository.family()}.sqlite"
        try:
            return Ledger(path, shared)
        except IndexDamaged as error:
            # An unreadable cache is an empty cache. Which of the two files it is, SQLite does not say; vectors cost
            # minutes, so they go only when they are it.
            self._dropped.append(f"{error.message} It was dropped and is being built anew.")
            self._note(self._dropped[-1])
            for damaged in [file for file in (path, shared) if not is_sound(file)] or [path, shared]:
                _unlink_database(damaged)
            return Ledger(path, shared)

    def _reset(self) -> None:
        builder = self._builder()
        with locked(builder.lock):
            builder.store.drop()
            damaged = [self._ledger.path]
            if not self._ledger.vectors_are_sound():
                damaged.append(self._ledger.vectors_path)
            self._ledger.close()
            for path in damaged:
                _unlink_database(path)
            self._ledger = self._open_ledger()

    def _forget_damaged(self, embedder: Embedder) -> None:
        """Drop stored vectors that cannot be right, of this repository and its worktrees; they are made again."""
        from indexers.verify import unsound_vectors

        fingerprint = embedder.fingerprint()
        with self._guarded():
            keys = unsound_vectors(self._ledger, fingerprint, embedder.dimensions, unused_too=True)
            if keys:
                with self._ledger.transaction():
                    self._ledger.forget_vectors(fingerprint, keys)

    def _mended(self, act: Callable[[], _T]) -> _T:
        """What `act` returns. An index that turns out to be damaged is built anew first; sound vectors stay."""
        try:
            with self._guarded():
                return act()
        except IndexDamaged as error:
            self._note(f"{error.message} It was built anew; nothing that could be read was embedded again.")
            self._reset()
        with self._guarded():
            self._builder().refresh()
            return act()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translated(error, self._directory) from error

    def _take_notes(self) -> tuple[str, ...]:
        notes, self.notes = tuple(self.notes), []
        return notes


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

    def stream(self, question: str) -> Iterator[str | Answer]:
        """Pieces of the answer, then the `Answer`; only a finished turn is remembered."""
        for item in self.agent.stream(question, history=self.turns, only=self.only):
            if isinstance(item, Answer):
                self.turns.append(Turn(question, item.text))
                self.last = item
            yield item

    def reset(self) -> None:
        """Forget the turns so far."""
        self.turns.clear()
        self.last = None


class _Background:
    """One call in a thread; `wait` raises what it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._error: BaseException | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._call()
        except (AgentError, OSError, MemoryError, ValueError, RuntimeError) as error:
            self._error = error

    def wait(self) -> None:
        # In short waits, so that Ctrl-C is heard while a large model loads.
        while self._thread.is_alive():
            self._thread.join(0.1)
        if isinstance(self._error, AgentError):
            raise self._error
        if self._error is not None:
            raise ModelError(
                f"The model could not be loaded: {self._error}", "Check it: agent doctor"
            ) from self._error


@dataclass(frozen=True, slots=True)
class _Begun:
    """A question whose tree has been read and whose model is loading; `started` is by `time.monotonic`."""

    question: Question
    loading: _Background
    started: float


def _unlink_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _file_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _tree_size(directory: Path) -> int:
    return sum(entry.stat().st_size for entry in directory.rglob("*") if entry.is_file())


__all__ = ["Agent", "Chat", "Hit", "Status"]
