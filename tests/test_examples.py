"""Every example runs as it stands, on a small repository with a real (tiny) model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repos import commit, make_repo

EXAMPLES = Path(__file__).parent.parent / "examples"

pytestmark = pytest.mark.model


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = make_repo(
        tmp_path / "repo",
        {
            "citations.py": "def check_citation(quote, source):\n    return quote in source\n",
            "retry.py": "def back_off(attempt):\n    return 2 ** attempt\n",
        },
    )
    commit(root, "first")
    return root


def environment(model: Path, home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "AGENT_MODEL": str(model),
        "AGENT_EMBEDDER": "hash",
        "AGENT_HOME": str(home),
        "AGENT_MAX_TOKENS": "40",
    }


@pytest.mark.parametrize("script", sorted(p.name for p in EXAMPLES.glob("*.py")))
def test_script(script: str, repository: Path, smollm_gguf: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), str(repository), "How is a citation checked?"],
        env=environment(smollm_gguf, tmp_path / "home"),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_notebook(
    repository: Path, smollm_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    for name, value in environment(smollm_gguf, tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(repository)}}).execute()
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    kinds = {kind for o in outputs if "data" in o for kind in o["data"]}
    assert {"text/html", "text/markdown"} <= kinds
