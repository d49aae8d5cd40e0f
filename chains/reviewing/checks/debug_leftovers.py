"""What was put in to look for a fault and left behind: breakpoints, prints to a console, tests run alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chains.reviewing.checks.lines import added_lines, finding
from chains.reviewing.types import FileDiff, Finding, Severity
from indexers.filters import is_test
from indexers.syntax import parse

if TYPE_CHECKING:
    from indexers.syntax import Syntax

CATEGORY = "debug"


@dataclass(frozen=True, slots=True)
class _Leftover:
    pattern: re.Pattern[str]
    severity: Severity
    message: str
    only_tests: bool = False


def _stop(pattern: str) -> _Leftover:
    return _Leftover(
        re.compile(pattern), Severity.HIGH, "A breakpoint was left behind: the program stops here."
    )


def _alone(pattern: str) -> _Leftover:
    message = "This test is set to run alone: no other test of the file runs any more."
    return _Leftover(re.compile(pattern), Severity.HIGH, message, only_tests=True)


def _print(pattern: str) -> _Leftover:
    return _Leftover(
        re.compile(pattern), Severity.LOW, "It looks like output for debugging that was left behind."
    )


_SCRIPT = (
    _stop(r"(?<![\w.$])debugger\s*(?:;|$)"),
    _alone(r"(?<![\w.$])(?:it|test|describe|context|suite)\.only\s*[(`]|(?<![\w.$])(?:fit|fdescribe)\s*\("),
    _print(r"(?<![\w.$])console\.(?:debug|trace|dir)\s*\("),
)
_LEFTOVERS: Mapping[str, tuple[_Leftover, ...]] = {
    "python": (
        _stop(
            r"(?<![\w.])(?:breakpoint\s*\(|(?:i?pdb|pudb|wdb|pytest)\.set_trace\s*\(|import\s+(?:ipdb|pudb|wdb)\b)"
        ),
        _print(
            r"(?<![\w.])(?:pprint|ic)\s*\(|(?<![\w.])print\s*\(\s*f?[\"'](?:DEBUG|debug|here|HERE|xxx|XXX|!!!|>>>|###)"
        ),
    ),
    "javascript": _SCRIPT,
    "typescript": _SCRIPT,
    "tsx": _SCRIPT,
    "ruby": (_stop(r"(?<![\w.])(?:binding\.(?:pry|irb|b)\b|byebug\b(?!\s*[.=,'\"]))"),),
    "php": (_stop(r"(?<![\w>:$])(?:xdebug_break|dd)\s*\("), _print(r"(?<![\w>:$])(?:var_dump|print_r)\s*\(")),
    "elixir": (
        _stop(r"(?<![\w.])(?:IEx\.pry\b|require\s+IEx\b)"),
        _print(r"(?<![\w.])IO\.inspect\b|\|>\s*dbg\b"),
    ),
    "rust": (_print(r"(?<![\w.:])dbg!\s*\("),),
    "csharp": (_stop(r"(?<![\w])Debugger\.(?:Break|Launch)\s*\("),),
    "go": (_print(r"(?<![\w.])(?:spew\.(?:Dump|Printf)|runtime\.Breakpoint)\s*\("),),
    "lua": (_stop(r"(?<![\w.])debug\.debug\s*\("),),
}


def check(file: FileDiff) -> Iterator[Finding]:
    """One finding for each added line with one, outside of comments and strings."""
    known = _LEFTOVERS.get(file.language, ())
    tree: Syntax | None = None
    for number, line in added_lines(file) if known else ():
        for leftover in known:
            match = leftover.pattern.search(line[:2_000])
            if match is None or (leftover.only_tests and not is_test(file.path)):
                continue
            tree = tree or parse(file.after or "", file.language)
            if tree is None or not _is_said(tree, number, len(line[: match.start()].encode())):
                yield finding(file, number, leftover.severity, CATEGORY, leftover.message)
            break


def _is_said(tree: Syntax, line: int, column: int) -> bool:
    """Whether a place is inside a comment or a string."""
    node = tree.root.descendant_for_point_range((line - 1, column), (line - 1, column + 1))
    while node is not None:
        if (
            any(word in node.type for word in ("comment", "string", "heredoc", "regex"))
            and "template_sub" not in node.type
        ):
            return "interpolation" not in node.type
        if "interpolation" in node.type or "substitution" in node.type:
            return False
        node = node.parent
    return False
