"""Markers of a merge conflict that were committed as if they were text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from chains.reviewing.checks.lines import added_lines, finding
from chains.reviewing.types import FileDiff, Finding, Severity

CATEGORY = "merge-marker"
# A row of such signs alone underlines a heading: it counts only as one of the three parts of a conflict.
_MARKER = re.compile(r"(<{7}|>{7}|\|{7}|={7})(?: (.*))?\s*$")
_QUOTING = frozenset({"markdown", "rst", "text"})


def check(file: FileDiff) -> Iterator[Finding]:
    """One finding for each added line that begins as such a marker."""
    inside: frozenset[int] | None = None
    for number, line in added_lines(file):
        match = _MARKER.match(line)
        if match is None or match[1][0] == "=":
            continue
        if inside is None:
            inside = _conflicts(file.lines())
        if number in inside or _is_labelled(match, file.language):
            message = "A marker of a merge conflict was left behind: one of the sides has to be chosen."
            yield finding(file, number, Severity.CRITICAL, CATEGORY, message)


def _is_labelled(match: re.Match[str], language: str) -> bool:
    """Whether a marker is one by itself: it names a side, which in prose an old letter quoted may seem to do."""
    label = (match[2] or "").strip()
    return bool(label) and (match[1][0] == "<" or language not in _QUOTING)


def _conflicts(lines: Sequence[str]) -> frozenset[int]:
    """The lines of the markers of whole conflicts, at least one end of which is labelled, as git does."""
    found: set[int] = set()
    opened: list[int] = []
    labelled = divided = False
    for number, line in enumerate(lines, 1):
        match = _MARKER.match(line)
        if match is None:
            continue
        kind, label = match[1][0], bool((match[2] or "").strip())
        if kind == "<":
            opened, labelled, divided = [number], label, False
        elif opened and kind == "=":
            divided = divided or not label
        elif opened and kind == "|":
            opened.append(number)
        elif opened and kind == ">":
            if divided and (labelled or label):
                found.update((*opened, number))
            opened = []
    return frozenset(found)
