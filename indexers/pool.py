"""Has files read by worker processes, two at a time or more, and hands back what came of each in the order asked."""

from __future__ import annotations

import fcntl
import marshal
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from indexers.children import Child, start_child
from indexers.config import IndexConfig
from indexers.cores import usable_cores
from indexers.files import stat_file
from indexers.patience import UNTRIED, Patience
from indexers.reading import NO_STAT, Job, Reading
from indexers.types import FileStat, NewChunk, SkipReason
from indexers.worker import HEADER_BYTES, SECONDS

# More would wait for the one process that writes.
MOST_WORKERS = 4
# Files a worker has at hand, so that it need not wait while the ledger is written: a hundred files take 0.05 s.
_AT_HAND = 16
# How far the others may get ahead of a large file, and with it how much is kept in memory.
_AHEAD = 96
# Room for the results of several files; 64 KB is the default.
_PIPE_BYTES = 1 << 20
_READ_BYTES = 1 << 20
# Beyond any result of a file; a worker that announces more is not in its right mind.
_LONGEST_MESSAGE = 1 << 30
# A busy machine may take a while to start an interpreter.
_START_SECONDS = 60.0
# A process whose pipe is closed is at its end; writing a large core file may still take it a while.
_LAST_MOMENTS = 10.0


class WorkersLost(Exception):
    """No worker process can be started."""


@dataclass(slots=True)
class _Worker:
    child: Child
    at_hand: deque[int] = field(default_factory=deque)
    unsent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    started: float = field(default_factory=time.monotonic)
    ready: bool = False


def worker_count() -> int:
    """One for each processor that we may use, up to a limit."""
    return min(usable_cores(), MOST_WORKERS)


class Pool:
    """Worker processes for the files of one repository. Use with `with`: leaving it ends them.

    :param seconds: of CPU time that a small file may take; a large one may take more, and where many hang, less.
    :param patience: what other pools have left of it, where the same files are read by one pool after the other.
    :raises WorkersLost: none can be started here.
    """

    def __init__(
        self,
        root: Path,
        config: IndexConfig,
        key: bytes,
        *,
        count: int | None = None,
        seconds: float = SECONDS,
        patience: Patience | None = None,
    ) -> None:
        self._root = root
        self._setup = (str(root), asdict(config), key)
        self._patience = patience or Patience(seconds)
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        self._done: dict[int, Reading] = {}
        self._waiting: deque[int] = deque()
        self._suspects: set[int] = set()
        self._jobs: Sequence[Job] = ()
        try:
            for _ in range(count or worker_count()):
                self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every worker, whatever it is doing."""
        for worker in list(self._workers):
            self._end(worker)
        self._selector.close()

    def read(self, jobs: Sequence[Job]) -> Iterator[Reading]:
        """What came of each file, in order. A file that breaks its reader is skipped, with the reason.

        :raises WorkersLost: the workers are gone and no new one can be started; what was yielded stays true.
        """
        self._jobs, self._done, self._suspects = jobs, {}, set()
        self._waiting = deque(range(len(jobs)))
        if jobs and not self._workers:
            self._start()
        for wanted in range(len(jobs)):
            self._hand_out(wanted)
            self._exchange(0.0)
            while wanted not in self._done:
                self._hand_out(wanted)
                if wanted in self._done:
                    break  # without a try; there may be nobody to hear from
                self._exchange(None if all(worker.ready for worker in self._workers) else 1.0)
                self._give_up_waiting()
            yield self._done.pop(wanted)

    # -- messages --------------------------------------------------------------------------------

    def _hand_out(self, wanted: int) -> None:
        """Give every worker enough to do, of what is not too far ahead of what is wanted next."""
        for room in range(_AT_HAND):
            for worker in self._workers:
                if not self._waiting or self._waiting[0] >= wanted + _AHEAD:
                    return
                if len(worker.at_hand) <= room:
                    number = self._waiting.popleft()
                    file, known = self._jobs[number]
                    if self._patience.is_over(file.path):
                        self._done[number] = self._left_out(number, UNTRIED)
                        continue
                    worker.at_hand.append(number)
                    seconds = self._patience.seconds()
                    self._send(worker, (file.path, file.mode, file.tracked, known, seconds))

    def _send(self, worker: _Worker, message: tuple[Any, ...]) -> None:
        payload = marshal.dumps(message)
        worker.unsent += len(payload).to_bytes(HEADER_BYTES, "little") + payload
        self._flush(worker)

    def _flush(self, worker: _Worker) -> None:
        """Write what the pipe takes; the rest when it has room again. We never wait for a worker that waits for us."""
        try:
            while worker.unsent:
                del worker.unsent[: os.write(worker.child.to_it, worker.unsent)]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            worker.unsent.clear()  # its end is noticed where we read
        registered = worker.child.to_it in self._selector.get_map()
        if worker.unsent and not registered:
            self._selector.register(worker.child.to_it, selectors.EVENT_WRITE, worker)
        elif registered and not worker.unsent:
            self._selector.unregister(worker.child.to_it)

    def _exchange(self, seconds: float | None) -> None:
        """Take what has come and send what waits; with None, wait until there is something."""
        for key, _ in self._selector.select(seconds):
            worker: _Worker = key.data
            if worker not in self._workers:
                continue  # it was lost in this very round
            if key.fd == worker.child.to_it:
                self._flush(worker)
                continue
            data = os.read(worker.child.from_it, _READ_BYTES)
            worker.received += data
            if not data or not self._take(worker):
                self._replace(worker)

    def _take(self, worker: _Worker) -> bool:
        """Take the whole messages among what was received; false when they make no sense."""
        received, at = worker.received, 0
        while len(received) - at >= HEADER_BYTES:
            size = int.from_bytes(received[at : at + HEADER_BYTES], "little")
            if size > _LONGEST_MESSAGE:
                return False
            if len(received) - at - HEADER_BYTES < size:
                break
            at += HEADER_BYTES + size
            try:
                message = marshal.loads(received[at - size : at])
                if not worker.ready:
                    worker.ready = True
                    continue
                self._done[worker.at_hand[0]] = _reading(message)
            except (EOFError, IndexError, TypeError, ValueError):
                return False
            worker.at_hand.popleft()
        del received[:at]
        return True

    def _give_up_waiting(self) -> None:
        """For workers that never say that they are ready: some other program calls itself our interpreter."""
        late = time.monotonic() - _START_SECONDS
        for worker in [w for w in self._workers if not w.ready and w.started < late]:
            worker.child.kill()
            self._replace(worker)

    # -- processes -------------------------------------------------------------------------------

    def _start(self) -> None:
        try:
            child = start_child()
        except OSError as error:
            raise WorkersLost(str(error)) from error
        worker = _Worker(child)
        self._workers.append(worker)
        os.set_blocking(child.to_it, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            try:
                fcntl.fcntl(child.from_it, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            except OSError:
                pass  # the user's pipes are full already; small ones are only slower
        self._selector.register(child.from_it, selectors.EVENT_READ, worker)
        self._send(worker, self._setup)

    def _replace(self, worker: _Worker) -> None:
        """A worker is gone: the file it had in hand is to blame, another one takes over the rest.

        A crash is blamed on a file only when it happens again: memory may have been short, or somebody ended
        the process. A time limit of CPU time needs no second look.
        """
        status = self._end(worker, _LAST_MOMENTS)
        if not worker.ready:
            if not self._workers:
                raise WorkersLost(f"they end with status {status}")
        elif worker.at_hand:
            number = worker.at_hand[0]
            if status == -signal.SIGPROF or number in self._suspects:
                worker.at_hand.popleft()
                self._done[number] = self._blamed(number, status)
            self._suspects.add(number)
        self._waiting.extendleft(reversed(worker.at_hand))
        if worker.ready and self._waiting:
            self._start()

    def _blamed(self, number: int, status: int) -> Reading:
        if status != -signal.SIGPROF:
            return self._left_out(number, _ending(status))
        self._patience.lose(self._jobs[number].file.path)
        return self._left_out(number, "it takes too long")

    def _left_out(self, number: int, why: str) -> Reading:
        stat = stat_file(self._root, self._jobs[number].file.path) or NO_STAT
        return Reading(stat, time.time_ns(), SkipReason.BREAKS.value, why)

    def _end(self, worker: _Worker, patience: float = 0.0) -> int:
        """Let go of a worker, which is killed unless it ends by itself; the status it ended with.

        :param patience: how long to wait for that, in seconds.
        """
        self._workers.remove(worker)
        child = worker.child
        for descriptor in {child.from_it, child.to_it} & self._selector.get_map().keys():
            self._selector.unregister(descriptor)
        child.close()
        status = child.wait(patience)
        while status is None:
            child.kill()
            status = child.wait(_LAST_MOMENTS)
        return status


def _ending(status: int) -> str:
    if status >= 0:
        return f"it fails with status {status}"
    try:
        return f"it crashes ({signal.Signals(-status).name})"
    except ValueError:
        return f"it crashes (signal {-status})"


def _reading(message: tuple[Any, ...]) -> Reading:
    """A worker's message as what `read_file` returned there."""
    stat, checked, reason, detail, blob, language, redactions, words, chunks = message
    made = None if chunks is None else tuple(map(NewChunk._make, chunks))
    return Reading(FileStat(*stat), checked, reason, detail, blob, language, redactions, words, made)
