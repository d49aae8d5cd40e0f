"""Orders keyword and vector candidates by what is known of code. Pure: values in, values out.

Each signal is its own function. Boosts are fractions of the best fused score, so that they mean the same for
every query. What each is worth is measured by tests/benchmarks/retrieval.py --ablations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest

from chains.search.path_signals import file_name_match, is_test_scope, path_facts, penalties, superseded
from chains.search.query import Query
from indexers.tokens import last_component, split_identifier

# Rank at which a list's reciprocal-rank half has fallen to a half.
_RANK_DECAY = 30
# A long text (an issue, a report) touches many files a little: only the best chunks of each speak for it.
_CHUNKS_OF_LONG = 3
# `Session` asks for the class rather than for the function `session`.
_OTHER_CASE = 0.7
_NAMED_FILE = 1.5


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each signal counts. Boosts at 0 and penalties at 1 are switched off, for ablations."""

    dense: float = 0.45
    dense_identifier: float = 0.25
    file_name: float = 1.2
    file_coverage: float = 0.4
    file_dense: float = 0.5
    definition: float = 2.0
    named: float = 0.5
    reexport: float = 1.4
    frame: float = 2.0
    coherence: float = 0.4
    test_penalty: float = 0.35
    example_penalty: float = 0.5
    legacy_penalty: float = 0.4
    barrel_penalty: float = 0.9
    prose_penalty: float = 0.5
    superseded_penalty: float = 0.4
    platform_penalty: float = 0.6
    unsaid_penalty: float = 0.2
    same_file: float = 0.35


DEFAULT_WEIGHTS = Weights()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that some list proposed. Scores are raw; None where a list did not know the chunk.

    `reexports`: it passes on the queried name, which nothing here defines. `frame`: a stack trace points into it.
    """

    chunk_id: int
    path: str
    symbols: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()
    keyword: float | None = None
    dense: float | None = None
    reexports: bool = False
    frame: bool = False


@dataclass(frozen=True, slots=True)
class FileEvidence:
    """What a whole file says about a query.

    :param coverage: share of the query's inverse document frequency whose tokens occur in the file, 0..1.
    :param dense: cosine of the query's vector and the mean of the file's vectors; None where not all are known.
    """

    coverage: float = 0.0
    dense: float | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its final score and what each signal added to it (penalties are negative)."""

    candidate: Candidate
    score: float
    signals: Mapping[str, float] = field(default_factory=dict)


def rank(
    query: Query,
    candidates: Sequence[Candidate],
    weights: Weights = DEFAULT_WEIGHTS,
    files: Mapping[str, FileEvidence] | None = None,
) -> list[Ranked]:
    """Order candidates, best first; ties in order of path and row, so that equal runs give equal lists.

    :param files: evidence by path; files without any are judged by their chunks alone.
    """
    if not candidates:
        return []
    base = fuse(query, candidates, weights)
    top = max(base.values()) or 1.0
    best_in_file = _best_by_file(candidates, base)
    by_file = file_signals(query, candidates, base, weights, files or {})
    factors = path_factors(query, list(by_file), weights)
    ranked = []
    for item in candidates:
        signals = {"fused": base[item.chunk_id]}
        signals.update((name, top * value) for name, value in chunk_signals(query, item, weights).items())
        for name, value in by_file[item.path].items():
            # Coherence lifts a file's best chunk only: its others would crowd out other files.
            if name != "coherence" or best_in_file[item.path] == item.chunk_id:
                signals[name] = top * value
        score = sum(signals.values())
        factor = factors[item.path]
        if not query.wants_tests and is_test_scope(item.scope):
            factor = min(factor, weights.test_penalty)
        if factor < 1.0:
            signals["path"] = score * (factor - 1.0)
            score *= factor
        if query.kind == "identifier" and item.keyword is None:
            # Only near in meaning: whoever types a name wants where it stands, were it in a test.
            signals["unsaid"] = score * (weights.unsaid_penalty - 1.0)
            score *= weights.unsaid_penalty
        ranked.append(Ranked(item, score, {k: v for k, v in signals.items() if v}))
    ranked.sort(key=lambda r: (-r.score, r.candidate.path, r.candidate.chunk_id))
    return saturate(ranked, weights)


def fuse(query: Query, candidates: Sequence[Candidate], weights: Weights) -> dict[int, float]:
    """One score in 0..1 for each candidate from its keyword and dense scores.

    Each list counts half by reciprocal rank and half by score relative to its best. A chunk without a vector
    is judged by keywords alone.
    """
    keyword = _normalise({c.chunk_id: c.keyword for c in candidates if c.keyword is not None})
    dense = _normalise({c.chunk_id: c.dense for c in candidates if c.dense is not None})
    share = weights.dense_identifier if query.kind == "identifier" else weights.dense
    fused = {}
    for item in candidates:
        lexical = keyword.get(item.chunk_id, 0.0)
        if item.dense is None:
            fused[item.chunk_id] = lexical
        else:
            fused[item.chunk_id] = (1 - share) * lexical + share * dense[item.chunk_id]
    return fused


def _normalise(scores: Mapping[int, float]) -> dict[int, float]:
    if not scores:
        return {}
    order = sorted(scores, key=lambda i: (-scores[i], i))
    top = scores[order[0]]
    if top <= 0:
        return dict.fromkeys(order, 0.0)
    return {
        i: 0.5 / (1 + rank / _RANK_DECAY) + 0.5 * max(scores[i], 0.0) / top for rank, i in enumerate(order)
    }


def chunk_signals(query: Query, item: Candidate, weights: Weights) -> dict[str, float]:
    """What speaks for one chunk beyond its text, as fractions of the best fused score."""
    return {
        "definition": definition_boost(query, item, weights),
        "reexport": weights.reexport if item.reexports else 0.0,
        "frame": weights.frame if item.frame else 0.0,
    }


def definition_boost(query: Query, item: Candidate, weights: Weights) -> float:
    """Full for a chunk that defines the queried identifier, less for a name inside a sentence."""
    if not query.names or not item.symbols:
        return 0.0
    # Some languages define qualified names (Phoenix.Router, A::B): their last part is what people ask for.
    defined = {s.lower() for s in item.symbols} | {last_component(s).lower() for s in item.symbols}
    if query.kind != "identifier":
        return weights.named if any(name.lower() in defined for name in query.names) else 0.0
    wanted = query.names[-1].lower()
    if wanted not in defined:
        return 0.0
    exact = any(last_component(name) == query.names[-1] for name in item.symbols)
    name = path_facts(item.path).name
    named_file = wanted in (name, "".join(split_identifier(name)))
    return weights.definition * (_NAMED_FILE if named_file else 1.0) * (1.0 if exact else _OTHER_CASE)


def file_signals(
    query: Query,
    candidates: Sequence[Candidate],
    base: Mapping[int, float],
    weights: Weights,
    files: Mapping[str, FileEvidence],
) -> dict[str, dict[str, float]]:
    """What speaks for each candidate's file, by path, as fractions of the best fused score.

    An identifier is looked for where it is defined, not in the file that says most about its parts: of files
    only coherence counts then.
    """
    coherence = _coherence(query, candidates, base)
    found = {path: {"coherence": weights.coherence * value} for path, value in coherence.items()}
    if query.kind == "identifier":
        return found
    dense = {path: e.dense for path in found if (e := files.get(path)) and e.dense is not None}
    nearest = max(dense.values(), default=0.0)
    for path, signals in found.items():
        signals["file_name"] = weights.file_name * file_name_match(query, path)
        if path in files:
            signals["file_coverage"] = weights.file_coverage * files[path].coverage
        if path in dense and nearest > 0:
            signals["file_dense"] = weights.file_dense * max(dense[path], 0.0) / nearest
    return found


def _coherence(query: Query, candidates: Sequence[Candidate], base: Mapping[int, float]) -> dict[str, float]:
    """How much of a file was proposed, relative to the file of which most was."""
    scores: dict[str, list[float]] = {}
    for item in candidates:
        scores.setdefault(item.path, []).append(base[item.chunk_id])
    if query.kind == "long":
        scores = {path: nlargest(_CHUNKS_OF_LONG, values) for path, values in scores.items()}
    sums = {path: sum(values) for path, values in scores.items()}
    most = max(sums.values(), default=0.0) or 1.0
    return {path: value / most for path, value in sums.items()}


def path_factors(query: Query, paths: Sequence[str], weights: Weights) -> dict[str, float]:
    """By path: below 1 for tests, examples, prose, old and foreign files, unless the query asks for them."""
    old = superseded(query, paths)
    factors = {}
    for path in paths:
        factor = 1.0
        for kind, applies in penalties(query, path, old).items():
            if applies:
                factor *= getattr(weights, f"{kind}_penalty")
        factors[path] = factor
    return factors


def saturate(ranked: Sequence[Ranked], weights: Weights) -> list[Ranked]:
    """One best chunk per file first: every further chunk of a file is weighed down again."""
    seen: dict[str, int] = {}
    out = []
    for item in ranked:
        count = seen.get(item.candidate.path, 0)
        seen[item.candidate.path] = count + 1
        factor = weights.same_file**count
        signals = {**item.signals, "same_file": item.score * (factor - 1.0)} if count else item.signals
        out.append(Ranked(item.candidate, item.score * factor, signals))
    out.sort(key=lambda r: (-r.score, r.candidate.path, r.candidate.chunk_id))
    return out


def _best_by_file(candidates: Sequence[Candidate], base: Mapping[int, float]) -> dict[str, int]:
    best: dict[str, int] = {}
    for item in candidates:
        current = best.get(item.path)
        if current is None or base[item.chunk_id] > base[current]:
            best[item.path] = item.chunk_id
    return best
