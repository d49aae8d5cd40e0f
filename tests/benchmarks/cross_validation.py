"""How well the ranking does on repositories that its weights were not chosen on.

    python tests/benchmarks/cross_validation.py --data FILE --repos DIR [--keywords] [--folds 6] [--out FILE]

FILE and DIR are those of retrieval.py. The repositories are dealt into folds. For each fold, every field of
chains.search.ranking.Weights is chosen anew on the other repositories, from all signals off, by coordinate ascent over
a few multiples of the shipped value; the fold is then scored with what came of it. Printed are NDCG@10 of all queries
so scored, with the shipped weights, and the difference with a 95 % bootstrap over repositories.

Which signals there are was itself chosen on these repositories: that part of the choice is not undone here.

Candidates are looked up once for each query and ranked with each choice of weights: minutes, once the repositories
are indexed (with --keywords at once; embedding all of them takes an hour or more on two cores).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reporting import machine, write
from retrieval import Asked, K, Remembering, ablations, asked_of
from scores import Place, mean, ndcg, paired

from agent import Agent
from agent.config import load_settings
from chains.search.query import Query, understand
from chains.search.ranking import DEFAULT_WEIGHTS, Candidate, FileEvidence, Weights, rank

# What is tried for a weight, beside off: multiples of the shipped value.
STEPS = (0.5, 1.0, 2.0)
# Passes over all weights; a third changes next to nothing.
PASSES = 2
SEED = 7


@dataclass(frozen=True, slots=True)
class Prepared:
    """A query with everything that ranking it needs."""

    query: Query
    asked: Asked
    candidates: tuple[Candidate, ...]
    evidence: Mapping[str, FileEvidence]
    places: Mapping[int, Place]

    def score(self, weights: Weights) -> float:
        """NDCG@10 with these weights."""
        ranked = rank(self.query, self.candidates, weights, self.evidence)[:K]
        return ndcg([self.places[item.candidate.chunk_id] for item in ranked], self.asked.targets, K)


def prepared(root: Path, queries: Sequence[Asked], *, keywords: bool) -> list[Prepared]:
    """The queries of one repository, looked up."""
    settings = load_settings(root, {})
    if keywords:
        settings = replace(settings, embedder="none")
    found = []
    with Agent.open(root, settings=settings) as agent:
        agent.index()
        search = agent.workspace.search()
        if search.embedder is not None:
            search = replace(search, embedder=Remembering(search.embedder))
        for asked in queries:
            query = understand(asked.text)
            candidates = search.candidates(query)
            stored = search.index.chunks([item.chunk_id for item in candidates])
            places = {
                i: Place(item.chunk.path, item.chunk.start_line, item.chunk.end_line)
                for i, item in stored.items()
            }
            evidence = search.evidence(query, candidates)
            found.append(Prepared(query, asked, tuple(candidates), evidence, places))
    return found


class Scores:
    """NDCG@10 of every query by repository, for each choice of weights once."""

    def __init__(self, queries: Mapping[str, Sequence[Prepared]]) -> None:
        self._queries = queries
        self._known: dict[Weights, dict[str, list[float]]] = {}

    def of(self, weights: Weights) -> dict[str, list[float]]:
        if weights not in self._known:
            self._known[weights] = {
                name: [query.score(weights) for query in queries] for name, queries in self._queries.items()
            }
        return self._known[weights]

    def mean(self, weights: Weights, names: Sequence[str]) -> float:
        """The mean over the queries of some repositories."""
        found = self.of(weights)
        return mean([score for name in names for score in found[name]])


def choices(name: str) -> list[float]:
    """What is tried for a weight: off, and multiples of the shipped value; penalties stay below 1."""
    shipped = getattr(DEFAULT_WEIGHTS, name)
    off = getattr(ablations()[name], name)
    # A factor is a distance from 1, and twice as far is its square.
    tried = [shipped**step for step in STEPS] if off == 1.0 else [shipped * step for step in STEPS]
    return [off, *(round(min(value, 1.0) if name.startswith("dense") else value, 6) for value in tried)]


def chosen(scores: Scores, names: Sequence[str]) -> Weights:
    """The weights that do best on some repositories, found from all signals off, one weight at a time."""
    fields = list(ablations())
    weights = replace(DEFAULT_WEIGHTS, **{name: choices(name)[0] for name in fields})
    for _ in range(PASSES):
        for name in fields:
            tried = [replace(weights, **{name: value}) for value in choices(name)]
            # Of equals the one that is there already.
            weights = max([weights, *tried], key=lambda w: scores.mean(w, names))
    return weights


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repos", type=Path, required=True)
    parser.add_argument("--keywords", action="store_true", help="search without vectors")
    parser.add_argument("--folds", type=int, default=6)
    parser.add_argument("--only", nargs="*", help="names of repositories to use")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    args = parser.parse_args(argv)
    queries: dict[str, list[Prepared]] = {}
    for item in json.loads(args.data.read_bytes()):
        name = item["name"]
        if (args.repos / name).is_dir() and (not args.only or name in args.only):
            queries[name] = prepared(args.repos / name, asked_of(item), keywords=args.keywords)
            print(f"{name}: {len(queries[name])} queries", file=sys.stderr, flush=True)
    names = sorted(queries)
    if len(names) < max(args.folds, 2):
        parser.error(f"{len(names)} repositories cannot be dealt into {args.folds} folds")
    random.Random(SEED).shuffle(names)
    scores, held_out, picked = Scores(queries), dict[str, list[float]](), []
    for fold in range(args.folds):
        held = names[fold :: args.folds]
        weights = chosen(scores, [name for name in names if name not in held])
        held_out |= {name: scores.of(weights)[name] for name in held}
        picked.append({"held_out": held, "weights": dataclasses.asdict(weights)})
        print(
            f"without {', '.join(held)}: {scores.mean(weights, held):.4f} there", file=sys.stderr, flush=True
        )
    shipped = scores.of(DEFAULT_WEIGHTS)
    difference = paired(held_out, shipped)
    result = {
        "held_out": mean([score for values in held_out.values() for score in values]),
        "shipped": scores.mean(DEFAULT_WEIGHTS, names),
        "difference": dataclasses.asdict(difference),
        "queries": sum(map(len, shipped.values())),
    }
    print(
        f"{result['queries']} queries, {len(names)} repositories in {args.folds} folds, commit {machine()['commit']}\n"
        f"NDCG@10 with weights chosen elsewhere {result['held_out']:.4f}, "
        f"as shipped {result['shipped']:.4f}, difference {difference}"
    )
    setting = {"keywords": args.keywords, "repositories": len(names)}
    write(args.out, machine() | setting | result | {"folds": picked})
    return 0


if __name__ == "__main__":
    sys.exit(main())
