"""What can be chosen about an index, resolved and frozen; `fingerprint()` is part of every cache key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

# Raised whenever chunking, tokenising or redaction changes what is stored for the same bytes.
PIPELINE_VERSION = 1


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """Settings of the index. Sizes are bytes or characters as named.

    `chunk_chars` is the size aimed at, `chunk_max_chars` the most a chunk may hold unless a single line is longer.
    """

    max_file_bytes: int = 1_048_576
    chunk_chars: int = 1_000
    chunk_max_chars: int = 1_500
    exclude: tuple[str, ...] = ()
    embedder: str = "minilm"
    include_untracked: bool = True

    def fingerprint(self) -> str:
        """A short hash of what changes the stored chunks; the embedder has its own and is not part of it."""
        values = asdict(self)
        values.pop("embedder")
        values["pipeline"] = PIPELINE_VERSION
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
