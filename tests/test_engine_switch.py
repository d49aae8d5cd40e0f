"""The one switch: the same commands over a server, named by the user alone, and told of each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_server import FakeServer, said
from repos import git, make_repo

from agent import Agent
from agent.cli import main
from agent.config import Settings, api_key, load_settings
from indexers.errors import UsageError

FILES = {
    "geometry.py": 'def area(width, height):\n    """The area of a rectangle."""\n    return width * height\n',
}
QUESTION = "What does area return for width and height?"
CITED = "`area` returns `width * height` [geometry.py:1-3]."


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENT_EMBEDDER", "none")
    return make_repo(tmp_path / "repo", FILES)


def elsewhere(server: FakeServer) -> str:
    """The server by an address that nobody can know to be this machine."""
    return f"http://0.0.0.0:{server.host.rpartition(':')[2]}"


def test_ask_over_a_server(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer([said(CITED)]) as server:
        assert main(["ask", QUESTION, "--repo", str(root), "--base-url", server.url, "--json"]) == 0
        told = capsys.readouterr()
        answer = json.loads(told.out)
    assert answer["text"] == CITED and answer["citations"][0]["verified"]
    assert answer["model"] == f"small-model at {server.host}" and answer["usage"]["prompt_tokens"] == 400
    assert "sent to" not in told.err
    prompt = json.dumps(server.requests[0]["messages"])
    assert "return width * height" in prompt and QUESTION in prompt


def test_another_machine_is_named_with_every_answer(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer([said(CITED)]) as server:
        for _ in range(2):
            assert main(["-q", "ask", QUESTION, "--repo", str(root), "--base-url", elsewhere(server)]) == 0
            assert f"sent to 0.0.0.0:{server.host.rpartition(':')[2]}: about" in capsys.readouterr().err


def test_every_turn_of_a_chat_says_where_it_went(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.write(write, f"{QUESTION}\n{QUESTION}\n".encode())
    os.close(write)
    with FakeServer([said(CITED)]) as server, os.fdopen(read) as questions:
        monkeypatch.setattr("sys.stdin", questions)
        assert main(["chat", "--repo", str(root), "--base-url", elsewhere(server)]) == 0
    assert capsys.readouterr().err.count("sent to 0.0.0.0") == 2 == len(server.requests)


def test_deep_ask_over_a_server(root: Path) -> None:
    call = '{"tool":"answer","arguments":{}}'
    with FakeServer([said(call), said(CITED)], window=16_000) as server:
        settings = Settings(engine="openai", base_url=server.url, embedder="none")
        with Agent.open(root, settings=settings) as agent:
            answer = agent.ask(QUESTION, deep=True)
    assert answer.text == CITED and len(server.requests) == 2


def test_review_over_a_server_says_where_hunks_went(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "geometry.py").write_text(FILES["geometry.py"] + "\n\ndef volume(a, b, c):\n    return a * b\n")
    git(root, "add", "-A")
    found = json.dumps({"findings": []})
    with FakeServer([said(found)], window=8_000) as server:
        assert main(["review", "--repo", str(root), "--base-url", elsewhere(server), "--deadline", "60"]) == 0
        told = capsys.readouterr()
    assert "def volume" in json.dumps(server.requests[0]["messages"])
    assert "sent to 0.0.0.0" in told.err + told.out
    assert server.requests[0]["response_format"]["type"] == "json_schema"


def test_a_review_whose_server_is_away_was_no_review(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "geometry.py").write_text("x = 1\n")
    git(root, "add", "-A")
    command = ["review", "--repo", str(root), "--base-url", "http://127.0.0.1:9", "--format", "json"]
    assert main([*command, "--strict", "--deadline", "60"]) == 3
    assert "No model server answers" in capsys.readouterr().out


def test_a_repository_names_no_server(root: Path) -> None:
    with FakeServer() as server:
        (root / ".agent.toml").write_text(f'engine = "openai"\nbase_url = "{server.url}"\nmodel = "m"\n')
        found = load_settings(root)
        assert (found.engine, found.base_url, found.model) == ("llama.cpp", None, None)
        assert len([note for note in found.warnings if "was ignored" in note]) == 3
    assert server.paths == []


def test_the_user_names_one_in_the_environment_or_the_settings_file(agent_home: Path) -> None:
    found = load_settings(None, None, {"AGENT_ENGINE": "openai", "AGENT_BASE_URL": "http://127.0.0.1:8080"})
    assert (found.engine, found.base_url) == ("openai", "http://127.0.0.1:8080/v1")
    agent_home.mkdir(parents=True, exist_ok=True)
    (agent_home / "config.toml").write_text(
        'base_url = "https://models.example.com/v1"\nserver_timeout = 30\n'
    )
    found = load_settings(None, {"engine": "openai"}, {})
    assert (found.engine, found.base_url, found.server_timeout) == (
        "openai",
        "https://models.example.com/v1",
        30,
    )
    with pytest.raises(UsageError, match="without a password"):
        load_settings(None, {"base_url": "http://me:secret@127.0.0.1/v1"}, {})
    with pytest.raises(UsageError, match="one of llama.cpp, openai"):
        load_settings(None, {"engine": "cloud"}, {})


def test_the_key_comes_from_one_variable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api_key({"OPENAI_API_KEY": "sk-1"}) == "" and api_key({"AGENT_API_KEY": "mine"}) == "mine"
    monkeypatch.setenv("AGENT_API_KEY", "mine")
    with FakeServer([said(CITED)]) as server:
        settings = Settings(engine="openai", base_url=server.url, embedder="none")
        with Agent.open(root, settings=settings) as agent:
            agent.ask(QUESTION)
            assert "mine" not in repr(agent.llm) + repr(settings)
    assert {headers["authorization"] for headers in server.headers} == {"Bearer mine"}


def test_doctor_asks_the_server_that_the_settings_name(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def check() -> dict[str, str]:
        main(["doctor", "--repo", str(root), "--json"])
        checks = json.loads(capsys.readouterr().out)["checks"]
        return next((one for one in checks if one["name"] == "model server"), {})

    assert check() == {}
    monkeypatch.setenv("AGENT_ENGINE", "openai")
    with FakeServer(owner="vllm", window=8_000) as server:
        monkeypatch.setenv("AGENT_BASE_URL", server.url)
        assert check()["state"] == "ok"
    assert check()["state"] == "fail"


def test_the_switch_alone_asks_for_an_address(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", QUESTION, "--repo", str(root), "--engine", "openai"]) == 2
    assert "--base-url http://127.0.0.1:8080/v1" in capsys.readouterr().err


def test_a_server_that_is_not_there(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", QUESTION, "--repo", str(root), "--base-url", "http://127.0.0.1:9"]) == 2
    told = capsys.readouterr().err
    assert "No model server answers at http://127.0.0.1:9/v1" in told and "Traceback" not in told


def test_the_switch_costs_nothing_where_it_is_off() -> None:
    code = "import sys, agent.cli; print({'openai', 'langchain_openai', 'httpx2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
