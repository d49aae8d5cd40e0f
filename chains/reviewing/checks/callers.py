"""Names that a change removes, or gives another signature, while others go on using them as they were."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from chains.reviewing.checks.imports import (
    Imported,
    imported,
    names,
    parsed,
    reaches,
    rust_elsewhere,
    script_parameters,
    shadows,
    still_named,
    takes_all,
)
from chains.reviewing.checks.lines import finding
from chains.reviewing.checks.signatures import Broken, broken_calls
from chains.reviewing.types import FileDiff, Finding, Severity
from indexers.facts import CALL, IMPORT, TYPE, Defined, FileFacts
from indexers.languages import language_of
from indexers.references import read_text
from indexers.relations import visible
from indexers.resolve import last_part

CATEGORY = "broken-caller"
_DEFINE = frozenset({"function", "method", "class"})
_SHORTEST_NAME = 3
# Names looked for in one change, and files read for one of them: a name in more places is a word.
_MOST_NAMES, _MOST_FILES, _MOST_BYTES = 40, 60, 1_000_000
# Languages whose files name one another's things.
_FAMILIES: Mapping[str, str] = {
    **dict.fromkeys(("javascript", "typescript", "tsx"), "script"),
    **dict.fromkeys(("c", "cpp", "objc"), "c"),
}
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


@dataclass(frozen=True, slots=True)
class _User:
    """A file that may use what was removed: its facts, and what it imports by name where that can be told."""

    path: str
    text: str
    facts: FileFacts
    imports: Sequence[Imported] | None = None


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
    known: dict[str, _User] = {}
    left = _MOST_NAMES
    for one in both:
        for item in _removed(one):
            name = last_part(item.name)
            if name in defined or left <= 0 or late():
                continue
            left -= 1
            users = _users(one, item, tree, known)
            if users:
                yield _gone(one.file, item, users, sure=_is_sure(item, one, users, known))
        for broken in broken_calls(one.file, tree) if not late() else ():
            yield _misfit(one.file, broken)


def _misfit(file: FileDiff, broken: Broken) -> Finding:
    """A finding about calls that no longer fit, which stops nobody where they may be calls of something else."""
    shown = _shown([(call.path, call.line) for call in broken.calls])
    called = (
        "is called as before" if broken.sure else "may be called as before, if this is the one that is meant"
    )
    message = f"{broken.name}() takes other arguments now ({broken.reason}), but {called}: {shown}."
    severity = Severity.HIGH if broken.sure else Severity.MEDIUM
    return finding(file, _nearest(file, broken.line), severity, CATEGORY, message)


def _removed(one: _Both) -> Iterator[Defined]:
    """What others could name before, and cannot now."""
    still = {last_part(item.name) for item in one.after.defined}
    text, language = one.file.after or "", one.file.language
    brought = still_named(text, language, one.after.imports)
    # A name may have gone to where everything is now taken from.
    if takes_all(text, language) - takes_all(one.file.before or "", language):
        return
    for item in visible(one.before):
        name = last_part(item.name)
        private = name.startswith("__") and name.endswith("__")
        if item.kind not in _DEFINE or name in still or len(name) < _SHORTEST_NAME or private:
            continue
        if item.kind == "method" or name not in brought:
            yield item


def _users(one: _Both, item: Defined, tree: Tree, known: dict[str, _User]) -> list[tuple[str, int]]:
    """The lines that still use a removed name; none where something else of that name is defined."""
    name, changed = last_part(item.name), one.file.path
    paths = tree.holding(name)
    if len(paths) > _MOST_FILES:
        return []
    for path, text in tree.texts([path for path in paths if path not in known]).items():
        known[path] = _user(path, text) if _alike(path, changed) else _User(path, "", FileFacts())
    users = [known[path] for path in paths if path in known]
    if any(last_part(other.name) == name for user in users for other in user.facts.defined):
        return []
    if _is_static(one, item):
        users = [user for user in users if user.path == changed]
    return sorted({(user.path, line) for user in users for line in _lines(user, one.file, item)})


def _user(path: str, text: str) -> _User:
    language = language_of(path, text.split("\n", 1)[0])
    return _User(path, text, read_text(text, language), imported(text, language, path))


def _lines(user: _User, file: FileDiff, item: Defined) -> list[int]:
    name = last_part(item.name)
    found: list[int] = []
    if not _has(user, file, item):
        return found
    for reference in user.facts.references:
        if reference.name != name or reference.kind not in (CALL, TYPE, IMPORT):
            continue
        if item.kind == "method":
            # Whose method it is, only `self` says for sure; of any other receiver it may be anything's.
            sure = reference.receiver in _SELF if user.path == file.path else False
            unique = bool(reference.receiver) and name not in _BUILT_IN and "_" in name.strip("_")
            if not (sure or unique):
                continue
        elif not _named_by(reference.receiver, user, file, item):
            continue
        found += reference.lines
    if found and item.kind != "method":
        hidden = _hidden(user, name, own=user.path == file.path)
        found = [line for line in found if not any(line in lines for lines in hidden)]
    return found


def _has(user: _User, file: FileDiff, item: Defined) -> bool:
    """Whether a file could have the name, or something around it, from the changed one."""
    if user.path == file.path:
        return True
    if file.language == "rust":
        return not rust_elsewhere(user.text, last_part(item.name), file.path)
    return user.imports is None or any(
        reaches(user.imports, last_part(part), file.path) for part in item.path
    )


def _hidden(user: _User, name: str, *, own: bool) -> list[range]:
    """The lines in which the name is something else."""
    if user.path.endswith((".py", ".pyi")):
        module = parsed(user.text)
        return shadows(module, name, own=own) if module is not None else []
    return script_parameters(user.text, language_of(user.path), name)


def _named_by(receiver: str, user: _User, file: FileDiff, item: Defined) -> bool:
    """Whether a name with that word before its dot can be the removed one; in Go a bare one is of its directory."""
    if receiver:
        return receiver in _owners(user, file, item)
    if user.path != file.path and user.imports is not None:
        return names(user.imports, last_part(item.name), file.path)
    return file.language != "go" or _parent(user.path) == _parent(file.path)


def _owners(user: _User, file: FileDiff, item: Defined) -> frozenset[str]:
    """The words that before a name say that it is the removed one: its module, under any name, and its class."""
    modules = {one.name for one in user.imports or () if one.is_module(file.path)}
    package = _parent(file.path).rpartition("/")[2] if file.language == "go" else ""
    return frozenset(
        {_stem(file.path), package, *(last_part(part) for part in item.path[:-1]), *modules} - {""}
    )


def _is_sure(item: Defined, one: _Both, users: Sequence[tuple[str, int]], known: Mapping[str, _User]) -> bool:
    """Whether the uses are plainly of what was removed: a name inside another may also stand for one outside."""
    if item.kind == "method":
        return False
    if len(item.path) < 2:
        return True
    name, outer = last_part(item.name), last_part(item.path[-2])
    return any(
        reference.name == name and reference.receiver == outer and line in reference.lines
        for path, line in users
        for reference in known[path].facts.references
    )


def _is_static(one: _Both, item: Defined) -> bool:
    """Whether C keeps a function to its file."""
    if _FAMILIES.get(one.file.language) != "c" or one.file.path.endswith((".h", ".hpp", ".hh")):
        return False
    head = (one.file.before or "").split("\n")[max(0, item.start_line - 1) : item.line]
    return any(re.search(r"\bstatic\b", line) for line in head)


def _stem(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0]


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _alike(path: str, other: str) -> bool:
    """Whether two files may name each other's things, by their endings."""
    first, second = language_of(path), language_of(other)
    return _FAMILIES.get(first, first) == _FAMILIES.get(second, second)


def _gone(file: FileDiff, item: Defined, users: Sequence[tuple[str, int]], *, sure: bool) -> Finding:
    used = "is" if sure else "may be"
    message = f"{last_part(item.name)!r} is removed, but {used} still used: {_shown(users)}."
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
