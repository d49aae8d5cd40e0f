"""Findings that were accepted once: kept by what they say of which content, wherever its lines move to."""

# Not in the repository unless somebody names a file there: whoever can commit could accept his own findings. Such a
# file counts as it is at the commit that the change starts from.

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from agent.paths import secure_directory, state_dir
from chains.reviewing.types import Finding
from indexers.atomic import write_whole
from indexers.blobs import file_at
from indexers.errors import UsageError
from indexers.git import Repository

_VERSION = 1
_MAX_BYTES = 8_000_000


def default_path(repository: Repository) -> Path:
    """Where the user's accepted findings of a repository are kept: outside of it, for all of its worktrees."""
    return secure_directory(state_dir() / "accepted") / f"{repository.family()}.json"


def accepted(repository: Repository, path: Path | None, base: str) -> frozenset[str]:
    """The fingerprints accepted so far.

    :param path: a file to read instead of the user's own.
    :raises UsageError: the file is no list of accepted findings.
    """
    if path is None:
        return frozenset(_entries(_read(default_path(repository)), default_path(repository)))
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 (a symbolic link keeps its place in the tree)
    if absolute.is_relative_to(repository.root):
        data = file_at(repository, base, absolute.relative_to(repository.root).as_posix(), _MAX_BYTES)
    else:
        data = _read(absolute)
    return frozenset(_entries(data, path))


def accept(repository: Repository, path: Path | None, findings: Iterable[Finding]) -> Path:
    """Add findings to those accepted; where they are kept."""
    target = path or default_path(repository)
    entries = _entries(_read(target), target)
    entries.update(
        {
            item.fingerprint: {"path": item.path, "category": item.category, "message": item.message}
            for item in findings
        }
    )
    ordered = dict(sorted(entries.items(), key=lambda pair: (pair[1]["path"], pair[0])))
    text = json.dumps({"version": _VERSION, "accepted": ordered}, indent=2) + "\n"
    # Part of the repository where the settings say so: as any file there is.
    write_whole(target, text.encode("ascii"), 0o666)
    return target


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None


def _entries(data: bytes | None, path: Path) -> dict[str, dict[str, str]]:
    if data is None:
        return {}
    try:
        found = json.loads(data)
        entries = found["accepted"]
        if found["version"] != _VERSION or len(data) > _MAX_BYTES:
            raise ValueError
        return {str(key): {str(k): str(v) for k, v in value.items()} for key, value in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(
            f"{path} is no list of accepted findings.", f"Remove it, and accept anew: rm {path}"
        ) from None
