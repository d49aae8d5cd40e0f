"""Keys, tokens and passwords in lines that a change adds."""

from __future__ import annotations

import re
from collections.abc import Iterator

from chains.reviewing.checks.lines import added_lines, finding
from chains.reviewing.types import FileDiff, Finding, Severity
from indexers.files import passed_over
from indexers.redact import redact
from indexers.types import SkipReason

CATEGORY = "secret"
_MARK = re.compile(r"\u27e6REDACTED:([\w-]+):[0-9a-f]{8}\u27e7")
# Marks are compared with nothing: any key does.
_KEY = b"review"


def check(file: FileDiff) -> Iterator[Finding]:
    """One finding for each added line that holds (part of) a secret; the quote shows a mark in its place."""
    named = file.after is not None and file.status in ("A", "R", "C") and passed_over(file.path, "")
    if named and named.reason is SkipReason.SECRET:
        message = "A file that by its name holds secrets is added to the repository."
        yield finding(file, 1, Severity.HIGH, CATEGORY, message, quote=file.path.rpartition("/")[2])
    if file.after is None or not any(hunk.added for hunk in file.hunks):
        return
    found = redact(file.after, _KEY, file.path)
    if not found.count:
        return
    # Redacting keeps the number of lines; those that differ held something.
    hidden = found.text.split("\n")
    inside = False
    for number, line in added_lines(file):
        shown = hidden[number - 1] if number <= len(hidden) else line
        mark = _MARK.search(shown) if shown != line else None
        if mark is not None:
            inside = mark[1] == "private-key"
            yield finding(
                file, number, Severity.CRITICAL, CATEGORY,
                f"This line holds a secret ({mark[1]}). Take it out, and replace it where it is used: "
                "it is known to whoever reads the repository.",
                quote=shown.strip(),
            )  # fmt: skip
        elif shown != line and not inside:
            inside = True
            message = "This line is part of a private key. Take it out, and make a new key."
            yield finding(file, number, Severity.CRITICAL, CATEGORY, message, quote="\u27e6REDACTED\u27e7")
