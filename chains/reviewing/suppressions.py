"""Findings that somebody has switched off: in their own line, or by accepting them once. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from chains.reviewing.types import MODEL, FileDiff, Finding, fingerprint

_IGNORE = re.compile(r"\bagent:\s*ignore\[([\w\s,-]{1,200})\]")


@dataclass(frozen=True, slots=True)
class Sifted:
    """Findings that count, those switched off in their line, and those accepted before."""

    findings: tuple[Finding, ...]
    suppressed: tuple[Finding, ...]
    accepted: tuple[Finding, ...]


def sift(found: Iterable[Finding], files: Iterable[FileDiff], accepted: Collection[str]) -> Sifted:
    """Sort findings by what was said of them. Twins in a file are numbered, so that one accepted is not all.

    A line switches off the categories that it names, and no others: there is no way to switch off everything.
    """
    by_path = {file.path: file for file in files}
    counting: list[Finding] = []
    switched: list[Finding] = []
    known: list[Finding] = []
    for item in _numbered(found, by_path):
        file = by_path.get(item.path)
        # A path may stand twice in a patch: a check knows its line, of the model's findings it is looked up.
        said = item.source == MODEL and file is not None and item.category in ignored(file.line(item.line))
        if item.switched_off or said:
            switched.append(item)
        elif item.fingerprint in accepted:
            known.append(item)
        else:
            counting.append(item)
    return Sifted(tuple(counting), tuple(switched), tuple(known))


def ignored(line: str) -> frozenset[str]:
    """The categories that a line switches off for itself."""
    match = _IGNORE.search(line)
    return frozenset(word.strip() for word in match[1].split(",")) if match else frozenset()


def _numbered(found: Iterable[Finding], files: dict[str, FileDiff]) -> list[Finding]:
    """The findings in order of places, the second of two alike with a fingerprint of its own; doubles dropped."""
    seen: dict[str, int] = {}
    places: set[tuple[str, int, str, str]] = set()
    result: list[Finding] = []
    for item in sorted(found, key=lambda item: (item.path, item.line, item.category, item.message)):
        place = (item.path, item.line, item.category, item.message)
        if place in places:
            continue
        places.add(place)
        file = files.get(item.path)
        raw = file.line(item.line) if file is not None and not item.fingerprint else item.quote
        first = item.fingerprint or fingerprint(item.path, item.category, raw)
        nth = seen.get(first, 0)
        seen[first] = nth + 1
        name = first if not nth else fingerprint(item.path, item.category, "", first, nth)
        result.append(replace(item, fingerprint=name))
    return result
