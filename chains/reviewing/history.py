"""What the commits of a range added on the way: a key that was taken out again is in the history all the same."""

# By the trees of each commit and not by `git log -p`, whose words attributes of the repository can bend.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from chains.reviewing.changes import MAX_FILE_BYTES, differing, is_file
from chains.reviewing.types import FileDiff, Reason, Unreviewed
from indexers.blobs import Blobs, read_blobs
from indexers.git import Repository
from indexers.revisions import Change, Revision, changes, commits_of

MAX_COMMITS = 500
MAX_BYTES = 64_000_000
# Commits whose contents are asked for together: each question to git takes as long as its answer.
_AT_ONCE = 50
_WHOLE_RANGE = "-"

# A commit's id with what it did to a file; or what of the range was not looked at.
Step = tuple[str, FileDiff] | Unreviewed


def history(
    repository: Repository, revision: Revision, listed: Sequence[Change], late: Callable[[], bool]
) -> Iterator[Step]:
    """The files that each commit of a range changed, newest first, without what is just so at its end.

    :param listed: what `changes` says of the whole range.
    :param late: asked before each commit; once it is true, the rest is not looked at.
    """
    commits = commits_of(repository, revision, MAX_COMMITS + 1)
    final = {change.path: change.new for change in listed}
    left = MAX_BYTES
    # The change of a single commit is that of the range.
    for at in range(0, len(commits) if len(commits) > 1 else 0, _AT_ONCE):
        some: list[tuple[str, list[Change]]] = []
        stopped: Unreviewed | None = None
        for number, (commit, parents) in enumerate(commits[at : at + _AT_ONCE], at):
            if late() or left <= 0 or number == MAX_COMMITS:
                reason = Reason.TOO_LARGE if left <= 0 or number == MAX_COMMITS else Reason.DEADLINE
                stopped = _unread(reason, f"{commit[:10]} and the commits of the range before it")
                break
            step = Revision(parents[0], commit, "", merged=parents[1:])
            found = changes(repository, step)
            some.append(
                (commit, [one for one in found if is_file(one) and final.get(one.path, "") != one.new])
            )
        ids = [blob for _, found in some for one in found for blob in (one.new, one.old, *one.others) if blob]
        blobs = read_blobs(repository, ids, each=MAX_FILE_BYTES, total=left)
        left -= sum(map(len, blobs.data.values()))
        for commit, found in some:
            yield from _steps(commit, found, blobs)
        if stopped is not None:
            yield stopped
            return


def _steps(commit: str, found: Sequence[Change], blobs: Blobs) -> Iterator[Step]:
    lost = 0
    for change in found:
        if not change.new or not blobs.missing.keys().isdisjoint((change.new, change.old)):
            lost += bool(change.new)
        else:
            yield commit, differing(change, blobs)
    if lost:
        yield _unread(Reason.TOO_LARGE, f"{lost:,} files of {commit[:10]}, or they are not there")


def _unread(reason: Reason, what: str) -> Unreviewed:
    return Unreviewed(_WHOLE_RANGE, 0, 0, reason, f"not looked through for secrets: {what}")
