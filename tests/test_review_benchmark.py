"""The review benchmark counts what it says it counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import review as benchmark
import review_report


def entry(*, is_fault: bool, line: int | None, yes: float = 0.8, screen: float = 0.8) -> dict[str, Any]:
    odds = {"yes": yes, "Yes": 0.0, "no": 1 - yes, "No": 0.0}
    found = [] if line is None else [{"line": line, "odds": odds, "seconds": 0.1}]
    hunk = {
        **{"path": "a.py", "start": 1, "end": 20, "tokens": 100, "seconds": 1.0, "screen_seconds": 0.5},
        **{"screen": {"yes": screen, "no": 1 - screen}, "findings": found, "rejected": {}, "unreviewed": ""},
    }
    added = [["a.py", number] for number in range(1, 21)]
    lines = [["a.py", 10]] if is_fault else []
    about = {"key": f"{is_fault}{line}{yes}", "set": "x", "model": "m", "context": 0}
    return {
        **about,
        "is_fault": is_fault,
        "hunks": [hunk],
        "added": added,
        "lines": lines,
        "lint": [["a.py", 9, "F821"]],
    }


GROUP = [
    *(entry(is_fault=True, line=12), entry(is_fault=True, line=14), entry(is_fault=True, line=None)),
    *(entry(is_fault=False, line=1, yes=0.4), entry(is_fault=False, line=None)),
]


def scored_as(name: str) -> dict[str, Any]:
    way, entries = review_report.ways(GROUP)[name]
    return review_report.scored(entries, way, 3)


def test_found_hit_and_alarmed_are_shares_of_cases() -> None:
    scored = scored_as("model")
    assert scored["found"] == pytest.approx(2 / 3) and scored["hit"] == pytest.approx(1 / 3)
    assert scored["false_alarms"] == 0.5 and scored["balanced_accuracy"] == pytest.approx((2 / 3 + 0.5) / 2)
    verified = scored_as("model, verified at 0.5")
    assert verified["false_alarms"] == 0.0 and verified["found"] == pytest.approx(2 / 3)
    assert scored_as("ruff alone")["hit"] == 1.0


def test_a_threshold_is_chosen_on_harmless_cases_and_scored_on_others() -> None:
    loud = [
        {**entry(is_fault=kind, line=10, yes=0.7), "key": f"name/{number:02}/{kind}"}
        for number in range(20)
        for kind in (True, False)
    ]
    found = review_report.ways(loud)
    (name,) = [name for name in found if name.startswith("model, verified at 0.7")]
    way, others = found[name]
    assert len(others) == 20 and sum(entry["is_fault"] for entry in others) == 10
    assert review_report.scored(others, way, 3)["false_alarms"] == 0.0


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    def by_probability(item: Mapping[str, Any]) -> list[tuple[str, int, float]]:
        return [("a.py", 1, item["p"])] if item["p"] else []

    cases = [{"is_fault": True, "p": 0.9}, {"is_fault": True, "p": 0.0}, {"is_fault": False, "p": 0.4}]
    assert review_report.area(cases, by_probability) == 0.5
    assert review_report.area([*cases, {"is_fault": False, "p": 0.0}], by_probability) == 0.625
    assert review_report.area(cases[:1], by_probability) == 0.5


def test_the_report_is_written_with_the_commit_it_is_of(tmp_path: Path) -> None:
    raw, result = tmp_path / "raw.jsonl", tmp_path / "result.json"
    raw.write_text("".join(json.dumps(item) + "\n" for item in GROUP))
    assert benchmark.main(["report", str(raw), "--json", str(result)]) == 0
    written = json.loads(result.read_text())
    assert written["machine"]["commit"] and {item["way"] for item in written["figures"]} >= {
        "model",
        "ruff alone",
        "time",
    }


def test_programs_are_stripped_of_what_their_authors_say() -> None:
    text = 'def f(x):\n    """Says what it does."""\n    return x\n\n"""\nInput: x\n"""\n'
    assert "Says" not in benchmark.bare(text) and "Input" not in benchmark.bare(text)
    assert "return x" in benchmark.bare(text)
