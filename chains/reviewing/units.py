"""Cuts a change into pieces that a model reads one at a time: hunks, long ones at blank lines. Pure."""

from __future__ import annotations

from chains.reviewing.types import FileDiff, Hunk

# What a small model can keep in view, and what is read in a few seconds.
MOST_LINES = 60


def units(file: FileDiff) -> tuple[Hunk, ...]:
    """The pieces of a file's change, in order; one without lines where there are none."""
    found: list[Hunk] = []
    for hunk in file.hunks:
        found += _pieces(hunk)
    return tuple(found) or (Hunk(1, (), 1, ()),)


def _pieces(hunk: Hunk) -> list[Hunk]:
    if len(hunk.added) <= MOST_LINES:
        return [hunk]
    pieces: list[Hunk] = []
    start, end = hunk.start, hunk.start + len(hunk.added)
    while start < end:
        stop = min(start + MOST_LINES, end)
        if stop < end:
            # The outermost border in reach, if that leaves a piece worth its own prompt.
            stop = _border(hunk, start + MOST_LINES // 3, stop)
        first = start - hunk.start
        removed = hunk.removed if not pieces else ()
        pieces.append(Hunk(start, hunk.added[first : first + stop - start], hunk.old_start, removed))
        start = stop
    return pieces


def _border(hunk: Hunk, first: int, last: int) -> int:
    """The last line in reach that begins after a blank one and is indented least: there something ends."""

    def depth(line: int) -> tuple[int, int]:
        text = hunk.added[line - hunk.start]
        before = hunk.added[line - hunk.start - 1]
        closing = not text.strip() or text.lstrip()[:1] in ")]}"
        return (1_000 if closing or before.strip() else len(text) - len(text.lstrip())), -line

    best = min(range(first, last + 1), key=depth)
    return best if depth(best)[0] < 1_000 else last
