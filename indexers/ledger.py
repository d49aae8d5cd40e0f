"""Our SQLite: the manifest, chunk text, FTS5 keywords, and vectors by content hash. The truth of an index."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from indexers.errors import AgentError, BusyError, IndexDamaged, IndexStateError
from indexers.types import Chunk, FileStat, Skipped, SkipReason, Symbol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]

# "agnt": tells our files from any other SQLite file.
APPLICATION_ID = 0x61676E74
SCHEMA_VERSION = 1
# Short, because every writer holds the index lock anyway: what is left are checkpoints of other readers.
BUSY_TIMEOUT_MS = 5_000
# Before SQLite 3.42 the keyword index keeps deleted words until its segments happen to be merged.
SECURE_DELETE = sqlite3.sqlite_version_info >= (3, 42)
_WRITABLE = "Check its permissions, or set AGENT_HOME."
# SQLite's default limit on bound variables in old builds is 999.
_VARIABLES = 900

_QUALIFIED = re.compile(r"[.:#]+")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE,
    blob TEXT NOT NULL,
    language TEXT NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
    checked_ns INTEGER NOT NULL,
    skip TEXT, detail BLOB NOT NULL, redactions INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS chunks (
    id INTEGER PRIMARY KEY,
    file_id INTEGER NOT NULL REFERENCES files(id) ON DELETE CASCADE,
    start_line INTEGER NOT NULL, end_line INTEGER NOT NULL,
    text TEXT NOT NULL, scope TEXT NOT NULL, symbols TEXT NOT NULL, vector_key BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS chunks_file ON chunks(file_id);
CREATE INDEX IF NOT EXISTS chunks_key ON chunks(vector_key);
CREATE TABLE IF NOT EXISTS definitions (name TEXT NOT NULL, chunk_id INTEGER NOT NULL, kind TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS definitions_name ON definitions(name);
CREATE INDEX IF NOT EXISTS definitions_chunk ON definitions(chunk_id);
CREATE VIRTUAL TABLE IF NOT EXISTS keywords USING fts5(
    body, names, path, tokenize = "unicode61 remove_diacritics 0 tokenchars '_'"
);
"""
_VECTOR_SCHEMA = """\
CREATE TABLE IF NOT EXISTS shared.vectors (
    embedder TEXT NOT NULL, key BLOB NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (embedder, key)
) WITHOUT ROWID;
"""


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


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as the ledger holds it, with its row id."""

    id: int
    chunk: Chunk
    vector_key: bytes


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is stored: indexed files, skipped files, chunks, and chunks that still lack a vector."""

    files: int
    skipped: int
    chunks: int
    pending: int


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk ready to be stored: its keyword columns and the key of its vector."""

    chunk: Chunk
    body: str
    names: str
    path_words: str
    vector_key: bytes


class Ledger:
    """One connection to one repository's index; `vectors` may be shared by the worktrees of a repository.

    :raises IndexStateError: not our file, damaged, or written by a newer version.
    """

    def __init__(self, path: Path, vectors: Path) -> None:
        self.path = path
        self.vectors_path = vectors
        try:
            self._db = self._open(path, vectors)
        except sqlite3.DatabaseError as error:
            raise translated(error, path) from error
        except OSError as error:
            raise AgentError(f"The index at {path} cannot be opened: {error.strerror}.", _WRITABLE) from error

    def _open(self, path: Path, vectors: Path) -> sqlite3.Connection:
        for file in (path, vectors):
            if not file.exists():
                # Created by us first, so that it is private from its first byte.
                os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("ATTACH DATABASE ? AS shared", (str(vectors),))
            db.execute("PRAGMA shared.journal_mode = WAL")
            for pragma in (
                "synchronous = NORMAL",
                "foreign_keys = ON",
                "secure_delete = ON",
                "cache_size = -32000",
            ):
                db.execute(f"PRAGMA {pragma}")
            self._check_version(db, path)
        except BaseException:
            db.close()
            raise
        return db

    def _check_version(self, db: sqlite3.Connection, path: Path) -> None:
        # One transaction: whoever opens at the same time, or after a kill, sees all of the schema or nothing.
        db.execute("BEGIN IMMEDIATE")
        try:
            self._create_missing(db, path)
            db.execute("COMMIT")
        finally:
            db.rollback()

    def _create_missing(self, db: sqlite3.Connection, path: Path) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        owner = db.execute("PRAGMA application_id").fetchone()[0]
        empty = version == 0 and owner == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone()
        if empty:
            for statement in _SCHEMA.split(";\n"):
                db.execute(statement)
            if SECURE_DELETE:
                db.execute("INSERT INTO keywords (keywords, rank) VALUES ('secure-delete', 1)")
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif owner != APPLICATION_ID:
            raise IndexStateError(f"{path} is a database of another program.", "Remove it, then: agent index")
        elif version > SCHEMA_VERSION:
            raise IndexStateError(
                f"The index at {path} was written by a newer version"
                f" (format {version}, this one reads {SCHEMA_VERSION}).",
                "Upgrade, or rebuild it with this version: agent index --rebuild",
            )
        db.execute(_VECTOR_SCHEMA)

    def close(self) -> None:
        """Release the connection; safe to call twice."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: commits at the end, rolls back on any exception."""
        # Not IMMEDIATE, which would lock the vectors of the other worktrees too while files are read here.
        self._db.execute("BEGIN")
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            self._db.rollback()

    # -- meta ------------------------------------------------------------------------------------

    def meta(self, key: str, default: str = "") -> str:
        """A remembered value, or the default."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else default

    def set_meta(self, key: str, value: str) -> None:
        """Remember a value."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def generation(self) -> int:
        """Grows with every change of content: readers that hold anything in memory compare it."""
        return int(self.meta("generation", "0"))

    def bump_generation(self) -> None:
        """Tell readers that the content changed; call inside the transaction that changed it."""
        self.set_meta("generation", str(self.generation() + 1))

    # -- manifest --------------------------------------------------------------------------------

    def manifest(self) -> dict[str, ManifestEntry]:
        """Every known path, indexed or skipped."""
        rows = self._db.execute(
            "SELECT id, path, blob, size, mtime_ns, ctime_ns, inode, checked_ns, coalesce(skip, ''), detail"
            " FROM files"
        )
        entries = (
            ManifestEntry(
                i,
                os.fsdecode(p),
                blob,
                FileStat(size, mtime, ctime, inode),
                checked,
                skip,
                os.fsdecode(detail),
            )
            for i, p, blob, size, mtime, ctime, inode, checked, skip, detail in rows
        )
        return {entry.path: entry for entry in entries}

    def skipped(self) -> tuple[Skipped, ...]:
        """Every file that was left out, with its reason."""
        rows = self._db.execute("SELECT path, skip, detail FROM files WHERE skip IS NOT NULL ORDER BY path")
        return tuple(
            Skipped(os.fsdecode(p), SkipReason(reason), os.fsdecode(detail)) for p, reason, detail in rows
        )

    def touch(self, entry_id: int, stat: FileStat, checked_ns: int) -> None:
        """Same content, new stat: remember it so that the file is not read again."""
        self._db.execute(
            "UPDATE files SET size = ?, mtime_ns = ?, ctime_ns = ?, inode = ?, checked_ns = ? WHERE id = ?",
            (stat.size, stat.mtime_ns, stat.ctime_ns, stat.inode, checked_ns, entry_id),
        )

    def remove(self, paths: Iterable[str]) -> None:
        """Forget files and everything that was made of them."""
        for path in paths:
            row = self._db.execute("SELECT id FROM files WHERE path = ?", (os.fsencode(path),)).fetchone()
            if row:
                self._drop_chunks(row[0])
                self._db.execute("DELETE FROM files WHERE id = ?", row)

    def _drop_chunks(self, file_id: int) -> None:
        for table, column in (("keywords", "rowid"), ("definitions", "chunk_id")):
            self._db.execute(
                f"DELETE FROM {table} WHERE {column} IN (SELECT id FROM chunks WHERE file_id = ?)", (file_id,)
            )
        self._db.execute("DELETE FROM chunks WHERE file_id = ?", (file_id,))

    def put_skipped(self, item: Skipped, stat: FileStat, checked_ns: int) -> None:
        """Remember that a file was looked at and left out."""
        file_id = self._put_file(item.path, "", "", stat, checked_ns, item.reason.value, item.detail, 0)
        self._drop_chunks(file_id)

    def put_file(
        self,
        path: str,
        blob: str,
        language: str,
        stat: FileStat,
        checked_ns: int,
        chunks: Sequence[NewChunk],
        redactions: int = 0,
    ) -> None:
        """Replace all that is stored of one file."""
        file_id = self._put_file(path, blob, language, stat, checked_ns, None, "", redactions)
        self._drop_chunks(file_id)
        for new in chunks:
            chunk = new.chunk
            cursor = self._db.execute(
                "INSERT INTO chunks (file_id, start_line, end_line, text, scope, symbols, vector_key)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    file_id,
                    chunk.start_line,
                    chunk.end_line,
                    chunk.text,
                    json.dumps(chunk.scope),
                    json.dumps([(s.name, s.kind, s.line) for s in chunk.symbols]),
                    new.vector_key,
                ),
            )
            chunk_id = cursor.lastrowid
            self._db.execute(
                "INSERT INTO keywords (rowid, body, names, path) VALUES (?, ?, ?, ?)",
                (chunk_id, new.body, new.names, new.path_words),
            )
            self._db.executemany(
                "INSERT INTO definitions VALUES (?, ?, ?)",
                [(name, chunk_id, s.kind) for s in chunk.symbols for name in _names(s.name)],
            )

    def _put_file(
        self,
        path: str,
        blob: str,
        language: str,
        stat: FileStat,
        checked_ns: int,
        skip: str | None,
        detail: str,
        redactions: int,
    ) -> int:
        row = self._db.execute(
            "INSERT INTO files"
            " (path, blob, language, size, mtime_ns, ctime_ns, inode, checked_ns, skip, detail, redactions)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT(path) DO UPDATE SET blob = excluded.blob, language = excluded.language,"
            " size = excluded.size, mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns,"
            " inode = excluded.inode, checked_ns = excluded.checked_ns, skip = excluded.skip,"
            " detail = excluded.detail, redactions = excluded.redactions RETURNING id",
            (
                os.fsencode(path),
                blob,
                language,
                stat.size,
                stat.mtime_ns,
                stat.ctime_ns,
                stat.inode,
                checked_ns,
                skip,
                # It may name a part of a path.
                os.fsencode(detail),
                redactions,
            ),
        ).fetchone()
        return int(row[0])

    def clear(self) -> None:
        """Forget every file and chunk; vectors stay: they are keyed by content and may serve again."""
        for table in ("keywords", "definitions", "chunks", "files"):
            self._db.execute(f"DELETE FROM {table}")

    # -- chunks ----------------------------------------------------------------------------------

    def chunks(self, ids: Sequence[int]) -> dict[int, StoredChunk]:
        """Chunks by row id; ids that are gone are missing from the result."""
        found: dict[int, StoredChunk] = {}
        for part in _batches(list(ids)):
            rows = self._db.execute(
                "SELECT c.id, f.path, c.start_line, c.end_line, c.text, f.language, c.scope, c.symbols,"
                " c.vector_key FROM chunks c JOIN files f ON f.id = c.file_id"
                f" WHERE c.id IN ({_marks(part)})",
                part,
            )
            for row in rows:
                found[row[0]] = _stored(row)
        return found

    def chunk_ids(self) -> list[int]:
        """Every chunk's row id, ascending."""
        return [row[0] for row in self._db.execute("SELECT id FROM chunks ORDER BY id")]

    def chunks_of(self, path: str) -> list[StoredChunk]:
        """The chunks of one file in order of lines."""
        rows = self._db.execute(
            "SELECT c.id FROM chunks c JOIN files f ON f.id = c.file_id WHERE f.path = ?"
            " ORDER BY c.start_line",
            (os.fsencode(path),),
        )
        ids = [row[0] for row in rows]
        found = self.chunks(ids)
        return [found[i] for i in ids]

    def defining(self, name: str, limit: int = 200) -> list[int]:
        """Chunks in which a definition of that name starts; case does not matter."""
        rows = self._db.execute(
            "SELECT DISTINCT chunk_id FROM definitions WHERE name = ? ORDER BY chunk_id LIMIT ?",
            (name.lower(), limit),
        )
        return [row[0] for row in rows]

    def counts(self, embedder: str) -> Counts:
        """How much is stored, and how much of it lacks a vector of this embedder."""
        one = self._db.execute
        return Counts(
            files=one("SELECT count(*) FROM files WHERE skip IS NULL").fetchone()[0],
            skipped=one("SELECT count(*) FROM files WHERE skip IS NOT NULL").fetchone()[0],
            chunks=one("SELECT count(*) FROM chunks").fetchone()[0],
            pending=one(
                "SELECT count(*) FROM chunks c WHERE NOT EXISTS"
                " (SELECT 1 FROM shared.vectors v WHERE v.embedder = ? AND v.key = c.vector_key)",
                (embedder,),
            ).fetchone()[0],
        )

    def redactions(self) -> int:
        """How many secrets were replaced, over all indexed files."""
        return int(self._db.execute("SELECT coalesce(sum(redactions), 0) FROM files").fetchone()[0])

    def paths(self) -> dict[str, list[int]]:
        """The chunk ids of every indexed path."""
        found: dict[str, list[int]] = {}
        rows = self._db.execute(
            "SELECT f.path, c.id FROM chunks c JOIN files f ON f.id = c.file_id ORDER BY c.id"
        )
        for path, chunk_id in rows:
            found.setdefault(os.fsdecode(path), []).append(chunk_id)
        return found

    # -- keywords --------------------------------------------------------------------------------

    def match(
        self, tokens: Sequence[str], weights: tuple[float, float, float], limit: int
    ) -> list[tuple[int, float]]:
        """Chunks holding any of the tokens, best BM25 first. Weights are for body, names and path.

        Scores are positive, larger is better (FTS5 returns them negated).
        """
        if not tokens:
            return []
        query = " OR ".join(map(_quoted, tokens))
        rows = self._db.execute(
            "SELECT rowid, -bm25(keywords, ?, ?, ?) AS score FROM keywords WHERE keywords MATCH ?"
            " ORDER BY score DESC, rowid LIMIT ?",
            (*weights, query, limit),
        )
        return [(row[0], float(row[1])) for row in rows]

    def document_frequency(self, tokens: Sequence[str]) -> dict[str, int]:
        """In how many chunks each token occurs."""
        found = {}
        for token in tokens:
            row = self._db.execute(
                "SELECT count(*) FROM keywords WHERE keywords MATCH ?", (_quoted(token),)
            ).fetchone()
            found[token] = int(row[0])
        return found

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
        for part in _batches(list(keys)):
            rows = self._db.execute(
                f"SELECT key, vector FROM shared.vectors WHERE embedder = ? AND key IN ({_marks(part)})",
                (embedder, *part),
            )
            for key, blob in rows:
                found[key] = np.frombuffer(blob, dtype="<f4")
        return found

    def matrix(self, embedder: str) -> tuple[list[int], FloatArray]:
        """Every chunk that has a vector: row ids, and their vectors as one (n, dimensions) array."""
        import numpy as np

        rows = self._db.execute(
            "SELECT c.id, v.vector FROM chunks c"
            " JOIN shared.vectors v ON v.embedder = ? AND v.key = c.vector_key ORDER BY c.id",
            (embedder,),
        ).fetchall()
        if not rows:
            return [], np.zeros((0, 0), dtype=np.float32)
        width = len(rows[0][1])
        rows = [row for row in rows if len(row[1]) == width]
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
        for part in _batches(list(keys)):
            rows = self._db.execute(
                f"SELECT vector_key, id FROM chunks WHERE vector_key IN ({_marks(part)}) ORDER BY id", part
            )
            for key, chunk_id in rows:
                found.setdefault(key, []).append(chunk_id)
        return found

    def vectors_are_sound(self) -> bool:
        """Whether SQLite can read the file of vectors from end to end; damage shows only where one looks."""
        try:
            return bool(self._db.execute("PRAGMA shared.quick_check(1)").fetchone()[0] == "ok")
        except sqlite3.DatabaseError:
            return False

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the files: whole on their own, and without what was deleted."""
        if not SECURE_DELETE:
            self._db.execute("INSERT INTO keywords (keywords) VALUES ('optimize')")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def translated(error: sqlite3.Error, path: Path) -> AgentError:
    """SQLite's error as ours: busy, no space, read-only, or damaged."""
    code = getattr(error, "sqlite_errorcode", None)
    text = str(error)
    if code in (5, 6) or "locked" in text:
        return BusyError(f"The index at {path} is locked by another process.", "Try again in a moment.")
    if "full" in text:
        return AgentError(f"No space left for the index in {path.parent}.", "Free some space and try again.")
    if "readonly" in text or "unable to open" in text:
        return AgentError(f"The index at {path} cannot be written: {text}.", _WRITABLE)
    if isinstance(error, sqlite3.OperationalError) and "disk I/O" not in text:
        return IndexStateError(f"The index at {path} failed: {text}.", "Rebuild it: agent index --rebuild")
    return IndexDamaged(f"The index at {path} is damaged: {text}.", "Rebuild it: agent index --rebuild")


def _names(name: str) -> set[str]:
    """What a definition is asked for by: its name, and the last part of a qualified one (Phoenix.Router)."""
    lower = name.lower()
    return {lower, _QUALIFIED.split(lower)[-1]} - {""}


def _quoted(token: str) -> str:
    """A token as FTS5 takes it literally: no operator, no NUL, which would end the query."""
    return '"' + token.replace('"', '""').replace("\x00", " ") + '"'


def _marks(items: Sequence[object]) -> str:
    return ",".join("?" * len(items))


def _batches(items: list[object] | list[int] | list[bytes]) -> Iterator[list[object]]:
    for start in range(0, len(items), _VARIABLES):
        yield list(items[start : start + _VARIABLES])


def _stored(row: Sequence[object]) -> StoredChunk:
    chunk_id, path, start, end, text, language, scope, symbols, key = row
    assert isinstance(chunk_id, int) and isinstance(path, bytes) and isinstance(key, bytes)
    assert isinstance(start, int) and isinstance(end, int)
    chunk = Chunk(
        path=os.fsdecode(path),
        start_line=start,
        end_line=end,
        text=str(text),
        language=str(language),
        scope=tuple(json.loads(str(scope))),
        symbols=tuple(Symbol(name, kind, line) for name, kind, line in json.loads(str(symbols))),
    )
    return StoredChunk(chunk_id, chunk, key)
