"""Values of a review: the lines a change touches, what was found in them, and what nobody looked at."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from chains.reviewing.visible import visible
from indexers.redact import redact

# Marks are compared with nothing: any key does.
_KEY = b"review"
_LINE_NUMBER = re.compile(r"(?:(?<=[^\s:]:)|(?<=\bline ))\d+\b")


class Severity(str, Enum):
    """How much a finding matters; the order is that of the members."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for the least."""
        return list(Severity).index(self)


class Reason(str, Enum):
    """Why something that should have been reviewed was not; the value is what people read."""

    DEADLINE = "the deadline was reached"
    NO_MODEL = "no model"
    MODEL_FAILED = "the model failed"
    REFUSED = "the model refused"
    UNPARSABLE = "the model's answer could not be read"
    NO_DIFF = "unparsable"
    TOO_LARGE = "too large"
    MISSING = "not in the object database"
    CONFLICT = "in conflict"
    PENDING = "not looked at yet"


@dataclass(frozen=True, slots=True)
class Hunk:
    """A run of lines that a change replaces. Lines are 1-based and without line ends.

    `start` is the number of the first of `added` in the new text. Where only lines are taken away, it is the number
    of the line that now stands there, at most one beyond the last.
    """

    start: int
    added: tuple[str, ...]
    old_start: int
    removed: tuple[str, ...]

    @property
    def end(self) -> int:
        """The last line of the new text that belongs to it."""
        return max(self.start, self.start + len(self.added) - 1)

    @property
    def touched(self) -> range:
        """The lines a finding may name: those added, or the two around what was taken away."""
        if self.added:
            return range(self.start, self.start + len(self.added))
        return range(max(1, self.start - 1), self.start + 1)


# Without slots: what is worked out once is kept beside the fields.
@dataclass(frozen=True)
class FileDiff:
    """One file of a change as text. `before` and `after` are None where that side is absent or no text.

    `status` is git's letter. `whole` is false where only the lines of a patch are known: `after` then holds them at
    their numbers, blank lines between. `opaque` is what is no text, of which only secrets are looked for.
    """

    path: str
    status: str
    before: str | None
    after: str | None
    hunks: tuple[Hunk, ...]
    language: str = ""
    old_path: str = ""
    old_mode: int = 0
    new_mode: int = 0
    whole: bool = True
    opaque: bool = False

    def lines(self) -> list[str]:
        """The new text: line n stands at n - 1."""
        return list(self._split)

    def line(self, number: int) -> str:
        """One line of the new text; empty outside of it."""
        return _at(self._split, number)

    def redacted(self, number: int) -> str:
        """The same without secrets: what may be shown. A secret may begin lines before, so the whole text is read."""
        return _at(self._redacted, number)

    @cached_property
    def _split(self) -> list[str]:
        return (self.after or "").split("\n")

    @cached_property
    def _redacted(self) -> list[str]:
        """Redacting keeps the number of lines; where there is nothing to redact, it is the same list."""
        found = redact(self.after or "", _KEY, self.path)
        return found.text.split("\n") if found.count else self._split


def shown(text: str) -> str:
    """A line or a message as it may be shown: without secrets, and with nothing hidden in it."""
    return visible(redact(text, _KEY).text)


def _at(lines: list[str], number: int) -> str:
    return lines[number - 1] if 0 < number <= len(lines) else ""


@dataclass(frozen=True, slots=True)
class Unreviewed:
    """Lines that should have been looked at and were not; line 0 stands for the whole file."""

    path: str
    start_line: int
    end_line: int
    reason: Reason
    detail: str = ""

    @property
    def label(self) -> str:
        """Path and lines."""
        return f"{self.path}:{self.start_line}-{self.end_line}" if self.start_line else self.path


@dataclass(frozen=True, slots=True)
class Exempt:
    """A file in which there is nothing to read, by rule: a binary, a lock file, a deletion, a submodule."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reviewed:
    """Lines that were looked at: by the checks, and where `by_model` is true by the model too."""

    path: str
    start_line: int
    end_line: int
    by_model: bool

    @property
    def label(self) -> str:
        """Path and lines."""
        return f"{self.path}:{self.start_line}-{self.end_line}"


CHECK, MODEL = "check", "model"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Lines that would replace `start_line` to `end_line` of the new text; they apply, and the file still parses."""

    start_line: int
    end_line: int
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something found in lines that the change touches.

    `quote` is the line as it stands there, secrets blacked out. `source` is `check` or `model`; `probability` is what
    the model gives the finding to be true, where it was asked. `fingerprint` stays the same when lines move.
    `switched_off` says that the line itself does that.
    """

    path: str
    line: int
    severity: Severity
    category: str
    message: str
    quote: str = ""
    source: str = CHECK
    end_line: int = 0
    probability: float | None = None
    suggestion: Suggestion | None = None
    fingerprint: str = ""
    switched_off: bool = False

    @property
    def label(self) -> str:
        """Path and line."""
        return f"{self.path}:{self.line}"


def fingerprint(path: str, category: str, line: str, about: str = "", nth: int = 0) -> str:
    """What a finding is recognised by: its file, its kind, the raw text of its line, and what it is `about`.

    `nth` tells twins apart. Numbers of lines in what it is about do not count: those move.
    """
    about = _LINE_NUMBER.sub("", " ".join(about.split()))
    parts = (path, category, " ".join(line.split()), about, str(nth))
    data = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()[:32]


class Outcome(str, Enum):
    """How a review ended."""

    CLEAN = "clean"
    FINDINGS = "findings"
    NOT_REVIEWED = "not reviewed"
    NOTHING = "nothing to review"


@dataclass(frozen=True, slots=True)
class ReviewReport:
    """What a review found, what it looked at, and what it did not.

    `rejected` counts what the model said that did not stand, by reason; `suppressed` findings were switched off in
    their line, `accepted` ones by the baseline. `threshold` is the probability below which findings were dropped.
    """

    title: str
    findings: tuple[Finding, ...] = ()
    reviewed: tuple[Reviewed, ...] = ()
    unreviewed: tuple[Unreviewed, ...] = ()
    exempt: tuple[Exempt, ...] = ()
    suppressed: tuple[Finding, ...] = ()
    accepted: tuple[Finding, ...] = ()
    rejected: Mapping[str, int] = field(default_factory=dict)
    block_at: Severity = Severity.HIGH
    strict: bool = False
    model: str = ""
    threshold: float | None = None
    cached: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """The findings that are reason enough to stop."""
        return tuple(item for item in self.findings if item.severity.rank >= self.block_at.rank)

    @property
    def outcome(self) -> Outcome:
        """Findings first, then what was not reviewed: neither is ever called clean."""
        if self.findings:
            return Outcome.FINDINGS
        if self.unreviewed:
            return Outcome.NOT_REVIEWED
        return Outcome.CLEAN if self.reviewed else Outcome.NOTHING

    @property
    def exit_code(self) -> int:
        """1 for a blocking finding; 3 where something was not reviewed and that may not pass; else 0."""
        if self.blocking:
            return 1
        return 3 if self.unreviewed and self.strict else 0
