"""Runs one command and outlives nothing of it: started as a program of its own, on Linux, see `scratch.run`."""

# Whatever a process of the command leaves behind becomes a child of this one, also what has left its session and its
# environment, so that all of it can be found and ended. Standard library alone: it starts in an empty interpreter.

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

_SET_CHILD_SUBREAPER = 36
_CANNOT_START = 126


class _Over(Exception):
    """Whoever started us says that the time is over."""


def main(words: list[str]) -> int:
    """Run the command and say how it ended, as a shell does: its status, or 128 and the signal that ended it."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _over)
    try:
        first = os.fork()
        if first == 0:
            _become(words)
        status = _ended(first)
    except _Over:
        status = signal.SIGKILL
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _end_all()
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _over(number: int, frame: object) -> None:
    raise _Over


def _become(words: list[str]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        os.execvp(words[0], words)
    except OSError as error:
        os.write(2, f"{words[0]}: {error.strerror}\n".encode("utf-8", "replace"))
    os._exit(_CANNOT_START)


def _ended(first: int) -> int:
    """The wait status of the command itself; what it left is reaped on the way."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == first:
            return status


def _end_all() -> None:
    """Kill children until there are none: those of a child that dies become ours."""
    while True:
        for pid in _children():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    own, found = os.getpid(), []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                # The name stands in brackets and may hold anything; the parent is the second field behind it.
                fields = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[1]) == own:
                    found.append(int(name))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
