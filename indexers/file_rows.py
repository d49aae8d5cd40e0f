"""The manifest of the ledger, its only writer of files: what is known of each path, and the chunks made of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from indexers.database import CONTENT, Database
from indexers.stored import ManifestEntry, NewFile
from indexers.types import FileStat, NewChunk, Skipped, SkipReason
from indexers.words import word_set


class FileRows(Database):
    """Reads and writes the rows of files."""

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
        for table in CONTENT:
            self._db.execute(f"DELETE FROM {table}")

    def redactions_of(self, path: str) -> int:
        """How many secrets were replaced in one file."""
        row = self._db.execute("SELECT redactions FROM files WHERE path = ?", (os.fsencode(path),)).fetchone()
        return int(row[0]) if row else 0
