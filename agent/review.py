"""One review from end to end: what to read, by which policy, with which model; in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from agent import baseline
from agent.config import Settings
from agent.policy import policy_of, tightened
from agent.review_model import NO_MODEL, reader_for
from agent.review_server import sent_to, server_reader
from chains.review import Policy, review
from chains.reviewing.changes import MAX_FILE_BYTES, ReadChange, read_change, read_patch, unread
from chains.reviewing.checks.uses import Tree
from chains.reviewing.history import history
from chains.reviewing.trees import PatchedTree, RevisionTree
from chains.reviewing.types import ReviewReport
from indexers.blobs import file_at
from indexers.errors import RepositoryError, UsageError
from indexers.git import Repository
from indexers.revisions import Change, Revision, changes, empty_tree, of_commit, of_range, staged

# The longest deadline in seconds, as it is for the setting.
MOST_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Request:
    """What to review, one of `commit`, `range` and `diff`, else what is staged; and how.

    `index_file` is the index that git names to its hooks. `diff` is the bytes of a patch. `baseline` replaces the
    user's own accepted findings. `model` None takes the settings' or the best installed one.
    """

    commit: str | None = None
    range: str | None = None
    diff: bytes | None = None
    index_file: str = ""
    block_at: str | None = None
    strict: bool = False
    deadline: float | None = None
    use_model: bool = True
    model: str | None = None
    baseline: Path | None = None

    def __post_init__(self) -> None:
        if sum(item is not None for item in (self.commit, self.range, self.diff)) > 1:
            raise UsageError(
                "Review either staged changes, or a commit, or a range, or a diff: one at a time."
            )
        # Written so that it is false of what is no number, too.
        if self.deadline is not None and not 1 <= self.deadline <= MOST_SECONDS:
            raise UsageError(
                f"A deadline of {self.deadline} seconds is none.", f"Choose from 1 to {MOST_SECONDS}."
            )


def reports(
    repository: Repository, settings: Settings, request: Request, started: float | None = None
) -> Iterator[ReviewReport]:
    """How far the review is, again and again; the last report is the review.

    :param started: the monotonic time from which the deadline counts.
    """
    begun = time.monotonic() if started is None else started
    notes: list[str] = []
    policy = policy_of(settings, block_at=request.block_at, strict=request.strict, deadline=request.deadline)
    revision = _revision(repository, request)
    policy = tightened(policy, repository, revision.base, notes)
    policy = replace(policy, accepted=baseline.accepted(repository, request.baseline, revision.base))
    listed: list[Change] = []
    if request.diff is None:
        listed = changes(repository, revision)
        # To be shown where there is not even the time to read it.
        yield replace(next(review(unread(revision, listed), policy, started=begun)), notes=tuple(notes))
        change = read_change(repository, revision, listed)
    else:
        change = _patched(repository, revision, request.diff)
    tree: Tree = RevisionTree(repository, revision)
    if request.diff is not None:
        tree = PatchedTree(tree, change.files)
    wanted = request.use_model and (request.model or settings.review_model) != NO_MODEL
    at_server = settings.engine == "openai"
    make = server_reader if at_server else reader_for
    reader = make(repository, settings, request.model, tree) if wanted else None
    if wanted and (told := sent_to(settings)):
        notes.append(told)
    past = partial(history, repository, revision, listed) if request.range is not None else None
    for report in review(change, policy, tree=tree, reader=reader, started=begun, history=past):
        yield replace(report, notes=(*notes, *report.notes))


def seconds_allowed(settings: Settings, request: Request) -> float:
    """The deadline of a review in seconds, before anything is read."""
    policy: Policy = policy_of(settings, deadline=request.deadline)
    return policy.deadline


def _revision(repository: Repository, request: Request) -> Revision:
    if request.commit is not None:
        return of_commit(repository, request.commit)
    if request.range is not None:
        return of_range(repository, request.range)
    if request.diff is not None:
        head = repository.head() or empty_tree(repository)
        return Revision(head, head, "a patch")
    return staged(repository, request.index_file)


def _patched(repository: Repository, revision: Revision, diff: bytes) -> ReadChange:
    def base(path: str) -> bytes | None:
        try:
            return file_at(repository, revision.base, path, MAX_FILE_BYTES)
        except RepositoryError:  # a path that leads out of the repository
            return None

    return read_patch(diff, base)
