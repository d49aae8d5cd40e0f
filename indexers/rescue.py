"""Rebuilds Chroma's index in a process of its own, after some process died in there: what ends it does not end us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from indexers.errors import AgentError, IndexStateError
from indexers.ledger import Ledger
from indexers.priority import nice_session
from indexers.store import VectorStore

if TYPE_CHECKING:
    from indexers.embedding import FloatArray

# A hundred thousand vectors take about two minutes; Chroma itself may wait 16 for a lock that nobody holds.
PATIENCE_SECONDS = 900.0
_START = "import sys; n = int(sys.argv[1]); sys.path[:] = sys.argv[2:2 + n]; from indexers.rescue import main; main()"
_FAILED = 3


def rebuild_apart(ledger: Ledger, store: VectorStore, fingerprint: str) -> None:
    """Make Chroma hold the vectors of this tree, from the ledger's files and in another process.

    :raises IndexStateError: that process crashed, failed or took too long. Searches go on without Chroma.
    """
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
            said, _ = process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise _failure(f"it did not finish within {PATIENCE_SECONDS:.0f} seconds") from None
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise _failure(_ending(process.returncode, said))


def _failure(why: str) -> IndexStateError:
    return IndexStateError(
        f"Chroma could not rebuild its vector index: {why}. Searches go on without it, by scanning the vectors.",
        "Install it again: pip install --force-reinstall chromadb; then: agent index --rebuild",
    )


def _ending(status: int, said: bytes) -> str:
    if status == _FAILED:
        return said.decode("utf-8", "replace").strip()
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
    """Rebuild as the last four arguments say: the ledger, its vectors, Chroma's directory, the embedder."""
    nice_session()
    ledger_path, vectors_path, directory, fingerprint = sys.argv[-4:]
    # Whatever Chroma prints must not end up before the reason of a failure.
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        ledger = Ledger(Path(ledger_path), Path(vectors_path))
        sync_from_ledger(ledger, VectorStore(Path(directory)), fingerprint)
    except AgentError as error:
        os.write(answer, error.message.encode("utf-8", "replace"))
        raise SystemExit(_FAILED) from error
