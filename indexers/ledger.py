"""Our SQLite: the manifest, chunk text, FTS5 keywords, and vectors by content hash. The truth of an index."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from indexers.errors import AgentError, BusyError, IndexDamaged, IndexStateError, StorageError
from indexers.facts import Piece
from indexers.types import Chunk, FileStat, NewChunk, Skipped, SkipReason, Symbol
from indexers.words import word_set

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]

_T = TypeVar("_T")

# "agnt": tells our files from any other SQLite file.
APPLICATION_ID = 0x61676E74
# 2: the words of whole files.
SCHEMA_VERSION = 2
# Short, because every writer holds the index lock anyway: what is left are checkpoints of other readers.
BUSY_TIMEOUT_MS = 5_000
# Before SQLite 3.42 the keyword index keeps deleted words until its segments happen to be merged.
SECURE_DELETE = sqlite3.sqlite_version_info >= (3, 42)
_WRITABLE = "Check its permissions, or set AGENT_HOME."
# Chunks kept in memory between searches: about ten megabytes.
_KEPT_CHUNKS = 5_000
# SQLite's default limit on bound variables in old builds is 999.
_VARIABLES = 900

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
CREATE TABLE IF NOT EXISTS file_words (file_id INTEGER PRIMARY KEY, words BLOB NOT NULL);
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
# What the symbol graph knows, made on demand and by blob, so that it outlives no file it was read from. Beside the
# schema rather than in it: an index written before there was a graph gets the table when it is opened.
_FACTS_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS facts (blob TEXT NOT NULL, language TEXT NOT NULL, version INTEGER NOT NULL,"
    " defined TEXT NOT NULL, used TEXT NOT NULL, UNIQUE (blob, language))",
    "CREATE TRIGGER IF NOT EXISTS facts_of_removed AFTER DELETE ON files BEGIN"
    " DELETE FROM facts WHERE blob = old.blob; END",
    "CREATE TRIGGER IF NOT EXISTS facts_of_changed AFTER UPDATE OF blob ON files WHEN old.blob <> new.blob BEGIN"
    " DELETE FROM facts WHERE blob = old.blob; END",
)
# What git does not list and nobody can read: FIFOs, sockets, devices. They are counted, and never part of the manifest.
_SPECIALS_SCHEMA = "CREATE TABLE IF NOT EXISTS specials (path BLOB PRIMARY KEY) WITHOUT ROWID"
# Rows that lack the other half of what they belong to: what they are, and where to count them.
_LOST = {
    "chunks are of no file": "chunks WHERE file_id NOT IN (SELECT id FROM files WHERE skip IS NULL)",
    "chunks have no keywords": "chunks WHERE id NOT IN (SELECT id FROM keywords_docsize)",
    "keyword rows are of no chunk": "keywords_docsize WHERE id NOT IN (SELECT id FROM chunks)",
    "definitions are of no chunk": "definitions WHERE chunk_id NOT IN (SELECT id FROM chunks)",
    "files have no words": "files WHERE skip IS NULL AND id NOT IN (SELECT file_id FROM file_words)",
    "files have no chunks": "files WHERE skip IS NULL AND id NOT IN (SELECT file_id FROM chunks)",
}
_CONTENT = ("keywords", "definitions", "file_words", "chunks", "files", "specials")
_AMONG_FILES = " AND f.id IN (SELECT value FROM json_each(?))"


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


class Ledger:
    """One connection to one repository's index; `vectors` may be shared by the worktrees of a repository.

    :raises IndexStateError: not our file, damaged, or written by a newer version.
    """

    def __init__(self, path: Path, vectors: Path) -> None:
        self.path = path
        self.vectors_path = vectors
        self._memory: dict[Hashable, Any] = {}
        self._memory_state: tuple[int, ...] = ()
        try:
            self._db = self._open(path, vectors)
            self._inode = path.stat().st_ino
        except sqlite3.DatabaseError as error:
            raise translated(error, path) from error
        except OSError as error:
            raise AgentError(f"The index at {path} cannot be opened: {error.strerror}.", _WRITABLE) from error

    def _open(self, path: Path, vectors: Path) -> sqlite3.Connection:
        try:
            return self._connected(path, vectors)
        except sqlite3.OperationalError as error:
            if not isinstance(translated(error, path), StorageError):
                raise
        # A full disk has no room for the memory that processes share; a single one reads without it.
        return self._connected(path, vectors, alone=True)

    def _connected(self, path: Path, vectors: Path, *, alone: bool = False) -> sqlite3.Connection:
        new = [file for file in (path, vectors) if not file.exists()]
        for file in new:
            # Created by us first, so that it is private from its first byte.
            os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            if alone:
                db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("ATTACH DATABASE ? AS shared", (str(vectors),))
            for name, file in (("main", path), ("shared", vectors)):
                # Nothing is in a new file yet that could be lost, and each flush would take milliseconds.
                if file in new:
                    db.execute(f"PRAGMA {name}.synchronous = OFF")
                db.execute(f"PRAGMA {name}.journal_mode = WAL")
            for pragma in ("foreign_keys = ON", "secure_delete = ON", "cache_size = -32000"):
                db.execute(f"PRAGMA {pragma}")
            self._check_version(db, path)
            # What is lost with the power is read again from the tree; vectors took long to make.
            db.execute("PRAGMA main.synchronous = NORMAL")
            db.execute("PRAGMA shared.synchronous = FULL")
            if vectors in new:
                # Flushed by SQLite itself: if we opened and closed its file, its locks on it would go, and another
                # process that closes the database would delete the log we still read and write.
                db.execute("PRAGMA shared.wal_checkpoint(TRUNCATE)")
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
        if owner == APPLICATION_ID and 0 < version < SCHEMA_VERSION:
            # What it holds is read again in seconds; vectors, which cost minutes, lie in a file of their own.
            for table in (*_CONTENT, "facts", "meta"):
                db.execute(f"DROP TABLE IF EXISTS {table}")
            empty = True
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
        for statement in (*_FACTS_SCHEMA, _SPECIALS_SCHEMA):
            db.execute(statement)

    def is_replaced(self) -> bool:
        """Whether the file at our path is no longer the one we opened: somebody has built the index anew."""
        try:
            return self.path.stat().st_ino != self._inode
        except FileNotFoundError:
            return True

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

    # -- memory ----------------------------------------------------------------------------------

    def _remembered(self, what: Hashable, read: Callable[[], _T]) -> _T:
        """What was read before, as long as neither we nor another process has written since."""
        if self._db.in_transaction:
            return read()
        one = self._db.execute
        state = (
            self._db.total_changes,
            one("PRAGMA main.data_version").fetchone()[0],
            one("PRAGMA shared.data_version").fetchone()[0],
        )
        if state != self._memory_state:
            self._memory, self._memory_state = {}, state
        memory = self._memory
        if what not in memory:
            memory[what] = read()
        found: _T = memory[what]
        return found

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

    def manifest(self) -> Mapping[str, ManifestEntry]:
        """Every known path, indexed or skipped; the same object as long as nobody writes."""
        return self._remembered("manifest", self._manifest)

    def _manifest(self) -> dict[str, ManifestEntry]:
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
        return self._remembered("skipped", self._skipped)

    def _skipped(self) -> tuple[Skipped, ...]:
        rows = self._db.execute(
            "SELECT path, skip, detail FROM files WHERE skip IS NOT NULL"
            " UNION ALL SELECT path, ?, ? FROM specials ORDER BY path",
            (SkipReason.NOT_A_FILE.value, b"git does not list it either"),
        )
        return tuple(
            Skipped(os.fsdecode(p), SkipReason(reason), os.fsdecode(detail)) for p, reason, detail in rows
        )

    def put_specials(self, paths: Iterable[str]) -> None:
        """Remember which FIFOs, sockets and devices lie in the tree, but for those that git lists as files."""
        one = self._db.execute
        new = {os.fsencode(path) for path in paths}
        new -= {path for path in new if one("SELECT 1 FROM files WHERE path = ?", (path,)).fetchone()}
        if new != {row[0] for row in one("SELECT path FROM specials")}:
            one("DELETE FROM specials")
            self._db.executemany("INSERT INTO specials VALUES (?)", [(path,) for path in sorted(new)])

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
        self._db.execute("DELETE FROM file_words WHERE file_id = ?", (file_id,))

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
        words: bytes | None = None,
    ) -> None:
        """Replace all that is stored of one file.

        :param words: the `word_set` of the chunks' bodies, where it has been made already.
        """
        if words is None:
            words = word_set(c.body for c in chunks)
        self.put_files([NewFile(path, blob, language, stat, checked_ns, chunks, redactions, words)])

    def put_files(self, files: Sequence[NewFile]) -> None:
        """Replace all that is stored of these files.

        In order of tables, not of files: before some statements SQLite has FTS5 write down all that it gathered, and
        to do so once a file made more than half of the time spent here.
        """
        ids = [
            self._put_file(f.path, f.blob, f.language, f.stat, f.checked_ns, None, "", f.redactions)
            for f in files
        ]
        for file_id in ids:
            self._drop_chunks(file_id)
        first = self._db.execute("SELECT coalesce(max(id), 0) + 1 FROM chunks").fetchone()[0]
        owned = [(file_id, chunk) for file_id, f in zip(ids, files, strict=True) for chunk in f.chunks]
        numbered = list(enumerate(owned, first))
        self._db.executemany(
            "INSERT INTO chunks (id, file_id, start_line, end_line, text, scope, symbols, vector_key)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (i, file_id, c.start_line, c.end_line, c.text, c.scope, c.symbols, c.vector_key)
                for i, (file_id, c) in numbered
            ],
        )
        self._db.executemany(
            "INSERT INTO definitions VALUES (?, ?, ?)",
            [(name, i, kind) for i, (_, c) in numbered for name, kind in c.definitions],
        )
        self._db.executemany(
            "INSERT INTO file_words VALUES (?, ?)",
            [(file_id, f.words) for file_id, f in zip(ids, files, strict=True)],
        )
        self._db.executemany(
            "INSERT INTO keywords (rowid, body, names, path) VALUES (?, ?, ?, ?)",
            [(i, c.body, c.names, c.path_words) for i, (_, c) in numbered],
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
        for table in _CONTENT:
            self._db.execute(f"DELETE FROM {table}")

    # -- chunks ----------------------------------------------------------------------------------

    def chunks(self, ids: Sequence[int]) -> dict[int, StoredChunk]:
        """Chunks by row id; ids that are gone are missing from the result."""
        kept: dict[int, StoredChunk] = self._remembered("chunks", dict)
        known = {i: stored for i in ids if (stored := kept.get(i)) is not None}
        read = self._chunks([i for i in ids if i not in known])
        if len(kept) + len(read) > _KEPT_CHUNKS:
            kept.clear()
        kept.update(read)
        known.update(read)
        return {i: known[i] for part in _batches(list(ids)) for i in sorted(part) if i in known}

    def _chunks(self, ids: Sequence[int]) -> dict[int, StoredChunk]:
        found: dict[int, StoredChunk] = {}
        for part in _batches(list(ids)):
            rows = self._db.execute(
                "SELECT c.id, f.path, c.start_line, c.end_line, c.text, f.language, c.scope, c.symbols,"
                " c.vector_key, f.blob FROM chunks c JOIN files f ON f.id = c.file_id"
                f" WHERE c.id IN ({_marks(part)})",
                part,
            )
            for row in rows:
                found[row[0]] = _stored(row)
        return found

    def chunk_ids(self, files: Iterable[int] | None = None) -> list[int]:
        """The row ids of every chunk, or of those of some files, ascending."""
        if files is None:
            return [row[0] for row in self._db.execute("SELECT id FROM chunks ORDER BY id")]
        query = "SELECT id FROM chunks WHERE file_id IN (SELECT value FROM json_each(?)) ORDER BY id"
        return [row[0] for row in self._db.execute(query, (json.dumps(list(files)),))]

    def files(self) -> list[IndexedFile]:
        """Every indexed file."""
        rows = self._db.execute("SELECT id, path, language FROM files WHERE skip IS NULL")
        return [IndexedFile(i, os.fsdecode(path), language) for i, path, language in rows]

    def test_modules(self) -> list[int]:
        """Chunks of test modules inside other files, as Rust has them: they lie in one, or begin with one."""
        rows = self._db.execute(
            "SELECT c.id FROM files f JOIN chunks c ON c.file_id = f.id WHERE f.language = 'rust'"
            """ AND (c.scope LIKE '["test"%' OR c.scope LIKE '["tests"%' OR c.symbols LIKE '[["tests", "module",%')"""
        )
        return [row[0] for row in rows]

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

    def defining(self, name: str, limit: int = 200, only: Selection | None = None) -> list[int]:
        """Chunks, of all or `only` some, in which a definition of that name starts; case does not matter."""
        rows = self._db.execute(
            "SELECT DISTINCT chunk_id FROM definitions WHERE name = ? ORDER BY chunk_id",
            (name.lower(),),
        )
        return list(islice((row[0] for row in rows if only is None or row[0] in only), limit))

    def counts(self, embedder: str) -> Counts:
        """How much is stored, and how much of it lacks a vector of this embedder."""
        return self._remembered(("counts", embedder), lambda: self._counts(embedder))

    def _counts(self, embedder: str) -> Counts:
        one = self._db.execute
        return Counts(
            files=one("SELECT count(*) FROM files WHERE skip IS NULL").fetchone()[0],
            skipped=one(
                "SELECT (SELECT count(*) FROM files WHERE skip IS NOT NULL) + (SELECT count(*) FROM specials)"
            ).fetchone()[0],
            chunks=one("SELECT count(*) FROM chunks").fetchone()[0],
            pending=one(
                "SELECT count(*) FROM chunks c WHERE NOT EXISTS"
                " (SELECT 1 FROM shared.vectors v WHERE v.embedder = ? AND v.key = c.vector_key)",
                (embedder,),
            ).fetchone()[0],
        )

    def redactions(self) -> int:
        """How many secrets were replaced, over all indexed files."""
        count = "SELECT coalesce(sum(redactions), 0) FROM files"
        return self._remembered("redactions", lambda: int(self._db.execute(count).fetchone()[0]))

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
        self,
        tokens: Sequence[str],
        weights: tuple[float, float, float],
        limit: int,
        only: Selection | None = None,
    ) -> list[tuple[int, float]]:
        """Chunks, of all or `only` some, holding any of the tokens, best BM25 first. Weights are for body, names, path.

        Scores are positive, larger is better (FTS5 returns them negated); how rare a token is counts over all chunks.
        """
        if not tokens:
            return []
        query = " OR ".join(map(_quoted, tokens))
        # The plus keeps SQLite from looking each row up in the keyword index instead of reading it once.
        among = "" if only is None else f" AND +rowid {only.condition}"
        rows = self._db.execute(
            "SELECT rowid, -bm25(keywords, ?, ?, ?) AS score FROM keywords"
            f" WHERE keywords MATCH ?{among} ORDER BY score DESC, rowid LIMIT ?",
            (*weights, query, *([] if only is None else [only.variable]), limit),
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

    def file_words(self, paths: Sequence[str]) -> dict[str, bytes]:
        """The word set of each of these files, by path (see `indexers.words`)."""
        found: dict[str, bytes] = {}
        for part in _batches([os.fsencode(path) for path in paths]):
            rows = self._db.execute(
                "SELECT f.path, w.words FROM files f JOIN file_words w ON w.file_id = f.id"
                f" WHERE f.path IN ({_marks(part)})",
                part,
            )
            found.update((os.fsdecode(path), words) for path, words in rows)
        return found

    def file_of_chunk(self) -> dict[int, int]:
        """The row id of the file that each chunk was cut from."""
        return dict(self._db.execute("SELECT id, file_id FROM chunks ORDER BY id"))

    # -- facts of the symbol graph ---------------------------------------------------------------

    def files_with(self, token: str) -> list[int]:
        """Row ids of the files in which a keyword token occurs."""
        rows = self._db.execute(
            "SELECT DISTINCT c.file_id FROM keywords k JOIN chunks c ON c.id = k.rowid WHERE keywords MATCH ?",
            (_quoted(token),),
        )
        return [row[0] for row in rows]

    def listed(self, only: Iterable[int] | None = None) -> list[IndexedFile]:
        """Indexed files with their blobs, all or `only` some by row id, in order of paths."""
        rows = self._db.execute(
            "SELECT f.id, f.path, f.language, f.blob FROM files f WHERE f.skip IS NULL"
            f"{'' if only is None else _AMONG_FILES} ORDER BY f.path",
            [] if only is None else [json.dumps(list(only))],
        )
        return [IndexedFile(i, os.fsdecode(path), language, blob) for i, path, language, blob in rows]

    def pieces(self, file: IndexedFile) -> list[Piece]:
        """The text of a file in order of lines; empty when it is not what it was when `file` was made."""
        rows = self._db.execute(
            "SELECT c.start_line, c.end_line, c.text FROM chunks c JOIN files f ON f.id = c.file_id"
            " WHERE f.id = ? AND f.blob = ? ORDER BY c.start_line",
            (file.id, file.blob),
        )
        return [Piece(*row) for row in rows]

    def facts(self, version: int, only: Iterable[int] | None = None) -> list[StoredFacts]:
        """What is known of each file, of all or `only` some, in order of paths."""
        rows = self._db.execute(
            "SELECT f.id, f.path, f.language, f.blob, t.defined, t.used FROM files f"
            " JOIN facts t ON t.blob = f.blob AND t.language = f.language"
            f" WHERE f.skip IS NULL AND t.version = ?{'' if only is None else _AMONG_FILES} ORDER BY f.path",
            (version, *([] if only is None else [json.dumps(list(only))])),
        )
        return [
            StoredFacts(IndexedFile(i, os.fsdecode(path), language, blob), defined, used)
            for i, path, language, blob, defined, used in rows
        ]

    def put_facts(self, version: int, new: Iterable[StoredFacts]) -> None:
        """Store facts; those of a file that has changed meanwhile are dropped."""
        self._db.executemany(
            "INSERT OR REPLACE INTO facts SELECT ?, ?, ?, ?, ?"
            " WHERE EXISTS (SELECT 1 FROM files WHERE id = ? AND blob = ?)",
            [(i.file.blob, i.file.language, version, i.defined, i.used, i.file.id, i.file.blob) for i in new],
        )

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

    def redactions_of(self, path: str) -> int:
        """How many secrets were replaced in one file."""
        row = self._db.execute("SELECT redactions FROM files WHERE path = ?", (os.fsencode(path),)).fetchone()
        return int(row[0]) if row else 0

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the files: whole on their own, and without what was deleted."""
        if not SECURE_DELETE:
            self._db.execute("INSERT INTO keywords (keywords) VALUES ('optimize')")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def is_sound(path: Path) -> bool:
    """Whether SQLite can read a database file of ours from end to end; a missing or empty one is sound."""
    if not path.exists():
        return True
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)
    try:
        return bool(db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.DatabaseError:
        return False
    finally:
        db.close()


def translated(error: sqlite3.Error, path: Path) -> AgentError:
    """SQLite's error as ours: busy, no space, read-only, failing disk, or damaged."""
    code = getattr(error, "sqlite_errorcode", None)
    text = str(error)
    if code in (5, 6) or "locked" in text:
        return BusyError(f"The index at {path} is locked by another process.", "Try again in a moment.")
    if "full" in text:
        return StorageError(
            f"No space left for the index in {path.parent}.", "Free some space and try again."
        )
    if "disk I/O" in text:
        return StorageError(
            f"The index at {path} cannot be read or written: {text}.",
            "Check the free space, the file size limit (ulimit -f) and the disk; then: agent index --check",
        )
    if "readonly" in text or "unable to open" in text:
        return AgentError(f"The index at {path} cannot be written: {text}.", _WRITABLE)
    if isinstance(error, sqlite3.OperationalError) and "decode" not in text:
        return IndexStateError(f"The index at {path} failed: {text}.", "Rebuild it: agent index --rebuild")
    return IndexDamaged(f"The index at {path} is damaged: {text}.", "Rebuild it: agent index --rebuild")


def _quoted(token: str) -> str:
    """A token as FTS5 takes it literally: no operator, no NUL, which would end the query."""
    return '"' + token.replace('"', '""').replace("\x00", " ") + '"'


def _marks(items: Sequence[object]) -> str:
    return ",".join("?" * len(items))


def _batches(items: list[_T]) -> Iterator[list[_T]]:
    for start in range(0, len(items), _VARIABLES):
        yield list(items[start : start + _VARIABLES])


def _stored(row: Sequence[object]) -> StoredChunk:
    chunk_id, path, start, end, text, language, scope, symbols, key, blob = row
    assert isinstance(chunk_id, int) and isinstance(path, bytes) and isinstance(key, bytes)
    assert isinstance(start, int) and isinstance(end, int)
    try:
        scopes, defined = json.loads(str(scope)), json.loads(str(symbols))
        names = tuple(Symbol(name, kind, line) for name, kind, line in defined)
    except (ValueError, TypeError) as error:
        raise sqlite3.DatabaseError(f"the row of chunk {chunk_id} is malformed ({error})") from error
    chunk = Chunk(
        path=os.fsdecode(path),
        start_line=start,
        end_line=end,
        text=str(text),
        language=str(language),
        scope=tuple(scopes),
        symbols=names,
    )
    return StoredChunk(chunk_id, chunk, key, str(blob))
