"""What a model said of hunks in earlier reviews, on disk: a commit that is tried again costs nothing."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.paths import cache_dir, secure_directory
from indexers.atomic import write_whole
from indexers.git import Repository

# Each is about half a kilobyte; the oldest tenth goes when there are more.
_MOST = 4_000
_MAX_BYTES = 100_000


class StoredVerdicts:
    """One small file for each verdict, written whole or not at all; a damaged one is none."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @classmethod
    def of(cls, repository: Repository) -> StoredVerdicts:
        """Those of a repository and its worktrees, in the cache: they can be dropped at any time."""
        return cls(secure_directory(cache_dir() / "verdicts" / repository.family()))

    def get(self, key: str) -> dict[str, Any] | None:
        """What was put there, or None."""
        try:
            with (self._directory / f"{key}.json").open("rb") as file:
                found = json.loads(file.read(_MAX_BYTES))
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep it; where the disk will not, the next review asks again."""
        target = self._directory / f"{key}.json"
        with contextlib.suppress(OSError):
            write_whole(target, json.dumps(value).encode("ascii"))
            self._prune()

    def _prune(self) -> None:
        names = os.listdir(self._directory)
        if len(names) <= _MOST:
            return
        paths = sorted((self._directory / name for name in names), key=lambda path: path.stat().st_mtime_ns)
        for path in paths[: len(paths) // 10]:
            path.unlink(missing_ok=True)
