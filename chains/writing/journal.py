"""What was written, so that it can be undone: one directory a step, whose name says how far the step has got."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from chains.writing.edits import FileChange, FileState
from indexers.errors import AgentError

# Steps kept for undo.
KEPT = 50
# PREPARING: nothing has been changed. COMMITTED: all of it will be. APPLIED: it is, and can be undone. UNDONE: history.
PREPARING, COMMITTED, APPLIED, UNDONE, FAILED = "preparing", "committed", "applied", "undone", "failed"
_PENDING = (PREPARING, COMMITTED)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a step. Blobs are git blob ids, empty where there is no file; `temporary` and `backup` are names
    beside the file, empty where none is needed.
    """

    path: str
    before: str
    before_mode: int
    after: str
    after_mode: int
    temporary: str = ""
    backup: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A step: what was asked for, the files, the directories made for them, and the step that it undoes (or 0)."""

    number: int
    status: str
    request: str
    entries: tuple[Entry, ...]
    made: tuple[str, ...] = ()
    undoes: int = 0


class JournalError(AgentError):
    """The record of what was written cannot be read or used."""


class Journal:
    """The steps of one work tree. Renaming a directory is what moves a step on: it needs no space and is atomic."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def lock(self) -> Path:
        """The file that whoever writes holds."""
        return self.directory / "lock"

    def pending(self) -> list[Record]:
        """Steps that were begun and not ended, oldest first."""
        return [record for record in self.records() if record.status in _PENDING]

    def has_pending(self) -> bool:
        """The same as a cheap question: whether there are any."""
        try:
            return any(name.endswith(_PENDING) for name in os.listdir(self.directory))
        except FileNotFoundError:
            return False

    def last_applied(self) -> Record | None:
        """The latest step that can be undone."""
        return next((r for r in reversed(self.records()) if r.status == APPLIED), None)

    def records(self) -> list[Record]:
        """All steps, oldest first. What has no record yet never got as far as changing anything, and is left out."""
        try:
            names = sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return []
        found = [self._read(name) for name in names if _parts(name)]
        return [record for record in found if record is not None]

    def begin(
        self,
        request: str,
        changes: Sequence[FileChange],
        entries: Sequence[Entry],
        made: Sequence[str],
        undoes: int = 0,
    ) -> Record:
        """Write a step down, with the bytes it replaces, before anything is changed; durable when this returns."""
        number = max((n for n, _ in map(_parts_or_zero, self._names())), default=0) + 1
        record = Record(number, PREPARING, request, tuple(entries), tuple(made), undoes)
        place = self._place(record)
        place.mkdir(mode=0o700)
        try:
            for at, change in enumerate(changes):
                if change.before is not None:
                    _write(place / f"before.{at}", change.before.data)
            data = asdict(record)
            del data["status"], data["number"]
            # Last: a step with a record is whole.
            _write(place / "record.part", json.dumps(data, ensure_ascii=True).encode())
            os.rename(place / "record.part", place / "record.json")
            _sync(place)
            _sync(self.directory)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        return record

    def move(self, record: Record, status: str) -> Record:
        """Note how far a step has got."""
        moved = Record(record.number, status, record.request, record.entries, record.made, record.undoes)
        os.rename(self._place(record), self._place(moved))
        _sync(self.directory)
        return moved

    def forget(self, record: Record) -> None:
        """Drop a step that changed nothing."""
        shutil.rmtree(self._place(record), ignore_errors=True)

    def before(self, record: Record, at: int) -> FileState | None:
        """The file as it was before the step.

        :raises JournalError: the bytes are not those that were recorded.
        """
        entry = record.entries[at]
        if not entry.before:
            return None
        try:
            state = FileState((self._place(record) / f"before.{at}").read_bytes(), entry.before_mode)
        except OSError as error:
            raise JournalError(
                f"The recorded bytes of {entry.path} cannot be read: {error.strerror}."
            ) from error
        if state.blob != entry.before:
            raise JournalError(f"The recorded bytes of {entry.path} are damaged.")
        return state

    def kept(self, record: Record, at: int) -> Path | None:
        """Where a file's bytes from before the step can be found; None when they are not here as they were."""
        try:
            found = self.before(record, at)
        except JournalError:
            return None
        return self._place(record) / f"before.{at}" if found else None

    def prune(self) -> None:
        """Drop what is too old to be undone, and leftovers that were never steps."""
        for name in self._names():
            parts = _parts(name)
            if parts and parts[1] == PREPARING and self._read(name) is None:
                shutil.rmtree(self.directory / name, ignore_errors=True)
        ended = [record for record in self.records() if record.status not in _PENDING]
        for record in ended[:-KEPT]:
            self.forget(record)

    def _names(self) -> list[str]:
        return os.listdir(self.directory)

    def _place(self, record: Record) -> Path:
        return self.directory / f"{record.number:06d}.{record.status}"

    def _read(self, name: str) -> Record | None:
        number, status = _parts_or_zero(name)
        try:
            data = json.loads((self.directory / name / "record.json").read_bytes())
            return _record(number, status, data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JournalError(
                f"The record of an earlier edit in {self.directory / name} is damaged.",
                "Look at the work tree (git diff), then remove that directory.",
            ) from error


def _record(number: int, status: str, data: Mapping[str, object]) -> Record:
    entries = data["entries"]
    made = data["made"]
    if not isinstance(entries, list) or not isinstance(made, list):
        raise TypeError
    return Record(
        number,
        status,
        str(data["request"]),
        tuple(Entry(**entry) for entry in entries),
        tuple(map(str, made)),
        int(str(data["undoes"])),
    )


def _parts(name: str) -> tuple[int, str] | None:
    number, _, status = name.partition(".")
    known = status in (PREPARING, COMMITTED, APPLIED, UNDONE, FAILED)
    return (int(number), status) if known and number.isdigit() else None


def _parts_or_zero(name: str) -> tuple[int, str]:
    return _parts(name) or (0, "")


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
