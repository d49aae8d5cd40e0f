"""A repository's own history as a test of its reviewer: fixes taken back are faults, other commits are harmless."""

# Whoever wrote a fix has marked the lines of a fault. Taken back, the change brings the fault in again. A commit that
# fixes nothing may hold a fault nobody has found: false alarms are counted too high, never too low.

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from chains.reviewing.changes import ReadChange, read_change
from chains.reviewing.types import FileDiff, Finding
from indexers.filters import is_test
from indexers.git import Repository
from indexers.history import Commit, commits
from indexers.revisions import Revision

_FIX = re.compile(
    r"(?i)\b(?:fix(?:e[sd]|ing)?|bug(?:fix)?|crash(?:es|ed)?|regression|incorrect(?:ly)?|wrong(?:ly)?)\b"
)
_NO_FAULT = re.compile(
    r"(?i)\b(?:typos?|docs?|documentation|docstrings?|readme|changelog|comments?|lint(?:er|ing)?|style|format(?:ting)?|"
    r"tests?|ci|mypy|typing|type[- ]?hints?|annotations?|flake8|pep8|ruff|black|bump|release|version|merge|revert|"
    r"links?|spelling|grammar|build|workflow|warnings?|deprecat\w*|imports?|coverage|badge|examples?|translations?|packaging)\b"
)
_CODE = frozenset(
    "python javascript typescript tsx ruby go rust java php csharp c cpp lua elixir kotlin swift".split()
)
# A change that a person sees through: what is larger is seldom one fault.
_MOST_FILES, _MOST_LINES = 3, 20
NEAR = 3
FALSE_ALARMS = 1 / 20


@dataclass(frozen=True, slots=True)
class Case:
    """One change to review: `revision` with its files read. `is_fault` where a fix is taken back."""

    commit: Commit
    revision: Revision
    change: ReadChange
    is_fault: bool

    @property
    def files(self) -> tuple[FileDiff, ...]:
        """The changed files of code, without tests."""
        return tuple(file for file in self.change.files if _is_code(file))


@dataclass(frozen=True, slots=True)
class Judged:
    """The best finding of a case: its probability (0 without any), and whether one stands near the fault's lines."""

    is_fault: bool
    probability: float
    hit: bool


def cases(repository: Repository, tip: str, faults: int, harmless: int, most: int = 4_000) -> Iterator[Case]:
    """At most so many of both kinds from the last `most` commits, newest first, a fault and a harmless one in turn."""
    waiting: dict[bool, list[Case]] = {True: [], False: []}
    left = {True: faults, False: harmless}
    for commit in commits(repository, tip, most):
        kind = _kind(commit)
        if kind is None or left[kind] <= 0:
            if not any(left.values()):
                break
            continue
        case = _case(repository, commit, kind)
        if case is not None:
            left[kind] -= 1
            waiting[kind].append(case)
        while waiting[True] and waiting[False]:
            yield waiting[True].pop(0)
            yield waiting[False].pop(0)
    yield from (*waiting[True], *waiting[False])


def _kind(commit: Commit) -> bool | None:
    """Whether a commit mends a fault; None where its message leaves that open, or it is about something else."""
    if len(commit.parents) != 1:
        return None
    if _FIX.search(commit.subject):
        return None if _NO_FAULT.search(commit.subject) else True
    return False


def _case(repository: Repository, commit: Commit, is_fault: bool) -> Case | None:
    parent = commit.parents[0]
    title = f"commit {commit.id[:10]}" + (" taken back" if is_fault else "")
    revision = Revision(commit.id, parent, title) if is_fault else Revision(parent, commit.id, title)
    change = read_change(repository, revision)
    case = Case(commit, revision, change, is_fault)
    files = case.files
    lines = sum(max(len(hunk.added), len(hunk.removed)) for file in files for hunk in file.hunks)
    added = any(hunk.added for file in files for hunk in file.hunks)
    return case if 0 < len(files) <= _MOST_FILES and 0 < lines <= _MOST_LINES and added else None


def _is_code(file: FileDiff) -> bool:
    both = file.before is not None and file.after is not None and bool(file.hunks)
    return both and file.language in _CODE and not is_test(file.path)


def judged(case: Case, findings: Iterable[Finding]) -> Judged:
    """How findings did on a case; one within three lines of a touched line hits."""
    touched = {(file.path, line) for file in case.files for hunk in file.hunks for line in hunk.touched}
    found = list(findings)
    best = max((item.probability if item.probability is not None else 1.0 for item in found), default=0.0)
    hit = any((item.path, item.line + step) in touched for item in found for step in range(-NEAR, NEAR + 1))
    return Judged(case.is_fault, best, hit)


def threshold_for(results: Sequence[Judged], allowed: float = FALSE_ALARMS) -> float:
    """The least probability at which at most that share of harmless cases has a finding; above 1 where none does."""
    alarms = sorted(
        (item.probability for item in results if not item.is_fault and item.probability > 0), reverse=True
    )
    harmless = sum(not item.is_fault for item in results)
    most = math.floor(harmless * allowed)
    if len(alarms) <= most:
        return 0.0
    # Just above the first alarm that is one too many.
    return min(1.01, round(alarms[most] + 1e-4, 4))


def interval(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (E. B. Wilson, 1927), which holds for few trials too."""
    if not trials:
        return 0.0, 1.0
    z = 1.96
    share = successes / trials
    middle = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
