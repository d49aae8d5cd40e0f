"""The user's store of KV states: what models have read, shared by every repository, verb and process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.paths import cache_dir, secure_directory
from chains.kv.store import KvStore

if TYPE_CHECKING:
    from agent.config import Settings


@dataclass(frozen=True, slots=True)
class CacheState:
    """What `agent status` says of the store: bytes used of `limit`, and how sources are read, with the reason."""

    directory: str
    entries: int
    bytes: int
    limit: int
    reading: str = ""
    reason: str = ""


def directory() -> Path:
    """Where the states lie, private to the user.

    :raises AgentError: others could write there.
    """
    return secure_directory(cache_dir() / "kv")


def open_store(settings: Settings) -> KvStore:
    """The store, with the limit of the settings; there may be nothing in it."""
    return KvStore(directory(), settings.kv_bytes)


def state(settings: Settings, model: Path | None) -> CacheState:
    """How much is kept, and how the model would read sources; its file's header is looked at, nothing is loaded."""
    store = open_store(settings)
    totals = store.totals()
    reading, reason = ("", "") if model is None else _reading(settings.reading, model)
    return CacheState(str(store.directory), totals.entries, totals.bytes, settings.kv_bytes, reading, reason)


def _reading(wanted: str, model: Path) -> tuple[str, str]:
    from chains.kv.policy import decided
    from chains.models.gguf import read_gguf
    from indexers.errors import ModelError

    try:
        found = decided(wanted, read_gguf(str(model)))
    except ModelError as error:
        return "", error.message
    return found.name, found.reason
