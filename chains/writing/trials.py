"""A draft tried in a copy of the work tree with the commands that the user gave: formatter, linter, tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from shlex import quote

from chains.writing.edits import FileChange
from chains.writing.material import Material
from chains.writing.scratch import Ran, changed_in, run, scratch_copy
from chains.writing.types import Check, WriteSettings
from indexers.types import Progress

_TOLD_LINES, _TOLD_CHARS = 30, 2_400


def trial_checks(
    changes: Sequence[FileChange],
    material: Material,
    settings: WriteSettings,
    on_progress: Callable[[Progress], None],
) -> tuple[list[FileChange], list[Check]]:
    """The changes as the formatter leaves them, and what the commands said of them.

    A linter that complains about the files as they are counts as told and no more.
    """
    if not (settings.test or settings.linter or settings.formatter):
        return list(changes), []
    paths = [change.path for change in changes if change.after is not None]
    checks: list[Check] = []
    found = list(changes)
    with scratch_copy(material.repository, changes) as place:
        if settings.formatter and paths:
            on_progress(Progress("format", 0, 0))
            ran = run(_about(settings.formatter, paths), place, settings.seconds, material.environment)
            checks.append(Check("formatter", ran.ok, "" if ran.ok else told(ran), required=False))
            found = changed_in(place, changes) if ran.ok else found
        if settings.linter and paths:
            on_progress(Progress("lint", 0, 0))
            ran = run(_about(settings.linter, paths), place, settings.seconds, material.environment)
            checks.append(_linted(ran, changes, material, settings))
        if settings.test:
            on_progress(Progress("test", 0, 0))
            ran = run(settings.test, place, settings.seconds, material.environment)
            checks.append(Check("tests", ran.ok, "" if ran.ok else told(ran)))
    return found, checks


def _linted(ran: Ran, changes: Sequence[FileChange], material: Material, settings: WriteSettings) -> Check:
    if ran.ok:
        return Check("linter", True)
    before = [change.path for change in changes if change.before is not None]
    if not before:
        return Check("linter", False, told(ran))
    with scratch_copy(material.repository, ()) as place:
        old = run(_about(settings.linter, before), place, settings.seconds, material.environment)
    return Check("linter", False, told(ran), required=old.ok)


def _about(command: str, paths: Sequence[str]) -> str:
    return " ".join([command, *(quote(f"./{path}" if path.startswith("-") else path) for path in paths)])


def told(ran: Ran) -> str:
    """How a command failed, with the last lines of what it said."""
    how = (
        "did not end in time, or wrote without end"
        if ran.status is None
        else f"ended with status {ran.status}"
    )
    lines = [line.rstrip() for line in ran.output.split("\n") if line.strip()]
    text = "\n".join(lines[-_TOLD_LINES:])[-_TOLD_CHARS:]
    return f"{ran.command} {how}" + (f":\n{text}" if text else "")
