"""The review chain: checks on every file, then a model hunk by hunk, within a deadline; what was not seen is said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from chains.reviewing.changes import ReadChange
from chains.reviewing.checks import callers, first, second, secret
from chains.reviewing.checks.uses import Tree
from chains.reviewing.history import Step
from chains.reviewing.risk import risk
from chains.reviewing.suppressions import sift
from chains.reviewing.types import (
    FileDiff,
    Finding,
    Hunk,
    Reason,
    Reviewed,
    ReviewReport,
    Severity,
    Unreviewed,
)
from chains.reviewing.units import units

# How long the work goes on before it is shown how far it is, in seconds.
_SNAPSHOT_SECONDS = 0.5
DEFAULT_DEADLINE = 20.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What counts. `deadline` is seconds for the whole review; `accepted` are fingerprints of findings known before."""

    block_at: Severity = Severity.HIGH
    strict: bool = False
    deadline: float = DEFAULT_DEADLINE
    accepted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the model said of one hunk and stands, what of it did not stand, or why it said nothing."""

    findings: tuple[Finding, ...] = ()
    rejected: Mapping[str, int] = field(default_factory=dict)
    unreviewed: Reason | None = None
    detail: str = ""
    cached: bool = False


class Reader(Protocol):
    """The model layer."""

    @property
    def label(self) -> str:
        """The model's name."""

    @property
    def threshold(self) -> float | None:
        """The probability below which findings were dropped."""

    def read(self, file: FileDiff, hunk: Hunk, end: float) -> Verdict:
        """What the model says of a hunk, at the latest at the time `end` of the monotonic clock."""


@dataclass(slots=True)
class _Run:
    """A review under way."""

    change: ReadChange
    policy: Policy
    started: float
    label: str = ""
    threshold: float | None = None
    found: list[Finding] = field(default_factory=list)
    states: dict[tuple[int, int], Reason | bool] = field(default_factory=dict)
    details: dict[tuple[int, int], str] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    cached: int = 0
    notes: list[str] = field(default_factory=list)
    pieces: list[tuple[Hunk, ...]] = field(default_factory=list)
    shown: float = 0.0
    # Of what is no text, how much was looked through.
    searched: int = 0
    lost: list[Unreviewed] = field(default_factory=list)

    @property
    def end(self) -> float:
        """When the time is over, on the monotonic clock."""
        return self.started + self.policy.deadline

    def late(self, share: float = 1.0) -> bool:
        """Whether it is, or so much of it."""
        return time.monotonic() >= self.started + self.policy.deadline * share

    def due(self) -> bool:
        """Whether it is time to show how far we are."""
        if time.monotonic() - self.shown < _SNAPSHOT_SECONDS:
            return False
        self.shown = time.monotonic()
        return True

    def report(self, *, last: bool = False) -> ReviewReport:
        """What is known now; until the last report, what is still to come counts as not reviewed."""
        change = self.change
        reviewed: list[Reviewed] = []
        unreviewed = [*change.unreviewed, *self.lost]
        reason = Reason.DEADLINE if last else Reason.PENDING
        unreviewed += (
            Unreviewed(file.path, 0, 0, reason, "its bytes were not looked through for secrets")
            for file in change.opaque[self.searched :]
        )
        for (at, number), state in self.states.items():
            file = change.files[at]
            hunk = self.pieces[at][number]
            if isinstance(state, Reason):
                reason = Reason.DEADLINE if last and state is Reason.PENDING else state
                unreviewed.append(
                    Unreviewed(file.path, hunk.start, hunk.end, reason, self.details.get((at, number), ""))
                )
            else:
                reviewed.append(Reviewed(file.path, hunk.start, hunk.end, by_model=state))
        sifted = sift(self.found, (*change.files, *change.opaque), self.policy.accepted)
        return ReviewReport(
            title=change.title,
            findings=tuple(sorted(sifted.findings, key=lambda f: (-f.severity.rank, f.path, f.line))),
            reviewed=tuple(reviewed),
            unreviewed=tuple(unreviewed),
            exempt=change.exempt,
            suppressed=sifted.suppressed,
            accepted=sifted.accepted,
            rejected=dict(self.rejected),
            block_at=self.policy.block_at,
            strict=self.policy.strict,
            model=self.label,
            threshold=self.threshold,
            cached=self.cached,
            seconds=round(time.monotonic() - self.started, 3),
            notes=tuple(self.notes),
        )


def review(
    change: ReadChange,
    policy: Policy,
    *,
    tree: Tree | None = None,
    reader: Callable[[], Reader | Verdict] | None = None,
    started: float | None = None,
    history: Callable[[Callable[[], bool]], Iterator[Step]] | None = None,
) -> Iterator[ReviewReport]:
    """Reports of how far the review is, the last of which is the review.

    :param tree: all files after the change; without it nobody looks for callers.
    :param reader: makes the model layer when there is something for it to read, or gives the verdict on every hunk
        where there is none; None where no model is wanted.
    :param started: the monotonic time from which the deadline counts, now where none is given.
    :param history: what each commit of a range did, looked through for secrets until what it is given says stop.
    """
    run = _Run(change, policy, time.monotonic() if started is None else started)
    quiet = {item.path for item in change.quiet}
    for at, file in enumerate(change.files):
        run.pieces.append(units(file))
        for number in range(len(run.pieces[at])):
            run.states[at, number] = Reason.PENDING
    yield run.report()
    yield from _checks(run, tree, history)
    checked = [key for key, state in run.states.items() if state is False]
    waiting = [key for key in checked if change.files[key[0]].path not in quiet] if reader else []
    for key in waiting:
        run.states[key] = Reason.PENDING
    if waiting:
        yield run.report()
        assert reader is not None
        yield from _by_model(run, waiting, reader)
    yield run.report(last=True)


def _checks(
    run: _Run,
    tree: Tree | None,
    history: Callable[[Callable[[], bool]], Iterator[Step]] | None,
) -> Iterator[ReviewReport]:
    """Every check on every file; what the time did not reach stays pending."""
    files = run.change.files
    done = len(files)
    # One after the other on all files: none may take the time in which another is looked through for secrets.
    for check in (secret, first, second):
        reached = 0
        for file in files[:done]:
            if run.late():
                break
            run.found += check(file)
            reached += 1
            if run.due():
                yield run.report()
        done = reached
        if check is secret:
            yield from _opaque(run)
            # The other checks get half of the time.
            yield from _past(run, history(partial(run.late, 0.5))) if history is not None else ()
    if tree is not None and not run.late():
        run.found += callers.check(files, tree, run.late)
        if run.late():
            run.notes.append("There was no time to look for all callers of what was removed or changed.")
    for key in run.states:
        if key[0] < done:
            run.states[key] = False


def _opaque(run: _Run) -> Iterator[ReviewReport]:
    """Secrets in what is no text; what the time did not reach is told."""
    for file in run.change.opaque:
        if run.late():
            break
        run.found += secret(file)
        run.searched += 1
        if run.due():
            yield run.report()


def _past(run: _Run, steps: Iterator[Step]) -> Iterator[ReviewReport]:
    """Secrets in the commits of a range, those that are still there at its end told once."""
    known = {item.fingerprint for item in run.found}
    for step in steps:
        if isinstance(step, Unreviewed):
            run.lost.append(step)
            continue
        commit, file = step
        for item in secret(file):
            if item.fingerprint not in known:
                known.add(item.fingerprint)
                message = f"In commit {commit[:10]}, and no longer so at the end of the range: {item.message}"
                run.found.append(replace(item, message=message))
        if run.due():
            yield run.report()


def _by_model(
    run: _Run, waiting: list[tuple[int, int]], reader: Callable[[], Reader | Verdict]
) -> Iterator[ReviewReport]:
    """The hunks in order of their risk, until the time is over."""
    files = run.change.files
    waiting.sort(key=lambda key: -risk(files[key[0]], run.pieces[key[0]][key[1]]))
    model = reader() if not run.late() else Verdict(unreviewed=Reason.DEADLINE)
    if isinstance(model, Verdict):
        for key in waiting:
            run.states[key] = model.unreviewed or True
            run.details[key] = model.detail
        return
    run.label, run.threshold = model.label, model.threshold
    for key in waiting:
        if run.late():
            break
        file = files[key[0]]
        verdict = model.read(file, run.pieces[key[0]][key[1]], run.end)
        run.found += verdict.findings
        run.cached += verdict.cached
        for reason, count in verdict.rejected.items():
            run.rejected[reason] = run.rejected.get(reason, 0) + count
        run.states[key] = verdict.unreviewed or True
        run.details[key] = verdict.detail
        run.threshold = model.threshold
        yield run.report()


def finished_late(report: ReviewReport, seconds: float) -> ReviewReport:
    """A report of work that was stopped: what it still had to do was not reviewed."""
    late = tuple(
        replace(item, reason=Reason.DEADLINE) if item.reason is Reason.PENDING else item
        for item in report.unreviewed
    )
    return replace(report, unreviewed=late, seconds=round(seconds, 3))
