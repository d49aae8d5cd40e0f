"""The real pre-commit framework runs the review: what it passes, what it shows, and that it finds nothing changed."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from repos import git, make_repo, write
from test_hook import KEY, SOURCE, START, environment, run_git  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[1]


def framework(root: Path, env: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pre_commit", *args]
    return subprocess.run(
        command, cwd=root, env=env, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def env(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:  # noqa: F811
    return {**environment, "PRE_COMMIT_HOME": str(tmp_path / "pre-commit"), "PYTHONPATH": SOURCE}


@pytest.fixture
def root(tmp_path: Path, env: dict[str, str]) -> Path:
    """A repository with the example's configuration, which runs the program under test."""
    config = yaml.safe_load((ROOT / "examples/pre-commit-config.yaml").read_text())
    [hook] = config["repos"][0]["hooks"]
    hook["entry"] = shlex.join([sys.executable, "-c", START, *hook["entry"].split()[1:]])
    path = make_repo(tmp_path / "r", {"a.py": "x = 1\n", ".pre-commit-config.yaml": yaml.safe_dump(config)})
    kinds = [word for stage in hook["stages"] for word in ("--hook-type", stage)]
    done = framework(path, env, "install", *kinds)
    assert done.returncode == 0, done.stdout + done.stderr
    return path


def test_commits_pass_and_fail_with_what_was_said(root: Path, env: dict[str, str]) -> None:
    write(root, {"a.py": "x = 2\n"})
    git(root, "add", "a.py")
    write(root, {"a.py": "x = 2\nunstaged = 1\n"})
    done = run_git(root, env, "commit", "-m", "good")
    assert done.returncode == 0 and "Nothing found in 1 hunk" in done.stdout + done.stderr
    assert (root / "a.py").read_text() == "x = 2\nunstaged = 1\n"
    write(root, {"a.py": KEY})
    git(root, "add", "a.py")
    write(root, {"a.py": "x = 3\n"})
    done = run_git(root, env, "commit", "-m", "bad")
    assert done.returncode == 1 and "[secret]" in done.stdout + done.stderr
    assert (root / "a.py").read_text() == "x = 3\n"


def test_what_could_not_be_reviewed_is_seen_though_it_passes(root: Path, env: dict[str, str]) -> None:
    write(root, {"a.py": "x = 2\n"})
    lost = {**env, "AGENT_REVIEW_MODEL": "nowhere"}
    done = run_git(root, lost, "commit", "-a", "-m", "change")
    assert done.returncode == 0 and "NOT REVIEWED" in done.stdout + done.stderr
    write(root, {"a.py": "x = 3\n"})
    closed = {**lost, "AGENT_REVIEW_FAIL_MODE": "closed"}
    assert run_git(root, closed, "commit", "-a", "-m", "change").returncode == 1


def test_a_push_is_reviewed_as_a_range(root: Path, env: dict[str, str], tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "remote")
    git(root, "remote", "add", "origin", str(tmp_path / "remote"))
    git(root, "push", "-q", "--no-verify", "origin", "main")
    write(root, {"a.py": KEY})
    git(root, "-c", "core.hooksPath=/dev/null", "commit", "-q", "-am", "went past")
    done = run_git(root, env, "push", "origin", "main")
    assert done.returncode != 0 and "[secret]" in done.stdout + done.stderr


def test_the_published_manifest_is_one(tmp_path: Path) -> None:
    from pre_commit.clientlib import load_manifest

    [hook] = load_manifest(str(ROOT / ".pre-commit-hooks.yaml"))
    assert hook["verbose"] and hook["require_serial"] and not hook["pass_filenames"] and hook["always_run"]
    assert {"pre-commit", "pre-merge-commit", "pre-push"} <= set(hook["stages"])


def test_the_workflow_uploads_what_is_written() -> None:
    workflow = yaml.safe_load((ROOT / "examples/github-review.yml").read_text())
    steps = workflow["jobs"]["review"]["steps"]
    run = next(step["run"] for step in steps if "agent review" in step.get("run", ""))
    assert "--format sarif > review.sarif" in run and "${{" not in run
    assert (
        next(step for step in steps if "upload-sarif" in step.get("uses", ""))["with"]["sarif_file"]
        == "review.sarif"
    )
