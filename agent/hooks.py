"""Installs the review into a repository's git hooks, beside what is there, and takes it out again."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from indexers.errors import UsageError
from indexers.git import Repository

# What git runs before a commit, before a clean merge becomes one, before a push, and after a commit.
PRE_COMMIT, PRE_MERGE, PRE_PUSH, POST_COMMIT = "pre-commit", "pre-merge-commit", "pre-push", "post-commit"
STAGES = (PRE_COMMIT, PRE_MERGE, PRE_PUSH, POST_COMMIT)
_MARK = "# agent review hook"
_BEFORE = ".before-agent"
_MODE = 0o755
_MOST_BYTES = 1_000_000

_SCRIPT = """#!/bin/sh
{mark}: made by `agent hook install`, removed by `agent hook uninstall`.
# Whatever was here before is {stage}{before} now, and runs first.
before="$(dirname "$0")/{stage}{before}"
{read_input}if [ -x "$before" ]; then
    {input}"$before" "$@" || exit $?
fi
{input}{command} hook run {options} {stage} "$@"
code=$?
case $code in
    0) exit 0 ;;
    11) exit 1 ;;
    13) exit 3 ;;
    130) exit 130 ;;
esac
echo "agent review: NOT REVIEWED, it could not be run (status $code): agent hook status" >&2
exit {failed}
"""
# Not the current directory: the repository could hold a package called agent. What is imported comes from where we do.
_START = (
    "import sys; home = sys.argv.pop(1); home in sys.path or sys.path.insert(0, home);"
    " from agent.cli import main; sys.exit(main())"
)


@dataclass(frozen=True, slots=True)
class HookState:
    """One hook of a repository: whether it is ours, and whether another one runs before it or stands in its place."""

    stage: str
    path: str
    installed: bool
    current: bool = False
    other: bool = False
    executable: bool = True


def install(
    repository: Repository, stages: Sequence[str], options: Sequence[str], *, shared: bool
) -> list[Path]:
    """Write the hooks; where they are.

    An existing hook is kept beside ours and runs before it. Installing again renews ours.

    :param options: for `agent hook run`.
    :param shared: go on where the directory of hooks serves other repositories too.
    :raises UsageError: it does, or a hook is no file that we can move.
    """
    directory = repository.hooks_dir()
    if not shared and not _is_own(directory, repository):
        raise UsageError(
            f"core.hooksPath is {directory}, outside of this repository: its hooks run in others too.",
            "Install it for all of them: agent hook install --shared",
        )
    directory.mkdir(parents=True, exist_ok=True)
    return [_install(directory, stage, options) for stage in stages]


def uninstall(repository: Repository) -> list[Path]:
    """Remove our hooks and put back what was there; which ones."""
    removed: list[Path] = []
    for stage in STAGES:
        path = repository.hooks_dir() / stage
        if not _is_ours(path):
            continue
        path.unlink()
        before = path.with_name(stage + _BEFORE)
        if before.exists():
            before.rename(path)
        removed.append(path)
    return removed


def states(repository: Repository) -> list[HookState]:
    """Every hook we could be in."""
    found: list[HookState] = []
    for stage in STAGES:
        path = repository.hooks_dir() / stage
        ours = _is_ours(path)
        current = ours and shlex.quote(sys.executable) in path.read_text(encoding="utf-8", errors="replace")
        other = path.with_name(stage + _BEFORE).exists() if ours else path.exists()
        found.append(
            HookState(stage, str(path), ours, current, other, not path.exists() or os.access(path, os.X_OK))
        )
    return found


def script(stage: str, options: Sequence[str]) -> str:
    """The hook as a shell script that starts this very installation and tells its exit codes from a crash's."""
    home = str(Path(__file__).parents[1])
    command = " ".join(map(shlex.quote, (sys.executable, "-I", "-c", _START, home)))
    reads = stage == PRE_PUSH
    return _SCRIPT.format(
        mark=_MARK,
        stage=stage,
        before=_BEFORE,
        read_input="input=$(cat)\n" if reads else "",
        input='printf "%s\\n" "$input" | ' if reads else "",
        command=command,
        options=" ".join(("--as-script", *map(shlex.quote, options))),
        failed="3" if "--strict" in options else "0",
    )


def _install(directory: Path, stage: str, options: Sequence[str]) -> Path:
    path = directory / stage
    if os.path.lexists(path) and not _is_ours(path):
        before = path.with_name(stage + _BEFORE)
        if os.path.lexists(before):
            raise UsageError(
                f"There are two hooks before ours: {path} and {before}.", f"Join them, then: rm {before}"
            )
        path.rename(before)
    unfinished = path.with_name(f"{stage}.{os.getpid()}.tmp")
    unfinished.write_text(script(stage, options), encoding="utf-8")
    unfinished.chmod(_MODE)
    unfinished.replace(path)
    return path


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _MARK.encode() in file.read(_MOST_BYTES)
    except OSError:
        return False


def _is_own(directory: Path, repository: Repository) -> bool:
    resolved = directory.resolve()
    return resolved.is_relative_to(repository.common_dir) or resolved.is_relative_to(repository.root)
