"""What a commit, a range or the index about to be committed changes: paths, modes and blobs, just as git has them."""

# Nothing here reads the work tree, and nothing is decoded but paths: an attribute, a filter or a diff driver of the
# repository has no say in what is reviewed. A rename is what git's own similarity says it is.

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from indexers.errors import RepositoryError, UsageError
from indexers.git import Repository

# The name of the tree without files, in each of git's two hash functions; git knows it without having it stored.
_EMPTY_TREES = {
    "sha1": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "sha256": "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
_RAW = ("--raw", "--no-abbrev", "-r", "-z", "--ignore-submodules=dirty")
# Above so many new files against old ones git compares only what is identical: the rest would take minutes.
_RENAMES = ("-M", "-l400")
_OBJECT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_MAX_REVISION_CHARS = 250
INDEX = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One path of a change. Ids are blob ids, empty where there is no such side; modes are git's, 0 for none.

    `status` is git's letter: A, C, D, M, R, T, U (in conflict). `others` are the blobs that further parents of a merge
    have at this path.
    """

    path: str
    status: str
    old_mode: int
    new_mode: int
    old: str
    new: str
    old_path: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Revision:
    """A tree to compare with another: `base` is a commit or tree id, `tip` one too, or `INDEX` for what is staged.

    `index_file` is the index that git named, empty for the repository's own; `merged` are further parents.
    """

    base: str
    tip: str
    title: str
    index_file: str = ""
    merged: tuple[str, ...] = ()

    @property
    def env(self) -> Mapping[str, str]:
        """What git has to be told in its environment to read this index."""
        return {"GIT_INDEX_FILE": self.index_file} if self.index_file else {}


def staged(repository: Repository, index_file: str = "") -> Revision:
    """What would be committed now: the index against HEAD, or against nothing before the first commit."""
    head = repository.head()
    merged = _merge_heads(repository.git_dir / "MERGE_HEAD")
    title = "staged changes" + (f" against {head[:10]}" if head else ", the first commit")
    base = head or empty_tree(repository)
    return Revision(base, INDEX, title, index_file, merged)


def of_commit(repository: Repository, name: str) -> Revision:
    """What one commit changed against its first parent.

    :raises UsageError: there is no such commit.
    """
    commit = commit_id(repository, name)
    _, *parents = repository.run("rev-list", "--parents", "-n", "1", commit).decode("ascii").split()
    base, *merged = parents or [empty_tree(repository)]
    return Revision(base, commit, f"commit {commit[:10]}", merged=tuple(merged))


def of_range(repository: Repository, name: str) -> Revision:
    """What B has since it left A, for `A..B` or `A...B`; an empty side is HEAD.

    :raises UsageError: it is no range, or one side is no commit.
    """
    first, dots, last = name.partition("...") if "..." in name else name.partition("..")
    if not dots:
        raise UsageError(
            f"{name!r} is no range of commits.", "Write it as A..B: agent review --range main..HEAD"
        )
    tip = commit_id(repository, last or "HEAD")
    if first in _EMPTY_TREES.values():
        return Revision(first, tip, f"everything up to {tip[:10]}")
    start = commit_id(repository, first or "HEAD")
    found = repository.run("merge-base", start, tip, accept=frozenset({0, 1})).decode("ascii").split()
    base = found[0] if found else start
    return Revision(base, tip, f"range {base[:10]}..{tip[:10]}")


def commits_of(repository: Repository, revision: Revision, most: int) -> list[tuple[str, tuple[str, ...]]]:
    """The commits of a range and their parents, newest first, at most so many; the first of all has the empty tree."""
    without = () if revision.base in _EMPTY_TREES.values() else (f"^{revision.base}",)
    listing = repository.run(
        "rev-list", "--topo-order", "--parents", f"--max-count={most}", revision.tip, *without
    )
    found: list[tuple[str, tuple[str, ...]]] = []
    for line in listing.decode("ascii").splitlines():
        commit, *parents = line.split()
        found.append((commit, tuple(parents or [empty_tree(repository)])))
    return found


def new_since(repository: Repository, commit: str) -> str:
    """What a commit that no remote branch has is new since: the commit before the oldest such; empty for nothing new.

    Before the first commit of all there is the empty tree.
    """
    tip = commit_id(repository, commit)
    listing = repository.run("rev-list", "--topo-order", "--parents", tip, "--not", "--remotes").decode(
        "ascii"
    )
    lines = listing.splitlines()
    if not lines:
        return ""
    _, *parents = lines[-1].split()
    return parents[0] if parents else empty_tree(repository)


def commit_id(repository: Repository, name: str) -> str:
    """The id of the commit that a revision names.

    :raises UsageError: it names none.
    """
    fitting = 0 < len(name) <= _MAX_REVISION_CHARS and not name.startswith("-") and "\0" not in name
    try:
        if fitting:
            return (
                repository.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
                .decode("ascii")
                .strip()
            )
    except RepositoryError:
        pass
    raise UsageError(
        f"There is no commit {name[:80]!r} in {repository.root}.", "See which there are: git log --oneline"
    )


def empty_tree(repository: Repository) -> str:
    """The id of the tree without files."""
    form = repository.run("rev-parse", "--show-object-format").decode("ascii").strip()
    return _EMPTY_TREES.get(form, _EMPTY_TREES["sha1"])


def changes(repository: Repository, revision: Revision) -> list[Change]:
    """The paths that differ, in git's order.

    Of a merge, those that differ from every parent: what only one side changed was reviewed when it was committed.
    What is only intended to be added (`git add -N`) is in no commit, and not listed.
    """
    found = _compared(repository, revision, revision.base)
    for parent in revision.merged:
        other = {change.path: change.old for change in _compared(repository, revision, parent, renames=False)}
        found = [_beside(change, other[change.path]) for change in found if change.path in other]
    return found


def _beside(change: Change, blob: str) -> Change:
    return Change(
        change.path, change.status, change.old_mode, change.new_mode, change.old, change.new, change.old_path,
        (*change.others, *([blob] if blob else [])),
    )  # fmt: skip


def _compared(repository: Repository, revision: Revision, base: str, *, renames: bool = True) -> list[Change]:
    command = (
        ["diff-index", "--cached", "--ita-invisible-in-index"] if revision.tip == INDEX else ["diff-tree"]
    )
    sides = [base] if revision.tip == INDEX else [base, revision.tip]
    try:
        options = (*_RAW, *(_RENAMES if renames else ("--no-renames",)))
        output = repository.run(*command, *options, *sides, "--", env=revision.env)
    except RepositoryError:
        if not renames:
            raise
        # Telling renames reads blobs, which a partial clone need not have.
        return _compared(repository, revision, base, renames=False)
    return list(_parsed(output))


def _parsed(output: bytes) -> Iterator[Change]:
    fields = iter(output.split(b"\0")[:-1])
    for head in fields:
        old_mode, new_mode, old, new, status = head.decode("ascii").lstrip(":").split(" ")
        first = os.fsdecode(next(fields))
        path = os.fsdecode(next(fields)) if status[0] in "RC" else first
        yield Change(
            path,
            status[0],
            int(old_mode, 8),
            int(new_mode, 8),
            old if old.strip("0") else "",
            new if new.strip("0") else "",
            first if path != first else "",
        )


def _merge_heads(path: Path) -> tuple[str, ...]:
    """The commits being merged; none where no merge is under way."""
    try:
        words = path.read_bytes()[:4_096].decode("ascii", "replace").split()
    except OSError:
        return ()
    return tuple(word for word in words if _OBJECT.fullmatch(word))
