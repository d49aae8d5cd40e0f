"""Reads one file of the work tree into what the ledger stores of it: its chunks without secrets, and keywords."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from indexers.chunking import chunk_source
from indexers.config import IndexConfig
from indexers.files import read_source, stat_file
from indexers.redact import redact
from indexers.tokens import joined_tokens, last_component, tokenize, unique
from indexers.types import Chunk, FileStat, NewChunk, Skipped, SkipReason, TrackedFile
from indexers.words import word_set

NO_STAT = FileStat(0, 0, 0, 0)
_KEY_BYTES = 16


class Job(NamedTuple):
    """A file to be read. `known` is the blob id it is stored under, empty when it is not."""

    file: TrackedFile
    known: str = ""


class Reading(NamedTuple):
    """What came of one file.

    `reason` says why it is left out. Otherwise `chunks` are its new content and `words` their word set; None when it
    is stored already.
    """

    stat: FileStat
    checked_ns: int
    reason: str = ""
    detail: str = ""
    blob: str = ""
    language: str = ""
    redactions: int = 0
    words: bytes = b""
    chunks: tuple[NewChunk, ...] | None = None


def read_file(root: Path, job: Job, config: IndexConfig, key: bytes) -> Reading:
    """Read, clean and cut one file. Needs nothing but the file, so that it may run anywhere.

    :param key: of the index, for the marks that stand for secrets.
    """
    checked = time.time_ns()
    # Taken before the file is read: what is written meanwhile is noticed the next time.
    stat = stat_file(root, job.file.path) or NO_STAT
    source = read_source(root, job.file, config)
    if isinstance(source, Skipped):
        return Reading(stat, checked, source.reason.value, source.detail)
    if job.known and job.known == source.blob:
        return Reading(stat, checked, blob=source.blob)
    cleaned = redact(source.text, key, source.path)
    chunks = tuple(map(keyword_fields, chunk_source(replace(source, text=cleaned.text), config)))
    if not chunks:
        return Reading(stat, checked, SkipReason.EMPTY.value)
    words = word_set(chunk.body for chunk in chunks)
    return Reading(stat, checked, "", "", source.blob, source.language, cleaned.count, words, chunks)


def embed_text(chunk: Chunk) -> str:
    """What the embedder sees of a chunk: enclosing names, then its text.

    The path is left out on purpose: a renamed or moved file embeds nothing again.
    """
    return " > ".join(chunk.scope) + "\n" + chunk.text if chunk.scope else chunk.text


def vector_key(chunk: Chunk) -> bytes:
    """Content hash under which the chunk's vector is kept; equal text in two places shares one vector."""
    return hashlib.sha256(embed_text(chunk).encode("utf-8", "surrogatepass")).digest()[:_KEY_BYTES]


def keyword_fields(chunk: Chunk) -> NewChunk:
    """A chunk with its keyword columns: its text, the names it defines or sits in, the words of its path."""
    symbols = chunk.symbols
    return NewChunk(
        start_line=chunk.start_line,
        end_line=chunk.end_line,
        text=chunk.text,
        scope=json.dumps(chunk.scope) if chunk.scope else "[]",
        symbols=json.dumps([(s.name, s.kind, s.line) for s in symbols]) if symbols else "[]",
        vector_key=vector_key(chunk),
        body=joined_tokens(chunk.text),
        names=joined_tokens(" ".join((*chunk.scope, *(s.name for s in symbols)))),
        path_words=_path_words(chunk.path),
        definitions=tuple((name, s.kind) for s in symbols for name in _asked_names(s.name)),
    )


@lru_cache(maxsize=8)
def _path_words(path: str) -> str:
    return " ".join(unique(tokenize(path.replace("/", " "))))


def _asked_names(name: str) -> list[str]:
    """What a definition is asked for by: its name, and the last part of a qualified one (Phoenix.Router)."""
    lower = name.lower()
    return [asked for asked in unique((lower, last_component(lower))) if asked]
