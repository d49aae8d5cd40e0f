"""What checks share: the lines a change adds, with their numbers, and a finding about one of them."""

from __future__ import annotations

from collections.abc import Iterator

from chains.reviewing.suppressions import ignored
from chains.reviewing.types import FileDiff, Finding, Severity, fingerprint, shown

_LONGEST_QUOTE = 200
# One finding stands for the whole change of the file: accepted is that change, and no other that begins alike.
_BY_THE_WHOLE_CHANGE = frozenset({"self-running"})


def added_lines(file: FileDiff) -> Iterator[tuple[int, str]]:
    """Number and text of every line that the change adds."""
    for hunk in file.hunks:
        yield from enumerate(hunk.added, hunk.start)


def finding(
    file: FileDiff,
    line: int,
    severity: Severity,
    category: str,
    message: str,
    quote: str | None = None,
    about: str = "",
) -> Finding:
    """A finding about one line of the new text; no secret is shown by it, whatever the check is about.

    :param quote: replaces the line where that says more.
    :param about: what makes the finding another one, beside its line and its message.
    """
    # The whole text was redacted, not the line alone: a line in the midst of a private key looks like nothing.
    raw = file.line(line)
    quoted = shown((file.redacted(line) if quote is None else quote).strip())
    about = f"{message} {about}"
    if category in _BY_THE_WHOLE_CHANGE:
        about += f" {file.new_mode:o} {_changed(file)}"
    return Finding(
        file.path,
        line,
        severity,
        category,
        shown(message),
        quoted if len(quoted) <= _LONGEST_QUOTE else quoted[:_LONGEST_QUOTE] + "...",
        fingerprint=fingerprint(file.path, category, raw, about),
        switched_off=category in ignored(raw),
    )


def _changed(file: FileDiff) -> str:
    """Every line that the change adds or takes away, as one text."""
    lines = [f"+{line}" for hunk in file.hunks for line in hunk.added]
    return "\n".join([*lines, *(f"-{line}" for hunk in file.hunks for line in hunk.removed)])
