"""One kernel file lock for each thing that only one process may touch; who holds it is written beside it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indexers.errors import AgentError, BusyError

DEFAULT_WAIT_SECONDS = 20.0


@contextmanager
def locked(path: Path, wait_seconds: float = DEFAULT_WAIT_SECONDS, what: str = "The index") -> Iterator[None]:
    """Hold the lock file at `path` for the length of the block.

    A kernel lock: it goes with its process, however that ends.
    :param what: what is locked, as the beginning of a sentence for people.
    :raises BusyError: another process held it for the whole of `wait_seconds`.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, mode=0o600)
    try:
        lock.acquire(timeout=wait_seconds, poll_interval=0.05)
    except Timeout as error:
        raise BusyError(
            f"{what} is in use by {_holder(path)} (waited {wait_seconds:.0f} s).",
            "Wait for it to finish, or stop that process, then try again.",
        ) from error
    except (OSError, NotImplementedError) as error:
        raise AgentError(
            f"{path} cannot be locked: {error}.", "Check its permissions, or set AGENT_HOME."
        ) from error
    try:
        _note_holder(path)
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether some process holds the lock at `path` right now. Looking takes it for an instant."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        # Whoever goes on to take it is told what is wrong.
        return False
    lock.release()
    return False


def own_command() -> str:
    """What this process is called to others: its program, and the command where it is one of ours."""
    name = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    # Never more of the command line than this: it may hold a question.
    return f"{name} {sys.argv[1]}" if name == "agent" and sys.argv[1:] and sys.argv[1].isalpha() else name


def _holder_file(path: Path) -> Path:
    return path.with_name(path.name + ".holder")


def _note_holder(path: Path) -> None:
    note = {"pid": os.getpid(), "command": own_command(), "since": int(time.time())}
    try:
        _holder_file(path).write_text(json.dumps(note), encoding="utf-8")
    except OSError:
        # Only a courtesy to whoever waits; a full disk must not stop the work.
        return


def _holder(path: Path) -> str:
    try:
        note = json.loads(_holder_file(path).read_text(encoding="utf-8"))
        return f"process {int(note['pid'])} ({note['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
