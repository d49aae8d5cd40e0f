"""A draft tried in a copy of the work tree with the commands that the user gave: formatter, linter, tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from shlex import quote

from chains.writing.composing import Composed
from chains.writing.edits import FileChange, FileState
from chains.writing.material import Material
from chains.writing.reformatting import reformatted
from chains.writing.scratch import Ran, changed_in, find, run, scratch_copy, split
from chains.writing.types import Check, WriteSettings
from indexers.errors import AgentError, UsageError
from indexers.types import Progress

_TOLD_LINES, _TOLD_CHARS = 30, 2_400
# The status that shells give to a command that they do not find.
_NOT_STARTED = 127
_QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.", re.DOTALL)
# Words that only a shell obeys, and words that begin what only a shell can run.
_OPERATOR = re.compile(r"&&|\|\|?|&|\d?>>?(?:&\d|[\w./-]+)?|<<?|&>|.+;")
_OF_SHELLS = re.compile(r"[A-Za-z_]\w*=.*|cd|source|\.|export|set|ulimit|umask|if|for|while")


def check_commands(settings: WriteSettings, root: Path, environment: Mapping[str, str]) -> None:
    """Look before a model works for minutes whether the user's commands can be started at all.

    :raises UsageError: one of them cannot.
    """
    for command in filter(None, (settings.formatter, settings.linter, settings.test)):
        program = split(command)[0]
        words = _QUOTED.sub("_", command).split()
        if any(map(_OPERATOR.fullmatch, words)) or _OF_SHELLS.fullmatch(program):
            raise UsageError(
                f"The command {command!r} needs a shell, and is run without one.",
                f"Name the shell: sh -c {quote(command)}",
            )
        if find(program, root, environment) is None:
            raise UsageError(
                f"The command {command!r} cannot be started: neither PATH nor the repository has {program!r}.",
                "Try it at the top of the repository.",
            )


def trial_checks(
    made: Composed,
    files: Mapping[str, FileState],
    material: Material,
    settings: WriteSettings,
    on_progress: Callable[[Progress], None],
    judge: Callable[[Sequence[FileChange]], Sequence[Check]],
) -> tuple[Composed, list[Check]]:
    """The draft as the formatter leaves it, and what the commands said of it.

    A linter that complains about the files as they are counts as told and no more; what a formatter breaks is left as
    it was drafted.

    :param judge: the checks that need no process.
    """
    if not (settings.test or settings.linter or settings.formatter):
        return made, []
    checks: list[Check] = []
    with ExitStack() as copies:
        place = copies.enter_context(scratch_copy(material.repository, made.changes))
        if settings.formatter and _paths(made.changes):
            on_progress(Progress("format", 0, 0))
            made, check, as_it_is = _formatted(made, files, place, material, settings, judge)
            checks.append(check)
            if not made.changes:
                return made, checks
            if not as_it_is:
                # What is tried is what will be applied, and nothing that the formatter left lying.
                place = copies.enter_context(scratch_copy(material.repository, made.changes))
        if settings.linter and _paths(made.changes):
            on_progress(Progress("lint", 0, 0))
            ran = _ran(_about(settings.linter, _paths(made.changes)), place, material, settings)
            checks.append(_linted(ran, made.changes, material, settings))
        if settings.test:
            on_progress(Progress("test", 0, 0))
            ran = _ran(settings.test, place, material, settings)
            checks.append(Check("tests", ran.ok, "" if ran.ok else told(ran)))
    return made, checks


def _formatted(
    made: Composed,
    files: Mapping[str, FileState],
    place: Path,
    material: Material,
    settings: WriteSettings,
    judge: Callable[[Sequence[FileChange]], Sequence[Check]],
) -> tuple[Composed, Check, bool]:
    """The draft formatted, or as it was where that is worth nothing; and whether this is what now lies in the copy."""
    ran = _ran(_about(settings.formatter, _paths(made.changes)), place, material, settings)
    if not ran.ok:
        return made, Check("formatter", False, told(ran), required=False), False
    try:
        left = changed_in(place, made.changes)
        found = reformatted(made, left, files)
    except AgentError as error:
        return made, _not_taken(error.message), False
    except OSError as error:
        return made, _not_taken(f"what it left cannot be read: {error.strerror or error}"), False
    broken = "; ".join(f"{check.name}: {check.detail}" for check in judge(found.changes) if check.failed)
    if broken:
        return made, _not_taken(f"it breaks the draft: {broken}"), False
    return found, Check("formatter", True), set(left) == set(found.changes)


def _not_taken(why: str) -> Check:
    return Check("formatter", False, f"not taken, {why}", required=False)


def _linted(ran: Ran, changes: Sequence[FileChange], material: Material, settings: WriteSettings) -> Check:
    if ran.ok:
        return Check("linter", True)
    before = [change.path for change in changes if change.before is not None]
    if not before:
        return Check("linter", False, told(ran))
    with scratch_copy(material.repository, ()) as place:
        old = _ran(_about(settings.linter, before), place, material, settings)
    return Check("linter", False, told(ran), required=old.ok)


def _ran(command: str, place: Path, material: Material, settings: WriteSettings) -> Ran:
    """A command run in the copy. One that cannot be started there (the draft removes it) has failed."""
    try:
        return run(command, place, settings.seconds, material.environment)
    except UsageError as error:
        return Ran(command, _NOT_STARTED, error.message, 0.0)


def _paths(changes: Sequence[FileChange]) -> list[str]:
    return [change.path for change in changes if change.after is not None]


def _about(command: str, paths: Sequence[str]) -> str:
    return " ".join([command, *(quote(f"./{path}" if path.startswith("-") else path) for path in paths)])


def told(ran: Ran) -> str:
    """How a command failed, with the last lines of what it said."""
    how = "did not end in time" if ran.status is None else f"ended with status {ran.status}"
    lines = [line.rstrip() for line in ran.output.split("\n") if line.strip()]
    text = "\n".join(lines[-_TOLD_LINES:])[-_TOLD_CHARS:]
    return f"{ran.command} {how}" + (f":\n{text}" if text else "")
