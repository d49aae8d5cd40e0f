"""Files put in their places beside one another: new bytes under other names first, then renames; and all of it back."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from chains.writing.edits import FileChange, FileState
from chains.writing.jail import parent_of, state_in
from chains.writing.journal import Entry, Journal, Record
from chains.writing.policy import PolicyError
from indexers.errors import AgentError

# What a file system says that has no links, or none for us.
_NO_LINKS = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)


class ChangedError(AgentError):
    """A file is not as it was when it was read."""


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
        raise ChangedError(
            f"{entry.path} was changed by somebody else meanwhile; nothing was written.", "Ask again."
        )
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


def take_back(root: Path, journal: Journal, record: Record) -> None:
    """Every file of a step that has its new bytes gets the old ones; what somebody else changed stays theirs."""
    for at, entry in enumerate(record.entries):
        with suppress(FileNotFoundError), parent_of(root, entry.path) as (directory, name):
            now = state_in(directory, name, entry.path)
            if _is(now, entry.after, entry.after_mode) and not _is(now, entry.before, entry.before_mode):
                if not entry.before:
                    os.unlink(name, dir_fd=directory)
                elif _exists(directory, entry.backup):
                    os.rename(entry.backup, name, src_dir_fd=directory, dst_dir_fd=directory)
                else:
                    state = journal.before(record, at)
                    assert state is not None
                    _write(directory, entry.backup, state, "")
                    os.rename(entry.backup, name, src_dir_fd=directory, dst_dir_fd=directory)
                os.fsync(directory)
    clear(root, record)


def clear(root: Path, record: Record) -> None:
    """Remove everything that a step put beside its targets, and the directories that it made if they are empty."""
    remove(root, record, lambda entry: entry.temporary)
    remove(root, record, lambda entry: entry.backup)
    remove_directories(root, record)


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
