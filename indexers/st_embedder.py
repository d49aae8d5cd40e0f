"""Any model of sentence-transformers, by name. Imports torch, and nothing else here does."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from indexers.errors import ModelError
from indexers.unit_vectors import ST_PREFIX, WINDOW_TEXTS, cleaned, fingerprint_of, unit_rows

if TYPE_CHECKING:
    from indexers.unit_vectors import FloatArray


class SentenceTransformerEmbedder:
    """Any sentence-transformers model, with its own prompts for queries and documents. Imports torch."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._loaded: Any = None
        self._fingerprint = ""

    @property
    def dimensions(self) -> int:
        """As the model says; loads it."""
        model = self._load()
        # Renamed in sentence-transformers 6; version 5 knows only the long name.
        ask = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
        return int(ask())

    def fingerprint(self) -> str:
        """A hash of the weights, the prompts and the length texts are cut to; loads the model."""
        model = self._load()
        if not self._fingerprint:
            weights = hashlib.sha256()
            for key, tensor in sorted(model.state_dict().items()):
                # Through bytes: numpy has no bfloat16.
                flat = tensor.detach().cpu().contiguous().flatten()
                weights.update(key.encode())
                weights.update(flat.view(_byte_type()).numpy().tobytes() if flat.numel() else b"")
            self._fingerprint = fingerprint_of(
                {
                    "format": 1,
                    "weights": weights.hexdigest(),
                    "modules": [type(module).__name__ for module in model.children()],
                    "prompts": dict(model.prompts),
                    "default_prompt": model.default_prompt_name,
                    "max_tokens": model.max_seq_length,
                }
            )
        return self._fingerprint

    def embed_documents(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> FloatArray:
        """One row a text, with the model's document prompt."""
        import numpy as np

        model = self._load()
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for start in range(0, len(texts), WINDOW_TEXTS):
            window = [cleaned(text) for text in texts[start : start + WINDOW_TEXTS]]
            rows = model.encode_document(window, convert_to_numpy=True, show_progress_bar=False)
            vectors[start : start + len(window)] = unit_rows(rows, self.name)
            if progress is not None:
                progress(start + len(window))
        return vectors

    def embed_query(self, text: str) -> FloatArray:
        """One vector, with the model's query prompt."""
        rows = self._load().encode_query([cleaned(text)], convert_to_numpy=True, show_progress_bar=False)
        vector: FloatArray = unit_rows(rows, self.name)[0]
        return vector

    def _load(self) -> Any:
        with self._lock:
            if self._loaded is None:
                self._loaded = _load_sentence_transformer(self.name.removeprefix(ST_PREFIX))
            return self._loaded


def _load_sentence_transformer(name: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ModelError(
            f"The embedder {ST_PREFIX}{name} needs sentence-transformers, which is not installed ({error}).",
            'Install it with: pip install "local-code-agent[sentence-transformers]"',
        ) from error
    try:
        # Code that a model brings along is never run: a model name may come from a shared configuration.
        return SentenceTransformer(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"sentence-transformers cannot load {name!r}: {reason[0]}",
            "Name a model of the hub that is reachable or cached, or a directory that holds one.",
        ) from error


def _byte_type() -> Any:
    import torch

    return torch.uint8
