"""Reviews that go on after the commit, out of everybody's way, and are told before the next one."""

# A hook starts no daemon. What it starts where the user asked for that (agent hook install --background) reads one
# commit, writes what it found, and ends; at the latest when its own deadline is over.

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from agent.config import load_settings
from agent.guard import guarded
from agent.paths import cache_dir, secure_directory
from agent.review import Request, reports
from chains.reviewing.codec import report_from_data, report_to_data
from chains.reviewing.types import ReviewReport
from indexers.atomic import write_whole
from indexers.git import Repository
from indexers.revisions import commit_id

# Nobody waits for it; but what takes longer than this has gone wrong.
DEADLINE = 600.0
_START_SECONDS = 10.0
_MOST_TOLD = 5
_START = (
    "import os, sys; os.fork() and os._exit(0); os.nice(19); sys.path.insert(0, sys.argv[1]);"
    " from agent.after_commit import main; main(sys.argv[2:])"
)


def start(repository: Repository) -> bool:
    """Begin to review the commit just made, in a process of its own session; false where none can be started."""
    home = str(Path(__file__).parents[1])
    command = [
        sys.executable,
        "-I",
        "-c",
        _START,
        home,
        os.fsencode(repository.root).hex(),
        commit_id(repository, "HEAD"),
    ]
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


def main(arguments: list[str]) -> None:
    """Review one commit and keep the report: the work tree's path in hex, and the commit's id."""
    repository = Repository.discover(Path(os.fsdecode(bytes.fromhex(arguments[0]))))
    settings = load_settings(None, {})
    request = Request(commit=arguments[1], deadline=DEADLINE)
    started = time.monotonic()

    def work() -> Iterator[ReviewReport]:
        return reports(repository, settings, request, started)

    keep(repository, arguments[1], guarded(work, started=started, deadline=DEADLINE))


def keep(repository: Repository, commit: str, report: ReviewReport) -> None:
    """Put a report where the next commit looks for it."""
    target = _directory(repository) / f"{commit}.json"
    write_whole(target, json.dumps(report_to_data(report)).encode("ascii"))


def waiting(repository: Repository) -> list[ReviewReport]:
    """The reports not told yet, oldest first, at most five; each is told once."""
    found: list[ReviewReport] = []
    paths = sorted(_directory(repository).glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    for path in paths[-_MOST_TOLD:]:
        try:
            report = report_from_data(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        # It is past: it can be told, and no longer stop anything.
        found.append(replace(report, strict=False))
    for path in paths:
        path.unlink(missing_ok=True)
    return found


def _directory(repository: Repository) -> Path:
    return secure_directory(cache_dir() / "after-commit" / repository.identity())
