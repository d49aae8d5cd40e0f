"""Blanked lines of real functions: filled by `agent complete`, and by llama.cpp's own infilling of the same text.

    python tests/benchmarks/infill.py --repos DIR --model NAME|FILE [--cases 20] [--out FILE]

`--repos` holds checkouts. Lines are drawn from them with a fixed seed, before anything is run: one line of the body of
a function, of 12 to 90 characters, that is no comment and stands there once. Three ways fill each: ours, ours without
definitions from other files, and llama.cpp's server (`/infill`, by xllamacpp) with the very prefix and suffix that ours
reads. A fill is right when what it inserts is the line that was blanked, blanks apart; llama.cpp's is counted by its
first line too, since it does not say where the line ends. Cases that are in `--out` already are not run again.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reporting import machine, table, write

SEED = 20_261_125
LANGUAGES = {
    ".py": "python",
    ".go": "go",
    ".rs": "rust",
    ".ts": "typescript",
    ".java": "java",
    ".c": "c",
    ".rb": "ruby",
}
_COMMENT = re.compile(r"\s*(#|//|/\*|\*|\"\"\"|''')")


@dataclass(frozen=True, slots=True)
class Case:
    """A line of a function, by file and number; `line` is what stands there."""

    repo: str
    path: str
    number: int
    line: str


def cases(repos: Path, count: int) -> list[Case]:
    """Lines drawn from all repositories in turn, the same in every run."""
    chance = random.Random(SEED)
    drawn = [
        _lines_of(repos / name, chance)
        for name in sorted(path.name for path in repos.iterdir() if path.is_dir())
    ]
    found: list[Case] = []
    while len(found) < count and drawn:
        for lines in list(drawn):
            case = next(lines, None)
            if case is None:
                drawn.remove(lines)
            elif len(found) < count:
                found.append(case)
    return found


def _lines_of(repo: Path, chance: random.Random) -> Iterator[Case]:
    from indexers.definitions import from_tree
    from indexers.syntax import parse

    files = sorted(path for path in repo.rglob("*") if path.suffix in LANGUAGES and path.is_file())
    chance.shuffle(files)
    for file in files:
        text = file.read_text("utf-8", "replace")
        if not 2_000 < len(text) < 60_000:
            continue
        lines = text.split("\n")
        tree = parse(text, LANGUAGES[file.suffix])
        found = from_tree(tree) if tree is not None else []
        candidates = [
            number
            for item in found
            if item.kind in ("function", "method") and item.end - item.start >= 5
            # Rows count from 0: neither the head nor the last line.
            for number in range(item.start + 2, item.end + 1)
            if 12 <= len(lines[number - 1].strip()) <= 90
            and not _COMMENT.match(lines[number - 1])
            and lines.count(lines[number - 1]) == 1
        ]
        if candidates:
            number = chance.choice(candidates)
            yield Case(repo.name, str(file.relative_to(repo)), number, lines[number - 1].strip())


def plain(text: str) -> str:
    """A text without its blanks."""
    return re.sub(r"\s+", "", text)


class OwnInfill:
    """llama.cpp's own server around the same file."""

    def __init__(self, model: Path, threads: int) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.port, params.n_ctx, params.n_parallel, params.verbosity = 0, 4_096, 1, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        self._server = xllamacpp.Server(params)
        self._url = str(self._server.listening_address)

    def fill(self, prefix: str, suffix: str, most: int) -> str:
        """What `/infill` answers."""
        import httpx2

        body = {
            "input_prefix": prefix,
            "input_suffix": suffix,
            "n_predict": most,
            "temperature": 0.0,
            "top_k": 1,
        }
        reply = httpx2.post(f"{self._url}/infill", json=body, timeout=600)
        reply.raise_for_status()
        return str(reply.json()["content"])


def run(
    repos: Path, model: str, count: int, done: list[dict[str, Any]], out: Path | None
) -> Iterator[dict[str, Any]]:
    """Each case with what each way made of it."""
    from agent import Agent
    from chains.completing import CompleteSettings, cut, definitions, fill, hole_at
    from chains.writing.infill import trimmed

    settings, own = CompleteSettings(), None
    known = {(row["repo"], row["path"], row["number"]): row for row in done}
    llm: Any = None
    for case in cases(repos, count):
        if (case.repo, case.path, case.number) in known:
            yield known[case.repo, case.path, case.number]
            continue
        with Agent.open(repos / case.repo, model=model) as agent:
            llm = llm or agent.llm
            own = own or OwnInfill(agent.model_path(), 2)
            agent.model._llm = None  # kept loaded for the next repository
            agent.workspace.refresh()
            lines = (repos / case.repo / case.path).read_text("utf-8", "replace").split("\n")
            indent = lines[case.number - 1][: -len(lines[case.number - 1].lstrip())]
            lines[case.number - 1] = indent
            whole = hole_at(case.path, "\n".join(lines), case.number)
            sources = definitions(
                whole, agent.workspace.names(), settings.definition_tokens, llm.count_tokens
            )
            hole = cut(whole, settings, llm.count_tokens)
            row: dict[str, Any] = asdict(case)
            for name, shown in (("ours", sources), ("ours_alone", ())):
                started = time.monotonic()
                filled = fill(hole, llm, settings, shown)
                row[name] = trimmed(filled.text, hole, complete=filled.finish != "length")
                row[f"{name}_seconds"] = round(time.monotonic() - started, 2)
            row["definitions"] = [source.label for source in sources]
            started = time.monotonic()
            row["llama_cpp"] = own.fill(hole.prefix, hole.suffix, settings.max_tokens)
            row["llama_cpp_seconds"] = round(time.monotonic() - started, 2)
        yield row


def right(row: dict[str, Any]) -> dict[str, bool]:
    """Which way was right."""
    line = plain(row["line"])
    return {
        "ours": plain(row["ours"]) == line,
        "ours without definitions": plain(row["ours_alone"]) == line,
        "ours, first line": plain(row["ours"].strip().split("\n")[0]) == line,
        "llama.cpp, first line": plain(row["llama_cpp"].strip().split("\n")[0]) == line,
        "llama.cpp": plain(row["llama_cpp"]) == line,
    }


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repos", type=Path, required=True)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    done = json.loads(args.out.read_text())["cases"] if args.out and args.out.exists() else []
    rows: list[dict[str, Any]] = []
    for row in run(args.repos, args.model, args.cases, done, args.out):
        rows.append(row)
        verdicts = [right(row) for row in rows]
        scores = {name: sum(verdict[name] for verdict in verdicts) for name in verdicts[0]}
        write(
            args.out,
            {**machine(), "model": args.model, "seed": SEED, "of": len(rows), "right": scores, "cases": rows},
        )
        print(f"{row['repo']}:{row['path']}:{row['number']}", right(row), file=sys.stderr, flush=True)
    print(table(["way", "right"], [[name, f"{score} of {len(rows)}"] for name, score in scores.items()]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
