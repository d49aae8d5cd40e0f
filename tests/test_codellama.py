"""CodeLlama end to end: a file under its name is chosen before others, framed as it was trained, and answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import Agent
from agent.cli import main
from tests.repos import make_repo
from tests.tiny_gguf import build

pytestmark = pytest.mark.model

QUESTION = "How does retry_call work?"
SOURCE = """\
def retry_call(fn):
    while True:
        try:
            return fn()
        except OSError:
            pass
"""


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENT_EMBEDDER", "hash")
    return make_repo(tmp_path / "repo", {"src/retry.py": SOURCE})


@pytest.fixture
def both(install_models: Callable[..., None], tiny_codellama: Path, smollm_gguf: Path) -> Path:
    """CodeLlama in small beside a larger file of another family."""
    install_models(tiny_codellama, smollm_gguf)
    assert smollm_gguf.stat().st_size > tiny_codellama.stat().st_size
    return tiny_codellama


def rope_bases(agent: Agent) -> set[float]:
    """What llama.cpp itself says it computes positions with, for the model and for its context."""
    return {float(base) for base in re.findall(r"\bfreq_base\s*=\s*([\d.]+)", agent.llm.load_log)}


def test_the_installed_codellama_answers_unasked(
    both: Path, repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", QUESTION, "--repo", str(repo), "--max-tokens", "8", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    # The weights are random, so the text is noise; everything around it is not.
    assert answer["model"] == both.stem and answer["text"]
    assert [source["path"] for source in answer["sources"]] == ["src/retry.py"]
    assert answer["usage"]["completion_tokens"] == 8 and answer["usage"]["finish_reason"] == "length"
    assert answer["usage"]["prompt_tokens"] > 100


def test_the_other_model_is_a_flag_away(
    both: Path, smollm_gguf: Path, repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", smollm_gguf.stem, "--max-tokens", "2", "--json"]
    assert main(["ask", QUESTION, "--repo", str(repo), *flags]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == smollm_gguf.stem


def test_it_is_framed_and_scaled_as_codellama_was_trained(both: Path, repo: Path) -> None:
    with Agent.open(repo) as agent:
        prompt = agent.prompt(QUESTION)
        assert Path(agent.llm.model_path).name == both.name
        assert agent.llm.family_name == "codellama-instruct"
        assert agent.llm.info.rope_freq_base == 1e6
        assert rope_bases(agent) == {1e6}
    assert prompt.startswith("<s>") and "[INST] <<SYS>>\n" in prompt and prompt.endswith("[/INST]")
    assert QUESTION in prompt and "src/retry.py" in prompt


def test_an_old_conversion_that_lacks_the_rope_base_gets_it(repo: Path, agent_home: Path) -> None:
    (agent_home / "models").mkdir(parents=True, mode=0o700)
    build(agent_home / "models" / "codellama-13b-instruct.Q4_K_M.gguf", rope_freq_base=None)
    with Agent.open(repo) as agent:
        agent.llm.load()
        assert agent.llm.info.rope_freq_base in (None, 0.0)
        assert rope_bases(agent) == {1e6}
        assert any("RoPE base" in note for note in agent.llm.notes)
