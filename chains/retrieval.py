"""A query -> ordered hits: candidates from the index, missing vectors made on demand, ranked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chains.ranking import DEFAULT_WEIGHTS, Candidate, Query, Ranked, Weights, rank, understand
from indexers.index import Index
from indexers.ledger import StoredChunk
from indexers.tokens import tokenize
from indexers.types import Hit

if TYPE_CHECKING:
    from indexers.embedding import Embedder, FloatArray

KEYWORD_CANDIDATES = 200
VECTOR_CANDIDATES = 100
# How many of the best keyword candidates may be embedded while somebody waits.
ON_DEMAND = 32
# A query longer than this is cut for the keyword index: the rarest words of a long text carry it.
MAX_QUERY_TOKENS = 60
MAX_QUERY_CHARS = 20_000
# Below this cosine similarity the best vector says nothing; MiniLM puts unrelated text at 0.0 to 0.25.
NEAR_ENOUGH = 0.35
# Share of the query's inverse document frequency that the best hits must hold.
COVERED_ENOUGH = 0.34
# Weight of a word that occurs nowhere in the repository, at least: that of one in a few hundred chunks.
UNKNOWN_WORD_WEIGHT = 5.0

EmbedNow = Callable[[Sequence[StoredChunk]], None]


@dataclass(frozen=True, slots=True)
class Search:
    """What a search needs: the index, and optionally an embedder and a way to embed a few chunks now."""

    index: Index
    embedder: Embedder | None = None
    embed_now: EmbedNow | None = None
    weights: Weights = DEFAULT_WEIGHTS

    def hits(self, text: str, k: int = 10) -> list[Hit]:
        """The k best chunks, best first; empty for an empty query or when nothing matches."""
        # A lone surrogate (an odd byte of the command line) is no text: no tokenizer takes it.
        query = understand(text[:MAX_QUERY_CHARS].encode("utf-8", "replace").decode())
        if not query.tokens or k < 1:
            return []
        ranked = rank(query, self.candidates(query), self.weights)[:k]
        stored = self.index.chunks([item.candidate.chunk_id for item in ranked])
        return [
            _hit(item, stored[item.candidate.chunk_id])
            for item in ranked
            if item.candidate.chunk_id in stored
        ]

    def candidates(self, query: Query) -> list[Candidate]:
        """Everything that might answer, with raw scores of each list."""
        keyword = {
            s.chunk_id: s.score for s in self.index.by_keyword(self._tokens(query), KEYWORD_CANDIDATES)
        }
        for name in query.names[:MAX_QUERY_TOKENS]:
            for chunk_id in self.index.defining(name):
                keyword.setdefault(chunk_id, 0.0)
        dense = self._dense(query, keyword)
        stored = self.index.chunks([*keyword, *(i for i in dense if i not in keyword)])
        return [
            Candidate(
                chunk_id=i,
                path=item.chunk.path,
                symbols=tuple(s.name for s in item.chunk.symbols),
                scope=item.chunk.scope,
                keyword=keyword.get(i),
                dense=dense.get(i),
            )
            for i, item in stored.items()
        ]

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
        near = {s.chunk_id: s.score for s in self.index.by_vector(fingerprint, vector, VECTOR_CANDIDATES)}
        return {**self._rest(fingerprint, vector, [i for i in keyword if i not in near]), **near}

    def _rest(self, fingerprint: str, vector: FloatArray, ids: Sequence[int]) -> dict[int, float]:
        return self.index.similarities(fingerprint, vector, ids) if ids else {}


def _hit(item: Ranked, stored: StoredChunk) -> Hit:
    chunk = stored.chunk
    return Hit(
        path=chunk.path,
        start_line=chunk.start_line,
        end_line=chunk.end_line,
        text=chunk.text,
        score=round(item.score, 6),
        language=chunk.language,
        scope=chunk.scope,
        symbols=tuple(s.name for s in chunk.symbols),
        chunk_id=stored.id,
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
    query = understand(query_text[:MAX_QUERY_CHARS])
    nearest = max(hit.similarity or 0.0 for hit in hits)
    if nearest >= NEAR_ENOUGH:
        return True
    weights = index.weights(query.tokens[:MAX_QUERY_TOKENS])
    most = max(weights.values(), default=0.0)
    # A word the repository never uses says more about relevance than any it does.
    weights = {token: weight or max(most, UNKNOWN_WORD_WEIGHT) for token, weight in weights.items()}
    best = hits[:5]
    present = {t for hit in best for t in tokenize(f"{hit.path} {' '.join(hit.scope)} {hit.text}")}
    covered = sum(weight for token, weight in weights.items() if token in present)
    return covered >= COVERED_ENOUGH * sum(weights.values())
