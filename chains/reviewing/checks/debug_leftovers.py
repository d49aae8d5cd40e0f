"""What was put in to look for a fault and left behind: breakpoints, prints to a console, tests run alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chains.reviewing.checks.imports import imported
from chains.reviewing.checks.lines import added_lines, finding
from chains.reviewing.checks.said import is_said
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
    _stop(r"(?<![\w.$])debugger\s*(?:[;}]|$)"),
    _alone(r"(?<![\w.$])(?:it|test|describe|context|suite)(?:\.\w+)*\.only(?:\.each)?\s*[(`]"),
    _alone(r"(?<![\w.$])(?<!function )(?P<name>fit|fdescribe)\s*\("),
    _print(r"(?<![\w.$])console\.(?:debug|trace|dir)\s*\("),
)
_LEFTOVERS: Mapping[str, tuple[_Leftover, ...]] = {
    "python": (
        _stop(
            r"(?<![\w.])(?<!def )(?:(?P<name>breakpoint)\s*\(|set_trace\s*\(|(?:i?pdb|pudb|wdb|pytest)\.set_trace\s*\("
            r"|__import__\s*\(\s*[\"'](?:i?pdb|pudb|wdb)[\"']\s*\)"
            r"|import\s+(?:ipdb|pudb|wdb)\b|from\s+(?:i?pdb|pudb|wdb)\s+import\s+set_trace\s+as\b)"
        ),
        _print(
            r"(?<![\w.])(?:pprint|ic)\s*\(|(?<![\w.])print\s*\(\s*f?[\"'](?:DEBUG|debug|here|HERE|xxx|XXX|!!!|>>>|###)"
        ),
    ),
    "javascript": _SCRIPT,
    "typescript": _SCRIPT,
    "tsx": _SCRIPT,
    "ruby": (_stop(r"(?<![\w.])(?:binding\.(?:pry|irb|b)\b|byebug\b(?!\s*[.=,'\"]))"),),
    "php": (
        _stop(r"(?<![\w>:$])(?<!function )(?:xdebug_break|(?P<name>dd))\s*\("),
        _print(r"(?<![\w>:$])(?:var_dump|print_r)\s*\("),
    ),
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
    own: dict[str, bool] = {}
    for number, line in added_lines(file) if known else ():
        for leftover in known:
            matches = [
                match
                for match in leftover.pattern.finditer(line[:2_000])
                if not _is_own(file, match.groupdict().get("name") or "", own)
            ]
            if not matches or (leftover.only_tests and not is_test(file.path)):
                continue
            tree = tree or parse(file.after or "", file.language)
            columns = [len(line[: match.start()].encode()) for match in matches]
            if tree is None or not all(is_said(tree, number, column) for column in columns):
                yield finding(file, number, leftover.severity, CATEGORY, leftover.message)
            break


def _is_own(file: FileDiff, name: str, known: dict[str, bool]) -> bool:
    """Whether a file has another function of that name: it defines it, or has it from a module."""
    if name and name not in known:
        known[name] = _defines(file, name) or any(
            item.name == name for item in imported(file.after or "", file.language, file.path) or ()
        )
    return bool(name) and known[name]


def _defines(file: FileDiff, name: str) -> bool:
    start = r"^[ \t]*(?:export\s+)?(?:async\s+)?(?:function|const|let|var)\s+"
    if file.language == "python":  # a method of that name is none
        start = r"^(?:async\s+)?def\s+"
    return re.search(rf"{start}{name}\b", file.after or "", re.MULTILINE) is not None
