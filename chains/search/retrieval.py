"""A query -> ordered hits: candidates from the index, missing vectors made on demand, ranked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chains.search.exports import reexports
from chains.search.query import Query, understand
from chains.search.ranking import DEFAULT_WEIGHTS, Candidate, FileEvidence, Ranked, Weights, rank
from chains.search.traces import frames, resolve
from indexers.filters import EVERYTHING, Filter
from indexers.index import Index
from indexers.stored import StoredChunk
from indexers.tokens import tokenize
from indexers.types import Hit

if TYPE_CHECKING:
    from indexers.embedding import Embedder
    from indexers.unit_vectors import FloatArray

KEYWORD_CANDIDATES = 200
VECTOR_CANDIDATES = 100
# How many of the best keyword candidates may be embedded while somebody waits.
ON_DEMAND = 32
# A query longer than this is cut for the keyword index: the rarest words of a long text carry it.
MAX_QUERY_TOKENS = 60
# Names of a query of which it is told that they stand nowhere.
MOST_NAMES = 10
# A frame names a file by its last components, which several files may share.
MOST_FILES_OF_FRAME = 3
# Cosine similarity (MiniLM) of the best hit: from here on it is about the query; below the second, it hardly can be.
NEAR_ENOUGH = 0.35
FAR = 0.2
# Share of the query's inverse document frequency that the best hits must hold, and where the best vector is far.
COVERED_ENOUGH = 0.34
COVERED_FAR = 0.75
# Weight of a word that occurs nowhere in the repository, at least: that of one in a few hundred chunks.
UNKNOWN_WORD_WEIGHT = 5.0

EmbedNow = Callable[[Sequence[StoredChunk]], None]


@dataclass(frozen=True, slots=True)
class Search:
    """What a search needs: the index, and optionally an embedder, a way to embed a few chunks now, and a filter."""

    index: Index
    embedder: Embedder | None = None
    embed_now: EmbedNow | None = None
    weights: Weights = DEFAULT_WEIGHTS
    only: Filter = EVERYTHING

    def searched(self, text: str) -> Query:
        """A query as it is searched: cut where it is very long, with the tokens that are looked up."""
        query = understand(text)
        return replace(query, tokens=tuple(self._tokens(query)))

    def absent(self, text: str) -> tuple[str, ...]:
        """Names of code in a query that stand nowhere in the index, whatever their parts find."""
        whole = {name: tokenize(name)[:1] for name in understand(text).names[:MOST_NAMES]}
        found = self.index.ledger.document_frequency([token for tokens in whole.values() for token in tokens])
        return tuple(name for name, tokens in whole.items() if tokens and not found[tokens[0]])

    def hits(self, text: str, k: int = 10) -> list[Hit]:
        """The k best chunks, best first; empty for an empty query or when nothing matches."""
        query = understand(text)
        if not query.tokens or k < 1:
            return []
        candidates = self.candidates(query)
        ranked = rank(query, candidates, self.weights, self.evidence(query, candidates))[:k]
        stored = self.index.chunks([item.candidate.chunk_id for item in ranked])
        return [
            _hit(item, stored[item.candidate.chunk_id])
            for item in ranked
            if item.candidate.chunk_id in stored
        ]

    def candidates(self, query: Query) -> list[Candidate]:
        """Everything that might answer, with raw scores of each list."""
        found = self.index.by_keyword(self._tokens(query), KEYWORD_CANDIDATES, self.only)
        keyword = {s.chunk_id: s.score for s in found}
        for name in query.names[:MAX_QUERY_TOKENS]:
            for chunk_id in self.index.defining(name, self.only):
                keyword.setdefault(chunk_id, 0.0)
        framed = self._framed(query)
        for chunk_id in framed:
            keyword.setdefault(chunk_id, 0.0)
        dense = self._dense(query, keyword)
        stored = self.index.chunks([*keyword, *(i for i in dense if i not in keyword)])
        passed_on = self._reexporting(query, stored)
        # The lists were cut to these already; a list that forgets to must not let anything else in.
        passing = self.index.selected(self.only).chunks if self.only else stored
        return [
            Candidate(
                chunk_id=i,
                path=item.chunk.path,
                symbols=tuple(s.name for s in item.chunk.symbols),
                scope=item.chunk.scope,
                keyword=keyword.get(i),
                dense=dense.get(i),
                reexports=i in passed_on,
                frame=i in framed,
            )
            for i, item in stored.items()
            if i in passing
        ]

    def _framed(self, query: Query) -> set[int]:
        """The chunks that hold the places a stack trace or an error message in the query names."""
        found: set[int] = set()
        for frame in frames(query.text) if query.kind != "identifier" else []:
            for path in resolve(frame, self.index.paths())[:MOST_FILES_OF_FRAME]:
                for stored in self.index.ledger.chunks_of(path):
                    if stored.chunk.start_line <= frame.line <= stored.chunk.end_line:
                        found.add(stored.id)
        return found

    def _reexporting(self, query: Query, stored: Mapping[int, StoredChunk]) -> set[int]:
        """The candidates that pass on the queried identifier, where it is defined outside of what is indexed."""
        if query.kind != "identifier" or not query.names or self.index.defining(query.names[-1], self.only):
            return set()
        return {i for i, item in stored.items() if reexports(item.chunk.text, query.names[-1])}

    def evidence(self, query: Query, candidates: Sequence[Candidate]) -> dict[str, FileEvidence]:
        """What the candidates' files say as a whole; nothing for an identifier, which is found by its definition."""
        if query.kind == "identifier":
            return {}
        paths = list({item.path: None for item in candidates})
        covered = self.index.coverage(self._tokens(query), paths)
        near: Mapping[str, float] = {}
        if self.embedder is not None:
            vector = self.embedder.embed_query(query.text)
            near = self.index.file_similarities(self.embedder.fingerprint(), vector, paths, self.only)
        return {path: FileEvidence(covered.get(path, 0.0), near.get(path)) for path in paths}

    def _tokens(self, query: Query) -> Sequence[str]:
        if len(query.tokens) <= MAX_QUERY_TOKENS:
            return query.tokens
        weight = self.index.weights(query.tokens[:500])
        return sorted(weight, key=lambda token: -weight[token])[:MAX_QUERY_TOKENS]

    def _dense(self, query: Query, keyword: Mapping[int, float]) -> dict[int, float]:
        if self.embedder is None:
            return {}
        fingerprint = self.embedder.fingerprint()
        if self.embed_now is not None and self.index.counts(fingerprint).pending:
            best = sorted(keyword, key=lambda i: -keyword[i])[:ON_DEMAND]
            missing = self.index.ledger.missing_keys(fingerprint, best)
            if missing:
                self.embed_now(missing)
        vector = self.embedder.embed_query(query.text)
        found = self.index.by_vector(fingerprint, vector, VECTOR_CANDIDATES, self.only)
        near = {s.chunk_id: s.score for s in found}
        return {**self._rest(fingerprint, vector, [i for i in keyword if i not in near]), **near}

    def _rest(self, fingerprint: str, vector: FloatArray, ids: Sequence[int]) -> dict[int, float]:
        return self.index.similarities(fingerprint, vector, ids) if ids else {}


def plain_hit(stored: StoredChunk, score: float) -> Hit:
    """A stored chunk as a hit."""
    chunk = stored.chunk
    return Hit(
        path=chunk.path,
        start_line=chunk.start_line,
        end_line=chunk.end_line,
        text=chunk.text,
        score=score,
        language=chunk.language,
        scope=chunk.scope,
        symbols=tuple(s.name for s in chunk.symbols),
        chunk_id=stored.id,
        blob=stored.blob,
    )


def _hit(item: Ranked, stored: StoredChunk) -> Hit:
    return replace(
        plain_hit(stored, round(item.score, 6)),
        signals={name: round(value, 6) for name, value in item.signals.items()},
        similarity=item.candidate.dense,
    )


def relevant(query_text: str, hits: Sequence[Hit], index: Index) -> bool:
    """Whether the hits are about the query at all, so that a model has something to answer from.

    False when neither the rare words of the query stand in the best hits nor the best vector is near: the two
    fail together only where the repository has nothing to say.
    """
    if not hits:
        return False
    query = understand(query_text)
    # What is asked about by the name it is defined under is here, however strange the other words are.
    if any(name in hit.symbols for name in query.names for hit in hits[:5]):
        return True
    known = [hit.similarity for hit in hits if hit.similarity is not None]
    nearest = max(known, default=None)
    if nearest is not None and nearest >= NEAR_ENOUGH:
        return True
    weights = index.weights(query.tokens[:MAX_QUERY_TOKENS])
    most = max(weights.values(), default=0.0)
    # A word the repository never uses says more about relevance than any it does.
    weights = {token: weight or max(most, UNKNOWN_WORD_WEIGHT) for token, weight in weights.items()}
    best = hits[:5]
    present = {t for hit in best for t in tokenize(f"{hit.path} {' '.join(hit.scope)} {hit.text}")}
    covered = sum(weight for token, weight in weights.items() if token in present)
    far = nearest is not None and nearest < FAR
    return covered >= (COVERED_FAR if far else COVERED_ENOUGH) * sum(weights.values())
