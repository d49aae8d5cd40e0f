"""The soak's own parts: a tree goes on through whatever is done to it, and a judge sees what must never happen."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
import scale
import scale_repos
from soak_tool import Judge, _as_on_disk
from soak_tree import Tree

from tests.repos import commit, git, make_repo, write

SOURCE = "def one():\n    return 1\n\n\ndef two():\n    return 2\n"


class Told:
    """A tool that finds what it is told to find, and explains as it is told."""

    def __init__(self) -> None:
        self.hits: list[dict[str, Any]] = []
        self.said: list[str] = []
        self.state = "indexed"
        self.code = 0

    def search(self, query: str, *, by_reader: bool) -> dict[str, Any]:
        return {"hits": self.hits, "said": self.said, "code": self.code, "seconds": 0.0}

    def call(self, *arguments: str, **_: object) -> dict[str, Any]:
        return {"paths": [{"state": self.state, "reason": "empty"} for _ in arguments[2:]]}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    source = make_repo(tmp_path / "source", {f"{folder}/{i}.py": SOURCE for folder in "ab" for i in range(4)})
    write(source, {"a/README.md": "# Title\n\nWords.\n"})
    commit(source, "second")
    return Tree(source, tmp_path / "tree", random.Random(1))


def test_a_tree_goes_on_through_everything(tree: Tree) -> None:
    done = {tree.change() for _ in range(120)}
    assert len(done) >= 15 and tree.words
    git(tree.root, "reset", "-q", "--hard")
    git(tree.root, "clean", "-fdq")
    where = tree.where(tree.words)
    assert all((tree.root / path).is_file() for paths in where.values() for path in paths)
    assert tree.a_phrase()


def test_a_judge_sees_what_must_never_happen(tree: Tree) -> None:
    told = Told()
    judge = Judge(tree, told)  # type: ignore[arg-type]
    write(tree.root, {"a/0.py": SOURCE + "# soakword\n"})
    right = {"path": "a/0.py", "start_line": 5, "end_line": 7, "text": "def two():\n    return 2\n# soakword"}

    def faults(*hits: dict[str, Any], words: tuple[str, ...] = ("soakword",)) -> list[str]:
        told.hits = list(hits)
        judge.faults.clear()
        judge.words(list(words), by_reader=False)
        return judge.faults

    assert faults(right) == []
    assert "other lines than on the disk" in faults({**right, "start_line": 4, "end_line": 6})[0]
    assert "other lines" in faults({**right, "text": right["text"] + "!"})[0]
    assert "not there" in faults(right, {**right, "path": "a/gone.py"})[0]
    assert "does not find soakword" in faults()[0]
    stale = {"path": "a/1.py", "start_line": 1, "end_line": 2, "text": "def one():\n    return 1  # soakgone"}
    assert any("stale hit" in fault for fault in faults(stale, words=("soakgone",)))
    # Blacked out by redaction, left out with a reason, or said to be behind: none of these is a fault.
    assert faults({**right, "text": "def two():\n    «REDACTED:x:0»\n# soakword"}) == []
    told.state = "skipped"
    assert faults() == [] and judge.seen["words in files that are left out"] == 1
    told.state, told.said = "indexed", ["warning: ... Answered from what is indexed so far."]
    assert faults() == [] and judge.seen["searches that said they are behind or busy"] == 1


def test_generated_repositories_begin_alike(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    assert scale_repos.make(small, 10) < scale_repos.make(large, 20)
    names = [scale_repos.path_of(number) for number in range(20)]
    assert all((small / name).read_text() == (large / name).read_text() for name in names[:10])
    assert git(large, "ls-files").decode().split() == sorted(names)


def test_growth_is_an_exponent() -> None:
    def run(size: int) -> dict[str, Any]:
        row = {
            "seconds": size / 100,
            "cpu_seconds": size**2,
            "peak_bytes": 1e6,
            "inside": 0.1,
            "again": 0.1,
            "stats": size,
        }
        return dict.fromkeys(scale.ROWS, row)

    runs = {size: run(size) for size in (100, 1_000)}
    assert scale.slope(runs, "cold index", "seconds") == pytest.approx(1)
    assert scale.slope(runs, "cold index") == pytest.approx(2)
    assert scale.slope({100: run(100)}, "cold index") is None
    assert "| no-change refresh, stats" in scale.shown(runs)


def test_names_that_are_no_text_are_read_from_json_as_they_are_on_the_disk() -> None:
    assert _as_on_disk("src/latin\\xe9.py") == os.fsdecode(b"src/latin\xe9.py")
    assert _as_on_disk("src/caf\u00e9.py") == "src/caf\u00e9.py"
