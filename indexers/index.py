"""The read side of an index: candidates by keyword, by vector and by definition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexers.ledger import Counts, Ledger, StoredChunk
from indexers.store import VectorStore

if TYPE_CHECKING:
    from indexers.embedding import FloatArray

# Up to here an exact scan takes milliseconds and misses nothing; beyond it Chroma's graph is worth opening.
EXACT_SCAN_LIMIT = 50_000
# BM25 weights of the columns body, names (definitions and enclosing scope) and path.
COLUMN_WEIGHTS = (1.0, 2.0, 2.0)


@dataclass(frozen=True, slots=True)
class Scored:
    """A chunk's row id and a score whose scale belongs to the list it stands in."""

    chunk_id: int
    score: float


class Index:
    """Candidates from one ledger. Holds vectors in memory while the generation stays the same."""

    def __init__(self, ledger: Ledger, store: VectorStore) -> None:
        self.ledger = ledger
        self.store = store
        self._generation = -1
        self._fingerprint = ""
        self._ids: list[int] = []
        self._matrix: FloatArray | None = None
        self._paths: dict[str, list[int]] = {}
        self._paths_generation = -1
        self._counts: dict[str, Counts] = {}
        self._counts_generation = -1

    def by_keyword(self, tokens: Sequence[str], limit: int) -> list[Scored]:
        """Chunks by BM25 over text, names and path words; best first."""
        return [Scored(*pair) for pair in self.ledger.match(tokens, COLUMN_WEIGHTS, limit)]

    def by_vector(self, fingerprint: str, vector: FloatArray, limit: int) -> list[Scored]:
        """Chunks by cosine similarity among those that have a vector; best first."""
        counts = self.counts(fingerprint)
        if counts.chunks - counts.pending > EXACT_SCAN_LIMIT:
            near = self.store.query(fingerprint, vector, limit)
            if near is not None:
                users = self.ledger.chunks_with_keys([key for key, _ in near])
                return [Scored(i, score) for key, score in near for i in users.get(key, ())][:limit]
        return self._scan(fingerprint, vector, limit)

    def similarities(self, fingerprint: str, vector: FloatArray, ids: Sequence[int]) -> dict[int, float]:
        """Cosine similarity of given chunks; those without a vector are missing."""
        found = self.ledger.chunks(ids)
        vectors = self.ledger.vectors_for(fingerprint, {c.vector_key for c in found.values()})
        return {
            i: float(vectors[stored.vector_key] @ vector)
            for i, stored in found.items()
            if stored.vector_key in vectors and len(vectors[stored.vector_key]) == len(vector)
        }

    def chunks(self, ids: Sequence[int]) -> dict[int, StoredChunk]:
        """Chunks by row id."""
        return self.ledger.chunks(ids)

    def defining(self, name: str) -> list[int]:
        """Chunks in which a definition of this name starts."""
        return self.ledger.defining(name)

    def counts(self, fingerprint: str) -> Counts:
        """How much is stored, remembered for this generation."""
        generation = self.ledger.generation()
        if generation != self._counts_generation:
            self._counts, self._counts_generation = {}, generation
        if fingerprint not in self._counts:
            self._counts[fingerprint] = self.ledger.counts(fingerprint)
        return self._counts[fingerprint]

    def paths(self) -> dict[str, list[int]]:
        """The chunk ids of every indexed path, remembered for this generation."""
        generation = self.ledger.generation()
        if generation != self._paths_generation:
            self._paths = self.ledger.paths()
            self._paths_generation = generation
        return self._paths

    def weights(self, tokens: Sequence[str]) -> dict[str, float]:
        """Inverse document frequency of each token: log((N + 1) / (df + 0.5)), 0 for tokens found nowhere."""
        total = self.counts("").chunks
        frequency = self.ledger.document_frequency(tokens)
        return {t: math.log((total + 1) / (n + 0.5)) if n else 0.0 for t, n in frequency.items()}

    def _scan(self, fingerprint: str, vector: FloatArray, limit: int) -> list[Scored]:
        import numpy as np

        generation = self.ledger.generation()
        if self._matrix is None or generation != self._generation or fingerprint != self._fingerprint:
            self._ids, self._matrix = self.ledger.matrix(fingerprint)
            self._generation, self._fingerprint = generation, fingerprint
        if not self._ids or self._matrix.shape[1] != len(vector):
            return []
        scores = self._matrix @ vector
        count = min(limit, len(scores))
        best = np.argpartition(-scores, count - 1)[:count]
        # Ties in order of the row: the same question always gives the same list.
        best = best[np.lexsort((best, -scores[best]))]
        return [Scored(self._ids[i], float(scores[i])) for i in best]
