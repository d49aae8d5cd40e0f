"""Measures of ordered results, and intervals for differences between them. Pure: values in, values out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

TOKEN_BUDGET = 2_000
# What published comparisons count with; a tokenizer's own count would depend on the model.
CHARS_PER_TOKEN = 4
DRAWS = 10_000
SEED = 20_240_501
TAILS = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Place:
    """A result or a target: a path and lines (1-based, inclusive), `start_line` 0 for the whole file."""

    path: str
    start_line: int = 0
    end_line: int = 0
    chars: int = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the bounds that hold 95 % of its bootstrap."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def overlaps(result: Place, target: Place) -> bool:
    """Whether a result shows the target: the same file by its end, and a line in common where it names lines."""
    a, b = "/" + result.path.replace("\\", "/"), "/" + target.path.replace("\\", "/")
    if not (a.endswith(b) or b.endswith(a)):
        return False
    if not target.start_line:
        return True
    return result.start_line <= target.end_line and target.start_line <= result.end_line


def ndcg(results: Sequence[Place], targets: Sequence[Place], k: int = 10) -> float:
    """Normalised discounted cumulative gain of the first k results, 0..1, with gains of 0 and 1.

    A target counts once, at the rank of the first result that shows it; two targets first shown by one result
    count once together. The ideal order has min(k, targets) hits. This is the semble benchmark's definition.
    """
    if not targets:
        return 0.0
    found = {
        next((rank for rank, result in enumerate(results[:k]) if overlaps(result, target)), None)
        for target in targets
    }
    gained = sum(1 / math.log2(rank + 2) for rank in found if rank is not None)
    return gained / sum(1 / math.log2(rank + 2) for rank in range(min(k, len(targets))))


def budget_recall(results: Sequence[Place], targets: Sequence[Place], tokens: int = TOKEN_BUDGET) -> float:
    """Share of targets among the results that fit, in order, into a budget; the first that does not fit ends it."""
    read, spent = [], 0
    for result in results:
        spent += result.chars // CHARS_PER_TOKEN
        if spent > tokens:
            break
        read.append(result)
    shown = sum(any(overlaps(result, target) for result in read) for target in targets)
    return shown / len(targets) if targets else 0.0


def mean(values: Sequence[float]) -> float:
    """The mean; not a number for nothing."""
    return sum(values) / len(values) if values else math.nan


def paired(
    ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]], draws: int = DRAWS
) -> Interval:
    """Mean of ours - theirs over all queries, with a bootstrap over repositories.

    Queries of one repository succeed and fail together, so that whole repositories are drawn, with replacement.

    :param ours, theirs: scores in the same order of queries, by repository.
    """
    names = sorted(ours)
    if names != sorted(theirs) or any(len(ours[n]) != len(theirs[n]) for n in names):
        raise ValueError("the two runs hold different queries")
    sums = np.array([sum(ours[n]) - sum(theirs[n]) for n in names])
    counts = np.array([len(ours[n]) for n in names])
    drawn = np.random.default_rng(SEED).integers(0, len(names), (draws, len(names)))
    low, high = np.percentile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), TAILS)
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


def gap_closed(
    low: Sequence[float], ours: Sequence[float], high: Sequence[float], draws: int = DRAWS
) -> Interval | None:
    """(ours - low) / (high - low) of the means, with a bootstrap over questions; None when there is no gap.

    Draws in which `high` is not above `low` have no such share and are left out.
    """
    if not len(low) == len(ours) == len(high):
        raise ValueError("the three runs hold different questions")
    closed, gap = np.subtract(ours, low), np.subtract(high, low)
    if not len(gap) or gap.mean() <= 0:
        return None
    drawn = np.random.default_rng(SEED).integers(0, len(gap), (draws, len(gap)))
    gaps = gap[drawn].mean(axis=1)
    shares = closed[drawn].mean(axis=1)[gaps > 0] / gaps[gaps > 0]
    first, last = np.percentile(shares, TAILS)
    return Interval(float(closed.mean() / gap.mean()), float(first), float(last))
