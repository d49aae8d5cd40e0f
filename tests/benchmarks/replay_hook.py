"""Real commits made once more, one by one, through the real hook: is the deadline kept, is every byte, what is blocked?

    python tests/benchmarks/replay_hook.py REPOSITORY RAW.jsonl [--commits 30 --deadline 20 --model NAME]
    python tests/benchmarks/replay_hook.py report RAW.jsonl... [--json RESULT.json]

REPOSITORY is cloned, its last commits on the first parents' line are staged and committed in turn with `git commit`, as
a person would. Goes on where it was stopped. Seconds are those of the whole `git commit`, the interpreter included.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reporting import machine, write

_HOME = Path(__file__).parents[2]
_START = "import sys; from agent.cli import main; sys.exit(main())"
_BLOCKS = re.compile(r"^(\S.*?):(\d+)  \w+, blocks  \[([\w-]+)\]", re.MULTILINE)
_TOOK = re.compile(r"\((?:(\d+) min )?(\d+(?:\.\d+)?) s\)")
# Keeps a copy of the index that git names while the hook runs, and says whether it is still the same.
_WATCH = """#!/bin/sh
cp "$GIT_INDEX_FILE" "$AGENT_WATCH/copy"
"$(dirname "$0")/inner" "$@"; code=$?
cmp -s "$GIT_INDEX_FILE" "$AGENT_WATCH/copy" && echo same > "$AGENT_WATCH/said" || echo other > "$AGENT_WATCH/said"
exit $code
"""


def run(args: argparse.Namespace) -> None:
    """Replay what the raw file has not yet."""
    done = (
        {json.loads(line)["commit"] for line in args.raw.read_text().splitlines()}
        if args.raw.exists()
        else set()
    )
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        root, watch = place / "repository", place / "watch"
        watch.mkdir()
        env = environment(args, watch)
        git(place, env, "clone", "-q", "--no-checkout", str(args.source), str(root))
        count = f"--max-count={args.commits + 1}"
        ids = git(root, env, "rev-list", "--first-parent", count, "HEAD").stdout.split()[::-1]
        hook = root / ".git/hooks/pre-commit"
        subprocess.run(
            [sys.executable, "-c", _START, "hook", "install"],
            cwd=root,
            env=env,
            check=True,
            capture_output=True,
        )
        hook.rename(hook.with_name("inner"))
        hook.write_text(_WATCH)
        hook.chmod(0o755)
        for before, commit in zip(ids, ids[1:], strict=False):
            if commit not in done:
                row = replayed(root, env, watch, before, commit)
                with args.raw.open("a", encoding="utf-8") as file:
                    file.write(
                        json.dumps({"repository": args.source.name, "deadline": args.deadline, **row}) + "\n"
                    )
                print(row["commit"][:10], row["seconds"], row["code"], row["summary"], flush=True)


def environment(args: argparse.Namespace, watch: Path) -> dict[str, str]:
    """A person's, with the program under test and nobody's configuration."""
    names = {
        f"GIT_{who}_{what}": "replay@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    more = {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "AGENT_WATCH": str(watch),
        "AGENT_REVIEW_DEADLINE": str(args.deadline),
        "PYTHONPATH": str(_HOME),
    }
    model = {"AGENT_REVIEW_MODEL": args.model} if args.model else {}
    return {**os.environ, **names, **more, **model}


def replayed(root: Path, env: dict[str, str], watch: Path, before: str, commit: str) -> dict[str, Any]:
    """One commit staged on top of the one before it, and made through the hook."""
    git(root, env, "reset", "-q", "--hard", before)
    git(root, env, "read-tree", "-u", "--reset", commit)
    was = tree_hash(root)
    (watch / "said").unlink(missing_ok=True)
    began = time.perf_counter()
    done = git(root, env, "commit", "-q", "--allow-empty", "-m", "replayed", check=False)
    seconds = round(time.perf_counter() - began, 2)
    said = (watch / "said").read_text().strip() if (watch / "said").exists() else "the hook did not run"
    text = done.stderr + done.stdout
    blocked = [
        {"path": path, "line": int(line), "category": kind} for path, line, kind in _BLOCKS.findall(text)
    ]
    lines = text.splitlines()
    summary = next(
        (line for line in lines if " of staged changes " in line or "in staged changes " in line), ""
    )
    return {
        "commit": commit,
        "seconds": seconds,
        "code": done.returncode,
        "index": said,
        "tree_same": tree_hash(root) == was,
        "blocked": blocked,
        "summary": summary,
        "not_reviewed": "Not reviewed" in text,
        "stands": all(stands(root, item) for item in blocked),
        "said": text[:4_000],
    }


def own_seconds(summary: str) -> float | None:
    """How long the review itself says it took, from the start of its process."""
    match = _TOOK.search(summary)
    return int(match[1] or 0) * 60 + float(match[2]) if match else None


def stands(root: Path, item: dict[str, Any]) -> bool:
    """Whether a blocking finding names a line that the staged file has."""
    path = root / item["path"]
    return path.is_file() and 1 <= item["line"] <= path.read_bytes().count(b"\n") + 1


def tree_hash(root: Path) -> str:
    """All bytes of the work tree, and of what is staged."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if ".git" not in path.relative_to(root).parts:
            digest.update(os.fsencode(path))
            digest.update(os.fsencode(os.readlink(path)) if path.is_symlink() else b"")
            digest.update(path.read_bytes() if path.is_file() and not path.is_symlink() else b"")
    return digest.hexdigest()


def git(cwd: Path, env: dict[str, str], *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Git, as a person runs it."""
    return subprocess.run(
        ["git", *args], cwd=cwd, env=env, capture_output=True, text=True, errors="replace", check=check
    )


def report(args: argparse.Namespace) -> int:
    """What is to be known of all of them."""
    every = (json.loads(line) for path in args.raw for line in path.read_text(encoding="utf-8").splitlines())
    rows = list({(row["repository"], row["commit"]): row for row in every}.values())
    seconds = sorted(row["seconds"] for row in rows)
    own = sorted(took for row in rows if (took := own_seconds(row["summary"] or row["said"])) is not None)
    figures = {
        "commits": len(rows),
        "repositories": dict(Counter(row["repository"] for row in rows)),
        "deadline": rows[0]["deadline"] if rows else None,
        "seconds_median": seconds[len(seconds) // 2] if seconds else None,
        "seconds_most": seconds[-1] if seconds else None,
        "review_seconds_median": own[len(own) // 2] if own else None,
        "review_seconds_most": own[-1] if own else None,
        "reviews_later_than_a_second_after_the_deadline": sum(took > rows[0]["deadline"] + 1 for took in own),
        "index_changed": sum(row["index"] != "same" for row in rows),
        "work_tree_changed": sum(not row["tree_same"] for row in rows),
        "blocked": sum(bool(row["blocked"]) for row in rows),
        "blocked_without_a_finding_that_stands": sum(
            row["code"] != 0 and not (row["blocked"] and row["stands"]) for row in rows
        ),
        "blocking_categories": dict(Counter(item["category"] for row in rows for item in row["blocked"])),
        "not_reviewed_in_full": sum(row["not_reviewed"] for row in rows),
    }
    print(json.dumps(figures, indent=1))
    write(args.json, {"machine": machine(), "figures": figures})
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if words[:1] == ["report"]:
        parser.add_argument("verb")
        parser.add_argument("raw", type=Path, nargs="+")
        parser.add_argument("--json", type=Path)
        return report(parser.parse_args(words))
    parser.add_argument("source", type=Path)
    parser.add_argument("raw", type=Path)
    parser.add_argument("--commits", type=int, default=30)
    parser.add_argument("--deadline", type=float, default=20.0)
    parser.add_argument("--model", default="")
    run(parser.parse_args(words))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
