"""Measurements of models on this machine, kept for whoever wants to know how long a question will take."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.paths import secure_directory, state_dir

if TYPE_CHECKING:
    from agent.chosen_model import ChosenModel
    from chains.models.bench import Bench

# What a question costs that nothing of is in the cache: sources and instructions, and an answer of a few sentences.
TYPICAL_READ, TYPICAL_WRITTEN = 2_400, 160
_MOST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Expected:
    """How long a typical question takes, in seconds: until its first word, and until its last.

    `measured` is false where another model was measured and its rates were scaled by size; `basis` names that one.
    """

    first_word: float
    whole: float
    measured: bool
    basis: str


def run(model: ChosenModel, *, trials: bool, progress: Callable[[int, int, str], None]) -> Bench:
    """Measure the chosen model with the settings it would be loaded with, and keep the result."""
    from chains.models.bench import bench

    llm = model.local
    found = bench(Path(llm.model_path), llm.planned(), trials=trials, progress=progress)
    keep(found)
    return found


def keep(found: Bench) -> Path:
    """Write a measurement where `expected` finds it; a later one of the same file replaces it."""
    from agent.safe_text import to_json

    path = secure_directory(state_dir() / "bench") / f"{found.model}.json"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(to_json(found), encoding="utf-8")
    temporary.replace(path)
    return path


def expected(name: str, file_bytes: int, parameters: int = 0) -> Expected | None:
    """How long a typical question will take with a model, measured or scaled from one that was; None before any was.

    Writing reads all weights for each token, so that it scales with the file's size; reading computes with them, so
    that it scales with their number.
    """
    kept = _kept()
    exact = next((one for one in kept if one["model"] == name and one["file_bytes"] == file_bytes), None)
    if exact is None and not kept:
        return None
    # The nearest in size says most of another.
    basis = exact or min(kept, key=lambda one: abs(one["file_bytes"] - file_bytes))
    by_bytes = file_bytes / basis["file_bytes"]
    by_count = parameters / basis["parameters"] if parameters and basis["parameters"] else by_bytes
    first = TYPICAL_READ / basis["rates"]["reading"] * by_count
    whole = first + TYPICAL_WRITTEN / basis["rates"]["writing"] * by_bytes
    return Expected(first, whole, exact is not None, str(basis["model"]))


def _kept() -> list[Mapping[str, Any]]:
    """Every measurement that can be read; they are a convenience, and one that cannot is none."""
    directory = state_dir() / "bench"
    found = []
    for path in sorted(directory.glob("*.json")) if directory.is_dir() else ():
        try:
            if path.stat().st_size <= _MOST_BYTES and _is_sound(data := json.loads(path.read_text("utf-8"))):
                found.append(data)
        except (OSError, ValueError):
            continue
    return found


def _is_sound(data: Any) -> bool:
    try:
        numbers = (data["file_bytes"], data["rates"]["reading"], data["rates"]["writing"])
        return (
            isinstance(data["model"], str)
            and data["parameters"] >= 0
            and all(number > 0 for number in numbers)
        )
    except (KeyError, TypeError):
        return False
