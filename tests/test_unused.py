"""Vectors outlive branches, reverts and trials of another embedder; what nothing uses for a month goes at last."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.api import Agent
from agent.config import load_settings
from indexers import made_by, unused
from indexers.hash_embedder import HashEmbedder
from tests.repos import git, make_repo, write

DAY = 86_400
START = 1_800_000_000.0


def texts(letter: str, count: int) -> dict[str, str]:
    return {f"{letter}{i}.py": f"def {letter}_{i}():\n    return {i}\n" for i in range(count)}


class OtherWeights(HashEmbedder):
    """Has the name and the length of the hashing embedder, and vectors that mean something else."""

    def fingerprint(self) -> str:
        return "f" * 16

    def _vector(self, text: str) -> list[float]:
        return super()._vector(text[::-1])


class OtherLength(HashEmbedder):
    """Has the name of the hashing embedder and shorter vectors."""

    dimensions = 64


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = make_repo(tmp_path / "repo", texts("a", 10))
    git(root, "checkout", "-q", "-b", "side")
    write(root, texts("b", 10))
    git(root, "add", "-A")
    git(root, "commit", "-qm", "side")
    return root


def opened(root: Path) -> Agent:
    return Agent.open(root, settings=replace(load_settings(root, {}), embedder="hash"))


def indexed(root: Path) -> tuple[int, int]:
    """How many vectors an index made, and how many are kept."""
    with opened(root) as agent:
        # It does not look for what is unused: that is for `collected`, by a clock of its own.
        agent.workspace.ledger.set_meta("unused_looked", str(int(time.time())))
        report = agent.index()
        return report.vectors_embedded, kept(agent)


def kept(agent: Agent) -> int:
    return int(agent.workspace.ledger._db.execute("SELECT count(*) FROM shared.vectors").fetchone()[0])


def collected(root: Path, days: float) -> list[str]:
    with opened(root) as agent:
        return unused.collect(agent.workspace.ledger, agent.workspace.directory, START + days * DAY)


def test_a_branch_that_is_left_for_a_month_is_embedded_again_and_no_sooner(root: Path) -> None:
    assert indexed(root) == (20, 20)
    git(root, "checkout", "-q", "main")
    assert indexed(root) == (0, 20)
    assert collected(root, 0) == [] and collected(root, 29) == []
    git(root, "checkout", "-q", "side")
    assert indexed(root) == (0, 20), "nothing was lost"
    assert collected(root, 30) == []
    git(root, "checkout", "-q", "main")
    indexed(root)
    # The month begins anew.
    assert collected(root, 31) == [] and collected(root, 60) == []
    (said,) = collected(root, 62)
    assert said.startswith("10 vectors that nothing has used for 30 days")
    assert indexed(root) == (0, 10)
    git(root, "checkout", "-q", "side")
    assert indexed(root) == (10, 20)


def test_it_looks_once_a_day(root: Path) -> None:
    with opened(root) as agent:
        agent.index()
        assert abs(int(agent.workspace.ledger.meta("unused_looked")) - time.time()) < 60
    assert collected(root, 0) == [] and collected(root, 0.5) == []
    with opened(root) as agent:
        assert int(agent.workspace.ledger.meta("unused_looked")) == START


def test_a_small_part_is_left_alone(root: Path) -> None:
    indexed(root)
    (root / "b0.py").unlink()
    assert indexed(root) == (0, 20)
    assert collected(root, 0) == collected(root, 90) == []
    assert indexed(root) == (0, 20)


def test_what_another_worktree_uses_stays(root: Path, tmp_path: Path) -> None:
    indexed(root)
    git(root, "worktree", "add", "-q", "--detach", str(tmp_path / "other"), "side")
    assert indexed(tmp_path / "other") == (0, 20)
    git(root, "checkout", "-q", "main")
    indexed(root)
    assert collected(root, 0) == collected(root, 40) == []
    # The same worktree, when it is gone.
    git(root, "worktree", "remove", "--force", str(tmp_path / "other"))
    assert collected(root, 50) == [] and len(collected(root, 81)) == 1


def test_an_index_of_another_repository_says_nothing(root: Path, tmp_path: Path) -> None:
    twin = make_repo(tmp_path / "twin", {**texts("a", 10), **texts("b", 10)})
    indexed(twin)
    indexed(root)
    git(root, "checkout", "-q", "main")
    indexed(root)
    assert collected(root, 0) == [] and len(collected(root, 31)) == 1
    assert indexed(twin) == (0, 20)


def test_an_index_that_cannot_be_read_keeps_everything(root: Path) -> None:
    indexed(root)
    git(root, "checkout", "-q", "main")
    indexed(root)
    with opened(root) as agent:
        other = agent.workspace.directory.parent / "unreadable"
        other.mkdir(mode=0o700)
        (other / "ledger.sqlite").write_bytes(b"garbage" * 1_000)
    assert collected(root, 0) == collected(root, 40) == []
    (other / "ledger.sqlite").unlink()
    assert collected(root, 50) == [] and len(collected(root, 81)) == 1


def test_a_clock_that_was_ahead_does_no_harm(root: Path) -> None:
    indexed(root)
    git(root, "checkout", "-q", "main")
    indexed(root)
    assert collected(root, 4_000) == collected(root, 0) == collected(root, 29) == []
    assert len(collected(root, 31)) == 1


def test_space_is_given_back(root: Path) -> None:
    git(root, "checkout", "-q", "main")
    write(root, texts("c", 400))
    assert indexed(root) == (410, 410)
    for path in root.glob("c*.py"):
        path.unlink()
    indexed(root)
    with opened(root) as agent:
        path = agent.workspace.ledger.vectors_path
    before = path.stat().st_size
    collected(root, 0), collected(root, 31)
    with opened(root) as agent:
        agent.workspace.ledger.checkpoint()
    assert path.stat().st_size < before / 4


# -- another embedder ----------------------------------------------------------------------------


@pytest.mark.parametrize("other", [OtherWeights(), OtherLength()])
def test_another_embedder_is_named_never_mixed_and_made_on_request(root: Path, other: HashEmbedder) -> None:
    with opened(root) as agent:
        agent.index()
        assert made_by.changed(agent.workspace.ledger, HashEmbedder()) == ""
        said = made_by.changed(agent.workspace.ledger, other)
        assert "hash (256 dimensions" in said and f"hash ({other.dimensions} dimensions" in said
        assert other.fingerprint()[:8] in said and HashEmbedder().fingerprint()[:8] in said
        vector = other.embed_query("def a_3")
        assert agent.workspace.index().by_vector(other.fingerprint(), vector, 10) == [], (
            "none of the old ones"
        )
        assert agent.workspace.index().counts(other.fingerprint()).pending == 20
        # On request, all of them; and the old ones are kept for whoever changes back.
        report = agent.workspace.builder().run(other)
        assert (report.vectors_embedded, report.vectors_pending) == (20, 0)
        assert (
            made_by.changed(agent.workspace.ledger, other)
            == ""
            != made_by.changed(agent.workspace.ledger, HashEmbedder())
        )
        assert len(agent.workspace.index().by_vector(other.fingerprint(), vector, 50)) == 20
        assert agent.workspace.builder().store.keys(HashEmbedder().fingerprint()) is None
        assert agent.index().vectors_embedded == 0


def test_a_changed_embedder_is_told_and_starts_no_worker(root: Path, tmp_path: Path) -> None:
    with opened(root) as agent:
        agent.workspace.builder().run(OtherWeights())
    settings = replace(load_settings(root, {}), embedder="hash")
    with Agent.open(root, settings=settings, background=True) as agent:
        hits = agent.search("a_3")
        assert hits[0].path == "a3.py"
        assert [note for note in agent.notes if "The vectors of this index were made by hash" in note]
        assert not (agent.workspace.directory / "background.log").exists()
        assert agent.status().vectors_pending
        agent.index()
        assert not agent.notes and made_by.changed(agent.workspace.ledger, HashEmbedder()) == ""


def test_vectors_of_an_embedder_that_is_no_longer_used_go_too(root: Path) -> None:
    with opened(root) as agent:
        agent.workspace.builder().run(OtherWeights())
        agent.index()
        assert kept(agent) == 40
    assert collected(root, 0) == [] and len(collected(root, 31)) == 1
    assert indexed(root) == (0, 20)


@pytest.mark.parametrize("note", ["", "x", "[]", "{}", '{"name": 1}'])
def test_a_note_that_is_none_says_nothing(note: str) -> None:
    assert made_by.parsed(note) is None
