"""The hook in real repositories: what git commits is what is read, and nothing but the exit code says so."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from repos import commit, git, make_repo, write

from agent import hooks
from indexers.errors import UsageError
from indexers.git import Repository

KEY = 'key = "AKIAIOSFODNN7ABCDEFG"\n'
START = "import sys; from agent.cli import main; sys.exit(main())"
SOURCE = str(Path(__file__).parents[1])
Done = subprocess.CompletedProcess[str]


@pytest.fixture
def environment(agent_home: Path) -> dict[str, str]:
    """What a person's shell has, and no model: the checks alone are under test."""
    agent_home.mkdir(parents=True, exist_ok=True, mode=0o700)
    (agent_home / "config.toml").write_text('review_model = "none"\nreview_deadline = 300\n')
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(agent_home.parent),
        "AGENT_HOME": str(agent_home),
        "AGENT_BACKGROUND": "0",
        "PYTHONPATH": SOURCE,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }


def agent(root: Path, env: dict[str, str], *args: str, **more: object) -> Done:
    command = [sys.executable, "-c", START, *args]
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=120, **more)  # type: ignore[call-overload, no-any-return]


def run_git(root: Path, env: dict[str, str], *args: str) -> Done:
    return subprocess.run(
        ["git", *args],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


@pytest.fixture
def root(tmp_path: Path, environment: dict[str, str]) -> Path:
    """A repository with the hook installed."""
    path = make_repo(tmp_path / "r", {"a.py": "x = 1\n", "b.py": "y = 1\n"})
    hooks.install(Repository.discover(path), [hooks.PRE_COMMIT, hooks.PRE_MERGE], [], shared=False)
    return path


def bytes_of(path: Path) -> dict[str, str]:
    """Index and work tree by the hash of their bytes."""
    files = [path / ".git/index", *(file for file in path.rglob("*") if ".git" not in file.parts)]
    return {
        str(f.relative_to(path)): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in sorted(files)
        if f.is_file()
    }


def head(path: Path) -> str:
    return git(path, "rev-parse", "HEAD").decode().strip()


# --- which content -----------------------------------------------------------------------------------


def test_commits_in_every_way_git_has(root: Path, environment: dict[str, str]) -> None:
    first = head(root)
    _watch_the_index(root / ".git/hooks/pre-commit")
    # Staged bad, mended in the work tree only: what is staged counts.
    write(root, {"a.py": KEY})
    git(root, "add", "a.py")
    write(root, {"a.py": "x = 2\n"})
    done = run_git(root, environment, "commit", "-m", "bad")
    assert done.returncode == 1 and "[secret]" in done.stderr and "AKIA" not in done.stderr + done.stdout
    assert head(root) == first and (root / "a.py").read_text() == "x = 2\n"
    # `-a` commits what is in the work tree.
    done = run_git(root, environment, "commit", "-a", "-m", "good")
    assert done.returncode == 0 and "Nothing found" in done.stderr, done.stderr
    # `commit PATH` commits that path alone, whatever is staged beside it.
    write(root, {"a.py": KEY, "b.py": "y = 2\n"})
    git(root, "add", "a.py")
    assert run_git(root, environment, "commit", "-m", "path", "b.py").returncode == 0
    assert run_git(root, environment, "commit", "-m", "path", "a.py").returncode == 1
    # A name that is no UTF-8.
    git(root, "reset", "-q", "--hard")
    (root / os.fsdecode(b"caf\xe9.py")).write_text(KEY)
    git(root, "add", "-A")
    assert run_git(root, environment, "commit", "-m", "odd").returncode == 1
    assert (root / ".git/watched").read_text() == "same\n" * 5


def _watch_the_index(hook: Path) -> None:
    """Git itself writes its index before it runs a hook; what counts is that we do not."""
    hook.rename(hook.with_name("inner"))
    hook.write_text(
        '#!/bin/sh\nat="$(git rev-parse --absolute-git-dir)"; cp "$GIT_INDEX_FILE" "$at/copy"\n'
        '"$(dirname "$0")/inner" "$@"; code=$?\n'
        'cmp -s "$GIT_INDEX_FILE" "$at/copy" && echo same >> "$at/watched" || echo other >> "$at/watched"\n'
        "exit $code\n"
    )
    hook.chmod(0o755)


def test_worktrees_and_unborn_branches(tmp_path: Path, root: Path, environment: dict[str, str]) -> None:
    git(root, "worktree", "add", "-q", str(tmp_path / "w"))
    write(tmp_path / "w", {"a.py": KEY})
    assert run_git(tmp_path / "w", environment, "commit", "-a", "-m", "bad").returncode == 1
    empty = make_repo(tmp_path / "empty")
    hooks.install(Repository.discover(empty), [hooks.PRE_COMMIT], [], shared=False)
    write(empty, {"a.py": KEY})
    git(empty, "add", "-A")
    assert run_git(empty, environment, "commit", "-m", "first").returncode == 1


def test_a_merge_is_reviewed_before_it_is_made(root: Path, environment: dict[str, str]) -> None:
    git(root, "checkout", "-q", "-b", "side")
    write(root, {"a.py": "x = 2\n", "c.py": "c\n"})
    git(root, "-c", "core.hooksPath=/dev/null", "commit", "-qam", "side")
    git(root, "checkout", "-q", "main")
    write(root, {"a.py": "x = 3\n"})
    git(root, "-c", "core.hooksPath=/dev/null", "commit", "-qam", "main")
    assert run_git(root, environment, "merge", "side").returncode == 1
    write(root, {"a.py": "<<<<<<< HEAD\nx = 3\n=======\nx = 2\n>>>>>>> side\n"})
    git(root, "add", "a.py")
    done = run_git(root, environment, "commit", "-m", "merged")
    assert done.returncode == 1 and "[merge-marker]" in done.stderr
    write(root, {"a.py": "x = 4\n"})
    git(root, "add", "a.py")
    assert run_git(root, environment, "commit", "-m", "merged").returncode == 0


# --- when it cannot be done -----------------------------------------------------------------------------


def test_not_reviewed_goes_on_or_stops_as_wanted(
    root: Path, environment: dict[str, str], agent_home: Path
) -> None:
    (agent_home / "config.toml").write_text('review_model = "nowhere"\n')
    write(root, {"a.py": "x = 2\n"})
    done = run_git(root, environment, "commit", "-a", "-m", "change")
    assert done.returncode == 0 and "NOT REVIEWED" in done.stderr and "Nothing found in" not in done.stderr
    write(root, {"a.py": "x = 3\n"})
    closed = {**environment, "AGENT_REVIEW_FAIL_MODE": "closed"}
    assert run_git(root, closed, "commit", "-a", "-m", "change").returncode != 0
    # Wrong settings are no reason to lose a commit either.
    (agent_home / "config.toml").write_text("nonsense = 1\n")
    done = run_git(root, environment, "commit", "-a", "-m", "change")
    assert done.returncode == 0 and "NOT REVIEWED" in done.stderr and "nonsense" in done.stderr


def test_a_program_that_is_gone_or_killed_does_not_lose_the_commit(
    root: Path, environment: dict[str, str]
) -> None:
    hook = root / ".git/hooks/pre-commit"
    script = hook.read_text()
    write(root, {"a.py": "x = 2\n"})
    hook.write_text(script.replace(sys.executable, "/nowhere/python"))
    done = run_git(root, environment, "commit", "-a", "-m", "change")
    assert done.returncode == 0 and "NOT REVIEWED" in done.stderr
    hook.write_text(script.replace("from agent.cli import main", "import os; os.kill(os.getpid(), 9)"))
    write(root, {"a.py": "x = 3\n"})
    done = run_git(root, environment, "commit", "-a", "-m", "change")
    assert done.returncode == 0 and "NOT REVIEWED" in done.stderr
    strict = hooks.script(hooks.PRE_COMMIT, ["--strict"]).replace(sys.executable, "/nowhere/python")
    hook.write_text(strict)
    write(root, {"a.py": "x = 4\n"})
    assert run_git(root, environment, "commit", "-a", "-m", "change").returncode != 0


def test_killed_at_any_time_it_leaves_every_byte_and_no_process(
    root: Path, environment: dict[str, str]
) -> None:
    write(root, {f"f{n}.py": f"def f{n}(a):\n    return {n}\n" * 40 for n in range(150)})
    git(root, "add", "-A")
    before = bytes_of(root)
    for delay in (0.2, 0.5, 0.8, 1.2):
        process = subprocess.Popen(
            [sys.executable, "-c", START, "review"], cwd=root, env=environment, stdout=subprocess.DEVNULL
        )
        time.sleep(delay)
        children = _children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for child in children:
            assert _gone(child), delay
    assert bytes_of(root) == before
    assert not list((root / ".git").glob("*.lock"))
    assert agent(root, environment, "review").returncode == 0


def test_ctrl_c_ends_it_at_once_and_everything_with_it(root: Path, environment: dict[str, str]) -> None:
    write(root, {f"f{n}.py": f"def f{n}(a):\n    return {n}\n" * 40 for n in range(150)})
    git(root, "add", "-A")
    process = subprocess.Popen(
        [sys.executable, "-c", START, "review"], cwd=root, env=environment, stderr=subprocess.PIPE, text=True
    )
    children: list[int] = []
    while not children and process.poll() is None:
        children = _children(process.pid)
    process.send_signal(signal.SIGINT)
    assert "interrupted" in process.communicate(timeout=60)[1]
    assert process.returncode == 130 and all(map(_gone, children))


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _gone(pid: int) -> bool:
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


# --- installing --------------------------------------------------------------------------------------


def test_an_existing_hook_runs_first_and_comes_back(tmp_path: Path, environment: dict[str, str]) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    old = root / ".git/hooks/pre-commit"
    old.parent.mkdir(exist_ok=True)
    old.write_text("#!/bin/sh\ntouch ran\ntest ! -e fail\n")
    old.chmod(0o755)
    text = old.read_text()
    repository = Repository.discover(root)
    for _ in range(2):
        hooks.install(repository, [hooks.PRE_COMMIT], [], shared=False)
    assert [state.other for state in hooks.states(repository) if state.installed] == [True]
    write(root, {"a.py": "x = 2\n"})
    git(root, "add", "a.py")
    assert run_git(root, environment, "commit", "-m", "change").returncode == 0 and (root / "ran").exists()
    (root / "fail").touch()
    assert run_git(root, environment, "commit", "--allow-empty", "-m", "change").returncode == 1
    assert hooks.uninstall(repository) == [old] and old.read_text() == text
    assert hooks.uninstall(repository) == []


def test_an_existing_hook_keeps_its_name_its_place_and_what_is_beside_it(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    place = root / ".git/hooks"
    for name, text in {
        # One script for all hooks, by its name; parts beside it; a library; and the work tree by its depth.
        "dispatch": '. "$(dirname "$0")/lib.sh"; for part in "$0".d/*; do "$part" || exit 1; done\n'
        'basename "$0" >> ran; test -e "$(dirname "$0")/../../a.py"\n',
        "lib.sh": "echo lib >> ran\n",
        "pre-commit.d/one": "echo one >> ran\n",
    }.items():
        write(place, {name: "#!/bin/sh\n" + text})
        (place / name).chmod(0o755)
    (place / "pre-commit").symlink_to("dispatch")
    repository = Repository.discover(root)
    for _ in range(2):
        hooks.install(repository, [hooks.PRE_COMMIT, hooks.PRE_MERGE], [], shared=False)
    assert run_git(root, environment, "commit", "--allow-empty", "-m", "change").returncode == 0
    assert (root / "ran").read_text() == "lib\none\npre-commit\n"
    hooks.uninstall(repository)
    assert (place / "pre-commit").readlink() == Path("dispatch") and (place / "pre-commit.d/one").is_file()
    assert not (root / ".git/hooks.before-agent").exists()


def test_hooks_kept_by_an_earlier_installation_still_run_and_come_back(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    repository = Repository.discover(root)
    path = root / ".git/hooks/pre-commit"
    for again in (False, True):
        hooks.install(repository, [hooks.PRE_COMMIT], [], shared=False)
        path.write_text(
            path.read_text()
            .replace("pwd).before-agent/", "pwd)/")
            .replace('/pre-commit"\n', '/pre-commit.before-agent"\n', 1)
        )
        write(path.parent, {"pre-commit.before-agent": "#!/bin/sh\necho ran >> ran\n"})
        (path.parent / "pre-commit.before-agent").chmod(0o755)
        assert hooks.states(repository)[0].other
        if again:
            hooks.install(repository, [hooks.PRE_COMMIT], [], shared=False)
            assert not (path.parent / "pre-commit.before-agent").exists()
        (root / "ran").unlink(missing_ok=True)
        assert run_git(root, environment, "commit", "--allow-empty", "-m", "change").returncode == 0
        assert (root / "ran").read_text() == "ran\n"
        hooks.uninstall(repository)
        assert "echo ran" in path.read_text()
        path.unlink()


def test_closed_holds_where_the_program_is_gone(
    root: Path, environment: dict[str, str], agent_home: Path
) -> None:
    path = root / ".git/hooks/pre-commit"

    def passes(env: dict[str, str]) -> bool:
        path.write_text(path.read_text().replace(sys.executable, "/nowhere/python"))
        return run_git(root, env, "commit", "--allow-empty", "-m", "change").returncode == 0

    assert passes(environment)
    assert not passes({**environment, "AGENT_REVIEW_FAIL_MODE": "closed"})
    with (agent_home / "config.toml").open("a") as file:
        file.write('review_fail_mode = "closed"\n')
    assert agent(root, environment, "hook", "install").returncode == 0
    assert not passes(environment)
    (agent_home / "config.toml").write_text("")
    assert agent(root, environment, "hook", "install").returncode == 0
    assert passes(environment)
    write(root, {".agent.toml": 'review_fail_mode = "closed"\n'})
    commit(root, "tightened")
    assert agent(root, environment, "hook", "install").returncode == 0
    assert not passes(environment)


def test_hooks_that_are_committed_are_left_alone(tmp_path: Path, environment: dict[str, str]) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n", "[h]/pre-commit": "#!/bin/sh\n"})
    git(root, "config", "core.hooksPath", "[h]")
    done = agent(root, environment, "hook", "install")
    assert done.returncode == 2 and "are committed" in done.stderr and "hook run pre-commit" in done.stderr
    assert not git(root, "status", "--porcelain")
    assert agent(root, environment, "hook", "install", "--shared").returncode == 0
    assert hooks.states(Repository.discover(root))[0].installed


def test_core_hooks_path_is_respected(tmp_path: Path, environment: dict[str, str]) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    repository = Repository.discover(root)
    git(root, "config", "core.hooksPath", ".husky")
    hooks.install(repository, [hooks.PRE_COMMIT], [], shared=False)
    assert (root / ".husky/pre-commit").exists() and not (root / ".git/hooks/pre-commit").exists()
    write(root, {"a.py": KEY})
    git(root, "add", "a.py")
    assert run_git(root, environment, "commit", "-m", "bad").returncode == 1
    git(root, "config", "core.hooksPath", str(tmp_path / "everybody"))
    with pytest.raises(UsageError, match="outside of this repository"):
        hooks.install(repository, [hooks.PRE_COMMIT], [], shared=False)
    hooks.install(repository, [hooks.PRE_COMMIT], [], shared=True)
    assert (tmp_path / "everybody/pre-commit").exists()


def test_the_command_line_installs_shows_and_removes(tmp_path: Path, environment: dict[str, str]) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    assert agent(root, environment, "hook", "install", "--pre-push").returncode == 0
    shown = agent(root, environment, "hook", "status").stdout
    assert shown.count("not installed") == 1 and "post-commit" in shown
    assert agent(root, environment, "hook", "uninstall").stdout.count("removed") == 3


def test_what_is_pushed_is_reviewed(tmp_path: Path, environment: dict[str, str]) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    git(tmp_path, "init", "-q", "--bare", "remote")
    git(root, "remote", "add", "origin", str(tmp_path / "remote"))
    hooks.install(Repository.discover(root), [hooks.PRE_PUSH], [], shared=False)
    assert run_git(root, environment, "push", "-q", "origin", "main").returncode == 0
    write(root, {"a.py": KEY})
    commit(root, "went past")
    done = run_git(root, environment, "push", "-q", "origin", "main")
    assert done.returncode != 0 and "[secret]" in done.stdout + done.stderr
    assert run_git(root, environment, "push", "-q", "--no-verify", "origin", "main").returncode == 0
    git(root, "push", "-q", "--no-verify", "origin", "main:other")
    assert run_git(root, environment, "push", "-q", "origin", ":other").returncode == 0


# --- policy ------------------------------------------------------------------------------------------


def test_the_policy_is_the_one_already_committed(root: Path, environment: dict[str, str]) -> None:
    write(root, {"a.py": "try:\n    breakpoint()\nfinally:\n    pass\n"})
    git(root, "add", "a.py")
    assert agent(root, environment, "review").returncode == 1
    assert agent(root, environment, "review", "--block-at", "critical").returncode == 0
    # A repository cannot loosen, neither by what is staged nor by what is committed.
    write(root, {".agent.toml": 'review_block_at = "critical"\nreview_fail_mode = "open"\n'})
    git(root, "add", ".agent.toml")
    assert agent(root, environment, "review").returncode == 1
    git(root, "commit", "-q", "--no-verify", "-m", "loosened", "--", ".agent.toml")
    assert agent(root, environment, "review").returncode == 1
    # It can tighten, from the next commit on.
    write(root, {".agent.toml": 'review_block_at = "low"\n'})
    assert agent(root, environment, "review", "--block-at", "critical").returncode == 0
    git(root, "commit", "-q", "--no-verify", "-m", "tightened", "--", ".agent.toml")
    assert agent(root, environment, "review", "--block-at", "critical").returncode == 1
    assert agent(root, {**environment, "AGENT_HOME": environment["AGENT_HOME"]}, "review").returncode == 1


def test_accepted_findings_are_quiet_and_a_file_of_them_counts_as_committed(
    root: Path, environment: dict[str, str]
) -> None:
    write(root, {"a.py": KEY})
    git(root, "add", "a.py")
    listed = root / "accepted.json"
    assert agent(root, environment, "review", "--accept", "--baseline", str(listed)).returncode == 0
    assert "AKIA" not in listed.read_text()
    # Not committed yet, so it does not count.
    assert agent(root, environment, "review", "--baseline", "accepted.json").returncode == 1
    git(root, "add", "accepted.json")
    assert agent(root, environment, "review", "--baseline", "accepted.json").returncode == 1
    git(root, "commit", "-q", "--no-verify", "-m", "list", "--", "accepted.json")
    assert agent(root, environment, "review", "--baseline", "accepted.json").returncode == 0
    assert agent(root, environment, "review").returncode == 1
    assert agent(root, environment, "review", "--accept").returncode == 0
    done = agent(root, environment, "review")
    assert done.returncode == 0 and "1 finding accepted before" in done.stdout


@pytest.fixture(autouse=True)
def no_process_is_left(environment: dict[str, str]) -> Iterator[None]:
    """No review outlives the command that began it."""
    yield
    mine = f"AGENT_HOME={environment['AGENT_HOME']}".encode()
    # What works behind a commit is niced: on a busy machine its last moments take a while.
    end = time.monotonic() + 60
    while left := processes_of(mine):
        assert time.monotonic() < end, left
        time.sleep(0.2)


def processes_of(mine: bytes) -> list[bytes]:
    """The command lines of processes with this in their environment."""
    left = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if int(place.name) != os.getpid() and mine in (place / "environ").read_bytes().split(b"\0"):
                left.append((place / "cmdline").read_bytes())
        except OSError:
            continue
    return left
