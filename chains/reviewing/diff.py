"""The difference of two texts as hunks, computed from the texts alone. Pure."""

# Not git's diff: attributes of the repository can tell git that a source file is binary, or name a driver for it, and
# a change could hide itself that way. Not difflib alone either: it takes the product of both lengths.

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from chains.reviewing.types import Hunk

# Up to this product of lengths difflib takes milliseconds; beyond it the text is first cut at lines that are unique.
_SMALL = 250_000
_DEPTH = 40


def hunks(before: str | None, after: str | None) -> tuple[Hunk, ...]:
    """The runs of lines in which two texts differ, in order. A line ends at `\\n` and nowhere else.

    A change of nothing but the line end at the end of the text is no hunk.
    """
    old, new = _lines(before), _lines(after)
    return tuple(
        Hunk(new_at + 1, tuple(new[new_at:new_end]), old_at + 1, tuple(old[old_at:old_end]))
        for old_at, old_end, new_at, new_end in _joined(_different(old, new, 0, 0, 0))
    )


def touched_lines(before: str | None, after: str | None) -> set[int]:
    """The numbers of lines of the new text that the old one has not."""
    return {number for hunk in hunks(before, after) if hunk.added for number in hunk.touched}


def limited(found: Sequence[Hunk], lines: set[int]) -> tuple[Hunk, ...]:
    """The hunks cut to some lines: of a merge, those that no side had."""
    kept: list[Hunk] = []
    for hunk in found:
        run: list[int] = []
        for number in [*(n for n in hunk.touched if n in lines and hunk.added), 0]:
            if run and number != run[-1] + 1:
                first = run[0] - hunk.start
                kept.append(Hunk(run[0], hunk.added[first : first + len(run)], hunk.old_start, ()))
                run = []
            if number:
                run.append(number)
    return tuple(kept)


def _lines(text: str | None) -> list[str]:
    if not text:
        return []
    lines = text.split("\n")
    return lines[:-1] if not lines[-1] else lines


_Span = tuple[int, int, int, int]


def _different(
    old: Sequence[str], new: Sequence[str], old_at: int, new_at: int, depth: int
) -> Iterator[_Span]:
    """Spans (old start, old end, new start, new end) that differ; 0-based, ends exclusive."""
    head = 0
    while head < len(old) and head < len(new) and old[head] == new[head]:
        head += 1
    tail = 0
    most = min(len(old), len(new)) - head
    while tail < most and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    old, new = old[head : len(old) - tail], new[head : len(new) - tail]
    old_at, new_at = old_at + head, new_at + head
    if not old and not new:
        return
    if not old or not new:
        yield old_at, old_at + len(old), new_at, new_at + len(new)
    elif len(old) * len(new) <= _SMALL:
        for kind, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if kind != "equal":
                yield old_at + i1, old_at + i2, new_at + j1, new_at + j2
    else:
        yield from _between_anchors(old, new, old_at, new_at, depth)


def _between_anchors(
    old: Sequence[str], new: Sequence[str], old_at: int, new_at: int, depth: int
) -> Iterator[_Span]:
    """Cut at lines that occur once in both, in the longest order both share; what lies between is compared anew."""
    anchors = _anchors(old, new) if depth < _DEPTH else []
    if not anchors:
        yield old_at, old_at + len(old), new_at, new_at + len(new)
        return
    i = j = 0
    for a, b in [*anchors, (len(old), len(new))]:
        yield from _different(old[i:a], new[j:b], old_at + i, new_at + j, depth + 1)
        i, j = a + 1, b + 1


def _anchors(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    once = {line for line, count in Counter(old).items() if count == 1}
    once &= {line for line, count in Counter(new).items() if count == 1}
    where = {line: index for index, line in enumerate(new) if line in once}
    pairs = [(index, where[line]) for index, line in enumerate(old) if line in once]
    # Patience sorting: the longest run in which the places in the new text ascend.
    tops: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for at, (_, place) in enumerate(pairs):
        pile = bisect_left(tops, place)
        if pile == len(tops):
            tops.append(place)
            ends.append(at)
        else:
            tops[pile], ends[pile] = place, at
        before.append(ends[pile - 1] if pile else -1)
    chain: list[tuple[int, int]] = []
    at = ends[-1] if ends else -1
    while at >= 0:
        chain.append(pairs[at])
        at = before[at]
    return chain[::-1]


def _joined(spans: Iterator[_Span]) -> Iterator[_Span]:
    """Spans that touch are one."""
    last: _Span | None = None
    for span in spans:
        if last is not None and last[1] == span[0] and last[3] == span[2]:
            last = (last[0], span[1], last[2], span[3])
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last
