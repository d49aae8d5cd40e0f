"""Reads chunks from the ledger: by row, by file, by keyword and by name; and what the symbol graph knows of files."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import islice

from indexers.database import batches, marks
from indexers.facts import Piece
from indexers.file_rows import FileRows
from indexers.stored import Counts, IndexedFile, Selection, StoredChunk, StoredFacts
from indexers.types import Chunk, Symbol

# Chunks kept in memory between searches: about ten megabytes.
_KEPT_CHUNKS = 5_000
_AMONG_FILES = " AND f.id IN (SELECT value FROM json_each(?))"


class ChunkRows(FileRows):
    """Reads the rows of chunks, of keywords and of facts."""

    def chunks(self, ids: Sequence[int]) -> dict[int, StoredChunk]:
        """Chunks by row id; ids that are gone are missing from the result."""
        kept: dict[int, StoredChunk] = self._remembered("chunks", dict)
        known = {i: stored for i in ids if (stored := kept.get(i)) is not None}
        read = self._chunks([i for i in ids if i not in known])
        if len(kept) + len(read) > _KEPT_CHUNKS:
            kept.clear()
        kept.update(read)
        known.update(read)
        return {i: known[i] for part in batches(list(ids)) for i in sorted(part) if i in known}

    def _chunks(self, ids: Sequence[int]) -> dict[int, StoredChunk]:
        found: dict[int, StoredChunk] = {}
        for part in batches(list(ids)):
            rows = self._db.execute(
                "SELECT c.id, f.path, c.start_line, c.end_line, c.text, f.language, c.scope, c.symbols,"
                " c.vector_key, f.blob FROM chunks c JOIN files f ON f.id = c.file_id"
                f" WHERE c.id IN ({marks(part)})",
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
        for part in batches([os.fsencode(path) for path in paths]):
            rows = self._db.execute(
                "SELECT f.path, w.words FROM files f JOIN file_words w ON w.file_id = f.id"
                f" WHERE f.path IN ({marks(part)})",
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


def _quoted(token: str) -> str:
    """A token as FTS5 takes it literally: no operator, no NUL, which would end the query."""
    return '"' + token.replace('"', '""').replace("\x00", " ") + '"'


def _stored(row: Sequence[object]) -> StoredChunk:
    chunk_id, path, start, end, text, language, scope, symbols, key, blob = row
    try:
        # A flipped bit can make another type of a value.
        if not (isinstance(chunk_id, int) and isinstance(path, bytes) and isinstance(key, bytes)):
            raise TypeError("a path or a key that is none")
        if not (isinstance(start, int) and isinstance(end, int)):
            raise TypeError("lines that are no numbers")
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
