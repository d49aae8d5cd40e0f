"""`agent index --check` and `--explain`: what is wrong with an index, and why a path is in it or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from agent.commands import work_on
from agent.output import Output
from agent.safe_text import show_path
from agent.wording import count_text

if TYPE_CHECKING:
    from indexers.verify import Explanation, Verification

WRONG = 2
# Chunks named one by one; a large file has hundreds.
_MOST_LINES = 8
_STYLES = {"indexed": "green", "directory": "bold", "skipped": "yellow", "ignored": "yellow"}


def run_check(output: Output, *, repo: Path, json: bool) -> int:
    """Verify the index of the repository at `repo`; 2 when something is wrong."""
    with work_on(output, repo) as work:
        found = work.agent.check()
        work.progress.hide()
        if json:
            faults = [asdict(fault) for fault in found.faults]
            output.json({**asdict(found), "ok": not faults, "faults": faults})
        else:
            _show_check(output, found)
    return WRONG if found.faults else 0


def _show_check(output: Output, found: Verification) -> None:
    for fault in found.faults:
        place = f"{show_path(fault.path)}: " if fault.path else ""
        output.line(("wrong  ", "bold red"), (f"{fault.part:<8} ", "bold"), f"{place}{fault.text}")
    for remedy in dict.fromkeys(fault.remedy for fault in found.faults):
        output.line(f"{'':<16}try: {remedy}")
    for remark in found.remarks:
        output.line(("note   ", "dim"), remark)
    if not found.faults:
        amounts = (count_text(found.files, "file"), count_text(found.chunks, "chunk"))
        output.line(
            ("ok     ", "green"), ", ".join((*amounts, f"{count_text(found.vectors, 'vector')} checked"))
        )


def run_explain(output: Output, *, repo: Path, paths: Sequence[str], json: bool) -> int:
    """Say of each path why it is in the index of the repository at `repo`, or why not."""
    with work_on(output, repo) as work:
        found = work.agent.explain(paths)
        work.progress.hide()
        if json:
            output.json({"paths": [asdict(item) for item in found]})
        else:
            for item in found:
                _show_explanation(output, item)
    return 0


def _show_explanation(output: Output, item: Explanation) -> None:
    output.line(
        (show_path(item.path), "bold"), "  ", (item.state, _STYLES.get(item.state, "bold red")), _why(item)
    )


def _why(item: Explanation) -> str:
    if item.below is not None:
        counts = sorted(item.below.items(), key=lambda pair: (-pair[1], pair[0]))
        return ": " + ", ".join(f"{count:,} {reason}" for reason, count in counts)
    if item.state != "indexed":
        return ": " + ", ".join(show_path(part) for part in (item.reason, item.detail, item.rule) if part)
    lines = [f"{first}-{last}" for first, last in item.lines[:_MOST_LINES]]
    more = ", ..." if len(item.lines) > _MOST_LINES else ""
    parts = [
        item.language,
        f"{count_text(len(item.lines), 'chunk')} ({', '.join(lines)}{more})",
        *([f"{count_text(item.redactions, 'secret')} blacked out"] if item.redactions else []),
        f"blob {item.blob[:12]}",
        *([] if item.tracked else ["untracked"]),
    ]
    return ": " + ", ".join(parts)
