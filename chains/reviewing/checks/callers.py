"""Names that a change removes, or gives another signature, while others go on using them as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from chains.reviewing.checks.lines import finding
from chains.reviewing.checks.signatures import broken_calls
from chains.reviewing.types import FileDiff, Finding, Severity
from indexers.facts import CALL, IMPORT, TYPE, Defined, FileFacts
from indexers.references import read_text
from indexers.relations import visible
from indexers.resolve import last_part

CATEGORY = "broken-caller"
_DEFINE = frozenset({"function", "method", "class"})
_SHORTEST_NAME = 3
# Names looked for in one change, and files read for one of them: a name in more places is a word.
_MOST_NAMES, _MOST_FILES, _MOST_BYTES = 40, 60, 1_000_000
# Here a bare name of another file has been imported by name, or from a module that was.
_IMPORTING = frozenset({"python", "javascript", "typescript", "tsx"})
_SELF = frozenset({"self", "this", "cls", "super", "@"})
_BUILT_IN = frozenset(
    name for kind in (str, bytes, list, dict, set, int, float, object) for name in dir(kind)
)


class Tree(Protocol):
    """All files as they are after the change."""

    def holding(self, word: str) -> Sequence[str]:
        """The paths of files in which a word stands."""

    def texts(self, paths: Sequence[str]) -> Mapping[str, str]:
        """The texts of files, those left out that are none, or are longer than anybody reads."""


@dataclass(frozen=True, slots=True)
class _Both:
    """A changed file with the facts of both sides."""

    file: FileDiff
    before: FileFacts
    after: FileFacts


def check(
    files: Sequence[FileDiff], tree: Tree, late: Callable[[], bool] = lambda: False
) -> Iterator[Finding]:
    """One finding for each name, in the file that defined it, naming the first line that still relies on it.

    :param late: asked now and then; once it is true, no further name is looked for.
    """
    both = [
        _Both(file, read_text(file.before, file.language), read_text(file.after or "", file.language))
        for file in files
        if not late() and file.whole and file.before and any(hunk.removed for hunk in file.hunks)
    ]
    defined = {last_part(item.name) for one in both for item in one.after.defined}
    defined |= {
        last_part(item.name)
        for file in files
        if not late() and file.before is None and file.after
        for item in read_text(file.after, file.language).defined
    }
    known: dict[str, FileFacts] = {}
    left = _MOST_NAMES
    for one in both:
        for item in _removed(one):
            name = last_part(item.name)
            if name in defined or left <= 0 or late():
                continue
            left -= 1
            users = _users(one, item, tree, known)
            if users:
                yield _gone(one.file, item, users)
        for broken in broken_calls(one.file, tree) if not late() else ():
            shown = _shown([(call.path, call.line) for call in broken.calls])
            message = f"{broken.name}() takes other arguments now ({broken.reason}), but is called as before: {shown}."
            yield finding(one.file, _nearest(one.file, broken.line), Severity.HIGH, CATEGORY, message)


def _removed(one: _Both) -> Iterator[Defined]:
    """What others could name before, and cannot now."""
    still = {last_part(item.name) for item in one.after.defined}
    for item in visible(one.before):
        name = last_part(item.name)
        private = name.startswith("__") and name.endswith("__")
        if item.kind in _DEFINE and name not in still and len(name) >= _SHORTEST_NAME and not private:
            yield item


def _users(one: _Both, item: Defined, tree: Tree, known: dict[str, FileFacts]) -> list[tuple[str, int]]:
    """The lines that still use a removed name; none where something else of that name is defined."""
    name = last_part(item.name)
    paths = tree.holding(name)
    if len(paths) > _MOST_FILES:
        return []
    new = [path for path in paths if path not in known]
    for path, text in tree.texts(new).items():
        known[path] = read_text(text, one.file.language) if _alike(path, one.file.path) else FileFacts()
    found: list[tuple[str, int]] = []
    for path in paths:
        facts = known.get(path, FileFacts())
        if any(last_part(other.name) == name for other in facts.defined):
            return []
        found += ((path, line) for line in _lines(facts, one.file, path, item))
    return sorted(set(found))


def _lines(facts: FileFacts, file: FileDiff, path: str, item: Defined) -> Iterator[int]:
    name, stem = last_part(item.name), file.path.rpartition("/")[2].partition(".")[0]
    for reference in facts.references:
        if reference.name != name or reference.kind not in (CALL, TYPE, IMPORT):
            continue
        if item.kind == "method":
            # Whose method it is, only `self` says for sure; of any other receiver it may be anything's.
            sure = reference.receiver in _SELF if path == file.path else False
            unique = bool(reference.receiver) and name not in _BUILT_IN and "_" in name.strip("_")
            if not (sure or unique):
                continue
        else:
            foreign = path != file.path and file.language in _IMPORTING and not facts.imports & {name, stem}
            if foreign or (reference.receiver and reference.receiver != stem):
                continue
        yield from reference.lines


def _alike(path: str, other: str) -> bool:
    """Whether two files may be of one language, by their endings."""
    from indexers.languages import language_of

    return language_of(path) == language_of(other)


def _gone(file: FileDiff, item: Defined, users: Sequence[tuple[str, int]]) -> Finding:
    message = f"{last_part(item.name)!r} is removed, but is still used: {_shown(users)}."
    sure = item.kind != "method"
    at = _nearest_old(file, item.line)
    return finding(file, at, Severity.HIGH if sure else Severity.MEDIUM, CATEGORY, message)


def _shown(users: Sequence[tuple[str, int]]) -> str:
    first = ", ".join(f"{path}:{line}" for path, line in users[:3])
    return first + (f" and {len(users) - 3} more" if len(users) > 3 else "")


def _nearest(file: FileDiff, line: int) -> int:
    """The touched line nearest to one of the new text."""
    touched = [number for hunk in file.hunks for number in (hunk.touched[0], hunk.touched[-1])]
    return min(touched, key=lambda number: abs(number - line), default=1)


def _nearest_old(file: FileDiff, line: int) -> int:
    """A touched line where one of the old text was."""
    hunk = min(
        file.hunks,
        key=lambda hunk: abs(hunk.old_start - line) if hunk.old_start > line else line - hunk.old_start,
    )
    return hunk.touched[-1] if hunk.touched[-1] <= len(file.lines()) else hunk.touched[0]
