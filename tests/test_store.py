"""The Chroma door, with real Chroma: exact contents, never mixed, rebuilt whatever happened to its files."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from indexers.errors import BusyError
from indexers.locks import locked
from indexers.store import VectorStore

RANDOM = np.random.default_rng(7)
# More than Chroma keeps in its log before it writes a graph to disk.
MANY = 1_200
VECTORS = RANDOM.normal(size=(MANY, 16)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
KEYS = [number.to_bytes(16, "big") for number in range(MANY)]
BY_KEY = dict(zip(KEYS, VECTORS, strict=True))


def vectors(keys: Sequence[bytes]) -> np.ndarray:
    return np.stack([BY_KEY[key] for key in keys])


def filled(directory: Path, count: int, fingerprint: str = "one") -> VectorStore:
    store = VectorStore(directory / "chroma")
    store.sync(fingerprint, set(KEYS[:count]), vectors)
    return store


def serves(store: VectorStore, count: int, fingerprint: str = "one") -> bool:
    """Whether it holds exactly the first `count` keys and finds each by its vector."""
    nearest = [store.query(fingerprint, VECTORS[i], 1) for i in range(0, count, max(1, count // 10))]
    return store.keys(fingerprint) == set(KEYS[:count]) and [n and n[0][0] for n in nearest] == [
        KEYS[i] for i in range(0, count, max(1, count // 10))
    ]


def test_it_holds_exactly_what_it_was_told(tmp_path: Path) -> None:
    store = filled(tmp_path, 30)
    assert serves(store, 30)
    seen: list[tuple[int, int]] = []
    assert store.sync("one", set(KEYS[:20]), vectors) is False
    assert serves(store, 20)
    assert store.sync("one", set(KEYS[:40]), vectors, lambda done, total: seen.append((done, total))) is False
    assert serves(store, 40) and seen == [(20, 20)]
    assert store.sync("one", set(), vectors) is False
    assert store.keys("one") == set() and store.query("one", VECTORS[0], 1) is None


def test_only_what_is_new_is_asked_for(tmp_path: Path) -> None:
    store = filled(tmp_path, 30)

    def none_wanted(keys: Sequence[bytes]) -> np.ndarray:
        raise AssertionError(f"asked for {keys}")

    assert store.sync("one", set(KEYS[:30]), none_wanted) is False


def test_scores_are_cosines_best_first(tmp_path: Path) -> None:
    store = filled(tmp_path, 50)
    near = store.query("one", VECTORS[3], 50)
    assert near is not None and len(near) == 50
    assert near[0][0] == KEYS[3] and near[0][1] == pytest.approx(1.0, abs=1e-5)
    for key, score in near:
        assert score == pytest.approx(float(BY_KEY[key] @ VECTORS[3]), abs=1e-5)
    assert [score for _, score in near] == sorted((score for _, score in near), reverse=True)
    assert len(store.query("one", VECTORS[3], 5) or ()) == 5
    assert len(store.query("one", VECTORS[3], 500) or ()) == 50


def test_vectors_of_another_embedder_are_never_mixed(tmp_path: Path) -> None:
    store = filled(tmp_path, 30)
    assert store.query("two", VECTORS[0], 1) is None and store.keys("two") is None
    assert store.sync("two", set(KEYS[10:20]), vectors) is True
    assert store.keys("two") == set(KEYS[10:20]) and store.keys("one") is None
    assert len([entry for entry in store.directory.iterdir() if entry.is_dir()]) == 1


def test_nothing_there_serves_nothing_and_makes_nothing(tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "chroma")
    assert store.query("one", VECTORS[0], 1) is None and store.keys("one") is None
    assert list(tmp_path.iterdir()) == []
    store.drop()
    store.directory.mkdir()
    assert store.query("one", VECTORS[0], 1) is None
    assert store.sync("one", set(KEYS[:5]), vectors) is False and serves(store, 5)


def test_it_is_private(tmp_path: Path) -> None:
    store = filled(tmp_path, 5)
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700


def test_drop(tmp_path: Path) -> None:
    store = filled(tmp_path, 5)
    store.drop()
    assert not store.directory.exists() and store.keys("one") is None
    assert store.sync("one", set(KEYS[:5]), vectors) is False and serves(store, 5)


# -- damage -------------------------------------------------------------------------------------------


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _empty(file: Path) -> None:
    os.truncate(file, 0)


def _scramble(file: Path) -> None:
    file.write_bytes(np.random.default_rng(1).bytes(file.stat().st_size))


GRAPH = ["data_level0.bin", "index_metadata.pickle", "link_lists.bin", "header.bin", "length.bin"]
DAMAGES = [(name, damage) for name in ("chroma.sqlite3", *GRAPH) for damage in (_cut, Path.unlink)]
DAMAGES += [("chroma.sqlite3", _empty), ("chroma.sqlite3", _scramble), ("data_level0.bin", _scramble)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("large")
    store = filled(directory, MANY)
    assert serves(store, MANY)
    assert len(list(store.directory.glob("*/*"))) == 5
    return directory


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_any_damaged_file_is_noticed_and_mended(
    tmp_path: Path, large: Path, name: str, damage: Callable[[Path], None]
) -> None:
    shutil.copytree(large, tmp_path / "copy")
    store = VectorStore(tmp_path / "copy" / "chroma")
    damage(next(store.directory.rglob(name)))
    nearest = store.query("one", VECTORS[5], 1)
    assert nearest is None or nearest[0][0] == KEYS[5]
    store.sync("one", set(KEYS), vectors)
    assert serves(store, MANY)


def test_a_missing_directory_of_the_graph_is_noticed(tmp_path: Path, large: Path) -> None:
    shutil.copytree(large, tmp_path / "copy")
    store = VectorStore(tmp_path / "copy" / "chroma")
    shutil.rmtree(next(entry for entry in store.directory.iterdir() if entry.is_dir()))
    assert store.query("one", VECTORS[5], 1) is None
    assert store.sync("one", set(KEYS), vectors) is True and serves(store, MANY)


def test_reading_breaks_no_seal(large: Path) -> None:
    store = VectorStore(large / "chroma")
    for _ in range(3):
        assert serves(store, MANY)
    assert store.sync("one", set(KEYS), vectors) is False


@pytest.mark.parametrize("damage", [_cut, _empty, _scramble], ids=lambda damage: damage.__name__)
def test_a_small_collection_is_mended_too(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    store = filled(tmp_path, 20)
    for file in [file for file in store.directory.rglob("*") if file.is_file()]:
        damage(file)
    assert store.query("one", VECTORS[5], 1) is None
    store.sync("one", set(KEYS[:20]), vectors)
    assert serves(store, 20)


def test_a_marker_left_behind_means_rebuild(tmp_path: Path) -> None:
    store = filled(tmp_path, 30)
    store._dirty.touch()
    assert store.query("one", VECTORS[0], 1) is None and store.keys("one") is None
    assert store.sync("one", set(KEYS[:30]), vectors) is True
    assert not store._dirty.exists() and serves(store, 30)


def test_an_interrupted_writer_leaves_the_marker(tmp_path: Path) -> None:
    store = filled(tmp_path, 10)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.sync("one", set(KEYS[:30]), vectors, stop)
    assert store._dirty.exists() and store.query("one", VECTORS[0], 1) is None
    assert store.sync("one", set(KEYS[:30]), vectors) is True and serves(store, 30)


def test_a_search_does_not_wait_for_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexers.store.QUERY_WAIT_SECONDS", 0.1)
    store = filled(tmp_path, 10)
    with locked(store._lock):
        assert store.query("one", VECTORS[0], 1) is None
    assert not store._dirty.exists() and serves(store, 10)


def test_a_writer_waits_for_a_writer(tmp_path: Path) -> None:
    store = filled(tmp_path, 10)
    with locked(store._lock), pytest.raises(BusyError), locked(store._lock, 0.1):
        pass
