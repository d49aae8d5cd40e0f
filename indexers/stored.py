"""What the ledger is given and gives back: rows as values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from indexers.types import Chunk, FileStat, NewChunk


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """What the ledger remembers of one path. `skip` is empty for an indexed file."""

    id: int
    path: str
    blob: str
    stat: FileStat
    checked_ns: int
    skip: str
    detail: str


class NewFile(NamedTuple):
    """All that is to be stored of one file; `words` is the `word_set` of its chunks' bodies."""

    path: str
    blob: str
    language: str
    stat: FileStat
    checked_ns: int
    chunks: Sequence[NewChunk]
    redactions: int
    words: bytes


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as the ledger holds it, with its row id and the git blob id of the file it was cut from."""

    id: int
    chunk: Chunk
    vector_key: bytes
    blob: str = ""


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """What a filter has to know of a file: its row id, path and language. `blob` is its git blob id."""

    id: int
    path: str
    language: str
    blob: str = ""


@dataclass(frozen=True, slots=True)
class StoredFacts:
    """What `indexers.facts` wrote of one file, for the symbol graph."""

    file: IndexedFile
    defined: str
    used: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is stored: indexed files, skipped files, chunks, and chunks that still lack a vector."""

    files: int
    skipped: int
    chunks: int
    pending: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Some chunks by row id: those listed, or with `inverted` all but those listed, whichever list is shorter."""

    ids: frozenset[int]
    inverted: bool = False

    def __contains__(self, chunk_id: int) -> bool:
        return (chunk_id in self.ids) != self.inverted

    @property
    def condition(self) -> str:
        """What follows a row id in SQL, taking `variable`; there is no limit on how many ids that holds."""
        return f"{'NOT ' if self.inverted else ''}IN (SELECT value FROM json_each(?))"

    @property
    def variable(self) -> str:
        """The ids as the one variable of `condition`."""
        return json.dumps(list(self.ids))
