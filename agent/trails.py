"""What was last read about a work tree, kept beside its index, so that the next question can begin with it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path

from chains.types import Source

_NAME = "trail.json"
# After a break another subject is as likely as this one.
_FRESH_SECONDS = 6 * 3_600.0
_MOST_BYTES = 1 << 20


def load(directory: Path, root: Path, model: str) -> tuple[Source, ...]:
    """The sources of the last prompt that the model read, in order, up to the first whose file has changed since.

    :param directory: of the index.
    :param root: the top of the work tree.
    """
    try:
        path = directory / _NAME
        if path.stat().st_size > _MOST_BYTES:
            return ()
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["model"] != model or not 0 <= time.time() - kept["when"] < _FRESH_SECONDS:
            return ()
        found = []
        for values, stamp in kept["sources"]:
            if list(stamp) != _stamp(root, values["path"]):
                break
            found.append(Source(**{field.name: values[field.name] for field in fields(Source)}))
        return tuple(found)
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def save(directory: Path, root: Path, model: str, shown: Sequence[Source]) -> None:
    """Keep what a prompt showed, in that order. Only a courtesy: where it cannot be written, nothing is."""
    listed = [(asdict(source), _stamp(root, source.path)) for source in shown]
    text = json.dumps({"model": model, "when": time.time(), "sources": listed})
    new = directory / f"{_NAME}.{os.getpid()}.new"
    with suppress(OSError):
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            new.replace(directory / _NAME)
        finally:
            new.unlink(missing_ok=True)


def _stamp(root: Path, path: str) -> list[int]:
    try:
        status = (root / path).stat(follow_symlinks=False)
    except (OSError, ValueError):
        return []
    return [status.st_size, status.st_mtime_ns]
