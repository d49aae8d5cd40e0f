"""Measures answers about psf/requests without a judge: closed book, ours, and with the right files given.

    python tests/benchmarks/answers.py --questions FILE --repo DIR --model NAME [--sample 16] [--out FILE]

FILE has a question and its gold answer a line: {"question", "answer"}; the 48 questions about psf/requests of the
public SWE-QA set are meant. They are not part of this project. DIR is any git directory of psf/requests that has the
commit they are about; the commit is laid out and indexed in AGENT_HOME.

Every question of the sample is answered in each mode, greedily, by one model, with the same limit on the answer:

    closed   the question alone: what the model remembers
    ours     Agent.ask as shipped
    deep     Agent.ask(deep=True), when named in --modes
    exact    as ours, every source in its place behind those before it (`--exact`), when named in --modes
    fast     as ours, the sources joined without repair (`--fast`), when named in --modes
    preview  what is said before the answer of ours from the few sources that are quickly read, when named in --modes
    oracle   as ours, but the search sees the gold answer's files alone, and takes them to be about the question; same
             token budget

What is measured:

    files     share of the files that the gold answer cites, among those our answer names or cites
    names     share of the gold answer's identifiers that our answer has, less those in the question
    exists    share of the identifiers and paths in our answer that exist in the repository
    verified  share of the places our answer cites that bear out what it says; only those the model itself cited
    answered  share of questions that the model was asked: the others were said to be about something else
    given     share of the gold answer's files that the model was given a piece of
    read      tokens of the prompt (of a preview those not known);  known  the share of them that was read before
    first     seconds from question to first token;  seconds  to the last

and the share of the gap closed, (ours - closed) / (oracle - closed), with a 95 % bootstrap over questions; the points
of files and names, question by question with the same interval, that fast has more than exact (or than ours, where
exact is not there), and a preview than ours and than the closed book. Questions whose gold answer names no file of the
repository are left out before the sample is drawn; a larger sample contains a smaller one of the same seed.

Each answer is appended to --answers as it comes: an interrupted run goes on where it was, and answers of another
commit, model or limit are not mixed in (answers of two states between commits are: run it on a clean checkout).
--report prints what is there and runs no model. On two cores a 1.5B model takes one to two minutes an answer.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from answer_scores import AnswerScore, Repository, files_in, score, words_of
from reporting import machine, table, write
from scores import Interval, gap_closed, mean, paired

from agent import Agent
from agent.config import load_settings
from agent.paths import cache_dir, secure_directory
from chains.ask import DEFAULT_MAX_TOKENS, REPEATED, AskSettings, answer_stream, prepare, repeats
from chains.kv.policy import EXACT, FAST
from chains.llm import LlamaCpp
from chains.parsing import check
from chains.search.reading import read_for
from chains.types import Answer, Preview, Question, Retrieved, Usage
from indexers.filters import Filter

COMMIT = "46e939b"
CLOSED, PREVIEW, OURS, DEEP, ORACLE = "closed", "preview", "ours", "deep", "oracle"
# A preview comes before its answer: it is to know what earlier questions have read, and no more.
MODES = (CLOSED, PREVIEW, OURS, EXACT, FAST, DEEP, ORACLE)
# What a model needs to be told when it is shown nothing; the wish for names and paths is the one of our own prompt.
CLOSED_PROMPT = (
    "You answer questions about the source code of the Python library requests (the repository psf/requests, with its "
    "package in src/requests and its tests in tests) for a programmer who is reading it. Name functions, classes, "
    "options and files in backticks, with the paths of files. Answer briefly and exactly, then stop."
)
_LINES = re.compile(r":\d+-\d+$")
_OWN = "not cited by the model"


@dataclass(frozen=True, slots=True)
class Item:
    """One question: its place in the file, its text, the gold answer and the files that one cites."""

    number: int
    question: str
    gold: str
    files: tuple[str, ...]


def sampled(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """A sample fixed by its seed, in the file's order; a smaller one is part of a larger one."""
    drawn = sorted(items, key=lambda item: item.number)
    random.Random(seed).shuffle(drawn)
    return sorted(drawn[:count], key=lambda item: item.number)


def lay_out(git_directory: Path) -> Path:
    """The commit as a work tree of its own in AGENT_HOME, made once."""
    target = secure_directory(cache_dir() / "benchmarks") / f"requests-{COMMIT}"
    if target.is_dir():
        return target
    archive = subprocess.run(
        ["git", "-C", git_directory, "archive", COMMIT], stdout=subprocess.PIPE, check=False
    )
    if archive.returncode:
        raise SystemExit(f"{git_directory} does not have the commit {COMMIT} of psf/requests.")
    with tempfile.TemporaryDirectory(dir=target.parent) as made:
        tree = Path(made) / "tree"
        tree.mkdir()
        subprocess.run(["tar", "x", "-C", tree], input=archive.stdout, check=True)
        author = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org"]
        for command in (["init", "-q"], ["add", "-Af"], [*author, "commit", "-qm", COMMIT]):
            subprocess.run(["git", "-C", tree, *command], check=True)
        # Only a finished work tree gets the name.
        tree.rename(target)
    return target


def known(root: Path) -> Repository:
    """Paths and words of the laid out commit."""
    listed = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True, check=True).stdout
    paths = tuple(sorted(listed.decode().split("\0")[:-1]))
    words: set[str] = set()
    for path in paths:
        file = root / path
        # A link's text is counted where it points to, if that is in the repository.
        content = b"" if file.is_symlink() else file.read_bytes()
        if b"\0" not in content:
            words |= words_of(content.decode("utf-8", "replace"))
    return Repository(paths, frozenset(words))


def read_questions(file: Path, repository: Repository) -> list[Item]:
    """The questions whose gold answer names a file of the repository."""
    items = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        files = files_in(row["answer"], repository.paths)
        if files:
            items.append(Item(number, row["question"], row["answer"], tuple(sorted(files))))
    return items


def exactly(files: Sequence[str]) -> Filter:
    """A filter that these files pass, and no others."""
    # A slash in front: from the top. Nothing in a name is a wildcard.
    return Filter(paths=tuple("/" + re.sub(r"([*?\[\\])", r"\\\1", path) for path in files))


class _Enough(Exception):
    """The preview is over."""


class Answering:
    """One agent and the ways to answer with it."""

    def __init__(self, agent: Agent, max_tokens: int) -> None:
        self._agent = agent
        self._max_tokens = max_tokens
        self.by_mode: Mapping[str, Callable[[Item], Answer]] = {
            CLOSED: self.closed,
            PREVIEW: self.preview,
            OURS: lambda item: agent.ask(item.question, max_tokens=max_tokens),
            EXACT: lambda item: self.read_as(item, EXACT),
            FAST: lambda item: self.read_as(item, FAST),
            DEEP: lambda item: agent.ask(item.question, max_tokens=max_tokens, deep=True),
            ORACLE: self.oracle,
        }

    def read_as(self, item: Item, reading: str) -> Answer:
        """As ours, with one way of reading sources."""
        llm = self._agent.llm
        assert isinstance(llm, LlamaCpp)
        before, llm.reading = llm.reading, reading
        try:
            return self._agent.ask(item.question, max_tokens=self._max_tokens)
        finally:
            llm.reading = before

    def preview(self, item: Item) -> Answer:
        """What is said before the answer, which is not waited for; `found` is whether anything was."""
        said: list[Preview] = []
        first, started = 0.0, time.monotonic()

        def told(item: Preview) -> None:
            nonlocal first
            first = first or time.monotonic() - started
            said.append(item)
            if not item.piece:
                raise _Enough

        with suppress(_Enough):
            for _ in self._agent.stream(item.question, on_preview=told):
                break
        text, llm = "".join(piece.piece for piece in said).strip(), self._agent.llm
        assert isinstance(llm, LlamaCpp)
        sources = said[0].sources if said else ()
        cited = check(text, sources, item.question)
        usage = Usage(
            prompt_tokens=said[0].tokens if said else 0,
            completion_tokens=llm.count_tokens(text),
            first_token_seconds=round(first, 3),
            seconds=round(time.monotonic() - started, 3),
        )
        return Answer(
            text, cited.citations, sources, usage=usage, found=bool(text), unverified=cited.unverified
        )

    def oracle(self, item: Item) -> Answer:
        """The model with the gold answer's files to search in, which are never said to be about something else."""
        agent, started = self._agent, time.monotonic()
        settings = AskSettings(max_tokens=self._max_tokens)
        hits = read_for(
            item.question, agent.workspace.search(exactly(item.files)), agent.workspace.names()
        ).hits
        retrieved = Retrieved(Question(item.question), item.question, hits)
        prepared = prepare(retrieved.question, retrieved, agent.llm, settings, started)
        *_, answer = answer_stream(prepared, agent.llm, settings, "")
        assert isinstance(answer, Answer)
        return answer

    def closed(self, item: Item) -> Answer:
        """The model alone, stopped when it goes round in circles, as in ours."""
        from langchain_core.messages import HumanMessage, SystemMessage

        started, text, finish = time.monotonic(), "", ""
        usage: dict[str, Any] = {}
        asked = [SystemMessage(CLOSED_PROMPT), HumanMessage(item.question)]
        for chunk in self._agent.llm.stream(asked, max_tokens=self._max_tokens):
            text += chunk.text
            usage = dict(chunk.usage_metadata or usage)
            finish = str(chunk.response_metadata.get("finish_reason", finish))
            if repeats(text):
                finish = REPEATED
                break
        used = Usage(
            # A writer that is stopped does not say what it read.
            prompt_tokens=int(usage.get("input_tokens", 0)) or len(self._agent.llm.prompt_tokens(asked)),
            completion_tokens=int(usage.get("output_tokens", 0)),
            seconds=round(time.monotonic() - started, 3),
            finish_reason=finish,
        )
        return Answer(text.strip(), usage=used)


def row_of(item: Item, mode: str, setup: str, answer: Answer) -> dict[str, Any]:
    """What is kept of an answer: enough to score it again without the model."""
    return {
        "setup": setup,
        "mode": mode,
        "number": item.number,
        "text": answer.text,
        "citations": [asdict(citation) for citation in answer.citations],
        "unverified": list(answer.unverified),
        "sources": [source.label for source in answer.sources],
        "found": answer.found,
        "usage": asdict(answer.usage),
    }


def setup_of(mode: str, model: str, max_tokens: int) -> str:
    """What an answer depends on, besides its question: rows of another setup are not mixed in."""
    # Nothing of ours but the model's own frame is in a closed book.
    version = "" if mode == CLOSED else str(machine()["commit"])
    return " ".join(filter(None, (label(model), f"{max_tokens}", version)))


def label(model: str) -> str:
    """A model's name, whether it was given as a name or as a file."""
    return Path(model).name.removesuffix(".gguf")


def kept_rows(file: Path, setups: Mapping[str, str]) -> dict[tuple[str, int], dict[str, Any]]:
    """Answers already written down, by mode and question. A line cut by an interrupted run is no answer."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["setup"] == setups.get(row["mode"]):
            found[row["mode"], row["number"]] = row
    return found


def answer_missing(
    answering: Answering, items: Sequence[Item], setups: Mapping[str, str], file: Path
) -> None:
    """Every answer that the file lacks, question by question, so that an interrupted run holds whole comparisons."""
    done = kept_rows(file, setups)
    for place, item in enumerate(items, 1):
        for mode, setup in setups.items():
            if (mode, item.number) in done:
                continue
            row = row_of(item, mode, setup, answering.by_mode[mode](item))
            with file.open("a", encoding="utf-8") as out:
                # On a line of its own even behind one that was cut.
                out.write("\n" + json.dumps(row, ensure_ascii=False) + "\n")
            usage = row["usage"]
            print(
                f"{place} of {len(items)} {mode}: read {usage['prompt_tokens']}, wrote "
                f"{usage['completion_tokens']}, {usage['seconds']:.0f} s",
                file=sys.stderr,
                flush=True,
            )


def scored(item: Item, row: Mapping[str, Any], repository: Repository) -> AnswerScore:
    """One written down answer by the measures that need the gold answer."""
    cited = {citation["path"] for citation in row["citations"]} & set(repository.paths)
    return score(item.question, item.gold, row["text"], cited, repository)


def verified(row: Mapping[str, Any]) -> float | None:
    """Share of the model's own citations that hold; places that it made up do not."""
    own = [c for c in row["citations"] if not c["reason"].startswith(_OWN)]
    made_up = [name for name in row["unverified"] if _LINES.search(name)]
    whole = len(own) + len(made_up)
    return sum(c["verified"] for c in own) / whole if whole else None


MEASURES = ("files", "names", "exists", "verified", "answered", "given", "read", "known", "first", "seconds")
DIGITS = {"read": 0, "first": 1, "seconds": 1}
GAPS = ("names", "files")


def measures(
    items: Sequence[Item],
    rows: Mapping[tuple[str, int], Mapping[str, Any]],
    mode: str,
    repository: Repository,
) -> dict[str, list[float | None]]:
    """Every measure of one mode, a value a question; None where it is not defined."""
    found: dict[str, list[float | None]] = {name: [] for name in MEASURES}
    for item in items:
        row = rows[mode, item.number]
        result = scored(item, row, repository)
        usage = row["usage"]
        given = {label.rpartition(":")[0] for label in row["sources"]}
        values = (
            *(result.files, result.names, result.exists, verified(row)),
            *(float(row["found"]), len(given & set(item.files)) / len(item.files)),
            usage["prompt_tokens"],
            usage.get("cached_tokens", 0) / max(1, usage["prompt_tokens"]),
            *(usage.get("first_token_seconds", 0.0), usage["seconds"]),
        )
        for name, value in zip(MEASURES, values, strict=True):
            found[name].append(value)
    return found


def gaps(found: Mapping[str, Mapping[str, Sequence[float | None]]], mode: str) -> dict[str, Interval | None]:
    """The share of the gap that a mode closes, over questions that have the measure in all three modes."""
    shares = {}
    for name in GAPS:
        triples = zip(found[CLOSED][name], found[mode][name], found[ORACLE][name], strict=True)
        whole = [(a, b, c) for a, b, c in triples if a is not None and b is not None and c is not None]
        low, ours, high = ([triple[column] for triple in whole] for column in range(3))
        shares[name] = gap_closed(low, ours, high)
    return shares


def points(
    found: Mapping[str, Mapping[str, Sequence[float | None]]], mode: str, against: str
) -> dict[str, Interval]:
    """What a mode gains over another in points of 100; each question a group of its own."""
    told = {}
    for name in GAPS:
        pairs = zip(found[mode][name], found[against][name], strict=True)
        whole = [(a, b) for a, b in pairs if a is not None and b is not None]
        ours, theirs = ({str(n): [100 * pair[side]] for n, pair in enumerate(whole)} for side in range(2))
        if whole:
            told[name] = paired(ours, theirs)
    return told


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean over questions that have the measure, None when none has."""
    there = [value for value in values if value is not None]
    return mean(there) if there else None


def summary(found: Mapping[str, Mapping[str, Sequence[float | None]]]) -> dict[str, Any]:
    """Means and gaps as plain values."""
    closing = [mode for mode in (OURS, DEEP) if {CLOSED, mode, ORACLE} <= found.keys()]
    return {
        "means": {
            mode: {name: mean_of(values) for name, values in columns.items()}
            for mode, columns in found.items()
        },
        "gap_closed": {
            mode: {name: asdict(share) if share else None for name, share in gaps(found, mode).items()}
            for mode in closing
        },
        **{
            f"{mode}_against_{against}": {
                name: asdict(gain) for name, gain in points(found, mode, against).items()
            }
            for mode, against in (
                (FAST, EXACT if EXACT in found else OURS),
                (PREVIEW, OURS),
                (PREVIEW, CLOSED),
            )
            if {mode, against} <= found.keys()
        },
    }


def report(count: int, result: Mapping[str, Any]) -> str:
    """The table and the shares, for people."""

    def cell(name: str, value: float | None) -> str:
        return "-" if value is None else f"{value:.{DIGITS.get(name, 3)}f}"

    rows = [
        [mode, *(cell(name, means[name]) for name in MEASURES)] for mode, means in result["means"].items()
    ]
    lines = [f"{count} questions, commit {machine()['commit']}", "", table(["", *MEASURES], rows), ""]
    for mode, shares in result["gap_closed"].items():
        for name, share in shares.items():
            said = (
                f"{share['value']:.0%} [{share['low']:.0%}, {share['high']:.0%}]"
                if share
                else "none to close: the oracle is not above the closed book"
            )
            lines.append(f"{mode}: share of the gap closed, {name}: {said}")
    for compared, gains in result.items():
        for name, gain in gains.items() if "_against_" in compared else ():
            between = f"[{gain['low']:+.1f}, {gain['high']:+.1f}]"
            lines.append(f"{compared.replace('_', ' ')}, {name}: {gain['value']:+.1f} points {between}")
    return "\n".join(lines)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--questions", type=Path, required=True, help="questions and gold answers, JSON lines"
    )
    parser.add_argument("--repo", type=Path, required=True, help=f"a git directory that has {COMMIT}")
    parser.add_argument("--model", required=True, help="a model's name or a GGUF file")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=[CLOSED, OURS, ORACLE])
    parser.add_argument("--sample", type=int, default=16, help="how many questions (16)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (1)")
    parser.add_argument("--max-tokens", type=int, default=DEFAULT_MAX_TOKENS, help="longest answer")
    parser.add_argument("--answers", type=Path, help="where answers are kept (in AGENT_HOME)")
    parser.add_argument("--report", action="store_true", help="print what is there, run no model")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    args = parser.parse_args(argv)
    for path in (args.questions, args.repo):
        if not path.exists():
            parser.error(f"{path} does not exist")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    root = lay_out(args.repo.resolve())
    repository = known(root)
    items = sampled(read_questions(args.questions, repository), args.sample, args.seed)
    setups = {mode: setup_of(mode, args.model, args.max_tokens) for mode in MODES if mode in args.modes}
    file = args.answers or cache_dir() / "benchmarks" / "answers.jsonl"
    if not args.report:
        # Whatever the user's settings are: greedy, and the budgets that each mode is shipped with.
        settings = replace(load_settings(root, {}), temperature=0.0, context_tokens=None)
        with Agent.open(root, model=args.model, settings=settings) as agent:
            agent.index()
            answer_missing(Answering(agent, args.max_tokens), items, setups, file)
    rows = kept_rows(file, setups)
    whole = [item for item in items if all((mode, item.number) in rows for mode in setups)]
    if not whole:
        print(f"No question has an answer in every mode yet: {file}", file=sys.stderr)
        return 2
    found = {mode: measures(whole, rows, mode, repository) for mode in setups}
    result = summary(found)
    print(report(len(whole), result))
    setting = {"model": label(args.model), "max_tokens": args.max_tokens, "seed": args.seed}
    write(args.out, machine() | setting | {"numbers": [i.number for i in whole]} | result | {"values": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
