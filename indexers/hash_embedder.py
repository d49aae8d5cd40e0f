"""An embedder without a model: hashed identifier parts and character n-grams."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from indexers.unit_vectors import fingerprint_of

if TYPE_CHECKING:
    from indexers.unit_vectors import FloatArray

_WORDS = re.compile(r"[^\W_]+")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
# Identifier parts say more than the character n-grams that only bridge spellings (retry, retries).
_WHOLE_WEIGHT, _PART_WEIGHT, _GRAM_WEIGHT = 1.0, 1.0, 0.35
# Stands in for a text without a single word, which must have a direction too.
_NO_WORDS = "\0no words"


class HashEmbedder:
    """Hashed identifier parts and character n-grams with random signs: texts that share words are near.

    Needs no model: for tests, and for machines where none can be had. The same vectors on every platform.
    """

    name = "hash"
    dimensions = 256

    def fingerprint(self) -> str:
        """Fixed: the features are part of the code."""
        return fingerprint_of({"format": 1, "kind": "hash", "dimensions": self.dimensions})

    def embed_documents(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> FloatArray:
        """One row a text."""
        import numpy as np

        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self._vector(text)
            if progress is not None and (row + 1) % 256 == 0:
                progress(row + 1)
        if progress is not None and len(texts) % 256:
            progress(len(texts))
        return vectors

    def embed_query(self, text: str) -> FloatArray:
        """One vector, made as for documents."""
        vector: FloatArray = self.embed_documents([text])[0]
        return vector

    def _vector(self, text: str) -> list[float]:
        vector = [0.0] * self.dimensions
        counts: dict[str, float] = {}
        for feature, weight in _features(text):
            counts[feature] = counts.get(feature, 0.0) + weight
        for feature, weight in counts.items():
            bucket, sign = _bucket(feature, self.dimensions)
            vector[bucket] += sign * math.log1p(weight)
        norm = math.sqrt(sum(value * value for value in vector))
        if norm < 1e-9:
            # No words, or signs that cancelled each other out.
            bucket, sign = _bucket(_NO_WORDS, self.dimensions)
            vector[bucket], norm = sign, 1.0
        return [value / norm for value in vector]


def _features(text: str) -> Iterator[tuple[str, float]]:
    for match in _WORDS.finditer(text):
        word = match.group()
        parts = [part.lower() for part in _PARTS.findall(word)]
        if len(parts) > 1:
            yield word.lower(), _WHOLE_WEIGHT
        for part in parts:
            yield part, _PART_WEIGHT
            padded = f"<{part}>"
            for start in range(len(padded) - 2):
                yield padded[start : start + 3], _GRAM_WEIGHT


@lru_cache(maxsize=65_536)
def _bucket(feature: str, dimensions: int) -> tuple[int, float]:
    hashed = hashlib.blake2b(feature.encode("utf-8", "replace"), digest_size=8).digest()
    number = int.from_bytes(hashed, "little")
    return (number >> 1) % dimensions, 1.0 if number & 1 else -1.0
