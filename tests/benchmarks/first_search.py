"""A first search of a tree never read: how long it takes, and how much of a complete search's best it has.

    python tests/benchmarks/first_search.py --data retrieval-dev.json TREE [--queries 30] [--out FILE]

TREE is a git work tree of many files, for which a first search does not wait until all are read; several repositories
put together in one will do. The queries are those of the data whose repository is a directory of TREE, or is TREE. Each
is asked by a process of its own with an empty AGENT_HOME, timed from start to end, and compared with what a complete
index finds by the same keywords. The worker that reads the rest is stopped before the next query.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import reporting

_AGENT = (sys.executable, "-c", "import sys; from agent.cli import main; sys.exit(main())")
_BEST = 3


def asked_of(data: Path, tree: Path, count: int) -> list[str]:
    """Some of the queries about what is in the tree, in an order that is always the same."""
    here = {tree.name, *(entry.name for entry in tree.iterdir() if entry.is_dir())}
    repositories = json.loads(data.read_text(encoding="utf-8"))
    known = [each for each in repositories if each["github"].split("/")[1] in here]
    queries = [query["query"] for each in known for query in each["queries"]]
    return random.Random(1).sample(queries, min(count, len(queries)))


def agent(tree: Path, home: Path, *arguments: str, background: bool) -> tuple[Any, float]:
    """What a command of ours prints as JSON, and the seconds it took."""
    environment = {**os.environ, "AGENT_HOME": str(home), "AGENT_EMBEDDER": "none"}
    environment["AGENT_BACKGROUND"] = str(int(background))
    began = time.perf_counter()
    command = [*_AGENT, *arguments, "--json", "--repo", str(tree)]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    return json.loads(done.stdout), time.perf_counter() - began


def places(found: Any) -> list[tuple[str, int]]:
    """Where the hits stand."""
    return [(hit["path"], hit["start_line"]) for hit in found["hits"]]


def compare(tree: Path, whole: Path, query: str) -> dict[str, Any]:
    """One query, first against complete."""
    complete, _ = agent(tree, whole, "search", query, "-k", str(_BEST), background=False)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        home = Path(made)
        home.chmod(0o700)
        first, seconds = agent(tree, home, "search", query, "-k", str(_BEST), background=True)
        agent(tree, home, "index", "--stop", background=False)
        time.sleep(1.0)
    wanted, got = places(complete), places(first)
    return {
        "query": query,
        "seconds": round(seconds, 2),
        "files": first["index"]["files"],
        "files_left": first["index"]["files_pending"],
        "same_best": wanted[:1] == got[:1],
        "best_in_three": not wanted or wanted[0] in got,
        "shared": len({*wanted} & {*got}) / max(1, len(wanted)),
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians and shares over the queries."""
    seconds = sorted(row["seconds"] for row in rows)
    return {
        "queries": len(rows),
        "seconds_median": statistics.median(seconds),
        "seconds_most": seconds[-1],
        "files_left_median": statistics.median(row["files_left"] for row in rows),
        "same_best": round(statistics.mean(row["same_best"] for row in rows), 3),
        "best_in_three": round(statistics.mean(row["best_in_three"] for row in rows), 3),
        "shared_of_three": round(statistics.mean(row["shared"] for row in rows), 3),
    }


def main() -> None:
    """Measure, show and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("tree", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    tree = given.tree.resolve()
    rows = []
    with tempfile.TemporaryDirectory() as made:
        whole = Path(made)
        whole.chmod(0o700)
        _, seconds = agent(tree, whole, "index", background=False)
        for query in asked_of(given.data, tree, given.queries):
            rows.append(compare(tree, whole, query))
            print(json.dumps(rows[-1]), flush=True)
    report = {**reporting.machine(), "cold_index_seconds": round(seconds, 2), **summary(rows), "rows": rows}
    print(json.dumps({name: value for name, value in report.items() if name != "rows"}, indent=1))
    reporting.write(given.out, report)


if __name__ == "__main__":
    main()
