"""From a place in a file to text for it: the file as it lies there, names in view looked up, a model that fills."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agent.loading import Background
from chains.completing import CompleteSettings, Completion, cut, definitions, fill, hole_at
from chains.writing.infill import Hole
from indexers.errors import AgentError, UsageError
from indexers.files import read_source
from indexers.redact import redact
from indexers.types import Skipped, TrackedFile
from indexers.verify import inside

if TYPE_CHECKING:
    from agent.chosen_model import ChosenModel
    from agent.workspace import Workspace

_FORM = "Say where: agent complete src/app.py:12 or src/app.py:12:9"


def parse_place(place: str) -> tuple[str, int, int | None]:
    """FILE:LINE or FILE:LINE:COLUMN, both from 1; the file's own colons stay its own.

    :raises UsageError: there is no line in it.
    """
    parts = place.rsplit(":", 2)
    numbers = [part for part in parts[1:] if part.isascii() and part.isdigit() and len(part) < 10]
    if len(parts) == 3 and len(numbers) == 2:
        return parts[0], int(parts[1]), int(parts[2])
    path, _, last = place.rpartition(":")
    if path and last.isascii() and last.isdigit() and len(last) < 10:
        return path, int(last), None
    raise UsageError(f"{place!r} names no line of a file.", _FORM)


def complete(
    workspace: Workspace,
    model: ChosenModel,
    path: str,
    line: int,
    column: int | None,
    settings: CompleteSettings,
) -> Completion:
    """What belongs at a place in a file of the work tree, as the model sees it.

    :raises UsageError: no such file, line or column, or a file that is not read.
    """
    hole = _hole(workspace, path, line, column)
    # The weights load while the tree is read: both take about as long.
    loading = Background(model.llm.load)
    try:
        workspace.refresh()
        relations = workspace.names()
    finally:
        loading.wait()
    llm = model.llm
    with workspace.guarded():
        sources = definitions(hole, relations, settings.definition_tokens, llm.count_tokens)
    return fill(cut(hole, settings, llm.count_tokens), llm, settings, sources)


def _hole(workspace: Workspace, typed: str, line: int, column: int | None) -> Hole:
    """The place, without secrets: what stands in a prompt may come out anywhere."""
    root = workspace.repository.root
    path = inside(root, typed)
    if path is None:
        raise UsageError(f"{typed} is not in the work tree {root}.", _FORM)
    try:
        found = read_source(root, TrackedFile(path), workspace.settings.index_config())
    except OSError as error:
        raise AgentError(f"{typed} cannot be read: {error.strerror}.", _FORM) from error
    if isinstance(found, Skipped):
        detail = f" ({found.detail})" if found.detail else ""
        raise UsageError(
            f"{typed} is not read: {found.reason.value}{detail}.", "See why: agent index --explain FILE"
        )
    hole = hole_at(path, found.text, line, column)
    key = os.urandom(32)
    return Hole(path, redact(hole.prefix, key, path).text, redact(hole.suffix, key, path).text)
