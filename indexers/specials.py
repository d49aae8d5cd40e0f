"""Finds what git never lists in a work tree: FIFOs, sockets and devices that nobody tracks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice

from indexers.errors import RepositoryError
from indexers.git import Repository

# Nobody has more; a hostile tree may.
MOST = 1_000


def special_files(repository: Repository) -> list[str]:
    """Paths of FIFOs, sockets and devices, by name; those in ignored directories and other repositories left out."""
    found = sorted(islice(_found(repository), MOST))
    return [path for path in found if repository.ignored_by(path) is None]


def _found(repository: Repository) -> Iterator[str]:
    ignored = _ignored_directories(repository)
    root = os.fspath(repository.root)
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(f"{root}/{folder}") as entries:
                inside = list(entries)
        except OSError:
            continue  # it went while we looked, or is not ours to read: its files say so
        if folder and any(entry.name == ".git" for entry in inside):
            continue
        for entry in inside:
            path = f"{folder}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if entry.name != ".git" and path not in ignored:
                    pending.append(f"{path}/")
            elif not entry.is_file(follow_symlinks=False) and not entry.is_symlink():
                yield path


def _ignored_directories(repository: Repository) -> frozenset[str]:
    """The topmost directories that git ignores whole: node_modules may hold more files than all the rest."""
    try:
        listing = repository.run("ls-files", "-z", "-o", "-i", "--exclude-standard", "--directory")
    except RepositoryError:
        return frozenset()
    names = (os.fsdecode(name) for name in listing.split(b"\0"))
    return frozenset(name.rstrip("/") for name in names if name.endswith("/"))
