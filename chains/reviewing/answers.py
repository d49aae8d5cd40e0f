"""What a model wrote about a hunk as findings: those that name a touched line and quote what stands there. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from chains.reviewing.prompt import CATEGORIES, SEVERITIES, HunkPrompt
from chains.reviewing.types import MODEL, FileDiff, Finding, Reason, Severity, Suggestion, fingerprint
from chains.reviewing.visible import visible
from indexers.redact import redact
from indexers.syntax import parse

NOT_TOUCHED, NOT_THERE, EMPTY, TWICE = (
    "about a line that was not touched",
    "a quote that stands nowhere in the change",
    "without a message",
    "said twice",
)
_REFUSAL = re.compile(
    r"(?i)\b(?:I(?:'m| am) sorry|I can(?:no|')t (?:help|assist|comply|review)|as an AI|unable to assist)\b"
)
_SPACES = re.compile(r"\s+")
# Less of a line than this stands in every other one.
_LEAST_QUOTE = 3
_LONGEST_MESSAGE = 300
_KEY = b"review"


@dataclass(frozen=True, slots=True)
class Answered:
    """The findings that stand, what did not stand by reason, and why nothing could be read where that is so."""

    findings: tuple[Finding, ...] = ()
    rejected: Mapping[str, int] | None = None
    unreviewed: Reason | None = None


def read_answer(text: str, file: FileDiff, prompt: HunkPrompt) -> Answered:
    """Check every finding against the lines: the quote decides where it is, and without one it is nowhere."""
    items = _items(text)
    if items is None:
        refused = _REFUSAL.search(text) is not None
        return Answered(unreviewed=Reason.REFUSED if refused else Reason.UNPARSABLE)
    lines = {seen: _shown(file.line(real)) for seen, real in prompt.lines.items()}
    found: list[Finding] = []
    rejected: Counter[str] = Counter()
    for item in items:
        message = _plain(str(item.get("message", "")))
        if _REFUSAL.search(message):
            return Answered(unreviewed=Reason.REFUSED)
        number = _anchored(item, lines)
        if isinstance(number, str) or not message:
            rejected[number if isinstance(number, str) else EMPTY] += 1
            continue
        finding = _finding(item, file, prompt.lines[number], message)
        if any(other.line == finding.line and other.category == finding.category for other in found):
            rejected[TWICE] += 1
            continue
        found.append(finding)
    return Answered(tuple(found), dict(rejected))


def _items(text: str) -> list[Mapping[str, object]] | None:
    try:
        data = json.loads(text)
        items = data["findings"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return None
    return items


def _anchored(item: Mapping[str, object], lines: Mapping[int, str]) -> int | str:
    """The number of the line that the quote stands in, the named one where it does; or why there is none."""
    number, quote = item.get("line"), _squeezed(str(item.get("quote", "")))
    if not isinstance(number, int) or number not in lines:
        return NOT_TOUCHED
    if len(quote) < min(_LEAST_QUOTE, len(_squeezed(lines[number])) or 1):
        return NOT_THERE
    places = [at for at, line in lines.items() if _matches(quote, _squeezed(line))]
    if number in places:
        return number
    # The quote is the anchor: a wrong number beside a quote that stands once is a slip.
    return places[0] if len(places) == 1 else NOT_THERE


def _matches(quote: str, line: str) -> bool:
    return bool(line) and (quote in line or (len(line) > _LEAST_QUOTE and line in quote))


def _finding(item: Mapping[str, object], file: FileDiff, line: int, message: str) -> Finding:
    raw = file.line(line)
    category, severity = str(item.get("category", "")), str(item.get("severity", ""))
    category = category if category in CATEGORIES else CATEGORIES[0]
    return Finding(
        path=file.path,
        line=line,
        severity=Severity(severity if severity in SEVERITIES else "low"),
        category=category,
        message=message,
        quote=_shown(file.redacted(line)).strip()[:200],
        source=MODEL,
        suggestion=suggestion_for(file, line, str(item.get("suggestion", ""))),
        fingerprint=fingerprint(file.path, f"model/{category}", raw),
    )


def suggestion_for(file: FileDiff, line: int, text: str) -> Suggestion | None:
    """A replacement of one line that changes it and leaves the file as parsable as it was; None for any other."""
    old = file.line(line)
    new = text.strip("\n").rstrip()
    if "\n" in new or not new.strip() or not old.strip() or not file.whole:
        return None
    if not new[:1].isspace():
        new = old[: len(old) - len(old.lstrip())] + new
    if new == old or redact(new, _KEY, file.path).count or visible(new) != new:
        return None
    lines = file.lines()
    changed = parse("\n".join([*lines[: line - 1], new, *lines[line:]]), file.language)
    before = parse(file.after or "", file.language)
    if changed is None or before is None or (changed.root.has_error and not before.root.has_error):
        return None
    return Suggestion(line, line, new)


def kept(findings: tuple[Finding, ...], threshold: float | None) -> tuple[tuple[Finding, ...], int]:
    """The findings that the model itself thinks true, and how many it does not."""
    if threshold is None:
        return findings, 0
    good = tuple(item for item in findings if item.probability is None or item.probability >= threshold)
    return good, len(findings) - len(good)


def capped(findings: tuple[Finding, ...], most: Severity) -> tuple[Finding, ...]:
    """The findings, none graver than `most`: how grave its own finding is, a small model does not know."""
    return tuple(
        replace(item, severity=min(item.severity, most, key=lambda severity: severity.rank))
        for item in findings
    )


def _shown(line: str) -> str:
    """A line as the prompt shows it."""
    return visible(redact(line, _KEY).text.encode("utf-8", "replace").decode())


def _squeezed(text: str) -> str:
    return _SPACES.sub("", text)


def _plain(message: str) -> str:
    return redact(" ".join(message.split()), _KEY).text[:_LONGEST_MESSAGE]
