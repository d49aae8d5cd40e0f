"""The index is a cache: whatever happens to its files, the facade says so in one sentence or mends it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.api import Agent
from agent.config import load_settings
from indexers.errors import AgentError, BusyError, UsageError
from indexers.locks import locked
from tests.repos import make_repo, write

FILES = {f"src/m{i:02}.py": f"def function_{i:02}(value):\n    return value * {i}\n" * 12 for i in range(40)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", FILES)


def opened(root: Path) -> Agent:
    return Agent.open(root, settings=replace(load_settings(root, {}), embedder="hash"))


@pytest.fixture
def indexed(root: Path) -> Iterator[Agent]:
    with opened(root) as agent:
        agent.index()
        yield agent


def scramble(path: Path) -> None:
    """Overwrite most pages but the first ones: the file still opens."""
    data = bytearray(path.read_bytes())
    chance = random.Random(1)
    for start in range(2 * 4096, len(data), 4096):
        if chance.random() < 0.8:
            size = len(data[start : start + 3_000])
            data[start : start + size] = chance.randbytes(size)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("which", ["path", "vectors_path"])
@pytest.mark.parametrize("command", ["index", "search"])
def test_a_damaged_database_is_mended_by_the_next_command_which_says_so(
    indexed: Agent, which: str, command: str
) -> None:
    path: Path = getattr(indexed.workspace.ledger, which)
    indexed.close()
    scramble(path)
    with opened(indexed.root) as agent:
        if command == "index":
            assert "is damaged" in " ".join(agent.index().notes)
        assert agent.search("function_07")[0].path == "src/m07.py"
        if command == "search" and which == "path":
            assert "is damaged" in " ".join(agent.notes) and "built anew" in " ".join(agent.notes)
        report = agent.index()
        assert report.vectors_pending == 0 and report.chunks == 40
        # Only what could not be read any more was embedded again.
        assert which == "vectors_path" or report.vectors_embedded == 0
        assert agent.index().indexed == 0 and agent.check().faults == ()


@pytest.mark.parametrize("which", ["path", "vectors_path"])
@pytest.mark.parametrize("content", [b"", b"garbage" * 2_000])
def test_a_lost_or_unreadable_database_is_built_anew(indexed: Agent, which: str, content: bytes) -> None:
    path: Path = getattr(indexed.workspace.ledger, which)
    indexed.close()
    path.write_bytes(content)
    with opened(indexed.root) as agent:
        assert bool(agent.notes) is bool(content)
        assert agent.search("function_07")[0].path == "src/m07.py"
        assert agent.index().vectors_pending == 0


def test_a_rebuild_embeds_nothing_again(indexed: Agent) -> None:
    report = indexed.index(rebuild=True)
    assert report.indexed == 40 and report.vectors_embedded == 0 and report.vectors_pending == 0
    assert indexed.search("function_07")[0].path == "src/m07.py"


def test_a_rebuild_waits_for_whoever_is_writing(indexed: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.workspace.locked", lambda path: locked(path, 0.05))
    with locked(indexed.workspace.builder().lock), pytest.raises(BusyError):
        indexed.index(rebuild=True)
    assert indexed.search("function_07")


def test_the_tree_is_searched_as_it_is_now(indexed: Agent) -> None:
    write(indexed.root, {"src/new.py": "def brand_new_function():\n    return 1\n"})
    assert indexed.search("brand_new_function")[0].path == "src/new.py"
    (indexed.root / "src/new.py").unlink()
    assert all(hit.path != "src/new.py" for hit in indexed.search("brand_new_function"))


@pytest.mark.parametrize("query", ['"', "\x00", "\udcff", "NEAR(", "a" * 50_000, "配置", "x"])
def test_odd_queries_are_answered(indexed: Agent, query: str) -> None:
    assert isinstance(indexed.search(query, 3)._repr_html_(), str)


@pytest.mark.parametrize(("query", "k"), [("", 5), (" \n", 5), ("x", 0), ("x", -1), ("x", 10**9)])
def test_wrong_arguments_are_told(indexed: Agent, query: str, k: int) -> None:
    with pytest.raises(UsageError):
        indexed.search(query, k)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_index_that_cannot_be_written_is_told(indexed: Agent) -> None:
    directory = indexed.workspace.directory
    indexed.close()
    directory.chmod(0o500)
    try:
        with pytest.raises(AgentError):
            opened(indexed.root).index()
    finally:
        directory.chmod(0o700)
