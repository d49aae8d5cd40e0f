"""KV states on disk: one checked file per entry, written whole or not at all, the least recently used out first."""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

DEFAULT_BYTES = 4 * 2**30
_MAGIC = b"AGENTKV1"
_SUFFIX, _UNFINISHED = ".kv", ".new"
_HEAD = struct.Struct("<II")
# A header is a few hundred bytes and the ids of a tail; more is not ours.
_MOST_HEADER = 1 << 20
# What other programs may still need of the disk.
_LEAVE_FREE = 512 * 2**20
# Unfinished files of processes that were killed; a write takes a second.
_ABANDONED_SECONDS = 3_600.0
# Evicting goes a little further than it must, so that it need not begin again with the next entry.
_EVICT_TO = 0.9


@dataclass(frozen=True, slots=True)
class Entry:
    """What the header of an entry says. `kind` is head, source, place or tail; `length` are cells, one a token.

    `tokens` are kept of tails only, whose key cannot tell what was said.
    """

    key: str
    kind: str
    model: str
    start: int
    length: int
    label: str = ""
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry as it lies on disk: its size in bytes and when it was last used, in seconds since 1970."""

    entry: Entry
    bytes: int
    used: float


@dataclass(frozen=True, slots=True)
class Totals:
    """Entries and bytes on disk."""

    entries: int
    bytes: int


class KvStore:
    """A directory of KV states, shared by processes: files appear whole by a rename, and whoever reads checks.

    A file that is damaged, cut short or not ours is a miss and is removed. No flush to the platter: after a power
    loss the checksum tells, and the state is computed again.
    """

    def __init__(self, directory: Path, limit: int = DEFAULT_BYTES) -> None:
        """:param directory: private to the user; made when the first entry is written.
        :param limit: bytes that all entries may take together.
        """
        self.directory = directory
        self.limit = limit
        self.failure = ""
        # Bytes of states that this object wrote.
        self.written = 0
        self._known_bytes: int | None = None

    def get(self, key: str) -> tuple[Entry, bytearray] | None:
        """The entry of a key and its state, marked as used; None when there is none that is sound."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                found = _read(file.fileno(), key)
        except OSError:
            return None
        if found is None:
            self._drop(path)
            return None
        with suppress(OSError):
            os.utime(path)
        return found

    def has(self, key: str) -> bool:
        """Whether there is an entry, sound or not."""
        return self._path(key).exists()

    def put(self, entry: Entry, data: memoryview) -> bool:
        """Keep a state; false, with the reason in `failure`, when it cannot be written."""
        if self.failure or len(data) > self.limit // 4:
            return False
        path = self._path(entry.key)
        new = path.with_name(f"{entry.key}.{os.getpid()}{_UNFINISHED}")
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(len(data))
            if shutil.disk_usage(self.directory).free < len(data) + _LEAVE_FREE:
                self.failure = f"the disk of {self.directory} is nearly full"
                return False
            _write(new, entry, data)
            new.replace(path)
        except OSError as error:
            self.failure = f"KV states cannot be kept in {self.directory}: {error.strerror or error}"
            with suppress(OSError):
                new.unlink(missing_ok=True)
            return False
        self._known_bytes = (self._known_bytes or 0) + len(data)
        self.written += len(data)
        return True

    def drop(self, key: str) -> None:
        """Remove an entry that turned out to be of no use."""
        self._drop(self._path(key))

    # -- looking after it ------------------------------------------------------------------------

    def entries(self) -> list[Listed]:
        """Every readable entry, the most recently used first. States are not checked: that reads all of them."""
        found = []
        for path, status in self._files():
            with suppress(OSError):
                with path.open("rb") as file:
                    entry = _read_header(file.fileno(), path.stem)
                if entry is not None:
                    found.append(Listed(entry[0], status.st_size, status.st_mtime))
        return sorted(found, key=lambda listed: listed.used, reverse=True)

    def totals(self) -> Totals:
        """How much there is."""
        sizes = [status.st_size for _, status in self._files()]
        return Totals(len(sizes), sum(sizes))

    def prune(self, limit: int, older_than: float | None = None) -> Totals:
        """Remove what was used least recently until at most `limit` bytes are left.

        :param older_than: also remove what was last used before this time, in seconds since 1970.
        :returns: what was removed.
        """
        self._remove_abandoned()
        listed = sorted(self._files(), key=lambda item: item[1].st_mtime)
        left = sum(status.st_size for _, status in listed)
        entries = removed = 0
        for path, status in listed:
            if left <= limit and (older_than is None or status.st_mtime >= older_than):
                break
            if self._drop(path):
                entries, removed = entries + 1, removed + status.st_size
            left -= status.st_size
        self._known_bytes = left
        return Totals(entries, removed)

    def clear(self) -> Totals:
        """Remove everything.

        :returns: what was removed.
        """
        self._remove_abandoned(0.0)
        return self.prune(-1)

    def _make_room(self, size: int) -> None:
        if self._known_bytes is None:
            self._known_bytes = self.totals().bytes
        if self._known_bytes + size > self.limit:
            # Others write too: count again before anything goes.
            self.prune(
                self.limit if self.totals().bytes + size <= self.limit else int(self.limit * _EVICT_TO) - size
            )

    def _remove_abandoned(self, older_than: float = _ABANDONED_SECONDS) -> None:
        for path, status in self._files(_UNFINISHED):
            if time.time() - status.st_mtime >= older_than:
                self._drop(path)

    def _files(self, suffix: str = _SUFFIX) -> Iterator[tuple[Path, os.stat_result]]:
        try:
            with os.scandir(self.directory) as listing:
                names = [item.name for item in listing if item.name.endswith(suffix)]
        except OSError:
            return
        for name in names:
            path = self.directory / name
            with suppress(OSError):
                yield path, path.stat(follow_symlinks=False)

    def _path(self, key: str) -> Path:
        return self.directory / (key + _SUFFIX)

    def _drop(self, path: Path) -> bool:
        try:
            path.unlink()
        except OSError:
            return False
        return True


def _write(path: Path, entry: Entry, data: memoryview) -> None:
    header = json.dumps({**asdict(entry), "bytes": len(data), "crc": zlib.crc32(data)}).encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        _write_all(file.fileno(), memoryview(_MAGIC + _HEAD.pack(len(header), zlib.crc32(header)) + header))
        _write_all(file.fileno(), data)


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _read_header(descriptor: int, key: str) -> tuple[Entry, int, int] | None:
    """The entry, the size of its state and its checksum; None when it is not the entry of this key."""
    start = os.read(descriptor, len(_MAGIC) + _HEAD.size)
    if len(start) < len(_MAGIC) + _HEAD.size or not start.startswith(_MAGIC):
        return None
    size, checksum = _HEAD.unpack(start[len(_MAGIC) :])
    text = os.read(descriptor, size) if size <= _MOST_HEADER else b""
    if len(text) < size or zlib.crc32(text) != checksum:
        return None
    try:
        values = json.loads(text)
        entry = Entry(**{field.name: values[field.name] for field in fields(Entry)})
        numbers = int(values["bytes"]), int(values["crc"])
    except (ValueError, KeyError, TypeError):
        return None
    return (_with_ids(entry), *numbers) if entry.key == key else None


def _with_ids(entry: Entry) -> Entry:
    ids: Sequence[int] = entry.tokens
    return Entry(entry.key, entry.kind, entry.model, entry.start, entry.length, entry.label, tuple(ids))


def _read(descriptor: int, key: str) -> tuple[Entry, bytearray] | None:
    head = _read_header(descriptor, key)
    if head is None:
        return None
    entry, size, checksum = head
    rest = os.fstat(descriptor).st_size - os.lseek(descriptor, 0, os.SEEK_CUR)
    if rest != size:
        return None
    # Read, not mapped: a file that another process cuts short must not end this one by a signal.
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        got = os.readv(descriptor, [view[at:]])
        if not got:
            return None
        at += got
    return (entry, data) if zlib.crc32(data) == checksum else None
