"""What a review goes by: the user's settings and flags, and what the repository, as committed, asks for on top."""

from __future__ import annotations

from dataclasses import replace

from agent.config import MAX_FILE_BYTES, REPOSITORY_FILE, Settings, review_limits
from chains.review import Policy
from chains.reviewing.types import Severity
from indexers.blobs import file_at
from indexers.errors import UsageError
from indexers.git import Repository


def policy_of(
    settings: Settings, *, block_at: str | None = None, strict: bool = False, deadline: float | None = None
) -> Policy:
    """The policy of the user: flags over settings."""
    return Policy(
        block_at=Severity(block_at or settings.review_block_at),
        strict=strict or settings.review_fail_mode == "closed",
        deadline=deadline or settings.review_deadline,
    )


def tightened(policy: Policy, repository: Repository, base: str, notes: list[str]) -> Policy:
    """The policy with what the repository's file says at the commit that the change starts from.

    What the change itself does to that file has no say in its own review. Nothing is ever loosened by it.
    """
    data = file_at(repository, base, REPOSITORY_FILE, MAX_FILE_BYTES)
    if data is None:
        return policy
    try:
        limits = review_limits(data, f"{REPOSITORY_FILE} at {base[:10]}")
    except UsageError as error:
        notes.append(f"{error.message} It was not applied.")
        return policy
    block_at = Severity(limits.get("review_block_at", policy.block_at.value))
    return replace(
        policy,
        block_at=min(policy.block_at, block_at, key=lambda severity: severity.rank),
        strict=policy.strict or limits.get("review_fail_mode") == "closed",
    )
