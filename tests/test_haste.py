"""A search on a tree never read: what it asks for is read first, the rest behind it; nothing old is answered from."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent import api
from agent.api import Agent
from agent.config import load_settings
from indexers import haste
from indexers.config import IndexConfig
from indexers.filters import EVERYTHING, Filter
from indexers.git import Repository
from indexers.haste import Haste, likeliest_first
from tests.repos import make_repo, write

MANY = 500
PATIENCE = 240.0
FILES = {f"src/m{i:03}.py": f"def function_{i:03}(value):\n    return value * {i}\n" for i in range(MANY)}
FILES["src/m470.py"] += "\n\ndef settle_the_quixotic_invoice():\n    return 1\n"
CONFIG = IndexConfig()
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", FILES)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for more than the first files."""
    monkeypatch.setattr(api, "SEARCH_PATIENCE", 0.0)
    monkeypatch.setattr(haste, "LITTLE_SECONDS", 0.0)
    monkeypatch.setattr(haste, "LEAST_SECONDS", 0.0)


@pytest.fixture
def agent(root: Path) -> Iterator[Agent]:
    with opened(root, behind=True) as made:
        yield made
        made.stop_background(PATIENCE)


def opened(root: Path, *, behind: bool) -> Agent:
    return Agent.open(root, settings=replace(load_settings(root, {}), embedder="hash"), background=behind)


def rows(agent: Agent) -> list[tuple[str, int, int, str]]:
    ledger = agent.workspace.ledger
    stored = ledger.chunks(ledger.chunk_ids()).values()
    return sorted((c.chunk.path, c.chunk.start_line, c.chunk.end_line, c.chunk.text) for c in stored)


def ordered(root: Path, words: str, only: Filter = EVERYTHING) -> list[str]:
    files = Repository.discover(root).list_files()
    return [file.path for file in likeliest_first(root, files, CONFIG, Haste(9.0, words.split(), only))]


def test_rare_words_of_a_query_come_first_in_text_and_in_paths(root: Path) -> None:
    write(root, {"src/quixotic.py": "value = 1\n"})
    assert ordered(root, "return quixotic")[:2] == ["src/quixotic.py", "src/m470.py"]


def test_of_two_files_that_hold_the_same_the_shorter_is_read_first(root: Path) -> None:
    write(root, {"src/a.py": "# quixotic\n" + "x = 1\n" * 5_000, "src/b.py": "# quixotic\n" + "x = 1\n" * 50})
    assert ordered(root, "quixotic")[1:3] == ["src/b.py", "src/a.py"]


def test_files_that_a_filter_leaves_out_are_read_last(root: Path) -> None:
    write(root, {"docs/quixotic.md": "quixotic " * 9})
    found = ordered(root, "quixotic", Filter(paths=["src/**"]))
    assert (found[0], found[-1]) == ("src/m470.py", "docs/quixotic.md")


def test_files_that_may_not_be_read_are_not_looked_into(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text("quixotic\n")
    write(root, {".env": "TOKEN=quixotic\n"})
    (root / "src/a.py").symlink_to(outside)
    os.mkfifo(root / "src/b.py")
    assert ordered(root, "quixotic")[0] == "src/m470.py", "all others are shorter"


def test_few_files_and_no_query_keep_their_order(root: Path) -> None:
    files = Repository.discover(root).list_files()
    assert likeliest_first(root, files, CONFIG, Haste(9.0)) == files
    few = files[-haste.FILES_AT_ONCE :]
    assert likeliest_first(root, few, CONFIG, Haste(9.0, ("quixotic",))) == few


def test_no_time_to_look_still_goes_by_paths(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haste, "LOOKING_SECONDS", 0.0)
    write(root, {"src/quixotic.py": "value = 1\n"})
    files = Repository.discover(root).list_files()
    assert likeliest_first(root, files, CONFIG, Haste(9.0, ("quixotic",)))[0].path == "src/quixotic.py"


@pytest.mark.usefixtures("impatient")
def test_a_first_search_answers_from_what_it_read_and_a_worker_reads_the_rest(agent: Agent) -> None:
    hits = agent.search("settle the quixotic invoice", 3)
    assert hits[0].path == "src/m470.py"
    assert [note for note in agent.notes if note.startswith("Answered from 16 of 500 files")], agent.notes
    assert agent.workspace.freshness()["files_pending"] == MANY - 16
    end = time.monotonic() + PATIENCE
    while (status := agent.status()).files_pending or status.vectors_pending:
        assert time.monotonic() < end, "the rest was never read"
        time.sleep(0.5)
    assert status.files == MANY and not status.stale
    agent.notes.clear()
    assert agent.search("function_003")[0].path == "src/m003.py"
    assert agent.notes == [] and agent.workspace.freshness()["fresh"]


@pytest.mark.usefixtures("impatient")
def test_what_is_stored_is_never_out_of_date_however_great_the_haste(agent: Agent, root: Path) -> None:
    agent.search("settle the quixotic invoice", 3)
    agent.stop_background(PATIENCE)
    write(root, {"src/m470.py": "def settle_the_panglossian_invoice():\n    return 1\n"})
    hits = agent.search("quixotic", 3)
    assert not [hit for hit in hits if "quixotic" in hit.text]
    assert agent.search("panglossian", 3)[0].path == "src/m470.py"


@pytest.mark.usefixtures("impatient")
def test_an_index_made_in_haste_ends_up_as_one_made_at_leisure(agent: Agent, root: Path) -> None:
    agent.search("settle the quixotic invoice", 3)
    agent.stop_background(PATIENCE)
    assert agent.workspace.builder().read_rest(lambda: False) > 0
    made = rows(agent)
    with opened(root, behind=False) as other:
        other.index(rebuild=True)
        assert made == rows(other) and len(made) >= MANY


@pytest.mark.usefixtures("impatient")
def test_without_a_worker_everything_is_read_before_the_answer(root: Path) -> None:
    with opened(root, behind=False) as agent:
        agent.search("settle the quixotic invoice", 3)
        assert agent.status().files == MANY and not agent.status().files_pending


@pytest.mark.usefixtures("impatient")
def test_a_worker_reads_by_the_settings_of_who_started_it(root: Path) -> None:
    settings = replace(load_settings(root, {}), embedder="hash", exclude=("src/m1*.py",))
    with Agent.open(root, settings=settings, background=True) as agent:
        agent.search("settle the quixotic invoice", 3)
        end = time.monotonic() + PATIENCE
        while agent.status().files_pending:
            assert time.monotonic() < end, "the rest was never read"
            time.sleep(0.5)
        assert (agent.status().files, agent.status().skipped) == (MANY - 100, 100)
        agent.stop_background(PATIENCE)


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_is_killed_while_it_reads_leaves_an_index_that_goes_on(
    agent: Agent, root: Path
) -> None:
    agent.search("settle the quixotic invoice", 3)
    end = time.monotonic() + PATIENCE
    while (worker := agent.workspace.builder().reading.holder()) is None and agent.status().files_pending:
        assert time.monotonic() < end, "no worker came"
        time.sleep(0.01)
    if worker is not None and worker.pid:
        os.kill(worker.pid, signal.SIGKILL)
    with opened(root, behind=False) as other:
        assert other.index().chunks >= MANY
        assert other.check().faults == ()


@pytest.mark.usefixtures("impatient")
def test_nothing_found_is_never_said_of_a_part_of_the_tree(agent: Agent, root: Path) -> None:
    write(root, {"bin/deploy": "#!/bin/bash\necho hello\n"})
    found = agent.search("return value", 3, only=Filter(languages=["bash"]))
    assert found == [] and not agent.workspace.unread, "all was read before that was said"
    assert not [note for note in agent.notes if "Nothing is indexed" in note]


@pytest.mark.usefixtures("impatient")
def test_a_filter_is_kept_by_the_first_line_where_a_name_has_no_ending(root: Path) -> None:
    write(root, {"bin/deploy": "#!/bin/bash\necho quixotic\n"})
    assert ordered(root, "quixotic", Filter(languages=["bash"]))[0] == "bin/deploy"


@pytest.mark.usefixtures("impatient")
def test_the_rest_is_read_although_somebody_makes_vectors(agent: Agent) -> None:
    with agent.workspace.builder().claim.held(agent.root, background=False):
        agent.search("settle the quixotic invoice", 3)
        assert [note for note in agent.notes if "a worker reads the rest" in note], agent.notes
        end = time.monotonic() + PATIENCE
        while agent.status().files_pending:
            assert time.monotonic() < end, "the rest was never read"
            time.sleep(0.5)


@pytest.mark.usefixtures("impatient")
def test_a_worker_never_clears_what_others_read_by_newer_settings(agent: Agent, root: Path) -> None:
    older = agent.workspace.builder()
    newer = replace(load_settings(root, {}), embedder="hash", exclude=("src/m1*.py",))
    with Agent.open(root, settings=newer) as other:
        other.refresh()
        made = rows(other)
        assert older.read_rest(lambda: False) == 0
        assert rows(other) == made


def test_a_pasted_file_as_a_query_costs_no_more_than_a_sentence(root: Path) -> None:
    files = Repository.discover(root).list_files()
    words = tuple(f"word{number}" for number in range(3_000))
    began = time.process_time()
    likeliest_first(root, files, CONFIG, Haste(9.0, words))
    assert time.process_time() - began < 3.0


@pytest.mark.usefixtures("impatient")
def test_a_worker_stops_after_a_few_files_when_it_is_asked_to(agent: Agent) -> None:
    agent.workspace.refresh(Haste(0.0, ("quixotic",)))
    asked = iter([False, False, True])
    read = agent.workspace.builder().read_rest(lambda: next(asked, True))
    assert 0 < read < MANY - haste.FILES_AT_ONCE
    assert agent.workspace.builder().read_rest(lambda: False) == MANY - haste.FILES_AT_ONCE - read
