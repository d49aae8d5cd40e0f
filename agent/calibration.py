"""How often a model is wrong about this repository's own changes, as measured on its history, and kept."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.paths import secure_directory, state_dir
from indexers.git import Repository

# Of fewer harmless commits none can be one false alarm in twenty.
LEAST_HARMLESS = 20


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a replay of history found. `threshold` is the probability from which a finding is told.

    `found` of `faults` reversed fixes had a finding on their lines; `alarmed` of `harmless` commits had one at all.
    """

    threshold: float
    faults: int
    found: int
    harmless: int
    alarmed: int

    @property
    def may_block(self) -> bool:
        """Whether this is enough to have findings stop a commit: not where nothing was found, or little tried."""
        return self.harmless >= LEAST_HARMLESS and self.found > self.alarmed


def calibration_of(repository: Repository, model: str) -> Calibration | None:
    """What was measured for a model here; None where nothing was."""
    try:
        data = json.loads(_place(repository, model).read_bytes())
        return Calibration(**data)
    except (OSError, ValueError, TypeError):
        return None


def keep(repository: Repository, model: str, calibration: Calibration) -> Path:
    """Store it for later reviews; where."""
    place = _place(repository, model)
    place.write_text(json.dumps(asdict(calibration), indent=2) + "\n", encoding="ascii")
    return place


def _place(repository: Repository, model: str) -> Path:
    directory = secure_directory(state_dir() / "calibration" / repository.family())
    return directory / f"{''.join(c if c.isalnum() or c in '.-_' else '_' for c in model)}.json"
