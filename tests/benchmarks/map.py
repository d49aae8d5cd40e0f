"""Measures whether `agent map` shows what a repository is about, and what it costs.

    python tests/benchmarks/map.py --data FILE --repos DIR [--only flask gin] [--out FILE]

FILE and DIR are those of retrieval.py. Nobody has written down what is important in a repository; here it is what
people ask about: a file is worth as many points as there are queries that it answers.

    files     NDCG@10 of files in the order of their rank, gains as above
    by size   the same in the order of the number of definitions, which is what there is without a graph
    symbols   the share of symbols asked for by name that are among the first 40 definitions
    shown     the share of queries one of whose files is in a map of 1,000 tokens
    cold      seconds of the first map of an indexed repository, nothing parsed for it yet; warm those of the next
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reporting import machine, table, write

from agent import Agent
from agent.config import load_settings
from chains.search.repo_map import RepoMap, repo_map
from indexers.relations import Relations, visible

DEFINITIONS = 40
# More than any map of 40 definitions costs.
PLENTY = 4_000


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of one repository."""

    name: str
    file_count: int
    files: float
    by_size: float
    symbols: float
    symbol_count: int
    shown: float
    cold: float
    warm: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repos", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    found: list[Measured] = []
    # An empty home: what is stored there would be no first time.
    with tempfile.TemporaryDirectory() as home:
        os.environ["AGENT_HOME"] = home
        found += each(chosen)
    print(table(("repository", "files", "by size", "symbols", "shown", "cold s", "warm s"), [*rows(found)]))
    write(chosen.out, {**machine(), "repositories": [asdict(item) for item in found]})
    return 0


def each(chosen: argparse.Namespace) -> Iterator[Measured]:
    for entry in json.loads(chosen.data.read_text(encoding="utf-8")):
        root = chosen.repos / entry["name"]
        if root.is_dir() and (not chosen.only or entry["name"] in chosen.only):
            yield measured(entry, root)


def measured(entry: Mapping[str, Any], root: Path) -> Measured:
    gains = Counter(place["path"] for query in entry["queries"] for place in query["relevant"])
    with Agent.open(root, settings=load_settings(root, {})) as agent:
        agent.refresh()
        builder = agent.workspace.builder()
        cold, found = timed(Relations(agent.workspace.ledger, builder.keep_facts))
        relations = Relations(agent.workspace.ledger, builder.keep_facts)
        warm, again = timed(relations)
        assert str(found) == str(again)
        ranks = relations.ranks().files
        sizes = {known.file.path: len(visible(known.facts)) for known in relations.files()}
        symbols = [query for query in entry["queries"] if query["category"] == "symbol"]
        best = first_definitions(relations)
    paths = {file.path for file in found.files}
    shown = [any(place["path"] in paths for place in query["relevant"]) for query in entry["queries"]]
    return Measured(
        name=entry["name"],
        file_count=len(ranks),
        files=ndcg(sorted(ranks, key=lambda path: (-ranks[path], path)), gains),
        by_size=ndcg(sorted(sizes, key=lambda path: (-sizes[path], path)), gains),
        symbols=mean([symbol_found(query, best) for query in symbols]),
        symbol_count=len(symbols),
        shown=mean(shown),
        cold=cold,
        warm=warm,
    )


def timed(relations: Relations) -> tuple[float, RepoMap]:
    started = time.perf_counter()
    found = repo_map(relations)
    return time.perf_counter() - started, found


def first_definitions(relations: Relations) -> set[tuple[str, str]]:
    """Path and name of the definitions that a map shows first."""
    low, high = 50, PLENTY
    found = repo_map(relations, high)
    while low < high:
        middle = (low + high + 1) // 2
        outlined = repo_map(relations, middle)
        if sum(len(file.entries) for file in outlined.files) <= DEFINITIONS:
            low, found = middle, outlined
        else:
            high = middle - 1
    return {(file.path, entry.name.split(".")[-1]) for file in found.files for entry in file.entries}


def symbol_found(query: Mapping[str, Any], best: set[tuple[str, str]]) -> bool:
    name = query["query"].split("::")[-1].split(".")[-1].removesuffix("()")
    return any((place["path"], name) in best for place in query["relevant"])


def ndcg(order: Sequence[str], gains: Mapping[str, int], k: int = 10) -> float:
    """Normalised discounted cumulative gain of an order of paths (Järvelin and Kekäläinen 2002)."""
    ideal = sorted(gains.values(), reverse=True)
    return discounted([gains.get(path, 0) for path in order[:k]]) / discounted(ideal[:k])


def discounted(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def rows(found: Sequence[Measured]) -> list[tuple[str, ...]]:
    def row(name: str, *values: float) -> tuple[str, ...]:
        return (name, *(f"{value:.3f}" for value in values[:4]), *(f"{value:.2f}" for value in values[4:]))

    shown = [row(m.name, m.files, m.by_size, m.symbols, m.shown, m.cold, m.warm) for m in found]
    asked = sum(m.symbol_count for m in found)
    symbols = sum(m.symbols * m.symbol_count for m in found if m.symbol_count) / max(1, asked)
    plain = [
        mean([getattr(m, name) for m in found]) for name in ("files", "by_size", "shown", "cold", "warm")
    ]
    return [*shown, row("mean", plain[0], plain[1], symbols, *plain[2:])]


if __name__ == "__main__":
    sys.exit(main())
