"""A review as people read it: findings first, then what was looked at, then what was not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from agent.output import Output, Styled
from agent.safe_text import show_label, show_path
from agent.wording import count_text, seconds_text
from chains.reviewing.types import MODEL, Finding, Outcome, ReviewReport, Severity, Unreviewed

_STYLES = {
    Severity.LOW: "dim",
    Severity.MEDIUM: "yellow",
    Severity.HIGH: "bold red",
    Severity.CRITICAL: "bold red",
}
# More than this nobody reads in a terminal; the other formats have them all.
_MOST_SHOWN = 50


def show(output: Output, report: ReviewReport) -> None:
    """The whole report on stdout."""
    for item in report.findings[:_MOST_SHOWN]:
        for parts in _finding(item, blocking=item in report.blocking):
            output.line(*parts)
    if len(report.findings) > _MOST_SHOWN:
        output.line(
            f"... and {len(report.findings) - _MOST_SHOWN:,} findings more: --format json shows them all"
        )
    show_summary(output, report)


def show_summary(output: Output, report: ReviewReport) -> None:
    """What was looked at, what was not, and what is not shown."""
    for parts in summary(report):
        output.line(*parts)
    for note in report.notes:
        output.note((note, "yellow"))


def summary(report: ReviewReport) -> Iterator[Sequence[Styled]]:
    """What was looked at, what was not, and what is not shown, line by line."""
    yield _summary(report)
    for line in _unreviewed(report.unreviewed):
        yield [line]
    for line in _beside(report):
        yield [(line, "dim")]


def in_a_line(report: ReviewReport) -> str:
    """What a review came to, as one line of text."""
    return as_text(_summary(report))


def as_text(parts: Sequence[Styled]) -> str:
    """Styled pieces without their styles."""
    return "".join(part if isinstance(part, str) else part[0] for part in parts)


def _finding(item: Finding, *, blocking: bool) -> Iterator[Sequence[Styled]]:
    head = f"{show_path(item.path)}:{item.line}"
    said = (
        f" (model, {item.probability:.0%} sure)"
        if item.source == MODEL and item.probability is not None
        else ""
    )
    word = item.severity.value + (", blocks" if blocking else "")
    yield [(head, "bold"), "  ", (word, _STYLES[item.severity]), f"  [{item.category}]{said} {item.message}"]
    if item.quote:
        yield [(f"    {item.quote}", "dim")]
    if item.suggestion is not None:
        yield [("    suggested:", "green")]
        for line in item.suggestion.text.split("\n"):
            yield [(f"    + {line}", "green")]


def _summary(report: ReviewReport) -> Sequence[Styled]:
    """One line that says what was done, in words that never make more of it."""
    where = f"{report.title} ({seconds_text(report.seconds)})"
    if report.outcome is Outcome.NOTHING:
        return [f"Nothing to review in {where}."]
    read = _read_by(report)
    if report.outcome is Outcome.NOT_REVIEWED:
        return [("NOT REVIEWED in full", "bold yellow"), f", nothing found so far: {read} of {where}."]
    if report.outcome is Outcome.CLEAN:
        return [("Nothing found", "green"), f" in {read} of {where}."]
    blocking = f"{len(report.blocking):,} blocking" if report.blocking else "none blocking"
    return [(count_text(len(report.findings), "finding"), "bold"), f", {blocking}, in {read} of {where}."]


def _read_by(report: ReviewReport) -> str:
    """How much there is, and who looked at how much of it."""
    hunks = len(report.reviewed) + len(report.unreviewed)
    files = {item.path for item in report.reviewed} | {item.path for item in report.unreviewed}
    by_model = sum(item.by_model for item in report.reviewed)
    whole = f"{count_text(hunks, 'hunk')} in {count_text(len(files), 'file')}"
    if by_model:
        return f"{whole}, {by_model:,} of them read by {report.model},"
    return f"{whole}, read by the checks alone," if not report.unreviewed else whole


def _unreviewed(items: Iterable[Unreviewed]) -> Iterator[Styled]:
    by_reason: dict[str, list[Unreviewed]] = {}
    for item in items:
        by_reason.setdefault(f"{item.reason.value}{': ' + item.detail if item.detail else ''}", []).append(
            item
        )
    for reason, lost in by_reason.items():
        yield (f"Not reviewed, {reason}:", "yellow")
        for item in lost[:_MOST_SHOWN]:
            whole = not item.start_line
            yield "    " + (
                show_path(item.path) if whole else show_label(item.path, item.start_line, item.end_line)
            )
        if len(lost) > _MOST_SHOWN:
            yield f"    ... and {len(lost) - _MOST_SHOWN:,} places more"


def _beside(report: ReviewReport) -> Iterator[str]:
    reasons: dict[str, int] = {}
    for item in report.exempt:
        reason = item.reason.partition(" (")[0]
        reasons[reason] = reasons.get(reason, 0) + 1
    if reasons:
        words = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        yield f"Nothing to read in {count_text(len(report.exempt), 'file')}: {words}."
    if report.suppressed:
        yield f"{count_text(len(report.suppressed), 'finding')} switched off in their lines by 'agent: ignore[...]'."
    if report.accepted:
        yield f"{count_text(len(report.accepted), 'finding')} accepted before."
    if sum(report.rejected.values()):
        words = ", ".join(f"{count:,} {reason}" for reason, count in report.rejected.items())
        yield f"Of what the model said, this did not stand and is not shown: {words}."
    if report.cached:
        yield f"{count_text(report.cached, 'verdict')} from earlier reviews of the same lines."
