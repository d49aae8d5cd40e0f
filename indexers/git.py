"""The only door to git: which files a work tree has, what HEAD is, and a runner no repository can bend."""

# We run the git binary and not GitPython: its index and diff objects give wrong answers or raise on odd file
# names, index v4, split indexes and SHA-256 repositories, some thirty advisories were fixed in it in 2026
# alone, and its import costs 150 ms.
#
# A repository's own configuration can name programs, and ordinary read-only commands run them: `ls-files`
# starts core.fsmonitor, `status` starts clean filters. The flags below, and the list of commands we may use,
# were measured against every such setting: nothing fires.

from __future__ import annotations

import functools
import hashlib
import os
import re
import select
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from indexers.errors import RepositoryError
from indexers.types import TrackedFile

# 2.25 (January 2020) is the oldest that knows all we use; Debian 11 and Ubuntu 20.04 ship it or newer.
OLDEST_GIT = (2, 25)
TIMEOUT_SECONDS = 60.0
GITLINK = 0o160000
_UNSET_WORKTREE = "Unset core.worktree there, or name the work tree itself with --repo PATH."
_NAME_ONE = "Name a repository with --repo PATH."

_FLAGS = (
    *("--no-pager", "--no-optional-locks", "--literal-pathspecs"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.pager=cat"),
    *("-c", "core.alternateRefsCommand="),
    *("-c", "diff.external="),
    *("-c", "protocol.allow=never"),
    *("-c", "gc.auto=0"),
    *("-c", "maintenance.auto=false"),
    *("-c", "log.showSignature=false"),
    *("-c", "safe.bareRepository=explicit"),
)
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}

# Commands measured to run nothing from the configuration under the flags above, with the options each must
# have (without them it would) and must not have. A guard against a slip of ours: `status` and a work-tree
# `diff` run filters.
_ALLOWED: Mapping[str, tuple[str, ...]] = {
    "cat-file": (),
    "check-ignore": (),
    "config": ("--get-all",),
    "diff": ("--cached", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all"),
    "diff-index": ("--cached",),
    "diff-tree": ("--raw",),
    "for-each-ref": (),
    "grep": ("--no-textconv", "--no-ext-grep", "--no-recurse-submodules"),
    "hash-object": ("--no-filters",),
    "ls-files": (),
    "ls-tree": (),
    "merge-base": (),
    "rev-list": (),
    "rev-parse": (),
    "symbolic-ref": (),
    "version": (),
}
_FORBIDDEN: Mapping[str, frozenset[str]] = {
    "cat-file": frozenset({"--textconv", "--filters"}),
    "diff": frozenset({"--output", "--ext-diff", "--textconv"}),
    "diff-tree": frozenset({"--output", "--ext-diff", "--textconv", "-p", "-u", "--patch"}),
    "grep": frozenset({"-O", "--open-files-in-pager", "--textconv", "--ext-grep", "--no-index"}),
    "hash-object": frozenset({"-w"}),
    "ls-files": frozenset({"-m", "--modified"}),
}


@dataclass(frozen=True, slots=True)
class Repository:
    """A git work tree. All paths are absolute and resolved.

    `git_dir` is this worktree's own; `common_dir` is shared by linked worktrees and equal to it otherwise.
    """

    root: Path
    git_dir: Path
    common_dir: Path

    @classmethod
    def discover(cls, path: Path) -> Repository:
        """The work tree that `path` lies in.

        :raises RepositoryError: it does not exist, no work tree we may use holds it, or git cannot be used.
        """
        start = _existing_directory(path)
        git = _usable_git(_enclosing(start) or start)
        root, git_dir, common_dir = _paths_at_once(git, start) or _paths_one_by_one(git, start)
        if start.is_relative_to(git_dir):
            raise _inside_git_dir(start, git_dir)
        # A configuration can name any directory as its work tree (core.worktree). We read only one that says
        # so itself.
        if not start.is_relative_to(root) or (
            start != root and _path_of(git, root, "--absolute-git-dir") != git_dir
        ):
            raise RepositoryError(
                f"The configuration of {git_dir} names another directory as its work tree: {root}.",
                _UNSET_WORKTREE,
            )
        return cls(root, git_dir, common_dir)

    def list_files(self, *, untracked: bool = True) -> list[TrackedFile]:
        """Every tracked path, then also what is neither tracked nor ignored; sorted by the bytes of the path.

        Nothing is descended into: a submodule or nested repository is one entry with mode 0o160000.
        """
        others = self.run("ls-files", "-z", "-o", "--exclude-standard") if untracked else b""
        return list(_listed(self._tracked(), others))

    def _tracked(self) -> bytes:
        """What git says of tracked files. It reads that from its index file alone: the same file, the same words."""
        version = _settled(self.git_dir / "index")
        return self.run(*_TRACKED) if version is None else _said_of_tracked(self, version)

    def ignored_by(self, path: str) -> str | None:
        """The rule by which git ignores a path, as FILE:LINE:PATTERN; None when it does not."""
        # It knows no --literal-pathspecs; what begins with a dot is no magic, and wildcards mean nothing to it.
        answer = self._ask("check-ignore", "-v", "-z", "--stdin", stdin=b"./" + os.fsencode(path) + b"\0")
        if answer is None:
            return None
        source, line, pattern = answer.split(b"\0")[:3]
        return os.fsdecode(b":".join((source, line, pattern)))

    def head(self) -> str | None:
        """The id of the commit checked out; None before the first commit."""
        answer = self._ask("rev-parse", "--quiet", "--verify", "HEAD")
        return None if answer is None else answer.decode("ascii")

    def branch(self) -> str | None:
        """The name of the branch checked out, which need not have a commit; None when HEAD is detached."""
        answer = self._ask("symbolic-ref", "--quiet", "HEAD")
        return None if answer is None else os.fsdecode(answer).removeprefix("refs/heads/")

    def hooks_dir(self) -> Path:
        """Where git looks for this repository's hooks: core.hooksPath, else the `hooks` of its git directory."""
        found = self.run(
            "config", "-z", "--type=path", "--get-all", "core.hooksPath", accept=frozenset({0, 1})
        )
        # The last one is ours, which keeps git from running any.
        values = found.split(b"\0")[:-2]
        return Path(self.root, os.fsdecode(values[-1])) if values else self.common_dir / "hooks"

    def identity(self) -> str:
        """A hex id for this work tree, the same as long as it stays where it is; names its cache directory.

        Linked worktrees differ. The root is part of it, so that a crafted `.git` file which points at another
        repository does not get that repository's index.
        """
        names = os.fsencode(self.git_dir) + b"\0" + os.fsencode(self.root)
        return hashlib.sha256(names).hexdigest()[:20]

    def family(self) -> str:
        """A hex id that the linked worktrees of a repository share; names what is kept by content alone."""
        return hashlib.sha256(os.fsencode(self.common_dir)).hexdigest()[:20]

    def run(
        self,
        *args: str | bytes,
        stdin: bytes | None = None,
        timeout: float = TIMEOUT_SECONDS,
        env: Mapping[str, str] | None = None,
        accept: frozenset[int] = frozenset({0}),
    ) -> bytes:
        """What an allowed git command writes to stdout, run at the root.

        :param env: `GIT_*` variables to set, for a hook that must read the index git names in GIT_INDEX_FILE.
        :param accept: exit codes that are no failure.
        :raises RepositoryError: it failed, in git's own words, or took longer than `timeout` seconds.
        :raises ValueError: the command is not one that was measured to be safe.
        """
        answer = _invoke(_usable_git(self.root), args, cwd=self.root, stdin=stdin, timeout=timeout, env=env)
        if answer.returncode not in accept:
            raise _failure(args, answer, self.root)
        return answer.stdout

    def _ask(self, *args: str, stdin: bytes | None = None) -> bytes | None:
        """One line from a command that exits with 1 to say "there is none"."""
        answer = _invoke(_usable_git(self.root), args, cwd=self.root, stdin=stdin)
        if answer.returncode == 1 and not answer.stdout:
            return None
        if answer.returncode != 0:
            raise _failure(args, answer, self.root)
        return answer.stdout.rstrip(b"\n")


def git_version() -> tuple[int, ...]:
    """The version of the git that is used, such as (2, 39, 5).

    :raises RepositoryError: there is no git.
    """
    return _version_of(_find_git(None))


_TRACKED = ("ls-files", "-z", "-s")
# Repositories whose listing is kept, for whoever searches several in turn.
_LISTINGS = 4
# As long after its last change, a file that is written again does not look the same (see `build`).
_SETTLED_NS = 2_000_000_000


def _settled(path: Path) -> tuple[int, ...] | None:
    """What tells this version of a file from any later one; None when there is no telling, or no file."""
    try:
        entry = path.stat()
    except OSError:
        return None
    if abs(time.time_ns() - entry.st_ctime_ns) < _SETTLED_NS or entry.st_ctime_ns > time.time_ns():
        return None
    return entry.st_ino, entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns


@functools.lru_cache(maxsize=_LISTINGS)
def _said_of_tracked(repository: Repository, version: tuple[int, ...]) -> bytes:
    return repository.run(*_TRACKED)


@functools.lru_cache(maxsize=_LISTINGS)
def _listed(tracked: bytes, others: bytes) -> tuple[TrackedFile, ...]:
    """The files that two listings name, sorted by the bytes of their paths."""
    found: dict[bytes, TrackedFile] = {}
    for record in _records(tracked):
        details, _, name = record.partition(b"\t")
        # A path in conflict is listed once for each side; what lies in the work tree is one file.
        found.setdefault(name, TrackedFile(os.fsdecode(name), int(details.split(b" ", 1)[0], 8)))
    for record in _records(others):
        name = record.rstrip(b"/")
        mode = GITLINK if record.endswith(b"/") else 0
        found.setdefault(name, TrackedFile(os.fsdecode(name), mode, tracked=False))
    return tuple(found[name] for name in sorted(found))


def _records(listing: bytes) -> list[bytes]:
    return listing.split(b"\0")[:-1]


# --- running --------------------------------------------------------------------------------------


def _invoke(
    git: str,
    args: tuple[str | bytes, ...] | list[str],
    *,
    cwd: Path,
    stdin: bytes | None = None,
    timeout: float = TIMEOUT_SECONDS,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run one allowed command.

    :param env: `GIT_*` variables to keep, for a hook that must read the index git names in GIT_INDEX_FILE.
    """
    _check_allowed([os.fsdecode(arg) for arg in args])
    flags = [flag for flag in _FLAGS if flag != "--literal-pathspecs" or args[0] != "check-ignore"]
    try:
        with _Process(  # an absolute program, fixed flags, no shell
            [git, *flags, *args],
            cwd=cwd,
            env={**_clean_environment(), **(env or {})},
            # Never ours, which may be a terminal or somebody's pipe.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                output, errors = process.communicate(stdin or b"", timeout)
            except BaseException:
                process.kill()
                raise
            return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
    except subprocess.TimeoutExpired:
        command = os.fsdecode(args[0])
        raise RepositoryError(
            f"git {command} in {cwd} did not finish within {timeout:g} seconds.",
            "Is the repository on a slow or unreachable disk? Try `git ls-files` there by hand.",
        ) from None
    except OSError as error:
        raise RepositoryError(f"git could not be run in {cwd}: {error.strerror}.") from error


class _Process(subprocess.Popen[bytes]):
    """A process whose end is waited for without naps: those of the library take a third as long as git itself."""

    def wait(self, timeout: float | None = None) -> int:
        """As the library's; where the system cannot wake us, just that."""
        if timeout is not None and self.returncode is None and hasattr(os, "pidfd_open"):
            try:
                descriptor = os.pidfd_open(self.pid)
            except OSError:
                return super().wait(timeout)
            try:
                ended = select.poll()
                ended.register(descriptor, select.POLLIN)
                ended.poll(max(timeout, 0.0) * 1000)
            finally:
                os.close(descriptor)
        return super().wait(timeout)


def _check_allowed(args: list[str]) -> None:
    command, options = args[0], args[1:]
    if command not in _ALLOWED:
        raise ValueError(f"git {command} is not on the list of commands that run no program")
    missing = [option for option in _ALLOWED[command] if option not in options]
    banned = [option for option in options if option.split("=", 1)[0] in _FORBIDDEN.get(command, ())]
    if missing or banned:
        raise ValueError(f"git {command}: needs {missing}, must not have {banned}")


def _clean_environment() -> dict[str, str]:
    """Ours, without any GIT_ variable: one set (by a hook) for another repository would redirect us."""
    # Handing the environment on is part of the door; nothing is decided by what is in it.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**kept, **_ENVIRONMENT}


def _failure(
    args: tuple[str | bytes, ...], answer: subprocess.CompletedProcess[bytes], cwd: Path
) -> RepositoryError:
    words = _words(answer.stderr) or f"exit status {answer.returncode}"
    return RepositoryError(f"git {os.fsdecode(args[0])} failed in {cwd}: {words}")


def _words(stderr: bytes) -> str:
    return os.fsdecode(stderr).strip().removeprefix("fatal: ")


_QUESTIONS = ("--show-toplevel", "--absolute-git-dir", "--git-common-dir")


def _paths_at_once(git: str, start: Path) -> tuple[Path, ...] | None:
    """Work tree, git directory and common directory; None when they are to be asked for one by one.

    That is so when there is something to refuse, or when a newline in a path leaves open where an answer ends.
    """
    answer = _invoke(git, ["rev-parse", "--is-inside-work-tree", *_QUESTIONS], cwd=start)
    inside, *paths = answer.stdout.split(b"\n")
    if answer.returncode != 0 or inside != b"true" or len(paths) != len(_QUESTIONS) + 1:
        return None
    return tuple(Path(start, os.fsdecode(path)).resolve() for path in paths[:-1])


def _paths_one_by_one(git: str, start: Path) -> tuple[Path, ...]:
    """The same, with the reason when there is none."""
    answer = _invoke(git, ["rev-parse", "--is-inside-work-tree"], cwd=start)
    if answer.returncode != 0 or answer.stdout.strip() != b"true":
        raise _refusal(start, answer.stderr, git)
    return tuple(_path_of(git, start, question) for question in _QUESTIONS)


def _path_of(git: str, cwd: Path, question: str) -> Path:
    """One path from rev-parse: of two, which may hold newlines, nobody could say where one ends."""
    answer = _invoke(git, ["rev-parse", question], cwd=cwd)
    if answer.returncode != 0:
        raise _failure(("rev-parse",), answer, cwd)
    return Path(cwd, os.fsdecode(answer.stdout.removesuffix(b"\n"))).resolve()


# --- finding git ----------------------------------------------------------------------------------


def _usable_git(avoid: Path) -> str:
    git = _find_git(avoid)
    version = _version_of(git)
    if version < OLDEST_GIT:
        raise RepositoryError(
            f"git {'.'.join(map(str, version))} ({git}) is too old.",
            f"Install git {'.'.join(map(str, OLDEST_GIT))} or newer.",
        )
    return git


@functools.lru_cache(maxsize=64)
def _find_git(avoid: Path | None) -> str:
    """The absolute path of the first git on PATH that no repository could have planted.

    Left out are relative entries, which depend on where we stand, and anything inside the work tree `avoid`.
    """
    for entry in os.get_exec_path():
        if not os.path.isabs(entry):
            continue
        candidate = Path(entry, "git")
        # os.path, which says no where a directory of PATH is not ours to read; Path would raise.
        if not os.path.isfile(candidate) or not os.access(candidate, os.X_OK):
            continue
        if avoid is None or not (_within(candidate, avoid) or _within(candidate.resolve(), avoid)):
            return str(candidate)
    where = "" if avoid is None else f" (relative entries and those inside {avoid} are ignored)"
    raise RepositoryError(f"git was not found on PATH{where}.", "Install git: https://git-scm.com/downloads")


def _within(path: Path, directory: Path) -> bool:
    return path.is_relative_to(directory) or path.parent.resolve().is_relative_to(directory)


@functools.lru_cache(maxsize=8)
def _version_of(git: str) -> tuple[int, ...]:
    answer = _invoke(git, ["version"], cwd=Path(os.sep))
    match = re.match(rb"git version (\d+(?:\.\d+)*)", answer.stdout)
    if match is None:
        raise RepositoryError(
            f"{git} is not git, or does not work: {_words(answer.stderr)}", "Reinstall git."
        )
    return tuple(int(part) for part in match[1].split(b"."))


# --- why a place cannot be used -------------------------------------------------------------------


def _existing_directory(path: Path) -> Path:
    try:
        resolved = path.absolute().resolve(strict=True)
        is_directory = resolved.is_dir()
    except FileNotFoundError as error:
        if not path.is_absolute() and not _current_directory_exists():
            raise RepositoryError(
                "The current directory no longer exists.", "Change to one that does, or use --repo PATH."
            ) from error
        raise RepositoryError(f"{path} does not exist.", _NAME_ONE) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise RepositoryError(
            f"{path} cannot be read: {error}.", "Name a repository with --repo PATH."
        ) from error
    if not is_directory:
        raise RepositoryError(f"{path} is a file.", f"Name its directory: --repo {resolved.parent}")
    return resolved


def _current_directory_exists() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _enclosing(start: Path) -> Path | None:
    """The nearest directory that looks like a work tree, known before git may be run there."""
    return next((place for place in (start, *start.parents) if os.path.lexists(place / ".git")), None)


def _refusal(start: Path, stderr: bytes, git: str) -> RepositoryError:
    """The reason git has for not working in `start`, as an error that says what to do."""
    words = _words(stderr)
    if "dubious ownership" in words or "unsafe repository" in words:
        # Git's own advice is in its words. We never touch safe.directory: whom to trust is the user's
        # decision.
        cause, _, advice = words.partition("\n")
        return RepositoryError(f"Git refuses this repository: {cause}.", " ".join(advice.split()))
    place = next((place for place in (start, *start.parents) if _is_git_dir(place)), None)
    if place is not None and place.name == ".git":
        return _inside_git_dir(start, place)
    if place is not None:
        return _bare(place, git)
    broken = _enclosing(start)
    denied = _unreadable_part(broken / ".git") if broken else None
    if broken and denied:
        return RepositoryError(
            f"{denied} cannot be read: permission denied.",
            f"Mend its permissions: chmod -R u+rX {broken / '.git'}",
        )
    if "not a git repository (or any" in words:
        found = f", although there is a {broken / '.git'}" if broken else ""
        return RepositoryError(
            f"{start} is not in a git repository{found}.",
            "Run `git init` there, or use --repo PATH.",
        )
    if not words:
        return RepositoryError(
            f"The configuration of the repository around {start} names another directory as its work tree.",
            _UNSET_WORKTREE,
        )
    return RepositoryError(f"Git cannot use {start}: {words}.", "Try `git status` there.")


def _unreadable_part(git_dir: Path) -> Path | None:
    """What we may not read of a git directory, to which git says that there is no repository at all."""
    for part in (git_dir, *(git_dir / name for name in ("HEAD", "config", "objects", "refs"))):
        wanted = os.R_OK | os.X_OK if os.path.isdir(part) else os.R_OK
        if os.path.exists(part) and not os.access(part, wanted):
            return part
    return None


def _is_git_dir(place: Path) -> bool:
    try:
        return os.path.lexists(place / "HEAD") and (place / "objects").is_dir() and (place / "refs").is_dir()
    except OSError:
        return False


def _inside_git_dir(start: Path, git_dir: Path) -> RepositoryError:
    where = f"{start} is" if start == git_dir else f"{start} is inside {git_dir},"
    return RepositoryError(f"{where} a git directory, not a work tree.", f"Use --repo {git_dir.parent}")


def _bare(place: Path, git: str) -> RepositoryError:
    around = _invoke(git, ["rev-parse", "--is-inside-work-tree"], cwd=place.parent)
    if around.stdout.strip() == b"true":
        # Its configuration came with somebody's files, and git run inside would obey it.
        return RepositoryError(
            f"{place} is a bare repository inside the files of another repository; it is not opened.",
            f"Use --repo {_path_of(git, place.parent, '--show-toplevel')}",
        )
    return RepositoryError(
        f"{place} is a bare repository: it has no files to read.",
        f"Clone it (`git clone {place} DIRECTORY`) and use --repo DIRECTORY.",
    )
