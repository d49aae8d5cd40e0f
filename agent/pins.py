"""What is known of each downloaded file since it came: its SHA-256, its source, when; so that a change is noticed."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.paths import models_dir

_DIRECTORY = ".pins"


@dataclass(frozen=True, slots=True)
class Pin:
    """A file as it was when it was verified. `verified_by` says against what: catalogue, hub, option, or nothing."""

    sha256: str
    bytes: int
    source: str
    verified_by: str
    revision: str = ""
    when: str = ""


def pin_of(path: Path) -> Pin | None:
    """What is known of the model file at `path`; None for nothing, or for a note that cannot be read."""
    try:
        note = json.loads(_note(path).read_text("utf-8"))
        return Pin(**{key: note[key] for key in Pin.__dataclass_fields__})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def pin(path: Path, sha256: str, size: int, source: str, verified_by: str, revision: str = "") -> Pin:
    """Note what the file at `path` is."""
    made = Pin(sha256, size, source, verified_by, revision, time.strftime("%Y-%m-%d"))
    note = _note(path)
    note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = note.with_suffix(f".{os.getpid()}.new")
    temporary.write_text(json.dumps(asdict(made), indent=1), "utf-8")
    temporary.replace(note)
    return made


def unpin(path: Path) -> None:
    """Forget what is known of a file."""
    _note(path).unlink(missing_ok=True)


def _note(path: Path) -> Path:
    root = models_dir()
    inside = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    # One flat directory: a slash in the name would make others.
    return root / _DIRECTORY / ("--".join(inside.parts) + ".json")
