"""Blanked functions written again: do the repository's own tests pass, do the edits apply, do they parse.

    python tests/benchmarks/edits.py --repos DIR --python FILE --model NAME --answers FILE [--cases 30] [--out FILE]

DIR holds git directories or checkouts of pallets/click, psf/requests, encode/starlette and simonw/sqlite-utils, under
these names or as owner+name/repo; FILE is a Python that has what their tests need. The cases are in edit_cases.json:
functions of 5 to 25 lines whose body is replaced by `raise NotImplementedError`, and a test command that passes before
and fails then. --find looks for such cases and prints them; no model is run. The tests import the tree they stand in:
PYTHONPATH=src:. in the environment, and none of the four installed in that Python.

Every case is put to the model, greedily, in each arm:

    ours      agent write: the place by grammar, retrieval on, up to three rounds with the test command
    blind     the same without any source but the place itself
    blocks    the same sources and place; after an example, the answer is a SEARCH/REPLACE block,
              applied where its text is found exactly

`first` is the share that passes in the first round, without repair. Answers are appended to --answers as they come; a
run that is stopped, or reaches --seconds, goes on there. What a model has read it reads no more: a run whose tokens and
seconds are to be told needs an AGENT_HOME of its own, and one for each arm.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reporting import machine, table, write
from scores import paired

from agent import Agent, models
from agent.config import load_settings
from agent.paths import cache_dir, secure_directory
from agent.writing import Proposal, material_of, write_settings, writing
from chains.writing.diffs import unified_diff
from chains.writing.edit_checks import static_checks
from chains.writing.edits import FileChange, FileState
from chains.writing.scratch import run
from chains.writing.types import Stage
from indexers.filters import EVERYTHING

CASES = Path(__file__).with_name("edit_cases.json")
REPOSITORIES = ("pallets/click", "psf/requests", "encode/starlette", "simonw/sqlite-utils")
OURS, BLIND, BLOCKS = "ours", "blind", "blocks"
ARMS = (OURS, BLIND, BLOCKS)
_LEAST, _MOST, _EACH = 5, 25, 12
_SECONDS, _ROUNDS = 60.0, 3
_BLOCK = re.compile(r"<<<<<<< SEARCH\n(.*?)\n?=======\n(.*?)\n?>>>>>>> REPLACE", re.DOTALL)
_ASK = (
    "Answer with one block of this form, and nothing else. The SEARCH part must be copied from the file exactly, "
    "character by character; the REPLACE part is what stands there afterwards.\n"
    "<<<<<<< SEARCH\nlines of the file\n=======\nnew lines\n>>>>>>> REPLACE"
)


# What every tool with this format shows its model first: one task, answered as it should be.
_SHOWN = (
    "Task: Implement `double` in src/numbers.py: it raises NotImplementedError now.\n\n"
    "These are lines 4-6 of src/numbers.py:\n```python\ndef double(value):\n"
    '    """Twice the value."""\n    raise NotImplementedError\n```\n'
)
_ANSWERED = (
    "<<<<<<< SEARCH\n"
    '    """Twice the value."""\n    raise NotImplementedError\n'
    "=======\n"
    '    """Twice the value."""\n    return 2 * value\n'
    ">>>>>>> REPLACE"
)


@dataclass(frozen=True, slots=True)
class Case:
    """A function: where it stands, and the test files that fail without it."""

    repository: str
    commit: str
    path: str
    name: str
    tests: str

    @property
    def key(self) -> str:
        return f"{self.repository}:{self.path}:{self.name}"

    @property
    def request(self) -> str:
        return f"Implement `{self.name}` in {self.path}: it raises NotImplementedError now."


def source_of(repos: Path, repository: str) -> Path:
    """Where a repository lies under --repos."""
    for name in (
        repository.replace("/", "+") + "/repo",
        repository.replace("/", "+"),
        repository.split("/")[1],
    ):
        if (repos / name).is_dir():
            return repos / name
    raise SystemExit(f"{repos} has no {repository}.")


def lay_out(repos: Path, repository: str, place: Path, commit: str = "HEAD") -> Path:
    """One commit as a repository of its own."""
    tree = place / repository.split("/")[1]
    tree.mkdir(parents=True)
    archive = ["git", "-C", str(source_of(repos, repository)), "archive", commit]
    packed = subprocess.run(archive, capture_output=True, check=True).stdout
    subprocess.run(["tar", "x", "-C", tree], input=packed, check=True)
    author = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org"]
    for command in (["init", "-q"], ["add", "-Af"], [*author, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", tree, *command], check=True)
    return tree


def blanked(text: str, name: str) -> str | None:
    """The file with a function's body gone, its signature and docstring kept; None where there is no such function.

    The last of its name: those before it may be overloads.
    """
    named = [node for path, node in functions(text) if path == name]
    if not named:
        return None
    found = named[-1]
    lines = text.split("\n")
    body = found.body
    first = body[1] if ast.get_docstring(found) and len(body) > 1 else body[0]
    start, end = first.lineno - 1, found.end_lineno or first.lineno
    indent = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
    return "\n".join([*lines[:start], f"{indent}raise NotImplementedError", *lines[end:]])


def functions(text: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions and methods with qualified names."""

    def inside(
        node: ast.AST, above: tuple[str, ...]
    ) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield ".".join((*above, child.name)), child
            elif isinstance(child, ast.ClassDef):
                yield from inside(child, (*above, child.name))

    yield from inside(ast.parse(text), ())


def command(python: str, tests: str) -> str:
    return f"{python} -m pytest -q -x -p no:cacheprovider --no-header -o addopts= {tests}"


def tested(tree: Path, python: str, tests: str) -> bool:
    """Whether tests pass in a tree as it is."""
    return run(command(python, tests), tree, _SECONDS, dict(os.environ)).ok


def find_cases(repos: Path, python: str, repository: str) -> Iterator[Case]:
    """Functions whose absence some test file notices that passes otherwise, spread over the files."""
    with tempfile.TemporaryDirectory() as made:
        tree = lay_out(repos, repository, Path(made))
        commit = subprocess.run(
            ["git", "-C", str(source_of(repos, repository)), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        tests = {
            str(path.relative_to(tree)): path.read_text(errors="replace")
            for path in sorted(tree.rglob("test_*.py"))
            if "tests" in path.parts
        }
        good: dict[str, bool] = {}
        count = 0
        for path, name in _candidates(tree):
            if count >= _EACH:
                return
            last = name.split(".")[-1]
            near = sorted(
                (t for t in tests if re.search(rf"\b{last}\b", tests[t])), key=lambda t: len(tests[t])
            )[:2]
            text = (tree / path).read_text()
            without = blanked(text, name)
            for test in near if without is not None else ():
                if test not in good:
                    good[test] = tested(tree, python, test)
                (tree / path).write_text(without or text)
                noticed = good[test] and not tested(tree, python, test)
                (tree / path).write_text(text)
                if noticed:
                    count += 1
                    yield Case(repository, commit, path, name, test)
                    break


def _candidates(tree: Path) -> list[tuple[str, str]]:
    """Functions of the right length with a docstring, one file after the other."""
    by_file: dict[str, list[str]] = {}
    for path in sorted(tree.rglob("*.py")):
        name = str(path.relative_to(tree))
        if re.search(r"(^|/)(tests?|docs|examples|docs_src)/|setup\.py|conftest", name):
            continue
        for qualified, node in functions(path.read_text(errors="replace")):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            body = lines - len((ast.get_docstring(node) or "").split("\n"))
            if (
                _LEAST <= body <= _MOST
                and ast.get_docstring(node)
                and not qualified.split(".")[-1].startswith("__")
            ):
                by_file.setdefault(name, []).append(qualified)
    rounds = max(map(len, by_file.values()), default=0)
    return [(file, names[at]) for at in range(rounds) for file, names in by_file.items() if at < len(names)]


# -- arms ------------------------------------------------------------------------------------------


def answer_ours(agent: Agent, case: Case, python: str, retrieval: bool) -> dict[str, Any]:
    """agent write with the case's tests: what came of it, and whether the first round had it already."""
    settings = write_settings(
        agent.workspace,
        test=command(python, case.tests),
        seconds=_SECONDS,
        rounds=_ROUNDS,
        context_tokens=None if retrieval else 0,
    )
    checks: list[str] = []
    proposal: Proposal | None = None
    for item in writing(agent.workspace, agent.model, case.request, settings):
        if isinstance(item, Stage):
            checks += [item.detail] if item.name == "check" else []
        else:
            proposal = item
    assert proposal is not None
    applied = False
    if proposal.edits:
        proposal.apply(unchecked=True, allow_sensitive=True)
        applied = True
        proposal.undo()
    failed = [check.name for check in proposal.checks if check.failed]
    return {
        "passed": proposal.passed,
        "first": bool(checks) and checks[0] == "all checks pass",
        "applies": applied,
        "parses": bool(proposal.edits) and "parses" not in failed,
        "rounds": proposal.rounds,
        "tokens": proposal.usage.completion_tokens,
        "read": proposal.usage.prompt_tokens - proposal.usage.cached_tokens,
        "failed": failed,
        "diff": proposal.diff,
    }


def answer_blocks(agent: Agent, case: Case, python: str) -> dict[str, Any]:
    """The same sources and place, answered as a SEARCH/REPLACE block."""
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

    from chains.context import pack
    from chains.engine.streams import closed_after
    from chains.prompts import prompt_text
    from chains.writing.places import find_places
    from chains.writing.regions import named, regions_of

    settings = write_settings(agent.workspace)
    with agent.workspace.guarded():
        places = find_places(case.request, material_of(agent.workspace, EVERYTHING), settings)
    llm = agent.llm
    context = pack(places.hits, settings.context_tokens, llm.count_tokens)
    before = places.files[case.path]
    text = before.data.decode()
    region = named(regions_of(case.path, text, "python"), [case.name])[-1]
    shown = "\n".join(text.split("\n")[region.start_line - 1 : region.end_line])
    asked = (
        f"Task: {case.request}\n\nThese are lines {region.start_line}-{region.end_line} of {case.path}:\n"
        f"```python\n{shown}\n```\n{_ASK}"
    )
    sources = "".join(source.text + "\n" for source in reversed(context.sources))
    said, tokens, read = "", 0, 0
    example = HumanMessage(_SHOWN + _ASK), AIMessage(_ANSWERED)
    messages = [SystemMessage(prompt_text("write")), *example, HumanMessage(sources + asked)]
    limit = min(settings.max_tokens, 4 * llm.count_tokens(shown) + 400)
    with closed_after(llm.stream(messages, max_tokens=limit, stop=[">>>>>>> REPLACE"])) as writing:
        for chunk in writing:
            said += chunk.text
            if chunk.response_metadata.get("finish_reason") == "stop":
                said += "\n>>>>>>> REPLACE"
            if chunk.usage_metadata:
                tokens = chunk.usage_metadata["output_tokens"]
                details = chunk.usage_metadata.get("input_token_details") or {}
                read = chunk.usage_metadata["input_tokens"] - int(details.get("cache_read", 0) or 0)
    block = _BLOCK.search(said)
    applies = block is not None and bool(block[1]) and text.count(block[1]) == 1
    row: dict[str, Any] = {"applies": applies, "parses": False, "passed": False, "first": False, "rounds": 1}
    row |= {"tokens": tokens, "read": read, "failed": [] if applies else ["applies"], "diff": said[-2_000:]}
    if block is None or not applies:
        return row
    after = text.replace(block[1], block[2], 1)
    change = FileChange(case.path, before, FileState(after.encode(), before.mode))
    row["parses"] = not static_checks([change])[0].failed
    row["diff"] = unified_diff([change])
    target = agent.root / case.path
    target.write_text(after)
    row["passed"] = row["first"] = tested(agent.root, python, case.tests)
    target.write_text(text)
    return row


# -- running ---------------------------------------------------------------------------------------


def answered(file: Path, model: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What --answers has already of this model."""
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {(row["case"], row["arm"]): row for row in rows if row["model"] == model}


def run_cases(given: argparse.Namespace, cases: Sequence[Case]) -> Iterator[str]:
    """Answer what is still to come; each row is written before the next begins."""
    started, known = time.monotonic(), answered(given.answers, given.model)
    kept = secure_directory(cache_dir() / "benchmarks")
    with tempfile.TemporaryDirectory(dir=kept) as made:
        for case in cases:
            for arm in given.arms:
                if (case.key, arm) in known:
                    continue
                if time.monotonic() - started > given.seconds:
                    return
                tree = Path(made) / case.repository.split("/")[1]
                if not tree.exists():
                    lay_out(given.repos, case.repository, Path(made), case.commit)
                row = {"case": case.key, "arm": arm, "model": given.model, **one(given, case, arm, tree)}
                with given.answers.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(row) + "\n")
                yield f"{case.key} {arm} passed={row['passed']} applies={row['applies']} {row['seconds']} s"


def one(given: argparse.Namespace, case: Case, arm: str, tree: Path) -> dict[str, Any]:
    """One case in one arm, in its repository's tree, which is as it was afterwards."""
    file = tree / case.path
    text = file.read_text()
    without = blanked(text, case.name)
    assert without is not None, case
    file.write_text(without)
    settings = load_settings(tree, {"model": given.model, "embedder": given.embedder})
    try:
        with Agent.open(tree, settings=settings) as agent:
            agent.refresh()
            agent.llm.load()
            began = time.monotonic()
            if arm == BLOCKS:
                row = answer_blocks(agent, case, given.python)
            else:
                row = answer_ours(agent, case, given.python, arm == OURS)
            return {**row, "seconds": round(time.monotonic() - began, 1)}
    finally:
        file.write_text(text)


def report(cases: Sequence[Case], given: argparse.Namespace) -> dict[str, Any]:
    """Shares over the cases that each arm has answered."""
    known = answered(given.answers, given.model)
    arms = {}
    for arm in given.arms:
        rows = [known[case.key, arm] for case in cases if (case.key, arm) in known]
        if rows:
            shares = {name: share(rows, name) for name in ("passed", "first", "applies", "parses")}
            shares["unfinished"] = sum("finished" in row["failed"] for row in rows)
            means = {
                name: round(sum(row[name] for row in rows) / len(rows), 1)
                for name in ("seconds", "tokens", "read", "rounds")
            }
            arms[arm] = {"cases": len(rows), **shares, **means}
            if arm != OURS:
                arms[arm]["ours_more"] = ours_more(known, rows)
    return {**machine(), "model": given.model, "cases": [asdict(case) for case in cases], "arms": arms}


def ours_more(known: Mapping[tuple[str, str], Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> str:
    """By how many points more of ours pass on the same cases, with its interval over them."""
    both = [(known[row["case"], OURS], row) for row in rows if (row["case"], OURS) in known]
    if not both:
        return ""
    ours, theirs = (
        {row["case"]: [100.0 * bool(row["passed"])] for row in side} for side in zip(*both, strict=True)
    )
    found = paired(ours, theirs)
    return f"{found.value:+.0f} [{found.low:.0f}, {found.high:.0f}]"


def share(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return round(100 * sum(bool(row[name]) for row in rows) / len(rows), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repos", type=Path, required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--find", action="store_true")
    parser.add_argument(
        "--only", nargs="*", choices=REPOSITORIES, help="with --find: these repositories alone"
    )
    parser.add_argument("--model", default="qwen2.5-coder-1.5b-instruct")
    parser.add_argument("--embedder", default="minilm")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--cases", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--answers", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.find:
        for name in given.only or REPOSITORIES:
            for case in find_cases(given.repos, given.python, name):
                print(json.dumps(asdict(case)), flush=True)
        return
    models.find(given.model, ())
    cases = interleaved([Case(**row) for row in json.loads(CASES.read_text())])[: given.cases]
    for line in run_cases(given, cases):
        print(line, flush=True)
    found_report = report(cases, given)
    head = ["arm", "cases", "passed", "first", "applies", "parses", "seconds", "tokens", "read", "unfinished"]
    head.append("ours_more")
    print(
        table(
            head,
            [
                [arm, *(str(values.get(name, "")) for name in head[1:])]
                for arm, values in found_report["arms"].items()
            ],
        )
    )
    write(given.out, found_report)


def interleaved(cases: Sequence[Case]) -> list[Case]:
    """One case of each repository after the other, so that a run that ends early has some of all."""
    by_repository: dict[str, list[Case]] = {}
    for case in cases:
        by_repository.setdefault(case.repository, []).append(case)
    longest = max(map(len, by_repository.values()), default=0)
    return [listed[at] for at in range(longest) for listed in by_repository.values() if at < len(listed)]


if __name__ == "__main__":
    main()
