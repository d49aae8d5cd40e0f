"""Brings the facts of files up to date when they are first asked for: what is stored is used, the rest is parsed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from indexers.errors import BusyError, IndexDamaged
from indexers.facts import (
    FACTS_VERSION,
    FileFacts,
    decode_defined,
    decode_used,
    encode_defined,
    encode_used,
    whole_lines,
)
from indexers.ledger import Ledger
from indexers.references import read_file
from indexers.stored import IndexedFile, StoredFacts
from indexers.types import Progress

Keep = Callable[[Sequence[StoredFacts]], None]

# Files in one transaction: Ctrl-C loses no more than these.
_FILES_AT_ONCE = 64
# Work that is done within this many seconds shows no progress.
_QUIET_SECONDS = 1.0
# Files whose facts stay in memory; a large one takes about a megabyte.
_MOST_HELD = 200


class KnownFile(NamedTuple):
    """An indexed file with its facts."""

    file: IndexedFile
    facts: FileFacts


class FactReader:
    """The facts of the indexed files, parsed once for each content of a file.

    :param keep: stores facts for the next time; a `BusyError` of it is no failure, as they are only a cache.
    """

    def __init__(
        self, ledger: Ledger, keep: Keep | None = None, on_progress: Callable[[Progress], None] | None = None
    ) -> None:
        self.ledger = ledger
        self._keep = keep
        self._progress = on_progress or (lambda _: None)
        self._held: dict[tuple[str, str], FileFacts] = {}
        # What could not be stored is not parsed again either.
        self._unkept: dict[tuple[str, str], StoredFacts] = {}

    def of(self, files: Iterable[int] | None = None) -> list[KnownFile]:
        """The facts of all files, or of some given by row id, in order of paths."""
        listed = self.ledger.listed(None if files is None else list(files))
        unknown = [file for file in listed if _key(file) not in self._held]
        whole = len(unknown) == len(listed) and files is None
        stored = self.ledger.facts(FACTS_VERSION, None if whole else [file.id for file in unknown])
        texts = {**self._unkept, **{_key(item.file): item for item in stored}}
        texts |= self._read([file for file in unknown if _key(file) not in texts])
        new = {_key(file): _decoded(texts[_key(file)]) for file in unknown if _key(file) in texts}
        known = {**self._held, **new}
        if len(known) <= _MOST_HELD:
            self._held = known
        elif len(new) <= _MOST_HELD:
            self._held = new
        return [KnownFile(file, known[_key(file)]) for file in listed if _key(file) in known]

    def lines(self, file: IndexedFile) -> list[str]:
        """The text of a file as indexed: line n stands at n - 1."""
        return whole_lines(self.ledger.pieces(file))

    def _read(self, files: Sequence[IndexedFile]) -> dict[tuple[str, str], StoredFacts]:
        """Parse files and store what they say."""
        started = time.monotonic()
        found: dict[tuple[str, str], StoredFacts] = {}
        for start in range(0, len(files), _FILES_AT_ONCE):
            batch: list[StoredFacts] = []
            for number, file in enumerate(files[start : start + _FILES_AT_ONCE], start + 1):
                pieces = self.ledger.pieces(file)
                if pieces:  # else another process has just stored something newer
                    facts = read_file(pieces, file.language)
                    batch.append(StoredFacts(file, encode_defined(facts.defined), encode_used(facts)))
                if time.monotonic() - started > _QUIET_SECONDS:
                    self._progress(Progress("parse", number, len(files), file.path))
            self._store(batch)
            found |= {_key(item.file): item for item in batch}
        return found

    def _store(self, read: Sequence[StoredFacts]) -> None:
        try:
            if self._keep is not None:
                self._keep(read)
                return
        except BusyError:
            pass  # another process is indexing; the next run parses them again
        self._unkept |= {_key(item.file): item for item in read}


def _key(file: IndexedFile) -> tuple[str, str]:
    return file.blob, file.language


def _decoded(stored: StoredFacts) -> FileFacts:
    try:
        return FileFacts(decode_defined(stored.defined), *decode_used(stored.used))
    except (ValueError, TypeError, IndexError) as error:
        text = f"What the index knows of {stored.file.path!r} is damaged: {error}."
        raise IndexDamaged(text, "Rebuild it: agent index --rebuild") from error
