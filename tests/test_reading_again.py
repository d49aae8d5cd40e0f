"""Questions in separate processes, a chat, and the commands around them: what was read once is not read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage
from repos import make_repo

from agent import Agent
from agent.cli import main
from agent.config import Settings
from chains.engine.streams import cost_so_far
from chains.types import Answer

FILES = {
    f"src/{name}.py": f'"""How to {name} things."""\n\n\n'
    + "\n\n\n".join(
        f"def {name}_{part}(thing, limit={number}):\n"
        f'    """{name.title()} the {part} of a thing."""\n'
        f"    return {name}_backend(thing, '{part}', limit)"
        for number, part in enumerate(("head", "tail", "middle", "border"))
    )
    + "\n"
    for name in ("retry", "parse", "render")
}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", FILES)


def ask(repo: Path, model: Path, question: str, **options: object) -> Answer:
    """As a process of its own would: nothing is shared but files."""
    settings = Settings(model=str(model), embedder="none", background=False, max_tokens=8, **options)  # type: ignore[arg-type]
    with Agent.open(repo, settings=settings) as agent:
        return agent.ask(question)


def test_the_same_question_reads_only_itself_again(repo: Path, tiny_codellama: Path) -> None:
    first = ask(repo, tiny_codellama, "how does retry_head work?")
    again = ask(repo, tiny_codellama, "how does retry_head work?")
    assert first.usage.cached_tokens == 0 and first.usage.tokens_read == first.usage.prompt_tokens > 200
    assert again.text == first.text and again.sources == first.sources
    assert again.usage.tokens_read < first.usage.prompt_tokens // 4
    assert again.usage.reading.startswith("exact")


def test_a_question_about_the_same_begins_with_what_was_read(repo: Path, tiny_codellama: Path) -> None:
    first = ask(repo, tiny_codellama, "how does retry_head work?")
    other = ask(repo, tiny_codellama, "what calls retry_backend in retry_head and retry_tail?")
    shared = {source.text for source in first.sources} & {source.text for source in other.sources}
    assert shared and other.usage.cached_tokens > sum(len(text) for text in shared) // 8
    exact = ask(
        repo, tiny_codellama, "what calls retry_backend in retry_head and retry_tail?", reading="exact"
    )
    assert {source.text for source in exact.sources} <= {source.text for source in other.sources}


def test_an_answer_that_is_stopped_tells_what_was_known_of_its_prompt(
    repo: Path, tiny_codellama: Path
) -> None:
    settings = Settings(model=str(tiny_codellama), embedder="none", background=False, max_tokens=8)
    with Agent.open(repo, settings=settings) as agent:
        whole = agent.ask("how does retry_head work?").usage
        again = agent.ask("how does retry_head work?").usage
        said = [HumanMessage("how does it work?")]
        list(agent.llm.stream(said, max_tokens=2))
        stopped = agent.llm.stream(said, max_tokens=8)
        next(stopped)
        stopped.close()  # type: ignore[attr-defined]
        told = cost_so_far(agent.llm, said, 1)
    assert again.prompt_tokens - again.cached_tokens == again.tokens_read < whole.tokens_read
    assert told["input_tokens"] - told["input_token_details"]["cache_read"] == told["tokens_read"] > 0


def test_an_edit_is_seen_whatever_was_read_before(repo: Path, tiny_codellama: Path) -> None:
    ask(repo, tiny_codellama, "how does retry_head work?")
    file = repo / "src/retry.py"
    file.write_text(file.read_text().replace("limit=0", "limit=99"))
    again = ask(repo, tiny_codellama, "how does retry_head work?")
    texts = "".join(source.text for source in again.sources)
    assert "retry_head(thing, limit=99)" in texts and "retry_head(thing, limit=0)" not in texts


def test_the_next_turn_of_a_chat_reads_only_what_is_new(repo: Path, tiny_codellama: Path) -> None:
    settings = Settings(model=str(tiny_codellama), embedder="none", background=False, max_tokens=8)
    with Agent.open(repo, settings=settings) as agent:
        chat = agent.chat()
        first = chat.ask("how does retry_head work?")
        second = chat.ask("and how does retry_tail work?")
    assert second.usage.cached_tokens >= first.usage.prompt_tokens
    assert second.usage.prompt_tokens - second.usage.cached_tokens < first.usage.prompt_tokens


def test_nothing_is_kept_where_nothing_may_be(repo: Path, tiny_codellama: Path, agent_home: Path) -> None:
    ask(repo, tiny_codellama, "how does retry_head work?", kv_bytes=0)
    assert not list(agent_home.rglob("*.kv")) and not list(agent_home.rglob("trail.json"))


def test_fast_joins_and_says_so(repo: Path, tiny_codellama: Path) -> None:
    first = ask(repo, tiny_codellama, "how does retry_head work?", reading="fast")
    assert first.usage.joined_sources == len(first.sources) - 1 > 0
    assert first.usage.reading == "joined: asked for, without repair"


def test_the_cache_is_shown_pruned_and_cleared(
    repo: Path, tiny_codellama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(repo, tiny_codellama, "how does retry_head work?")
    assert main(["cache", "list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["kind"] for one in told["entries"]} == {"head", "place"}
    assert any("retry.py" in one["label"] for one in told["entries"])
    assert all(one["label"].endswith("]") for one in told["entries"] if one["label"].startswith("Source ["))
    assert main(["cache", "list", "--most", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert main(["status", "--json", "--repo", str(repo)]) == 0
    cache = json.loads(capsys.readouterr().out)["cache"]
    assert cache["entries"] == len(told["entries"]) and cache["bytes"] == told["bytes"]
    assert main(["cache", "prune", "--to", "1K"]) == 0
    assert main(["cache", "clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left"] == {"entries": 0, "bytes": 0}
    assert main(["cache", "prune", "--to", "much"]) == 2


def test_exact_and_fast_together_are_refused(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "how?", "--repo", str(repo), "--exact", "--fast"]) == 2
    assert "opposite" in capsys.readouterr().err
