"""Puts changes into a work tree, all of them or none, whatever happens meanwhile; and takes them back."""

# Order of one step, each line durable before the next begins:
#   1. the journal has what will be done and the bytes that will be replaced          preparing: nothing has changed
#   2. the new bytes lie beside their targets under other names, as do links to the old ones
#   3. the journal's directory is renamed                                             committed: all of it will be done
#   4. every new file is renamed to its target, which needs no space
#   5. the journal's directory is renamed                                             applied: it can be undone
# Killed before 3, the next command removes what lies beside; killed after 3, it goes on with 4. A disk that is full
# fails in 1 or 2. An error in 4 (a directory made read-only meanwhile) takes back what was done by the links of 2.

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chains.writing.edits import FileChange
from chains.writing.jail import check_no_twin, check_not_gits, state_of
from chains.writing.journal import APPLIED, COMMITTED, FAILED, PREPARING, UNDONE, Entry, Journal, Record
from chains.writing.placing import (
    ChangedError,
    Left,
    clear,
    prepare,
    put,
    remove,
    remove_directories,
    take_back,
)
from chains.writing.policy import checked
from indexers.errors import AgentError, StorageError
from indexers.locks import locked

_WAIT_SECONDS = 10.0
_PLACE = "The record of edits"


def apply(
    root: Path,
    changes: Sequence[FileChange],
    journal: Journal,
    request: str = "",
    *,
    gits: Collection[Path] = (),
) -> Record:
    """Make these changes in the work tree at `root`. The index and the history of git are not touched.

    :param gits: the directories of git, which may lie in the work tree under any name.
    :raises PolicyError: a path that is never written.
    :raises ChangedError: a file is not as `before` says; nothing was changed.
    :raises StorageError: the disk is full or fails; nothing was changed.
    """
    checked(changes)
    with locked(journal.lock, _WAIT_SECONDS, _PLACE), _undisturbed():
        _recover_first(root, journal)
        check_not_gits(root, changes, gits)
        return _apply(root, changes, journal, request)


def undo(root: Path, journal: Journal) -> Record:
    """Take the last step back: bytes and modes as they were before it.

    :raises ChangedError: a file of the step was changed since, and nothing is done.
    :raises AgentError: there is nothing to undo.
    """
    with locked(journal.lock, _WAIT_SECONDS, _PLACE), _undisturbed():
        _recover_first(root, journal)
        last = journal.last_applied()
        if last is None:
            raise AgentError(
                "There is nothing to undo: agent write has applied no edit here.",
                "git diff shows what changed",
            )
        changes = [_reversed(root, journal, last, at) for at in range(len(last.entries))]
        _apply(root, changes, journal, last.request, undoes=last)
        return last


def recover(root: Path, journal: Journal) -> list[str]:
    """End what a killed process began: all of it or nothing. Sentences about what was found."""
    if not journal.has_pending():
        return []
    with locked(journal.lock, _WAIT_SECONDS, _PLACE), _undisturbed():
        return _recover(root, journal)


def _reversed(root: Path, journal: Journal, record: Record, at: int) -> FileChange:
    """The change that takes one file of a step back."""
    entry = record.entries[at]
    now = state_of(root, entry.path)
    if (now.blob if now else "") != entry.after or (now and now.mode != entry.after_mode):
        raise ChangedError(
            f"{entry.path} was changed after the edit that would be undone; nothing was done.",
            f"See what changed: git diff -- {entry.path}",
        )
    return FileChange(entry.path, now, journal.before(record, at))


def _apply(
    root: Path, changes: Sequence[FileChange], journal: Journal, request: str, undoes: Record | None = None
) -> Record:
    gone = {change.path for change in changes if change.after is None}
    for change in changes:
        _check_unchanged(root, change, gone)
    entries = [_entry(change) for change in changes]
    missing = _missing_directories(root, changes)
    try:
        record = journal.begin(request, changes, entries, missing, undoes.number if undoes else 0)
    except OSError as error:
        raise _failed(error) from error
    try:
        prepare(root, changes, entries)
        record = journal.move(record, COMMITTED)
    except OSError as error:
        clear(root, record)
        journal.forget(record)
        raise _failed(error) from error
    except BaseException:
        clear(root, record)
        journal.forget(record)
        raise
    return _finish(root, journal, record)


def _check_unchanged(root: Path, change: FileChange, gone: Collection[str]) -> None:
    """Refuse a change of a file that is not as it was, or of a new one whose name is taken; `gone` are removed."""
    now = state_of(root, change.path)
    if change.before is None:
        check_no_twin(root, change.path, gone, there=now is not None)
    if now != change.before:
        what = "was changed" if now and change.before else "appeared" if now else "went away"
        raise ChangedError(f"{change.path} {what} since it was read; nothing was written.", "Ask again.")


def _entry(change: FileChange) -> Entry:
    token = secrets.token_hex(6)
    # Bytes are what a name's length is counted in.
    name = change.path.rpartition("/")[2].encode("utf-8", "replace")[:80].decode("utf-8", "ignore")
    before, after = change.before, change.after
    return Entry(
        change.path,
        before.blob if before else "",
        before.mode if before else 0,
        after.blob if after else "",
        after.mode if after else 0,
        temporary=f".{name}.{token}.new" if after else "",
        backup=f".{name}.{token}.old" if before else "",
    )


def _missing_directories(root: Path, changes: Sequence[FileChange]) -> list[str]:
    """Directories that have to be made, outer ones first."""
    wanted: dict[str, None] = {}
    for change in changes:
        parts = change.path.split("/")[:-1] if change.after else []
        for count in range(1, len(parts) + 1):
            place = "/".join(parts[:count])
            if not os.path.lexists(root / place):
                wanted[place] = None
    return list(wanted)


def _finish(root: Path, journal: Journal, record: Record) -> Record:
    """Do what is committed and not done yet; or, where that turns out to be impossible, take it back."""
    try:
        for entry in record.entries:
            put(root, entry)
    except (OSError, AgentError) as error:
        with _translated():
            left = take_back(root, journal, record)
            record = journal.move(record, FAILED)
        if left:
            raise _left(journal, record, left, error) from error
        raise error if isinstance(error, AgentError) else _failed(error) from error
    with _translated():
        remove(root, record, lambda entry: entry.backup)
        if record.undoes:
            _mark_undone(root, journal, record)
        record = journal.move(record, UNDONE if record.undoes else APPLIED)
        journal.prune()
    return record


def _left(
    journal: Journal, record: Record, left: Sequence[Left], error: OSError | AgentError
) -> ChangedError:
    """What to say when not everything could be taken back."""
    told = [f"{one.path} ({_reason(journal, record, one)})" for one in left]
    why = error.message if isinstance(error, AgentError) else f"It had failed: {error.strerror or error}."
    # Mostly what stopped the edit is what could not be taken back.
    stopped = "" if any(why == one.reason for one in left) else f" {why}"
    return ChangedError(
        f"The edit was taken back as far as it could be.{stopped} Left alone: {', '.join(told)}.",
        "See what is there: git status",
    )


def _reason(journal: Journal, record: Record, left: Left) -> str:
    """Why a file was left, and where its old bytes are."""
    place = left.kept or journal.kept(record, left.at)
    reason = left.reason.removesuffix(".")
    return f"{reason}; what it held before the edit is in {place}" if place else reason


def _mark_undone(root: Path, journal: Journal, record: Record) -> None:
    """Of the step that this one takes back: remove the directories that it had made, and its claim to be undone."""
    for other in journal.records():
        if other.number == record.undoes and other.status == APPLIED:
            remove_directories(root, other)
            journal.move(other, UNDONE)


def _recover_first(root: Path, journal: Journal) -> None:
    """End what was begun, before anything else is.

    :raises StorageError: the disk does not let us.
    """
    told = _recover(root, journal)
    if any(record.status == COMMITTED for record in journal.pending()):
        raise StorageError(told[-1], "Mend that; the next command ends the edit or takes it back.")


def _recover(root: Path, journal: Journal) -> list[str]:
    told = []
    for record in journal.pending():
        files = f"{len(record.entries)} file{'' if len(record.entries) == 1 else 's'}"
        if record.status == PREPARING:
            clear(root, record)
            journal.forget(record)
            told.append(
                f"An edit of {files} had been interrupted before anything was changed; it was dropped."
            )
            continue
        try:
            _finish(root, journal, record)
            told.append(
                f"An edit of {files} had been interrupted half-way; it was completed (agent undo takes it back)."
            )
        except AgentError as error:
            told.append(
                f"An edit of {files} had been interrupted half-way and could not be completed. {error.message}"
            )
    journal.prune()
    return told


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"An edit is half done, and the disk fails: {error.strerror or error}.",
            "Mend that; the next command ends the edit or takes it back.",
        ) from error


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hear Ctrl-C when the block has ended: it takes milliseconds, and half of it is nothing to stop at."""
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return
    noted: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if noted:
        usual(signal.SIGINT, None)


def _failed(error: OSError) -> StorageError:
    place = f": {os.fsdecode(error.filename)}" if error.filename else ""
    return StorageError(
        f"The edit could not be written ({error.strerror or error}{place}); no file was changed.",
        "Free some space or mend the permissions, then try again.",
    )


__all__ = ["ChangedError", "apply", "recover", "undo"]
