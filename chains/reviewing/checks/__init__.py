"""The deterministic checks: what needs no model to be seen, always run, and never talked away by one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

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

# So many findings of one kind are told of a file; of the rest, one tells how many there are.
MOST_TOLD = 100
# The first run on every file before any of the second do: those read a line's characters, these a syntax tree.
FIRST: Mapping[str, Check] = {
    merge_markers.CATEGORY: merge_markers.check,
    hidden_text.CATEGORY: hidden_text.check,
    self_running.CATEGORY: self_running.check,
}
SECOND: Mapping[str, Check] = {
    syntax_errors.CATEGORY: syntax_errors.check,
    debug_leftovers.CATEGORY: debug_leftovers.check,
}


def secret(file: FileDiff) -> Iterator[Finding]:
    """The secrets in one file; looked for in all files before anything else is, whatever time that takes."""
    yield from _told(secrets.check(file))


def first(file: FileDiff) -> Iterator[Finding]:
    """What the checks that read characters find in one file."""
    for check in FIRST.values():
        yield from _told(check(file))


def second(file: FileDiff) -> Iterator[Finding]:
    """What the checks that read a syntax tree find in one file."""
    for check in SECOND.values():
        yield from _told(check(file))


def _told(found: Iterable[Finding]) -> Iterator[Finding]:
    """The first findings of a kind, and one for the rest, as grave as the gravest of them.

    What a line switches off for itself does not count, or it would take the place of what nobody switched off.
    """
    told = more = 0
    rest: Finding | None = None
    names = hashlib.sha256()
    for item in found:
        if item.switched_off:
            yield item
        elif told < MOST_TOLD:
            told += 1
            yield item
        else:
            more += 1
            names.update(item.fingerprint.encode("ascii"))
            rest = item if rest is None or item.severity.rank > rest.severity.rank else rest
    if rest is not None:
        # Accepted as just these: one more, or another, is told again.
        message = (
            f"{rest.message} And {more - 1:,} more of this kind in the file." if more > 1 else rest.message
        )
        yield replace(rest, message=message, fingerprint=names.hexdigest()[:32])
