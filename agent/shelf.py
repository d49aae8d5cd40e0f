"""Keeps the directory of models: takes files in, throws them out, and looks whether they are still what they were."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.catalogue import CatalogueEntry, catalogue
from agent.download import Report
from agent.hardware import disk_free
from agent.paths import models_dir
from agent.pins import Pin, pin, pin_of, unpin
from chains.models.gguf import read_gguf
from indexers.errors import DownloadError, ModelError
from indexers.types import Progress

_BLOCK = 1 << 20
_MARGIN = 64 << 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a file compares with what is known of it: `ok`, `changed`, or `unknown` where nothing was."""

    path: Path
    state: str
    sha256: str
    detail: str


def add(file: Path, progress: Report | None = None) -> Path:
    """Take a GGUF file into the directory of models, as a second name where the disk allows, else as a copy.

    :raises ModelError: it is no model, one part of several, or another file of its name is there.
    :raises DownloadError: the disk is too small.
    """
    info = read_gguf(file)
    files = [info.path, *info.split]
    for path in files:
        _check_free_name(path)
    for path in files:
        target = models_dir() / path.name
        if not target.exists():
            _take(path, target)
        size = target.stat().st_size
        digest = sha256_of(target, progress, f"add {path.name}")
        entry = by_hash(digest)
        pin(
            target,
            digest,
            size,
            f"file:{path.absolute()}",
            f"catalogue ({entry.label})" if entry else "nothing",
        )
    return models_dir() / info.path.name


def _check_free_name(path: Path) -> None:
    target = models_dir() / path.name
    if target.exists() and not target.samefile(path):
        raise ModelError(
            f"There is another file called {path.name} in {models_dir()}.",
            f"Rename yours, or remove that one first: agent models rm {path.name}",
        )


def _take(path: Path, target: Path) -> None:
    try:
        os.link(path.resolve(), target)
        return
    except OSError:
        pass  # another disk, or a file system without second names
    size, free = path.stat().st_size, disk_free(target.parent)
    if size + _MARGIN > free:
        raise DownloadError(
            f"A copy of {path.name} takes {size / 1e9:.1f} GB in {target.parent}, and {free / 1e9:.1f} GB are free.",
            f"Leave it where it is: --model {path}, or models_dirs in your settings.",
        )
    unfinished = target.with_name(f".{target.name}.new")
    try:
        shutil.copyfile(path, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def remove(path: Path, *, forget: bool = False) -> int:
    """Delete a model of our own directory and say how many bytes that freed.

    Its pin stays, so that a later pull notices when the publisher's file has changed.

    :param forget: drop the pin too.
    :raises ModelError: it lies elsewhere, where it is not ours to delete.
    """
    if not path.absolute().is_relative_to(models_dir()):
        raise ModelError(
            f"{path} is not in {models_dir()}: another program may need it.",
            "Delete it yourself if you want.",
        )
    freed = 0
    for part in _parts(path):
        freed += part.stat().st_size if part.stat().st_nlink == 1 and not part.is_symlink() else 0
        part.unlink()
        if forget:
            unpin(part)
    return freed


def verify(path: Path, progress: Report | None = None) -> Iterator[Verdict]:
    """Read a model's files whole and compare them with the catalogue's hash or their pin; unknown ones are pinned."""
    for part in _parts(path):
        digest = sha256_of(part, progress, f"verify {part.name}")
        known = pin_of(part)
        published = next((entry for entry in catalogue() if entry.file == part.name and entry.sha256), None)
        yield _judged(part, digest, known, published)


def _judged(path: Path, digest: str, known: Pin | None, published: CatalogueEntry | None) -> Verdict:
    if published is not None and digest == published.sha256:
        return Verdict(path, "ok", digest, "the publisher's file")
    if known is not None and digest == known.sha256:
        return Verdict(path, "ok", digest, f"as it came on {known.when} from {known.source}")
    if known is not None:
        return Verdict(path, "changed", digest, f"it had SHA-256 {known.sha256} on {known.when}")
    if published is not None:
        return Verdict(path, "changed", digest, f"the publisher's file has SHA-256 {published.sha256}")
    pin(path, digest, path.stat().st_size, f"file:{path}", "nothing")
    return Verdict(path, "unknown", digest, "seen for the first time; noted, so that a change is noticed")


def by_hash(digest: str) -> CatalogueEntry | None:
    """The published file that has this SHA-256."""
    return next((entry for entry in catalogue() if entry.sha256 == digest), None)


def sha256_of(path: Path, progress: Report | None, stage: str) -> str:
    """The hash of a file, with progress in bytes."""
    digest, total = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if progress is not None:
                progress(Progress(stage, file.tell(), total))
    return digest.hexdigest()


def _parts(path: Path) -> list[Path]:
    """The file and, of a split model, the others; a damaged one is at least itself."""
    try:
        return [path, *read_gguf(path).split]
    except ModelError:
        return [path]
