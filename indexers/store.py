"""The only door to Chroma: a vector index that can be thrown away and rebuilt from the ledger.

Chroma may not be shared: two writers, or a writer beside a reader, lose or corrupt vectors without an error.
So it is opened, used and closed inside one lock, always with our own embeddings, and a marker file that
outlives whoever died in there, writing or reading, tells the next opener to rebuild instead of trusting what
is there. Nor does Chroma check its files: a missing graph silently finds nothing, a cut one ends the process.
So a clean close seals them, and what is not sealed is never opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexers.errors import BusyError, IndexStateError
from indexers.locks import locked

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]

COLLECTION = "chunks"
# Chroma's own limit is 5,461 records in one call; many small calls crash its compactor.
BATCH = 2_000
EF_SEARCH = 200
# How long a search may wait for another process that has the collection open.
QUERY_WAIT_SECONDS = 1.0


DATABASE = "chroma.sqlite3"


class StoreState(Enum):
    """What the files say without being opened: none, those of the last clean close, or anything else."""

    ABSENT = "absent"
    CLEAN = "clean"
    UNCLEAN = "unclean"


class _Unusable(Exception):
    """Chroma cannot read what is on disk."""


class VectorStore:
    """The Chroma collection of one index: ids are hex content keys of vectors, nothing else is stored."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = directory.with_name(directory.name + ".lock")
        self._dirty = directory.with_name(directory.name + ".dirty")
        self._reading = directory.with_name(directory.name + ".reading")
        self._seal = directory.with_name(directory.name + ".seal")
        self._holds = directory.with_name(directory.name + ".holds")

    def state(self) -> StoreState:
        """Whether the files are those of the last clean close; nothing is opened.

        :raises BusyError: another process has them open.
        """
        if self._dirty.exists():
            return StoreState.UNCLEAN
        if not self.directory.is_dir() or not any(self.directory.iterdir()):
            return StoreState.ABSENT
        with locked(self._lock):
            return StoreState.CLEAN if not self._is_marked() and self._is_sealed() else StoreState.UNCLEAN

    def was_left_open(self) -> bool:
        """Whether a process opened the files and came to its end in there: killed, or ended by Chroma itself."""
        try:
            with locked(self._lock, 0):
                return self._is_marked()
        except BusyError:
            # That one is still at it.
            return False

    def holds(self, fingerprint: str, keys: set[bytes]) -> bool:
        """Whether it holds exactly `keys`, by what the last clean close noted; Chroma itself is not opened.

        :raises BusyError: another process has it open for long.
        """
        if not keys and not self.directory.is_dir():
            return True
        with locked(self._lock):
            try:
                noted = self._holds.read_text(encoding="ascii")
            except (OSError, ValueError):
                return False
            return not self._is_marked() and noted == _digest(fingerprint, keys) and self._is_sealed()

    def _is_marked(self) -> bool:
        return self._dirty.exists() or self._reading.exists()

    def sync(
        self,
        fingerprint: str,
        keys: set[bytes],
        vectors: Callable[[Sequence[bytes]], FloatArray],
        progress: Callable[[int, int], None] | None = None,
    ) -> bool:
        """Make the collection hold exactly `keys`; `vectors` gives (n, dimensions) for a batch of them.

        Whatever cannot be read, or was written by another embedder, is dropped and built anew.
        :returns: whether it had to be rebuilt.
        """
        with locked(self._lock):
            try:
                rebuilt = self._is_marked()
                if rebuilt:
                    self._drop()
                self._write(fingerprint, keys, vectors, progress)
            except _Unusable:
                self._drop()
                rebuilt = True
                try:
                    self._write(fingerprint, keys, vectors, progress)
                except _Unusable as error:
                    raise IndexStateError(
                        f"Chroma could not build its vector index in {self.directory}: {error}",
                        "Check the free space there, and the limit of open files (ulimit -n); "
                        "searches go on without it.",
                    ) from error
            return rebuilt

    def query(self, fingerprint: str, vector: FloatArray, k: int) -> list[tuple[bytes, float]] | None:
        """The nearest keys and their cosine similarity, best first; None when the collection cannot serve."""
        if not self.directory.is_dir() or self._dirty.exists():
            return None
        try:
            with locked(self._lock, QUERY_WAIT_SECONDS):
                result = None if self._is_marked() else self._nearest(fingerprint, vector, k)
        except BusyError:
            # Whoever asks can scan the ledger; only a writer has to wait its turn.
            return None
        if result is None:
            return None
        ids, distances = result["ids"][0], result["distances"][0]
        return [(bytes.fromhex(i), 1.0 - float(d)) for i, d in zip(ids, distances, strict=True)]

    def _nearest(self, fingerprint: str, vector: FloatArray, k: int) -> Any:
        try:
            with self._opened_to_read(fingerprint) as collection:
                if collection is None or collection.count() == 0:
                    return None
                return collection.query(
                    query_embeddings=vector.reshape(1, -1),
                    n_results=min(k, collection.count()),
                    include=["distances"],
                )
        except _Unusable:
            self._dirty.touch(mode=0o600)
            return None

    @contextmanager
    def _opened_to_read(self, fingerprint: str) -> Iterator[Any]:
        """As `_collection`, marked while it is open. Reading writes too: Chroma's database is another afterwards."""
        with self._collection(fingerprint, create=False) as collection:
            if collection is not None:
                self._reading.touch(mode=0o600)
            yield collection
        if self._reading.exists():
            self._seal_files(graphs_too=False)
            self._reading.unlink(missing_ok=True)

    def keys(self, fingerprint: str) -> set[bytes] | None:
        """Every key in the collection, or None when there is none that can be read."""
        if not self.directory.is_dir() or self._dirty.exists():
            return None
        with locked(self._lock):
            if self._is_marked():
                return None
            try:
                with self._opened_to_read(fingerprint) as collection:
                    return None if collection is None else _ids(collection)
            except _Unusable:
                return None

    def drop(self) -> None:
        """Delete the collection's files."""
        with locked(self._lock):
            self._drop()

    def _drop(self) -> None:
        if self.directory.exists():
            shutil.rmtree(self.directory)
        for mark in (self._holds, self._seal, self._dirty, self._reading):
            mark.unlink(missing_ok=True)

    def _write(
        self,
        fingerprint: str,
        keys: set[bytes],
        vectors: Callable[[Sequence[bytes]], FloatArray],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._dirty.touch(mode=0o600)
        self._holds.unlink(missing_ok=True)
        with self._collection(fingerprint, create=True) as collection:
            assert collection is not None
            present = _ids(collection)
            gone = sorted(key.hex() for key in present - keys)
            for start in range(0, len(gone), BATCH):
                collection.delete(ids=gone[start : start + BATCH])
            new = sorted(keys - present)
            for start in range(0, len(new), BATCH):
                batch = new[start : start + BATCH]
                collection.upsert(ids=[key.hex() for key in batch], embeddings=vectors(batch))
                if progress:
                    progress(start + len(batch), len(new))
            if collection.count() != len(keys):
                raise _Unusable(f"holds {collection.count()} vectors where {len(keys)} were stored")
        # Only a clean close reaches these lines: a killed or failed writer leaves the marker behind.
        self._seal_files()
        self._dirty.unlink(missing_ok=True)
        self._holds.write_text(_digest(fingerprint, keys), encoding="ascii")

    def _seal_files(self, *, graphs_too: bool = True) -> None:
        """Remember the files as they are now, closed; all of them, or the database alone."""
        sums = self._checksums() if graphs_too else {**self._sealed(), DATABASE: self._sum(DATABASE)}
        temporary = self._seal.with_name(self._seal.name + ".new")
        temporary.write_text(json.dumps(sums), encoding="utf-8")
        temporary.replace(self._seal)

    def _checksums(self) -> dict[str, list[int]]:
        """Size and CRC-32 of the database, and of the files of each graph that is on disk for good."""
        marks = sorted(self.directory.glob("*/index_metadata.pickle"))
        files = [
            f"{mark.parent.name}/{file.name}" for mark in marks for file in sorted(mark.parent.iterdir())
        ]
        return {name: self._sum(name) for name in (DATABASE, *files)}

    def _sum(self, name: str) -> list[int]:
        file = self.directory / name
        return [file.stat().st_size, _crc32(file)]

    def _sealed(self) -> dict[str, list[int]]:
        found = json.loads(self._seal.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}

    def _is_sealed(self) -> bool:
        try:
            return self._sealed() == self._checksums()
        except (OSError, ValueError):
            return False

    @contextmanager
    def _collection(self, fingerprint: str, *, create: bool) -> Iterator[Any]:
        """The open collection, closed on the way out. Errors of Chroma become `_Unusable`."""
        from chromadb.errors import ChromaError

        self.directory.mkdir(mode=0o700, exist_ok=True)
        os.chmod(self.directory, 0o700)
        new = not any(self.directory.iterdir())
        if not new and not self._is_sealed():
            raise _Unusable("its files are not those of the last clean close")
        if new and not create:
            yield None
            return
        client = None
        try:
            client = self._client()
            if new:
                client.create_collection(
                    COLLECTION,
                    embedding_function=None,
                    metadata={"fingerprint": fingerprint},
                    configuration={"hnsw": {"space": "cosine", "ef_search": EF_SEARCH}},
                )
            collection = _existing(client, fingerprint)
            if collection is None and create:
                # Dropped as a whole: Chroma leaves the files of a deleted collection behind.
                raise _Unusable("it was written by another embedder")
            yield collection
        except (ChromaError, OSError, RuntimeError, ValueError, KeyError) as error:
            raise _Unusable(str(error)) from error
        except BaseException as error:
            # A Rust panic arrives as pyo3_runtime.PanicException, which is no Exception.
            if type(error).__name__ == "PanicException":
                raise _Unusable(f"panic: {error}") from error
            raise
        finally:
            if client is not None:
                client.close()

    def _client(self) -> Any:
        import chromadb
        from chromadb.config import Settings
        from chromadb.errors import ChromaError

        settings = Settings(anonymized_telemetry=False, allow_reset=False)
        try:
            return chromadb.PersistentClient(path=str(self.directory), settings=settings)
        except ChromaError:
            # A failed start stays in Chroma's cache of this process, until a second one fails and evicts it.
            with suppress(ChromaError, AttributeError, ValueError):
                chromadb.PersistentClient(path=str(self.directory), settings=settings).close()
            raise


def _existing(client: Any, fingerprint: str) -> Any:
    """The collection of this embedder, or None. Vectors of another one would be accepted without a word."""
    from chromadb.errors import NotFoundError

    try:
        collection = client.get_collection(COLLECTION, embedding_function=None)
    except NotFoundError:
        return None
    return collection if (collection.metadata or {}).get("fingerprint") == fingerprint else None


def _digest(fingerprint: str, keys: set[bytes]) -> str:
    """What tells one set of keys of one embedder from any other."""
    digest = hashlib.sha256(fingerprint.encode() + b"\0")
    for key in sorted(keys):
        digest.update(key)
    return digest.hexdigest()


def _crc32(file: Path) -> int:
    value = 0
    with file.open("rb") as data:
        while block := data.read(1 << 20):
            value = zlib.crc32(block, value)
    return value


def _ids(collection: Any) -> set[bytes]:
    return {bytes.fromhex(i) for i in collection.get(include=[])["ids"]}
