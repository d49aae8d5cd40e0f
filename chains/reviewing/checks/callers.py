"""Names that a change removes, or gives another signature, while others go on using them as they were."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from chains.reviewing.checks.arities import LANGUAGES, Arity, arities, calls
from chains.reviewing.checks.imports import still_named, takes_all
from chains.reviewing.checks.lines import finding
from chains.reviewing.checks.moved import LeftBehind, left_behind, lost_by_moving
from chains.reviewing.checks.signatures import Broken, Call, broken_calls
from chains.reviewing.checks.uses import FAMILIES, Both, Tree, Users, is_static, lines_of
from chains.reviewing.types import FileDiff, Finding, Severity
from indexers.facts import Defined
from indexers.languages import language_of
from indexers.references import read_text
from indexers.relations import visible
from indexers.resolve import last_part

CATEGORY = "broken-caller"
_DEFINE = frozenset({"function", "method", "class"})
_SHORTEST_NAME = 3
# Names looked for in one change.
_MOST_NAMES = 40
# What a name means where no file defines it: whoever takes their own `min` away may go on calling the language's.
_OF_BROWSERS = (
    "fetch structuredClone queueMicrotask parseInt parseFloat isNaN isFinite atob btoa setTimeout setInterval "
    "Promise Map Set WeakMap Symbol URL URLSearchParams Headers Request Response FormData Blob AbortController"
)
_BUILT_IN = {
    "python": frozenset(dir(builtins)),
    "go": frozenset(
        "append cap clear close complex copy delete imag len make max min new panic print println real recover".split()
    ),
    **dict.fromkeys(("javascript", "typescript", "tsx"), frozenset(_OF_BROWSERS.split())),
}
# A module that makes names when they are asked for.
_MADE_LATER = re.compile(
    r"^def __getattr__\(|\bglobals\(\)(?:\[|\.update)|\bmethod_missing\b|\b__call\b", re.MULTILINE
)
# A type with a base: what it no longer defines, that may define.
_HAS_BASE = (
    r"(?:<[^<>{}]*>)?(?:\s*\([^()\s][^()]*\)\s*:|[^{;\n]*\b(?:extends|implements)\b|\s*<\s*\w"
    r"|\s*:\s*(?:public|private|protected)\b)"
)
# What makes an instance, in languages that give it a name of its own.
_CONSTRUCTORS = frozenset({"constructor", "initialize", "__construct"})


def check(
    files: Sequence[FileDiff], tree: Tree, late: Callable[[], bool] = lambda: False
) -> Iterator[Finding]:
    """One finding for each name, in the file that defined it, naming the first line that still relies on it.

    :param late: asked now and then; once it is true, no further name is looked for.
    """
    both = [
        Both(file, read_text(file.before, file.language), read_text(file.after or "", file.language))
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
    users = Users(tree)
    told: set[str] = set()
    left = _MOST_NAMES
    for one in both:
        for item in _removed(one):
            name = last_part(item.name)
            if name in defined or left <= 0 or late():
                continue
            left -= 1
            if uses := _uses(one, item, users):
                told.add(one.file.path)
                yield _gone(one.file, item, uses, sure=users.is_sure(item, one.file.path, uses))
        for broken in chain(broken_calls(one.file, tree, late), _other_arities(one, users, late)):
            yield _misfit(one.file, broken)
    yield from (
        _left_behind(gone) for gone in left_behind(files, users, tree, late) if gone.file.path not in told
    )
    yield from (_lost(gone) for gone in lost_by_moving(files, tree, late))


def _misfit(file: FileDiff, broken: Broken) -> Finding:
    """A finding about calls that no longer fit, which stops nobody where they may be calls of something else."""
    shown = _shown([(call.path, call.line) for call in broken.calls])
    called = (
        "is called as before" if broken.sure else "may be called as before, if this is the one that is meant"
    )
    message = f"{broken.name}() takes other arguments now ({broken.reason}), but {called}: {shown}."
    # JavaScript lets a call give fewer or more than there are parameters.
    grave = broken.sure and file.language != "javascript"
    severity = Severity.HIGH if grave else Severity.MEDIUM
    return finding(file, _nearest(file, broken.line), severity, CATEGORY, message)


def _removed(one: Both) -> Iterator[Defined]:
    """What others could name before, and cannot now."""
    still = {last_part(item.name) for item in one.after.defined}
    text, language = one.file.after or "", one.file.language
    brought = still_named(text, language, one.after.imports)
    # A name may have gone to where everything is now taken from, or be made when it is asked for.
    if _MADE_LATER.search(text) or takes_all(text, language) - takes_all(one.file.before or "", language):
        return
    for item in visible(one.before):
        name = last_part(item.name)
        private = name.startswith("__") and name.endswith("__")
        if item.kind not in _DEFINE or name in still or len(name) < _SHORTEST_NAME or private:
            continue
        if item.kind != "method" and name in _BUILT_IN.get(language, ()):
            continue
        if _is_default(item, one) or (item.kind == "method" and _is_still_named(item, one)):
            continue
        if item.kind == "method" or name not in brought:
            yield item


def _is_default(item: Defined, one: Both) -> bool:
    """Whether a script handed on something without a name, and still does: whoever imports it calls it as they like."""
    name = re.escape(last_part(item.name))
    had = re.search(
        rf"\bexport\s+default\s+(?:(?:async\s+)?(?:function\*?|class)\s+)?{name}\b", one.file.before or ""
    )
    return bool(had) and re.search(r"\bexport\s+default\b|\bas\s+default\b", one.file.after or "") is not None


def _is_still_named(item: Defined, one: Both) -> bool:
    """Whether a method's name stands in the new text other than in a call, or its type may have it from elsewhere."""
    text, name = one.file.after or "", re.escape(last_part(item.name))
    if re.search(rf"(?<![\w.]){name}(?![\w?!])(?!\s*\()", text):
        return True
    owner = re.escape(last_part(item.path[-2])) if len(item.path) > 1 else ""
    return bool(owner) and re.search(rf"\b{owner}\b{_HAS_BASE}", text) is not None


def _uses(one: Both, item: Defined, users: Users) -> list[tuple[str, int]]:
    """The lines that still use a removed name; none where something else of that name is defined."""
    name, changed = last_part(item.name), one.file.path
    holding = users.holding(name, changed)
    if any(last_part(other.name) == name for user in holding for other in user.facts.defined):
        return []
    if is_static(one, item):
        holding = [user for user in holding if user.path == changed]
    return sorted({(user.path, line) for user in holding for line in lines_of(user, one.file, item)})


def _other_arities(one: Both, users: Users, late: Callable[[], bool]) -> Iterator[Broken]:
    """The functions of a changed file that take another number of arguments, with calls that fitted before."""
    if one.file.language not in LANGUAGES:
        return
    old = _by_path(one.before.defined, arities(one.file.before or "", one.file.language))
    new = _by_path(one.after.defined, arities(one.file.after or "", one.file.language))
    for path, (item, now) in new.items():
        was = old[path][1] if path in old else now
        if was == now or late():
            continue
        called = _called(item)
        misfits = list(_misfits(one, called, was, now, users))
        if misfits:
            found = tuple(dict.fromkeys(call for call, _ in misfits))
            sure = users.is_sure(called, one.file.path, [(call.path, call.line) for call in found])
            yield Broken(last_part(called.name), item.line, misfits[0][1], found, sure)


def _by_path(
    defined: Sequence[Defined], at: dict[tuple[int, str], Arity]
) -> dict[tuple[str, ...], tuple[Defined, Arity]]:
    """Functions by their path; none where two of one path take different numbers (overloads)."""
    found: dict[tuple[str, ...], tuple[Defined, Arity]] = {}
    unlike: set[tuple[str, ...]] = set()
    for item in defined:
        arity = at.get((item.line, last_part(item.name)))
        if arity is not None and found.setdefault(item.path, (item, arity))[1] != arity:
            unlike.add(item.path)
    return {path: one for path, one in found.items() if path not in unlike}


def _called(item: Defined) -> Defined:
    """What stands in calls of a definition: of a constructor, its class."""
    name = last_part(item.name)
    if len(item.path) > 1 and (name in _CONSTRUCTORS or name == last_part(item.path[-2])):
        return item._replace(name=item.path[-2], kind="class", path=item.path[:-1])
    return item


def _misfits(one: Both, item: Defined, was: Arity, now: Arity, users: Users) -> Iterator[tuple[Call, str]]:
    """Calls that fit the old arity alone, and why; none where another definition of that name could be meant."""
    name, changed = last_part(item.name), one.file.path
    holding = users.holding(name, changed)
    for user in holding:
        at = arities(user.text, language_of(user.path))
        for other in user.facts.defined:
            own = user.path == changed and other.path in (item.path, (*item.path, name))
            # In C a definition and its declarations go together.
            same = FAMILIES.get(one.file.language) == "c" and at.get((other.line, name)) == now
            if last_part(other.name) == name and not (own or same):
                return
    for user in holding:
        if is_static(one, item) and user.path != changed:
            continue
        lines = set(lines_of(user, one.file, item))
        for call in calls(user.text, language_of(user.path), name) if lines else ():
            if call.line in lines and not was.misfit(call) and (why := now.misfit(call)):
                yield Call(user.path, call.line), why


def _gone(file: FileDiff, item: Defined, users: Sequence[tuple[str, int]], *, sure: bool) -> Finding:
    used = "is" if sure else "may be"
    message = f"{last_part(item.name)!r} is removed, but {used} still used: {_shown(users)}."
    at = _nearest_old(file, item.line)
    return finding(file, at, Severity.HIGH if sure else Severity.MEDIUM, CATEGORY, message)


def _left_behind(left: LeftBehind) -> Finding:
    """A finding about a file that is imported from where it was; what is deleted may yet be made by a build."""
    gone = f"moved away from {left.file.old_path}" if left.file.after is not None else "deleted"
    message = f"This file is {gone}, but is still imported from there: {_shown(left.uses)}."
    return finding(left.file, 1, Severity.HIGH if left.sure else Severity.MEDIUM, CATEGORY, message)


def _lost(left: LeftBehind) -> Finding:
    """A finding about a moved file whose own imports are told from where it was."""
    message = (
        f"This file is moved away from {left.file.old_path}, and imports what lay beside it there and is not here: "
        f"{_shown(left.uses)}."
    )
    return finding(left.file, left.uses[0][1], Severity.HIGH, CATEGORY, message)


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
