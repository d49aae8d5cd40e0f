"""The worker in the background: reads and embeds what is still to come, out of everybody's way, and ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexers.errors import AgentError, BusyError

if TYPE_CHECKING:
    from types import FrameType

    from indexers.build import Builder
    from indexers.claim import Claim
    from indexers.embedding import Embedder
    from indexers.ledger import Ledger

LOG_NAME = "background.log"
LOG_BYTES = 64 * 1024
# Chunks that a search may ask to be embedded before others.
MOST_FIRST = 100
# The worker itself takes some 350 MB.
MEMORY_TO_START = 700_000_000
MEMORY_TO_GO_ON = 250_000_000
# How long a batch may wait for a process that reads files into the index.
WAIT_TO_WRITE = 600.0
_LOOK_AROUND_SECONDS = 10.0
_START_SECONDS = 30.0
_GONE = "the work tree is gone"
# Everything that a person does goes first. And its parent is nobody who would have to wait for its end.
_START = (
    "import os, sys; os.fork() and os._exit(0); os.nice(19); n = int(sys.argv[1]); sys.path[:] = sys.argv[2:2 + n];"
    " from importlib import import_module; import_module(sys.argv[2 + n]).main()"
)


def start(
    builder: Builder,
    directory: Path,
    first: Sequence[int] = (),
    *,
    files: bool = False,
    vectors: bool = True,
) -> bool:
    """Start a worker for an index, in a session of its own; false when one is at work, or it cannot be started.

    :param directory: of the index; the worker writes its log there.
    :param first: the row ids of chunks to begin with.
    :param files: read what was left unread before; whoever reads it already is not disturbed.
    :param vectors: False for reading alone, as where the embedding model is not installed.
    """
    wanted = builder.reading if files else builder.claim
    if wanted.holder() is not None or wanted.keeps_failing():
        return False
    if reason_to_rest(MEMORY_TO_START):
        return False
    order = {
        "root": os.fsencode(builder.repository.root).hex(),
        "directory": os.fsencode(directory).hex(),
        "vectors": os.fsencode(builder.ledger.vectors_path).hex(),
        "config": asdict(builder.config),
        "reads_files": files,
        "makes_vectors": vectors,
        "first": list(first)[:MOST_FIRST],
        "since": time.time(),
    }
    return detach(__name__, order, directory / LOG_NAME)


def detach(module: str, order: Mapping[str, object], log_path: Path) -> bool:
    """Run `main` of a module of ours in a niced process of its own session, which outlives us; whether it has begun.

    :param order: becomes the last argument, as JSON. Others can see it in the list of processes.
    :param log_path: what the process says is appended to it.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        return False
    # As our own path, but never the current directory: the repository could hold a package called agent.
    path = [str(Path(__file__).parents[1]), *(os.path.abspath(entry) for entry in sys.path if entry)]
    command = [sys.executable, "-I", "-S", "-c", _START, str(len(path)), *path, module, json.dumps(order)]
    try:
        said = _open_log(log_path)
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=os.sep,
                start_new_session=True,
                timeout=_START_SECONDS,
                check=False,
            )
        finally:
            os.close(said)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def main() -> None:
    """Read and embed what the last argument says, a JSON object, until nothing is left or there is a reason to stop."""
    from agent.config import silence_tracing
    from indexers.priority import nice_session

    # The interpreter was started niced, and in a session of its own.
    nice_session()
    silence_tracing()
    order = json.loads(sys.argv[-1])
    root, directory, vectors = (
        Path(os.fsdecode(bytes.fromhex(order[key]))) for key in ("root", "directory", "vectors")
    )
    try:
        _work(root, directory, vectors, order)
    except BusyError as error:
        log(f"ended: {error.message}")
    except AgentError as error:
        # Reading a tree that goes away meanwhile fails in many ways.
        log(f"failed: {error.message}" if root.is_dir() else f"ended: {_GONE}")


def _work(root: Path, directory: Path, vectors: Path, order: Mapping[str, Any]) -> None:
    from indexers.build import Builder
    from indexers.config import IndexConfig
    from indexers.git import Repository
    from indexers.ledger import Ledger

    ledger = Ledger(directory / "ledger.sqlite", vectors)
    config = IndexConfig(**{**order["config"], "exclude": tuple(order["config"]["exclude"])})
    builder = Builder(Repository.discover(root), ledger, config, directory, wait_seconds=WAIT_TO_WRITE)
    since = float(order.get("since", time.time()))
    # Whoever waits for a claim to be free finds everything done and told.
    if order["reads_files"]:
        with _watched(builder.reading, builder, since) as watch:
            log(f"read: {builder.read_rest(watch):,} files, {watch.reason or 'none is left'}")
            if watch.reason or not order["makes_vectors"]:
                _conclude(builder, 0, watch)
                return
    with _watched(builder.claim, builder, since) as watch:
        _conclude(builder, _embed_all(builder, watch, frozenset(order["first"])), watch)


def _conclude(builder: Builder, done: int, watch: Watch) -> None:
    """Leave files that are whole, and say what was done."""
    from indexers.locks import locked

    with locked(builder.lock, WAIT_TO_WRITE):
        builder.ledger.checkpoint()
    log(f"ended: {done:,} vectors made, {watch.reason or 'nothing is left to do'}")
    builder.ledger.close()


@contextmanager
def _watched(claim: Claim, builder: Builder, since: float) -> Iterator[Watch]:
    """Hold a claim, and say what tells when to let go of it.

    :raises BusyError: another process is at it.
    """
    root = builder.repository.root
    with claim.held(root, background=True, since=since):
        watch = Watch(claim, builder.ledger, root)
        signal.signal(signal.SIGTERM, watch.end)
        yield watch


def _embed_all(builder: Builder, watch: Watch, first: frozenset[int]) -> int:
    """Make the vectors that are still to come, and bring Chroma up to date; how many were made."""
    from agent import models
    from indexers import made_by
    from indexers.embedding import open_embedder
    from indexers.locks import locked

    embedder = open_embedder(builder.config.embedder, models.embedder_dir())
    with locked(builder.lock, WAIT_TO_WRITE):
        made_by.record(builder.ledger, embedder)
    pending = builder.ledger.counts(embedder.fingerprint()).pending
    builder.claim.tell(0, pending)
    log(f"started: {pending:,} chunks have no vector")
    done = _embed(builder, embedder, watch, first)
    if not watch():
        builder.sync_store(embedder)
    return done


def _embed(
    builder: Builder, embedder: Embedder, stop: Callable[[], bool], first: frozenset[int] = frozenset()
) -> int:
    """Embed until nothing is left, looking again for what was read meanwhile; how many vectors were made."""
    done, left = 0, -1
    # Where the index is damaged, what is missing never becomes less.
    while (pending := builder.ledger.counts(embedder.fingerprint()).pending) not in (0, left):
        left = pending
        done += builder.embed(embedder, stop=stop, first=first)
    return done


class Watch:
    """Called between batches: whether the worker is to stop, and then why."""

    def __init__(self, claim: Claim, ledger: Ledger, root: Path) -> None:
        self.reason = ""
        self._claim = claim
        self._root = root
        self._ledger = ledger
        self._looked = time.monotonic()

    def __call__(self) -> bool:
        """Whether there is a reason to stop, which `reason` then says."""
        self.reason = self.reason or self.found()
        return bool(self.reason)

    def end(self, number: int, frame: FrameType | None) -> None:
        """A handler of signals: stop after the batch in hand."""
        self.reason = f"ended by signal {number}"

    def found(self) -> str:
        """A reason to stop that is there now; empty for none."""
        if self._claim.asked_to_stop():
            return "another process asked for it"
        if not self._root.is_dir():
            return _GONE
        if self._ledger.is_replaced():
            return "the index was removed or built anew"
        if time.monotonic() - self._looked < _LOOK_AROUND_SECONDS:
            return ""
        self._looked = time.monotonic()
        return reason_to_rest(MEMORY_TO_GO_ON)


def reason_to_rest(memory_needed: int) -> str:
    """Why a worker should not work now, if there is a reason; `memory_needed` is bytes."""
    from agent.hardware import memory, on_low_battery

    if memory()[1] < memory_needed:
        return "memory is short"
    return "the battery is low" if on_low_battery() else ""


def _open_log(path: Path) -> int:
    """The log, to be appended to; of a long one only the end is kept."""
    log = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    size = os.fstat(log).st_size
    if size > LOG_BYTES:
        kept = os.pread(log, LOG_BYTES // 2, size - LOG_BYTES // 2)
        os.ftruncate(log, 0)
        os.write(log, kept.partition(b"\n")[2])
    return log


def log(line: str) -> None:
    """A line of a worker's log."""
    text = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {os.getpid()} {line}\n"
    os.write(2, text.encode("utf-8", "replace"))
