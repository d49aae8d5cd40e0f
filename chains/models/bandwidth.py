"""How fast this machine reads its memory: the bound that generating text runs into."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

# Far beyond any cache, and read in a second at the slowest.
_BYTES = 1 << 28
_ROUNDS = 4


def memory_bandwidth(threads: int) -> float:
    """Bytes a second that so many threads read together, in the best of a few rounds over a large buffer.

    Numpy's reductions run without the interpreter's lock and at the speed of memory, or they are nearly there: what is
    measured is a lower bound.
    """
    import numpy as np

    buffer = np.ones(_BYTES // 8, dtype=np.int64)
    parts = np.array_split(buffer, threads)
    floats = [part.view(np.float64) for part in parts]
    ways: tuple[Callable[[int], object], ...] = (
        lambda part: parts[part].max(),
        lambda part: np.dot(floats[part], floats[part]),
    )
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for way in ways:
            for _ in range(_ROUNDS):
                started = time.perf_counter()
                list(pool.map(way, range(threads)))
                best = min(best, time.perf_counter() - started)
    return _BYTES / best
