"""Path patterns as .gitignore reads them, matched component by component."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate

_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Glob:
    """One pattern, taken apart. A component is a compiled expression, or None for `**`.

    Not one regular expression for the whole path: those of the libraries for this can be made to take forever
    (`*a*a*a*b` against a long name), while each component here is linear in practice and `**` a set of positions.
    """

    components: tuple[re.Pattern[str] | None, ...]
    anchored: bool
    folders_only: bool

    def covers(self, parts: Sequence[str]) -> bool:
        """Whether the pattern matches a path, given as its components, or a directory that the path lies in."""
        if self.folders_only:
            parts = parts[:-1]
        if not self.anchored:
            named = self.components[0]
            return any(named is None or named.match(part) for part in parts)
        reached = {0}
        for component in self.components:
            if component is None:
                reached = set(range(min(reached), len(parts) + 1))
            else:
                reached = {at + 1 for at in reached if at < len(parts) and component.match(parts[at])}
            if not reached:
                return False
        # `src/**` is what lies in src, and not a file of that name.
        return bool(self.components) and (self.components[-1] is not None or min(reached) < len(parts))


@functools.lru_cache(maxsize=512)
def glob(pattern: str) -> Glob:
    """A pattern read as .gitignore reads it.

    Without a slash it may match any component of a path; with one (but for the last character) it starts at the
    top. `*` and `?` stay inside a component, `[a-z]` and `[!a-z]` are classes, `\\` takes the next character
    literally, `**` stands for any directories, and a slash at the end asks for a directory. A directory that
    matches covers all that is in it.
    """
    names = [name for name in pattern.split("/") if name]
    components = tuple(None if name == "**" else re.compile(translate(_plain(name))) for name in names)
    return Glob(components, len(names) != 1 or pattern.startswith("/"), pattern.endswith("/"))


def _plain(name: str) -> str:
    """A component in fnmatch's notation, which knows neither `[^a]` nor backslashes."""
    found: list[str] = []
    at = 0
    while at < len(name):
        if name[at] == "\\" and at + 1 < len(name):
            at += 1
            found.append(f"[{name[at]}]" if name[at] in _WILD else name[at])
        elif name[at] == "[" and (end := class_end(name, at)) is not None:
            inside = name[at + 1 : end]
            found.append("[" + ("!" + inside[1:] if inside.startswith("^") else inside) + "]")
            at = end
        else:
            found.append("[[]" if name[at] == "[" else name[at])
        at += 1
    return "".join(found)


def class_end(name: str, start: int) -> int | None:
    """Where the `]` of a class stands that begins at `start`; None when it is missing. `[]a]` holds a `]`."""
    at = start + 1
    if name[at : at + 1] in ("!", "^"):
        at += 1
    end = name.find("]", at + 1)
    return end if end > 0 else None
