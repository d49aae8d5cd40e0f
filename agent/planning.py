"""Plans a model on a machine, real or supposed, installed or not: what fits, what it takes, exactly."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from agent.catalogue import CatalogueEntry, catalogue, catalogue_entry
from agent.models import InstalledModel, find
from chains.models.fit import RAM_MARGIN, Compute, Fit, Gpu, Machine, Wishes, fit
from chains.models.footprint import Footprint, of_file
from chains.models.gguf import read_gguf
from indexers.errors import ModelError

# The context that model cards state their memory for.
CARD_CTX = 4_096
LADDER = (4_096, 8_192, 16_384, 32_768)
_GB = 10**9
# A twelfth of the memory is left to the system and what else runs.
_SYSTEM_SHARE = 12
# Quantisations whose cards say "recommended", and what is better than those.
_WORTHWHILE = ("Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "Q4_1", "Q8_0")


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to plan: its file when it is here, its catalogue entry when it has one."""

    label: str
    footprint: Footprint
    path: Path | None
    entry: CatalogueEntry | None


def subject(name: str, directories: Iterable[Path] = ()) -> Subject:
    """The model called `name`, as `find` understands it; the catalogue's shape where it is not installed.

    :raises ModelError: nothing is called so, or its shape is not known.
    """
    path = find(name, directories)
    if path is not None:
        info = read_gguf(path)
        return Subject(path.stem, of_file(info), path, None)
    entry = catalogue_entry(name)
    if entry is None or entry.footprint is None:
        raise ModelError(
            f"The shape of {name} is not known here.", f"Fetch it first: agent models pull {name}"
        )
    return Subject(entry.label, entry.footprint, None, entry)


def exactly(wanted: Subject) -> Compute:
    """llama.cpp's own compute buffer for a choice, by a load that allocates nothing; the same arithmetic without it."""
    from chains.models.measure import measure

    @lru_cache(maxsize=64)
    def compute(n_ctx: int, n_batch: int, kind: str) -> int:
        if wanted.path is not None:
            return measure(wanted.path, n_ctx, n_batch, kind).largest_compute
        from chains.models.shapes import write_empty

        entry = wanted.entry
        assert entry is not None and entry.shape is not None
        with tempfile.TemporaryDirectory(prefix="agent-plan-") as directory:
            empty = write_empty(
                Path(directory) / entry.file, entry.shape, entry.quant, first_k_quants=entry.first_k_quants
            )
            return measure(empty, n_ctx, n_batch, kind).largest_compute

    return compute


def machine_of(ram: float | None, vram: Sequence[float] | None, *, whole: bool) -> Machine:
    """This machine, or one of so many gigabytes (10^9 bytes) of RAM, and of memory on each GPU.

    :param whole: what its RAM can give to one program rather than what is free now.
    """
    from agent.hardware import memory

    total, available = memory()
    size = int(ram * _GB) if ram is not None else total - total // _SYSTEM_SHARE if whole else available
    if vram is not None:
        cards = tuple(Gpu(f"GPU{index}", int(each * _GB), int(each * _GB)) for index, each in enumerate(vram))
        return Machine(size, cards)
    found, unified = _gpus()
    return Machine(size, found, unified)


def _gpus() -> tuple[tuple[Gpu, ...], bool]:
    """This machine's GPUs; none where llama.cpp is not installed, which other commands say."""
    from chains.models.measure import gpus

    try:
        return gpus()
    except ModelError:
        return (), False


@dataclass(frozen=True, slots=True)
class Row:
    """A published file on this machine: what it takes at a context, and whether it is here, fits, is best."""

    entry: CatalogueEntry
    fit: Fit | None
    installed: Path | None
    n_ctx: int
    best_of_model: bool = False
    best: bool = False

    @property
    def memory(self) -> int:
        """Bytes of RAM it takes, the interpreter's own growth included."""
        model = self.entry.footprint
        if self.fit is None or model is None:
            return self.entry.approximate_bytes + RAM_MARGIN
        if self.fit.fits:
            return self.fit.ram.total + RAM_MARGIN
        # Not the least that was tried in vain, but what it would take.
        working = model.kv_bytes(self.n_ctx, "f16") + model.compute_bytes(self.n_ctx, 512)
        return model.weights.total + working + RAM_MARGIN

    @property
    def vram(self) -> int:
        """Bytes it takes on GPUs."""
        return self.fit.vram.total if self.fit is not None and self.fit.fits else 0

    @property
    def fits(self) -> bool:
        """Whether this machine can run it."""
        return self.fit is not None and self.fit.fits


def rows(machine: Machine, n_ctx: int, here: Sequence[InstalledModel]) -> list[Row]:
    """Every published file on a machine, those that fit best marked."""
    from dataclasses import replace

    places = {model.path.name: model.path for model in here}
    found = [
        Row(
            entry,
            fit(entry.footprint, machine, Wishes(min(n_ctx, entry.shape.context), kv="f16"))
            if entry.footprint is not None and entry.shape is not None
            else None,
            places.get(entry.file),
            min(n_ctx, entry.shape.context) if entry.shape is not None else n_ctx,
        )
        for entry in catalogue()
    ]
    good = [row for row in found if row.fits and row.entry.quant in _WORTHWHILE]
    of_model = {row.entry.name: row for row in sorted(good, key=_quality)}
    best = max(good, key=_preference, default=None)
    return [
        replace(row, best_of_model=of_model.get(row.entry.name) is row, best=row is best) for row in found
    ]


def _preference(row: Row) -> tuple[bool, float, tuple[bool, float]]:
    """The family the program is made for, then the larger model, then the better file."""
    return row.entry.family == "codellama", row.entry.parameters, _quality(row)


def _quality(row: Row) -> tuple[bool, float]:
    """A card's "not recommended" (eight bits: large for what they add) comes behind."""
    return "not recommended" not in row.entry.use_case, row.entry.bits_per_weight
