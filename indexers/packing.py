"""Chooses, among the borders of a text, those at which it is cut into chunks of about one size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from indexers.borders import Border, Lines, inside

# A chunk longer than aimed at mixes two things, a shorter one only costs a little: so longer is dearer.
_LONGER = 6.0
_TINY_CHARS = 80
_TINY = 3.0
# A chunk that begins inside a structure and runs past its end, or takes the head off the next structure.
_PAST_THE_END = 0.8
_HEAD_OFF = 0.6
# Borders closer than this share of the size aimed at are thinned, a chunk spans at most so many borders: the
# work is the number of borders times the number that fit into a chunk.
_STEP = 24
_WINDOW = 160
_NEVER = float("inf")


class Span(NamedTuple):
    """First and last row of a chunk, 0-based and inclusive; neither is blank."""

    first: int
    last: int


def pack(lines: Lines, borders: Mapping[int, Border], target: int, limit: int) -> list[Span]:
    """Cover every line that is not blank by spans of at most `limit` characters, longer lines excepted.

    Shortest path over the borders: a cut costs by its depth, a chunk by its distance from `target`.
    """
    last = lines.previous[-1] if lines.previous else -1
    if last < 0:
        return []
    first = next(row for row in range(last + 1) if not lines.is_blank(row))
    usable = {
        row: border for row, border in borders.items() if first < row <= last and not lines.is_blank(row)
    }
    usable[first] = Border(0.0, min((border.level for border in usable.values()), default=0))
    rows = _thinned(lines, _opened(lines, usable, last, limit), last, target, limit)
    return _cheapest(lines, rows, last, target, limit)


def _opened(lines: Lines, borders: dict[int, Border], last: int, limit: int) -> dict[int, Border]:
    """Add line borders wherever two neighbouring borders are further apart than a chunk may be long."""
    rows = sorted(borders)
    for row, following in zip(rows, [*rows[1:], last + 1], strict=True):
        end = lines.previous[following - 1]
        if end > row and lines.size(row, end) > limit:
            borders.update(inside(lines, row, end))
    return borders


def _thinned(
    lines: Lines, borders: dict[int, Border], last: int, target: int, limit: int
) -> list[tuple[int, Border]]:
    """Drop the dearer of two borders that stand very close, unless what is between would grow too long.

    A border at which the text leaves a deeper structure stays: it is what keeps two neighbours apart.
    """
    step = max(target // _STEP, 1)
    kept: list[tuple[int, Border]] = []
    rows = sorted(borders)
    offsets = lines.offsets
    for row, following in zip(rows, [*rows[1:], last + 1], strict=True):
        border = borders[row]
        if len(kept) > 1 and offsets[row] - offsets[kept[-1][0]] < step:
            if border.cost >= kept[-1][1].cost and border.level >= kept[-1][1].level:
                if lines.size(kept[-1][0], lines.previous[following - 1]) <= limit:
                    continue
            elif _may_go(lines, kept, row, border, limit):
                kept.pop()
        kept.append((row, border))
    return kept


def _may_go(lines: Lines, kept: list[tuple[int, Border]], row: int, border: Border, limit: int) -> bool:
    """Whether the last border kept is worth less than the one at `row`, just after it."""
    (before, outer), (_, last) = kept[-2], kept[-1]
    if last.cost < border.cost or last.level < max(border.level, outer.level):
        return False
    return lines.size(before, lines.previous[row - 1]) <= limit


def _cheapest(lines: Lines, rows: list[tuple[int, Border]], last: int, target: int, limit: int) -> list[Span]:
    count = len(rows)
    starts = [lines.offsets[row] for row, _ in rows]
    ends = [lines.offsets[lines.previous[row - 1] + 1] - 1 for row, _ in rows[1:]]
    ends.append(lines.offsets[last + 1] - 1)
    levels = [border.level for _, border in rows]
    costs = [border.cost for _, border in rows[1:]]
    costs.append(0.0)
    price = [_NEVER] * (count + 1)
    price[0] = 0.0
    origin = [0] * (count + 1)
    levels.append(-1)
    for i in range(count):
        here, start, level = price[i], starts[i], levels[i]
        lowest = 1 << 30
        for j in range(i, min(count, i + _WINDOW)):  # the chunk is i..j, the next one begins at j + 1
            size = ends[j] - start
            if size > limit and j > i:
                break
            following = levels[j + 1]
            total = here + costs[j]
            # What is added below is never negative: most pairs of borders end here.
            if total < price[j + 1]:
                share = size / target - 1.0
                total += share * share * (_LONGER if share > 0.0 else 1.0)
                if size < _TINY_CHARS:
                    total += _TINY
                if lowest < level:
                    total += _PAST_THE_END
                if lowest < following:
                    total += _HEAD_OFF
                if total < price[j + 1]:
                    price[j + 1] = total
                    origin[j + 1] = i
            if following < lowest:
                lowest = following
    spans: list[Span] = []
    j = count
    while j > 0:
        i = origin[j]
        end = last if j == count else lines.previous[rows[j][0] - 1]
        spans.append(Span(rows[i][0], end))
        j = i
    return spans[::-1]
