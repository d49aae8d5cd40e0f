"""What the checks of a review say of a repository's own history: nearly all of it should be nothing.

    python tests/benchmarks/alarms.py CHECKOUT... [--commits 60] [--every 7] [--out FILE]

Each commit (every seventh of the last, merges left out) is reviewed by the checks alone, as `agent review --commit` is.
Commits that landed seldom leave a caller broken or a file unparsable, so what is said of that is read as false alarms;
changes to what runs by itself are what they are, and counted apart.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

from reporting import machine, write

from agent import Agent

EXPECTED = "self-running"


def commits(checkout: Path, count: int, every: int) -> list[str]:
    """Ids, newest first."""
    listed = ["git", "-C", str(checkout), "rev-list", "--no-merges", "HEAD"]
    found = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    return found[::every][:count]


def alarms(checkout: Path, count: int, every: int) -> dict[str, Any]:
    """Findings by category, those that were not to be expected in full, and seconds of a review."""
    categories: Counter[str] = Counter()
    told: list[str] = []
    seconds: list[float] = []
    with Agent.open(checkout) as agent:
        for commit in commits(checkout, count, every):
            began = time.monotonic()
            report = agent.review(commit=commit, use_model=False)
            seconds.append(time.monotonic() - began)
            categories.update(item.category for item in report.findings)
            told += [
                f"{commit[:10]} {item.path}:{item.line} [{item.category}] {item.message}"
                for item in report.findings
                if item.category != EXPECTED
            ]
    return {
        "commits": len(seconds),
        "categories": dict(categories),
        "seconds_median": round(statistics.median(seconds), 2),
        "seconds_most": round(max(seconds), 2),
        "told": told,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("checkouts", nargs="+", type=Path)
    parser.add_argument("--commits", type=int, default=60)
    parser.add_argument("--every", type=int, default=7)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = {}
    for checkout in given.checkouts:
        found[checkout.name] = alarms(checkout, given.commits, given.every)
        print(checkout.name, found[checkout.name], flush=True)
    write(given.out, {**machine(), "repositories": found})


if __name__ == "__main__":
    main()
