"""What is done to an index rather than asked of it: made, checked, explained, measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent import kv_cache, warming
from indexers.errors import BusyError
from indexers.locks import DEFAULT_WAIT_SECONDS
from indexers.types import IndexReport

if TYPE_CHECKING:
    from agent.kv_cache import CacheState
    from agent.warming import Warmed
    from agent.workspace import Workspace
    from indexers.claim import Embedding
    from indexers.verify import Explanation, Verification


@dataclass(frozen=True, slots=True)
class Status:
    """What `agent status` shows. Sizes are bytes, `last_indexed` is seconds since 1970, 0 for never.

    `embedding` is a process that makes vectors now: pid, command, root, background, done, total, rate (a second) and
    seconds_left. `files_pending` are files that were not read yet, `reading` a process that does so. `cache` is what
    models have read and need not read again. `reading_ahead` is a process that reads ahead now, `warmed` what the last
    one came to.
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
    files_pending: int
    bytes_on_disk: int
    model: str
    embedder: str
    last_indexed: int
    notes: tuple[str, ...] = ()
    embedding: Mapping[str, object] | None = None
    cache: CacheState | None = None
    reading: Embedding | None = None
    reading_ahead: Embedding | None = None
    warmed: Warmed | None = None


def index(
    workspace: Workspace, *, rebuild: bool = False, wait: bool = False, timeout: float | None = None
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
        workspace.reset()
    embedder = workspace.ready_embedder(download=True)
    if rebuild and embedder is not None:
        workspace.forget_damaged(embedder)
    patience = DEFAULT_WAIT_SECONDS if timeout is None else min(timeout, DEFAULT_WAIT_SECONDS)
    if wait:
        workspace.builder().wait_for_others(deadline)
    report = workspace.mended(lambda: workspace.builder(patience).run(embedder, deadline))
    if deadline is not None and report.vectors_pending and not report.interrupted:
        raise BusyError(
            f"{report.vectors_pending:,} vectors are still to come after {timeout:.0f} s.",
            "What is done is kept. Go on: agent index --wait",
        )
    workspace.tell_if_empty(report)
    return replace(report, notes=(*report.notes, *workspace.take_notes()))


def index_in_background(workspace: Workspace) -> IndexReport:
    """Bring text and keywords up to date, and leave the vectors to a worker process."""
    report = workspace.mended(lambda: workspace.builder().refresh())
    embedder = workspace.ready_embedder(download=True)
    with workspace.guarded():
        pending = workspace.ledger.counts(embedder.fingerprint()).pending if embedder else 0
    if pending and not report.interrupted and not workspace.start_worker():
        workspace.note("no worker was started: one is at work, or memory or battery are low")
    workspace.tell_if_empty(report)
    return replace(report, vectors_pending=pending, notes=(*report.notes, *workspace.take_notes()))


def stop_background(workspace: Workspace, seconds: float = 30.0) -> bool:
    """Ask a worker in the background to stop after the batch in hand, and wait for it; false when there is none.

    One that is only just starting stops before its first batch.

    :raises BusyError: it did not stop in time, or it is no worker that makes vectors.
    """
    claims = (workspace.builder().reading, workspace.builder().claim)
    at_work = any(claim.holder() is not None for claim in claims)
    # One that reads goes on to make vectors: it must find both requests.
    for claim in claims:
        claim.ask_to_stop()
    end = time.monotonic() + seconds
    for claim in claims:
        claim.wait(lambda _: None, end, stop=True)
    return at_work


def check(workspace: Workspace) -> Verification:
    """Compare the index with itself, the work tree and Chroma; every file is read once, nothing is changed.

    :raises BusyError: another process has the Chroma index open.
    """
    from indexers.verify import Fault, verify

    with workspace.guarded():
        found = verify(workspace.builder(), workspace.ready_embedder(download=False))
    dropped = tuple(Fault("ledger", note, "agent index") for note in workspace.dropped)
    workspace.notes = [note for note in workspace.notes if note not in workspace.dropped]
    return replace(found, faults=(*dropped, *found.faults))


def explain(workspace: Workspace, paths: Sequence[str]) -> list[Explanation]:
    """Why each path is in the index, as the tree is now, or why not.

    :param paths: absolute, or relative to the current directory, or else to the top of the work tree.
    """
    from indexers.verify import explain

    workspace.refresh()
    with workspace.guarded():
        return explain(workspace.builder(), paths)


def status(workspace: Workspace, model: str, file: Path | None = None) -> Status:
    """Counts and freshness, without changing anything."""
    fingerprint = workspace.fingerprint_if_known()
    with workspace.guarded():
        counts = workspace.ledger.counts(fingerprint)
        plan = workspace.builder().plan(workspace.ledger.manifest(), trust_stat=True)
        generation = workspace.ledger.generation()
        last = workspace.ledger.meta_number("indexed_at")
    return Status(
        root=str(workspace.repository.root),
        head=workspace.repository.head(),
        branch=workspace.repository.branch(),
        index_dir=str(workspace.directory),
        generation=generation,
        files=counts.files,
        skipped=counts.skipped,
        chunks=counts.chunks,
        vectors=counts.chunks - counts.pending,
        vectors_pending=counts.pending,
        stale=bool(plan.added or plan.removed or plan.changed),
        files_pending=len(plan.added),
        bytes_on_disk=_tree_size(workspace.directory) + _file_size(workspace.ledger.vectors_path),
        model=model,
        embedder=workspace.settings.embedder,
        last_indexed=last,
        notes=tuple(workspace.notes),
        embedding=workspace.embedding(),
        cache=kv_cache.state(workspace.settings, file),
        reading=workspace.reading(),
        reading_ahead=warming.holder(workspace),
        warmed=warming.report(workspace.directory),
    )


def self_test(workspace: Workspace) -> tuple[bool, str]:
    """Whether stored chunks are found by their own text; and a sentence saying what was tried."""
    workspace.refresh()
    ids = workspace.ledger.chunk_ids()
    if not ids:
        return False, "the index is empty: run agent index"
    sample = ids[:: max(1, len(ids) // 8)][:8]
    found = 0
    for chunk_id, stored in workspace.ledger.chunks(sample).items():
        hits = workspace.search().hits(stored.chunk.text, 20)
        found += any(hit.chunk_id == chunk_id or hit.text == stored.chunk.text for hit in hits)
    # Twins (licence headers, generated stubs) may push one another out; a broken index finds nothing.
    return found >= len(sample) * 0.75, f"{found} of {len(sample)} stored chunks are found by their own text"


def _file_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _tree_size(directory: Path) -> int:
    return sum(entry.stat().st_size for entry in directory.rglob("*") if entry.is_file())
