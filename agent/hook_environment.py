"""What git tells its hooks through the environment, as far as it is about this repository."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from indexers.git import Repository

# pre-commit's range of a push, where it runs us.
_FROM, _TO = "PRE_COMMIT_FROM_REF", "PRE_COMMIT_TO_REF"
# What it sets for every hook, and what it says of a push besides.
_FRAMEWORK, _BRANCH = "PRE_COMMIT", "PRE_COMMIT_LOCAL_BRANCH"
_INDEX = "GIT_INDEX_FILE"


def index_file(repository: Repository, environ: Mapping[str, str] | None = None) -> str:
    """The index that git is about to commit, where it names one for this repository; empty for the usual one.

    `git commit -a` and `git commit PATH` make an index of their own: what lies in `.git/index` then is something else.
    """
    environ = os.environ if environ is None else environ
    named = environ.get(_INDEX, "")
    if not named:
        return ""
    # Relative to where git started us, which is the top of the work tree.
    path = Path(os.path.abspath(named))  # noqa: PTH100 (a link would be another file)
    git_dir = environ.get("GIT_DIR", "")
    if git_dir:
        ours = Path(git_dir).resolve() == repository.git_dir
    else:
        ours = path.resolve().is_relative_to(repository.git_dir) or Path.cwd().resolve() == repository.root
    return str(path) if ours and path.is_file() else ""


def pushed_range(environ: Mapping[str, str] | None = None) -> str | None:
    """The range A..B that pre-commit says is pushed; None where it says nothing."""
    environ = os.environ if environ is None else environ
    start, end = environ.get(_FROM, ""), environ.get(_TO, "")
    return f"{start}..{end}" if start and end and start.strip("0") else None


def pushed_tip(environ: Mapping[str, str] | None = None) -> str | None:
    """What pre-commit says is pushed where the remote has nothing to compare with; None where it says nothing."""
    environ = os.environ if environ is None else environ
    if pushed_range(environ):
        return None
    # For a branch with a root commit in it the framework names no commits, only the branch.
    return environ.get(_TO) or environ.get(_BRANCH) or None


def without_commit(environ: Mapping[str, str] | None = None) -> bool:
    """Whether pre-commit was run by hand or in CI: git names the index to every hook of a commit."""
    environ = os.environ if environ is None else environ
    return environ.get(_FRAMEWORK) == "1" and not environ.get(_INDEX)
