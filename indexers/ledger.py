"""Our SQLite: the manifest, chunk text, FTS5 keywords, and vectors by content hash. The truth of an index."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from indexers.chunk_rows import ChunkRows
from indexers.database import batches, is_sound, marks
from indexers.stored import Selection, StoredChunk

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]

# Rows that lack the other half of what they belong to: what they are, and where to count them.
_LOST = {
    "chunks are of no file": "chunks WHERE file_id NOT IN (SELECT id FROM files WHERE skip IS NULL)",
    "chunks have no keywords": "chunks WHERE id NOT IN (SELECT id FROM keywords_docsize)",
    "keyword rows are of no chunk": "keywords_docsize WHERE id NOT IN (SELECT id FROM chunks)",
    "definitions are of no chunk": "definitions WHERE chunk_id NOT IN (SELECT id FROM chunks)",
    "files have no words": "files WHERE skip IS NULL AND id NOT IN (SELECT file_id FROM file_words)",
    "files have no chunks": "files WHERE skip IS NULL AND id NOT IN (SELECT file_id FROM chunks)",
}


class Ledger(ChunkRows):
    """One connection to one repository's index; `vectors` may be shared by the worktrees of a repository.

    :raises IndexStateError: not our file, damaged, or written by a newer version.
    """

    # -- vectors ---------------------------------------------------------------------------------

    def pending(self, embedder: str, only: Sequence[int] | None = None) -> list[StoredChunk]:
        """Chunks whose vector of this embedder is missing, one for each distinct key, in order of path."""
        rows = self._db.execute(
            "SELECT min(c.id) FROM chunks c WHERE NOT EXISTS"
            " (SELECT 1 FROM shared.vectors v WHERE v.embedder = ? AND v.key = c.vector_key)"
            " GROUP BY c.vector_key",
            (embedder,),
        )
        ids = [row[0] for row in rows]
        if only is not None:
            wanted = set(only)
            ids = [i for i in ids if i in wanted]
        found = self.chunks(ids)
        return [found[i] for i in sorted(found)]

    def missing_keys(self, embedder: str, ids: Sequence[int]) -> list[StoredChunk]:
        """Of these chunks, those whose vector is missing, in the order given."""
        found = self.chunks(ids)
        keys = {c.vector_key for c in found.values()}
        have = self.vectors_for(embedder, keys)
        return [found[i] for i in ids if i in found and found[i].vector_key not in have]

    def put_vectors(self, embedder: str, keys: Sequence[bytes], vectors: FloatArray) -> None:
        """Store vectors (n, dimensions), float32, under their content keys."""
        import numpy as np

        rows = [
            (embedder, key, np.ascontiguousarray(v, dtype="<f4").tobytes())
            for key, v in zip(keys, vectors, strict=True)
        ]
        self._db.executemany("INSERT OR REPLACE INTO shared.vectors VALUES (?, ?, ?)", rows)

    def vectors_for(self, embedder: str, keys: Iterable[bytes]) -> dict[bytes, FloatArray]:
        """Vectors by key; keys without one are missing from the result."""
        import numpy as np

        found: dict[bytes, FloatArray] = {}
        for part in batches(list(keys)):
            rows = self._db.execute(
                f"SELECT key, vector FROM shared.vectors WHERE embedder = ? AND key IN ({marks(part)})",
                (embedder, *part),
            )
            # One whose bytes make no vector is damaged, and as good as none.
            found.update((key, np.frombuffer(blob, dtype="<f4")) for key, blob in rows if len(blob) % 4 == 0)
        return found

    def matrix(self, embedder: str, only: Selection | None = None) -> tuple[list[int], FloatArray]:
        """Every chunk (of `only` some) that has a vector: row ids, and their vectors as one (n, dimensions) array."""
        import numpy as np

        among = "" if only is None else f" WHERE c.id {only.condition}"
        rows = self._db.execute(
            "SELECT c.id, v.vector FROM chunks c"
            f" JOIN shared.vectors v ON v.embedder = ? AND v.key = c.vector_key{among} ORDER BY c.id",
            (embedder, *([] if only is None else [only.variable])),
        ).fetchall()
        if not rows:
            return [], np.zeros((0, 0), dtype=np.float32)
        sizes = [len(row[1]) for row in rows]
        # All of one width, unless some are damaged.
        width = max(set(sizes), key=sizes.count)
        rows = [row for row, size in zip(rows, sizes, strict=True) if size == width]
        flat = np.frombuffer(b"".join(row[1] for row in rows), dtype="<f4")
        return [row[0] for row in rows], flat.reshape(len(rows), width // 4)

    def live_keys(self, embedder: str) -> set[bytes]:
        """Keys of vectors that some chunk of this tree uses."""
        rows = self._db.execute(
            "SELECT DISTINCT c.vector_key FROM chunks c"
            " JOIN shared.vectors v ON v.embedder = ? AND v.key = c.vector_key",
            (embedder,),
        )
        return {row[0] for row in rows}

    def chunks_with_keys(self, keys: Sequence[bytes]) -> Mapping[bytes, list[int]]:
        """Row ids of the chunks that use each key: one vector may serve several places."""
        found: dict[bytes, list[int]] = {}
        for part in batches(list(keys)):
            rows = self._db.execute(
                f"SELECT vector_key, id FROM chunks WHERE vector_key IN ({marks(part)}) ORDER BY id", part
            )
            for key, chunk_id in rows:
                found.setdefault(key, []).append(chunk_id)
        return found

    def vectors_are_sound(self) -> bool:
        """Whether SQLite can read the file of vectors from end to end; damage shows only where one looks."""
        try:
            self._db.execute("SELECT embedder, key, vector FROM shared.vectors LIMIT 0")
        except sqlite3.DatabaseError:
            return False
        return is_sound(self.vectors_path)

    def raw_vectors(self, embedder: str, *, unused_too: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Key and bytes of every vector in use, or of all there are, as they are stored."""
        used = "" if unused_too else " AND v.key IN (SELECT vector_key FROM chunks)"
        return self._db.execute(
            f"SELECT v.key, v.vector FROM shared.vectors v WHERE v.embedder = ?{used} ORDER BY v.key",
            (embedder,),
        )

    def forget_vectors(self, embedder: str, keys: Iterable[bytes]) -> None:
        """Drop vectors, so that they are made again."""
        rows = [(embedder, key) for key in keys]
        self._db.executemany("DELETE FROM shared.vectors WHERE embedder = ? AND key = ?", rows)

    # -- checks ----------------------------------------------------------------------------------

    def faults(self) -> list[str]:
        """What SQLite's own checks and rows that belong together say is wrong; empty when all is well."""
        found = []
        for name, check in (
            ("ledger", "PRAGMA main.quick_check(5)"),
            ("vectors", "PRAGMA shared.quick_check(5)"),
            ("keyword index", "INSERT INTO keywords (keywords) VALUES ('integrity-check')"),
        ):
            try:
                rows = self._db.execute(check).fetchall()
            except sqlite3.DatabaseError as error:
                rows = [(f"malformed: {error}",)]
            found += [f"the {name} is damaged: {row[0]}" for row in rows if row[0] != "ok"]
        return found or self._lost_rows()

    def _lost_rows(self) -> list[str]:
        found = []
        for what, query in _LOST.items():
            count = self._db.execute(f"SELECT count(*) FROM {query}").fetchone()[0]
            if count:
                found.append(f"{count} {what}")
        return found
