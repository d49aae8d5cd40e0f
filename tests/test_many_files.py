"""Whatever is asked of a repository of 20,000 files, through the whole of the tool, is answered in bounded time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agent import Agent, Filter
from agent.config import load_settings
from chains.search.reading import read_for
from indexers.errors import UsageError
from tests.repos import make_repo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FILES = 20_000
# Seconds for a first search, which reads every file, and for a later one. Generous: on two quiet cores they take about
# a third of that, and a loaded machine must not fail the test; without a bound they would take minutes.
FIRST, LATER = 300.0, 10.0
NOUNS = "lease parcel cord ledger broker beacon valve turbine ribbon anchor".split()
VERBS = "open close renew merge split flush drain mount seal rotate".split()


def source(number: int) -> str:
    noun, verb = NOUNS[number % 10], VERBS[number // 10 % 10]
    return (
        f"from core.base import {noun.title()}\n\n\n"
        f"def {verb}_{noun}_{number}({noun}, limit={number}):\n"
        f'    """Tries to {verb} the {noun} before its time is up."""\n'
        f"    for attempt in range(limit):\n"
        f"        if {noun}.{verb}(attempt):\n"
        f"            return attempt\n"
        f"    raise TimeoutError({number})\n"
    )


QUERIES = {
    "one character": "x",
    "a digit": "7",
    "only operators": 'NEAR( AND "* ^ : - OR NOT )',
    "an open quote": 'renew "lease',
    "a column of the index": "body: lease",
    "50 kB of one question": "how is a lease renewed before its time is up " * 1_100,
    "50 kB without a space": "lease" * 10_000,
    "50 kB of different words": " ".join(f"word{n}" for n in range(6_500)),
    "another language": "как продлевается аренда 租约如何续订",
    "a name that is nowhere": "reticulate_splines_backwards",
    "a name that is there": "renew_lease_120",
    "a word that every file has": "attempt",
    "a question": "how is a lease renewed before its time is up",
    "a stack trace": "\n".join(f'  File "pkg{n % 100}/module_{n}.py", line 4, in renew' for n in range(600)),
    "controls": "\x00\x1b[31mlease\udcff",
}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    files: dict[str, bytes | str] = {f"pkg{n % 100}/module_{n}.py": source(n) for n in range(FILES)}
    root = make_repo(tmp_path_factory.mktemp("many") / "repo", files)
    settings = replace(load_settings(root, {}, {}), embedder="none")
    with Agent.open(root, settings=settings) as opened:
        started = time.monotonic()
        assert opened.search("how is a lease renewed", 5)
        assert time.monotonic() - started < FIRST
        assert opened.status().files == FILES
        yield opened


@pytest.mark.parametrize("name", QUERIES)
def test_a_search_is_answered_in_time(agent: Agent, name: str) -> None:
    started = time.monotonic()
    hits = agent.search(QUERIES[name], 10)
    assert time.monotonic() - started < LATER
    assert len(hits) <= 10 and len({hit.label for hit in hits}) == len(hits)
    if name == "a name that is there":
        assert hits[0].path == "pkg20/module_120.py"
    if name == "a name that is nowhere":
        assert hits.absent == ("reticulate_splines_backwards",)
    if name == "a stack trace":
        assert any(hit.signals.get("frame") for hit in hits)
    if name in ("another language", "only operators"):
        assert not hits


@pytest.mark.parametrize("query", ["", "  \n "])
def test_nothing_asked_is_an_error_that_says_so(agent: Agent, query: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        agent.search(query)


@pytest.mark.parametrize("only", [Filter(paths=("pkg7/**",)), Filter(languages=("python",), tests=False)])
def test_a_filter_costs_no_more(agent: Agent, only: Filter) -> None:
    started = time.monotonic()
    hits = agent.search("how is a lease renewed before its time is up", 10, only=only)
    assert time.monotonic() - started < LATER
    assert len(hits) == 10 and all(only.admits(hit.path, hit.language) for hit in hits)


@pytest.mark.parametrize("name", ["a question", "a name that is there", "a word that every file has"])
def test_what_a_model_would_read_is_found_in_time(agent: Agent, name: str) -> None:
    started = time.monotonic()
    reading = read_for(QUERIES[name], agent.workspace.search(), agent.workspace.names())
    assert time.monotonic() - started < LATER
    assert reading.relevant and reading.hits
