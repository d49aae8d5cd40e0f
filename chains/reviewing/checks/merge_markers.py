"""Markers of a merge conflict that were committed as if they were text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from chains.reviewing.checks.lines import added_lines, finding
from chains.reviewing.types import FileDiff, Finding, Severity

CATEGORY = "merge-marker"
# A row of equal signs alone underlines a heading: it counts only between the other two.
_MARKER = re.compile(r"(?:<{7}|>{7}|\|{7})(?: |$)")


def check(file: FileDiff) -> Iterator[Finding]:
    """One finding for each added line that begins as such a marker."""
    for number, line in added_lines(file):
        if _MARKER.match(line):
            message = "A marker of a merge conflict was left behind: one of the sides has to be chosen."
            yield finding(file, number, Severity.CRITICAL, CATEGORY, message)
