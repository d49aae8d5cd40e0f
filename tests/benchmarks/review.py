"""How well, and how fast, a local model reviews: QuixBugs, and bug fixes of real histories taken back.

    python tests/benchmarks/review.py quixbugs DIRECTORY MODEL.gguf RAW.jsonl [--least 1]
    python tests/benchmarks/review.py history REPOSITORY MODEL.gguf RAW.jsonl
        [--faults 8 --harmless 8 --context 1600 --least 1]
    python tests/benchmarks/review.py report RAW.jsonl... [--json RESULT.json]

The first two append what the model said of each case, and go on where they were stopped; nothing is thrown away, so
that `report` can put every pass beside every other: the question that screens, the answer bound to the schema (with
--least 1 one that must name a fault), the question whether a finding is true. DIRECTORY is a checkout of
jkoppel/QuixBugs; REPOSITORY any git work tree.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from review_report import report

from chains.llm import LlamaCpp
from chains.reviewing.answers import read_answer
from chains.reviewing.context import ContextFinder
from chains.reviewing.diff import hunks
from chains.reviewing.prompt import answer_schema, claim, hunk_prompt
from chains.reviewing.reader import NO, YES, conversation, screen_messages
from chains.reviewing.replay import NEAR, cases
from chains.reviewing.trees import RevisionTree
from chains.reviewing.types import FileDiff, Hunk
from indexers.git import Repository

_WORDS = (*YES, *NO)


def ask(model: LlamaCpp, finder: ContextFinder, file: FileDiff, hunk: Hunk, least: int = 0) -> dict[str, Any]:
    """Every pass over one hunk, whatever the one before said, with its time."""
    from langchain_core.messages import AIMessage, HumanMessage

    prompt = hunk_prompt(file, hunk, finder.around(file, hunk))
    if prompt is None:
        return {"path": file.path, "skipped": "too large", "start": hunk.start, "end": hunk.end}
    messages = conversation(prompt)
    tokens = len(model.prompt_tokens(messages))
    screen, screened = timed(lambda: model.next_probabilities(screen_messages(prompt), _WORDS))
    text = ""
    began = time.perf_counter()
    for chunk in model.stream(
        messages,
        json_schema=answer_schema(prompt, suggest=False, least=least),
        max_tokens=320,
        temperature=0.0,
    ):
        text += chunk.text
    written = time.perf_counter() - began
    answer = read_answer(text, file, prompt)
    seen = {real: shown for shown, real in prompt.lines.items()}
    found = []
    for item in answer.findings:
        asked = [*messages, AIMessage(text), HumanMessage(claim(seen[item.line], item.quote, item.message))]
        odds, seconds = timed(lambda asked=asked: model.next_probabilities(asked, _WORDS))
        said = {"line": item.line, "category": item.category, "message": item.message}
        found.append({**said, "severity": item.severity.value, "odds": odds, "seconds": seconds})
    return {
        "path": file.path, "start": hunk.start, "end": hunk.end, "tokens": tokens, "screen": screen,
        "screen_seconds": screened, "text": text, "seconds": round(written, 3), "findings": found,
        "rejected": dict(answer.rejected or {}), "unreviewed": answer.unreviewed.value if answer.unreviewed else "",
    }  # fmt: skip


def timed(work: Any) -> tuple[Any, float]:
    """What a call gave and how many seconds it took."""
    began = time.perf_counter()
    result = work()
    return result, round(time.perf_counter() - began, 3)


def bare(text: str) -> str:
    """A program without what its author says of it: docstrings and the comment after the code."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and len(body) > 1:
            node.body = [item for item in body if not _says(item)]  # type: ignore[attr-defined]
    return ast.unparse(tree) + "\n"


def _says(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def quixbugs(directory: Path) -> Iterator[dict[str, Any]]:
    """Each program twice, with its fault and without, as an added file; the lines that differ are the fault's."""
    for path in sorted((directory / "python_programs").glob("*.py")):
        good = directory / "correct_python_programs" / path.name
        if path.stem.endswith("_test") or path.stem == "node" or not good.exists():
            continue
        sides = {True: bare(path.read_text()), False: bare(good.read_text())}
        lines = sorted({line for hunk in hunks(sides[False], sides[True]) for line in hunk.touched})
        for is_fault, text in sides.items():
            yield {"name": path.stem, "is_fault": is_fault, "text": text, "lines": lines}


def run_quixbugs(args: argparse.Namespace) -> None:
    """All programs that the raw file has not yet."""
    model, done = opened(args)
    for case in quixbugs(args.source):
        key = f"quixbugs/{case['name']}/{case['is_fault']}"
        if key in done:
            continue
        # A name that says nothing: these programs are famous.
        file = FileDiff("program.py", "A", None, case["text"], hunks(None, case["text"]), "python")
        said = [ask(model, ContextFinder(None, 0), file, hunk, args.least) for hunk in file.hunks]
        lint = linted({"program.py": case["text"]})
        added = [[file.path, number] for hunk in file.hunks for number in hunk.touched]
        about = {"set": "quixbugs", "is_fault": case["is_fault"], "lines": case["lines"], "added": added}
        keep(args, key, {**about, "hunks": said, "lint": lint})


def run_history(args: argparse.Namespace) -> None:
    """Faults and harmless commits of one history that the raw file has not yet."""
    model, done = opened(args)
    repository = Repository.discover(args.source)
    for case in cases(repository, repository.head() or "HEAD", args.faults, args.harmless):
        key = f"{args.source.name}/{case.commit.id[:12]}/{case.is_fault}/{args.context}"
        if key in done:
            continue
        finder = ContextFinder(RevisionTree(repository, case.revision), args.context)
        said = [
            ask(model, finder, file, hunk, args.least)
            for file in case.files
            for hunk in file.hunks
            if hunk.added
        ]
        touched = [
            [file.path, n] for file in case.files for hunk in file.hunks if hunk.added for n in hunk.touched
        ]
        lint = linted({file.path: file.after or "" for file in case.files if file.language == "python"})
        about = {"set": args.source.name, "is_fault": case.is_fault, "subject": case.commit.subject}
        lines = touched if case.is_fault else []
        keep(args, key, {**about, "added": touched, "lines": lines, "hunks": said, "lint": lint})


def opened(args: argparse.Namespace) -> tuple[LlamaCpp, set[str]]:
    """The model, loaded, and the keys of what it has been asked already."""
    done = set()
    if args.raw.exists():
        done = {entry["key"] for entry in map(json.loads, args.raw.read_text().splitlines())}
    model = LlamaCpp(model_path=str(args.model), n_ctx=4_096, seed=0)
    model.load()
    return model, done


def keep(args: argparse.Namespace, key: str, entry: dict[str, Any]) -> None:
    """Append one case as soon as it is known."""
    row = {
        "key": key,
        "model": args.model.stem,
        "least": args.least,
        "context": getattr(args, "context", 0),
        **entry,
    }
    with args.raw.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=True) + "\n")
    print(
        key,
        [round(item.get("seconds", 0) + item.get("screen_seconds", 0), 1) for item in entry["hunks"]],
        flush=True,
    )


def linted(files: dict[str, str]) -> list[list[Any]]:
    """What ruff's default rules, which are those of pyflakes and the grave ones of pycodestyle, say of Python files."""
    found: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for path, text in files.items():
            target = Path(name) / "file.py"
            target.write_text(text, encoding="utf-8", errors="replace")
            command = [
                sys.executable,
                "-m",
                "ruff",
                "check",
                "--isolated",
                "--quiet",
                "--output-format",
                "json",
                str(target),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found += [
                [path, item["location"]["row"], item["code"]] for item in json.loads(done.stdout or "[]")
            ]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("quixbugs", "history"):
        sub = verbs.add_parser(verb)
        sub.add_argument("source", type=Path)
        sub.add_argument("model", type=Path)
        sub.add_argument("raw", type=Path)
        sub.add_argument("--faults", type=int, default=8)
        sub.add_argument("--harmless", type=int, default=8)
        sub.add_argument("--least", type=int, default=0)
        sub.add_argument("--context", type=int, default=1_600 if verb == "history" else 0)
    sub = verbs.add_parser("report")
    sub.add_argument("raw", type=Path, nargs="+")
    sub.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    random.seed(1)
    if args.verb == "report":
        return report(args.raw, args.json, NEAR)
    run_quixbugs(args) if args.verb == "quixbugs" else run_history(args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
