"""Tables of the review benchmark from what models said: every pass beside the others, and beside no model at all."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reporting import machine, table, write

from chains.engine.likelihood import odds
from chains.reviewing.reader import NO, YES
from chains.reviewing.replay import interval

_ROUNDS = 200
Finding = tuple[str, int, float]
Way = Callable[[Mapping[str, Any]], list[Finding]]


def report(paths: Sequence[Path], result: Path | None, near: int) -> int:
    """Print the tables, and write them with the machine's details."""
    entries = [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    groups: dict[tuple[str, str, int], list[Mapping[str, Any]]] = {}
    for entry in entries:
        kind = "quixbugs" if entry["set"] == "quixbugs" else "history"
        model = entry["model"] + (", forced" if entry.get("least") else "")
        groups.setdefault((kind, model, entry["context"]), []).append(entry)
    figures: list[dict[str, Any]] = []
    for (kind, model, context), group in sorted(groups.items()):
        for name, (way, on) in ways(group).items():
            figures.append(
                {"set": kind, "model": model, "context": context, "way": name, **scored(on, way, near)}
            )
        rest = {
            **times(group),
            "area_screen": area(group, _screen(0.0)),
            "area_verify": area(group, _answers(0.0, 0.0)),
        }
        figures.append({"set": kind, "model": model, "context": context, "way": "time", **rest})
    for kind in ("quixbugs", "history"):
        shown = [item for item in figures if item["set"] == kind and item["way"] != "time"]
        if shown:
            print(f"\n{kind}\n{_drawn(shown)}")
    for item in figures:
        if item["way"] == "time":
            print(item)
    write(result, {"machine": machine(), "figures": figures})
    return 0


def ways(group: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Way, Sequence[Mapping[str, Any]]]]:
    """How findings can be had from what was asked, from nothing, and from a linter; and the cases to score each on.

    A threshold is chosen on one half of both kinds of cases, and scored on the other.
    """
    simple: dict[str, Way] = {
        "ruff alone": _lint,
        "a random changed line": _random,
        "model": _answers(0.0, 0.0),
        "model, verified at 0.5": _answers(0.0, 0.5),
        "model, screened at 0.5": _answers(0.5, 0.0),
        "screen alone at 0.5": _screen(0.5),
    }
    found: dict[str, tuple[Way, Sequence[Mapping[str, Any]]]] = {n: (way, group) for n, way in simple.items()}
    chosen_on, other = _halves(group)
    for name, make in (("verified", lambda t: _answers(0.0, t)), ("screened", lambda t: _answers(t, 0.0))):
        best = _quiet_threshold(chosen_on, make)
        found[f"model, {name} at {best:.3f} (1 in 20 on the other half)"] = make(best), other
    return found


def _halves(group: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Two halves with as many faults in each, and as many harmless cases."""
    ordered = sorted(group, key=lambda entry: str(entry["key"]))
    kinds = [[entry for entry in ordered if entry["is_fault"] is is_fault] for is_fault in (True, False)]
    return [e for kind in kinds for e in kind[::2]], [e for kind in kinds for e in kind[1::2]]


def _quiet_threshold(group: Sequence[Mapping[str, Any]], make: Callable[[float], Way]) -> float:
    """The least threshold at which at most one harmless case in twenty has a finding."""
    harmless = [entry for entry in group if not entry["is_fault"]]
    for step in range(0, 1001, 5):
        way = make(step / 1000)
        if sum(bool(way(entry)) for entry in harmless) <= len(harmless) / 20:
            return step / 1000
    return 1.01


def _answers(screen: float, verify: float) -> Way:
    def way(entry: Mapping[str, Any]) -> list[Finding]:
        found: list[Finding] = []
        for hunk in entry["hunks"]:
            if hunk.get("skipped") or (screen and (odds(hunk["screen"], YES, NO) or 0.0) < screen):
                continue
            for item in hunk["findings"]:
                probability = odds(item["odds"], YES, NO) or 0.0
                if probability >= verify:
                    found.append((hunk["path"], item["line"], probability))
        return found

    return way


def _screen(threshold: float) -> Way:
    """The hunk itself, at its middle, where the short question says yes."""

    def way(entry: Mapping[str, Any]) -> list[Finding]:
        return [
            (hunk["path"], (hunk["start"] + hunk["end"]) // 2, probability)
            for hunk in entry["hunks"]
            if not hunk.get("skipped") and (probability := odds(hunk["screen"], YES, NO) or 0.0) >= threshold
        ]

    return way


def _lint(entry: Mapping[str, Any]) -> list[Finding]:
    """What a linter says of lines that the change touches."""
    added = {(path, line) for path, line in entry["added"]}
    return [(path, line, 1.0) for path, line, _ in entry["lint"] if (path, line) in added]


def _random(entry: Mapping[str, Any]) -> list[Finding]:
    path, line = random.choice(entry["added"])
    return [(path, line, 1.0)]


def scored(group: Sequence[Mapping[str, Any]], way: Way, near: int) -> dict[str, Any]:
    """Shares of cases: faults with a finding, with one near the fault (of the first three), harmless with one."""
    rounds = _ROUNDS if way is _random else 1
    faults = [entry for entry in group if entry["is_fault"]] * rounds
    harmless = [entry for entry in group if not entry["is_fault"]] * rounds
    said = [(entry, way(entry)) for entry in faults]
    alarms = [way(entry) for entry in harmless]
    found = sum(bool(items) for _, items in said)
    hits = sum(_hit(entry, items, near) for entry, items in said)
    false = sum(bool(items) for items in alarms)
    cases, quiet = len(faults) // rounds, len(harmless) // rounds
    low, high = interval(round(hits / rounds), cases)
    return {
        "faults": cases,
        "harmless": quiet,
        "found": found / max(1, len(faults)),
        "hit": hits / max(1, len(faults)),
        "hit_interval": [round(low, 3), round(high, 3)],
        "false_alarms": false / max(1, len(harmless)),
        "balanced_accuracy": (found / max(1, len(faults)) + 1 - false / max(1, len(harmless))) / 2,
        "findings_per_case": sum(map(len, [*alarms, *(items for _, items in said)]))
        / max(1, len(faults) + len(harmless)),
    }


def _hit(entry: Mapping[str, Any], items: Sequence[Finding], near: int) -> bool:
    fault = [(None, line) if isinstance(line, int) else tuple(line) for line in entry["lines"]]
    best = sorted(items, key=lambda item: -item[2])[:3]
    return any(
        abs(line - number) <= near and where in (None, path)
        for path, line, _ in best
        for where, number in fault
    )


def times(group: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians of what one hunk costs."""
    asked = [hunk for entry in group for hunk in entry["hunks"] if not hunk.get("skipped")]
    checked = [item["seconds"] for hunk in asked for item in hunk["findings"]]
    return {
        "hunks": len(asked),
        "tokens": _middle([hunk["tokens"] for hunk in asked]),
        "screen_seconds": _middle([hunk["screen_seconds"] for hunk in asked]),
        "answer_seconds": _middle([hunk["seconds"] for hunk in asked]),
        "verify_seconds": _middle(checked),
        "rejected": sum(sum(hunk["rejected"].values()) for hunk in asked),
        "unreadable": sum(bool(hunk["unreviewed"]) for hunk in asked),
        "findings": sum(len(hunk["findings"]) for hunk in asked),
    }


def area(group: Sequence[Mapping[str, Any]], way: Way) -> float:
    """How well the highest probability of a case tells faults from harmless ones: the area under the ROC curve.

    It is the share of pairs in which the fault has the higher one, of equal ones half; 0.5 tells nothing.
    """
    best: dict[bool, list[float]] = {True: [], False: []}
    for entry in group:
        best[bool(entry["is_fault"])].append(max((item[2] for item in way(entry)), default=0.0))
    pairs = [(fault, other) for fault in best[True] for other in best[False]]
    won = sum((fault > other) + 0.5 * (fault == other) for fault, other in pairs)
    return round(won / len(pairs), 3) if pairs else 0.5


def _middle(values: Sequence[float]) -> float:
    return round(sorted(values)[len(values) // 2], 3) if values else 0.0


def _drawn(figures: Sequence[Mapping[str, Any]]) -> str:
    head = (
        "way",
        "model",
        "context",
        "faults",
        "found",
        "hit within 3",
        "false alarms",
        "balanced",
        "findings",
    )
    rows = [
        (
            item["way"],
            item["model"].replace("-instruct-q4_k_m", ""),
            str(item["context"]),
            f"{item['faults']}+{item['harmless']}",
            f"{item['found']:.2f}",
            f"{item['hit']:.2f}",
            f"{item['false_alarms']:.2f}",
            f"{item['balanced_accuracy']:.2f}",
            f"{item['findings_per_case']:.2f}",
        )
        for item in figures
    ]
    return table(head, rows)
