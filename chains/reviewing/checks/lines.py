"""What checks share: the lines a change adds, with their numbers, and a finding about one of them."""

from __future__ import annotations

from collections.abc import Iterator

from chains.reviewing.types import FileDiff, Finding, Severity, fingerprint

_LONGEST_QUOTE = 200


def added_lines(file: FileDiff) -> Iterator[tuple[int, str]]:
    """Number and text of every line that the change adds."""
    for hunk in file.hunks:
        yield from enumerate(hunk.added, hunk.start)


def finding(
    file: FileDiff, line: int, severity: Severity, category: str, message: str, quote: str | None = None
) -> Finding:
    """A finding about one line of the new text. `quote` replaces the line where it must not be shown."""
    raw = file.line(line)
    shown = raw.strip() if quote is None else quote
    return Finding(
        file.path,
        line,
        severity,
        category,
        message,
        shown if len(shown) <= _LONGEST_QUOTE else shown[:_LONGEST_QUOTE] + "...",
        fingerprint=fingerprint(file.path, category, raw),
    )
