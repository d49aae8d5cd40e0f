"""Reviews that go on after the commit, out of everybody's way, and are told before the next one."""

# A hook starts no daemon. What it starts where the user asked for that (agent hook install --background) reads the
# commits that wait, writes what it found, and ends; it begins no further one once the time for one is over. There is
# one such process for a repository and all its worktrees. What it leaves waits for the next commit.

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from agent.config import Settings, load_settings
from agent.guard import guarded
from agent.paths import cache_dir, secure_directory
from agent.review import Request, reports
from chains.reviewing.codec import report_from_data, report_to_data
from chains.reviewing.types import Reason, ReviewReport, Unreviewed
from indexers.atomic import write_whole
from indexers.errors import AgentError, BusyError
from indexers.git import Repository
from indexers.locks import is_held, locked
from indexers.revisions import commit_id

# Nobody waits for it; but what takes longer than this has gone wrong.
DEADLINE = 600.0
_START_SECONDS = 10.0
# Whoever only looks holds the lock for an instant.
_LOCK_SECONDS = 2.0
# What git keeps in its directory while it makes commits by itself.
_REBASES = ("rebase-merge", "rebase-apply")
_WAITS, _BEGUN = ".waits", ".begun"
_START = (
    "import os, sys; os.fork() and os._exit(0); os.nice(19); sys.path.insert(0, sys.argv[1]);"
    " from agent.after_commit import main; main(sys.argv[2:])"
)


def start(repository: Repository) -> bool:
    """Have the commit just made reviewed by a process of its own session; false where none can be started.

    While git rebases, commits only wait: most of them are gone again soon.
    """
    enqueue(repository, commit_id(repository, "HEAD"))
    if any((repository.git_dir / name).exists() for name in _REBASES):
        return True
    # Whoever holds it looks again after it has let go.
    if is_held(_lock(repository)):
        return True
    home = str(Path(__file__).parents[1])
    command = [sys.executable, "-I", "-c", _START, home, os.fsencode(repository.root).hex()]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=os.sep,
            start_new_session=True,
            timeout=_START_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def enqueue(repository: Repository, commit: str) -> None:
    """Let a commit wait for its review."""
    write_whole(_queue(repository) / f"{commit}{_WAITS}", os.fsencode(repository.root))


def main(arguments: list[str]) -> None:
    """Review what waits, unless somebody does: the work tree's path in hex."""
    repository = Repository.discover(Path(os.fsdecode(bytes.fromhex(arguments[0]))))
    settings = load_settings(None, {})
    end = time.monotonic() + DEADLINE
    # A commit that came while we held the lock started nobody: it is looked for once more without.
    while time.monotonic() < end and _waiting_commits(repository):
        try:
            with locked(_lock(repository), _LOCK_SECONDS, "The review of commits"):
                _work_off(repository, settings, end)
        except BusyError:
            return


def _work_off(repository: Repository, settings: Settings, end: float) -> None:
    """Review one commit after another; the reports lie where their work trees look for them."""
    while time.monotonic() < end and (paths := _waiting_commits(repository)):
        path, commit = paths[0], paths[0].stem
        begun = path.with_suffix(_BEGUN)
        try:
            of = Repository.discover(Path(os.fsdecode(path.read_bytes())))
        except AgentError:  # a worktree that has gone
            path.unlink()
            continue
        if path.suffix == _BEGUN:
            keep(of, commit, _lost(commit, "an earlier attempt was broken off"))
        elif _is_reachable(of, commit):
            # A review that takes this very process with it is not begun again and again.
            path.rename(begun)
            keep(of, commit, _reviewed(of, settings, commit))
        path.unlink(missing_ok=True)
        begun.unlink(missing_ok=True)


def _reviewed(repository: Repository, settings: Settings, commit: str) -> ReviewReport:
    request = Request(commit=commit, deadline=DEADLINE)
    started = time.monotonic()

    def work() -> Iterator[ReviewReport]:
        return reports(repository, settings, request, started)

    try:
        return guarded(work, started=started, deadline=DEADLINE)
    except AgentError as error:
        return _lost(commit, error.message)


def _lost(commit: str, why: str) -> ReviewReport:
    """The report of a commit that nobody could review."""
    whole = Unreviewed("(the whole change)", 0, 0, Reason.MODEL_FAILED, why)
    return ReviewReport(f"commit {commit[:10]}", unreviewed=(whole,))


def _is_reachable(repository: Repository, commit: str) -> bool:
    """Whether a commit is still part of a history: one that was amended or rebased away no longer matters."""
    try:
        return not repository.run("rev-list", "-n", "1", commit, "--not", "--all", "HEAD")
    except AgentError:
        return False


def keep(repository: Repository, commit: str, report: ReviewReport) -> None:
    """Put a report where the next commit looks for it."""
    target = _directory(repository) / f"{commit}.json"
    write_whole(target, json.dumps(report_to_data(report)).encode("ascii"))


def waiting(repository: Repository) -> list[ReviewReport]:
    """The reports not told yet, oldest first; each is told once."""
    found: list[ReviewReport] = []
    for path in _by_age(_directory(repository).glob("*.json")):
        try:
            report = report_from_data(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            report = _lost(path.stem, "its report cannot be read")
        # It is past: it can be told, and no longer stop anything.
        found.append(replace(report, strict=False))
        path.unlink(missing_ok=True)
    return found


def _waiting_commits(repository: Repository) -> list[Path]:
    """The files of the commits that wait for a review, oldest first."""
    return _by_age(path for path in _queue(repository).iterdir() if path.suffix in (_WAITS, _BEGUN))


def _by_age(paths: Iterable[Path]) -> list[Path]:
    """Paths by the time they were last written, those left out that have gone meanwhile."""
    ages: list[tuple[int, Path]] = []
    for path in paths:
        with suppress(FileNotFoundError):
            ages.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(ages)]


def _directory(repository: Repository) -> Path:
    return secure_directory(cache_dir() / "after-commit" / repository.identity())


def _queue(repository: Repository) -> Path:
    return secure_directory(cache_dir() / "after-commit" / f"{repository.family()}.queue")


def _lock(repository: Repository) -> Path:
    return _queue(repository) / "worker.lock"
