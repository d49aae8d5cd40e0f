"""One repository's index as every verb uses it: opened, brought up to date, searched, mended where damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from agent.config import Settings
from agent.paths import cache_dir, index_dir, secure_directory
from chains.search.query import understand
from chains.search.retrieval import Search
from indexers import made_by
from indexers.build import Builder
from indexers.database import is_sound, translated
from indexers.errors import BusyError, DownloadError, IndexDamaged, StorageError
from indexers.filters import EVERYTHING, Filter
from indexers.git import Repository
from indexers.haste import MOST_TOKENS, Haste
from indexers.index import Index
from indexers.ledger import Ledger
from indexers.locks import DEFAULT_WAIT_SECONDS, locked
from indexers.relations import Relations
from indexers.stored import StoredChunk
from indexers.types import IndexReport, Progress

if TYPE_CHECKING:
    from indexers.claim import Embedding
    from indexers.embedding import Embedder

OnProgress = Callable[[Progress], None]
_T = TypeVar("_T")

# How long a search may spend on vectors that its candidates lack, in seconds.
EMBED_WHILE_WAITING = 1.5
# And where somebody has waited for the tree to be read already, as on a repository never seen.
EMBED_AFTER_READING = 0.1
LONG_READING = 1.0
# Beyond this nobody waits for a model to load for the sake of a few vectors: words alone answer, and the worker begins
# with what was found.
LONGEST_READING = 2.0
# From so many vectors on, a worker takes long enough to be told of.
WORTH_TELLING = 200
# How long a search waits for another process that is indexing before it answers from what is there, in seconds.
WAIT_TO_REFRESH = 3.0
# And where that is a worker of ours, which lets go of it every second unless the machine is very busy.
WAIT_FOR_WORKER = 15.0
# And before it gives up storing the vectors that it made for itself.
WAIT_TO_STORE = 0.5


class Workspace:
    """A repository, its settings and its index. Notes for the person gather in `notes` until they are taken.

    :param directory: of the index; the user's cache by default.
    :param background: leave the vectors that a search finds missing to a worker process that outlives us.
    """

    def __init__(
        self,
        repository: Repository,
        settings: Settings,
        on_progress: OnProgress | None = None,
        directory: Path | None = None,
        background: bool = False,
    ) -> None:
        self.repository = repository
        self.settings = settings
        self.notes: list[str] = list(settings.warnings)
        self.progress = on_progress or (lambda _: None)
        self.directory = directory or index_dir(repository)
        self.background = background
        self.dropped: list[str] = []
        self._embedder: Embedder | None = None
        self._embedder_tried = False
        self._fresh = False
        self.unread = 0
        self._read = 0
        self._reading_seconds = 0.0
        self._index_cache: Index | None = None
        self._relations: Relations | None = None
        self.ledger = self._open_ledger()

    def close(self) -> None:
        """Release the index; safe to call twice."""
        self.ledger.close()

    def refresh_for(self, query: str, seconds: float | None, only: Filter = EVERYTHING) -> None:
        """Bring the index up to date for a query of somebody who waits.

        Files never read are read with what may match first, and after so many seconds those that are left, if any, are
        `unread`: a worker reads them when `go_on_behind` is called. Where there may be no worker, or nothing read so
        far passes the filter, all is read; without `seconds` too.
        """
        if seconds is None or not self.background:
            self.refresh()
            return
        self.refresh(Haste(seconds, _looked_for(query), only))
        if self.unread and not self.passes_any(only, tell=False):
            self.refresh()

    def refresh(self, haste: Haste | None = None) -> IndexReport | None:
        """Re-read what changed in the work tree, text and keywords only; milliseconds when nothing did.

        :param haste: of files never read some may be left `unread` then.
        None, with a note, when another process is indexing or the disk is full: what is stored is answered from.
        :raises BusyError: another process is indexing, and nothing is stored yet.
        :raises StorageError: the disk is full or fails, and nothing is stored yet.
        """
        if self.ledger.is_replaced():
            self.ledger.close()
            self.ledger = self._open_ledger()
        try:
            report = self._refreshed(haste)
        except (BusyError, StorageError) as error:
            if not self.ledger.counts("").chunks:
                raise
            self.notes.append(f"{error.message} Answered from what is indexed so far.")
            self._fresh = False
            self._remember(len(self.builder().plan(self.ledger.manifest(), trust_stat=True).added))
            return None
        self._fresh = not (report.left or report.interrupted)
        self._remember(report.left)
        self._reading_seconds = report.seconds
        if report.interrupted:
            raise KeyboardInterrupt
        self.tell_if_empty(report)
        return report

    def _refreshed(self, haste: Haste | None) -> IndexReport:
        """One refresh; where a worker is reading, which holds the index for moments at a time, we wait for our turn."""
        try:
            return self.mended(lambda: self.builder(WAIT_TO_REFRESH).refresh(haste))
        except BusyError:
            reader = self.builder().reading.holder()
            if reader is None or not reader.background:
                raise
            return self.mended(lambda: self.builder(WAIT_FOR_WORKER).refresh(haste))

    def _remember(self, unread: int) -> None:
        """Keep how much there was to answer from when the tree was last looked at."""
        counts = self.ledger.counts("")
        self.unread, self._read = unread, counts.files + counts.skipped

    def tell_if_empty(self, report: IndexReport) -> None:
        """Note why nothing is indexed, where nothing is."""
        if report.chunks or report.interrupted or report.left:
            return
        skipped = ", ".join(f"{count:,} {reason}" for reason, count in report.skipped_by_reason().items())
        files = f"every file was skipped ({skipped})" if skipped else "the repository has no files"
        self.note(f"Nothing is indexed: {files}.")

    def passes_any(self, only: Filter, *, tell: bool = True) -> bool:
        """Whether anything that is indexed passes a filter; told where it is the filter that leaves nothing."""
        with self.guarded():
            stored = self.index().counts("").chunks
            passes = bool(stored and (not only or self.index().selected(only).count))
        if tell and stored and not passes:
            self.note(f"No indexed file passes {only}")
        return passes

    def note(self, note: str) -> None:
        """Tell the person once."""
        if note and note not in self.notes:
            self.notes.append(note)

    def ready_embedder(self, *, download: bool) -> Embedder | None:
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
                self.note(
                    "searching by keywords only: the embedding model is not installed, agent models pull minilm"
                )
                return None
            try:
                directory = models.ensure_embedder(self.progress)
            except DownloadError as error:
                self.notes.append(f"searching by keywords only: {error.message}")
                return None
        self._embedder = open_embedder(self.settings.embedder, directory)
        self.note(made_by.changed(self.ledger, self._embedder))
        return self._embedder

    def fingerprint_if_known(self) -> str:
        """Whose vectors are looked at; empty without an embedder."""
        embedder = self.ready_embedder(download=False)
        return embedder.fingerprint() if embedder else ""

    def go_on_behind(self, first: Sequence[int] = ()) -> None:
        """Leave what a search found to be missing to a worker, if we may.

        Not where the embedder is another one than the vectors were made by: whoever changed it says when.
        :param first: the row ids of chunks to begin with.
        """
        embedder = self._embedder
        if not self.background:
            return
        if self.unread:
            self._read_on_behind(first)
            return
        if embedder is None:
            return
        pending = self.index().counts(embedder.fingerprint()).pending
        if not pending or made_by.changed(self.ledger, embedder):
            return
        if self.start_worker(first) and pending >= WORTH_TELLING:
            self.note(f"{pending:,} vectors are still to come; a worker makes them: agent status")

    def _read_on_behind(self, first: Sequence[int]) -> None:
        """Leave the files that a search in haste did not get to to a worker, and tell of it."""
        embedder, builder = self._embedder, self.builder()
        # Vectors are made anew by another embedder only when that is asked for.
        vectors = embedder is not None and not made_by.changed(self.ledger, embedder)
        reads = builder.reading.holder() is not None or self.start_worker(first, files=True, vectors=vectors)
        rest = "a worker reads the rest: agent status" if reads else "agent index reads the rest"
        self.note(
            f"Answered from {self._read:,} of {self._read + self.unread:,} files, those likeliest to match read first;"
            f" {rest}"
        )

    def start_worker(self, first: Sequence[int] = (), *, files: bool = False, vectors: bool = True) -> bool:
        """Start a worker for what is still to come; false when one is at work, or may not be.

        :param first: the row ids of chunks to begin with.
        :param files: read what is unread, too; then whether that is done counts.
        :param vectors: False for reading alone.
        """
        from agent import background

        return background.start(self.builder(), self.directory, first, files=files, vectors=vectors)

    def reading(self) -> Embedding | None:
        """The process that reads what was left unread, and how far it is."""
        return self.builder().reading.holder()

    def embedding(self) -> Mapping[str, object] | None:
        """The process that makes vectors now, and how far it is."""
        holder = self.builder().claim.holder()
        if holder is None:
            return None
        return {**asdict(holder), "rate": holder.rate, "seconds_left": holder.seconds_left}

    def search(self, only: Filter = EVERYTHING) -> Search:
        """What answers queries, from the index as it is; candidates without vectors are embedded meanwhile."""
        embedder = self.ready_embedder(download=False)
        if embedder is not None and self._reading_seconds > LONGEST_READING:
            counts = self.index().counts(embedder.fingerprint())
            if counts.pending == counts.chunks:
                return Search(self.index(), None, None, only=only)
        seconds = EMBED_AFTER_READING if self._reading_seconds > LONG_READING else EMBED_WHILE_WAITING

        def embed_now(chunks: Sequence[StoredChunk]) -> None:
            assert embedder is not None
            # Keywords answer when another process has the index for so long, or there is no room for vectors.
            with suppress(BusyError, StorageError), self.guarded():
                self.builder(WAIT_TO_STORE).embed(embedder, chunks, seconds)

        return Search(self.index(), embedder, embed_now, only=only)

    def index(self) -> Index:
        """The read side, kept while this ledger is open."""
        if self._index_cache is None:
            self._index_cache = Index(self.ledger, self.builder().store)
        return self._index_cache

    def names(self) -> Relations:
        """Who defines, calls and tests what; what it parses is stored, and in memory it is kept for this agent."""
        if self._relations is None:
            self._relations = Relations(self.ledger, self.builder().keep_facts, self.progress)
        return self._relations

    def builder(self, wait_seconds: float = DEFAULT_WAIT_SECONDS) -> Builder:
        """The write side; another process is waited for that long, in seconds."""
        return Builder(
            self.repository,
            self.ledger,
            self.settings.index_config(),
            self.directory,
            on_progress=self.progress,
            wait_seconds=wait_seconds,
        )

    def freshness(self) -> Mapping[str, object]:
        """What an answer says of the index that it came from."""
        counts = self.index().counts(self.fingerprint_if_known())
        return {
            "generation": self.ledger.generation(),
            "head": self.repository.head(),
            "files": counts.files,
            "chunks": counts.chunks,
            "vectors_pending": counts.pending,
            "files_pending": self.unread,
            "fresh": self._fresh,
        }

    def _open_ledger(self) -> Ledger:
        self._index_cache = None
        self._relations = None
        secure_directory(self.directory)
        vectors = secure_directory(cache_dir() / "vectors")
        path = self.directory / "ledger.sqlite"
        shared = vectors / f"{self.repository.family()}.sqlite"
        try:
            return Ledger(path, shared)
        except IndexDamaged as error:
            # An unreadable cache is an empty cache. Which of the two files it is, SQLite does not say; vectors cost
            # minutes, so they go only when they are it.
            self.dropped.append(f"{error.message} It was dropped and is being built anew.")
            self.note(self.dropped[-1])
            for damaged in [file for file in (path, shared) if not is_sound(file)] or [path, shared]:
                _unlink_database(damaged)
            return Ledger(path, shared)

    def reset(self) -> None:
        """Drop text and keywords, and vectors only where they are damaged."""
        builder = self.builder()
        with locked(builder.lock):
            builder.store.drop()
            damaged = [self.ledger.path]
            if not self.ledger.vectors_are_sound():
                damaged.append(self.ledger.vectors_path)
            self.ledger.close()
            for path in damaged:
                _unlink_database(path)
            self.ledger = self._open_ledger()

    def forget_damaged(self, embedder: Embedder) -> None:
        """Drop stored vectors that cannot be right, of this repository and its worktrees; they are made again."""
        from indexers.verify import unsound_vectors

        fingerprint = embedder.fingerprint()
        with self.guarded():
            keys = unsound_vectors(self.ledger, fingerprint, embedder.dimensions, unused_too=True)
            if keys:
                with self.ledger.transaction():
                    self.ledger.forget_vectors(fingerprint, keys)

    def mended(self, act: Callable[[], _T]) -> _T:
        """What `act` returns. An index that turns out to be damaged is built anew first; sound vectors stay."""
        try:
            with self.guarded():
                return act()
        except IndexDamaged as error:
            self.note(f"{error.message} It was built anew; nothing that could be read was embedded again.")
            self.reset()
        with self.guarded():
            self.builder().refresh()
            self._remember(0)
            return act()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Database errors inside become errors that a person can act on."""
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise translated(error, self.directory, self.ledger.path, self.ledger.vectors_path) from error

    def take_notes(self) -> tuple[str, ...]:
        """The notes so far, which are then told and gone."""
        notes, self.notes = tuple(self.notes), []
        return notes


def _looked_for(query: str) -> Sequence[str]:
    """The tokens of a query, of a very long one the names of code and then the longest words first."""
    asked = understand(query)
    names = [name.lower() for name in asked.names]
    return (
        [*names, *sorted(asked.tokens, key=len, reverse=True)]
        if len(asked.tokens) > MOST_TOKENS
        else asked.tokens
    )


def _unlink_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
