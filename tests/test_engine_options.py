"""The engine's options on the command line and in the settings: they reach llama.cpp, and mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_gguf import build

from agent import Agent
from agent.cli import main
from agent.config import load_settings
from chains.engine.library import supports_gpu
from indexers.errors import UsageError
from tests.repos import make_repo


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model") / "codellama-7b-instruct.F32.gguf", width=128)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", {"a.py": "def retry_limit():\n    return 3\n"})


def test_the_flags_reach_the_engine_and_are_told(
    repo: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--context", "2048", "--kv", "q8_0", "--threads", "1", "--gpu-layers", "0"]
    asked = ["ask", "what does retry_limit return?", "--repo", str(repo), "--model", str(model)]
    assert main([*asked, *flags, "--max-tokens", "4", "--no-download"]) == 0
    said = capsys.readouterr().err
    assert "window 2,048 tokens, KV q8_0, batch 512, 1 threads, all 2 layers in RAM; takes 0.1 GiB of" in said


def test_settings_reach_the_engine(repo: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MODEL": model, "CONTEXT": 2304, "KV": "q8_0", "TENSOR_SPLIT": "3,1"}.items():
        monkeypatch.setenv(f"AGENT_{name}", str(value))
    settings = load_settings()
    assert (settings.context, settings.kv, settings.tensor_split) == (2304, "q8_0", (3.0, 1.0))
    with Agent.open(repo) as agent:
        agent.llm.load()
        assert agent.llm.context_window == 2304
        assert "K (q8_0)" in agent.llm.load_log


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--kv", "q3"], "one of bf16, f16"),
        (["--tensor-split", "a,b"], "one for each GPU"),
        (["--tensor-split", "0,0"], "one for each GPU"),
        (["--lora", "/nowhere.gguf"], "LoRA adapter /nowhere.gguf cannot be used"),
        (["--context", "100000000"], "needs"),
    ],
)
def test_mistakes_are_named(
    repo: Path, model: Path, flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        "ask",
        "what does retry_limit return?",
        "--repo",
        str(repo),
        "--model",
        str(model),
        "--no-download",
    ]
    assert main([*asked, *flags]) == 2
    assert said in capsys.readouterr().err


def test_layers_on_a_gpu_without_a_build_for_it(
    repo: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if supports_gpu():
        pytest.skip("this llama.cpp can use a GPU")
    asked = [
        "ask",
        "what does retry_limit return?",
        "--repo",
        str(repo),
        "--model",
        str(model),
        "--no-download",
    ]
    assert main([*asked, "--gpu-layers", "-1"]) == 2
    assert "llama.cpp was built for the CPU only" in capsys.readouterr().err


def test_a_repository_cannot_choose_an_adapter(repo: Path) -> None:
    (repo / ".agent.toml").write_text('lora = "evil.gguf"\ngpu_layers = 99\n')
    settings = load_settings(repo)
    assert (settings.lora, settings.gpu_layers) == (None, None)
    assert len(settings.warnings) == 2


def test_shares_are_numbers() -> None:
    with pytest.raises(UsageError):
        load_settings(None, {"tensor_split": [1, "x"]})
    assert load_settings(None, {"tensor_split": [1, 2.5]}).tensor_split == (1.0, 2.5)
