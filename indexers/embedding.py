"""Turns text into unit vectors: the `Embedder` protocol, its three makes, and their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from indexers.bert_embedder import BertEmbedder
from indexers.errors import ModelError
from indexers.hash_embedder import HashEmbedder
from indexers.st_embedder import SentenceTransformerEmbedder
from indexers.unit_vectors import ST_PREFIX

if TYPE_CHECKING:
    from indexers.unit_vectors import FloatArray


class Embedder(Protocol):
    """Texts in, unit vectors out; equal fingerprints mean comparable vectors."""

    @property
    def name(self) -> str:
        """What `open_embedder` was asked for."""

    @property
    def dimensions(self) -> int:
        """Length of every vector."""

    def fingerprint(self) -> str:
        """Changes whenever the same text would get another vector."""

    def embed_documents(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> FloatArray:
        """One row a text; `progress` hears the number done so far."""

    def embed_query(self, text: str) -> FloatArray:
        """One vector."""


def open_embedder(name: str, directory: Path | None = None, *, threads: int | None = None) -> Embedder:
    """The embedder called `name`: `minilm`, `hash`, or `st:NAME_OR_PATH` for a sentence-transformers model.

    :param directory: where the model files of `minilm` lie.
    :param threads: how many cores to use; all that this process may use when None.
    """
    if name.startswith(ST_PREFIX):
        return SentenceTransformerEmbedder(name)
    factory = _FACTORIES.get(name)
    if factory is None:
        known = ", ".join((*_FACTORIES, f"{ST_PREFIX}NAME"))
        raise ModelError(f"No embedder is called {name!r}.", f"Choose one of: {known}")
    return factory(directory, threads)


def _open_minilm(directory: Path | None, threads: int | None) -> Embedder:
    if directory is None:
        raise ModelError("The embedding model is not installed.", "Fetch it with: agent models pull minilm")
    return BertEmbedder(directory, threads=threads)


def _open_hash(directory: Path | None, threads: int | None) -> Embedder:
    return HashEmbedder()


_FACTORIES: dict[str, Callable[[Path | None, int | None], Embedder]] = {
    "minilm": _open_minilm,
    "hash": _open_hash,
}
