"""What may be written where: paths that stay inside the repository, and what needs a separate yes. Pure."""

# Measured with git 2.39: `git apply` refuses `..`, absolute paths, `.git` in several spellings and symbolic links on
# the way; it takes `.g\u200cit` (`.git` on HFS+), new modes, settings of hooks and editors. Those are ours to judge.

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from chains.writing.edits import FileChange
from indexers.errors import AgentError

_LONGEST_NAME = 255
_LONGEST_PATH = 1_024
# What a file system or a reader does not see in a name (HFS+ ignores some of these), beside category Cf.
_IGNORABLE = frozenset(
    {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0}
    | set(range(0xFE00, 0xFE10))
    | set(range(0xE0000, 0xE1000))
)
# NTFS's short name for `.git`.
_SHORT_GIT = re.compile(r"git~\d+")

_DIRECTORIES = {
    ".github": "GitHub runs it",
    ".gitlab": "GitLab runs it",
    ".circleci": "CircleCI runs it",
    ".buildkite": "Buildkite runs it",
    ".ci": "the build server runs it",
    ".husky": "git hooks run it",
    ".githooks": "git hooks run it",
    "githooks": "git hooks run it",
    ".vscode": "the editor obeys it",
    ".idea": "the editor obeys it",
    ".zed": "the editor obeys it",
    ".fleet": "the editor obeys it",
    ".devcontainer": "the editor builds and runs it",
    ".cursor": "agents obey it",
    ".claude": "agents obey it",
    ".codex": "agents obey it",
    ".gemini": "agents obey it",
    ".continue": "agents obey it",
    ".cargo": "cargo obeys it",
    ".mvn": "Maven obeys it",
    ".yarn": "Yarn runs it",
}
_NAMES = {
    **dict.fromkeys(
        ("setup.py", "setup.cfg", "pyproject.toml", "noxfile.py", "tasks.py", "fabfile.py", "hatch_build.py"),
        "building or testing runs it",
    ),
    **dict.fromkeys(("conftest.py", "pytest.ini", "tox.ini", ".coveragerc"), "running the tests runs it"),
    **dict.fromkeys(("sitecustomize.py", "usercustomize.py"), "every Python runs it"),
    **dict.fromkeys(
        ("makefile", "gnumakefile", "bsdmakefile", "justfile", "rakefile", "gemfile", "cmakelists.txt"),
        "building runs it",
    ),
    **dict.fromkeys(
        ("package.json", ".npmrc", ".yarnrc", ".yarnrc.yml", ".pnpmfile.cjs", "bunfig.toml", "deno.json"),
        "installing or building runs it",
    ),
    **dict.fromkeys(
        (
            "build.rs",
            "build.gradle",
            "build.gradle.kts",
            "settings.gradle",
            "gradlew",
            "gradlew.bat",
            "pom.xml",
        ),
        "building runs it",
    ),
    **dict.fromkeys(
        ("build.sbt", "mvnw", "meson.build", "build.zig", "wscript", "sconstruct"), "building runs it"
    ),
    **dict.fromkeys(
        (".envrc", ".mise.toml", "mise.toml", ".tool-versions", ".autoenv"), "entering the directory runs it"
    ),
    **dict.fromkeys(
        ("dockerfile", "containerfile", "vagrantfile", "jenkinsfile", "procfile"), "it is built or run"
    ),
    **dict.fromkeys(
        ("agents.md", "claude.md", "gemini.md", "copilot-instructions.md", ".mcp.json"), "agents obey it"
    ),
    **dict.fromkeys(
        (".cursorrules", ".windsurfrules", ".clinerules", ".aider.conf.yml", ".agent.toml"), "agents obey it"
    ),
    **dict.fromkeys(
        (".editorconfig", ".dir-locals.el", ".exrc", ".nvimrc", ".vimrc", ".lvimrc"), "editors obey it"
    ),
    **dict.fromkeys(
        (".travis.yml", "azure-pipelines.yml", "appveyor.yml", ".appveyor.yml", "bitbucket-pipelines.yml"),
        "the build server runs it",
    ),
    **dict.fromkeys(
        (".drone.yml", ".cirrus.yml", "cloudbuild.yaml", "buildspec.yml"), "the build server runs it"
    ),
    **dict.fromkeys(("lefthook.yml", ".lefthook.yml", ".pre-commit-hooks.yaml"), "git hooks run it"),
    "docker-compose.yml": "it is built or run",
    "docker-compose.yaml": "it is built or run",
    "compose.yaml": "it is built or run",
    "compose.yml": "it is built or run",
}
_PATTERNS = (
    # .gitattributes, .gitmodules, .gitlab-ci.yml, .gitignore: all of them change what git or CI does.
    (re.compile(r"\.git.+"), "git or the build server obeys it"),
    (re.compile(r"\.pre-commit.*"), "git hooks run it"),
    (re.compile(r".+\.pth"), "every Python runs it"),
    (re.compile(r"\.cursor.*|\.claude.*|\.aider.*"), "agents obey it"),
    (
        re.compile(r"(?:dockerfile|containerfile|makefile|jenkinsfile)[.-].+|.+\.(?:dockerfile|mk)"),
        "building runs it",
    ),
    (
        re.compile(
            r"(?:jest|vite|vitest|webpack|rollup|babel|eslint|playwright|karma|gulpfile|gruntfile).*\.[cm]?[jt]s"
        ),
        "building or testing runs it",
    ),
    (
        re.compile(r"\.(?:bash|zsh|fish|ksh|csh)?(?:rc|profile|login|logout|env)|\.bash_.+|\.profile"),
        "shells run it",
    ),
)


class PolicyError(AgentError):
    """A change that is not made: where it would go, or without a yes of its own."""


@dataclass(frozen=True, slots=True)
class Concern:
    """Why a change needs a separate yes."""

    path: str
    reason: str


def forbidden(path: str) -> str:
    """Why nothing is ever written at a path relative to the repository; empty when it may be.

    Only what the name tells: links on the way are looked at when files are opened.
    """
    if not path or path.startswith("/"):
        return "it is not relative to the repository"
    if not path.isprintable() or len(path.encode("utf-8", "surrogateescape")) > _LONGEST_PATH:
        return "it has characters that are no part of a name, or is too long"
    if "\\" in path:
        return "it has a backslash, which separates directories elsewhere"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "it leaves the repository or names no file"
        if len(part.encode("utf-8", "surrogateescape")) > _LONGEST_NAME:
            return "a name in it is too long"
        if re.match(r"[A-Za-z]:", part):
            return "it names a drive"
        if _is_git(part):
            return "it is inside git's own directory"
    return ""


def executes_later(path: str) -> str:
    """What will run or obey a file at this path some day, as a reason; empty where nothing is known to."""
    *folders, name = [_plain(part) for part in path.split("/")]
    for folder in folders:
        if folder in _DIRECTORIES:
            return _DIRECTORIES[folder]
    if name in _NAMES:
        return _NAMES[name]
    return next((reason for pattern, reason in _PATTERNS if pattern.fullmatch(name)), "")


def concerns(changes: Sequence[FileChange]) -> list[Concern]:
    """What of these changes needs a separate yes: files that execute later, and new permission bits."""
    found = []
    for change in changes:
        reason = executes_later(change.path)
        if reason:
            found.append(Concern(change.path, reason))
        after = change.after.mode if change.after else None
        if after is not None and change.before is not None and after != change.before.mode:
            found.append(Concern(change.path, f"its mode changes from {change.before.mode:o} to {after:o}"))
        elif (
            after is not None and change.before is None and after & 0o111 and not _is_rename(change, changes)
        ):
            found.append(Concern(change.path, "the new file would be executable"))
    return found


def checked(changes: Sequence[FileChange]) -> None:
    """Refuse changes outside of the repository or inside of git's directory.

    :raises PolicyError: the first path that is refused.
    """
    for change in changes:
        reason = forbidden(change.path)
        if reason:
            raise PolicyError(f"{change.path!r} is not written: {reason}.")


def folded(name: str) -> str:
    """A name as a file system that ignores case, composition and invisible characters sees it."""
    text = unicodedata.normalize("NFKC", name)
    text = "".join(
        char for char in text if unicodedata.category(char) != "Cf" and ord(char) not in _IGNORABLE
    )
    return unicodedata.normalize("NFKC", text.casefold())


def _plain(name: str) -> str:
    """A name as Windows too sees it: a stream's name, closing dots and spaces do not count."""
    return folded(name).split(":", 1)[0].rstrip(". ")


def _is_git(part: str) -> bool:
    name = _plain(part)
    return name == ".git" or _SHORT_GIT.fullmatch(name) is not None


def _is_rename(change: FileChange, changes: Sequence[FileChange]) -> bool:
    """Whether the file has its mode from one that goes away in the same step."""
    mode = change.after.mode if change.after else None
    return any(other.after is None and other.before and other.before.mode == mode for other in changes)
