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

from agent import hooks
from indexers.git import Repository

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


def test_the_first_push_of_all_is_reviewed_from_the_empty_tree(
    root: Path, env: dict[str, str], tmp_path: Path
) -> None:
    git(tmp_path, "init", "-q", "--bare", "remote")
    git(root, "remote", "add", "origin", str(tmp_path / "remote"))
    write(root, {"a.py": KEY})
    git(root, "-c", "core.hooksPath=/dev/null", "commit", "-q", "-am", "went past")
    done = run_git(root, env, "push", "origin", "main")
    assert done.returncode != 0 and "[secret]" in done.stdout + done.stderr
    write(root, {"a.py": "x = 2\n"})
    git(root, "-c", "core.hooksPath=/dev/null", "commit", "-q", "--amend", "-am", "mended")
    done = run_git(root, env, "push", "origin", "main")
    assert done.returncode == 0 and "everything up to" in done.stdout + done.stderr
    # A new branch beside what the remote has is only what it adds.
    git(root, "checkout", "-q", "-b", "side")
    write(root, {"b.py": KEY})
    git(root, "add", "b.py")
    git(root, "-c", "core.hooksPath=/dev/null", "commit", "-q", "-m", "side")
    done = run_git(root, env, "push", "origin", "side")
    assert done.returncode != 0 and "1 hunk in 1 file" in done.stdout + done.stderr


def test_a_run_over_all_files_does_not_claim_to_have_reviewed_them(root: Path, env: dict[str, str]) -> None:
    done = framework(root, env, "run", "--all-files")
    assert done.returncode == 0 and "NOT REVIEWED: Nothing is staged" in done.stdout, done.stdout
    closed = {**env, "AGENT_REVIEW_FAIL_MODE": "closed"}
    assert framework(root, closed, "run", "--all-files").returncode == 1
    assert framework(root, closed, "run", "--all-files", "--hook-stage", "pre-push").returncode == 1
    done = run_git(root, closed, "commit", "--allow-empty", "-m", "nothing changes")
    assert done.returncode == 0 and "Nothing to review in staged changes" in done.stdout + done.stderr
    write(root, {"a.py": KEY})
    git(root, "add", "a.py")
    done = framework(root, env, "run", "--all-files")
    assert done.returncode == 1 and "[secret]" in done.stdout


@pytest.mark.parametrize("order", ["framework first", "ours first"])
def test_both_can_be_installed_in_any_order_and_again(
    tmp_path: Path, env: dict[str, str], order: str
) -> None:
    local = {"id": "ran", "name": "ran", "entry": "touch ran", "language": "system", "pass_filenames": False}
    config = yaml.safe_dump({"repos": [{"repo": "local", "hooks": [{**local, "always_run": True}]}]})
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n", ".pre-commit-config.yaml": config})
    repository = Repository.discover(root)
    top = root / ".git/hooks/pre-commit"

    def commits_are_reviewed_once(both: bool = True) -> None:
        (root / "ran").unlink(missing_ok=True)
        done = run_git(root, env, "commit", "--allow-empty", "-m", "good")
        assert done.returncode == 0, done.stdout + done.stderr
        assert (done.stdout + done.stderr).count("Nothing to review in") == 1
        assert (root / "ran").exists() == both

    def state() -> hooks.HookState:
        return next(item for item in hooks.states(repository) if item.stage == hooks.PRE_COMMIT)

    if order == "framework first":
        assert framework(root, env, "install").returncode == 0
    hooks.install(repository, [hooks.PRE_COMMIT], [], shared=False)
    assert state().installed and not state().framework
    commits_are_reviewed_once(both=order == "framework first")
    assert framework(root, env, "install").returncode == 0
    assert state().installed and state().framework and state().current
    commits_are_reviewed_once()
    # What runs already is renewed where it is.
    [path] = hooks.install(repository, [hooks.PRE_COMMIT], [], shared=False)
    assert path == top.with_name("pre-commit.legacy") and state().framework and not state().other
    commits_are_reviewed_once()
    assert hooks.uninstall(repository) == [path]
    assert [file.name for file in top.parent.glob("pre-commit*") if file.suffix != ".sample"] == [
        "pre-commit"
    ]
    assert not top.parent.with_name("hooks.before-agent").exists()
    done = run_git(root, env, "commit", "--allow-empty", "-m", "good")
    assert done.returncode == 0 and "Nothing to review" not in done.stdout + done.stderr


def test_a_block_made_by_an_earlier_installation_is_mended(tmp_path: Path, env: dict[str, str]) -> None:
    config = yaml.safe_dump({"repos": []})
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n", ".pre-commit-config.yaml": config})
    repository = Repository.discover(root)
    top = root / ".git/hooks/pre-commit"
    assert framework(root, env, "install").returncode == 0
    theirs = top.read_text()
    hooks.install(repository, [hooks.PRE_COMMIT], [], shared=False)
    earlier = (
        top.read_text()
        .replace("PRE_COMMIT_RUNNING_LEGACY", "NO_SUCH")
        .replace("pwd).before-agent/pre-commit", "pwd)/pre-commit.before-agent")
    )
    blocked = {top: theirs, top.with_name("pre-commit.before-agent"): theirs}
    blocked[top.with_name("pre-commit.legacy")] = earlier
    for mends in ("install", "uninstall"):
        for path, text in blocked.items():
            path.write_text(text)
            path.chmod(0o755)
        done = run_git(root, env, "commit", "--allow-empty", "-m", "blocked")
        assert done.returncode != 0 and "migration mode" in done.stdout + done.stderr
        if mends == "install":
            hooks.install(repository, [hooks.PRE_COMMIT], [], shared=False)
        else:
            hooks.uninstall(repository)
        assert run_git(root, env, "commit", "--allow-empty", "-m", "good").returncode == 0
    assert [file.name for file in top.parent.glob("pre-commit*") if file.suffix != ".sample"] == [
        "pre-commit"
    ]


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
