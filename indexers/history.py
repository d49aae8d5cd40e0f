"""The commits of a repository, newest first, with what their messages say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from indexers.git import Repository


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit: its id, its parents' ids, the first line of its message."""

    id: str
    parents: tuple[str, ...]
    subject: str


def commits(repository: Repository, tip: str, most: int) -> list[Commit]:
    """At most so many commits that `tip` holds, without merges."""
    listing = repository.run("rev-list", "--no-merges", f"--max-count={most}", tip).decode("ascii").split()
    return list(_read(repository, listing))


def _read(repository: Repository, ids: Sequence[str]) -> list[Commit]:
    if not ids:
        return []
    output = repository.run("cat-file", "--batch", stdin="".join(f"{name}\n" for name in ids).encode("ascii"))
    found: list[Commit] = []
    at = 0
    for name in ids:
        end = output.index(b"\n", at)
        words = output[at:end].split(b" ")
        if len(words) != 3:
            at = end + 1
            continue
        size = int(words[2])
        found.append(_commit(name, output[end + 1 : end + 1 + size]))
        at = end + 1 + size + 1
    return found


def _commit(name: str, data: bytes) -> Commit:
    head, _, message = data.partition(b"\n\n")
    parents = [
        line[7:].decode("ascii", "replace") for line in head.split(b"\n") if line.startswith(b"parent ")
    ]
    return Commit(name, tuple(parents), message.split(b"\n", 1)[0].decode("utf-8", "replace").strip())


def changed(repository: Repository, tip: str, most: int) -> dict[str, int]:
    """The paths that the last `most` commits changed, each with how many commits ago that was last: 0 for the newest.

    Without merges, and without what was removed.
    """
    listing = repository.run("rev-list", "--no-merges", f"--max-count={most}", tip)
    output = repository.run(
        "diff-tree", "--raw", "-r", "-z", "--root", "--no-renames", "--stdin", stdin=listing
    )
    found: dict[str, int] = {}
    removed: set[str] = set()
    ago = -1
    fields = iter(output.split(b"\0")[:-1])
    for field in fields:
        if not field.startswith(b":"):
            ago += 1
            continue
        path = os.fsdecode(next(fields))
        if field.endswith(b" D") and path not in found:
            removed.add(path)
        elif path not in removed:
            found.setdefault(path, ago)
    return found
