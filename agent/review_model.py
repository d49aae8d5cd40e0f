"""The model layer of a review as this machine has it: an installed model, never one that would have to be fetched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.calibration import Calibration, calibration_of
from agent.chosen_model import engine_arguments
from agent.config import Settings, silence_tracing
from agent.paths import cache_dir, secure_directory
from agent.verdicts import StoredVerdicts
from chains.review import Reader, Verdict
from chains.reviewing.context import ContextFinder
from chains.reviewing.reader import ModelReader, ReaderOptions
from chains.reviewing.types import Reason, Severity
from indexers.errors import ModelError

if TYPE_CHECKING:
    from chains.llm import LlamaCpp
    from chains.reviewing.checks.uses import Tree
    from indexers.git import Repository

# What `review_model` says where the checks alone are wanted.
NO_MODEL = "none"
_CHECKS_ALONE = f'review_model = "{NO_MODEL}" in your settings leaves it at the checks'
_FETCH = f"none is installed; agent models pull NAME fetches one, {_CHECKS_ALONE}"
# Context and prompt of one hunk, its answer and a second question fit.
_N_CTX = 4_096
# Taken unasked from this size on: of the faults of QuixBugs Qwen2.5-Coder names none, neither the 0.5B nor the 1.5B;
# made to name some, they tell no change with a fault from a harmless one (tests/benchmarks/review.py).
_LEAST_PARAMETERS = 3_000_000_000
# Room for the head of every prompt and the last few hundred hunks of a small model.
_KV_BYTES = 200_000_000


class ReviewModelFile:
    """An installed model, loaded when the first hunk needs it and then kept."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self._settings = settings
        self._loaded: LlamaCpp | None = None

    @property
    def small(self) -> bool:
        """Whether it is of a size that was seen to tell nothing by its reviews; false of a file that is damaged."""
        try:
            return is_small(self.path)
        except ModelError:
            return False

    def load(self) -> LlamaCpp:
        """The model with its weights."""
        if self._loaded is None:
            self._loaded = _load(self.path, self._settings)
        return self._loaded

    def reader(self, repository: Repository, tree: Tree | None, options: ReaderOptions) -> ModelReader:
        """What reads the hunks of one change with it."""
        context = ContextFinder(tree, options.context_chars)
        stored = StoredVerdicts.of(repository)
        return ModelReader(self.path.stem, identity_of(self.path), self.load, context, options, stored)


def installed(settings: Settings, name: str | None) -> ReviewModelFile | Verdict:
    """The model to review with: named, else the settings', else the best one installed; or why there is none."""
    try:
        path = _path(settings, name)
    except ModelError as error:
        return Verdict(unreviewed=Reason.NO_MODEL, detail=error.message)
    if path is None:
        return Verdict(unreviewed=Reason.NO_MODEL, detail=_FETCH)
    return ReviewModelFile(path, settings)


def reader_for(
    repository: Repository, settings: Settings, name: str | None, tree: Tree | None
) -> Callable[[], Reader | Verdict]:
    """What makes the reader when there is something to read; or says that there is no model."""

    def make() -> Reader | Verdict:
        model = installed(settings, name)
        if isinstance(model, Verdict):
            return model
        found = calibration_of(repository, model.path.stem)
        return model.reader(repository, tree, options_of(found, small=model.small))

    return make


def options_of(calibration: Calibration | None, *, small: bool = False) -> ReaderOptions:
    """How to read: as measured on this repository, else as measured on others.

    Only where this repository's own history says that the model is mostly right may a finding of its stop a commit.

    :param small: neither other code around a hunk nor a second question made the findings of such models any better
        (tests/benchmarks/review.py), and they take a third of its time: the code is left out, and the question is asked
        where a calibration says what its answer is worth. Nor is a fix worth asking for.
    """
    usual = ReaderOptions(verify=None, context_chars=0, suggest=False) if small else ReaderOptions()
    if calibration is None:
        return usual
    most = Severity.HIGH if calibration.may_block else usual.most
    return replace(usual, verify=calibration.threshold, most=most)


def is_small(path: Path) -> bool:
    """Whether a model file has fewer weights than one needs to review unasked."""
    from chains.models.gguf import read_gguf

    return read_gguf(str(path)).parameter_count < _LEAST_PARAMETERS


def identity_of(path: Path) -> str:
    """What tells a model's file from any other, without reading all of it."""
    found = path.stat()
    return f"{path.name} {found.st_size} {found.st_mtime_ns}"


def _path(settings: Settings, name: str | None) -> Path | None:
    """The file of the model; None where none is installed.

    :raises ModelError: the named one is not, or all that nobody named are too small.
    """
    from agent import models
    from agent.hardware import detect

    directories = [Path(directory) for directory in settings.models_dirs]
    wanted = name or settings.review_model or settings.model
    if wanted is None:
        best = models.choose_default(detect().memory_available, directories)
        if best is not None and is_small(best.path):
            raise ModelError(
                f"{best.base} is too small to review; --model {best.base} lets it try all the same, {_CHECKS_ALONE}"
            )
        return best.path if best is not None else None
    path = models.find(wanted, directories)
    if path is None:
        raise ModelError(f"the model {wanted} is not installed: agent models pull {wanted}")
    return path


def _load(path: Path, settings: Settings) -> LlamaCpp:
    silence_tracing()
    from chains.llm import LlamaCpp

    llm = LlamaCpp(
        model_path=str(path),
        n_ctx=min(settings.context or _N_CTX, _N_CTX),
        **engine_arguments(settings),
        seed=0,
        # A store of its own: the states of hunks, which are read once, must not push out those of sources.
        kv_dir=str(secure_directory(cache_dir() / "kv-review")) if settings.kv_bytes else "",
        kv_bytes=min(settings.kv_bytes, _KV_BYTES),
        reading="exact",
    )
    llm.load()
    return llm
