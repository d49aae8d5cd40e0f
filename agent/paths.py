"""Where state lives: the directories of cache, models, settings and logs, private to the user."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from indexers.errors import AgentError

if TYPE_CHECKING:
    from indexers.git import Repository

# The distribution's name: "agent" alone would collide with other programs' directories.
APPLICATION = "local-code-agent"
PRIVATE = 0o700
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_dir() -> Path:
    """Directory of indexes: everything in it can be rebuilt."""
    return secure_directory(_place("cache"))


def index_dir(repository: Repository) -> Path:
    """Directory of one work tree's index, outside of that work tree."""
    return secure_directory(cache_dir() / "index" / repository.identity())


def models_dir() -> Path:
    """Directory of downloaded models."""
    return secure_directory(_place("models"))


def state_dir() -> Path:
    """Directory of logs."""
    return secure_directory(_place("state"))


def edits_place(repository: Repository) -> Path:
    """Where the record of one work tree's edits lies; it need not exist, and nothing is created here."""
    return _place("state") / "edits" / repository.identity()


def edits_dir(repository: Repository) -> Path:
    """Directory of the record of edits, by which they are undone."""
    secure_directory(state_dir() / "edits")
    return secure_directory(edits_place(repository))


def config_file() -> Path:
    """The user's settings file; it need not exist, and nothing is created here."""
    return _place("config") / "config.toml"


def secure_directory(path: Path) -> Path:
    """Make `path` (mode 0700) unless it is there, and refuse one that another user could have prepared.

    :raises AgentError: the directory cannot be made, is not ours, or others may write to it.
    """
    try:
        _make(path)
        found = path.stat()
    except OSError as error:
        in_the_way = isinstance(error, FileExistsError)
        reason = f"{error.filename} is no directory" if in_the_way else error.strerror or str(error)
        raise AgentError(
            f"The directory {path} cannot be used: {reason}.",
            "Set AGENT_HOME to a directory you can write to, for example: export AGENT_HOME=$HOME/.agent",
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise AgentError(f"{path} is not a directory.", f"Remove it, or set AGENT_HOME: rm {path}")
    if found.st_uid != os.geteuid():
        raise AgentError(
            f"The directory {path} belongs to user id {found.st_uid}, not to you ({os.geteuid()}): "
            "what lies in it cannot be trusted.",
            "Set AGENT_HOME to a directory of your own, for example: export AGENT_HOME=$HOME/.agent",
        )
    if found.st_mode & OTHERS_MAY_WRITE:
        raise AgentError(f"Others may write to the directory {path}.", f"Close it: chmod go-w {path}")
    return path


def _place(kind: str) -> Path:
    """The directory for `kind` (cache, models, state, config) before it is made or checked."""
    home = os.environ.get("AGENT_HOME", "")
    if home:
        base = Path(os.path.abspath(Path(home).expanduser()))  # noqa: PTH100 (a link to another disk stays a link)
        return base if kind == "config" else base / kind
    try:
        path = {
            "cache": platformdirs.user_cache_path,
            "models": platformdirs.user_data_path,
            "state": platformdirs.user_state_path,
            "config": platformdirs.user_config_path,
        }[kind](APPLICATION, appauthor=False)
    except RuntimeError:
        path = Path("~")
    # No HOME and no entry in the user database: a container with a bare user id. platformdirs raises in some
    # releases and leaves the tilde in others.
    if not path.is_absolute():
        raise AgentError(
            f"There is no home directory to keep the {kind} in.",
            "Set AGENT_HOME to a directory of yours, for example: export AGENT_HOME=/var/tmp/agent-$(id -u)",
        )
    return path / "models" if kind == "models" else path


def _make(path: Path) -> None:
    """Create `path` and the parents it lacks, each private: mkdir's `parents` ignores the mode for those."""
    if path.is_dir():
        return
    if path.parent != path:
        _make(path.parent)
    path.mkdir(mode=PRIVATE, exist_ok=True)
