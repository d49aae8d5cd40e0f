"""Which models are installed, what they are called, and which of them is the best that fits."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.catalogue import EMBEDDER, CatalogueEntry, catalogue, catalogue_entry, names_of, normal
from agent.paths import models_dir
from agent.pull import STAGING, embedder_dir, embedder_installed, ensure_embedder, pull
from indexers.errors import ModelError

# Small enough to fetch without asking twice, and it answers well enough to be of use.
DEFAULT_MODEL = "qwen2.5-coder-0.5b-instruct"
# What a loaded model needs beyond its file: repacked tensors, then KV cache and compute buffers at a few
# thousand tokens (34B: 0.75 + 0.2 GiB at 4k with flash attention).
FILE_FACTOR = 1.05
WORKING_BYTES = 3 << 29
# A directory of models is flat or sorted by publisher; deeper trees are somebody's home directory.
MAX_DEPTH = 4
# GGUF files that cannot answer: image projectors, bare vocabularies, embedders.
NOT_CHAT = ("mmproj", "vocab", "embed")

_QUANT = re.compile(r"[-._](I?Q\d[A-Z0-9_]*|BF16|F16|F32|MXFP4)$", re.IGNORECASE)
_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})$")
_LIST = "See what there is: agent models list"


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


def needed_memory(file_bytes: int) -> int:
    """What a model of this size takes to run, with a context of a few thousand tokens, as a first guess."""
    return int(file_bytes * FILE_FACTOR) + WORKING_BYTES


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
    models = installed(directories)
    wanted = normal(name)
    if name.lower().endswith(".gguf") or os.sep in name:
        # An installed file's name without its directory will do as well.
        known = any(wanted in _installed_names(model) for model in models)
        if not known and catalogue_entry(name) is None:
            raise ModelError(f"There is no model file {name}.", _LIST)
    exact = [model for model in models if wanted in _installed_names(model)]
    if exact:
        return max(exact, key=lambda model: model.bytes).path
    entry = catalogue_entry(name)
    if entry is not None and wanted in names_of(entry):
        return None
    begun = [model for model in models if model.name.lower().startswith(wanted)]
    if len({model.base for model in begun}) == 1:
        return max(begun, key=lambda model: model.bytes).path
    if entry is not None and not begun:
        return None
    raise unknown(name, [model.name for model in begun], models)


def choose_default(memory_bytes: int, directories: Iterable[Path] = ()) -> InstalledModel | None:
    """The best installed model that fits: a CodeLlama first, then instruct before base, then the largest."""
    fitting = [
        model
        for model in installed(directories)
        if needed_memory(model.bytes) <= memory_bytes and not any(mark in model.base for mark in NOT_CHAT)
    ]
    return max(fitting, key=lambda model: (model.is_codellama, model.is_instruct, model.bytes), default=None)


def _installed_names(model: InstalledModel) -> set[str]:
    return {normal(text) for text in (model.name, model.base, model.path.name)}


def unknown(name: str, begun: Sequence[str] = (), models: Sequence[InstalledModel] = ()) -> ModelError:
    """The error for a name that means nothing, or several things; it suggests the nearest."""
    if begun:
        return ModelError(f"Several models begin with {name!r}.", "Name one of: " + ", ".join(begun))
    known = [*(model.name for model in models), *(model.base for model in models)]
    known += [*(entry.name for entry in catalogue()), *(entry.label for entry in catalogue())]
    # Every quantisation has the name of its model.
    known = list(dict.fromkeys(known))
    wanted = normal(name)
    alike = [text for text in known if text.startswith(wanted)]
    near = alike[:6] or difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
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


__all__ = [
    "DEFAULT_MODEL",
    "EMBEDDER",
    "STAGING",
    "CatalogueEntry",
    "InstalledModel",
    "catalogue",
    "catalogue_entry",
    "choose_default",
    "embedder_dir",
    "embedder_installed",
    "ensure_embedder",
    "find",
    "installed",
    "needed_memory",
    "normal",
    "pull",
    "unknown",
]
