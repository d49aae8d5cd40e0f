"""Measures what joining sources costs in answers: finding one of several confusable functions by what it does.

    python tests/benchmarks/needles.py --model FILE.gguf --repo DIR [--repo DIR ...] --answers FILE [--groups 20]

Six Python functions of one file, their docstrings cut out, are the sources; the docstring of one of them is the
question, its name the answer. Every function of a group is asked for in turn, behind the same sources in the same
order, in every way of reading them:

    full            every source in its place: a plain prompt
    joined          every source read behind the head alone, and shifted to its place
    first N         joined, and the first N tokens of each read again in their place
    last            joined, and the source that stands last read in full in its place
    first N, last   both
    long head       a source that has nothing to do with any question stands in the head, so that no other is the first
    digest          behind the sources stands one line for each: its label and its signature

The prompt is the one of `agent ask` but for the question's wording; answers are greedy. An answer is right when the
first of the six names in it is the one that was asked for. What is reported is, for every way, the share of right
answers, the difference to `full` in points with a 95 % bootstrap over groups (six questions share their sources), and
the share of source tokens that is read again.

Every answer is appended to --answers as it comes: an interrupted run goes on where it was. --report prints what is
there and runs no model. States are kept in --states, or else in a directory that goes with the run.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reporting import machine, table, write
from scores import mean, paired

from chains.context import source_block
from chains.kv.layout import Repair
from chains.prompts import prompt_text

SIZE, SEED = 6, 5
# Lines of a function without its docstring, and words of the docstring that is asked for.
LINES, WORDS = range(3, 16), range(8, 32)
MOST_OF_A_FILE = 3
FULL = "full"
WAYS: dict[str, Repair | None] = {
    FULL: None,
    "joined": Repair(),
    "first 8": Repair(8),
    "first 16": Repair(16),
    "first 32": Repair(32),
    "first 64": Repair(64),
    "last": Repair(0, 1),
    "last 3": Repair(0, 3),
    "first 16, last": Repair(16, 1),
    "first 32, last": Repair(32, 1),
    "full, long head": None,
    "joined, long head": Repair(),
    "first 16, long head": Repair(16),
    "full, digest": None,
    "joined, digest": Repair(),
    "first 16, digest": Repair(16),
    "last, digest": Repair(0, 1),
    "first 16, digest, long head": Repair(16),
    "joined, digest, long head": Repair(),
}
# A source that stands in the head of every prompt, so that no other is the first.
_FILLER = source_block(
    "docs/example.py",
    1,
    6,
    """def greatest(numbers):
    found = None
    for number in numbers:
        if found is None or number > found:
            found = number
    return found""",
)
_ASKED = (
    "Question: Which one of the functions above does the following? {doc}\n\n"
    "Answer with the name of the function alone."
)


@dataclass(frozen=True, slots=True)
class Needle:
    """A function without its docstring, and what that says it does."""

    name: str
    path: str
    line: int
    text: str
    doc: str


@dataclass(frozen=True, slots=True)
class Row:
    """One answer. `again` are source tokens that were read although they were known, of `tokens`."""

    model: str
    group: str
    name: str
    way: str
    answer: str
    right: bool
    tokens: int
    again: int


def needles(path: Path, root: Path) -> list[Needle]:
    """The functions of a file that can be asked for."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError):
        return []
    lines, found = text.splitlines(), {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("__"):
            continue
        doc = ast.get_docstring(node)
        said = " ".join((doc or "").split("\n\n")[0].split())
        if (
            len(said.split()) not in WORDS
            or re.search(rf"\b{re.escape(node.name)}\b", said)
            or len(node.body) < 2
        ):
            continue
        first, last = node.body[0].lineno - 1, node.body[0].end_lineno or 0
        body = [*lines[node.lineno - 1 : first], *lines[last : node.end_lineno]]
        if len(body) in LINES and not re.search(rf"\b{re.escape(node.name)}\b", "\n".join(body[1:])):
            name = str(path.relative_to(root.parent))
            # Of overloads, getters and setters the last: a name stands for one function.
            found[node.name] = Needle(node.name, name, node.lineno, "\n".join(body), said)
    return list(found.values())


def groups_of(repositories: Sequence[Path], count: int) -> list[list[Needle]]:
    """Groups of functions that stand near one another in a file, drawn by a fixed seed."""
    drawn = random.Random(SEED)
    found = []
    for root in repositories:
        for path in sorted(root.rglob("*.py")):
            if "test" in path.name:
                continue
            listed = needles(path, root)
            whole = [listed[at : at + SIZE] for at in range(0, len(listed) - SIZE + 1, SIZE)]
            found += whole[:MOST_OF_A_FILE]
    drawn.shuffle(found)
    for group in found:
        drawn.shuffle(group)
    return found[:count]


def right(answer: str, name: str, names: Sequence[str]) -> bool:
    """Whether the first of the names in an answer is the one that was asked for."""
    places = {
        one: match.start()
        for one in names
        if (match := re.search(rf"(?<![A-Za-z0-9_]){re.escape(one)}(?![A-Za-z0-9_])", answer))
    }
    return bool(places) and min(places, key=lambda one: (places[one], -len(one))) == name


def prompts(group: Sequence[Needle], way: str) -> Iterator[tuple[Needle, list[Any]]]:
    """Every function of a group, and the messages that ask for it."""
    from langchain_core.messages import HumanMessage, SystemMessage

    sources = [
        source_block(one.path, one.line, one.line + one.text.count("\n"), one.text) + "\n" for one in group
    ]
    blocks = [{"type": "text", "text": text, "source": True} for text in sources]
    long, short = "long head" in way, "digest" in way
    head = [{"type": "text", "text": _FILLER + "\n"}] if long else []
    lines = [one.text.strip().splitlines() for one in group]
    digest = "All functions above:\n" + "".join(
        f"- [{one.path}:{one.line}] {next(line for line in text if 'def ' in line).strip()}\n"
        for one, text in zip(group, lines, strict=True)
    )
    for one in group:
        text = (digest + "\n" if short else "") + _ASKED.format(doc=one.doc)
        asked = {"type": "text", "text": text}
        yield one, [SystemMessage(prompt_text("ask")), HumanMessage(content=[*head, *blocks, asked])]


def measure(
    model: Path, groups: Sequence[Sequence[Needle]], ways: Sequence[str], answers: Path, states: Path
) -> None:
    """Ask what was not asked yet; every answer is written as it comes."""
    from chains.llm import LlamaCpp

    done = {(row.model, row.group, row.name, row.way) for row in rows_of(answers)}
    with answers.open("a", encoding="utf-8") as file:
        llm = LlamaCpp(model_path=str(model), kv_dir=str(states), n_ctx=4_096, max_tokens=16, stop=["\n"])
        for group in groups:
            label = f"{group[0].path}:{min(one.line for one in group)}"
            names = [one.name for one in group]
            for way in ways:
                repair = WAYS[way]
                llm.reading, llm.repair = ("exact" if repair is None else "auto"), repair
                for one, messages in prompts(group, way):
                    if (model.stem, label, one.name, way) in done:
                        continue
                    answer = llm.invoke(messages)
                    prompt = llm.prompt(messages)
                    tokens = sum(
                        llm.count_tokens(block["text"]) for block in messages[-1].content if "source" in block
                    )
                    lengths = [llm.count_tokens(b["text"]) for b in messages[-1].content if "source" in b]
                    again = _again(repair, lengths)
                    text = str(answer.content)
                    assert len(prompt.ids) < llm.context_window
                    row = Row(
                        model.stem, label, one.name, way, text, right(text, one.name, names), tokens, again
                    )
                    file.write(json.dumps(asdict(row)) + "\n")
                    file.flush()


def _again(repair: Repair | None, lengths: Sequence[int]) -> int:
    """Source tokens read for a question all of whose sources are known; the first stands behind the head as it is."""
    if repair is None:
        return sum(lengths)
    joined = lengths[1 : len(lengths) - repair.last]
    return sum(min(repair.first, length) for length in joined) + sum(lengths[len(lengths) - repair.last :])


def rows_of(answers: Path) -> list[Row]:
    """The answers that are there."""
    if not answers.exists():
        return []
    return [Row(**json.loads(line)) for line in answers.read_text(encoding="utf-8").splitlines() if line]


def summary(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """By way: share of right answers, points against `full` with an interval, share of tokens read again.

    Each way is compared on the questions that were asked in it and in `full`, whose share there is `full_right`.
    """
    by_question: dict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        by_question[row.group, row.name][row.way] = row
    told = {}
    for way in (way for way in WAYS if any(row.way == way for row in rows)):
        both = {key: found for key, found in by_question.items() if {way, FULL} <= set(found)}
        if not both:
            continue
        told[way] = {
            "questions": len(both),
            "right": mean([float(found[way].right) for found in both.values()]),
            "full_right": mean([float(found[FULL].right) for found in both.values()]),
            "points": None if way == FULL else _points(both, way),
            "read_again": mean([found[way].again / found[way].tokens for found in both.values()]),
        }
    return told


def _points(both: Mapping[tuple[str, str], Mapping[str, Row]], way: str) -> list[float]:
    ours: dict[str, list[float]] = defaultdict(list)
    full: dict[str, list[float]] = defaultdict(list)
    for (group, _), found in both.items():
        ours[group].append(float(found[way].right))
        full[group].append(float(found[FULL].right))
    lost = paired(ours, full)
    return [round(100 * value, 1) for value in (lost.value, lost.low, lost.high)]


def report(rows: Sequence[Row]) -> dict[str, Any]:
    """Everything, by model."""
    models = sorted({row.model for row in rows})
    return {model: summary([row for row in rows if row.model == model]) for model in models}


def shown(told: dict[str, Any]) -> str:
    """The report as tables."""
    parts = []
    for model, ways in told.items():
        lines = [
            [
                way,
                str(one["questions"]),
                f"{100 * one['right']:.1f} %",
                f"{100 * one['full_right']:.1f} %",
                "" if one["points"] is None else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*one["points"]),
                f"{100 * one['read_again']:.0f} %",
            ]
            for way, one in ways.items()
        ]
        head = [model, "questions", "right", "full there", "points against full", "source tokens read again"]
        parts.append(table(head, lines))
    return "\n\n".join(parts)


def main() -> None:
    """Run what is missing and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument("--repo", type=Path, action="append", default=[])
    parser.add_argument("--groups", type=int, default=20)
    parser.add_argument("--ways", default=";".join(WAYS), help="separated by semicolons")
    parser.add_argument("--states", type=Path, help="keep states here, for a run that goes on")
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    if not given.report:
        if given.model is None or not given.repo:
            parser.error("--model and --repo are needed, or --report")
        groups = groups_of(given.repo, given.groups)
        with tempfile.TemporaryDirectory() as directory:
            states = given.states or Path(directory)
            measure(given.model, groups, given.ways.split(";"), given.answers, states)
    told = report(rows_of(given.answers))
    print(shown(told))
    write(given.out, {"machine": machine(), "ways": told})


if __name__ == "__main__":
    main()
