"""A review report as plain data, to be sent to another process or kept, and back again without loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from chains.reviewing.types import (
    Exempt,
    Finding,
    Reason,
    Reviewed,
    ReviewReport,
    Severity,
    Suggestion,
    Unreviewed,
)


def report_to_data(report: ReviewReport) -> dict[str, Any]:
    """Every field, in types that JSON knows."""
    return asdict(report)


def report_from_data(data: Mapping[str, Any]) -> ReviewReport:
    """The report again.

    :raises KeyError, TypeError, ValueError: the data is no report's.
    """
    return ReviewReport(
        **{
            **data,
            "findings": findings_from_data(data["findings"]),
            "suppressed": findings_from_data(data["suppressed"]),
            "accepted": findings_from_data(data["accepted"]),
            "reviewed": tuple(Reviewed(**item) for item in data["reviewed"]),
            "unreviewed": tuple(
                Unreviewed(**{**item, "reason": Reason(item["reason"])}) for item in data["unreviewed"]
            ),
            "exempt": tuple(Exempt(**item) for item in data["exempt"]),
            "block_at": Severity(data["block_at"]),
            "notes": tuple(data["notes"]),
        }
    )


def findings_to_data(found: Iterable[Finding], lines: Mapping[int, int]) -> list[dict[str, Any]]:
    """Findings without their place in the file: lines as a prompt numbers them, so that they may move."""
    seen = {real: shown for shown, real in lines.items()}
    return [_moved(asdict(item), seen) for item in found]


def findings_from_data(
    items: Iterable[Mapping[str, Any]], path: str | None = None, lines: Mapping[int, int] | None = None
) -> tuple[Finding, ...]:
    """Findings again, at the lines that a prompt now shows under those numbers; see `report_from_data`."""
    found: list[Finding] = []
    for item in items:
        data = dict(item) if lines is None else _moved(item, lines)
        suggestion = Suggestion(**data["suggestion"]) if data.get("suggestion") else None
        data |= {"severity": Severity(data["severity"]), "suggestion": suggestion}
        found.append(Finding(**(data if path is None else {**data, "path": path})))
    return tuple(found)


def _moved(item: Mapping[str, Any], lines: Mapping[int, int]) -> dict[str, Any]:
    data = {**item, "line": lines[item["line"]]}
    if item.get("suggestion"):
        suggestion = item["suggestion"]
        at = {key: lines[suggestion[key]] for key in ("start_line", "end_line")}
        data["suggestion"] = {**suggestion, **at}
    return data
