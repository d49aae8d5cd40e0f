"""Removes vectors that no work tree has used for a month, once they are a large part of their file."""

# A vector is kept under the hash of its text for all work trees of a repository, so it may only go when none of their
# ledgers names that text. And not at once: a branch that is left for a while, or a commit that is taken back, would
# have to be embedded again. So it is noted when a vector is first seen to be unused; the note goes when it is used
# again, and the vector goes when the note is old.

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from indexers.database import BUSY_TIMEOUT_MS
from indexers.ledger import Ledger
from indexers.made_by import KEY, parsed

UNUSED_DAYS = 30
# Less than this part of the file is not worth a note's trouble to anybody.
LARGE_SHARE = 0.25
_DAY = 86_400
_ROOT, _FAMILY, _LOOKED = "root", "family", "unused_looked"


def register(ledger: Ledger, root: Path) -> None:
    """Note in a ledger which work tree and which file of vectors it belongs to; inside a transaction."""
    ledger.set_meta(_ROOT, os.fsencode(root).hex())
    ledger.set_meta(_FAMILY, ledger.vectors_path.name)


def collect(ledger: Ledger, directory: Path, now: float | None = None) -> list[str]:
    """Note what has become unused and remove what has been for long, at most once a day.

    :param directory: of this index; those of other work trees lie beside it.
    :param now: seconds since 1970.
    :returns: a sentence when something was removed.
    """
    now = time.time() if now is None else now
    if abs(now - float(ledger.meta(_LOOKED, "0"))) < _DAY:
        return []
    with ledger.transaction():
        ledger.set_meta(_LOOKED, str(int(now)))
    count = 0
    # Another process is writing, or one of the files cannot be read: a cache may keep too much for another day.
    with suppress(sqlite3.Error), closing(_connect(ledger.vectors_path)) as db:
        for path in _ledgers(ledger, directory):
            _note_used(db, path, ledger.vectors_path.name)
        count = _sweep(db, int(now))
        if count:
            db.execute("VACUUM")
    return [f"{count:,} vectors that nothing has used for {UNUSED_DAYS} days were removed"] if count else []


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path.as_uri(), timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, uri=True)
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute("CREATE TEMP TABLE used (embedder TEXT, key BLOB, PRIMARY KEY (embedder, key)) WITHOUT ROWID")
    return db


def _ledgers(ledger: Ledger, directory: Path) -> Iterator[Path]:
    """Our own ledger, and those that lie beside it."""
    yield ledger.path
    for path in sorted(directory.parent.glob("*/ledger.sqlite")):
        if path != ledger.path:
            yield path


def _note_used(db: sqlite3.Connection, path: Path, family: str) -> None:
    """Note what the ledger at `path` uses, unless it is of another repository or its work tree is gone.

    :raises sqlite3.Error: it cannot be read, so that nobody knows what it uses.
    """
    db.execute("ATTACH DATABASE ? AS tree", (f"{path.as_uri()}?mode=ro",))
    try:
        known = dict(db.execute("SELECT key, value FROM tree.meta").fetchall())
        # One that says nothing may be of this family: then its texts count as used.
        if known.get(_FAMILY, family) != family or not _is_there(known.get(_ROOT, "")):
            return
        last = parsed(known.get(KEY, ""))
        embedder = last.fingerprint if last else ""
        db.execute(
            "INSERT OR IGNORE INTO used SELECT v.embedder, v.key FROM main.vectors v"
            " WHERE (? = '' OR v.embedder = ?) AND v.key IN (SELECT vector_key FROM tree.chunks)",
            (embedder, embedder),
        )
    finally:
        db.execute("DETACH DATABASE tree")


def _is_there(root: str) -> bool:
    try:
        return not root or os.path.isdir(bytes.fromhex(root))  # noqa: PTH112 (the path as bytes, as it was noted)
    except ValueError:
        return True


def _sweep(db: sqlite3.Connection, now: int) -> int:
    """Bring the notes up to date, then remove what is old and enough; how many vectors went."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS unused (embedder TEXT NOT NULL, key BLOB NOT NULL, since INTEGER NOT NULL,"
        " PRIMARY KEY (embedder, key)) WITHOUT ROWID"
    )
    old = now - UNUSED_DAYS * _DAY
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute("DELETE FROM unused WHERE (embedder, key) IN (SELECT embedder, key FROM used)")
        # Noted by a clock that was ahead.
        db.execute("UPDATE unused SET since = ? WHERE since > ?", (now, now))
        db.execute(
            "INSERT OR IGNORE INTO unused SELECT v.embedder, v.key, ? FROM vectors v"
            " WHERE NOT EXISTS (SELECT 1 FROM used u WHERE u.embedder = v.embedder AND u.key = v.key)",
            (now,),
        )
        total = db.execute("SELECT count(*) FROM vectors").fetchone()[0]
        count = db.execute("SELECT count(*) FROM unused WHERE since <= ?", (old,)).fetchone()[0]
        if not count or count < LARGE_SHARE * total:
            count = 0
        else:
            going = "SELECT embedder, key FROM unused WHERE since <= ?"
            db.execute(f"DELETE FROM vectors WHERE (embedder, key) IN ({going})", (old,))
            db.execute("DELETE FROM unused WHERE since <= ?", (old,))
        db.execute("COMMIT")
    finally:
        db.rollback()
    return int(count)
