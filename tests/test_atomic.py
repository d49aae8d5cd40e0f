"""Small files are replaced whole or not at all."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from indexers.atomic import write_whole


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_and_private_unless_said_otherwise(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "a.json"
    for data in (b"one", b"two"):
        write_whole(path, data, durable=durable)
        assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]


def test_a_link_is_replaced_and_what_it_names_left_alone(tmp_path: Path) -> None:
    other, link = tmp_path / "other", tmp_path / "link"
    other.write_bytes(b"theirs")
    link.symlink_to(other)
    write_whole(link, b"ours")
    assert other.read_bytes() == b"theirs" and link.read_bytes() == b"ours" and not link.is_symlink()


def test_where_it_cannot_be_written_what_was_there_stays_and_nothing_is_left(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "inside").write_bytes(b"kept")
    with pytest.raises(OSError):
        write_whole(taken, b"new")
    assert (taken / "inside").read_bytes() == b"kept"
    assert [found.name for found in tmp_path.iterdir()] == ["taken"]


def test_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a"
    texts = [bytes([65 + number]) * 50_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_whole(path, text), texts))
    assert path.read_bytes() in texts and len(list(tmp_path.iterdir())) == 1
