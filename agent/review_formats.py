"""A review for other programs: JSON by our own schema, SARIF 2.1.0, workflow commands of GitHub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from chains.reviewing.types import MODEL, Finding, Outcome, ReviewReport, Severity, Unreviewed

JSON_VERSION = 1
SCHEMA_FILE = "review.schema.json"
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
# GitHub takes so many results of a run.
MOST_RESULTS = 25_000
_LEVELS = {
    Severity.LOW: "note",
    Severity.MEDIUM: "warning",
    Severity.HIGH: "error",
    Severity.CRITICAL: "error",
}
# White space as the runner trims it.
_COMMAND_START = re.compile(r"^(\s*)::", re.MULTILINE)
_COMMANDS = {"note": "notice", "warning": "warning", "error": "error"}
_RULES = {
    "secret": "A key, token or password in an added line",
    "merge-marker": "A marker of a merge conflict",
    "hidden-text": "Characters that hide what a line says",
    "syntax": "The file no longer parses",
    "debug": "Left over from debugging",
    "self-running": "Alters what runs by itself",
    "broken-caller": "Callers of what was removed or changed",
}


def as_object(report: ReviewReport) -> dict[str, Any]:
    """The report as one object of the published schema."""
    blocking = set(map(id, report.blocking))
    return {
        "version": JSON_VERSION,
        "title": report.title,
        "outcome": report.outcome.value,
        "exit_code": report.exit_code,
        "block_at": report.block_at.value,
        "strict": report.strict,
        "model": report.model,
        "threshold": report.threshold,
        "seconds": report.seconds,
        "cached_hunks": report.cached,
        "findings": [_finding(item, id(item) in blocking) for item in report.findings],
        "suppressed": [_finding(item, False) for item in report.suppressed],
        "accepted": [_finding(item, False) for item in report.accepted],
        "reviewed": list(report.reviewed),
        "unreviewed": list(report.unreviewed),
        "exempt": list(report.exempt),
        "rejected": report.rejected,
        "notes": list(report.notes),
    }


def _finding(item: Finding, blocking: bool) -> dict[str, Any]:
    return {
        "path": item.path,
        "line": item.line,
        "end_line": item.end_line or item.line,
        "severity": item.severity.value,
        "category": item.category,
        "message": item.message,
        "quote": item.quote,
        "source": item.source,
        "probability": item.probability,
        "suggestion": item.suggestion,
        "fingerprint": item.fingerprint,
        "blocking": blocking,
    }


def as_sarif(report: ReviewReport, version: str) -> dict[str, Any]:
    """The report as a SARIF log with one run; what was not reviewed is told by its invocation, which then failed."""
    results = [_result(item) for item in report.findings]
    notes = [_notification(note) for note in report.notes]
    notes += [_unreviewed(item) for item in report.unreviewed]
    if len(results) > MOST_RESULTS:
        notes.append(_notification(f"{len(results) - MOST_RESULTS:,} results more were left out."))
        results = results[:MOST_RESULTS]
    used = dict.fromkeys(result["ruleId"] for result in results)
    driver = {
        "name": "agent review",
        "version": version,
        "rules": [{"id": rule, "shortDescription": {"text": _RULES.get(rule, rule)}} for rule in used],
    }
    invocation = {
        "executionSuccessful": report.outcome is not Outcome.NOT_REVIEWED and not report.unreviewed,
        "exitCode": report.exit_code,
        "toolExecutionNotifications": notes,
    }
    run = {
        "tool": {"driver": driver},
        "invocations": [invocation],
        "results": results,
        "columnKind": "unicodeCodePoints",
    }
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(item: Finding) -> dict[str, Any]:
    message = item.message if item.source != MODEL else f"{item.message} (said by the model)"
    rule = item.category if item.source != MODEL else f"model/{item.category}"
    result: dict[str, Any] = {
        "ruleId": rule,
        "level": _LEVELS[item.severity],
        "message": {"text": message},
        "locations": [_location(item.path, item.line, item.end_line or item.line)],
        "partialFingerprints": {"agentReview/v1": item.fingerprint},
        "properties": {
            "severity": item.severity.value,
            "source": item.source,
            "probability": item.probability,
        },
    }
    if item.suggestion is not None:
        region = {"startLine": item.suggestion.start_line, "endLine": item.suggestion.end_line}
        replacement = {"deletedRegion": region, "insertedContent": {"text": item.suggestion.text + "\n"}}
        change = {"artifactLocation": {"uri": uri(item.path)}, "replacements": [replacement]}
        result["fixes"] = [{"description": {"text": "Suggested by the model"}, "artifactChanges": [change]}]
    return result


def _unreviewed(item: Unreviewed) -> dict[str, Any]:
    detail = f" ({item.detail})" if item.detail else ""
    return {
        **_notification(f"Not reviewed: {item.reason.value}{detail}."),
        "locations": [_location(item.path, item.start_line, item.end_line)],
    }


def _location(path: str, start: int, end: int) -> dict[str, Any]:
    region = {"startLine": max(1, start), "endLine": max(start, end, 1)}
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": uri(path), "uriBaseId": "%SRCROOT%"},
            "region": region,
        }
    }


def _notification(text: str) -> dict[str, Any]:
    return {"level": "warning", "message": {"text": text}}


def uri(path: str) -> str:
    """A path of the repository as a relative URI, odd bytes percent-encoded."""
    return quote(os.fsencode(path), safe="/~")


def github_lines(report: ReviewReport) -> Iterator[str]:
    """The report as workflow commands, which GitHub shows beside the lines of a pull request."""
    for item in report.findings:
        command = _COMMANDS[_LEVELS[item.severity]]
        place = f"file={_property(item.path)},line={item.line},endLine={item.end_line or item.line}"
        yield f"::{command} {place},title={_property(f'agent review: {item.category}')}::{_data(item.message)}"
    for lost in report.unreviewed:
        place = f"file={_property(lost.path)},line={max(1, lost.start_line)}"
        yield f"::warning {place},title=agent review%3A not reviewed::{_data(lost.reason.value)}"


def no_command(text: str) -> str:
    """Text in which GitHub's runner sees no command: `::` at the start of a line, or `##[` anywhere in it."""
    return _COMMAND_START.sub(r"\1: :", text).replace("##[", "## [")


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
