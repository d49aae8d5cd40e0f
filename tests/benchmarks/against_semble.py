"""Times our keyword index and semble's on the same directories, and writes the figures down by commit.

    pip install semble, into an environment of its own
    python tests/benchmarks/against_semble.py --semble-python PYTHON DIR... [--rounds 3] [--out FILE]

Both build from nothing: semble its chunks and BM25 in memory, without its model; ours its chunks and keywords in
SQLite on disk, secrets taken out. Each run is a fresh process, imports are not counted, and the tools take turns,
so that other work on the machine meets both; the median round counts. Directories are git work trees.
With --queries (a JSON list of {"name": directory, "queries": [{"query": text}]}) warm searches are timed too,
and with --hybrid DIR also with vectors: DIR is an AGENT_HOME with the embedding model, and keeps the index.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

# Each snippet prints one JSON object. Times are of the call alone; memory is the most that one process held, and
# the worker processes that it waited for.
_PRELUDE = """
import json, os, resource, sys, time
from pathlib import Path
def cpu():
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system
def memory():
    return [resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
def started(): return time.perf_counter(), cpu()
def report(begin, root, files, chunks):
    wall, spent = time.perf_counter() - begin[0], cpu() - begin[1]
    found = {"files": len(files), "chunks": chunks, "bytes": 0, "lines": 0, "wall_seconds": wall,
             "cpu_seconds": spent, "peak_bytes": memory()}
    for file in files:
        data = (Path(root) / file).read_bytes()
        found["bytes"] += len(data)
        found["lines"] += data.count(b"\\n")
    return found
def timed(search, queries):
    for query in queries[:3]: search(query)
    times = []
    for query in queries:
        t = time.perf_counter(); search(query); times.append(time.perf_counter() - t)
    return times
"""
_SEMBLE = """
import numpy as np
from semble.index.create import create_index_from_path
from semble.search import search
from semble.types import ContentType
class NoModel:
    dim = 1
    def encode(self, texts, **_): return np.zeros((len(texts), 1), dtype=np.float32)
root, content, queries = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
kinds = tuple(ContentType) if content == "all" else (ContentType.CODE,)
begin = started()
bm25, dense, chunks, manifest = create_index_from_path(root, NoModel(), kinds, root)
found = report(begin, root, list(manifest), len(chunks))
found["query_seconds"] = timed(
    lambda q: search(q, NoModel(), dense, bm25, chunks, 10, alpha=0.0), queries)
print(json.dumps(found))
"""
_OURS = """
from indexers.build import Builder
from indexers.config import IndexConfig
from indexers.git import Repository
from indexers.ledger import Ledger
import filelock, tree_sitter, tree_sitter_language_pack
root, place = Path(sys.argv[1]), Path(sys.argv[2])
begin = started()
ledger = Ledger(place / "ledger.sqlite", place / "vectors.sqlite")
done = Builder(Repository.discover(root), ledger, IndexConfig(), place).refresh()
print(json.dumps(report(begin, root, list(ledger.paths()), done.chunks) | {"skipped": len(done.skipped)}))
"""
_SEARCH = """
from agent import Agent
from agent.config import Settings
root, embedder, queries = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
agent = Agent.open(root, settings=Settings(embedder=embedder, download=False))
agent.index()
assert embedder == "none" or agent.status().vectors, agent.notes
print(json.dumps({"query_seconds": timed(lambda q: agent.search(q, 10), queries), "peak_bytes": memory()}))
"""
_EVERYWHERE = (
    "where is the configuration read",
    "error handling",
    "parse",
    "how are requests retried",
    "main",
)


def run(python: str, code: str, *arguments: str) -> dict:
    """What a snippet prints in a fresh interpreter."""
    done = subprocess.run(
        [python, "-c", _PRELUDE + code, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"a run failed with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().split("\n")[-1])


def middle(runs: list[dict]) -> dict:
    """The run whose wall time is the median."""
    return sorted(runs, key=lambda r: r["wall_seconds"])[len(runs) // 2]


def rates(runs: list[dict]) -> dict:
    """Several directories' runs as one: sums, and what was done in a second."""
    total = {key: sum(r[key] for r in runs) for key in ("files", "chunks", "bytes", "lines")}
    wall, spent = (sum(r[key] for r in runs) for key in ("wall_seconds", "cpu_seconds"))
    return total | {
        "wall_seconds": round(wall, 3),
        "cpu_seconds": round(spent, 3),
        **{f"{key}_per_second": round(value / wall, 1) for key, value in total.items()},
        "characters_a_chunk": round(total["bytes"] / max(total["chunks"], 1)),
        "peak_bytes": max(sum(r["peak_bytes"]) for r in runs),
    }


def quantiles(times: list[float]) -> dict:
    """Median and ninth decile, in milliseconds."""
    cuts = statistics.quantiles(times, n=10, method="inclusive")
    return {"p50_ms": round(1000 * cuts[4], 2), "p90_ms": round(1000 * cuts[8], 2), "queries": len(times)}


def compare(args: argparse.Namespace, home: Path) -> dict:
    """Every directory by both tools, and the sums."""
    given = json.loads(args.queries.read_text(encoding="utf-8")) if args.queries else []
    asked = {item["name"]: [q["query"] for q in item["queries"]] for item in given}
    rows, sums = {}, {"ours": [], "semble": []}
    times: dict[str, list[float]] = {"semble_keywords": [], "keywords": [], "hybrid": []}
    for directory in sorted(args.directories):
        root, queries = str(directory.resolve()), asked.get(directory.name, list(_EVERYWHERE))
        runs: dict[str, list[dict]] = {"ours": [], "semble": []}
        for number in range(args.rounds):
            with tempfile.TemporaryDirectory(dir=home) as place:
                runs["ours"].append(run(sys.executable, _OURS, root, place))
            wanted = queries if args.queries and number == 0 else []
            runs["semble"].append(run(args.semble_python, _SEMBLE, root, args.content, json.dumps(wanted)))
            times["semble_keywords"] += runs["semble"][-1].pop("query_seconds")
        rows[directory.name] = {tool: rates([middle(done)]) for tool, done in runs.items()}
        for tool, done in runs.items():
            sums[tool].append(middle(done))
        if args.queries:
            os.environ["AGENT_HOME"] = str(home / "agent")
            times["keywords"] += run(sys.executable, _SEARCH, root, "none", json.dumps(queries))[
                "query_seconds"
            ]
        if args.queries and args.hybrid:
            os.environ["AGENT_HOME"] = str(args.hybrid)
            times["hybrid"] += run(sys.executable, _SEARCH, root, "minilm", json.dumps(queries))[
                "query_seconds"
            ]
        ours, theirs = rows[directory.name]["ours"], rows[directory.name]["semble"]
        print(
            f"{directory.name:20s} chunks/s {ours['chunks_per_second']:7.0f} | {theirs['chunks_per_second']:7.0f}"
            f"   MB/s {ours['bytes_per_second'] / 1e6:5.2f} | {theirs['bytes_per_second'] / 1e6:5.2f}",
            file=sys.stderr,
            flush=True,
        )
    total = {tool: rates(done) for tool, done in sums.items()}
    keys = ("chunks_per_second", "bytes_per_second", "lines_per_second", "files_per_second")
    return {
        "total": total,
        "ours_to_semble": {key: round(total["ours"][key] / total["semble"][key], 3) for key in keys},
        "query": {name: quantiles(found) for name, found in times.items() if found},
        "directories": rows,
    }


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--semble-python", required=True, help="the interpreter that has semble")
    parser.add_argument("--content", choices=("all", "code"), default="all", help="what semble is to index")
    parser.add_argument("--semble-workers", type=int, default=0, help="its own default is 0: one process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queries", type=Path)
    parser.add_argument("--hybrid", type=Path, metavar="AGENT_HOME")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    os.environ["SEMBLE_INDEX_WORKERS"] = str(args.semble_workers)
    with tempfile.TemporaryDirectory() as home:
        report = compare(args, Path(home))
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    version = subprocess.run(
        [args.semble_python, "-c", "from importlib.metadata import version; print(version('semble'))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    report |= {
        "commit": head.stdout.strip(),
        "semble": version.stdout.strip(),
        "semble_content": args.content,
        "semble_workers": args.semble_workers,
        "rounds": args.rounds,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }
    text = json.dumps(report, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
