"""What is read ahead need not be read when it is asked, changes no text, and is read out of everybody's way."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from repos import make_repo
from test_reader import SOURCES, WAYS, asked

from agent import Agent, trails, warming
from agent.cli import main
from agent.commands.warm import budget_of
from agent.config import Settings
from agent.reading_ahead import Patience, read_here
from agent.warming import Budget, Warmed
from chains.kv.layout import Repair
from chains.llm import LlamaCpp
from chains.types import Answer, Source
from chains.warming import Ahead
from indexers.errors import ModelError, UsageError

PATIENCE = 120.0
NAMES = ("retry", "parse", "render", "store")
FILES = {
    f"src/{name}.py": f'"""How to {name} things."""\n\n\n'
    + "\n\n\n".join(
        f"def {name}_{part}(thing, limit={number}):\n"
        f'    """{name.title()} the {part} of a thing, and say so to whoever asked for the {part} of it."""\n'
        f"    found = {NAMES[(place + 1) % 4]}_{part}(thing, limit + {number})\n"
        f"    return [found, thing, limit, '{part}', {name}_{part}]"
        for number, part in enumerate(("head", "tail", "middle", "border"))
    )
    + "\n"
    for place, name in enumerate(NAMES)
}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", FILES)


Open = Callable[..., Agent]


@pytest.fixture
def opened(repo: Path, tiny_codellama: Path) -> Iterator[Open]:
    """An agent as a process of its own would have it; whoever still reads ahead is ended after the test."""
    with ExitStack() as stack:

        def make(**options: object) -> Agent:
            values = {"embedder": "none", "background": False, "max_tokens": 8, **options}
            settings = Settings(model=str(tiny_codellama), **values)  # type: ignore[arg-type]
            return stack.enter_context(Agent.open(repo, settings=settings, background=settings.background))

        yield make
        last = make()
        while (worker := warming.holder(last.workspace)) is not None and worker.pid:
            os.kill(worker.pid, signal.SIGKILL)
            time.sleep(0.05)


def eventually(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.1)


def waited(agent: Agent, **options: object) -> Warmed:
    done = agent.warm(wait=True, **options).read  # type: ignore[arg-type]
    assert done is not None
    return done


def log_of(agent: Agent) -> str:
    return (agent.workspace.directory / warming.LOG_NAME).read_text()


# -- the engine ------------------------------------------------------------------------------------


def llm(model: Path, directory: Path, way: str = "exact") -> LlamaCpp:
    options = {"n_ctx": 2_048, "n_threads": 1, "max_tokens": 16, **WAYS[way]}
    return LlamaCpp(model_path=str(model), kv_dir=str(directory), **options)


def answered(model: LlamaCpp, order: list[int]) -> tuple[str, int]:
    answer = model.invoke(asked("Where is it?", order))
    return str(answer.content), answer.response_metadata["tokens_read"]


@pytest.mark.parametrize("way", ["exact", "fast", "repaired"])
def test_what_was_read_ahead_is_not_read_again_and_changes_no_text(
    tiny_codellama: Path, tmp_path: Path, way: str
) -> None:
    order = [3, 1, 0]
    cold, all_of_it = answered(llm(tiny_codellama, tmp_path / "other", way), order)
    ahead = llm(tiny_codellama, tmp_path / "kv", way)
    beginnings = [order[:1], order[:2], order] if way == "exact" else [[3], [1], [0]]
    for beginning in beginnings:
        messages = asked("?", beginning)
        reading = ahead.read_ahead(messages, len(beginning))
        assert reading is not None and reading.read > 0
        assert ahead.kept(messages, len(beginning)) == (reading.tokens, reading.tokens)
    text, read = answered(llm(tiny_codellama, tmp_path / "kv", way), order)
    assert text == cold and read < {"exact": 25, "fast": 25, "repaired": 45}[way] < all_of_it


def test_the_head_alone_is_the_beginning_of_every_prompt(tiny_codellama: Path, tmp_path: Path) -> None:
    one = llm(tiny_codellama, tmp_path)
    assert one.kept(asked("?", [2]), 0)[0] == 0
    head = one.read_ahead(asked("?", [2]), 0)
    assert head is not None and head.read == head.tokens > 20
    again = one.read_ahead(asked("?", [2]), 0)
    assert again is not None and again.read == 0
    for question in (asked("What?", [0]), asked("Why?", [4, 1])):
        assert llm(tiny_codellama, tmp_path).kept(question, 9)[0] == head.tokens


def test_reading_ahead_stops_between_batches_and_goes_on_from_there(
    tiny_codellama: Path, tmp_path: Path
) -> None:
    one = llm(tiny_codellama, tmp_path)
    assert one.read_ahead(asked("?", [4, 3, 2]), 3, lambda: len(list(tmp_path.iterdir())) > 1) is None
    kept, whole = one.kept(asked("?", [4, 3, 2]), 3)
    assert 0 < kept < whole
    rest = llm(tiny_codellama, tmp_path).read_ahead(asked("?", [4, 3, 2]), 3)
    assert rest is not None and rest.read == whole - kept


class Hurried:
    """Stops once, when the head and a source are kept, and may go on when it has rested."""

    def __init__(self, directory: Path, *, goes_on: bool) -> None:
        self.rests, self._directory, self._goes_on = 0, directory, goes_on

    def __call__(self) -> bool:
        return not self.rests and len(list(self._directory.iterdir())) > 1

    def rest(self) -> bool:
        self.rests += 1
        return self._goes_on

    def clock(self) -> float:
        return time.monotonic()


def test_it_rests_while_somebody_asks_and_then_goes_on(tiny_codellama: Path, tmp_path: Path) -> None:
    sources = [Source(f"a{n}.py", 1, 9, text.rstrip("\n"), 100) for n, text in enumerate(SOURCES)]
    for goes_on in (False, True):
        directory = tmp_path / str(goes_on)
        patience = Hurried(directory, goes_on=goes_on)
        directory.mkdir()
        ahead = Ahead(llm(tiny_codellama, directory), patience)
        assert ahead.ahead(sources) is goes_on and patience.rests == 1
        assert ahead.ahead(sources[:1]), "what was read before it stopped is kept"
        assert ahead.known == 1 and (ahead.read > 300) is goes_on


def test_what_each_source_cost_is_told(tiny_codellama: Path, tmp_path: Path) -> None:
    one = llm(tiny_codellama, tmp_path)
    first = one.invoke(asked("Where?", [0, 1])).response_metadata["sources_fresh"]
    second = one.invoke(asked("Where?", [0, 2, 1])).response_metadata["sources_fresh"]
    assert min(first) > 0 and second[0] == 0 and second[2] == first[1] and second[1] > first[1]
    fast = llm(tiny_codellama, tmp_path, "fast")
    assert fast.invoke(asked("Where?", [2, 0])).response_metadata["sources_fresh"] == [second[1], 0]


# -- agent warm ------------------------------------------------------------------------------------


QUESTION = "how do retry_tail and parse_tail and render_tail work?"


def test_a_question_begins_as_one_like_it_was_foreseen(opened: Open) -> None:
    done = waited(opened())
    assert not done.joined and done.ended == "nothing is left to do" and done.prompts > 3
    assert done.head > 100 and done.sources > 3 and done.read >= done.head + done.tokens
    assert done.bytes > 0 and done.known > 0
    warm = opened().ask(QUESTION)
    assert warm.usage.cached_tokens > done.head + 100
    read_before = [cost.read_before for cost in warm.costs]
    assert read_before[0] and read_before == sorted(read_before, reverse=True)
    plain = opened(reading="exact").ask(QUESTION)
    assert {s.text for s in plain.sources} <= {s.text for s in warm.sources}
    # The best one keeps its place next to the question.
    assert warm.sources[0] == plain.sources[0]


def test_what_is_kept_is_not_read_again(opened: Open) -> None:
    first = waited(opened())
    again = waited(opened())
    assert (again.read, again.bytes) == (0, 0) and again.known > first.known
    assert again.prompts == first.prompts


def test_only_what_was_asked_for_is_read(opened: Open) -> None:
    agent = opened(reading="fast")
    waited(agent, paths=["src/parse.py"])
    texts = trails.to_join(agent.workspace.directory, agent.root, agent.llm.label)
    assert texts and all(text.startswith("Source [src/parse.py:") for text in texts)
    assert waited(opened(), paths=["src/parse.py"]).prompts == 1


def test_it_stops_by_itself_at_its_bytes_and_goes_on_later(opened: Open) -> None:
    some = waited(opened(), seconds=None, bytes=150_000)
    assert some.ended == "its bytes are used up" and 150_000 <= some.bytes < 260_000 and some.sources
    rest = waited(opened())
    assert rest.known > 0 and rest.read > 0 and rest.sources > some.sources


def test_it_stops_by_itself_at_its_time(opened: Open) -> None:
    done = waited(opened(), seconds=0.0)
    assert (done.ended, done.read, done.sources) == ("its time is used up", 0, 0)


def test_it_takes_no_more_than_half_of_what_may_be_kept(opened: Open) -> None:
    assert waited(opened(kv_bytes=400_000)).ended == "half of what may be kept is new"


def test_joined_sources_serve_at_any_place_and_no_text_depends_on_the_cache(opened: Open) -> None:
    done = waited(opened(reading="fast"))
    assert done.joined and done.sources > 3
    warm = opened(reading="fast").ask(QUESTION)
    assert warm.usage.joined_sources > 0
    assert sum(cost.read_before for cost in warm.costs) >= len(warm.costs) - 1
    assert main(["cache", "clear", "-q"]) == 0
    cold = opened(reading="fast").ask(QUESTION)
    assert (cold.text, cold.sources) == (warm.text, warm.sources)
    assert cold.usage.tokens_read > 2 * warm.usage.tokens_read
    # Nor on what was asked before.
    for other in ("what is store_border?", "what does render_head return?"):
        opened(reading="fast").ask(other)
    again = opened(reading="fast").ask(QUESTION)
    assert (again.text, again.sources) == (warm.text, warm.sources)


def test_where_everything_is_to_be_read_anew_only_the_head_is_read(opened: Open) -> None:
    done = waited(opened(reading="exact"))
    assert done.head == done.read > 100 and done.sources == 0


def test_what_prompts_had_read_is_read_again_where_it_is_gone(opened: Open) -> None:
    question = "how does retry_tail work?"
    first = opened().ask(question)
    assert main(["cache", "clear", "-q"]) == 0
    waited(opened(), paths=["nothing-of-the-kind/"])
    again = opened().ask(question)
    assert again.sources == first.sources and again.usage.tokens_read < first.usage.tokens_read // 4


# -- follow-ups ------------------------------------------------------------------------------------


def test_after_an_answer_prompts_that_may_follow_are_read(opened: Open) -> None:
    agent = opened(context_tokens=700)
    first = agent.ask("how does retry_tail work?")
    done = read_here(agent.workspace, agent.model, Budget(), follow=True)
    assert done.followed and done.prompts > 0 and done.read > 0
    # A question about it in other words reads hardly anything but itself.
    name = "parse_tail"
    second = opened(context_tokens=700).ask(f"explain {name} to me")
    assert any(name in source.text for source in second.sources)
    assert second.usage.tokens_read < first.usage.tokens_read // 4
    assert all(cost.read_before for cost in second.costs)


def test_nothing_follows_unless_it_was_wanted(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = opened(background=True)
    agent.ask("how does retry_tail work?")
    assert not agent.warm_follow_ups()
    assert not opened(follow_up_seconds=60.0).warm_follow_ups()
    monkeypatch.setattr("agent.hardware.on_battery", lambda: True)
    assert not opened(follow_up_seconds=60.0, background=True).warm_follow_ups()


# -- the worker ------------------------------------------------------------------------------------


def test_the_worker_is_out_of_the_way_shows_in_the_status_and_stops(
    opened: Open, repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = opened()
    with warming.asking(agent.workspace.directory):
        assert agent.warm().started
        eventually(lambda: (worker := warming.holder(agent.workspace)) is not None and worker.pid)
        worker = warming.holder(agent.workspace)
        assert worker is not None and worker.command == "agent warm" and worker.background
        assert os.getpriority(os.PRIO_PROCESS, worker.pid) == 19
        assert os.getsid(worker.pid) not in (os.getsid(0), os.getpid())
        assert agent.warm().reason == f"process {worker.pid} is at it already"
        assert main(["status", "--repo", str(repo)]) == 0
        assert f"the head of prompts, by process {worker.pid} (agent warm)" in capsys.readouterr().out
        # It rests while somebody waits for an answer, and hears of being stopped all the same.
        assert agent.stop_warming(PATIENCE)
    assert "0 tokens read" in log_of(agent) and "another process asked for it" in log_of(agent)
    capsys.readouterr()
    assert main(["warm", "--stop", "--json", "--repo", str(repo)]) == 0
    assert json.loads(capsys.readouterr().out) == {"stopped": False}


def test_left_alone_the_worker_reads_and_ends(
    opened: Open, repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = opened(follow_up_seconds=60.0, background=True)
    agent.ask("how does retry_tail work?")
    assert agent.warm_follow_ups()
    eventually(lambda: "ended: " in log_of(agent) and warming.holder(agent.workspace) is None)
    assert "nothing is left to do" in log_of(agent)
    assert main(["status", "--json", "--repo", str(repo)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["reading_ahead"] is None and told["warmed"]["followed"] and told["warmed"]["prompts"] > 0
    again = read_here(agent.workspace, agent.model, Budget(), follow=True)
    assert again.read == 0, "a process in the foreground finds what the worker read"


def test_no_worker_is_started_where_none_should_be(
    opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert opened(kv_bytes=0).warm(wait=True).reason == "nothing may be kept: kv_bytes is 0"
    with pytest.raises(UsageError):
        opened(engine="openai", base_url="http://127.0.0.1:9/v1").warm()
    with pytest.raises(ModelError):
        Agent.open(tmp_path / "repo", settings=Settings(embedder="none")).warm()
    monkeypatch.setattr("agent.hardware.on_battery", lambda: True)
    assert opened().warm().reason == "this machine runs on its battery"
    assert waited(opened()).ended == "nothing is left to do", "who waits for it wants it"
    monkeypatch.setattr("agent.warming._BESIDE_WEIGHTS", 1 << 60)
    assert opened().warm(on_battery=True).reason == "memory is short"


def test_on_its_battery_a_worker_stops(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = opened()
    watch = Patience(agent.workspace, warming.claim(agent.workspace), Budget(), on_battery=False)
    assert not watch()
    monkeypatch.setattr("agent.hardware.on_battery", lambda: True)
    assert not watch.rest() and watch.reason == "this machine runs on its battery"


# -- the command -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("90s", (90.0, None)),
        ("20m", (1_200.0, None)),
        ("1.5 h", (5_400.0, None)),
        ("500M", (None, 500 * 2**20)),
        ("2GB", (None, 2 * 2**30)),
        ("10", (None, 10)),
    ],
)
def test_a_budget_is_a_time_or_a_size(text: str, limits: tuple[float | None, int | None]) -> None:
    assert budget_of(text) == {"seconds": limits[0], "bytes": limits[1]}


@pytest.mark.parametrize("text", ["", "soon", "0m", "0", "-3m", "3 weeks"])
def test_any_other_budget_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        budget_of(text)


def test_the_command_says_what_it_came_to_and_what_it_can_save(
    repo: Path, tiny_codellama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["warm", "--repo", str(repo), "--model", str(tiny_codellama), "--wait"]
    assert main([*words, "src/parse.py", "src/store.py"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("warmed  the head and ") and "codellama-7b-instruct.F32" in said
    assert "One like a question foreseen" in said and "foreseen prompts" in said
    assert main([*words, "--fast", "--json", "--budget", "1h"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["read"]["joined"] and told["read"]["sources"] > 0 and not told["started"]
    assert main(["status", "--repo", str(repo)]) == 0
    assert "warmed      the head and" in capsys.readouterr().out
    assert main(["ask", "how does retry_tail work?", *words[1:5], "--explain", "--max-tokens", "4"]) == 0
    said = capsys.readouterr().out
    assert "Cost" in said and "read before" in said


def test_repairs_do_not_matter_to_what_is_read_ahead(tiny_codellama: Path, tmp_path: Path) -> None:
    """A source that waits to be joined is the same whatever is read again of it later."""
    plain = llm(tiny_codellama, tmp_path)
    assert plain.read_ahead(asked("?", [1]), 1) is not None
    repaired = LlamaCpp(
        model_path=str(tiny_codellama), n_ctx=2_048, n_threads=1, kv_dir=str(tmp_path), repair=Repair(first=8)
    )
    kept, whole = repaired.kept(asked("?", [1]), 1)
    assert kept == whole > len(SOURCES[1]) // 8


def test_an_answer_with_costs_has_them_in_json(opened: Open) -> None:
    answer: Answer = opened().ask("how does retry_tail work?")
    assert [cost.label for cost in answer.costs] == [source.label for source in reversed(answer.sources)]
    assert sum(cost.fresh for cost in answer.costs) < answer.usage.tokens_read
    assert 0 < sum(cost.seconds for cost in answer.costs) < answer.usage.seconds
