"""Remembers which embedder the vectors of an index were made with, and says so when it is another one now."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from indexers.ledger import Ledger

if TYPE_CHECKING:
    from indexers.embedding import Embedder

# Of the ledger's remembered values.
KEY = "embedder"
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class MadeBy:
    """An embedder as it is remembered; `dimensions` is the length of its vectors."""

    name: str
    fingerprint: str
    dimensions: int

    def __str__(self) -> str:
        return f"{self.name} ({self.dimensions} dimensions, weights {self.fingerprint[:_SHOWN]})"


def of(embedder: Embedder) -> MadeBy:
    """What is remembered of an embedder."""
    return MadeBy(embedder.name, embedder.fingerprint(), embedder.dimensions)


def recorded(ledger: Ledger) -> MadeBy | None:
    """The embedder that was last asked to embed this whole index; None when none was."""
    return parsed(ledger.meta(KEY))


def parsed(note_text: str) -> MadeBy | None:
    """What `record` wrote under `KEY`; None when it is something else."""
    try:
        note = json.loads(note_text)
        return MadeBy(str(note["name"]), str(note["fingerprint"]), int(note["dimensions"]))
    except (ValueError, KeyError, TypeError):
        return None


def record(ledger: Ledger, embedder: Embedder) -> None:
    """Remember that this whole index is embedded by this embedder from now on."""
    now = of(embedder)
    if now != recorded(ledger):
        with ledger.transaction():
            ledger.set_meta(KEY, json.dumps(asdict(now)))


def changed(ledger: Ledger, embedder: Embedder) -> str:
    """A sentence naming both embedders when the index was embedded by another one; else nothing.

    Vectors of different embedders are never compared: each is found under its fingerprint alone.
    """
    before = recorded(ledger)
    if before is None or before.fingerprint == embedder.fingerprint():
        return ""
    return (
        f"The vectors of this index were made by {before}; the embedder is now {of(embedder)}."
        " They are not mixed: until agent index has made new ones, keywords answer."
    )
