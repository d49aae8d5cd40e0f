"""A process in which files are read and parsed: a crash or an endless loop in a grammar ends it, and nothing else."""

# Started by `pool`. Messages go both ways as a length of four bytes and what `marshal` makes of plain tuples. First
# comes what is the same for all files, then a message for each file; the first answer is empty: we are ready.

from __future__ import annotations

import marshal
import os
import resource
import signal
from pathlib import Path
from typing import Any

from indexers.config import IndexConfig
from indexers.files import stat_file
from indexers.reading import Job, read_file
from indexers.types import TrackedFile

HEADER_BYTES = 4
# CPU time, so that a busy machine ends nothing. An ordinary file takes half a microsecond a byte.
SECONDS = 10.0
SECONDS_PER_BYTE = 1e-5
# Enough for any file worth reading; without a limit the system might end another process to make room.
_MEMORY_BYTES = 4 << 30


def main() -> None:
    """Answer messages until there are no more."""
    results = os.dup(1)
    # Whatever else prints here must not end up among the results.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    # Whoever started us may have kept the signal from coming through.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    _limit_memory()
    setup = _receive()
    if setup is None:
        return
    root, settings, key = setup
    config = IndexConfig(**settings)
    _send(results, ())
    while (message := _receive()) is not None:
        path, mode, tracked, known, seconds = message
        job = Job(TrackedFile(path, mode, tracked), known)
        stat = stat_file(Path(root), path)
        # What the signal of this timer does by default is to end the process, whatever code it is in.
        size = min(stat.size, config.max_file_bytes) if stat else 0
        signal.setitimer(signal.ITIMER_PROF, seconds + SECONDS_PER_BYTE * size)
        reading = read_file(Path(root), job, config, key)
        signal.setitimer(signal.ITIMER_PROF, 0)
        chunks = None if reading.chunks is None else tuple(map(tuple, reading.chunks))
        _send(results, (tuple(reading.stat), *reading[1:-1], chunks))


def _limit_memory() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = _memory_in_use() + _MEMORY_BYTES
    try:
        resource.setrlimit(
            resource.RLIMIT_AS, (limit if most == resource.RLIM_INFINITY else min(limit, most), most)
        )
    except (OSError, ValueError):
        # Not every system lets a process limit itself; it is a second line of defence.
        return


def _memory_in_use() -> int:
    """Bytes of address space, a model's among them when we are a copy of a process that has one open."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return 0


def _receive() -> Any:
    """The next message; None when the other side has closed."""
    header = _read(HEADER_BYTES)
    return None if header is None else marshal.loads(_read(int.from_bytes(header, "little")) or b"")


def _read(count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        piece = os.read(0, count - len(data))
        if not piece:
            return None
        data += piece
    return data


def _send(descriptor: int, message: tuple[Any, ...]) -> None:
    payload = marshal.dumps(message)
    data = memoryview(len(payload).to_bytes(HEADER_BYTES, "little") + payload)
    while data:
        data = data[os.write(descriptor, data) :]
