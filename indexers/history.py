"""The commits of a repository, newest first, with what their messages say."""

from __future__ import annotations

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
