"""Composes the stages of indexing, the only writer: tree -> ledger (text, keywords, vectors) -> Chroma."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from indexers.chunking import chunk_source
from indexers.config import IndexConfig
from indexers.files import read_source, stat_file
from indexers.git import Repository
from indexers.ledger import Ledger, ManifestEntry, NewChunk, StoredChunk
from indexers.locks import DEFAULT_WAIT_SECONDS, locked
from indexers.redact import redact
from indexers.store import VectorStore
from indexers.tokens import tokenize, unique
from indexers.types import Changes, Chunk, FileStat, IndexReport, Progress, Skipped, SkipReason, TrackedFile

if TYPE_CHECKING:
    from indexers.embedding import Embedder, FloatArray

OnProgress = Callable[[Progress], None]

# A file whose mtime is this close to the moment we read it may change again within the same tick.
_RACY_NS = 2_000_000_000
# Files in one transaction: few enough that Ctrl-C loses little, enough that commits cost nothing.
_FILES_PER_COMMIT = 64
_EMBED_BATCH = 256
_KEY_BYTES = 16
_NO_STAT = FileStat(0, 0, 0, 0)


def embed_text(chunk: Chunk) -> str:
    """What the embedder sees of a chunk: enclosing names, then its text.

    The path is left out on purpose: a renamed or moved file embeds nothing again.
    """
    return " > ".join(chunk.scope) + "\n" + chunk.text if chunk.scope else chunk.text


def vector_key(chunk: Chunk) -> bytes:
    """Content hash under which the chunk's vector is kept; equal text in two places shares one vector."""
    return hashlib.sha256(embed_text(chunk).encode("utf-8", "surrogatepass")).digest()[:_KEY_BYTES]


def keyword_fields(chunk: Chunk) -> NewChunk:
    """The keyword columns of a chunk: its text, the names it defines or sits in, the words of its path."""
    names = [symbol.name for symbol in chunk.symbols]
    return NewChunk(
        chunk=chunk,
        body=" ".join(tokenize(chunk.text)),
        names=" ".join(tokenize(" ".join((*chunk.scope, *names)))),
        path_words=" ".join(unique(tokenize(chunk.path.replace("/", " ")))),
        vector_key=vector_key(chunk),
    )


def _racy(stat: FileStat, checked_ns: int) -> bool:
    """Whether the file may have been written again in the same tick of the clock as we looked at it.

    Its time of change counts too: a file's own time can be set to any value. One in the future says nothing.
    """
    if stat == _NO_STAT:
        return False
    return stat.ctime_ns + _RACY_NS >= checked_ns or abs(stat.mtime_ns - checked_ns) <= _RACY_NS


@dataclass(slots=True)
class _Tally:
    indexed: int = 0
    kept: int = 0
    removed: int = 0
    chunks: int = 0
    embedded: int = 0
    interrupted: bool = False
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
        self._progress = on_progress or (lambda _: None)
        self._wait = wait_seconds

    # -- text and keywords -----------------------------------------------------------------------

    def refresh(self) -> IndexReport:
        """Bring text and keywords up to date with the work tree: milliseconds when nothing changed.

        :raises BusyError: another process is writing for longer than we may wait.
        """
        started = time.monotonic()
        tally = _Tally()
        manifest = self.ledger.manifest()
        current = self.ledger.meta("config") == self.config.fingerprint()
        changes = self.plan(manifest if current else {})
        if not current or changes.added or changes.changed or changes.removed:
            with locked(self.lock, self._wait):
                # Another process may have done the work while we waited for the lock.
                current = self.ledger.meta("config") == self.config.fingerprint()
                if not current:
                    with self.ledger.transaction():
                        self.ledger.clear()
                        self.ledger.set_meta("config", self.config.fingerprint())
                        self.ledger.bump_generation()
                manifest = self.ledger.manifest()
                changes = self.plan(manifest)
                self._apply(changes, manifest, tally)
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
        )

    def _stamp(self) -> None:
        """Remember when the index was last made to match the tree, and at which commit."""
        with self.ledger.transaction():
            self.ledger.set_meta("indexed_at", str(int(time.time())))
            self.ledger.set_meta("head", self.repository.head() or "")

    def plan(self, manifest: dict[str, ManifestEntry], *, trust_stat: bool = False) -> Changes:
        """Compare the work tree with the manifest by file stat alone; nothing is read.

        A stat taken within the clock's grain of the file's own time counts as changed: the file may have been
        written again in the same tick (git calls such entries racy). With `trust_stat`
        those pass, which is enough for a glance.
        """
        files = self.repository.list_files(untracked=self.config.include_untracked)
        added: list[TrackedFile] = []
        changed: list[TrackedFile] = []
        kept = 0
        seen: set[str] = set()
        for file in files:
            seen.add(file.path)
            entry = manifest.get(file.path)
            if entry is None:
                added.append(file)
                continue
            stat = stat_file(self.repository.root, file.path) or _NO_STAT
            if stat != entry.stat or (not trust_stat and _racy(stat, entry.checked_ns)):
                changed.append(file)
            elif not entry.skip:
                kept += 1
        removed = tuple(path for path in manifest if path not in seen)
        return Changes(tuple(added), tuple(changed), removed, kept)

    def _apply(self, changes: Changes, manifest: dict[str, ManifestEntry], tally: _Tally) -> None:
        if changes.removed:
            with self.ledger.transaction():
                self.ledger.remove(changes.removed)
                self.ledger.bump_generation()
            tally.removed = len(changes.removed)
        work = [*changes.added, *changes.changed]
        key = self._redaction_key()
        committed = replace(tally)
        try:
            for start in range(0, len(work), _FILES_PER_COMMIT):
                batch = work[start : start + _FILES_PER_COMMIT]
                with self.ledger.transaction():
                    dirty = [self._put(file, manifest.get(file.path), key, tally) for file in batch]
                    if any(dirty):
                        self.ledger.bump_generation()
                committed = replace(tally)
                self._progress(
                    Progress("read", min(start + len(batch), len(work)), len(work), batch[-1].path)
                )
        except KeyboardInterrupt:
            # The batch in the making was rolled back, so it does not count.
            tally.indexed, tally.kept, tally.chunks = committed.indexed, committed.kept, committed.chunks
            tally.interrupted = True

    def _put(self, file: TrackedFile, known: ManifestEntry | None, key: bytes, tally: _Tally) -> bool:
        """Read one file into the ledger; false when its content turned out to be the same."""
        checked = time.time_ns()
        stat = stat_file(self.repository.root, file.path) or _NO_STAT
        source = read_source(self.repository.root, file, self.config)
        if isinstance(source, Skipped):
            return self._skip(source, known, stat, checked)
        if known is not None and not known.skip and known.blob == source.blob:
            self.ledger.touch(known.id, stat, checked)
            tally.kept += 1
            return False
        cleaned = redact(source.text, key, source.path)
        chunks = chunk_source(replace(source, text=cleaned.text), self.config)
        if not chunks:
            return self._skip(Skipped(file.path, SkipReason.EMPTY), known, stat, checked)
        self.ledger.put_file(
            file.path,
            source.blob,
            source.language,
            stat,
            checked,
            [keyword_fields(c) for c in chunks],
            cleaned.count,
        )
        tally.indexed += 1
        tally.chunks += len(chunks)
        return True

    def _skip(self, item: Skipped, known: ManifestEntry | None, stat: FileStat, checked: int) -> bool:
        same = known is not None and known.skip == item.reason.value and known.detail == item.detail
        self.ledger.put_skipped(item, stat, checked)
        return not same

    def _redaction_key(self) -> bytes:
        """A random key of this index: equal secrets get equal placeholders, and no table can reverse them."""
        stored = self.ledger.meta("redaction_key")
        if stored:
            return bytes.fromhex(stored)
        key = secrets.token_bytes(32)
        with self.ledger.transaction():
            self.ledger.set_meta("redaction_key", key.hex())
        return key

    # -- vectors ---------------------------------------------------------------------------------

    def embed(
        self, embedder: Embedder, chunks: Iterable[StoredChunk] | None = None, seconds: float | None = None
    ) -> int:
        """Embed what has no vector yet (or the given chunks of it) and store it as it comes.

        The lock is held only while a batch is written, so that searches go on beside a long run.
        :param seconds: stop after the batch during which this much time has passed.
        :returns: how many vectors were made.
        """
        fingerprint = embedder.fingerprint()
        todo = list(self.ledger.pending(fingerprint) if chunks is None else chunks)
        done, started = 0, time.monotonic()
        size = _EMBED_BATCH if seconds is None else 16
        # Long texts last: batches of like length waste no padding, and the rate shown is honest early.
        todo.sort(key=lambda stored: len(stored.chunk.text))
        for start in range(0, len(todo), size):
            if seconds is not None and time.monotonic() - started > seconds:
                break
            batch = todo[start : start + size]
            base = done

            def tell(inner: int, base: int = base) -> None:
                if seconds is None:
                    self._progress(Progress("embed", base + inner, len(todo)))

            vectors = embedder.embed_documents([embed_text(item.chunk) for item in batch], tell)
            with locked(self.lock, self._wait), self.ledger.transaction():
                self.ledger.put_vectors(fingerprint, [item.vector_key for item in batch], vectors)
                self.ledger.bump_generation()
            done += len(batch)
            tell(len(batch))
        return done

    def sync_store(self, embedder: Embedder) -> bool:
        """Make Chroma hold exactly the vectors of this tree; true when it had to be rebuilt."""
        fingerprint = embedder.fingerprint()

        def vectors(keys: Sequence[bytes]) -> FloatArray:
            import numpy as np

            found = self.ledger.vectors_for(fingerprint, keys)
            return np.stack([found[key] for key in keys])

        return self.store.sync(
            fingerprint,
            self.ledger.live_keys(fingerprint),
            vectors,
            lambda done, total: self._progress(Progress("store", done, total)),
        )

    def run(self, embedder: Embedder | None) -> IndexReport:
        """Everything: text, keywords, vectors, Chroma. Ctrl-C keeps what is done; the report says so."""
        started = time.monotonic()
        generation = self.ledger.generation()
        report = self.refresh()
        notes = list(report.notes)
        embedded, interrupted = 0, report.interrupted
        pending = 0
        if embedder is not None:
            before = self.ledger.counts(embedder.fingerprint()).pending
            try:
                if not interrupted:
                    self.embed(embedder)
                    if self.sync_store(embedder):
                        notes.append("the Chroma index was rebuilt from stored vectors")
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
