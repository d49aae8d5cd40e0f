"""States on disk: whole or not there, whatever happens to the process, the disk or the file; and never too many."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from chains.kv import store as kv_store
from chains.kv.store import Entry, KvStore


@pytest.fixture
def store(tmp_path: Path) -> KvStore:
    return KvStore(tmp_path / "kv", 100_000)


def entry(key: str, **values: object) -> Entry:
    return replace(Entry(key, "source", "model", 10, 5, "a.py"), **values)  # type: ignore[arg-type]


def data(size: int, byte: int = 7) -> memoryview:
    return memoryview(bytes([byte]) * size)


def test_what_was_put_is_got(store: KvStore) -> None:
    one = entry("a", kind="tail", tokens=(1, 2, 3), label='"\0 ü')
    assert store.put(one, data(1_000)) and store.has("a")
    assert store.get("a") == (one, bytearray(data(1_000)))
    assert store.get("b") is None and not store.has("b")
    assert KvStore(store.directory).get("a") == (one, bytearray(data(1_000)))


def test_the_files_are_private(store: KvStore) -> None:
    store.put(entry("a"), data(10))
    (file,) = store.directory.iterdir()
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("at", [0, 8, 12, 40, -1])
def test_a_flipped_bit_anywhere_is_a_miss_and_goes(store: KvStore, at: int) -> None:
    store.put(entry("a"), data(1_000))
    (file,) = store.directory.iterdir()
    whole = bytearray(file.read_bytes())
    whole[at] ^= 1
    file.write_bytes(whole)
    assert store.get("a") is None and not file.exists()


@pytest.mark.parametrize("length", [0, 3, 15, 60, -1])
def test_a_file_cut_short_is_a_miss(store: KvStore, length: int) -> None:
    store.put(entry("a"), data(1_000))
    (file,) = store.directory.iterdir()
    file.write_bytes(file.read_bytes()[:length])
    assert store.get("a") is None and not file.exists()


def test_a_sound_file_of_another_name_or_a_directory_is_a_miss(store: KvStore) -> None:
    store.put(entry("a"), data(10))
    (file,) = store.directory.iterdir()
    file.rename(store.directory / "b.kv")
    assert store.get("b") is None
    (store.directory / "c.kv").mkdir()
    assert store.get("c") is None and store.entries() == []


def test_the_least_recently_used_goes_first(store: KvStore) -> None:
    for number in range(4):
        store.put(entry(str(number)), data(20_000))
        os.utime(store.directory / f"{number}.kv", (number + 1, number + 1))
    assert store.get("0") is not None  # used now
    assert store.put(entry("new"), data(24_000))
    assert store.has("0") and store.has("new") and not store.has("1")
    assert store.totals().bytes <= 100_000
    assert [listed.entry.key for listed in store.entries()][-1] in "23"


def test_what_is_too_large_to_be_kept_with_others_is_not(store: KvStore) -> None:
    assert not store.put(entry("a"), data(25_001))
    assert store.totals().entries == 0


def test_pruning_by_size_and_age(store: KvStore) -> None:
    for number in range(4):
        store.put(entry(str(number)), data(1_000))
        os.utime(store.directory / f"{number}.kv", (number + 1, number + 1))
    removed = store.prune(100_000, older_than=2.5)
    assert removed.entries == 2 and not store.has("0") and store.has("2")
    assert store.prune(1_500).entries == 1 and store.has("3")
    assert store.clear().entries == 1 and store.totals().entries == 0


def test_clearing_takes_along_what_was_left_half_written(store: KvStore) -> None:
    store.put(entry("a"), data(10))
    (store.directory / "b.1.new").write_bytes(b"half")
    (store.directory / "mine.txt").write_bytes(b"not ours")
    store.clear()
    assert [file.name for file in store.directory.iterdir()] == ["mine.txt"]


def test_a_full_disk_is_said_once_and_leaves_nothing(store: KvStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        kv_store.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 600 * 2**20 - 1_000})
    )
    monkeypatch.setattr(kv_store, "_LEAVE_FREE", 600 * 2**20)
    assert not store.put(entry("a"), data(10)) and "full" in store.failure
    assert store.totals().entries == 0


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = KvStore(tmp_path / "file" / "kv")
    assert not store.put(entry("a"), data(10)) and "cannot be kept" in store.failure
    assert store.get("a") is None and store.totals().entries == 0 and store.clear().entries == 0


_WRITER = """
import sys
from pathlib import Path
from chains.kv.store import Entry, KvStore
store = KvStore(Path(sys.argv[1]), 10**9)
number = int(sys.argv[2])
print("ready", flush=True)
while True:
    for key in "abcdef":
        data = bytes([number]) * 3_000_000
        store.drop(key)
        store.put(Entry(key, "source", "m", 0, 1, str(number)), memoryview(data))
"""


def test_killed_writers_and_readers_beside_them_never_meet_half_a_state(tmp_path: Path) -> None:
    """Processes write the same keys and are killed in the middle, again and again; what is read is whole."""
    place, seen = tmp_path / "kv", 0
    store = KvStore(place, 10**9)
    root = Path(__file__).parents[1]
    end = time.monotonic() + 4
    while time.monotonic() < end:
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", _WRITER, str(place), str(number)], stdout=subprocess.PIPE, cwd=root
            )
            for number in (1, 2)
        ]
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline()
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            for key in "abcdef":
                if found := store.get(key):
                    seen += 1
                    assert set(found[1]) == {int(found[0].label)} and len(found[1]) == 3_000_000
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()
    assert seen > 3
    # What was killed in the middle lies there under a name that nobody reads, and goes in time.
    for file in place.glob("*.new"):
        os.utime(file, (1, 1))
    store.prune(10**9)
    assert not list(place.glob("*.new"))
