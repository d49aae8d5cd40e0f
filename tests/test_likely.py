"""What is likeliest to be asked: what others use, what changed last, what was shown; and what may follow an answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from repos import commit, git, make_repo, write

from agent import Agent
from agent.config import Settings
from chains.search.likely import about, follow_ups, likely
from indexers.filters import Filter
from indexers.history import changed

FILES = {
    "core.py": "def parse_all(text):\n    return [one_line(line) for line in text.split()]\n",
    "lines.py": "def one_line(line):\n    return line.strip()\n",
    **{
        f"use{n}.py": f"from lines import one_line\n\n\ndef use{n}(x):\n    return one_line(x)\n"
        for n in range(4)
    },
    "main.py": "from core import parse_all\n\n\ndef main_entry():\n    return parse_all('a b')\n",
    "tests/test_core.py": "from core import parse_all\n\n\ndef test_parse_all():\n    assert parse_all('a')\n",
    "README.md": "# All about one_line\n",
}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", FILES)


@pytest.fixture
def agent(repo: Path) -> Iterator[Agent]:
    with Agent.open(repo, settings=Settings(embedder="none")) as made:
        made.refresh()
        yield made


def paths(agent: Agent, *args: object, only: Filter = Filter()) -> list[str]:  # noqa: B008
    return [stored.chunk.path for stored in likely(agent.workspace.names(), *args, only=only)]  # type: ignore[arg-type]


def test_what_others_use_comes_first_and_what_nobody_uses_not_at_all(agent: Agent) -> None:
    assert paths(agent, {}) == ["lines.py", "core.py"]
    assert paths(agent, {}, only=Filter(paths=["core.py"])) == ["core.py"]


def test_what_changed_last_and_what_was_shown_moves_up(agent: Agent) -> None:
    assert paths(agent, {"core.py": 0, "README.md": 0}) == ["core.py", "lines.py"]
    assert paths(agent, {}, ["use2.py:1-5", "core.py:1-2", "gone.py:1-2"])[0] == "core.py"
    assert "use2.py" in paths(agent, {}, ["use2.py:1-5"])


def test_changes_are_told_by_how_many_commits_ago_they_were(repo: Path) -> None:
    write(repo, {"core.py": "a = 1\n", "odd \n.py": "b = 2\n"})
    commit(repo, "second")
    git(repo, "rm", "-q", "lines.py")
    write(repo, {"core.py": "a = 2\n"})
    commit(repo, "third")
    from indexers.git import Repository

    found = Repository.discover(repo)
    head = found.head()
    assert head is not None
    assert changed(found, head, 2) == {"core.py": 0, "odd \n.py": 1}
    every = changed(found, head, 50)
    assert every["main.py"] == 2 and every["core.py"] == 0 and "lines.py" not in every


def test_what_is_likeliest_is_asked_about_by_the_name_that_others_use(agent: Agent) -> None:
    names = agent.workspace.names()
    assert list(about(likely(names, {}), names)) == ["How does one_line work?", "How does parse_all work?"]


def test_a_follow_up_is_about_what_calls_is_called_and_tests(agent: Agent) -> None:
    chunks = {s.chunk.path: s.chunk for path in FILES for s in agent.workspace.ledger.chunks_of(path)}
    names = agent.workspace.names()
    assert follow_ups(names, [chunks["core.py"]]) == [
        "What does one_line do?",
        "How is parse_all tested?",
        "Who calls parse_all?",
        "How does parse_all work?",
    ]
    # Of each place in turn, and nothing that there is nothing to say about.
    both = follow_ups(names, [chunks["core.py"], chunks["lines.py"]])
    assert both[:3] == ["What does one_line do?", "Who calls one_line?", "How is parse_all tested?"]
    assert follow_ups(names, [chunks["README.md"]]) == []
