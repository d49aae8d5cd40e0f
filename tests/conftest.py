"""Shared fixtures: a home of its own for every test, and real models fetched once for all runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs
import pytest
from tiny_gguf import tiny_codellama  # noqa: F401 - a fixture

# Found before any test changes HOME. Big files: kept between runs, in AGENT_TEST_MODELS where CI wants them.
MODELS_HOME = Path(
    os.environ.get("AGENT_TEST_MODELS") or platformdirs.user_cache_dir("local-code-agent-tests")
).absolute()
# What would change the behaviour under test, or send traces of it to somebody.
FOREIGN_VARIABLES = (
    "AGENT_",
    "LANGCHAIN",
    "LANGSMITH",
    "XDG_",
    "GIT_",
    "NO_COLOR",
    "FORCE_COLOR",
    "CLICOLOR",
)


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory and an AGENT_HOME of the test's own: nothing real is read or written."""
    for variable in list(os.environ):
        if variable.startswith(FOREIGN_VARIABLES):
            monkeypatch.delenv(variable)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AGENT_HOME", str(home / "agent"))
    # A second for each index made: what tests of ours start as processes do it as everybody does.
    monkeypatch.setattr("indexers.build.APART", False)
    # No test leaves a process behind that it did not ask for.
    monkeypatch.setenv("AGENT_BACKGROUND", "0")
    return home


@pytest.fixture
def agent_home(isolated: Path) -> Path:
    """The test's AGENT_HOME."""
    return isolated / "agent"


@pytest.fixture(scope="session")
def models_home() -> Iterator[Path]:
    """The AGENT_HOME that real models are kept under, between runs too."""
    MODELS_HOME.mkdir(parents=True, exist_ok=True, mode=0o700)
    yield MODELS_HOME


@pytest.fixture(scope="session")
def minilm_dir(models_home: Path) -> Path:
    """The directory of the real embedding model."""
    from agent.models import ensure_embedder

    return _fetched(models_home, ensure_embedder)


@pytest.fixture(scope="session")
def smollm_gguf(models_home: Path) -> Path:
    """SmolLM2-135M: a real engine that loads in half a second and answers badly."""
    from agent.models import pull

    return _fetched(models_home, lambda: pull("smollm2-135m-instruct"))


@pytest.fixture(scope="session")
def qwen_gguf(models_home: Path) -> Path:
    """Qwen2.5-Coder-0.5B: the smallest model that answers."""
    from agent.models import pull

    return _fetched(models_home, lambda: pull("qwen2.5-coder-0.5b-instruct"))


@pytest.fixture
def install_models(agent_home: Path) -> Callable[..., None]:
    """Make files or directories of the real models the installed ones of this test."""

    def install(*paths: Path) -> None:
        from agent.paths import models_dir

        for path in paths:
            (models_dir() / path.name).symlink_to(path)

    return install


def _fetched(home: Path, fetch: Callable[[], Path]) -> Path:
    """Run a download with the shared home; session fixtures come before a test's own environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENT_HOME", str(home))
        return fetch()
