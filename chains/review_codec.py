"""A review report as plain data, to be sent to another process or kept, and back again without loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from chains.review_types import (
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


def findings_from_data(items: Iterable[Mapping[str, Any]]) -> tuple[Finding, ...]:
    """Findings again; see `report_from_data`."""
    return tuple(
        Finding(
            **{
                **item,
                "severity": Severity(item["severity"]),
                "suggestion": Suggestion(**item["suggestion"]) if item.get("suggestion") else None,
            }
        )
        for item in items
    )
