"""Measures on a repository's own history how often a model's findings are right, and sets the threshold by it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from agent.calibration import Calibration
from agent.config import Settings
from agent.review_model import installed, options_of
from chains.review import Verdict
from chains.reviewing.replay import Case, Judged, cases, interval, judged, threshold_for
from chains.reviewing.trees import RevisionTree
from chains.reviewing.types import Finding
from chains.reviewing.units import units
from indexers.errors import ModelError
from indexers.git import Repository

# A hunk that takes longer than this is given up.
_HUNK_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One case that was replayed: what it was, and how the model did."""

    case: Case
    result: Judged
    seconds: float
    model: str


def replayed(repository: Repository, settings: Settings, model: str | None, last: int) -> Iterator[Measured]:
    """Half as many fixes taken back, and as many harmless commits, newest first, each as it is done.

    :raises ModelError: no model is installed.
    """
    source = installed(settings, model)
    if isinstance(source, Verdict):
        raise ModelError(
            f"There is nothing to calibrate: {source.detail}.", "Fetch a model: agent models pull"
        )
    # Read as a review reads; every finding is asked about, and none is dropped for what came out.
    options = replace(options_of(None, small=source.small), verify=0.0)
    tip = repository.head()
    for case in cases(repository, tip, last // 2, last - last // 2) if tip else ():
        began = time.monotonic()
        reader = source.reader(repository, RevisionTree(repository, case.revision), options)
        found: list[Finding] = []
        for file in case.files:
            for hunk in units(file):
                if hunk.added:
                    found += reader.read(file, hunk, time.monotonic() + _HUNK_SECONDS).findings
        yield Measured(case, judged(case, found), time.monotonic() - began, reader.label)


def concluded(measured: list[Measured]) -> Calibration:
    """The threshold with at most one false alarm in twenty harmless commits, and what it finds."""
    results = [item.result for item in measured]
    threshold = threshold_for(results)
    faults = [item for item in results if item.is_fault]
    harmless = [item for item in results if not item.is_fault]
    return Calibration(
        threshold,
        len(faults),
        sum(item.hit and item.probability >= threshold for item in faults),
        len(harmless),
        sum(item.probability >= threshold and item.probability > 0 for item in harmless),
    )


def sentences(found: Calibration) -> list[str]:
    """Precision and recall in words, each with its 95 % interval."""
    told = found.found + found.alarmed
    return [
        _share("recall", found.found, found.faults, "faults found"),
        _share("precision", found.found, told, "of what is told is right"),
        _share("false alarms", found.alarmed, found.harmless, "harmless commits"),
    ]


def _share(name: str, count: int, of: int, what: str) -> str:
    if not of:
        return f"{name}: nothing to count"
    low, high = interval(count, of)
    return f"{name}: {count / of:.2f} ({count} of {of} {what}; 95 % interval {low:.2f} to {high:.2f})"
