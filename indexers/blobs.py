"""Contents as git has them: blobs by their ids, the files of a tree or an index, and which of them hold a word."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from indexers.errors import RepositoryError
from indexers.git import Repository
from indexers.revisions import INDEX, Revision


@dataclass(frozen=True, slots=True)
class Blobs:
    """Contents by blob id, and why those are missing that are not there."""

    data: Mapping[str, bytes]
    missing: Mapping[str, str]


MISSING, TOO_LARGE = "not in the object database", "too large"
# One by one, where a batch failed over one that cannot be had.
_MOST_SINGLE = 200


def read_blobs(repository: Repository, ids: Iterable[str], *, each: int, total: int) -> Blobs:
    """The contents of blobs, in the order asked for, until `total` bytes are read; none of more than `each` bytes."""
    wanted = list(dict.fromkeys(ids))
    missing: dict[str, str] = {}
    chosen: list[str] = []
    left = total
    for name, size in _sizes(repository, wanted):
        if size is None:
            missing[name] = MISSING
        elif size > each or size > left:
            missing[name] = TOO_LARGE
        else:
            left -= size
            chosen.append(name)
    data: dict[str, bytes] = {}
    for name, content in _contents(repository, chosen):
        if content is None:
            missing[name] = MISSING
        else:
            data[name] = content
    return Blobs(data, missing)


def _sizes(repository: Repository, ids: Sequence[str]) -> Iterator[tuple[str, int | None]]:
    if not ids:
        return
    try:
        output = repository.run("cat-file", "--batch-check", stdin=_lines(ids))
    except RepositoryError:
        for name in ids[:_MOST_SINGLE]:
            yield from _sizes(repository, [name]) if len(ids) > 1 else [(name, None)]
        yield from ((name, None) for name in ids[_MOST_SINGLE:])
        return
    for name, line in zip(ids, output.decode("ascii", "replace").splitlines(), strict=True):
        words = line.split(" ")
        yield name, int(words[2]) if len(words) == 3 and words[1] == "blob" else None


def _contents(repository: Repository, ids: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
    if not ids:
        return
    output = repository.run("cat-file", "--batch", stdin=_lines(ids))
    at = 0
    for name in ids:
        end = output.index(b"\n", at)
        words = output[at:end].split(b" ")
        if len(words) != 3:
            yield name, None
            at = end + 1
            continue
        size = int(words[2])
        yield name, output[end + 1 : end + 1 + size]
        at = end + 1 + size + 1


def _lines(ids: Sequence[str]) -> bytes:
    return "".join(f"{name}\n" for name in ids).encode("ascii")


def holding(repository: Repository, revision: Revision, word: str) -> list[str]:
    """The paths of files, as of the tip, in which a word stands."""
    where = ["--cached"] if revision.tip == INDEX else [revision.tip]
    output = repository.run(
        *("grep", "-l", "-z", "-F", "-w", "-I", "--full-name"),
        *("--no-textconv", "--no-ext-grep", "--no-recurse-submodules", "--no-color", "-e", word),
        *where,
        "--",
        env=revision.env,
        accept=frozenset({0, 1}),
    )
    prefix = b"" if revision.tip == INDEX else revision.tip.encode("ascii") + b":"
    return [os.fsdecode(record.removeprefix(prefix)) for record in output.split(b"\0")[:-1]]


def blobs_at(repository: Repository, revision: Revision, paths: Sequence[str]) -> dict[str, str]:
    """The blob ids of paths as of the tip; a path that is no file there is left out."""
    if not paths:
        return {}
    names = [os.fsencode(path) for path in paths]
    if revision.tip == INDEX:
        output = repository.run("ls-files", "-z", "-s", "--", *names, env=revision.env)
        at = 1
    else:
        output = repository.run("ls-tree", "-r", "-z", revision.tip, "--", *names)
        at = 2
    found: dict[str, str] = {}
    for record in output.split(b"\0")[:-1]:
        details, _, name = record.partition(b"\t")
        words = details.split(b" ")
        if words[0] in (b"100644", b"100755"):
            found[os.fsdecode(name)] = words[at].decode("ascii")
    return found


def file_at(repository: Repository, tree: str, path: str, limit: int) -> bytes | None:
    """The bytes of one file in a tree; None where it is not there, no file, or larger than `limit` bytes."""
    revision = Revision("", tree, "")
    blob = blobs_at(repository, revision, [path]).get(path)
    if blob is None:
        return None
    return read_blobs(repository, [blob], each=limit, total=limit).data.get(blob)
