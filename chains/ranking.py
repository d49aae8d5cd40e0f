"""Fuse keyword and vector candidates and order them by what is known of code. Pure: values in, values out.

Each signal is its own function. Boosts are fractions of the best fused score, so that they mean the same for
every query. What each is worth is measured by tests/benchmarks/ablation.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from indexers.tokens import split_identifier, stem, tokenize, unique

# English function words and the verbs of questions: they say how something is asked, not what about.
STOP_WORDS = frozenset(
    """a about all also an and any are as at be been being by can could did do does done else find for
    from get gets give had has have how i if in into is it its list make me my no not of on or
    our out shall should show so some tell than that the their them then there these they this
    those to use used uses using was we were what when where which while who whom whose why will
    with work works would you your""".split()
)
_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*(?:(?:\.|::|->|#)[A-Za-z_$][\w$]*)*(?:\(\))?[!?]?")
_NAME = re.compile(r"[^\W\d]\w{2,}")
# Longer than this is an issue report or a stack trace rather than a question.
_LONG_QUERY = 400
# Rank at which a list's reciprocal-rank half has fallen to a half.
_RANK_DECAY = 30

_QUALIFIED = re.compile(r"[.:#]+")
# Files whose own name says nothing: their directory's name speaks for them.
_NAMELESS = frozenset({"mod", "index", "__init__", "main", "lib"})
# Files that mostly pass on what others define.
_BARRELS = frozenset({"__init__.py", "index.ts", "index.js", "mod.rs", "package-info.java"})
_PARENT_SHARE = 0.5
# `Session` asks for the class rather than for the function `session`.
_OTHER_CASE = 0.7
_NAME_PRECISION = 0.4
# Text about the code rather than the code; asked for by its own words.
_PROSE = frozenset(".md .mdx .rst .txt .adoc .yml .yaml .json .toml .ini .cfg .csproj .lock".split())

_TEST_DIRS = {"test", "tests", "testing", "spec", "specs", "__tests__", "testdata", "fixtures", "mocks"}
_EXAMPLE_DIRS = {
    "example",
    "examples",
    "sample",
    "samples",
    "demo",
    "demos",
    "docs",
    "doc",
    "benchmark",
    "benchmarks",
}
_LEGACY_DIRS = {"compat", "_compat", "legacy", "deprecated", "old", "vendor", "third_party"}
_TEST_FILE = re.compile(r"^(test_.*|conftest)$|(_test|_tests|_spec|\.test|\.spec|Test|Tests|Spec)$")


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each signal counts. Zero switches a signal off, for ablations."""

    dense: float = 0.45
    dense_identifier: float = 0.25
    file_name: float = 1.2
    definition: float = 2.0
    named: float = 0.5
    coherence: float = 0.5
    test_penalty: float = 0.35
    example_penalty: float = 0.5
    legacy_penalty: float = 0.4
    barrel_penalty: float = 0.9
    prose_penalty: float = 0.5
    same_file: float = 0.35


DEFAULT_WEIGHTS = Weights()


@dataclass(frozen=True, slots=True)
class Query:
    """A query taken apart once: `kind` is identifier, sentence or long."""

    text: str
    kind: str
    tokens: tuple[str, ...]
    words: tuple[str, ...]
    names: tuple[str, ...]
    wants_tests: bool = False
    wants_examples: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that some list proposed. Scores are raw; None where a list did not know the chunk."""

    chunk_id: int
    path: str
    symbols: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()
    keyword: float | None = None
    dense: float | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its final score and what each signal added to it (penalties are negative)."""

    candidate: Candidate
    score: float
    signals: Mapping[str, float] = field(default_factory=dict)


def understand(text: str) -> Query:
    """Take a query apart: what kind it is, its tokens, the names of code in it, and what it asks for."""
    stripped = text.strip()
    kind = (
        "identifier"
        if _IDENTIFIER.fullmatch(stripped)
        else "long"
        if len(stripped) > _LONG_QUERY
        else "sentence"
    )
    said = [w for w in re.findall(r"\w+", stripped) if w.lower() not in STOP_WORDS]
    words = unique(w.lower() for w in said)
    # Stop words go before stemming, which makes "where" something else; then those inside identifiers.
    tokens = unique(t for t in tokenize(" ".join(said)) if t not in STOP_WORDS) or unique(tokenize(stripped))
    names = unique(n for n in _NAME.findall(stripped) if kind == "identifier" or looks_like_code(n))
    asked = set(words)
    return Query(
        text=stripped,
        kind=kind,
        tokens=tuple(tokens),
        words=tuple(words),
        names=tuple(names),
        wants_tests=bool(
            asked & {"test", "tests", "tested", "testing", "spec", "specs", "fixture", "fixtures", "mock"}
        ),
        wants_examples=bool(
            asked
            & {"example", "examples", "sample", "demo", "docs", "documentation", "tutorial", "benchmark"}
        ),
    )


def looks_like_code(word: str) -> bool:
    """True for names nobody writes in prose: snake_case, camelCase, PascalCase with two humps, HTTPServer."""
    if "_" in word.strip("_"):
        return True
    return (
        len(split_identifier(word)) > 1
        and any(c.islower() for c in word)
        and any(c.isupper() for c in word[1:])
    )


def rank(query: Query, candidates: Sequence[Candidate], weights: Weights = DEFAULT_WEIGHTS) -> list[Ranked]:
    """Order candidates, best first; ties in order of path and row, so that equal runs give equal lists."""
    if not candidates:
        return []
    base = fuse(query, candidates, weights)
    top = max(base.values()) or 1.0
    files = _sum_by_file(candidates, base)
    best_in_file = _best_by_file(candidates, base)
    ranked = []
    for item in candidates:
        signals = {"fused": base[item.chunk_id]}
        signals["definition"] = top * definition_boost(query, item, weights)
        if query.kind != "identifier":
            signals["file_name"] = top * weights.file_name * file_name_match(query, item.path)
        if best_in_file[item.path] == item.chunk_id:
            signals["coherence"] = top * weights.coherence * files[item.path]
        score = sum(signals.values())
        factor = path_factor(query, item.path, weights)
        if not query.wants_tests and item.scope and item.scope[0].lower() in _TEST_DIRS:
            # Tests inside a source file, as Rust has them.
            factor = min(factor, weights.test_penalty)
        if factor < 1.0:
            signals["path"] = score * (factor - 1.0)
            score *= factor
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


def definition_boost(query: Query, item: Candidate, weights: Weights) -> float:
    """Full for a chunk that defines the queried identifier, less for a name inside a sentence."""
    if not query.names or not item.symbols:
        return 0.0
    # Some languages define qualified names (Phoenix.Router, A::B): their last part is what people ask for.
    defined = {s.lower() for s in item.symbols} | {last_part(s).lower() for s in item.symbols}
    if query.kind == "identifier":
        wanted = query.names[-1].lower()
        if wanted not in defined:
            return 0.0
        exact = any(last_part(name) == query.names[-1] for name in item.symbols)
        in_file_name = wanted in {
            stem_of(item.path),
            "".join(split_identifier(PurePosixPath(item.path).stem)),
        }
        return weights.definition * (1.5 if in_file_name else 1.0) * (1.0 if exact else _OTHER_CASE)
    return weights.named if any(name.lower() in defined for name in query.names) else 0.0


def last_part(name: str) -> str:
    """The last component of a qualified name."""
    return _QUALIFIED.split(name)[-1]


def file_name_match(query: Query, path: str) -> float:
    """How far the file's name and the query say the same, in 0..1.

    The share of the query's words that the name says (its directory's name counts half), mixed with the share
    of the name that the query says: `auth.py` fully named by one word of five is a better match than a word
    of a long name.
    """
    if not query.words:
        return 0.0
    pure = PurePosixPath(path)
    name = pure.parent.name if pure.stem.lower() in _NAMELESS else pure.stem
    stems = {stem(part) for part in split_identifier(name) if len(part) > 1}
    parents = {stem(part) for part in split_identifier(pure.parent.name) if len(part) > 2}
    said: set[str] = set()
    matched = 0.0
    for word in map(stem, query.words):
        found = {s for s in stems if word == s or _prefix(word, s)}
        if found:
            said |= found
            matched += 1.0
        elif any(word == p or _prefix(word, p) for p in parents):
            matched += _PARENT_SHARE
    recall = matched / len(query.words)
    precision = len(said) / max(len(stems), 1)
    return (1 - _NAME_PRECISION) * recall + _NAME_PRECISION * precision


def _prefix(word: str, other: str) -> bool:
    short, long = sorted((word, other), key=len)
    return len(short) >= 3 and long.startswith(short)


def stem_of(path: str) -> str:
    """The file's name without its ending, lower case."""
    return PurePosixPath(path).stem.lower()


def path_factor(query: Query, path: str, weights: Weights) -> float:
    """Below 1 for tests, examples, prose, legacy and barrel files, unless the query asks for them."""
    pure = PurePosixPath(path)
    dirs = {part.lower() for part in pure.parts[:-1]}
    factor = 1.0
    if not query.wants_tests and (dirs & _TEST_DIRS or _TEST_FILE.search(pure.stem)):
        factor *= weights.test_penalty
    elif not query.wants_examples and dirs & _EXAMPLE_DIRS:
        factor *= weights.example_penalty
    if not query.wants_examples and pure.suffix.lower() in _PROSE:
        factor *= weights.prose_penalty
    if dirs & _LEGACY_DIRS or stem_of(path) in _LEGACY_DIRS:
        factor *= weights.legacy_penalty
    if pure.name in _BARRELS or path.endswith(".d.ts"):
        factor *= weights.barrel_penalty
    return factor


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


def _sum_by_file(candidates: Sequence[Candidate], base: Mapping[int, float]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for item in candidates:
        sums[item.path] = sums.get(item.path, 0.0) + base[item.chunk_id]
    most = max(sums.values(), default=0.0) or 1.0
    return {path: value / most for path, value in sums.items()}


def _best_by_file(candidates: Sequence[Candidate], base: Mapping[int, float]) -> dict[str, int]:
    best: dict[str, int] = {}
    for item in candidates:
        current = best.get(item.path)
        if current is None or base[item.chunk_id] > base[current]:
            best[item.path] = item.chunk_id
    return best
