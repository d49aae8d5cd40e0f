"""Whether new files can be put where they are to go, as the disk is now: what `apply` looks at before it writes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from chains.writing.edits import FileChange
from chains.writing.jail import check_no_twin, check_not_gits, state_of
from chains.writing.policy import PolicyError


def taken(root: Path, path: str, gone: Collection[str] = ()) -> str:
    """Why no new file can be put at a path, as a sentence; empty when it can.

    :param gone: files that are removed in the same step.
    """
    try:
        now = state_of(root, path)
        check_no_twin(root, path, gone, there=now is not None)
    except PolicyError as error:
        return error.message
    except OSError as error:
        return f"{path!r} cannot be looked at: {error.strerror or error}."
    return f"There is a file at {path} already." if now is not None else ""


def not_vacant(root: Path, changes: Sequence[FileChange], gits: Collection[Path] = ()) -> list[str]:
    """Why changes cannot be made: sentences about the new files among them.

    :param gits: the directories of git, which may lie in the work tree under any name.
    """
    gone = {change.path for change in changes if change.after is None}
    new = [change.path for change in changes if change.before is None and change.after is not None]
    found = [reason for path in new if (reason := taken(root, path, gone))]
    if new and not found:
        try:
            check_not_gits(root, changes, gits)
        except PolicyError as error:
            found.append(error.message)
    return found
