"""The read side of an index: candidates by keyword, by vector and by definition."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexers.filters import EVERYTHING, Filter
from indexers.ledger import Ledger
from indexers.store import VectorStore
from indexers.stored import Counts, Selection, StoredChunk
from indexers.words import coverage

if TYPE_CHECKING:
    from indexers.unit_vectors import FloatArray

# Up to here an exact scan takes milliseconds and misses nothing; beyond it Chroma's graph is worth opening.
EXACT_SCAN_LIMIT = 50_000
# Filters whose chunks are remembered; a session has one or two.
MOST_SELECTIONS = 16
# BM25 weights of the columns body, names (definitions and enclosing scope) and path.
COLUMN_WEIGHTS = (1.0, 2.0, 2.0)


@dataclass(frozen=True, slots=True)
class Vectors:
    """Row ids of chunks, and their vectors as one (n, dimensions) array in the same order."""

    ids: list[int]
    matrix: FloatArray

    def row(self, chunk_id: int) -> int | None:
        """Where a chunk's vector stands; the ids ascend."""
        row = bisect_left(self.ids, chunk_id)
        return row if row < len(self.ids) and self.ids[row] == chunk_id else None


@dataclass(frozen=True, slots=True)
class Selected:
    """What a filter lets through: the chunks, how many they are, and in how many files."""

    chunks: Selection
    count: int
    files: int


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
        self._vectors: dict[tuple[str, bool], tuple[Filter, Vectors]] = {}
        self._vectors_generation = -1
        self._means: dict[tuple[str, bool], tuple[Vectors, Mapping[str, int], FloatArray]] = {}
        self._selected: dict[Filter, Selected] = {}
        self._selected_generation = -1
        self._paths: dict[str, list[int]] = {}
        self._paths_generation = -1
        self._counts: dict[str, Counts] = {}
        self._counts_generation = -1

    # Every list is cut to what the filter lets through before its limit: few files of many still fill it.

    def by_keyword(self, tokens: Sequence[str], limit: int, only: Filter = EVERYTHING) -> list[Scored]:
        """Chunks by BM25 over text, names and path words; best first."""
        among = self.selected(only).chunks if only else None
        return [Scored(*pair) for pair in self.ledger.match(tokens, COLUMN_WEIGHTS, limit, among)]

    def by_vector(
        self, fingerprint: str, vector: FloatArray, limit: int, only: Filter = EVERYTHING
    ) -> list[Scored]:
        """Chunks by cosine similarity among those that have a vector; best first."""
        counts = self.counts(fingerprint)
        if counts.chunks - counts.pending > EXACT_SCAN_LIMIT:
            near = self._near(fingerprint, vector, limit, only)
            if near is not None:
                return near
        return self._scan(fingerprint, vector, limit, only)

    def selected(self, only: Filter) -> Selected:
        """What a filter lets through, remembered for this generation."""
        generation = self.ledger.generation()
        if generation != self._selected_generation or len(self._selected) >= MOST_SELECTIONS:
            self._selected, self._selected_generation = {}, generation
        found = self._selected.get(only)
        if found is None:
            found = self._selected[only] = self._select(only)
        return found

    def _select(self, only: Filter) -> Selected:
        files = self.ledger.files()
        passing = {file.id for file in files if only.admits(file.path, file.language)}
        left_out = {file.id for file in files} - passing
        inverted = len(left_out) < len(passing)
        ids = set(self.ledger.chunk_ids(left_out if inverted else passing))
        if not only.tests:
            inner = self.ledger.test_modules()
            ids = ids.union(inner) if inverted else ids.difference(inner)
        count = self.counts("").chunks - len(ids) if inverted else len(ids)
        return Selected(Selection(frozenset(ids), inverted), count, len(passing))

    def similarities(self, fingerprint: str, vector: FloatArray, ids: Sequence[int]) -> dict[int, float]:
        """Cosine similarity of given chunks; those without a vector are missing."""
        counts = self.counts(fingerprint)
        if counts.chunks - counts.pending <= EXACT_SCAN_LIMIT:
            # In memory anyway, for the scan.
            held = self._held(fingerprint, EVERYTHING)
            if not held.ids or held.matrix.shape[1] != len(vector):
                return {}
            return {
                i: float(held.matrix[row] @ vector) for i in sorted(ids) if (row := held.row(i)) is not None
            }
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

    def defining(self, name: str, only: Filter = EVERYTHING) -> list[int]:
        """Chunks in which a definition of this name starts."""
        return self.ledger.defining(name, only=self.selected(only).chunks if only else None)

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

    def coverage(self, tokens: Sequence[str], paths: Sequence[str]) -> dict[str, float]:
        """By path: the share of the tokens' inverse document frequency whose tokens occur anywhere in the file."""
        weights = {token: weight for token, weight in self.weights(tokens).items() if weight > 0}
        return {path: coverage(words, weights) for path, words in self.ledger.file_words(paths).items()}

    def file_similarities(
        self, fingerprint: str, vector: FloatArray, paths: Sequence[str], only: Filter = EVERYTHING
    ) -> dict[str, float]:
        """By path: cosine similarity to the mean of the file's vectors; nothing while vectors are still to come.

        Half of a file's vectors would say something else than all of them, and differently for each file. Nothing
        either in a repository so large that its vectors are not held in memory.
        """
        counts = self.counts(fingerprint)
        if counts.pending or counts.chunks > EXACT_SCAN_LIMIT:
            return {}
        held = self._held(fingerprint, only)
        if not held.ids or held.matrix.shape[1] != len(vector):
            return {}
        rows, means = self._file_means(fingerprint, only, held)
        return {path: float(means[rows[path]] @ vector) for path in paths if path in rows}

    def _file_means(
        self, fingerprint: str, only: Filter, held: Vectors
    ) -> tuple[Mapping[str, int], FloatArray]:
        """The mean of each file's vectors at length 1, and the row of each path; remembered with the vectors."""
        import numpy as np

        place = (fingerprint, bool(only))
        known = self._means.get(place)
        if known is None or known[0] is not held:
            owner = self.ledger.file_of_chunk()
            names = {file.id: file.path for file in self.ledger.files()}
            # Chunks of a file are numbered in a row, and vectors lie in order of their chunks.
            files = np.array([owner.get(i, 0) for i in held.ids])
            starts = np.flatnonzero(np.r_[True, files[1:] != files[:-1]])
            sums = np.add.reduceat(held.matrix, starts, axis=0)
            means = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
            rows = {names.get(int(files[start]), ""): row for row, start in enumerate(starts)}
            known = self._means[place] = (held, rows, means)
        return known[1], known[2]

    def _near(self, fingerprint: str, vector: FloatArray, limit: int, only: Filter) -> list[Scored] | None:
        """The nearest chunks by Chroma's graph, which knows no files; None when a scan has to serve."""
        among, asked = None, limit
        if only:
            selected = self.selected(only)
            if selected.count <= EXACT_SCAN_LIMIT:
                return None
            # So many that about twice the limit passes.
            among, asked = selected.chunks, math.ceil(2 * limit * self.counts("").chunks / selected.count)
        near = self.store.query(fingerprint, vector, asked)
        if near is None:
            return None
        users = self.ledger.chunks_with_keys([key for key, _ in near])
        found = [Scored(i, score) for key, score in near for i in users.get(key, ())]
        passing = [item for item in found if among is None or item.chunk_id in among]
        # The nearest may all lie in what was left out.
        return passing[:limit] if among is None or len(passing) >= limit else None

    def _scan(self, fingerprint: str, vector: FloatArray, limit: int, only: Filter) -> list[Scored]:
        import numpy as np

        held = self._held(fingerprint, only)
        if not held.ids or held.matrix.shape[1] != len(vector):
            return []
        scores = held.matrix @ vector
        count = min(limit, len(scores))
        best = np.argpartition(-scores, count - 1)[:count]
        # Ties in order of the row: the same question always gives the same list.
        best = best[np.lexsort((best, -scores[best]))]
        return [Scored(held.ids[i], float(scores[i])) for i in best]

    def _held(self, fingerprint: str, only: Filter) -> Vectors:
        """The vectors a filter lets through: of each embedder all of them, and those of the last filter, in memory."""
        generation = self.ledger.generation()
        if generation != self._vectors_generation:
            self._vectors, self._vectors_generation = {}, generation
        place = (fingerprint, bool(only))
        held = self._vectors.get(place)
        if held is None or held[0] != only:
            among = self.selected(only).chunks if only else None
            held = (only, Vectors(*self.ledger.matrix(fingerprint, among)))
            self._vectors[place] = held
        return held[1]
