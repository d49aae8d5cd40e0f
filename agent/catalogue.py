"""The models that can be pulled by name: what is known of their files, and what they take before they are here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.download import RemoteFile
from agent.wheels import Part
from chains.models.shapes import Shape

if TYPE_CHECKING:
    from chains.models.footprint import Footprint
    from chains.models.gguf_header import Tensor

# What a name without a quantisation means: the card's "medium, balanced quality - recommended".
RECOMMENDED = "Q4_K_M"
EMBEDDER = "minilm"
# Mean over tensors, for files whose shape is not known.
BITS_PER_WEIGHT = {"Q4_1": 5.0, "Q4_K_M": 4.85, "Q5_K_M": 5.7, "Q6_K": 6.6, "Q8_0": 8.5, "F16": 16.0}
# A vocabulary of 32,000 tokens takes 0.75 MB of a file, one of 152,000 takes 5.9 MB: measured on two files.
_HEADER_BYTES_PER_TOKEN = 39


@dataclass(frozen=True)
class CatalogueEntry:
    """A published GGUF file.

    `bytes` and `sha256` are known only where the publisher's own listing was at hand, and never guessed: without them
    a pull goes by the hub's record. `gigabytes` is the size as the model card rounds it. `hub_parts` are the pieces,
    in order, of a file that was too large for the hub.
    """

    name: str
    quant: str
    file: str
    bytes: int | None
    sha256: str | None
    hf_repo: str
    hf_file: str
    pypi_parts: tuple[Part, ...]
    licence: str
    family: str
    parameters: float
    gigabytes: float | None = None
    infill: bool = False
    use_case: str = ""
    shape: Shape | None = None
    first_k_quants: bool = False
    hub_parts: tuple[str, ...] = ()

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors the file has, by its shape; none where that is not known."""
        from chains.models.shapes import quantisations, tensors

        if self.shape is None or self.quant not in quantisations():
            return ()
        return tensors(self.shape, self.quant, first_k_quants=self.first_k_quants)

    @property
    def approximate_bytes(self) -> int:
        """The size of the file: known, or as the card rounds it, or computed from its shape."""
        if self.bytes is not None:
            return self.bytes
        if self.gigabytes is not None:
            return round(self.gigabytes * 1e9)
        weights = sum(tensor.bytes for tensor in self.tensors)
        if weights and self.shape is not None:
            return weights + _HEADER_BYTES_PER_TOKEN * self.shape.vocab
        return int(self.parameters * 1e9 * BITS_PER_WEIGHT.get(self.quant, 16.0) / 8)

    @property
    def bits_per_weight(self) -> float:
        """Bits that one weight takes on average in this file."""
        values = sum(tensor.values for tensor in self.tensors)
        if values:
            return 8 * sum(tensor.bytes for tensor in self.tensors) / values
        return 8 * self.approximate_bytes / (self.parameters * 1e9)

    @property
    def footprint(self) -> Footprint | None:
        """What memory it takes, by its shape; None where that is not known."""
        from chains.models.footprint import of_shape

        return of_shape(self.shape, self.tensors) if self.shape is not None and self.tensors else None

    @property
    def label(self) -> str:
        """Name and quantisation, as installed models are called."""
        return f"{self.name}:{self.quant}"

    @property
    def remote(self) -> RemoteFile:
        """What the downloader has to know of it."""
        return RemoteFile(
            self.file,
            self.bytes,
            self.sha256,
            self.hf_repo,
            self.hf_file,
            self.pypi_parts,
            hub_parts=self.hub_parts,
        )


@lru_cache(maxsize=1)
def catalogue() -> tuple[CatalogueEntry, ...]:
    """Every model that can be pulled by name."""
    uses: dict[str, str] = _data()["use_cases"]
    return tuple(_entry(model, file, uses) for model in _data()["models"] for file in model["files"])


def _entry(model: dict[str, Any], file: dict[str, Any], uses: dict[str, str]) -> CatalogueEntry:
    shape = model.get("shape")
    return CatalogueEntry(
        name=model["name"],
        quant=file["quant"],
        file=file["file"],
        bytes=file["bytes"],
        sha256=file["sha256"],
        hf_repo=model["hf_repo"],
        hf_file=file["file"],
        pypi_parts=_parts(file.get("pypi")),
        licence=model["licence"],
        family=model["family"],
        parameters=model["parameters"],
        gigabytes=file.get("gigabytes"),
        infill=model["infill"],
        use_case=uses.get(file["quant"], ""),
        shape=Shape(**shape) if shape else None,
        first_k_quants=model.get("first_k_quants", False),
        hub_parts=tuple(file.get("hub_parts", ())),
    )


def catalogue_entry(name: str, entries: Sequence[CatalogueEntry] | None = None) -> CatalogueEntry | None:
    """The entry called `name`, `name:QUANT`, by its repository, or by the only name that starts so.

    A name without a quantisation means the recommended one.
    """
    known = catalogue() if entries is None else entries
    wanted = normal(name)
    base, _, quant = wanted.partition(":")
    for matches in (
        [entry for entry in known if wanted in names_of(entry)],
        [entry for entry in known if entry.name.startswith(base) and quant in ("", entry.quant.lower())],
    ):
        if len({entry.name for entry in matches}) == 1:
            return next((entry for entry in matches if entry.quant == RECOMMENDED), matches[0])
        if matches:
            break
    return None


def names_of(entry: CatalogueEntry) -> set[str]:
    """Everything an entry may be called."""
    repository = entry.hf_repo.rpartition("/")[2]
    told = (entry.name, entry.label, entry.file, entry.hf_repo, repository, f"{entry.hf_repo}:{entry.quant}")
    return {normal(text) for text in (*told, f"{entry.hf_repo}/{entry.hf_file}") if text}


def normal(name: str) -> str:
    """A name without what may differ: case, blanks, and how a file or a repository ends."""
    name = name.strip().lower()
    return name.removesuffix(".gguf").removesuffix("-gguf").replace("-gguf:", ":").replace("-gguf/", "/")


def embedder() -> tuple[str, list[RemoteFile]]:
    """The directory of the embedding model and its files: weights, tokenizer, configuration."""
    entry = next(entry for entry in _data()["embedders"] if entry["name"] == EMBEDDER)
    files = [
        RemoteFile(
            name=file["file"],
            bytes=file["bytes"],
            sha256=file["sha256"],
            hf_repo=entry["hf_repo"],
            hf_file=file["file"],
            parts=_parts(file["pypi"]),
        )
        for file in entry["files"]
    ]
    return str(entry["directory"]), files


@lru_cache(maxsize=1)
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Path(__file__).with_name("catalogue.json").read_text("utf-8"))
    return data


def _parts(pattern: dict[str, Any] | None) -> tuple[Part, ...]:
    """Parts from their pattern: `{n}` is the part's number, from 1."""
    if pattern is None:
        return ()
    return tuple(
        Part(pattern["package"].format(n=n), pattern["version"], pattern["member"].format(n=n))
        for n in range(1, pattern["count"] + 1)
    )
