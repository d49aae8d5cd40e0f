"""Keys, tokens and passwords in lines that a change adds."""

from __future__ import annotations

import re
from collections.abc import Iterator

from chains.reviewing.checks.lines import added_lines, finding
from chains.reviewing.types import FileDiff, Finding, Severity
from indexers.files import passed_over
from indexers.types import SkipReason

CATEGORY = "secret"
_MARK = re.compile(r"\u27e6REDACTED:([\w-]+):[0-9a-f]{8}\u27e7")
# Settings, which hold a secret or not: a line that sets one, other than from a variable.
_SETTINGS = re.compile(r"(?:^|/)\.(?:npmrc|envrc)$", re.IGNORECASE)
_SETS_SECRET = re.compile(
    r"^(?![ \t]*[#;]).*?(?:"
    r"(?:pass(?:word|wd|phrase)?|secret|token|_auth|(?:api|access|private|secret)_?key|credentials?)"
    r"[ \t]*=[ \t]*(?:\$\{\w+:?[-=](?![}])|(?![\"']?(?:[\s$<`/]|\.{1,2}/|true\b|false\b|$)))|://[^/\s:@$]+:[^@\s$]+@)",
    re.IGNORECASE | re.MULTILINE,
)
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
# How much of a long line is shown before the secret in it.
_BEFORE = 60


def check(file: FileDiff) -> Iterator[Finding]:
    """One finding for each added line that holds (part of) a secret; the quote shows a mark in its place."""
    named = file.after is not None and file.status in ("A", "R", "C") and passed_over(file.path, "")
    if named and named.reason is SkipReason.SECRET and not _is_open(file):
        message = "A file that by its name holds secrets is added to the repository."
        yield finding(file, 1, Severity.HIGH, CATEGORY, message, quote=file.path.rpartition("/")[2])
    if file.after is None or not any(hunk.added for hunk in file.hunks):
        return
    inside = False
    for number, line in added_lines(file):
        # A line that redacting changed held something.
        shown = file.redacted(number)
        mark = _MARK.search(shown) if shown != line else None
        if mark is not None:
            inside = mark[1] == "private-key"
            yield finding(
                file, number, Severity.CRITICAL, CATEGORY,
                f"This line holds a secret ({mark[1]}). Take it out, and replace it where it is used: "
                "it is known to whoever reads the repository.",
                quote=_around(shown, mark.start()),
                about=mark[0],
            )  # fmt: skip
        elif shown != line and not inside:
            inside = True
            message = "This line is part of a private key. Take it out, and make a new key."
            yield finding(file, number, Severity.CRITICAL, CATEGORY, message, quote="\u27e6REDACTED\u27e7")


def _is_open(file: FileDiff) -> bool:
    """Whether a text shows that a file keeps no secret although it is called like one."""
    name, text = file.path.lower(), file.after or ""
    if name.endswith((".pem", ".key")):
        blocks = _PEM.findall(text)
        return bool(blocks) and not any("PRIVATE" in block for block in blocks)
    if _SETTINGS.search(name):
        return not _SETS_SECRET.search(text)
    return name.endswith(".pub")


def _around(line: str, at: int) -> str:
    """A line from shortly before a place on."""
    return line if at <= _BEFORE else f"...{line[at - _BEFORE :]}"
