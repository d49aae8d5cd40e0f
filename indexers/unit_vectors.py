"""What every embedder needs: unit rows, text that tokenizers accept, and fingerprints."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from indexers.errors import ModelError

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    FloatArray: TypeAlias = NDArray[np.float32]

# Texts tokenised and sorted by length together: bounds memory, and is enough for batches without padding.
WINDOW_TEXTS = 1_024
# How a model of sentence-transformers is named.
ST_PREFIX = "st:"
REFETCH = "Fetch it again with: agent models pull minilm"


def unit_rows(rows: FloatArray, name: str) -> FloatArray:
    """Rows at unit length; one without a direction is an error: it would be near to everything or nothing."""
    import numpy as np

    # Summed in double: squares of large values overflow in single precision.
    wide = np.asarray(rows, np.float64)
    norms = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    if not np.isfinite(norms).all() or (norms < 1e-12).any():
        remedy = "Use another embedder." if name.startswith(ST_PREFIX) else REFETCH
        raise ModelError(f"The embedding model {name} gave a vector that is zero or not finite.", remedy)
    unit: FloatArray = (wide / norms).astype(np.float32)
    return unit


def cleaned(text: str) -> str:
    """Text the tokenizers accept: an argument in a foreign encoding reaches us with lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def fingerprint_of(values: dict[str, Any]) -> str:
    """A fingerprint of these values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]
