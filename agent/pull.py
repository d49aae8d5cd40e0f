"""Fetches models: finds out what is meant, checks it against what is known, pins what came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from agent import sources
from agent.catalogue import EMBEDDER, CatalogueEntry, embedder, normal
from agent.download import Fetcher, RemoteFile, Report, is_complete
from agent.hardware import disk_free
from agent.paths import models_dir
from agent.pins import pin, pin_of, unpin
from indexers.errors import DownloadError

# Hidden: neither listed as a model nor mistaken for one by other programs.
STAGING = ".partial"
_EMBEDDER_NAMES = (EMBEDDER, "all-minilm-l6-v2", "sentence-transformers/all-minilm-l6-v2")


def pull(
    name: str,
    progress: Report | None = None,
    *,
    entries: Sequence[CatalogueEntry] | None = None,
    free: Callable[[Path], int] = disk_free,
    sha256: str = "",
    accept_changed: bool = False,
) -> Path:
    """Fetch a model and verify it; at once when it is there already.

    It is checked against the catalogue's SHA-256, else the hub's, else the one it had the first time.

    :param name: a name of the catalogue, `OWNER/REPO/FILE.gguf`, `OWNER/REPO[:QUANT]` or a web address.
    :param entries: the catalogue to look in.
    :param free: tells the free bytes of a directory.
    :param sha256: what the file must have; for addresses that no catalogue knows.
    :param accept_changed: take a file that is no longer what it was the first time.
    :raises ModelError: nothing is called so.
    :raises DownloadError: it cannot be fetched, does not verify, has changed, or does not fit on the disk.
    """
    if normal(name) in _EMBEDDER_NAMES:
        return ensure_embedder(progress, free=free)
    source = sources.source_of(name, entries)
    if source is None:
        from agent.models import unknown

        raise unknown(name)
    if sha256:
        source = sources.with_hash(source, sha256)
    folder = models_dir() / source.folder
    fetcher = Fetcher(models_dir() / STAGING, progress, free)
    with fetcher.packages():
        paths = [_fetched(fetcher, source, file, folder / file.name, accept_changed) for file in source.files]
    return paths[0]


def _fetched(
    fetcher: Fetcher, source: sources.Source, file: RemoteFile, target: Path, accept_changed: bool
) -> Path:
    known = None if accept_changed else pin_of(target)
    if accept_changed and file.sha256 is None:
        unpin(target)
        target.unlink(missing_ok=True)
    if file.sha256 is None and known is not None:
        file = replace(file, sha256=known.sha256, bytes=known.bytes, pinned=True)
    fetcher.fetch(file, target, source.label)
    came = fetcher.verified.get(target)
    if came is not None:
        pin(target, came.sha256, came.bytes, source.described, came.by, came.revision)
    return target


def embedder_dir() -> Path:
    """Where the embedding model lies, or will."""
    return models_dir() / embedder()[0]


def embedder_installed() -> bool:
    """Whether all files of the embedding model are there."""
    return all(is_complete(embedder_dir() / file.name, file) for file in embedder()[1])


def ensure_embedder(progress: Report | None = None, *, free: Callable[[Path], int] = disk_free) -> Path:
    """The directory of the embedding model, fetched when it is not there.

    :raises DownloadError: it cannot be fetched, does not verify, or does not fit on the disk.
    """
    directory = embedder_dir()
    fetcher = Fetcher(models_dir() / STAGING, progress, free)
    with fetcher.packages():
        for file in embedder()[1]:
            if not is_complete(directory / file.name, file):
                fetcher.fetch(file, directory / file.name, EMBEDDER)
    return directory


__all__ = ["STAGING", "DownloadError", "embedder_dir", "embedder_installed", "ensure_embedder", "pull"]
