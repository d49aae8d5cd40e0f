"""Composes the stages of indexing, the only writer: tree -> ledger (text, keywords, vectors) -> Chroma."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from indexers import made_by, unused
from indexers.children import is_alone
from indexers.claim import READ, Claim, Embedding
from indexers.config import IndexConfig
from indexers.database import damaged
from indexers.errors import IndexDamaged, IndexStateError
from indexers.facts import FACTS_VERSION
from indexers.files import stat_file
from indexers.git import Repository
from indexers.haste import FILES_AT_ONCE, Haste, likeliest_first
from indexers.ledger import Ledger
from indexers.locks import DEFAULT_WAIT_SECONDS, locked
from indexers.patience import Patience
from indexers.pool import Pool, WorkersLost
from indexers.reading import NO_STAT, Job, Reading, embed_text, read_file
from indexers.rescue import sync_apart, sync_from_ledger
from indexers.specials import special_files
from indexers.store import VectorStore
from indexers.stored import ManifestEntry, NewFile, StoredChunk, StoredFacts
from indexers.types import Changes, FileStat, IndexReport, Progress, Skipped, SkipReason, TrackedFile
from indexers.worker import SECONDS

if TYPE_CHECKING:
    from indexers.embedding import Embedder

OnProgress = Callable[[Progress], None]

# A file whose mtime is this close to the moment we read it may change again within the same tick.
_RACY_NS = 2_000_000_000
# Files in one transaction: few enough that Ctrl-C loses little, enough that commits cost little.
_FILES_PER_COMMIT = 64
_EMBED_BATCH = 256
# About a second's work: whoever may be asked to stop looks up after each.
_STOPPABLE_BATCH = 48
_MOST_PASSES = 4
# From this much text on, starting workers costs less than they save; where they are forks, from a fifth of it.
_BYTES_FOR_WORKERS = 1_000_000
_SHARE_FOR_FORKS = 5
# Chroma is written by a process of its own; off only in tests, most of which are not about that and have many to make.
APART = True
# A worker that reads what was left holds the lock for so long, and lets go of it for so long.
_SECONDS_AT_A_TIME = 1.0
_SECONDS_FOR_OTHERS = 0.2
# Remembered while files are read.
_READING = "reading"


def _racy(stat: FileStat, checked_ns: int) -> bool:
    """Whether the file may have been written again in the same tick of the clock as we looked at it.

    Its time of change counts too: a file's own time can be set to any value. One in the future says nothing.
    """
    if stat == NO_STAT:
        return False
    return stat.ctime_ns + _RACY_NS >= checked_ns or abs(stat.mtime_ns - checked_ns) <= _RACY_NS


def _job(file: TrackedFile, known: ManifestEntry | None) -> Job:
    return Job(file, known.blob if known is not None and not known.skip else "")


@dataclass(slots=True)
class _Tally:
    indexed: int = 0
    kept: int = 0
    removed: int = 0
    chunks: int = 0
    embedded: int = 0
    interrupted: bool = False
    read: int = 0
    left: int = 0
    notes: list[str] = field(default_factory=list)


class Builder:
    """Brings one repository's index up to date; each step commits, so an interrupted run keeps its work."""

    def __init__(
        self,
        repository: Repository,
        ledger: Ledger,
        config: IndexConfig,
        directory: Path,
        *,
        on_progress: OnProgress | None = None,
        wait_seconds: float = DEFAULT_WAIT_SECONDS,
    ) -> None:
        self.repository = repository
        self.ledger = ledger
        self.config = config
        self.store = VectorStore(directory / "chroma")
        self.lock = directory / "index.lock"
        self.claim = Claim(ledger.vectors_path)
        self.reading = Claim(ledger.path, READ)
        self._patience = Patience(SECONDS)
        self._progress = on_progress or (lambda _: None)
        self._wait = wait_seconds

    # -- text and keywords -----------------------------------------------------------------------

    def refresh(self, haste: Haste | None = None) -> IndexReport:
        """Bring text and keywords up to date with the work tree: milliseconds when nothing changed.

        :param haste: somebody waits: of files never read, what has to do with their query is read first, and what is
            `left` when their patience is at its end is told. Nothing that is stored is ever out of date.
        :raises BusyError: another process is writing for longer than we may wait.
        """
        started = time.monotonic()
        tally = _Tally()
        manifest = self.ledger.manifest()
        current = self.ledger.meta("config") == self.config.fingerprint()
        worker = haste is not None and haste.is_worker
        # Nobody is answered from what a worker reads: whoever is looks again.
        changes = self.plan(manifest if current else {}, trust_stat=worker)
        if not current or changes.added or changes.changed or changes.removed:
            with locked(self.lock, self._wait):
                # Another process may have done the work while we waited for the lock.
                alone = self.ledger.manifest() is manifest
                current = self.ledger.meta("config") == self.config.fingerprint()
                if not current and worker:
                    # Whoever chose other settings since it was started reads by those.
                    return IndexReport(interrupted=True)
                if not current:
                    with self.ledger.transaction():
                        self.ledger.clear()
                        self.ledger.set_meta("config", self.config.fingerprint())
                        self.ledger.bump_generation()
                manifest = self.ledger.manifest()
                if not alone:
                    changes = self.plan(manifest, trust_stat=worker)
                self._apply(changes, manifest, tally, haste)
                if not manifest and not tally.left:
                    self._put_specials(self._specials())
                self._stamp()
        tally.kept += changes.kept
        counts = self.ledger.counts("")
        return IndexReport(
            indexed=tally.indexed,
            kept=tally.kept,
            removed=tally.removed,
            skipped=self.ledger.skipped(),
            chunks=counts.chunks,
            redactions=self.ledger.redactions(),
            seconds=time.monotonic() - started,
            interrupted=tally.interrupted,
            notes=tuple(tally.notes),
            read=tally.read,
            left=tally.left,
        )

    def read_rest(self, stop: Callable[[], bool], rest: Callable[[], bool] | None = None) -> int:
        """Read what was left in somebody's haste, a little at a time, so that others get at the index in between.

        :param stop: asked after every few files whether to stop.
        :param rest: asked in between, when nothing is held; it may wait, and says False to stop.
        :returns: how many files were read, those left out included.
        """
        done = 0
        while not stop() and (rest is None or rest()):
            report = self.refresh(Haste(_SECONDS_AT_A_TIME, stop=stop))
            done += report.read
            self.reading.tell(done, done + report.left)
            if report.interrupted:
                break
            if not report.left:
                if done:
                    found = self._specials()
                    with locked(self.lock, self._wait):
                        self._put_specials(found)
                break
            time.sleep(_SECONDS_FOR_OTHERS)
        return done

    def _specials(self) -> list[str]:
        """What git does not list. Looked for on a tree never seen, and when an index is asked for: it takes a walk."""
        return special_files(self.repository) if self.config.include_untracked else []

    def _put_specials(self, found: Sequence[str]) -> None:
        with self.ledger.transaction():
            self.ledger.put_specials(found)

    def _stamp(self) -> None:
        """Remember when the index was last made to match the tree, and at which commit."""
        with self.ledger.transaction():
            self.ledger.set_meta("indexed_at", str(int(time.time())))
            self.ledger.set_meta("head", self.repository.head() or "")
            unused.register(self.ledger, self.repository.root)

    def plan(self, manifest: Mapping[str, ManifestEntry], *, trust_stat: bool = False) -> Changes:
        """Compare the work tree with the manifest by file stat alone; nothing is read.

        A stat taken within the clock's grain of the file's own time counts as changed: the file may have been
        written again in the same tick (git calls such entries racy). With `trust_stat`
        those pass, which is enough for a glance.
        """
        files = self.repository.list_files(untracked=self.config.include_untracked)
        root = str(self.repository.root)
        added: list[TrackedFile] = []
        changed: list[TrackedFile] = []
        kept = known = 0
        for file in files:
            entry = manifest.get(file.path)
            if entry is None:
                added.append(file)
                continue
            known += 1
            stat = stat_file(root, file.path) or NO_STAT
            if stat != entry.stat or (not trust_stat and _racy(stat, entry.checked_ns)):
                changed.append(file)
            elif not entry.skip:
                kept += 1
        removed: tuple[str, ...] = ()
        if known < len(manifest):
            listed = {file.path for file in files}
            removed = tuple(path for path in manifest if path not in listed)
        return Changes(tuple(added), tuple(changed), removed, kept)

    def _apply(
        self, changes: Changes, manifest: Mapping[str, ManifestEntry], tally: _Tally, haste: Haste | None
    ) -> None:
        if changes.removed:
            with self.ledger.transaction():
                self.ledger.remove(changes.removed)
                self.ledger.bump_generation()
            tally.removed = len(changes.removed)
        added: Sequence[TrackedFile] = changes.added
        if haste is not None:
            added = likeliest_first(self.repository.root, added, self.config, haste)
        # What is stored and out of date goes first: it must not be answered from.
        work = [*changes.changed, *added]
        if not work:
            return
        known = [manifest.get(file.path) for file in work]
        jobs = [_job(file, entry) for file, entry in zip(work, known, strict=True)]
        breaks = any(entry is not None and entry.skip == SkipReason.BREAKS.value for entry in known)
        key = self.redaction_key()
        at_once = FILES_AT_ONCE if haste is not None and not haste.is_worker else _FILES_PER_COMMIT
        committed, done = replace(tally), 0
        began = time.monotonic()
        try:
            with (
                self._noted_down() as died_before,
                closing(self._readings(jobs, key, died_before or breaks)) as readings,
            ):
                for start in range(0, len(work), at_once):
                    batch = work[start : start + at_once]
                    read = [(file, next(readings)) for file in batch]
                    with self.ledger.transaction():
                        if self._put(read, manifest, tally):
                            self.ledger.bump_generation()
                    committed = replace(tally)
                    done = start + len(batch)
                    self._progress(Progress("read", done, len(work), batch[-1].path))
                    if haste and self._is_enough(haste, done - len(changes.changed), len(work) - done, began):
                        break
        except KeyboardInterrupt:
            # The batch in the making was rolled back, so it does not count.
            tally.indexed, tally.kept, tally.chunks = committed.indexed, committed.kept, committed.chunks
            tally.interrupted = True
        tally.read, tally.left = done, len(work) - done

    @staticmethod
    def _is_enough(haste: Haste, new: int, left: int, began: float) -> bool:
        """Whether to stop here; never before all that is out of date was read, where somebody is to be answered."""
        return (haste.is_worker or new >= 0) and haste.is_over(new, left, began)

    @contextmanager
    def _noted_down(self) -> Iterator[bool]:
        """Note that files are being read; tells whether a run before us noted it and did not live to take it back.

        Some grammars crash or loop on some text, and would end us each time: then workers have to read.
        """
        before = self.ledger.meta(_READING)
        with self.ledger.transaction():
            self.ledger.set_meta(_READING, "1")
        try:
            yield bool(before)
        finally:
            with self.ledger.transaction():
                self.ledger.set_meta(_READING, "")

    def _readings(self, jobs: Sequence[Job], key: bytes, isolated: bool) -> Generator[Reading, None, None]:
        """What came of each file, in order: read by workers when there is much to do, else by ourselves."""
        done = 0
        if isolated or self._is_much(jobs):
            try:
                with Pool(self.repository.root, self.config, key, patience=self._patience) as pool:
                    for reading in pool.read(jobs):
                        done += 1
                        yield reading
            except WorkersLost:
                pass  # then by ourselves, which is slower and as safe as most programs
        for job in jobs[done:]:
            yield read_file(self.repository.root, job, self.config, key)

    def _is_much(self, jobs: Sequence[Job]) -> bool:
        found = (stat_file(self.repository.root, job.file.path) for job in jobs)
        sizes = (stat.size for stat in found if stat and stat.size <= self.config.max_file_bytes)
        least = _BYTES_FOR_WORKERS // _SHARE_FOR_FORKS if is_alone() else _BYTES_FOR_WORKERS
        return any(total >= least for total in accumulate(sizes))

    def _put(
        self,
        batch: Sequence[tuple[TrackedFile, Reading]],
        manifest: Mapping[str, ManifestEntry],
        tally: _Tally,
    ) -> bool:
        """Store what came of some files; false when the content of all turned out to be the same."""
        new: list[NewFile] = []
        dirty = False
        for file, read in batch:
            known = manifest.get(file.path)
            if read.reason:
                item = Skipped(file.path, SkipReason(read.reason), read.detail)
                self.ledger.put_skipped(item, read.stat, read.checked_ns)
                dirty |= known is None or (known.skip, known.detail) != (read.reason, read.detail)
            elif read.chunks is None:
                assert known is not None
                self.ledger.touch(known.id, read.stat, read.checked_ns)
                tally.kept += 1
            else:
                made = (read.chunks, read.redactions, read.words)
                new.append(NewFile(file.path, read.blob, read.language, read.stat, read.checked_ns, *made))
                tally.indexed += 1
                tally.chunks += len(read.chunks)
        if new:
            self.ledger.put_files(new)
        return dirty or bool(new)

    def redaction_key(self) -> bytes:
        """A random key of this index: equal secrets get equal placeholders, and no table can reverse them.

        :raises IndexDamaged: what is stored is none.
        """
        stored = self.ledger.meta("redaction_key")
        if stored:
            try:
                return bytes.fromhex(stored)
            except ValueError as error:
                raise damaged(self.ledger.path, "the key of its marks for secrets is no number") from error
        key = secrets.token_bytes(32)
        with self.ledger.transaction():
            self.ledger.set_meta("redaction_key", key.hex())
        return key

    def keep_facts(self, facts: Sequence[StoredFacts]) -> None:
        """Store what the symbol graph has read of some files.

        :raises BusyError: another process is writing; facts are a cache and not worth waiting for.
        """
        with locked(self.lock, 0), self.ledger.transaction():
            self.ledger.put_facts(FACTS_VERSION, facts)

    # -- vectors ---------------------------------------------------------------------------------

    def embed(
        self,
        embedder: Embedder,
        chunks: Iterable[StoredChunk] | None = None,
        seconds: float | None = None,
        stop: Callable[[], bool] | None = None,
        first: Container[int] = (),
    ) -> int:
        """Embed what has no vector yet (or the given chunks of it) and store it as it comes.

        The lock is held only while a batch is written, so that searches go on beside a long run.
        :param seconds: stop after the batch during which this much time has passed.
        :param stop: asked before each batch whether to stop.
        :param first: the row ids of chunks to begin with: somebody has just looked for them.
        :returns: how many vectors were made.
        """
        fingerprint = embedder.fingerprint()
        todo = list(self.ledger.pending(fingerprint) if chunks is None else chunks)
        done, started = 0, time.monotonic()
        size = 16 if seconds is not None else _EMBED_BATCH if stop is None else _STOPPABLE_BATCH
        # Long texts last: batches of like length waste no padding, and the rate shown is honest early.
        todo.sort(key=lambda stored: (stored.id not in first, len(stored.chunk.text)))
        for start in range(0, len(todo), size):
            if seconds is not None and time.monotonic() - started > seconds:
                break
            if stop is not None and stop():
                break
            batch = todo[start : start + size]
            if chunks is None:
                # A search beside us may have made some of them meanwhile.
                made = self.ledger.vectors_for(fingerprint, [item.vector_key for item in batch])
                batch = [item for item in batch if item.vector_key not in made]
                done += len(made)
                if not batch:
                    continue
            base = done

            def tell(inner: int, base: int = base) -> None:
                if seconds is None:
                    self._progress(Progress("embed", base + inner, len(todo)))
                    self.claim.tell(base + inner, len(todo))

            vectors = embedder.embed_documents([embed_text(item.chunk) for item in batch], tell)
            with locked(self.lock, self._wait), self.ledger.transaction():
                self.ledger.put_vectors(fingerprint, [item.vector_key for item in batch], vectors)
                self.ledger.bump_generation()
            done += len(batch)
            tell(len(batch))
        return done

    def embed_alone(self, embedder: Embedder, deadline: float | None = None) -> int:
        """Embed what lacks a vector when nobody else does so: two would make the same vectors twice.

        A worker in the background makes way for us; see `embed` for the rest.
        """

        stop = None if deadline is None else lambda: time.monotonic() >= deadline
        with self.claim.turn(self.repository.root, self._tell_of, deadline):
            return self.embed(embedder, stop=stop)

    def _embed_all(self, embedder: Embedder, deadline: float | None) -> None:
        """Embed until no vector is missing. Once is enough, but where keys are damaged: new ones then hide others.

        :raises IndexDamaged: what is missing does not become less.
        """
        fingerprint = embedder.fingerprint()
        before = 0
        for _ in range(_MOST_PASSES):
            late = deadline is not None and time.monotonic() >= deadline
            missing = self.ledger.counts(fingerprint).pending
            if late or not missing:
                break
            if missing == before:
                raise damaged(self.ledger.path, "vectors are stored and not found again")
            before = missing
            self.embed_alone(embedder, deadline)

    def wait_for_others(self, deadline: float | None = None) -> None:
        """Wait until no other process makes vectors, showing how far it is.

        :raises BusyError: the deadline (by `time.monotonic`) passed, or the other process does not get on.
        """
        self.claim.wait(self._tell_of, deadline)

    def _tell_of(self, other: Embedding) -> None:
        self._progress(Progress("embed", other.done, other.total, f"by process {other.pid}"))

    def sync_store(self, embedder: Embedder) -> bool:
        """Make Chroma hold exactly the vectors of this tree; true when it had to be rebuilt.

        :raises IndexStateError: Chroma cannot; searches do without it.
        """
        fingerprint = embedder.fingerprint()
        if self.store.holds(fingerprint, self.ledger.live_keys(fingerprint)):
            return False

        def tell(done: int, total: int) -> None:
            self._progress(Progress("store", done, total))

        # Whatever ended a process in there before must not end this one too.
        sync = sync_apart if APART or self.store.was_left_open() else sync_from_ledger
        return sync(self.ledger, self.store, fingerprint, tell)

    def run(self, embedder: Embedder | None, deadline: float | None = None) -> IndexReport:
        """Everything: text, keywords, vectors, Chroma. Ctrl-C keeps what is done; the report says so.

        :param deadline: by `time.monotonic`: no further batch of vectors is begun after it.
        :raises BusyError: another process is writing, or making vectors, and does not get on.
        """
        started = time.monotonic()
        generation = self.ledger.generation()
        report = self.refresh()
        found = self._specials()
        with locked(self.lock, self._wait):
            self._put_specials(found)
        report = replace(report, skipped=self.ledger.skipped())
        notes = list(report.notes)
        embedded, interrupted = 0, report.interrupted
        # Without an embedder no chunk has a vector that could be searched, unless none is wanted.
        pending = 0 if self.config.embedder == "none" else report.chunks
        if embedder is not None:
            before = self.ledger.counts(embedder.fingerprint()).pending
            try:
                if not interrupted:
                    with locked(self.lock, self._wait):
                        made_by.record(self.ledger, embedder)
                    self._embed_all(embedder, deadline)
                    with locked(self.lock, self._wait):
                        notes += unused.collect(self.ledger, self.lock.parent)
                    if self.sync_store(embedder):
                        notes.append("the Chroma index was rebuilt from stored vectors")
            except IndexDamaged:
                raise
            except IndexStateError as error:
                notes.append(str(error))
            except KeyboardInterrupt:
                interrupted = True
            pending = self.ledger.counts(embedder.fingerprint()).pending
            # Another process may have added chunks meanwhile.
            embedded = max(0, before - pending)
        with locked(self.lock, self._wait):
            self._stamp()
            if self.ledger.generation() != generation:
                self.ledger.checkpoint()
        return replace(
            report,
            vectors_embedded=embedded,
            vectors_pending=pending,
            interrupted=interrupted,
            notes=tuple(notes),
            seconds=time.monotonic() - started,
        )
