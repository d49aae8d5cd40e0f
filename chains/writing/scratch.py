"""Runs the user's commands on a draft: in a copy of the work tree, without input, within a time, all ended after."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from chains.writing.edits import FileChange
from chains.writing.jail import parent_of
from indexers.errors import AgentError, StorageError, UsageError
from indexers.git import GITLINK, Repository

# More than this is not copied for a trial.
MOST_BYTES, MOST_FILES = 2 << 30, 200_000
MOST_OUTPUT = 20_000
_GRACE = 1.0
# Stands before a command where the system can give what it leaves behind to somebody who ends it.
_SUPERVISED = (
    (sys.executable, "-I", "-S", str(Path(__file__).with_name("supervising.py")))
    if sys.platform == "linux"
    else ()
)
# Ignored by git, and what commands need all the same: what is installed there is read, and linked, not copied. What a
# build makes (target, build, dist) is made anew: a link to it would let a draft write into the work tree.
_LINKED = ("node_modules", ".venv", "venv", "env", ".tox", "vendor")
# A command that says more is stopped: what it said lies on the disk until it ends.
_MOST_WRITTEN = 256 << 20
_LOOK = 0.2
_MARK = "AGENT_SCRATCH"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended: `status` is None when its time was over; `output` the end of what it said."""

    command: str
    status: int | None
    output: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.status == 0


@contextmanager
def scratch_copy(repository: Repository, changes: Sequence[FileChange]) -> Iterator[Path]:
    """A copy of the work tree with the changes made in it, gone when the block ends.

    Tracked files and those that git does not ignore are copied; some directories that it does are linked.
    :raises StorageError: it is too large, or the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="agent-", ignore_cleanup_errors=True) as made:
        # The name of the directory is part of what some tests see.
        place = Path(made) / repository.root.name
        try:
            place.mkdir()
            _copy(repository, place)
            for change in changes:
                _change(place, change)
        except OSError as error:
            raise StorageError(
                f"The work tree cannot be copied to {made}: {error.strerror or error}.",
                "Free some space there, set TMPDIR, or go without --test.",
            ) from error
        yield place


def run(command: str, place: Path, seconds: float, environment: Mapping[str, str]) -> Ran:
    """Run a command as it was typed, without a shell, at the top of a copy.

    Whatever it started is killed when it ends or its time is over, also what has left its process group and, on Linux,
    its environment.
    :raises UsageError: it cannot be read or started.
    """
    words = split(command)
    if find(words[0], place, environment) is None:
        raise UsageError(
            f"The command {command!r} cannot be started: there is no {words[0]}.",
            "Try it at the top of the repository.",
        )
    token = secrets.token_hex(8)
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                [*_SUPERVISED, *words],
                cwd=place,
                env=_environment(environment, place, token),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise UsageError(
                f"The command {command!r} cannot be started: {error.strerror}.",
                "Try it at the top of the repository.",
            ) from error
        try:
            status: int | None = _wait(process, seconds, output.fileno())
        finally:
            _end(process, token)
        return Ran(command, status, _tail(output), round(time.monotonic() - started, 2))


def find(word: str, place: Path, environment: Mapping[str, str]) -> str | None:
    """The program that a word names at the top of a work tree or a copy; None where there is none."""
    path = str(place / word) if os.sep in word else word
    return shutil.which(path, path=environment.get("PATH", os.defpath))


def split(command: str) -> list[str]:
    """The words of a command.

    :raises UsageError: it has none, or a quotation mark that is not closed.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"The command {command!r} cannot be read: {error}.") from error
    if not words:
        raise UsageError("The command is empty.", 'Give one: --test "python -m pytest -q"')
    return words


def _wait(process: subprocess.Popen[bytes], seconds: float, output: int) -> int | None:
    """The exit status; None where its time was over, or it said more than anybody reads."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and os.fstat(output).st_size < _MOST_WRITTEN:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(min(left, _LOOK))
    return None


def _environment(given: Mapping[str, str], place: Path, token: str) -> dict[str, str]:
    """The user's own, in which Python finds the copy before an installed version of the repository."""
    kept = {name: value for name, value in given.items() if not name.startswith(("GIT_", "AGENT_"))}
    paths = [str(place), str(place / "src"), *filter(None, [kept.get("PYTHONPATH", "")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1", _MARK: token}


def _end(process: subprocess.Popen[bytes], token: str) -> None:
    """Kill the process, its group, its children, and whatever else carries the token in its environment."""
    if _SUPERVISED:
        # It ends all that became its own.
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            process.terminate()
            process.wait(_GRACE)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + _GRACE
    while True:
        left = _carrying(token)
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not left or time.monotonic() > deadline:
            return
        time.sleep(0.01)


def _carrying(token: str) -> list[int]:
    import psutil

    mark = f"{_MARK}={token}".encode()
    found = []
    for pid in psutil.pids():
        try:
            if os.path.isdir("/proc/self"):
                carries = mark in Path(f"/proc/{pid}/environ").read_bytes()
            else:
                carries = psutil.Process(pid).environ().get(_MARK) == token
        except (OSError, psutil.Error):
            continue
        if carries and _is_alive(pid):
            found.append(pid)
    return found


def _is_alive(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _tail(output: object) -> str:
    file = output
    file.seek(0, os.SEEK_END)  # type: ignore[attr-defined]
    file.seek(max(0, file.tell() - MOST_OUTPUT))  # type: ignore[attr-defined]
    data: bytes = file.read()  # type: ignore[attr-defined]
    return data.decode("utf-8", "replace")


def _copy(repository: Repository, place: Path) -> None:
    total = 0
    files = [file for file in repository.list_files() if file.mode != GITLINK]
    if len(files) > MOST_FILES:
        raise StorageError(
            f"The repository has {len(files):,} files: too many to copy.", "Go without --test."
        )
    for file in files:
        source, target = repository.root / file.path, place / file.path
        try:
            entry = source.lstat()
        except OSError:
            continue  # tracked, and not in the work tree
        total += entry.st_size
        if total > MOST_BYTES:
            raise StorageError(
                f"The work tree has more than {MOST_BYTES:,} bytes: too much to copy.", "Go without --test."
            )
        if not (source.is_symlink() or source.is_file()):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if not _linked_inside(source, target, repository.root, place):
            shutil.copy2(source, target, follow_symlinks=False)
    for name in _LINKED:
        source, target = repository.root / name, place / name
        if source.is_dir() and not target.exists():
            target.symlink_to(source)


def _linked_inside(source: Path, target: Path, root: Path, place: Path) -> bool:
    """Make a link that leads into the work tree by its full path lead into the copy; whether it was such a one."""
    if not source.is_symlink():
        return False
    leads = source.readlink()
    if not (leads.is_absolute() and leads.is_relative_to(root)):
        return False
    target.symlink_to(place / leads.relative_to(root))
    return True


def _change(place: Path, change: FileChange) -> None:
    """Make one change in the copy, where the paths have been judged already."""
    with parent_of(place, change.path, made=[]) as (directory, name):
        if change.after is None:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=directory)
        with os.fdopen(descriptor, "wb") as file:
            file.write(change.after.data)
            os.fchmod(file.fileno(), change.after.mode)


def changed_in(place: Path, changes: Sequence[FileChange]) -> list[FileChange]:
    """The changes with what a command (a formatter) has made of them in the copy.

    :raises AgentError: a file is not one any more.
    """
    from chains.writing.jail import state_of

    found = []
    for change in changes:
        if change.after is None:
            found.append(change)
            continue
        state = state_of(place, change.path)
        if state is None:
            raise AgentError(f"The command removed {change.path} from the copy.")
        found.append(FileChange(change.path, change.before, state))
    return found
