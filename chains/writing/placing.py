"""Files put in their places beside one another: new bytes under other names first, then renames; and all of it back."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from chains.writing.edits import FileChange, FileState
from chains.writing.jail import parent_of, state_in
from chains.writing.journal import Entry, Journal, Record
from chains.writing.policy import PolicyError
from indexers.errors import AgentError

# What a file system says that has no links, or none for us.
_NO_LINKS = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)
# What a disk says that may work again later.
_FAILING = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


class ChangedError(AgentError):
    """A file is not as it was when it was read."""


@dataclass(frozen=True, slots=True)
class Left:
    """A file of a step that could not be taken back, and why. `kept` has its old bytes, where nothing else has."""

    at: int
    path: str
    reason: str
    kept: str = ""


def prepare(root: Path, changes: Sequence[FileChange], entries: Sequence[Entry]) -> None:
    """Put new bytes and links to the old ones beside the targets."""
    for change, entry in zip(changes, entries, strict=True):
        with parent_of(root, change.path, made=[]) as (directory, name):
            if change.before is not None:
                _keep(directory, name, entry.backup, change.before)
            if change.after is not None:
                _write(directory, entry.temporary, change.after, name if change.before else "")
            os.fsync(directory)


def _keep(directory: int, name: str, backup: str, state: FileState) -> None:
    """The old file under a second name: a link, which needs no space; a copy where there are no links."""
    try:
        os.link(name, backup, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
        _write(directory, backup, state, name)


def _write(directory: int, name: str, state: FileState, like: str) -> None:
    """A new file with these bytes and bits, and owner and attributes of the file `like` as far as we may."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        view = memoryview(state.data)
        while view:
            view = view[os.write(descriptor, view) :]
        if like:
            _liken(descriptor, directory, like)
        os.fchmod(descriptor, state.mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _liken(descriptor: int, directory: int, like: str) -> None:
    model = os.open(like, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        old, new = os.fstat(model), os.fstat(descriptor)
        if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
            with suppress(OSError):
                os.fchown(descriptor, old.st_uid, old.st_gid)
        for name in os.listxattr(model) if hasattr(os, "listxattr") else ():
            with suppress(OSError):
                os.setxattr(descriptor, name, os.getxattr(model, name))
    finally:
        os.close(model)


def put(root: Path, entry: Entry) -> None:
    """Put one file in its place, unless it is there."""
    try:
        with parent_of(root, entry.path) as (directory, name):
            _put_in(directory, name, entry)
    except FileNotFoundError:
        # Its directory went with it, when this was done before.
        if entry.after:
            raise


def _put_in(directory: int, name: str, entry: Entry) -> None:
    now = state_in(directory, name, entry.path)
    if _is(now, entry.after, entry.after_mode):
        if _exists(directory, entry.temporary):
            os.unlink(entry.temporary, dir_fd=directory)
        return
    if not _is(now, entry.before, entry.before_mode):
        raise _changed(entry)
    if not entry.after:
        os.unlink(name, dir_fd=directory)
    elif entry.before:
        os.rename(entry.temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    else:
        # A link, which fails where a file has appeared, and not a rename, which would replace it.
        _appear(directory, entry.temporary, name)
    os.fsync(directory)


def _appear(directory: int, temporary: str, name: str) -> None:
    try:
        os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    else:
        os.unlink(temporary, dir_fd=directory)


def _is(state: FileState | None, blob: str, mode: int) -> bool:
    return (state.blob if state else "") == blob and (state is None or state.mode == mode)


def _changed(entry: Entry) -> ChangedError:
    return ChangedError(f"{entry.path} was changed by somebody else meanwhile.", "Ask again.")


def take_back(root: Path, journal: Journal, record: Record) -> list[Left]:
    """Every file of a step that has its new bytes gets the old ones, and what lay beside them goes.

    What somebody else changed, or put something else in the place of, stays theirs: which ones.

    :raises OSError: the disk fails; whatever can be taken back is, and trying again goes on from there.
    """
    left: list[Left] = []
    failed: OSError | None = None
    for at, entry in enumerate(record.entries):
        try:
            _take_back_one(root, journal, record, at)
        except AgentError as error:
            left.append(Left(at, entry.path, error.message))
        except OSError as error:
            if error.errno in _FAILING:
                failed = failed or error
            else:
                left.append(Left(at, entry.path, f"{entry.path} cannot be written: {error.strerror}."))
    if failed is not None:
        raise failed
    left = [replace(one, kept=_only_copy(root, journal, record, one.at)) for one in left]
    clear(root, record, {one.kept for one in left})
    return left


def _take_back_one(root: Path, journal: Journal, record: Record, at: int) -> None:
    entry = record.entries[at]
    made: list[str] | None = None
    if entry.before and not entry.after:
        # Its directory may have gone after the file that we removed.
        made = []
    try:
        with parent_of(root, entry.path, made=made) as (directory, name):
            _take_back_in(directory, name, journal, record, at)
    except FileNotFoundError:
        if entry.before:
            raise _changed(entry) from None


def _take_back_in(directory: int, name: str, journal: Journal, record: Record, at: int) -> None:
    entry = record.entries[at]
    now = state_in(directory, name, entry.path)
    if _is(now, entry.before, entry.before_mode):
        return
    if not _is(now, entry.after, entry.after_mode):
        raise _changed(entry)
    if not entry.before:
        os.unlink(name, dir_fd=directory)
    elif _exists(directory, entry.backup):
        os.rename(entry.backup, name, src_dir_fd=directory, dst_dir_fd=directory)
    else:
        state, part = journal.before(record, at), _part(entry)
        assert state is not None
        if _exists(directory, part):
            # Half of the bytes, when this was killed.
            os.unlink(part, dir_fd=directory)
        _write(directory, part, state, "")
        os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)


def _part(entry: Entry) -> str:
    """The name under which old bytes are written again: not that of the link to them, which is whole."""
    return f"{entry.backup}.part" if entry.backup else ""


def _only_copy(root: Path, journal: Journal, record: Record, at: int) -> str:
    """The path of the link to a file's old bytes, where they are nowhere else; else empty."""
    entry = record.entries[at]
    if not entry.backup or journal.kept(record, at):
        return ""
    with suppress(OSError, PolicyError), parent_of(root, entry.path) as (directory, _):
        if _exists(directory, entry.backup):
            return _beside(entry, entry.backup)
    return ""


def clear(root: Path, record: Record, kept: Collection[str] = ()) -> None:
    """Remove everything that a step put beside its targets, and the directories that it made if they are empty.

    :param kept: paths of links to old bytes that stay.
    """
    remove(root, record, lambda entry: entry.temporary)
    remove(root, record, _part)
    remove(root, record, lambda entry: "" if _beside(entry, entry.backup) in kept else entry.backup)
    remove_directories(root, record)


def _beside(entry: Entry, name: str) -> str:
    return entry.path[: entry.path.rfind("/") + 1] + name


def remove_directories(root: Path, record: Record) -> None:
    """Remove the directories that a step made, if they are empty."""
    for place in reversed(record.made):
        with suppress(OSError, PolicyError), parent_of(root, place) as (directory, name):
            os.rmdir(name, dir_fd=directory)


def remove(root: Path, record: Record, name_of: Callable[[Entry], str]) -> None:
    """Remove what lies beside the targets under these names."""
    for entry in record.entries:
        name = name_of(entry)
        if name:
            with suppress(OSError, PolicyError), parent_of(root, entry.path) as (directory, _):
                os.unlink(name, dir_fd=directory)


def _exists(directory: int, name: str) -> bool:
    return bool(name) and os.access(name, os.F_OK, dir_fd=directory, follow_symlinks=False)
