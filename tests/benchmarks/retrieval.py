"""Measures how well queries find their files in pinned repositories: our search in parts and whole, and a tutorial's.

    python tests/benchmarks/retrieval.py --data FILE --repos DIR [--only flask gin] [--losses 20] [--out FILE]

FILE holds queries and the files that answer them: a list of {"name", "revision", "root", "published_ndcg10": {method:
score}, "queries": [{"query", "category", "relevant": [{"path", optionally "start_line", "end_line"}]}]}. It is not part
of this project: the annotations are those of the public semble benchmark (github.com/MinishLab/semble, benchmarks/, MIT
licence), with the scores that its authors and others published for each repository.

DIR holds one git work tree for each name, with the directory `root` of the repository at `revision` and nothing else:

    mkdir DIR/NAME; git -C CLONE archive REVISION ROOT | tar x -C DIR/NAME
    git -C DIR/NAME init -q; git -C DIR/NAME add -Af; git -C DIR/NAME commit -qm REVISION

What is measured, all in one run, on the same files:

    raw keywords         BM25 over our chunks and tokens, in its own order
    keywords             the search without an embedder: keywords and ranking
    raw dense            cosine similarity of MiniLM's vectors of our chunks
    dense                the ranking over those vectors alone
    hybrid               the search as shipped
    tutorial             LangChain's RecursiveCharacterTextSplitter (from_language where it knows the language, 1,000
                         characters, 200 overlap, as in LangChain's own guides), the same MiniLM reading 256 tokens,
                         Chroma's similarity_search; pip install langchain-text-splitters langchain-chroma
    hybrid - SIGNAL      the hybrid with one field of chains.search.ranking.Weights switched off

NDCG@10 has gains of 0 and 1; recall@2k is the share of targets among the first ten results that fit, in order, into
2,000 tokens of four characters; times are of one warm query in this process, and for `keywords` and `hybrid` include
looking for changed files. Differences are to the hybrid, with 95 % intervals of a bootstrap over repositories.

The first run embeds every repository (minutes to an hour, by machine); vectors are kept in AGENT_HOME, so that later
runs take a minute or two. --against compares with the JSON of an earlier run, query by query.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reporting import machine, table, write
from scores import Interval, Place, budget_recall, mean, ndcg, paired
from tutorial import has_tutorial, reader, tutorial

from agent import Agent
from agent.config import load_settings
from chains.search.ranking import DEFAULT_WEIGHTS, Weights
from chains.search.retrieval import Search
from indexers.embedding import Embedder
from indexers.index import Index

K = 10
HYBRID = "hybrid"
TUTORIAL = "tutorial"
# How far down a missed file is looked for.
DEEP = 100

Pipeline = Callable[[str], list[Place]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A query, its category and the places that answer it."""

    text: str
    category: str
    targets: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one pipeline made of one query."""

    repository: str
    category: str
    ndcg: float
    recall: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Loss:
    """A query that the hybrid does not answer perfectly: wanted paths with their rank, and the paths it put first."""

    repository: str
    asked: Asked
    ndcg: float
    ranks: tuple[int | None, ...]
    first: tuple[str, ...]


class NoKeywords(Index):
    """An index that knows vectors and definitions, but no words."""

    def by_keyword(self, *_: Any, **__: Any) -> list[Any]:
        return []

    def coverage(self, *_: Any, **__: Any) -> dict[str, float]:
        return {}


class Remembering:
    """An embedder that keeps the vectors of queries: the ablations ask the same ones many times."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._fingerprint = embedder.fingerprint()
        self._kept: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    def fingerprint(self) -> str:
        return self._fingerprint

    def embed_query(self, text: str) -> Any:
        if text not in self._kept:
            self._kept[text] = self._embedder.embed_query(text)
        return self._kept[text]


def ablations(weights: Weights = DEFAULT_WEIGHTS) -> dict[str, Weights]:
    """The weights with each of their numbers switched off in turn, by its name.

    A field's metadata may say what `off` is; else factors (penalties and what further chunks of a file keep) are off
    at 1 and everything else at 0.
    """
    made = {}
    for field in dataclasses.fields(weights):
        value = getattr(weights, field.name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        factor = field.name.endswith(("penalty", "same_file", "factor"))
        off = field.metadata.get("off", 1.0 if factor else 0.0)
        if value != off:
            made[field.name] = replace(weights, **{field.name: off})
    return made


def places(hits: Sequence[Any]) -> list[Place]:
    """Hits or chunks as places."""
    return [Place(hit.path, hit.start_line, hit.end_line, len(hit.text)) for hit in hits]


def pipelines(agent: Agent, keywords: Agent, search: Search, embedder: Embedder) -> dict[str, Pipeline]:
    """Our own search, in parts and whole."""
    index, fingerprint = search.index, embedder.fingerprint()
    no_keywords = replace(search, index=NoKeywords(index.ledger, index.store))

    def chunks(scored: Sequence[Any]) -> list[Place]:
        stored = index.chunks([item.chunk_id for item in scored])
        return places([stored[item.chunk_id].chunk for item in scored])

    return {
        "raw keywords": lambda text: chunks(index.by_keyword(search.searched(text).tokens, K)),
        "keywords": lambda text: places(keywords.search(text, K)),
        "raw dense": lambda text: chunks(index.by_vector(fingerprint, embedder.embed_query(text), K)),
        "dense": lambda text: places(no_keywords.hits(text, K)),
        HYBRID: lambda text: places(agent.search(text, K)),
    }


def measure(repository: str, queries: Sequence[Asked], ask: Pipeline) -> list[Outcome]:
    """Every query once, after one that does not count."""
    ask(queries[0].text)
    outcomes = []
    for asked in queries:
        started = time.perf_counter()
        results = ask(asked.text)
        seconds = time.perf_counter() - started
        score, recall = ndcg(results, asked.targets, K), budget_recall(results, asked.targets)
        outcomes.append(Outcome(repository, asked.category, score, recall, seconds))
    return outcomes


def losses(
    repository: str, queries: Sequence[Asked], search: Search, outcomes: Sequence[Outcome]
) -> list[Loss]:
    """Where the files stand that the hybrid should have put first."""
    found = []
    for asked, outcome in zip(queries, outcomes, strict=True):
        if outcome.ndcg < 1.0:
            hits = places(search.hits(asked.text, DEEP))
            ranks = tuple(
                next((rank for rank, hit in enumerate(hits, 1) if ndcg([hit], [target]) > 0), None)
                for target in asked.targets
            )
            first = tuple(f"{hit.path}:{hit.start_line}" for hit in hits[:3])
            found.append(Loss(repository, asked, outcome.ndcg, ranks, first))
    return found


class Run:
    """All outcomes of one run, by pipeline and in order of queries."""

    def __init__(self, *, with_tutorial: bool, with_ablations: bool) -> None:
        self.outcomes: dict[str, list[Outcome]] = {}
        self.losses: list[Loss] = []
        self._with_tutorial = with_tutorial
        self._with_ablations = with_ablations

    def add(self, name: str, root: Path, queries: Sequence[Asked]) -> None:
        """Index one repository where it changed, and put every query to every pipeline."""
        settings = load_settings(root, {})
        with (
            Agent.open(root, settings=settings) as agent,
            Agent.open(root, settings=replace(settings, embedder="none")) as keywords,
        ):
            agent.index()
            # The search that `Agent.search` uses, so that the parts are parts of what is shipped.
            search = agent.workspace.search()
            if search.embedder is None:
                raise SystemExit("The embedding model is missing: agent models pull minilm")
            asking = pipelines(agent, keywords, search, search.embedder)
            if self._with_tutorial:
                asking[TUTORIAL] = tutorial(root, sorted(search.index.paths()), reader(search.embedder), K)
            kept = replace(search, embedder=Remembering(search.embedder))
            if self._with_ablations:
                asking |= switched_off(kept)
            for pipeline, ask in asking.items():
                self.outcomes.setdefault(pipeline, []).extend(measure(name, queries, ask))
            self.losses += losses(name, queries, kept, self.outcomes[HYBRID][-len(queries) :])

    def scores(self, pipeline: str) -> dict[str, list[float]]:
        """NDCG@10 of every query, by repository."""
        grouped: dict[str, list[float]] = {}
        for outcome in self.outcomes[pipeline]:
            grouped.setdefault(outcome.repository, []).append(outcome.ndcg)
        return grouped

    def summary(self, pipeline: str) -> dict[str, Any]:
        """Means over queries, times in milliseconds, and the difference to the hybrid."""
        outcomes = self.outcomes[pipeline]
        times = [1000 * outcome.seconds for outcome in outcomes]
        categories = sorted({outcome.category for outcome in outcomes})
        difference = paired(self.scores(pipeline), self.scores(HYBRID))
        return {
            "ndcg10": mean([outcome.ndcg for outcome in outcomes]),
            "categories": {c: mean([o.ndcg for o in outcomes if o.category == c]) for c in categories},
            "recall2k": mean([outcome.recall for outcome in outcomes]),
            "p50_ms": statistics.median(times),
            "p90_ms": statistics.quantiles(times, n=10)[-1] if len(times) > 1 else times[0],
            "difference": dataclasses.asdict(difference),
        }


def switched_off(search: Search) -> dict[str, Pipeline]:
    """A pipeline for each signal that can be switched off, and one with all of them on as a check."""

    def pipeline(weights: Weights) -> Pipeline:
        less = replace(search, weights=weights)
        return lambda text: places(less.hits(text, K))

    made = {f"{HYBRID} - nothing": pipeline(search.weights)}
    return made | {f"{HYBRID} - {name}": pipeline(less) for name, less in ablations(search.weights).items()}


def overview(run: Run, names: Sequence[str], *, times: bool = True) -> str:
    """One line for each pipeline."""
    summaries = {name: run.summary(name) for name in names}
    categories = next(iter(summaries.values()))["categories"]
    head = [
        "",
        "NDCG@10",
        *categories,
        "recall@2k",
        *(["p50 ms", "p90 ms"] if times else []),
        "to hybrid [95 %]",
    ]
    rows = []
    for name, found in summaries.items():
        values = [found["ndcg10"], *found["categories"].values(), found["recall2k"]]
        waited = [f"{found[key]:.1f}" for key in ("p50_ms", "p90_ms")] if times else []
        difference = "" if name == HYBRID else str(Interval(**found["difference"]))
        rows.append([name, *(f"{value:.4f}" for value in values), *waited, difference])
    return table(head, rows)


def beside_published(run: Run, published: Mapping[str, Mapping[str, float]]) -> str:
    """NDCG@10 for each repository: ours, the tutorial's, and every published method; then means over queries."""
    ours = [name for name in (HYBRID, "keywords", TUTORIAL) if name in run.outcomes]
    methods = list(dict.fromkeys(method for scores in published.values() for method in scores))
    found = {name: run.scores(name) for name in ours}
    rows, counts, columns = [], [], []
    for repository in found[HYBRID]:
        values = [mean(found[name][repository]) for name in ours]
        values += [published[repository].get(method, float("nan")) for method in methods]
        rows.append([repository, *(f"{value:.3f}" for value in values)])
        counts.append(len(found[HYBRID][repository]))
        columns.append(values)
    weighted = [
        sum(value * count for value, count in zip(column, counts, strict=True)) / sum(counts)
        for column in zip(*columns, strict=True)
    ]
    rows.append(["all queries", *(f"{value:.3f}" for value in weighted)])
    return table(["", *ours, *methods], rows)


def worst(found: Sequence[Loss], count: int) -> str:
    """The queries that lost most, with the rank of each wanted file (- when not among the first hundred)."""
    lines = []
    for loss in sorted(found, key=lambda loss: loss.ndcg)[:count]:
        lines.append(f"{loss.ndcg:.3f} {loss.repository} ({loss.asked.category}): {loss.asked.text}")
        wanted = (
            f"{t.path}{f':{t.start_line}' if t.start_line else ''} at {rank or '-'}"
            for t, rank in zip(loss.asked.targets, loss.ranks, strict=True)
        )
        lines += [f"      wanted {', '.join(wanted)}", f"      got    {', '.join(loss.first)}"]
    return "\n".join(lines)


def compare(run: Run, earlier: Path) -> str:
    """The differences to an earlier run on the same queries."""
    before = json.loads(earlier.read_text(encoding="utf-8"))
    lines = []
    for name, scores in before["scores"].items():
        if name in run.outcomes:
            lines.append(f"{name}: {paired(run.scores(name), scores)} since {before['commit']}")
    return "\n".join(lines)


def asked_of(repository: Mapping[str, Any]) -> list[Asked]:
    """The queries of one repository."""
    return [
        Asked(
            item["query"],
            item.get("category") or "other",
            tuple(
                Place(t["path"], int(t.get("start_line") or 0), int(t.get("end_line") or 0))
                for t in item["relevant"]
            ),
        )
        for item in repository["queries"]
    ]


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="queries and their targets, as JSON")
    parser.add_argument("--repos", type=Path, required=True, help="a work tree for each repository")
    parser.add_argument("--only", nargs="*", help="names of repositories to measure")
    parser.add_argument(
        "--tutorial",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the tutorial's pipeline over the same files",
    )
    parser.add_argument(
        "--ablations",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="each signal of the ranking off in turn",
    )
    parser.add_argument("--losses", type=int, default=0, metavar="N", help="print the N worst queries")
    parser.add_argument("--against", type=Path, help="the JSON of an earlier run to compare with")
    parser.add_argument("--out", type=Path, help="write all figures here as JSON")
    args = parser.parse_args(argv)
    for path in filter(None, (args.data, args.repos, args.against)):
        if not path.exists():
            parser.error(f"{path} does not exist")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    run = Run(with_tutorial=args.tutorial and has_tutorial(), with_ablations=args.ablations)
    content = args.data.read_bytes()
    published = {}
    for repository in json.loads(content):
        name = repository["name"]
        if args.only and name not in args.only:
            continue
        if not (args.repos / name).is_dir():
            print(f"{name}: no work tree in {args.repos}, left out", file=sys.stderr)
            continue
        started = time.perf_counter()
        run.add(name, args.repos / name, asked_of(repository))
        published[name] = repository["published_ndcg10"]
        reached = mean(run.scores(HYBRID)[name])
        print(
            f"{name}: {reached:.3f}, {time.perf_counter() - started:.0f} s in all",
            file=sys.stderr,
            flush=True,
        )
    if not published:
        print("Nothing was measured: no repository of the data is there.", file=sys.stderr)
        return 2
    report(run, published, args)
    write(args.out, figures(run, hashlib.sha256(content).hexdigest()))
    return 0


def report(run: Run, published: Mapping[str, Mapping[str, float]], args: argparse.Namespace) -> None:
    """Everything a person reads."""
    signals = [name for name in run.outcomes if name.startswith(f"{HYBRID} - ")]
    whole = [name for name in run.outcomes if name not in signals]
    print(
        f"{len(run.outcomes[HYBRID])} queries, {len(published)} repositories, commit {machine()['commit']}\n"
    )
    print(overview(run, whole))
    if signals:
        print("\nOne signal off at a time:\n")
        # Their queries' vectors are remembered, so that times would say nothing.
        print(overview(run, signals, times=False))
    print("\nNDCG@10 by repository, beside what others published:\n")
    print(beside_published(run, published))
    if args.against:
        print("\n" + compare(run, args.against))
    if args.losses:
        print("\n" + worst(run.losses, args.losses))


def figures(run: Run, data: str) -> dict[str, Any]:
    """The run as JSON. Scores of single queries are in the order of the data, without its text."""
    return machine() | {
        "data_sha256": data,
        "pipelines": {name: run.summary(name) for name in run.outcomes},
        "scores": {name: run.scores(name) for name in (HYBRID, "keywords")},
    }


if __name__ == "__main__":
    sys.exit(main())
