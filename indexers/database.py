"""Our SQLite files: their schema and versions, transactions, what is remembered between reads, and errors as ours."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from indexers.errors import AgentError, BusyError, IndexDamaged, IndexStateError, StorageError

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
_REBUILD = "Rebuild it: agent index --rebuild"
# No format of ours will ever be so much newer than this one.
_MOST_NEWER = 1_000
# SQLITE_CORRUPT and SQLITE_NOTADB, whatever the text says: of an attached file it is only "unable to open".
_DAMAGE = (11, 26)
# What a header or a schema says that no version of ours has written.
_FOREIGN = ("unsupported file format", "attached databases must use the same text encoding", "no such ")
# SQLITE_READONLY_DBMOVED: the file is another one now.
_MOVED = 1_032
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
# Everything that the statements above create in either file.
_NAMES = frozenset(
    re.findall(
        r"IF NOT EXISTS (?:shared\.)?(\w+)",
        " ".join((_SCHEMA, _VECTOR_SCHEMA, *_FACTS_SCHEMA, _SPECIALS_SCHEMA)),
    )
)
# Tables of what was read of the tree; vectors are not among them.
CONTENT = ("keywords", "definitions", "file_words", "chunks", "files", "specials")


class Database:
    """One connection to both files of an index; the rows in them are the business of those that inherit.

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
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise translated(error, path, vectors) from error
        except OSError as error:
            raise AgentError(f"The index at {path} cannot be opened: {error.strerror}.", _WRITABLE) from error

    def _open(self, path: Path, vectors: Path) -> sqlite3.Connection:
        try:
            return self._connected(path, vectors)
        except sqlite3.OperationalError as error:
            if not isinstance(translated(error, path, vectors), StorageError):
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
        # Whoever only reads must not have to wait for whoever writes.
        if _is_current(db):
            return
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
            for table in (*CONTENT, "facts", "meta"):
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
        elif version > SCHEMA_VERSION + _MOST_NEWER:
            raise damaged(path, "its format is no number of ours")
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

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the files: whole on their own, and without what was deleted."""
        if not SECURE_DELETE:
            self._db.execute("INSERT INTO keywords (keywords) VALUES ('optimize')")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

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

    def meta_number(self, key: str) -> int:
        """A remembered number, or 0.

        :raises IndexDamaged: it is none.
        """
        try:
            return int(self.meta(key, "0"))
        except ValueError as error:
            raise damaged(self.path, f"{key} is no number") from error

    def set_meta(self, key: str, value: str) -> None:
        """Remember a value."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def generation(self) -> int:
        """Grows with every change of content: readers that hold anything in memory compare it."""
        return self.meta_number("generation")

    def bump_generation(self) -> None:
        """Tell readers that the content changed; call inside the transaction that changed it."""
        self.set_meta("generation", str(self.generation() + 1))


def _is_current(db: sqlite3.Connection) -> bool:
    """Whether both files have all that this version writes."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    owner = db.execute("PRAGMA application_id").fetchone()[0]
    if (version, owner) != (SCHEMA_VERSION, APPLICATION_ID):
        return False
    named = "SELECT name FROM main.sqlite_master UNION ALL SELECT name FROM shared.sqlite_master"
    return _NAMES.issubset(row[0] for row in db.execute(named))


def is_sound(path: Path) -> bool:
    """Whether SQLite can read a database file of ours from end to end, and write it; a missing or empty one is sound.

    Damage shows only where one looks.
    """
    if not path.exists():
        return True
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)
    try:
        # Not the quick one, which does not see that rows stand in the wrong order and are found by no key.
        fine = db.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok"
        if not fine or db.execute("PRAGMA encoding").fetchone()[0] != "UTF-8":
            return False
        # One byte of the header forbids writing.
        db.execute("BEGIN IMMEDIATE")
        db.rollback()
        return True
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        return isinstance(translated(error, path), BusyError)
    finally:
        db.close()


def damaged(path: Path, why: str) -> IndexDamaged:
    """The error of an index that holds what nobody wrote there."""
    return IndexDamaged(f"The index at {path} is damaged: {why}.", _REBUILD)


def translated(error: sqlite3.Error | UnicodeDecodeError, path: Path, *others: Path) -> AgentError:
    """SQLite's error as ours: busy, no space, read-only, failing disk, or damaged.

    An error whose own text is no text comes of a schema that is damaged.
    :param path: a file of the index, or its directory; `others` are more of them, which the error may come from.
    """
    code = getattr(error, "sqlite_errorcode", None) or 0
    text = str(error)
    if code & 0xFF in _DAMAGE or isinstance(error, UnicodeDecodeError) or text.startswith(_FOREIGN):
        return damaged(path, text)
    if code & 0xFF in (5, 6) or "locked" in text:
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
    if "readonly" in text and code != _MOVED and all(map(_may_write, (path, *others))):
        return damaged(path, "it says that it must not be written")
    if "readonly" in text or "unable to open" in text:
        return AgentError(f"The index at {path} cannot be written: {text}.", _WRITABLE)
    if isinstance(error, sqlite3.OperationalError) and "decode" not in text:
        return IndexStateError(f"The index at {path} failed: {text}.", _REBUILD)
    return damaged(path, text)


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path if path.is_dir() else path.parent, os.W_OK)


def marks(items: Sequence[object]) -> str:
    """As many places for variables as there are items."""
    return ",".join("?" * len(items))


def batches(items: list[_T]) -> Iterator[list[_T]]:
    """The items in parts that one statement may have as variables."""
    for start in range(0, len(items), _VARIABLES):
        yield list(items[start : start + _VARIABLES])
