"""The user's commands on a copy: their time, their children, their input, and what of the tree they see."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

import psutil
import pytest
from repos import git, make_repo

from chains.writing.edits import FileChange, FileState
from chains.writing.scratch import changed_in, run, scratch_copy
from indexers.errors import UsageError
from indexers.git import Repository


def python(program: str) -> str:
    return f"{sys.executable} -c {shlex.quote(program)}"


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_hangs_is_killed_with_its_children_also_those_that_left(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os.setsid()\n"
        "    if os.fork():\n"
        "        os._exit(0)\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(600)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    began = time.monotonic()
    ran = run(python(program), tmp_path, 3.0, dict(os.environ))
    assert ran.status is None and not ran.ok and time.monotonic() - began < 20
    pids = [int(word) for word in ran.output.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 5
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only what carries its environment is found")
@pytest.mark.parametrize("waits", [True, False])
def test_what_hides_from_its_environment_is_killed_too(tmp_path: Path, waits: bool) -> None:
    program = (
        "import subprocess, sys, time\n"
        "print(subprocess.Popen(['/bin/sleep', '600'], env={}, start_new_session=True).pid, flush=True)\n"
        f"time.sleep({600 if waits else 0})"
    )
    ran = run(python(program), tmp_path, 3.0, dict(os.environ))
    assert ran.ok is not waits
    [pid] = map(int, ran.output.split())
    assert not alive(pid)


def test_how_a_command_ends_is_told(tmp_path: Path) -> None:
    for program, status in (("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 128 + 9)):
        assert run(python(program), tmp_path, 60.0, dict(os.environ)).status == status
    for command in ("no-such-program x", "./none", "sub/none.sh"):
        with pytest.raises(UsageError, match="there is no"):
            run(command, tmp_path, 60.0, dict(os.environ))
    (tmp_path / "here").write_text("#!/bin/sh\necho here\n")
    (tmp_path / "here").chmod(0o755)
    assert run("./here", tmp_path, 60.0, dict(os.environ)).output == "here\n"


def test_what_is_left_behind_by_a_command_that_ends_is_killed_too(tmp_path: Path) -> None:
    program = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"
    ran = run(python(program), tmp_path, 60.0, dict(os.environ))
    assert ran.ok
    deadline = time.monotonic() + 5
    while alive(int(ran.output)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(int(ran.output))


def test_there_is_no_input_to_wait_for(tmp_path: Path) -> None:
    ran = run(python("input()"), tmp_path, 60.0, dict(os.environ))
    assert ran.status == 1 and "EOFError" in ran.output


def test_much_output_is_cut_at_its_beginning(tmp_path: Path) -> None:
    ran = run(python("print('x' * 1_000_000, 'end')"), tmp_path, 60.0, dict(os.environ))
    assert ran.output.endswith("end\n") and len(ran.output) <= 20_000


@pytest.mark.parametrize("command", ["", "   ", "echo 'open", "no-such-program-anywhere"])
def test_commands_that_cannot_be_run(tmp_path: Path, command: str) -> None:
    with pytest.raises(UsageError):
        run(command, tmp_path, 5.0, {"PATH": os.environ["PATH"]})


def test_nothing_is_given_to_a_shell(tmp_path: Path) -> None:
    ran = run("echo $HOME; touch made && true", tmp_path, 10.0, dict(os.environ))
    assert ran.output == "$HOME; touch made && true\n" and not (tmp_path / "made").exists()


def test_the_copy_has_what_git_knows_and_the_changes(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "project", {"a.py": "1\n", "gone.py": "x\n", ".gitignore": "ignored\nvenv\n"})
    (root / "new.py").write_text("untracked\n")
    (root / "ignored").write_text("big\n")
    (root / "venv").mkdir()
    (root / "link").symlink_to("/etc/passwd")
    (root / "a.py").chmod(0o755)
    changes = [
        FileChange("a.py", FileState(b"1\n", 0o755), FileState(b"2\n", 0o755)),
        FileChange("deep/b.py", None, FileState(b"3\n")),
        FileChange("gone.py", FileState(b"x\n"), None),
    ]
    with scratch_copy(Repository.discover(root), changes) as place:
        assert place.name == "project" and place != root
        assert (place / "a.py").read_text() == "2\n" and (place / "a.py").stat().st_mode & 0o111
        assert (place / "deep/b.py").read_text() == "3\n" and not (place / "gone.py").exists()
        assert (
            (place / "new.py").exists() and not (place / "ignored").exists() and not (place / ".git").exists()
        )
        assert (place / "venv").is_symlink() and (place / "link").is_symlink()
        (place / "a.py").write_text("formatted\n")
        found = changed_in(place, changes)
        assert found[0].after == FileState(b"formatted\n", 0o755) and found[2].after is None
    assert not place.exists() and (root / "a.py").read_text() == "1\n"
    assert git(root, "status", "--porcelain", "a.py") == b" M a.py\n"  # the mode alone


def test_python_finds_the_copy_and_git_variables_stay_out(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/agent.py").write_text("here = True\n")
    given = {**os.environ, "GIT_DIR": "/nowhere", "AGENT_HOME": "/nowhere"}
    program = "import agent, os; print(agent.here, 'GIT_DIR' in os.environ, 'AGENT_HOME' in os.environ)"
    assert run(python(program), tmp_path, 60.0, given).output == "True False False\n"


def test_nothing_that_a_command_builds_or_links_leads_out_of_the_copy(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n", "d/b.py": "y = 1\n", ".gitignore": "target\n"})
    (root / "target").mkdir()
    (root / "target/keep").write_text("built\n")
    (root / "file").symlink_to(root / "a.py")
    (root / "directory").symlink_to(root / "d")
    git(root, "add", "-A")
    program = (
        "import os, pathlib\n"
        "os.makedirs('target', exist_ok=True)\n"
        "for name in ('target/keep', 'file', 'directory/b.py'): pathlib.Path(name).write_text('draft')"
    )
    with scratch_copy(Repository.discover(root), []) as place:
        assert run(python(program), place, 60.0, dict(os.environ)).ok
        assert (place / "a.py").read_text() == "draft"
    assert (root / "a.py").read_text() == "x = 1\n" and (root / "d/b.py").read_text() == "y = 1\n"
    assert (root / "target/keep").read_text() == "built\n"


def test_a_command_that_writes_without_end_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chains.writing.scratch._MOST_WRITTEN", 1 << 20)
    began = time.monotonic()
    ran = run(python("while True: print('x' * 10_000)"), tmp_path, 600.0, dict(os.environ))
    assert ran.status is None and time.monotonic() - began < 60
