"""Where state lives, and which directories are refused."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent import paths
from indexers.errors import AgentError
from indexers.git import Repository

# An environment without HOME in which our packages are still found.
BARE = {"PYTHONPATH": str(Path(paths.__file__).parents[1])}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AGENT_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_agent_home_holds_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "deep" / "agent"
    monkeypatch.setenv("AGENT_HOME", str(home))
    assert paths.cache_dir() == home / "cache"
    assert paths.models_dir() == home / "models"
    assert paths.state_dir() == home / "state"
    assert paths.config_file() == home / "config.toml"


def test_agent_home_may_be_relative_or_start_with_a_tilde(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENT_HOME", "state")
    assert paths.cache_dir() == tmp_path / "state" / "cache"
    monkeypatch.setenv("AGENT_HOME", "~/a")
    assert paths.cache_dir() == tmp_path / "home" / "a" / "cache"


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_directories_are_private_with_their_parents(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, umask: int
) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "a" / "b"))
    before = os.umask(umask)
    try:
        made = paths.cache_dir()
    finally:
        os.umask(before)
    assert [mode(path) for path in (made, made.parent, made.parent.parent)] == [0o700] * 3


def test_user_directories_are_named_after_the_program(tmp_path: Path) -> None:
    for path in (paths.cache_dir(), paths.models_dir(), paths.state_dir()):
        assert path.is_relative_to(tmp_path / "home")
        assert "local-code-agent" in path.parts
    assert not paths.config_file().exists()


@pytest.mark.parametrize("opened", [0o770, 0o707, 0o777])
def test_a_directory_others_may_write_to_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, opened: int
) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    paths.cache_dir().chmod(opened)
    with pytest.raises(AgentError, match="Others may write") as refusal:
        paths.cache_dir()
    assert refusal.value.remedy == f"Close it: chmod go-w {tmp_path / 'cache'}"


def test_a_directory_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    if os.geteuid() == 0:
        os.chown(paths.cache_dir(), 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(AgentError, match="belongs to user id"):
        paths.cache_dir()


def test_a_file_in_the_place_of_a_directory_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    (tmp_path / "cache").write_text("")
    with pytest.raises(AgentError, match="cannot be used: .* is no directory"):
        paths.cache_dir()


def test_home_unset_falls_back_to_the_user_database(tmp_path: Path) -> None:
    code = "from agent.paths import config_file; print(config_file())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=BARE, check=True)
    assert Path(done.stdout.strip()).is_absolute()


def test_no_home_at_all_is_explained(tmp_path: Path) -> None:
    code = """
import os
import pwd
def nobody(uid):
    raise KeyError(uid)
pwd.getpwuid = nobody
from agent.paths import cache_dir
from indexers.errors import AgentError
try:
    cache_dir()
except AgentError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=BARE, cwd=tmp_path, check=False
    )
    assert "There is no home directory" in done.stdout, done.stderr
    assert "export AGENT_HOME=" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_index_lies_outside_of_the_work_tree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "agent"))
    repository = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    found = Repository.discover(repository)
    directory = paths.index_dir(found)
    assert directory == tmp_path / "agent" / "cache" / "index" / found.identity()
    assert mode(directory) == 0o700
    assert not directory.is_relative_to(repository)
