"""With the tiny CodeLlama-shaped file every command runs as with the real one: parsed, planned, loaded, framed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_gguf import build

from agent.cli import main
from agent.paths import models_dir
from tests.repos import commit, git, make_repo, write

NAME = "codellama-7b-instruct"
CODE = "def retry_limit():\n    return 3\n\n\ndef attempts():\n    return retry_limit() + 1\n"


@pytest.fixture(scope="module")
def shaped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("shaped") / f"{NAME}.Q4_K_M.gguf", width=128)


@pytest.fixture
def repo(tmp_path: Path, shaped: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with something staged, and the shaped file as the only installed model."""
    (models_dir() / shaped.name).symlink_to(shaped)
    monkeypatch.setenv("AGENT_EMBEDDER", "none")
    monkeypatch.setenv("AGENT_DOWNLOAD", "0")
    path = make_repo(tmp_path / "repo", {"retry.py": CODE})
    commit(path)
    write(path, {"retry.py": CODE.replace("3", "4")})
    return path


@pytest.fixture
def run(repo: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def agent(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(words))
        said = capsys.readouterr()
        assert "Traceback" not in said.err and "bug in" not in said.err
        return code, said.out, said.err

    return agent


def test_ask_streams_an_answer(run: Callable[..., tuple[int, str, str]], repo: Path) -> None:
    code, _, said = run("ask", "what does retry_limit return?", "--repo", str(repo), "--max-tokens", "8")
    assert code == 0
    assert f"{NAME}.Q4_K_M: " in said and "tokens read" in said
    code, out, _ = run("ask", "what does retry_limit return?", "--repo", str(repo), "--show-prompt")
    assert code == 0
    assert out.startswith("<s>") and "[INST] <<SYS>>" in out and out.rstrip().endswith("[/INST]")
    code, out, _ = run(
        "ask",
        "--deep",
        "what does retry_limit return?",
        "--repo",
        str(repo),
        "--max-tokens",
        "8",
        "--max-steps",
        "1",
        "--json",
    )
    assert code == 0 and "text" in json.loads(out)


def test_chat_remembers(
    run: Callable[..., tuple[int, str, str]], repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("what is retry_limit?\nand attempts?\n/sources\n/quit\n"))
    code, _, said = run("chat", "--repo", str(repo), "--max-tokens", "6")
    assert code == 0
    assert said.count("tokens read") == 2


def test_models_know_it(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("models", "list")
    assert code == 0 and f"{NAME}:Q4_K_M" in out.split("Can be fetched")[0]
    code, out, _ = run("models", "path", NAME)
    assert code == 0 and out.strip().endswith(f"{NAME}.Q4_K_M.gguf")
    code, out, _ = run("models", "info", NAME, "--tensors")
    assert code == 0
    for said in ("GGUF version 3", "16384", "1000000.0", "kv bytes per token", "token_embd.weight"):
        assert said in out
    code, out, _ = run("models", "plan", NAME, "--json")
    assert code == 0 and json.loads(out)["choice"]["fits"]
    code, out, _ = run("models", "verify", NAME)
    assert code == 0 and "noted" in out
    assert run("models", "verify", NAME)[1].startswith("ok")


def test_doctor_and_status(run: Callable[..., tuple[int, str, str]], repo: Path) -> None:
    run("index", "--repo", str(repo))
    code, out, _ = run("doctor", "--repo", str(repo))
    assert code == 0
    line = next(line for line in out.splitlines() if "language model" in line)
    assert NAME in line and "window 8,192, KV f16" in line and "all 2 layers in RAM" in line
    assert run("status", "--repo", str(repo))[0] == 0


UNTAUGHT = ("write", "commit-message")
REST: dict[str, list[str]] = {
    "search": ["search", "retry_limit"],
    "map": ["map"],
    "review": ["review", "--no-model"],
    "cache": ["cache", "list"],
    "warm": ["warm", "--wait"],
    "bench": ["bench", "--quick"],
    "write": ["write", "make retry_limit return 5", "--max-rounds", "1", "--max-tokens", "24"],
    "commit-message": ["commit-message"],
    "complete": ["complete", "retry.py:2", "--max-tokens", "4"],
}


@pytest.mark.parametrize("name", REST)
def test_every_other_command(run: Callable[..., tuple[int, str, str]], repo: Path, name: str) -> None:
    if name not in commands():
        pytest.skip(f"there is no agent {name} yet")
    if name == "commit-message":
        git(repo, "add", "-A")
    where = [] if name in ("bench", "cache") else ["--repo", str(repo)]
    code, _, said = run(*REST[name], *where)
    # A model of random weights writes nothing that passes the checks of an edit, and that is said.
    assert code == 0 or (name in UNTAUGHT and code in (1, 2)), said


def commands() -> set[str]:
    import typer

    from agent.cli import app

    group: Any = typer.main.get_command(app)
    return set(group.commands)


def test_no_command_is_forgotten() -> None:
    """A command that lands later fails here until it is run above, or is named as one that needs no model."""
    elsewhere = {"ask", "chat", "models", "doctor", "status", "index"}
    # Each is run with the same tiny file by tests of its own.
    own = {"hook", "undo"}
    assert commands() - elsewhere - own <= set(REST)
