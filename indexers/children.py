"""Starts the processes in which `worker` runs: forks of ours where that is safe, else interpreters of their own."""

# Not multiprocessing: its spawn runs the caller's script again, and its fork asks nobody whether other threads run,
# whose locks a fork would copy half-way. Here a fork is made only while this process has one thread, and it is up in
# two milliseconds. A new interpreter takes a tenth of a second; it does not look at the current directory, the
# environment's PYTHON variables or site packages' start-up code, only at the path that we import from ourselves.

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn, Protocol

from indexers.priority import nice_session

_START = (
    "import sys; sys.path[:] = sys.argv[1:]; from indexers.priority import nice_session; nice_session();"
    " from indexers.worker import main; main()"
)
_FAILED = 70
_NAP_SECONDS = 0.002
# What a child gets that we get is decided by us: it lives as long as we want it to.
_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)


class Child(Protocol):
    """A worker process: what is written to `to_it` it reads, what it says is read from `from_it`."""

    to_it: int
    from_it: int

    def kill(self) -> None:
        """End it now."""

    def wait(self, seconds: float) -> int | None:
        """The status it ended with, negative for a signal; None when it has not ended within that time."""

    def close(self) -> None:
        """Close the pipes."""


def start_child() -> Child:
    """A new worker process.

    :raises OSError: none can be started here.
    """
    return _Fork() if is_alone() else _Interpreter()


def is_alone() -> bool:
    """Whether this process surely has no other thread, be it Python's or a library's."""
    try:
        return sys.platform.startswith("linux") and len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


class _Interpreter:
    """A Python of its own."""

    def __init__(self) -> None:
        if not sys.executable or getattr(sys, "frozen", False):
            raise FileNotFoundError("there is no interpreter to start")
        path = [
            str(Path(__file__).parents[1]),
            *(os.path.abspath(entry) for entry in sys.path if entry),
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-X", f"utf8={sys.flags.utf8_mode}", "-c", _START, *path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd=os.sep,
            # Not in the terminal's foreground: Ctrl-C is for us, and we end the workers.
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self.to_it = self._process.stdin.fileno()
        self.from_it = self._process.stdout.fileno()

    def kill(self) -> None:
        self._process.kill()

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()


class _Fork:
    """A copy of this process."""

    def __init__(self) -> None:
        its_input, self.to_it = os.pipe()
        self.from_it, its_output = os.pipe()
        self._status: int | None = None
        try:
            self._pid = self._forked(its_input, its_output)
        except OSError:
            self.close()
            raise
        finally:
            os.close(its_input)
            os.close(its_output)

    def _forked(self, its_input: int, its_output: int) -> int:
        # No signal may make the child run our handlers, or raise KeyboardInterrupt into what we are doing.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                _become_worker(its_input, its_output)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid

    def kill(self) -> None:
        if self._status is None:
            os.kill(self._pid, signal.SIGKILL)

    def wait(self, seconds: float) -> int | None:
        end = time.monotonic() + seconds
        while self._status is None:
            try:
                pid, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:
                # Somebody else waits for all children of this process.
                self._status = -signal.SIGKILL
                break
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= end:
                return None
            else:
                time.sleep(_NAP_SECONDS)
        return self._status

    def close(self) -> None:
        os.close(self.to_it)
        os.close(self.from_it)


def _become_worker(its_input: int, its_output: int) -> NoReturn:
    """Leave everything of ours behind, the databases and locks above all, and answer messages until the end."""
    status = _FAILED
    try:
        os.setsid()
        nice_session()
        # What is garbage of ours stays that: a destructor may want to close a database.
        gc.disable()
        gc.freeze()
        signal.set_wakeup_fd(-1)
        for number in _OURS:
            signal.signal(number, signal.SIG_DFL)
        os.dup2(its_input, 0)
        os.dup2(its_output, 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                _close(int(name))
        os.chdir(os.sep)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        from indexers.worker import main

        main()
        status = 0
    finally:
        # Without a word of farewell from what was copied: no handler, no buffer, no destructor.
        os._exit(status)


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        return  # it was that of the listing itself
