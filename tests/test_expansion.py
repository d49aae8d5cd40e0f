"""One hop from the best hits: what they call is added where it says something about the question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from chains.search.expansion import BEHIND, FOLLOWED, MOST_ADDED, expanded, one_hop
from indexers.build import Builder
from indexers.config import IndexConfig
from indexers.filters import Filter
from indexers.git import Repository
from indexers.ledger import Ledger
from indexers.relations import Relations
from indexers.types import Hit
from tests.repos import make_repo

FILES = {
    "src/retry.py": """\
from src.clock import back_off_delay, now
from src.report import record_failure, record_success


def retry_call(fn):
    started = now()
    for attempt in range(5):
        try:
            return fn()
        except OSError:
            record_failure(attempt)
            wait(back_off_delay(attempt))
    record_success(started)


def wait(seconds):
    ...
""",
    "src/clock.py": "def now():\n    return 1\n\n\n# Doubles.\ndef back_off_delay(attempt):\n    return 2**attempt\n",
    "src/report.py": "def record_failure(n):\n    ...\n\n\ndef record_success(n):\n    ...\n",
    "tests/test_retry.py": "from src.retry import retry_call\n\n\ndef test_it_gives_up():\n    retry_call(1)\n",
}


class Indexed:
    def __init__(self, directory: Path) -> None:
        root = make_repo(directory / "repo", FILES)
        self.ledger = Ledger(directory / "ledger.sqlite", directory / "vectors.sqlite")
        builder = Builder(Repository.discover(root), self.ledger, IndexConfig(), directory)
        builder.refresh()
        self.relations = Relations(self.ledger, builder.keep_facts)

    def hit(self, path: str, start: int, end: int, score: float = 1.0, symbols: Sequence[str] = ()) -> Hit:
        text = "\n".join(FILES[path].split("\n")[start - 1 : end])
        return Hit(path, start, end, text, score, symbols=tuple(symbols))


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    return Indexed(tmp_path_factory.mktemp("expansion"))


def names(hits: Sequence[Hit]) -> list[str]:
    return [hit.symbols[0] for hit in hits]


def test_what_the_question_speaks_of_comes_first(indexed: Indexed) -> None:
    best = indexed.hit("src/retry.py", 5, 13)
    found = one_hop("how long is the delay between attempts?", [best], indexed.relations)
    assert names(found) == ["back_off_delay"]
    assert all(hit.score < best.score for hit in found)
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    assert found[0].signals == {"called": found[0].score}


def test_what_is_added_is_the_definition_and_no_more(indexed: Indexed) -> None:
    (found, *_) = one_hop("the delay", [indexed.hit("src/retry.py", 5, 13)], indexed.relations)
    assert found.label == "src/clock.py:6-7"
    assert found.text == "def back_off_delay(attempt):\n    return 2**attempt"
    stored = indexed.ledger.chunks([found.chunk_id])[found.chunk_id]
    assert stored.chunk.path == "src/clock.py" and found.text in stored.chunk.text


def test_of_lesser_hits_only_what_the_question_speaks_of(indexed: Indexed) -> None:
    hits = [indexed.hit("src/clock.py", 1, 2), indexed.hit("src/retry.py", 5, 13, 0.5)]
    assert names(one_hop("when does it record success", hits, indexed.relations)) == [
        "record_success",
        "record_failure",
    ]
    assert one_hop("something else entirely", hits, indexed.relations) == []
    far = [*[indexed.hit("src/clock.py", 1, 2)] * FOLLOWED, hits[1]]
    assert one_hop("when does it record success", far, indexed.relations) == []


def test_what_is_there_is_not_added_again(indexed: Indexed) -> None:
    hits = [indexed.hit("src/retry.py", 5, 13), indexed.hit("src/clock.py", 1, 7, 0.1)]
    assert "back_off_delay" not in names(one_hop("the delay", hits, indexed.relations))


def test_limits(indexed: Indexed) -> None:
    best = indexed.hit("src/retry.py", 1, 17)
    question = "record failure, record success, delay now"
    assert len(one_hop(question, [best], indexed.relations)) <= MOST_ADDED
    assert len(one_hop(question, [best], indexed.relations, most=1)) == 1
    assert one_hop(question, [best], indexed.relations, most=0) == []
    clock = Filter(paths=["src/clock.py"])
    assert set(names(one_hop(question, [best], indexed.relations, only=clock))) == {"back_off_delay", "now"}


def test_tests_where_they_are_asked_for(indexed: Indexed) -> None:
    best = indexed.hit("src/retry.py", 5, 13, symbols=["retry_call"])
    found = one_hop("which tests cover retry_call?", [best], indexed.relations, most=1)
    assert [hit.label for hit in found] == ["tests/test_retry.py:4-5"]
    assert not any(hit.path.startswith("tests/") for hit in one_hop("retry_call", [best], indexed.relations))


def test_added_behind_the_best(indexed: Indexed) -> None:
    hits = [
        indexed.hit("src/retry.py", 5, 13),
        *[indexed.hit("tests/test_retry.py", 4, 5, 0.5)] * (BEHIND + 1),
    ]
    found = expanded("the delay", hits, indexed.relations)
    assert found[:BEHIND] == hits[:BEHIND] and found[-2:] == hits[-2:]
    assert names(found[BEHIND:-2]) == ["back_off_delay"]


@pytest.mark.parametrize("question", ["", "?", "\udcff", "x" * 100_000, 'NEAR("a" OR *'])
def test_odd_questions(indexed: Indexed, question: str) -> None:
    best = indexed.hit("src/retry.py", 5, 13)
    assert one_hop(question, [best], indexed.relations) == []
    assert one_hop(question, [], indexed.relations) == []


def test_hits_of_what_is_gone(indexed: Indexed) -> None:
    gone = [Hit("gone.py", 1, 2, "", 1.0), Hit("src/retry.py", 900, 990, "", 0.5)]
    assert one_hop("the delay", gone, indexed.relations) == []
