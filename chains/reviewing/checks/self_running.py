"""Changes to what runs by itself: hooks, CI, agents' configuration, start-up files, links and executable bits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from chains.reviewing.checks.lines import added_lines, finding
from chains.reviewing.types import FileDiff, Finding, Severity

CATEGORY = "self-running"
_LINK, _EXECUTABLE = 0o120000, 0o111
# What is done with a file, by its path in lower case.
_PLACES: Mapping[str, tuple[str, ...]] = {
    "CI runs it": (
        *(
            r"\.github/(?:workflows|actions)/",
            r"\.gitlab-ci",
            r"\.circleci/",
            r"\.travis\.yml$",
            "azure-pipelines",
        ),
        *(
            "jenkinsfile$",
            r"\.drone\.yml$",
            r"\.buildkite/",
            "bitbucket-pipelines",
            r"\.(?:forgejo|gitea|woodpecker)/",
        ),
    ),
    "git hooks run it": (
        *(r"\.pre-commit-(?:config|hooks)\.yaml$", r"\.husky/", r"\.githooks/", r"\.?lefthook\.yml$"),
        # By git's own names alone: a framework's hooks have an ending.
        r"(?:^|/)hooks/(?:(?:pre|post)-applypatch|(?:applypatch|commit|prepare-commit)-msg|pre-(?:merge-)?commit"
        r"|post-(?:commit|checkout|merge|receive|update|rewrite|index-change)|pre-(?:rebase|push|receive|auto-gc)"
        r"|update|proc-receive|reference-transaction|push-to-checkout|sendemail-validate|fsmonitor-watchman)$",
    ),
    "git obeys it": (r"\.git(?:attributes|modules|config)$",),
    "coding agents obey it": (
        *(
            r"(?:^|/)(?:agents|claude|gemini)(?:\.local)?\.md$",
            r"\.cursor(?:rules|/)",
            r"\.claude/",
            r"\.mcp\.json$",
        ),
        *(
            r"\.aider",
            r"\.continue/",
            r"\.windsurf",
            r"copilot-instructions\.md$",
            r"\.agent\.toml$",
            r"\.codex/",
        ),
    ),
    "editors and shells obey it": (
        *(r"\.vscode/", r"\.idea/", r"\.devcontainer/", r"\.envrc$", r"\.vimrc$", r"\.exrc$"),
    ),
    "who has to review what is read there": (r"(?:^|/)codeowners$",),
    "every start of Python runs it": (r"(?:^|/)(?:site|user)customize\.py$", r"\.pth$"),
}
# Not what somebody has to start, as make, a test or a build does: every other commit changes such a file, and a check
# that speaks each time is switched off.
_RULES = tuple((re.compile("|".join(patterns)), what) for what, patterns in _PLACES.items())
_NPM_HOOK = re.compile(r'(?:^|[{,])\s*"(?:pre|post)?(?:install|prepare|publish|prepublishOnly)"\s*:')


def check(file: FileDiff) -> Iterator[Finding]:
    """At most one finding for a file, at its first added line: a person should look at what it now does."""
    if file.after is None or (file.old_path and _obeyed(file.old_path) and not _obeyed(file.path)):
        yield from _taken_away(file)
        return
    line = next((number for number, _ in added_lines(file)), file.hunks[0].start if file.hunks else 1)
    path = file.path.lower()
    if file.new_mode == _LINK:
        yield from _link(file)
        return
    if what := _obeyed(file.path):
        message = f"This change alters what runs by itself: {what}."
        yield finding(file, line, Severity.MEDIUM, CATEGORY, message)
        return
    if path.rpartition("/")[2] == "package.json":
        for number, text in added_lines(file):
            if _NPM_HOOK.search(text):
                yield finding(
                    file,
                    number,
                    Severity.MEDIUM,
                    CATEGORY,
                    "npm runs this line whenever the package is installed.",
                )
                return
    if file.new_mode & _EXECUTABLE and file.old_mode and not file.old_mode & _EXECUTABLE:
        yield finding(file, line, Severity.LOW, CATEGORY, "The file becomes executable.")


def _obeyed(path: str) -> str:
    """What is done with a file by itself; empty for an ordinary one."""
    return next((what for rule, what in _RULES if rule.search(path.lower())), "")


def _taken_away(file: FileDiff) -> Iterator[Finding]:
    """A file that something obeyed, deleted or moved to where nothing does."""
    old = file.old_path or file.path
    if what := _obeyed(old):
        message = f"This change takes away what ran by itself: {old} ({what})."
        yield finding(file, 1, Severity.MEDIUM, CATEGORY, message)


def _link(file: FileDiff) -> Iterator[Finding]:
    """A symbolic link that leads out of the repository."""
    target = (file.after or "").strip()
    depth = 0
    outside = target.startswith(("/", "~")) or re.match(r"[A-Za-z]:", target) is not None
    for part in [*file.path.split("/")[:-1], *target.split("/")]:
        depth += -1 if part == ".." else 0 if part in ("", ".") else 1
        outside = outside or depth < 0
    if outside or ".git" in target.lower().split("/"):
        yield finding(
            file,
            1,
            Severity.HIGH,
            CATEGORY,
            f"A symbolic link that leads out of the repository: {target[:100]}",
        )
