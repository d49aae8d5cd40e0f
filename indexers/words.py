"""Which keyword tokens a whole file holds, kept as a sorted set of hashes: small, and asked without the text."""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final

# Unsigned, four bytes; two of a million different tokens share a hash of 32 bits about a hundred times.
_KIND: Final = "I"


def word_set(bodies: Iterable[str]) -> bytes:
    """The distinct tokens of texts made of tokens and spaces, as sorted 32-bit hashes in the machine's byte order."""
    tokens = set(" ".join(bodies).encode("utf-8", "surrogatepass").split())
    return array(_KIND, sorted(set(map(zlib.crc32, tokens)))).tobytes()


def coverage(words: bytes, weights: Mapping[str, float]) -> float:
    """The share of the tokens' weight whose tokens are in the set, 0..1; 0 for a set that cannot be one."""
    total = sum(weights.values())
    if not words or total <= 0 or len(words) % array(_KIND).itemsize:
        return 0.0
    hashes = memoryview(words).cast(_KIND)
    found = 0.0
    for token, weight in weights.items():
        wanted = _hash(token)
        at = bisect_left(hashes, wanted)
        if at < len(hashes) and hashes[at] == wanted:
            found += weight
    return found / total


def _hash(token: str) -> int:
    return zlib.crc32(token.encode("utf-8", "surrogatepass"))
