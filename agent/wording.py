"""Sizes, durations and counts as people read them."""

from __future__ import annotations


def size_text(count: float) -> str:
    """A number of bytes as people read it: 491 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"


def seconds_text(seconds: float) -> str:
    """A duration as people read it: 0.8 s, 3 min 20 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def count_text(count: int, noun: str) -> str:
    """A counted noun: 1 file, 2 files."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
