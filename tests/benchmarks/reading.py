"""Measures what a model is given to read for a question, without running one: what an answer needs, in how many tokens.

    python tests/benchmarks/reading.py --repos DIR [--model NAME] [--tokens 1800] [--keywords]
        [--near 0.98] [--requests FILE --requests-repo GIT] [--losses] [--out FILE]

For each question of questions.json and reading.json, what an answer cannot do without was written down as fragments of
code (the head of a function, a statement), for those of reading.json before anything was tried. Counted is the share of
them that stands in the packed sources. DIR holds a git work tree for each repository, under the last part of its name
in small letters; those that are not there are left out. --requests takes the questions of answers.py: there, the share
of the gold answer's names and files.

With --keywords nothing is embedded. Tokens are those of the model's vocabulary where --model names one that is
installed, else a token for every 3.4 characters, which is about what code takes.

    whole only     all of each source, in order, while they fit: what is measured against
    as shipped     the first sources whole, of others the heads of their definitions
    half known     the same, where half of all sources, whichever, were read before and come first among hits whose
                   scores are within --near: what that preference costs where it knows nothing of the question
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from answer_scores import gold_names, words_of
from answers import known, lay_out, read_questions
from reporting import machine, table, write
from scores import mean

from agent import Agent
from agent.config import load_settings
from chains import context as packing
from chains.ask import DEFAULT_CONTEXT_TOKENS
from chains.context import CountTokens, pack, source_of
from chains.search.reading import read_for
from chains.types import Context

HERE = Path(__file__).parent
CHARS_PER_TOKEN = 3.4


@dataclass(frozen=True, slots=True)
class Needed:
    """A question about a work tree, what the sources should hold for it (all words, or fragments), and which files."""

    group: str
    root: Path
    question: str
    wanted: tuple[str, ...]
    files: tuple[str, ...] = ()

    def shown(self, context: Context) -> list[bool]:
        """Of each thing wanted, whether the sources hold it."""
        text = "\n".join(source.text for source in context.sources)
        held = words_of(text) if self.files else None
        return [name in held if held is not None else name in text for name in self.wanted]


def questions(repos: Path) -> Iterator[Needed]:
    """The questions with fragments, of the repositories that are there."""
    for name in ("questions", "reading"):
        for item in json.loads(HERE.joinpath(f"{name}.json").read_text(encoding="utf-8")):
            root = repos / item["repo"].rpartition("/")[2].lower()
            if root.is_dir():
                yield Needed(name, root, item["question"], tuple(item["read"]))


def about_requests(file: Path, git_directory: Path) -> Iterator[Needed]:
    """The questions with gold answers."""
    root = lay_out(git_directory.resolve())
    repository = known(root)
    for item in read_questions(file, repository):
        names = gold_names(item.question, item.gold, repository.words)
        if names:
            yield Needed("requests", root, item.question, tuple(sorted(names)), item.files)


def estimated(text: str) -> int:
    """Tokens of a text, about."""
    return round(len(text) / CHARS_PER_TOKEN)


class Readers:
    """Agents by work tree, and the ways of packing."""

    def __init__(self, model: str | None, tokens: int, *, keywords: bool) -> None:
        self._model = model
        self._tokens = tokens
        self._keywords = keywords
        self._agents: dict[Path, Agent] = {}

    def contexts(self, needed: Needed) -> tuple[Context, Context, Context]:
        """What would be read with half of all sources known, with whole sources only, and as shipped."""
        agent = self._agent(needed.root)
        count: CountTokens = agent.llm.count_tokens if self._model else estimated
        reading = read_for(needed.question, agent.workspace.search(), agent.workspace.names())
        whole = [replace(hit, brief="") for hit in reading.hits]
        texts = {source_of(hit, len).text for hit in reading.hits}
        half = {text for text in texts if sha256(text.encode()).digest()[0] % 2}
        return (
            pack(reading.hits, self._tokens, count, read=half),
            pack(whole, self._tokens, count),
            pack(reading.hits, self._tokens, count),
        )

    def close(self) -> None:
        for agent in self._agents.values():
            agent.close()

    def _agent(self, root: Path) -> Agent:
        if root not in self._agents:
            settings = load_settings(root, {})
            if self._keywords:
                settings = replace(settings, embedder="none")
            agent = self._agents[root] = Agent.open(root, model=self._model, settings=settings)
            agent.index()
        return self._agents[root]


def measured(
    needs: Sequence[Needed], read: Callable[[Needed], tuple[Context, Context, Context]], *, losses: bool
) -> dict[str, dict[str, list[float]]]:
    """By group: the shares with whole sources and as shipped, and how many sources there were."""
    found: dict[str, dict[str, list[float]]] = {}
    for needed in needs:
        group = found.setdefault(needed.group, {})
        for name, context in zip(("half known", "whole only", "as shipped"), read(needed), strict=True):
            shown = needed.shown(context)
            values = {name: sum(shown) / len(shown), f"{name}, sources": len(context.sources)}
            if needed.files:
                paths = {source.path for source in context.sources}
                values[f"{name}, files"] = len(paths & set(needed.files)) / len(needed.files)
            for key, value in values.items():
                group.setdefault(key, []).append(value)
        missing = [name for name, there in zip(needed.wanted, shown, strict=True) if not there]
        if losses and missing:
            print(f"{needed.root.name}: {needed.question}\n      not shown: {', '.join(missing)}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repos", type=Path, required=True)
    parser.add_argument("--model", help="whose tokens are counted")
    parser.add_argument("--tokens", type=int, default=DEFAULT_CONTEXT_TOKENS)
    parser.add_argument("--keywords", action="store_true", help="search without vectors")
    parser.add_argument("--near", type=float, default=packing.NEAR, help="scores that count as equal")
    parser.add_argument("--requests", type=Path, help="the questions of answers.py")
    parser.add_argument("--requests-repo", type=Path, help="a git directory of psf/requests")
    parser.add_argument("--losses", action="store_true", help="print what is not shown")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    args = parser.parse_args(argv)
    if bool(args.requests) != bool(args.requests_repo):
        parser.error("--requests and --requests-repo belong together")
    packing.NEAR = args.near
    needs = [*questions(args.repos)]
    if args.requests:
        needs += about_requests(args.requests, args.requests_repo)
    if not needs:
        parser.error(f"{args.repos} holds none of the repositories")
    readers = Readers(args.model, args.tokens, keywords=args.keywords)
    found = measured(needs, readers.contexts, losses=args.losses)
    readers.close()
    means = {
        group: {name: mean(values) for name, values in columns.items()} for group, columns in found.items()
    }
    rows = [
        [group, str(len(found[group]["as shipped"])), name, f"{value:.3f}"]
        for group, columns in means.items()
        for name, value in columns.items()
    ]
    print(table(["", "questions", "", "mean"], rows))
    counted = args.model or "estimated"
    setting = {"tokens": args.tokens, "near": args.near, "keywords": args.keywords, "counted": counted}
    write(args.out, machine() | setting | {"means": means, "values": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
