"""Times what a person waits for, each in a process of its own, and writes the figures down by commit.

    python tests/benchmarks/speed.py --repo DIR [--model NAME|FILE] [--rounds 5] [--out FILE]

The best of the rounds is reported, since other work on a machine can only add time. The index is built in a
temporary home beside links to the models that are installed, so nothing of yours is touched.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

AGENT = [sys.executable, "-c", "import sys; from agent.cli import main; sys.exit(main())"]

# Each snippet prints one JSON object; the age of a process counts its start and imports.
_PRELUDE = """
import json, resource, sys, time, psutil
def age(): return time.time() - psutil.Process().create_time()
def memory(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
"""
_KEYWORDS = """
from agent import Agent
a = Agent.open(sys.argv[1])
t = time.perf_counter(); r = a.refresh(); s = time.perf_counter() - t
print(json.dumps({"files": r.indexed, "chunks": r.chunks, "seconds": s, "peak_bytes": memory()}))
"""
_VECTORS = """
from agent import Agent
a = Agent.open(sys.argv[1])
t = time.perf_counter(); r = a.index(); s = time.perf_counter() - t
print(json.dumps({"vectors": r.vectors_embedded, "seconds": s, "peak_bytes": memory()}))
"""
_SEARCH = """
from agent.cli import main
code = main(["--quiet", "search", "how are errors handled", "-k", "5", "--repo", sys.argv[1]])
heavy = [m for m in ("torch", "transformers", "chromadb", "langchain_core", "llama_cpp") if m in sys.modules]
print(json.dumps({"code": code, "process_seconds": age(), "imported": heavy, "peak_bytes": memory()}))
"""
_ASK = """
from agent import Agent
class Started(Exception): pass
def watch(event):
    if event.stage == "prefill":
        print(json.dumps({"process_seconds": age(), "peak_bytes": memory()}), flush=True)
        import os; os._exit(0)
a = Agent.open(sys.argv[1], model=sys.argv[2] or None, on_progress=watch)
a.ask("How are errors handled?")
"""


def run(code: str, *arguments: str) -> dict[str, object]:
    """The last line a snippet prints in a fresh interpreter, as an object."""
    done = subprocess.run(
        [sys.executable, "-c", _PRELUDE + code, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"a step failed with {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, object] = json.loads(done.stdout.strip().split("\n")[-1])
    return found


def best(rounds: int, code: str, *arguments: str) -> dict[str, object]:
    """The fastest of several runs."""
    return min((run(code, *arguments) for _ in range(rounds)), key=lambda r: float(str(r["process_seconds"])))


def help_seconds(rounds: int) -> float:
    """The fastest `agent --help`, as a whole process."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        subprocess.run([*AGENT, "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - started)
    return min(times)


def figures(repo: str, model: str, rounds: int) -> dict[str, object]:
    """Everything, in the order of a first day with the program."""
    return {
        "help_seconds": help_seconds(rounds),
        "keywords_cold": run(_KEYWORDS, repo),
        "vectors_cold": run(_VECTORS, repo),
        "search": best(rounds, _SEARCH, repo),
        "ask_until_prefill": best(rounds, _ASK, repo, model),
    }


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repo", required=True)
    parser.add_argument("--model", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    from agent.paths import models_dir

    installed = models_dir().resolve()
    repo = str(Path(args.repo).resolve())
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "models").symlink_to(installed)
        os.environ["AGENT_HOME"] = home
        report = figures(repo, args.model, args.rounds)
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    report |= {"commit": head.stdout.strip(), "cpus": os.cpu_count(), "python": platform.python_version()}
    text = json.dumps(report, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
