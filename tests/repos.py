"""Real git repositories for tests, made with the git on PATH and deaf to anybody's configuration."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_FLAGS = (
    *("-c", "user.name=Tester", "-c", "user.email=tester@example.org"),
    *("-c", "init.defaultBranch=main", "-c", "commit.gpgSign=false", "-c", "core.autocrlf=false"),
    *("-c", "advice.detachedHead=false", "-c", "protocol.file.allow=always"),
)
_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": os.devnull,
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    # The same commit ids in every run.
    "GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z",
}


def git(path: Path, *args: str | bytes, check: bool = True) -> bytes:
    """What git writes to stdout, run in `path`; fails the test when git fails, unless `check` is false."""
    done = subprocess.run(
        ["git", *_FLAGS, *args], cwd=path, env=_ENVIRONMENT, capture_output=True, check=False
    )
    if check and done.returncode != 0:
        raise AssertionError(f"git {args!r} in {path}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def write(path: Path, files: Mapping[str, bytes | str]) -> None:
    """Write files below `path`, with the directories they need; text as UTF-8."""
    for name, content in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)


def make_repo(path: Path, files: Mapping[str, bytes | str] | None = None, *options: str) -> Path:
    """A new repository at `path` with these files in its first commit; without files it has no commit.

    `options` go to `git init`, such as `--object-format=sha256`.
    """
    path.mkdir(parents=True, exist_ok=True)
    git(path, "init", "-q", *options)
    if files:
        write(path, files)
        commit(path, "first")
    return path


def commit(path: Path, message: str = "change") -> str:
    """Stage everything that is not ignored, commit it, and return the commit's id."""
    git(path, "add", "-A")
    git(path, "commit", "-q", "--allow-empty", "-m", message)
    return git(path, "rev-parse", "HEAD").decode().strip()
