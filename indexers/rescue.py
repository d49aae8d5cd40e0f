"""Keeps Chroma's index in step from a process of its own: a fault in its compiled parts ends that one, and not us."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from indexers.errors import AgentError, BusyError, IndexStateError
from indexers.ledger import Ledger
from indexers.priority import nice_session
from indexers.store import VectorStore

if TYPE_CHECKING:
    from indexers.unit_vectors import FloatArray

# A hundred thousand vectors take about two minutes; Chroma itself may wait 16 for a lock that nobody holds.
PATIENCE_SECONDS = 900.0
_START = "import sys; n = int(sys.argv[1]); sys.path[:] = sys.argv[2:2 + n]; from indexers.rescue import main; main()"
_FAILED = 3
_REBUILT = "rebuilt"


class Crashed(IndexStateError):
    """The process ended by a signal: whatever it had open is marked, and the next one starts from nothing."""


def sync_apart(
    ledger: Ledger,
    store: VectorStore,
    fingerprint: str,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Make Chroma hold exactly the vectors of this tree, in another process; true when it had to be rebuilt.

    What comes out is opened and asked once more in there before anybody else opens it. After a crash it is tried once
    more, from nothing.
    :raises IndexStateError: that process crashed, failed or took too long. Searches go on without Chroma.
    :raises BusyError: yet another process has it open.
    """
    if not store.was_left_open():
        try:
            return _run(ledger, store, fingerprint, progress)
        except Crashed:
            pass
    return _run(ledger, store, fingerprint, progress)


def _run(
    ledger: Ledger, store: VectorStore, fingerprint: str, progress: Callable[[int, int], None] | None
) -> bool:
    path = [str(Path(__file__).parents[1]), *(os.path.abspath(entry) for entry in sys.path if entry)]
    arguments = [str(ledger.path), str(ledger.vectors_path), str(store.directory), fingerprint]
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START, str(len(path)), *path, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=os.sep,
            # Not in the terminal's foreground: Ctrl-C is for us, and we end it.
            start_new_session=True,
        )
    except OSError as error:
        raise _failure(f"no process can be started for it ({error.strerror})") from error
    with process:
        try:
            said = _heard(process, progress or (lambda done, total: None))
        except BaseException:
            process.kill()
            raise
    if process.returncode == BusyError.exit_code:
        raise BusyError(said, "Wait for it to finish, or stop that process, then try again.")
    if process.returncode < 0:
        raise _failure(_ending(process.returncode), Crashed)
    if process.returncode:
        raise _failure(said if process.returncode == _FAILED else _ending(process.returncode))
    return said == _REBUILT


def _heard(process: subprocess.Popen[bytes], progress: Callable[[int, int], None]) -> str:
    """The last line that the process says; those before it tell how far it is.

    :raises IndexStateError: it says nothing for too long.
    """
    assert process.stdout is not None
    source, text, last = process.stdout.fileno(), b"", ""
    while select.select([source], [], [], PATIENCE_SECONDS)[0]:
        data = os.read(source, 65_536)
        if not data:
            process.wait(PATIENCE_SECONDS)
            return last or text.decode("utf-8", "replace")
        *lines, text = (text + data).split(b"\n")
        for line in lines:
            last = line.decode("utf-8", "replace")
            done, _, total = last.partition(" ")
            if done.isdecimal() and total.isdecimal():
                progress(int(done), int(total))
    process.kill()
    raise _failure(f"it said nothing for {PATIENCE_SECONDS:.0f} seconds")


def _failure(why: str, kind: type[IndexStateError] = IndexStateError) -> IndexStateError:
    return kind(
        f"Chroma could not rebuild its vector index: {why}. Searches go on without it, by scanning the vectors.",
        "Install it again: pip install --force-reinstall chromadb; then: agent index --rebuild",
    )


def _ending(status: int) -> str:
    if status > 0:
        return f"it failed with status {status}"
    try:
        return f"it crashed ({signal.Signals(-status).name})"
    except ValueError:
        return f"it crashed (signal {-status})"


def sync_from_ledger(
    ledger: Ledger,
    store: VectorStore,
    fingerprint: str,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Make Chroma hold exactly the stored vectors that this tree uses; true when it had to be rebuilt."""

    def vectors(keys: Sequence[bytes]) -> FloatArray:
        import numpy as np

        found = ledger.vectors_for(fingerprint, keys)
        return np.stack([found[key] for key in keys])

    return store.sync(fingerprint, ledger.live_keys(fingerprint), vectors, progress)


def main() -> None:
    """Sync as the last four arguments say: the ledger, its vectors, Chroma's directory, the embedder."""
    nice_session()
    ledger_path, vectors_path, directory, fingerprint = sys.argv[-4:]
    # Whatever Chroma prints must not end up among what we say.
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def say(line: str) -> None:
        os.write(answer, line.encode("utf-8", "replace") + b"\n")

    try:
        ledger, store = Ledger(Path(ledger_path), Path(vectors_path)), VectorStore(Path(directory))
        rebuilt = sync_from_ledger(ledger, store, fingerprint, lambda done, total: say(f"{done} {total}"))
        _probe(ledger, store, fingerprint)
    except AgentError as error:
        say(" ".join(error.message.split()))
        raise SystemExit(error.exit_code if isinstance(error, BusyError) else _FAILED) from error
    say(_REBUILT if rebuilt else "")


def _probe(ledger: Ledger, store: VectorStore, fingerprint: str) -> None:
    """Open it again and look one vector up: what comes through this will not end whoever searches it."""
    key = next(iter(sorted(ledger.live_keys(fingerprint))), None)
    if key is not None:
        store.query(fingerprint, ledger.vectors_for(fingerprint, [key])[key], 1)
