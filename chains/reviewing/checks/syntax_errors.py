"""Files that a change leaves unparsable."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from chains.reviewing.checks.lines import finding
from chains.reviewing.types import FileDiff, Finding, Severity
from indexers.syntax import parse

if TYPE_CHECKING:
    from indexers.syntax import Syntax

CATEGORY = "syntax"
# Languages in which a grammar meets what it cannot know: templates, macros, dialects.
_UNSURE = frozenset(
    {
        "html",
        "css",
        "scss",
        "c",
        "cpp",
        "objc",
        "make",
        "shell",
        "sql",
        "markdown",
        "vue",
        "svelte",
        "notebook",
    }
)
_MOST_NODES = 20_000


def check(file: FileDiff) -> Iterator[Finding]:
    """One finding where the text before parsed and this one does not, or a new Python file does not parse."""
    if (
        not file.whole
        or file.after is None
        or file.language in _UNSURE
        or not any(h.added or h.removed for h in file.hunks)
    ):
        return
    if file.language == "python":
        yield from _python(file)
        return
    if file.language == "json":
        yield from _json(file)
        return
    after = parse(file.after, file.language)
    if after is None or not after.root.has_error:
        return
    before = parse(file.before, file.language) if file.before else None
    if before is None or before.root.has_error:
        return  # a grammar that never read this file proves nothing
    line = _line_of_error(after, file)
    yield finding(
        file, line, Severity.HIGH, CATEGORY, f"After this change the file is no longer valid {file.language}."
    )


def _python(file: FileDiff) -> Iterator[Finding]:
    """By Python itself, which says where and why."""
    error = _python_error(file.after or "")
    if error is None or (file.before and _python_error(file.before) is not None):
        return
    line = min(max(1, error.lineno or 1), len(file.lines()))
    yield finding(
        file,
        line,
        Severity.HIGH,
        CATEGORY,
        f"After this change the file is no longer valid Python: {error.msg}.",
    )


def _python_error(text: str) -> SyntaxError | None:
    try:
        ast.parse(text)
    except SyntaxError as error:
        return error
    except (ValueError, RecursionError, MemoryError):  # a NUL, or nested too deep for the parser
        return None
    return None


def _json(file: FileDiff) -> Iterator[Finding]:
    """By the standard's own rules, where the text before kept to them: some programs allow comments."""
    if file.before is None or _json_error(file.before) is not None:
        return
    error = _json_error(file.after or "")
    if error is not None:
        message = f"After this change the file is no longer valid JSON: {error.msg}."
        yield finding(file, min(error.lineno, len(file.lines())), Severity.HIGH, CATEGORY, message)


def _json_error(text: str) -> json.JSONDecodeError | None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error
    except RecursionError:
        return None
    return None


def _line_of_error(tree: Syntax, file: FileDiff) -> int:
    """The error nearest to what was touched."""
    touched = [number for hunk in file.hunks for number in (hunk.touched[0], hunk.touched[-1])]
    best, distance = touched[0], 1 << 30
    stack, seen = [tree.root], 0
    while stack and seen < _MOST_NODES:
        node = stack.pop()
        seen += 1
        if node.is_error or node.is_missing:
            line = node.start_point.row + 1
            near = min(abs(line - number) for number in touched)
            if near < distance:
                best, distance = line, near
        elif node.has_error:
            stack += node.children
    return min(best, len(file.lines()))
