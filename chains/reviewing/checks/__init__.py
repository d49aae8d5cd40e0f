"""The deterministic checks: what needs no model to be seen, always run, and never talked away by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from chains.reviewing.checks import (
    debug_leftovers,
    hidden_text,
    merge_markers,
    secrets,
    self_running,
    syntax_errors,
)
from chains.reviewing.types import FileDiff, Finding

Check = Callable[[FileDiff], Iterable[Finding]]

# The first run on every file before any of the second do: those read a line's characters, these a syntax tree.
FIRST: Mapping[str, Check] = {
    secrets.CATEGORY: secrets.check,
    merge_markers.CATEGORY: merge_markers.check,
    hidden_text.CATEGORY: hidden_text.check,
    self_running.CATEGORY: self_running.check,
}
SECOND: Mapping[str, Check] = {
    syntax_errors.CATEGORY: syntax_errors.check,
    debug_leftovers.CATEGORY: debug_leftovers.check,
}


def first(file: FileDiff) -> Iterator[Finding]:
    """What the checks that read characters find in one file."""
    for check in FIRST.values():
        yield from check(file)


def second(file: FileDiff) -> Iterator[Finding]:
    """What the checks that read a syntax tree find in one file."""
    for check in SECOND.values():
        yield from check(file)
