"""Time and peak memory against the number of files: cold index, no-change refresh, one-file change, first search.

    python tests/benchmarks/scale.py [--files 100 1000 10000 30000] [--vectors N] [--out FILE] [--plot FILE]
    python tests/benchmarks/scale.py --repo DIR              the same of a given work tree, which is copied
    python tests/benchmarks/scale.py --read FILE --plot FILE   only draws what an earlier run has written

Repositories are generated (scale_repos.py), the smaller ones the beginning of the larger ones. Every figure is of a
process of its own, start and imports included, but for those of a refresh, which is also timed inside. Memory is the
most that the process and its workers held together, sampled; forks share pages that are counted twice, so it is an
upper bound. CPU seconds are of all of them: on a busy machine they say more than the clock.

Text and keywords are measured without an embedder; the first search with the one that is installed, answering from
keywords as the command line does, with a worker behind it that is stopped at once. --vectors N also makes the vectors
of the repositories of up to N files. The plot needs matplotlib, which nothing else here does: pip install matplotlib.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import reporting
import scale_repos

_AGENT = "import sys; from agent.cli import main; sys.exit(main())"
# What a refresh costs by itself, and how many files it looked at; prints one JSON object.
_REFRESH = """
import json, os, sys, time
from agent import Agent
agent = Agent.open(sys.argv[1])
looked, real = 0, os.lstat
def lstat(*args, **kwargs):
    global looked
    looked += 1
    return real(*args, **kwargs)
first, os.lstat = time.process_time(), lstat
started = time.perf_counter()
agent.refresh()
seconds, cpu, stats = time.perf_counter() - started, time.process_time() - first, looked
started = time.perf_counter()
agent.refresh()
print(json.dumps({"inside": seconds, "inside_cpu": cpu, "stats": stats, "again": time.perf_counter() - started}))
"""
_SAMPLE_SECONDS = 0.02
# A file just written is read again for two seconds: git calls it racy.
_SETTLE_SECONDS = 2.5
# Its words stand in many files; where they stand in none, everything is read before that is said.
_QUERY = "where are values parsed and merged"
ROWS = ("cold index", "no-change refresh", "one-file change", "first search")


def measured(arguments: Sequence[str], home: Path, **variables: str) -> dict[str, Any]:
    """Run a process to its end: wall and CPU seconds, peak bytes of it and its children, and what it printed."""
    environment = {**os.environ, "AGENT_HOME": str(home), "AGENT_BACKGROUND": "0", **variables}
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        watched = psutil.Process(process.pid)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _resident(watched))
            time.sleep(_SAMPLE_SECONDS)
        wall = time.perf_counter() - started
        assert process.stdout is not None and process.stderr is not None
        out, err = process.stdout.read(), process.stderr.read()
    if process.returncode:
        raise SystemExit(f"{arguments} failed with {process.returncode}:\n{err.decode()[-2000:]}")
    return {"seconds": wall, "peak_bytes": peak, "out": out.decode()}


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.Error:
        pass
    return total


def _with_cpu(run: dict[str, Any], before: os.times_result) -> dict[str, Any]:
    now = os.times()
    spent = now.children_user + now.children_system - before.children_user - before.children_system
    run.pop("out", None)
    return {**run, "cpu_seconds": spent}


def figures(root: Path, models: Path | None, vectors: bool) -> dict[str, Any]:
    """All figures of one repository."""
    repo = ("--repo", str(root))
    found: dict[str, Any] = {}

    def take(name: str, *arguments: str, home: Path, **variables: str) -> str:
        before = os.times()
        run = measured(arguments, home, **variables)
        out = str(run["out"])
        found[name] = _with_cpu(run, before)
        print(f"  {name:<20} {found[name]['seconds']:8.2f} s", file=sys.stderr)
        return out

    with tempfile.TemporaryDirectory() as scratch:
        home, other = _home(Path(scratch) / "a", None), _home(Path(scratch) / "b", models)
        quiet = {"AGENT_EMBEDDER": "none"}
        said = json.loads(take("cold index", "-c", _AGENT, "index", "--json", *repo, home=home, **quiet))
        found["cold index"] |= {"chunks": said["chunks"], "indexed": said["indexed"]}
        found["index_bytes"] = sum(p.stat().st_size for p in home.rglob("*") if p.is_file())
        time.sleep(_SETTLE_SECONDS)
        out = take("no-change refresh", "-c", _REFRESH, str(root), home=home, **quiet)
        found["no-change refresh"] |= json.loads(out)
        _edit(root)
        out = take("one-file change", "-c", _REFRESH, str(root), home=home, **quiet)
        found["one-file change"] |= json.loads(out)
        embedder = {} if models else quiet
        behind = {"AGENT_BACKGROUND": "1"}
        take(
            "first search", "-c", _AGENT, "search", _QUERY, "--json", *repo, home=other, **embedder, **behind
        )
        measured(["-c", _AGENT, "index", "--stop", *repo], other)
        if vectors:
            said = json.loads(take("vectors", "-c", _AGENT, "index", "--json", *repo, home=other))
            found["vectors"] |= {"vectors": said["vectors_embedded"]}
    return found


def _home(path: Path, models: Path | None) -> Path:
    path.mkdir(mode=0o700)
    if models is not None:
        (path / "models").symlink_to(models)
    return path


def _edit(root: Path) -> None:
    file = next(path for path in sorted(root.rglob("*.py")) if ".git" not in path.parts)
    file.write_text(file.read_text() + "\n\ndef added_just_now():\n    return 1\n")


def slope(runs: Mapping[int, Mapping[str, Any]], row: str, what: str = "cpu_seconds") -> float | None:
    """The exponent of growth between the two largest sizes: 1 is linear."""
    sizes = sorted(runs)[-2:]
    if len(sizes) < 2:
        return None
    small, large = (float(runs[size][row][what]) for size in sizes)
    return math.log(large / small) / math.log(sizes[1] / sizes[0])


def shown(runs: Mapping[int, Mapping[str, Any]]) -> str:
    """The figures as a table in Markdown."""
    head = ["", *(f"{size:,} files" for size in sorted(runs)), "exponent"]
    rows = []
    for row in ROWS:
        for what, unit, scale in (
            ("seconds", "s", 1.0),
            ("cpu_seconds", "s CPU", 1.0),
            ("peak_bytes", "MB", 1e6),
        ):
            cells = [f"{runs[size][row][what] / scale:.2f}" for size in sorted(runs)]
            power = slope(runs, row, what)
            rows.append([f"{row}, {unit}", *cells, "" if power is None else f"{power:.2f}"])
    for what in ("inside", "again", "stats"):
        cells = [f"{runs[size]['no-change refresh'][what]:.3f}" for size in sorted(runs)]
        rows.append([f"no-change refresh, {what}", *cells, ""])
    return reporting.table(head, rows)


def plot(runs: Mapping[int, Mapping[str, Any]], path: Path, title: str) -> None:
    """Seconds and peak memory against files, both axes logarithmic, with a line of what is linear."""
    sizes = sorted(runs)
    figure, (left, right) = reporting.pyplot().subplots(1, 2, figsize=(11, 4.5))
    for row in ROWS:
        left.plot(sizes, [runs[size][row]["seconds"] for size in sizes], marker="o", label=row)
        right.plot(sizes, [runs[size][row]["peak_bytes"] / 1e6 for size in sizes], marker="o", label=row)
    first = runs[sizes[-1]]["cold index"]["seconds"]
    left.plot(sizes, [first * size / sizes[-1] for size in sizes], "k:", label="linear")
    right.axhline(1024, color="k", linestyle=":", label="1 GiB")
    left.set(xscale="log", yscale="log", xlabel="files", ylabel="seconds, whole process")
    right.set(xscale="log", xlabel="files", ylabel="peak memory, MB, workers included")
    left.legend()
    right.legend()
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> int:
    """Measure, write as it goes, and show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, nargs="+", default=[100, 1_000, 10_000, 30_000])
    parser.add_argument("--repo", type=Path)
    parser.add_argument("--vectors", type=int, default=0)
    parser.add_argument("--read", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    models = Path(os.environ["AGENT_HOME"]).resolve() / "models" if "AGENT_HOME" in os.environ else None
    runs: dict[int, dict[str, Any]] = {}
    commit = reporting.commit()
    if args.read:
        report = json.loads(args.read.read_text(encoding="utf-8"))
        commit, args.files, args.repo = report["commit"], [], None
        runs = {int(size): run for size, run in report["runs"].items()}
    # Kept as it was made: what is changed by a run is a copy.
    with tempfile.TemporaryDirectory() as scratch:
        for size in [0] if args.repo else args.files:
            root = Path(scratch) / f"repo{size}"
            if args.repo:
                shutil.copytree(args.repo, root, symlinks=True)
                made = sum(p.stat().st_size for p in root.rglob("*") if p.is_file() and ".git" not in p.parts)
            else:
                made = scale_repos.make(root, size)
            print(f"{size or args.repo} files, {made / 1e6:.1f} MB", file=sys.stderr)
            time.sleep(_SETTLE_SECONDS)
            runs[size] = {"bytes": made, **figures(root, models, size <= args.vectors)}
            reporting.write(args.out, {**reporting.machine(), "load": os.getloadavg(), "runs": runs})
            shutil.rmtree(root)
    print(shown(runs))
    if args.plot:
        plot(runs, args.plot, f"Commit {commit}, {os.cpu_count()} cores")
    return 0


if __name__ == "__main__":
    sys.exit(main())
