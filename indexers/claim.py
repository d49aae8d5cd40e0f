"""The claim to embed, or to other long work: one process at a time, who it is, how far it is, how it is stopped."""

# The kernel lock alone says whether somebody is at work. The note beside it is a courtesy to those who look, and the
# request beside that is only read by a worker between two batches: no process is ever signalled by its number.

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from indexers.errors import BusyError
from indexers.locks import is_held, locked, own_command

# Whoever only looks takes the lock for an instant; a worker that starts must not give up for that.
START_SECONDS = 2.0
# A process that has told nothing for so long is stuck: a batch takes seconds.
STUCK_SECONDS = 120.0
# A worker that dies at once dies again: after so many no more are started for a while.
MOST_FAILURES = 3
AFTER_FAILURES_SECONDS = 3_600.0
_LOOK_AGAIN = 0.2
# Notes are for people: one a second is enough.
_TELL_EVERY = 0.5


@dataclass(frozen=True, slots=True)
class Work:
    """What is claimed: how its files are told apart, what is in use meanwhile, the worker's command, what is being done
    in words, and the command that stops it.
    """

    name: str
    what: str
    command: str
    doing: str
    stop: str


EMBED = Work("embed", "The index", "agent index --background", "Vectors are being made", "agent index --stop")
# Of files that a search in haste left. Each work tree has its own, as it has its own index.
READ = Work("read", "The index", "agent index --background", "Files are being read", "agent index --stop")


@dataclass(frozen=True, slots=True)
class Embedding:
    """A process that embeds, or does other work: for the work tree `root`, `done` of `total` since `started`.

    Times are seconds since 1970. `background` is true for a worker that makes way when asked. `failures` counts the
    workers before it that ended without a word and without a batch.
    """

    pid: int
    command: str
    root: str
    background: bool
    started: float
    updated: float
    done: int = 0
    total: int = 0
    failures: int = 0

    @property
    def rate(self) -> float:
        """Texts a second so far."""
        return self.done / max(0.1, self.updated - self.started)

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take at this rate; None while nothing is done yet."""
        return (self.total - self.done) / self.rate if self.done else None


class Claim:
    """Who may embed into one file of vectors. Worktrees of one repository share it, as they share the vectors.

    Other long work that one process at a time does beside a file is claimed in the same way.
    """

    def __init__(self, beside: Path, work: Work = EMBED) -> None:
        self._work = work
        self._lock = beside.with_suffix(f".{work.name}.lock")
        self._note = beside.with_suffix(f".{work.name}.json")
        self._request = beside.with_suffix(f".{work.name}.stop")
        self._mine: Embedding | None = None

    # -- holding it ------------------------------------------------------------------------------

    @contextmanager
    def held(
        self,
        root: Path,
        *,
        background: bool,
        wait_seconds: float = START_SECONDS,
        since: float = float("inf"),
    ) -> Iterator[None]:
        """Hold the claim for the length of the block.

        :param since: when this process was asked for, in seconds since 1970: a request to stop that is younger holds.
        :raises BusyError: another process holds it.
        """
        with locked(self._lock, wait_seconds, self._work.what):
            now = time.time()
            command = self._work.command if background else own_command()
            text = os.fsencode(root).decode("utf-8", "replace")
            self._mine = Embedding(os.getpid(), command, text, background, now, now, 0, 0, self._failures())
            self._forget_request(since)
            self._write()
            try:
                yield
            finally:
                self._mine = None
                self._note.unlink(missing_ok=True)

    @contextmanager
    def turn(
        self, root: Path, tell: Callable[[Embedding], None], deadline: float | None = None
    ) -> Iterator[None]:
        """Hold the claim in the foreground: a worker in the background makes way, another process is waited for.

        :param tell: hears of the process that is waited for, again and again.
        :param deadline: by `time.monotonic`; without one we wait as long as the other process gets on.
        :raises BusyError: the other process did not come to an end in time.
        """
        with ExitStack() as stack:
            while True:
                self.wait(tell, deadline, stop=True)
                try:
                    stack.enter_context(self.held(root, background=False))
                    break
                except BusyError:
                    continue  # somebody was quicker than we
            yield

    def tell(self, done: int, total: int) -> None:
        """Note how far we have come, for those who look."""
        if self._mine is None:
            return
        late = time.time() - self._mine.updated >= _TELL_EVERY
        first = not (self._mine.done and self._mine.total)
        self._mine = replace(self._mine, done=done, total=total)
        if late or first:
            self._mine = replace(self._mine, updated=time.time())
            self._write()

    def asked_to_stop(self) -> bool:
        """Whether somebody wants the claim, or wants nothing to be done now."""
        return self._request.exists()

    def ask_to_stop(self) -> None:
        """Ask for the claim, also of a worker that was started and does not hold it yet."""
        with suppress(FileNotFoundError):  # where nothing was ever embedded
            self._request.touch(mode=0o600)

    # -- looking at it ---------------------------------------------------------------------------

    def holder(self) -> Embedding | None:
        """Who holds the claim now; None when nobody does."""
        if not self._lock.exists() or not is_held(self._lock):
            return None
        now = time.time()
        # Between taking the lock and writing the note, or on a full disk, nothing is known.
        return self._read() or Embedding(0, "another process", "", False, now, now)

    def keeps_failing(self) -> bool:
        """Whether the last workers ended without a word before they got anywhere, and not long ago."""
        note = self._read()
        if note is None or note.done or not note.background or note.failures < MOST_FAILURES - 1:
            return False
        return abs(time.time() - note.updated) < AFTER_FAILURES_SECONDS and self.holder() is None

    def wait(
        self, tell: Callable[[Embedding], None], deadline: float | None = None, *, stop: bool = False
    ) -> None:
        """Wait until nobody holds the claim; with `stop`, a worker in the background is asked to let go.

        :raises BusyError: the deadline passed, or the other process no longer gets on.
        """
        last: tuple[int, float] = (-1, 0.0)
        since = time.monotonic()
        while (holder := self.holder()) is not None:
            if stop and holder.background:
                self.ask_to_stop()
            now = time.monotonic()
            if (holder.pid, holder.updated if holder.pid else 0.0) != last:
                last, since = (holder.pid, holder.updated if holder.pid else 0.0), now
            if now - since > STUCK_SECONDS or (deadline is not None and now >= deadline):
                raise BusyError(
                    f"{self._work.doing} by process {holder.pid} ({holder.command}):"
                    f" {holder.done:,} of {holder.total:,} are done.",
                    f"Wait for it to finish, or stop it: {self._work.stop}",
                )
            tell(holder)
            time.sleep(_LOOK_AGAIN)

    # -- files -----------------------------------------------------------------------------------

    def _failures(self) -> int:
        """How many workers in a row before us left their note behind and had got nowhere."""
        left = self._read()
        return left.failures + 1 if left is not None and left.background and not left.done else 0

    def _forget_request(self, since: float) -> None:
        """Drop what was asked of a process before us."""
        try:
            if self._request.stat().st_mtime < since:
                self._request.unlink(missing_ok=True)
        except FileNotFoundError:
            return

    def _read(self) -> Embedding | None:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            return Embedding(
                pid=int(note["pid"]),
                command=str(note["command"]),
                root=str(note["root"]),
                background=bool(note["background"]),
                started=float(note["started"]),
                updated=float(note["updated"]),
                done=int(note["done"]),
                total=int(note["total"]),
                failures=int(note["failures"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self) -> None:
        assert self._mine is not None
        new = self._note.with_suffix(".new")
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(asdict(self._mine), file)
            new.replace(self._note)
        except OSError:
            # Only a courtesy; a full disk is noticed where it matters.
            return
