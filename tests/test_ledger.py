"""The ledger: what goes in comes out, deleted text is gone from the bytes, and no query or file breaks it."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from indexers.database import BUSY_TIMEOUT_MS, SCHEMA_VERSION, translated
from indexers.errors import AgentError, BusyError, IndexDamaged, IndexStateError, StorageError
from indexers.ledger import Ledger
from indexers.reading import keyword_fields
from indexers.stored import NewFile
from indexers.types import Chunk, FileStat, Skipped, SkipReason, Symbol

STAT = FileStat(10, 1, 2, 3)
WEIGHTS = (1.0, 2.0, 2.0)
ROOT = Path(__file__).parents[1]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.sqlite", tmp_path / "vectors.sqlite")
    yield opened
    opened.close()


def chunk(
    path: str, text: str, start: int = 1, names: tuple[str, ...] = (), scope: tuple[str, ...] = ()
) -> Chunk:
    end = start + text.count("\n")
    return Chunk(path, start, end, text, "python", scope, tuple(Symbol(n, "function", start) for n in names))


def put(ledger: Ledger, path: str, *chunks: Chunk, blob: str = "b1") -> None:
    with ledger.transaction():
        ledger.put_file(path, blob, "python", STAT, 99, [keyword_fields(c) for c in chunks], 1)
        ledger.bump_generation()


def found(ledger: Ledger, *tokens: str) -> list[str]:
    ids = [pair[0] for pair in ledger.match(tokens, WEIGHTS, 10)]
    chunks = ledger.chunks(ids)
    return [chunks[i].chunk.label for i in ids]


def test_a_chunk_comes_back_as_it_went_in(ledger: Ledger) -> None:
    odd = chunk("a b/ü.py", "x = 'ü \x00 🎉'\r\nprint(x)", 3, ("f",), ("A", "B"))
    put(ledger, odd.path, odd)
    (stored,) = ledger.chunks_of(odd.path)
    assert stored.chunk == odd
    assert ledger.chunks(ledger.chunk_ids())[stored.id] == stored
    assert ledger.paths() == {odd.path: [stored.id]}


def test_paths_of_odd_bytes_survive(ledger: Ledger) -> None:
    path = os.fsdecode(b"odd \xff\n\"'.py")
    put(ledger, path, chunk(path, "alpha"))
    skipped = Skipped(os.fsdecode(b"\xfe.py"), SkipReason.SYMLINK, os.fsdecode(b"\xfd/ on the way is one"))
    with ledger.transaction():
        ledger.put_skipped(skipped, STAT, 1)
    assert found(ledger, "alpha") == [f"{path}:1-1"]
    assert ledger.skipped() == (skipped,)
    assert ledger.manifest()[skipped.path].detail == skipped.detail
    assert set(ledger.manifest()) == {path, skipped.path}


def test_the_manifest_tells_what_was_seen(ledger: Ledger) -> None:
    put(ledger, "a.py", chunk("a.py", "alpha"))
    entry = ledger.manifest()["a.py"]
    assert (entry.blob, entry.stat, entry.checked_ns, entry.skip) == ("b1", STAT, 99, "")
    ledger.touch(entry.id, FileStat(1, 2, 3, 4), 100)
    assert ledger.manifest()["a.py"].stat == FileStat(1, 2, 3, 4)
    assert ledger.counts("").files == 1 and ledger.redactions() == 1


def test_a_file_put_again_replaces_all_that_was_there(ledger: Ledger) -> None:
    put(ledger, "a.py", chunk("a.py", "alpha", names=("one",)), chunk("a.py", "beta", 2))
    put(ledger, "a.py", chunk("a.py", "gamma", names=("two",)))
    assert found(ledger, "alpha", "beta") == [] and found(ledger, "gamma") == ["a.py:1-1"]
    assert ledger.defining("one") == [] and ledger.defining("TWO") == ledger.chunk_ids()
    assert ledger.counts("").chunks == 1


def test_a_file_that_is_skipped_now_loses_its_chunks(ledger: Ledger) -> None:
    put(ledger, "a.py", chunk("a.py", "alpha", names=("one",)))
    with ledger.transaction():
        ledger.put_skipped(Skipped("a.py", SkipReason.BINARY), STAT, 1)
    assert (found(ledger, "alpha"), ledger.defining("one"), ledger.chunk_ids()) == ([], [], [])
    assert ledger.counts("").skipped == 1


def test_remove_and_clear_leave_nothing(ledger: Ledger) -> None:
    put(ledger, "a.py", chunk("a.py", "alpha"))
    put(ledger, "b.py", chunk("b.py", "alpha"))
    with ledger.transaction():
        ledger.remove(["a.py", "never there"])
    assert found(ledger, "alpha") == ["b.py:1-1"]
    with ledger.transaction():
        ledger.clear()
    assert (found(ledger, "alpha"), ledger.manifest()) == ([], {})


def test_keywords_rank_names_and_path_above_text(ledger: Ledger) -> None:
    put(ledger, "one.py", chunk("one.py", "retry something else entirely"))
    put(ledger, "two.py", chunk("two.py", "def something else entirely", names=("retry",)))
    assert found(ledger, "retry") == ["two.py:1-1", "one.py:1-1"]
    assert ledger.document_frequency(["retry", "absent"]) == {"retry": 2, "absent": 0}
    assert all(score > 0 for _, score in ledger.match(["retry"], WEIGHTS, 10))
    assert len(ledger.match(["retry"], WEIGHTS, 1)) == 1


@pytest.mark.parametrize(
    "token",
    [
        '"',
        "'",
        '" OR "',
        "NEAR(a b)",
        "a AND",
        "*",
        "body:alpha",
        "^alpha",
        "-alpha",
        "(",
        "\x00",
        "alpha\x00",
        "",
        "{a}",
    ]
    + ["a;DROP TABLE chunks", "+", "\\", "%", "_", "x" * 50_000, "ß", "配置", "İ", "\u0301", "🎉"],
)
def test_no_token_is_an_operator(ledger: Ledger, token: str) -> None:
    put(ledger, "a.py", chunk("a.py", "beta"))
    ledger.match([token, "zeta"], WEIGHTS, 10)
    ledger.match([token], WEIGHTS, 10)
    ledger.document_frequency([token])
    assert found(ledger, token, "beta") == ["a.py:1-1"]


def test_no_tokens_match_nothing(ledger: Ledger) -> None:
    put(ledger, "a.py", chunk("a.py", "beta"))
    assert ledger.match([], WEIGHTS, 10) == []


def test_many_tokens_and_ids(ledger: Ledger) -> None:
    put(ledger, "a.py", *(chunk("a.py", f"word{i}", i) for i in range(1, 2_501)))
    assert len(ledger.chunks(ledger.chunk_ids())) == 2_500
    assert len(ledger.match([f"word{i}" for i in range(1_000)], WEIGHTS, 2_000)) == 999


def test_vectors_are_kept_by_content_and_embedder(ledger: Ledger) -> None:
    put(ledger, "a.py", chunk("a.py", "same"), chunk("a.py", "other", 2))
    put(ledger, "b.py", chunk("b.py", "same"))
    same, other = (item.vector_key for item in ledger.chunks_of("a.py"))
    assert ledger.counts("e").pending == 3 and len(ledger.pending("e")) == 2
    with ledger.transaction():
        ledger.put_vectors("e", [same], np.array([[1.0, 0.0]], np.float32))
    assert ledger.counts("e").pending == 1 and ledger.counts("f").pending == 3
    assert ledger.live_keys("e") == {same} and len(ledger.chunks_with_keys([same])[same]) == 2
    assert [c.chunk.text for c in ledger.missing_keys("e", ledger.chunk_ids())] == ["other"]
    ids, matrix = ledger.matrix("e")
    assert len(ids) == 2 and matrix.tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert ledger.vectors_for("e", [same, other]).keys() == {same}
    with ledger.transaction():
        ledger.remove(["a.py", "b.py"])
    assert ledger.live_keys("e") == set() and ledger.vectors_for("e", [same]).keys() == {same}


def test_vectors_of_another_length_are_never_mixed(ledger: Ledger) -> None:
    put(ledger, "a.py", chunk("a.py", "one"), chunk("a.py", "two", 2))
    one, two = (item.vector_key for item in ledger.chunks_of("a.py"))
    with ledger.transaction():
        ledger.put_vectors("e", [one], np.ones((1, 2), np.float32))
        ledger.put_vectors("e", [two], np.ones((1, 3), np.float32))
    ids, matrix = ledger.matrix("e")
    assert len(ids) == len(matrix) == 1


def test_a_failed_transaction_leaves_no_trace(ledger: Ledger) -> None:
    put(ledger, "a.py", chunk("a.py", "alpha"))
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), ledger.transaction():
            ledger.remove(["a.py"])
            raise error
    assert found(ledger, "alpha") == ["a.py:1-1"]
    with ledger.transaction():
        ledger.set_meta("k", "v")
    assert ledger.meta("k") == "v" and ledger.meta("absent", "d") == "d"


def test_deleted_text_is_gone_from_the_files(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path, tmp_path / "vectors.sqlite")
    put(ledger, "keep.py", chunk("keep.py", "keep this"))
    put(ledger, "gone.py", chunk("gone.py", "planted_marker_in_text", names=("planted_marker_in_text",)))
    ledger.checkpoint()
    assert b"planted_marker_in_text" in path.read_bytes()
    with ledger.transaction():
        ledger.remove(["gone.py"])
    ledger.checkpoint()
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    ledger.close()
    assert b"keep" in left and b"planted" not in left and b"marker" not in left


def test_files_are_private(ledger: Ledger, tmp_path: Path) -> None:
    put(ledger, "a.py", chunk("a.py", "alpha"))
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


def test_close_twice(ledger: Ledger) -> None:
    ledger.close()
    ledger.close()


# -- files that are not ours, damaged, newer, locked ---------------------------------------------


def reopen(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.sqlite", tmp_path / "vectors.sqlite").close()


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "ledger.sqlite")
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()
    with pytest.raises(IndexStateError, match="another program"):
        reopen(tmp_path)
    marked = sqlite3.connect(tmp_path / "ledger.sqlite")
    assert marked.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    marked.execute("PRAGMA application_id = 7")
    marked.close()
    with pytest.raises(IndexStateError, match="another program"):
        reopen(tmp_path)


def test_a_newer_format_is_refused_and_named(tmp_path: Path) -> None:
    reopen(tmp_path)
    db = sqlite3.connect(tmp_path / "ledger.sqlite")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(IndexStateError, match="newer version") as caught:
        reopen(tmp_path)
    assert not isinstance(caught.value, IndexDamaged) and "--rebuild" in caught.value.remedy


@pytest.mark.parametrize("name", ["ledger.sqlite", "vectors.sqlite"])
@pytest.mark.parametrize("content", [b"not a database" * 500, b"SQLite format 3\x00" + b"\xff" * 8_000])
def test_a_damaged_file_says_so(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(IndexDamaged) as caught:
        reopen(tmp_path)
    assert "--rebuild" in caught.value.remedy


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(AgentError) as caught:
        Ledger(tmp_path / "absent" / "ledger.sqlite", tmp_path / "vectors.sqlite")
    assert str(tmp_path) in caught.value.message and caught.value.remedy


def test_an_interrupted_creation_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").touch()
    (tmp_path / "vectors.sqlite").touch()
    reopen(tmp_path)
    reopen(tmp_path)


def test_who_only_reads_need_not_wait_for_who_writes(ledger: Ledger, tmp_path: Path) -> None:
    ledger.set_meta("known", "before")
    with ledger.transaction():
        ledger.set_meta("known", "meanwhile")
        ledger.put_vectors("any", [b"key"], np.ones((1, 2), np.float32))
        started = time.monotonic()
        reader = Ledger(tmp_path / "ledger.sqlite", tmp_path / "vectors.sqlite")
        assert reader.meta("known") == "before" and time.monotonic() - started < BUSY_TIMEOUT_MS / 2000
        reader.close()


def test_a_locked_ledger_is_busy_not_damaged(ledger: Ledger, tmp_path: Path) -> None:
    other = sqlite3.connect(ledger.path, timeout=0, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ledger._db.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(sqlite3.OperationalError) as caught, ledger.transaction():
        ledger.set_meta("k", "v")
    assert isinstance(translated(caught.value, ledger.path), BusyError)
    other.execute("ROLLBACK")
    other.close()
    with ledger.transaction():
        ledger.set_meta("k", "v")


@pytest.mark.parametrize(
    ("error", "wanted", "words"),
    [
        (sqlite3.OperationalError("database is locked"), BusyError, "locked"),
        (sqlite3.OperationalError("database or disk is full"), StorageError, "No space"),
        (sqlite3.OperationalError("attempt to write a readonly database"), AgentError, "cannot be written"),
        (sqlite3.OperationalError("unable to open database file"), AgentError, "cannot be written"),
        (sqlite3.OperationalError("no such table: files"), IndexDamaged, "damaged"),
        (sqlite3.OperationalError("too many SQL variables"), IndexStateError, "failed"),
        (sqlite3.OperationalError("disk I/O error"), StorageError, "disk I/O"),
        (sqlite3.DatabaseError("database disk image is malformed"), IndexDamaged, "damaged"),
    ],
)
def test_errors_of_sqlite_become_ours(error: sqlite3.Error, wanted: type[AgentError], words: str) -> None:
    ours = translated(error, Path("/cache/index"))
    assert type(ours) is wanted and words in ours.message and ours.remedy


@pytest.mark.parametrize("damaged", ["ledger.sqlite", "vectors.sqlite"])
def test_whatever_bit_of_a_header_or_schema_is_flipped_is_told_as_damage(
    tmp_path: Path, damaged: str
) -> None:
    files = (tmp_path / "ledger.sqlite", tmp_path / "vectors.sqlite")
    made = Ledger(*files)
    made.checkpoint()
    made.close()
    whole = {file: file.read_bytes() for file in files}
    for seed in range(400):
        for left in tmp_path.iterdir():
            left.unlink()
        for file, data in whole.items():
            file.write_bytes(data)
        chance, data = random.Random(seed), bytearray(whole[tmp_path / damaged])
        # Bytes 60 to 71 say whose file it is and of which version, which has sentences of its own.
        for at in (
            chance.choice([*range(60), *range(72, 100)]),
            *(chance.randrange(100, 4_096) for _ in range(seed % 30)),
        ):
            data[at] ^= 1 << chance.randrange(8)
        (tmp_path / damaged).write_bytes(data)
        try:
            opened = Ledger(*files)
        except IndexDamaged:
            continue
        try:
            with opened.transaction():
                opened.set_meta("k", "v")
                opened.counts("e")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            assert isinstance(translated(error, *files), IndexDamaged), (seed, error)
        finally:
            opened.close()


def test_a_file_that_may_not_be_written_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = sqlite3.OperationalError("attempt to write a readonly database")
    file = tmp_path / "ledger.sqlite"
    file.touch()
    assert isinstance(translated(error, file), IndexDamaged), "it is the file that says so"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert type(translated(error, file)) is AgentError


def test_many_processes_may_create_it_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from indexers.ledger import Ledger\n"
        "p = Path(sys.argv[1]); sys.stdin.read(1)\n"
        "l = Ledger(p / 'ledger.sqlite', p / 'vectors.sqlite'); l.chunk_ids(); l.close()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(6)]  # type: ignore[call-overload]
    for process in started:
        process.stdin.write(b"go")
        process.stdin.flush()
    assert [process.communicate()[1] for process in started] == [b""] * 6
    assert [process.returncode for process in started] == [0] * 6


def test_a_long_write_in_one_worktree_does_not_lock_the_vectors_of_another(tmp_path: Path) -> None:
    one = Ledger(tmp_path / "one.sqlite", tmp_path / "vectors.sqlite")
    two = Ledger(tmp_path / "two.sqlite", tmp_path / "vectors.sqlite")
    two._db.execute("PRAGMA busy_timeout = 10")
    with one.transaction():
        one.set_meta("reading", "many files")
        with two.transaction():
            two.put_vectors("e", [b"k"], np.ones((1, 2), np.float32))
    assert one.vectors_for("e", [b"k"])
    one.close()
    two.close()


def test_what_is_remembered_ends_with_the_next_write(ledger: Ledger, tmp_path: Path) -> None:
    put(ledger, "a.py", chunk("a.py", "alpha"))
    first, (stored,) = ledger.manifest(), ledger.chunks(ledger.chunk_ids()).values()
    assert ledger.manifest() is first and ledger.chunks([stored.id])[stored.id] is stored
    assert ledger.counts("e").pending == 1 and ledger.skipped() == ()
    with ledger.transaction():
        ledger.put_vectors("e", [stored.vector_key], np.ones((1, 4), np.float32))
    assert ledger.counts("e").pending == 0
    other = Ledger(tmp_path / "ledger.sqlite", tmp_path / "vectors.sqlite")
    put(other, "a.py", chunk("a.py", "beta"))
    with other.transaction():
        other.put_skipped(Skipped("b.bin", SkipReason.BINARY), STAT, 1)
    assert ledger.manifest().keys() == {"a.py", "b.bin"} and ledger.skipped()[0].path == "b.bin"
    assert [item.chunk.text for item in ledger.chunks(ledger.chunk_ids()).values()] == ["beta"]
    assert (ledger.counts("e").skipped, ledger.counts("e").pending, ledger.redactions()) == (1, 1, 1)
    other.close()


def test_nothing_is_remembered_of_what_was_rolled_back(ledger: Ledger) -> None:
    put(ledger, "a.py", chunk("a.py", "alpha"))
    with pytest.raises(ZeroDivisionError), ledger.transaction():
        ledger.remove(["a.py"])
        assert not ledger.manifest() and not ledger.counts("").chunks
        raise ZeroDivisionError
    assert ledger.manifest().keys() == {"a.py"} and ledger.counts("").chunks == 1


def test_chunks_come_in_order_of_their_numbers_remembered_or_not(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(ledger, "a.py", *(chunk("a.py", f"x = {n}", n + 1) for n in range(20)))
    monkeypatch.setattr("indexers.chunk_rows._KEPT_CHUNKS", 8)
    ids = ledger.chunk_ids()
    for asked in ([ids[9], ids[2]], [ids[2], ids[5], ids[9], 99_999], ids[::-1], [], [ids[3], ids[3]]):
        assert list(ledger.chunks(asked)) == sorted(set(asked) & set(ids))


def test_threads_may_read_while_one_writes(ledger: Ledger, tmp_path: Path) -> None:
    reader = Ledger(ledger.path, ledger.vectors_path)
    seen: list[int] = []

    def read() -> None:
        for _ in range(200):
            seen.append(len(reader.match(["alpha"], WEIGHTS, 1_000)))

    thread = threading.Thread(target=read)
    thread.start()
    for i in range(60):
        put(ledger, f"{i}.py", chunk(f"{i}.py", "alpha"))
    thread.join()
    reader.close()
    assert seen == sorted(seen) and max(seen) <= 60


def test_another_process_that_closes_does_not_delete_the_logs_that_we_use(
    ledger: Ledger, tmp_path: Path
) -> None:
    """It would, if we had lost our locks by opening and closing a database's file beside SQLite."""
    code = (
        "import sys; from pathlib import Path; from indexers.ledger import Ledger\n"
        "here = Path(sys.argv[1]); Ledger(here / 'ledger.sqlite', here / 'vectors.sqlite').close()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    assert (tmp_path / "ledger.sqlite-wal").exists() and (tmp_path / "vectors.sqlite-wal").exists()
    ledger.put_vectors("e", [b"k" * 16], np.ones((1, 4), np.float32))
    assert ledger.vectors_are_sound()


def test_files_stored_together_are_as_if_stored_one_by_one(tmp_path: Path) -> None:
    def content(ledger: Ledger) -> list[list[tuple[object, ...]]]:
        queries = (
            "SELECT * FROM files",
            "SELECT * FROM chunks",
            "SELECT rowid, * FROM keywords",
            "SELECT * FROM definitions",
            "SELECT * FROM file_words",
        )
        return [ledger._db.execute(f"{query} ORDER BY 1, 2").fetchall() for query in queries]

    read = {
        f"f{i}.py": [
            keyword_fields(
                chunk(f"f{i}.py", f"def name_{i}_{part}():\n    pass", 3 * part, (f"name_{i}_{part}",))
            )
            for part in (1, 2)
        ]
        for i in range(5)
    }
    new = [NewFile(path, path, "python", STAT, 9, chunks, 0, b"w") for path, chunks in read.items()]
    together, apart = Ledger(tmp_path / "a", tmp_path / "va"), Ledger(tmp_path / "b", tmp_path / "vb")
    for again in (new, new[1:3]):
        with together.transaction():
            together.put_files(again)
        with apart.transaction():
            for file in again:
                apart.put_file(*file)
    assert content(together) == content(apart) and len(content(together)[1]) == 10
    assert [item.chunk.path for item in together.chunks(together.defining("name_2_1")).values()] == ["f2.py"]
