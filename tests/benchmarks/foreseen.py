"""Measures how much of a prompt had been read when it was foreseen: tokens that need no reading. No model is run.

    python tests/benchmarks/foreseen.py --repos DIR [--tokens 1800] [--out FILE]

First questions are those of questions.json and reading.json, after `agent warm` has read what it would for each
repository. Follow-ups are four about the best source of each such question, in words that foresee nothing of the
prompts which are read after an answer. Tokens are estimated, 3.4 characters each; nothing is embedded. DIR is laid out
as for reading.py.

    nothing        the question before it and nothing else
    appended       what the best source calls, is called by and is tested by, read behind the last prompt
    single         the likeliest sources, each read behind the head, for as many tokens as the prompts below
    foreseen       prompts as they would be for questions about the same: as shipped
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from pathlib import Path

from reading import estimated, questions
from reporting import machine, table, write
from scores import mean

from agent import Agent
from agent.config import load_settings
from agent.reading_ahead import MOST_FOLLOWING, MOST_FORESEEN
from chains.ask import DEFAULT_CONTEXT_TOKENS
from chains.context import source_of
from chains.kv.trail import Trail
from chains.packing import ReadBefore, packed
from chains.search.likely import about, follow_ups, likely
from chains.search.reading import read_for
from chains.search.retrieval import plain_hit
from chains.types import Source

WINDOW = 8_192
Prompt = tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """Tokens of a prompt's sources, and how many of them had been read."""

    tokens: int
    known: int


class Asker:
    """Packs questions about one repository as `agent ask` would, its trails given."""

    def __init__(self, root: Path, tokens: int) -> None:
        settings = replace(load_settings(root, {}), embedder="none")
        self.agent = Agent.open(root, settings=settings)
        self.agent.refresh()
        self.relations = self.agent.workspace.names()
        self._tokens = tokens

    def prompt(self, question: str, trails: Sequence[Trail] = (), *, needed_only: bool = False) -> Prompt:
        """The sources that a prompt shows, in its order."""
        hits = read_for(question, self.agent.workspace.search(), self.relations).hits
        before = ReadBefore(trails=tuple(trails), needed_only=needed_only)
        context = packed(hits, self._tokens, estimated, before, WINDOW)
        return tuple(reversed(context.sources))

    def asked(self, question: str, trails: Sequence[Trail]) -> Asked:
        """What a question would find of what was read."""
        prompt = self.prompt(question, trails)
        known = max((_shared(trail.sources, prompt) for trail in trails), default=0)
        return Asked(sum(source.tokens for source in prompt), known)

    def foreseen(self, texts: Sequence[str], trails: Sequence[Trail], *, ahead: bool) -> list[Trail]:
        """What reading ahead of these questions would read."""
        found: list[Trail] = []
        for text in texts:
            prompt = self.prompt(text, [*trails, *found], needed_only=True)
            found += [Trail(prompt, ahead=ahead)] if prompt else []
        return found


def _shared(read: Sequence[Source], prompt: Sequence[Source]) -> int:
    pairs = zip(read, prompt, strict=False)
    return sum(one.tokens for one, _ in takewhile(lambda pair: pair[0].text == pair[1].text, pairs))


def prepared(asker: Asker) -> dict[str, list[Trail]]:
    """What `agent warm` reads of a repository in its place, and single sources for as many tokens."""
    chunks = likely(asker.relations, {})
    texts = list(islice(about(chunks, asker.relations), MOST_FORESEEN))
    foreseen = asker.foreseen(texts, (), ahead=True)
    left = sum(source.tokens for trail in foreseen for source in trail.sources)
    single: list[Trail] = []
    for stored in chunks:
        source = source_of(plain_hit(stored, 1.0), estimated)
        left -= source.tokens
        if left < 0:
            break
        single.append(Trail((source,), ahead=True))
    return {"nothing": [], "single": single, "foreseen": foreseen}


def followed(asker: Asker, question: str) -> Iterator[tuple[str, dict[str, list[Trail]]]]:
    """Follow-ups of a question, and what would have been read before them."""
    shown = asker.prompt(question)
    if not shown:
        return
    best, last = shown[-1], [Trail(shown)]
    texts = follow_ups(asker.relations, [best])[:MOST_FOLLOWING]
    name = next((text.split()[2] for text in texts if text.startswith("How does")), "")
    called = next((text.split()[2] for text in texts if text.startswith("What does")), "")
    if not name:
        return
    ways = {
        "nothing": last,
        "appended": [Trail((*shown, *_related(asker, best, shown)))],
        "foreseen": [*last, *asker.foreseen(texts, last, ahead=False)],
    }
    yield f"where is {name} used in the code base?", ways
    yield f"which tests cover {name}?", ways
    yield f"what happens in {name} when something goes wrong?", ways
    if called:
        yield f"explain {called} to me", ways


def _related(asker: Asker, best: Source, shown: Sequence[Source]) -> Iterator[Source]:
    relations = asker.relations
    symbols = [s for stored in relations.ledger.chunks_of(best.path) for s in stored.chunk.symbols]
    names = [s.name for s in symbols if best.start_line <= s.line <= best.end_line][:2]
    places = [(place.path, place.line) for place in relations.called_by(best)[:3]]
    places += [(use.path, use.line) for name in names for use in relations.callers_of(name, 3)]
    places += [(use.path, use.line) for name in names for use in relations.tests_of(name)[:3]]
    told = {source.text for source in shown}
    for path, line in places[:MOST_FOLLOWING]:
        for stored in relations.ledger.chunks_of(path):
            if stored.chunk.start_line <= line <= stored.chunk.end_line:
                source = source_of(plain_hit(stored, 1.0), estimated)
                if source.text not in told:
                    told.add(source.text)
                    yield source


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repos", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=DEFAULT_CONTEXT_TOKENS)
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    args = parser.parse_args(argv)
    askers: dict[Path, tuple[Asker, dict[str, list[Trail]]]] = {}
    found: dict[str, dict[str, list[Asked]]] = {"first": {}, "follow-up": {}}
    for needed in questions(args.repos):
        if needed.root not in askers:
            asker = Asker(needed.root, args.tokens)
            askers[needed.root] = (asker, prepared(asker))
        asker, warm = askers[needed.root]
        for way, trails in warm.items():
            found["first"].setdefault(way, []).append(asker.asked(needed.question, trails))
        for question, ways in followed(asker, needed.question):
            for way, trails in ways.items():
                found["follow-up"].setdefault(way, []).append(asker.asked(question, trails))
    means = {
        group: {
            way: {
                "questions": len(values),
                "tokens": mean([float(one.tokens) for one in values]),
                "known": mean([float(one.known) for one in values]),
                "nearly_all_known": mean([float(one.tokens - one.known < 300) for one in values]),
            }
            for way, values in ways.items()
        }
        for group, ways in found.items()
    }
    rows = [
        [
            group,
            way,
            str(v["questions"]),
            f"{v['tokens']:.0f}",
            f"{v['known']:.0f}",
            f"{v['nearly_all_known']:.2f}",
        ]
        for group, ways in means.items()
        for way, v in ways.items()
    ]
    print(table(["", "read before", "questions", "tokens of sources", "known", "all but 300 known"], rows))
    setting = {"tokens": args.tokens, "repositories": len(askers)}
    write(args.out, machine() | setting | {"means": means})
    return 0


if __name__ == "__main__":
    sys.exit(main())
