"""Which places to change: what a model is shown, the grammar that leaves it nothing else to say, what it said. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chains.writing.edits import Kind
from chains.writing.regions import Region

if TYPE_CHECKING:
    from indexers.types import Hit

CHANGE, ADD, CREATE, DELETE, RENAME = "change", "add after", "create", "delete", "rename"
DONE = "done"
# A path that a grammar lets a model write: nothing in it that policy would refuse for a character.
# Nor begins a name with a dot: no `..`, no `.git`, nothing hidden.
_NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}"
_DEEPEST = 4
_PATH = re.compile(rf"{_NAME}(?:/{_NAME}){{0,{_DEEPEST}}}")
# "Add a helper function ..." asks for a definition that is not there; "add a flag to ..." changes one that is.
_NEW_DEFINITION = re.compile(
    r"(?:please\s+)?(?:add|write|create|introduce|implement|define|generate)\s+"
    # "Add a docstring to function f" asks for no function.
    r"(?:(?!(?:to|for|in|of|on|from|with|by)\b)[\w-]+\s+){0,3}?"
    r"(?:functions?|methods?|class(?:es)?|property|helper|constant|tests?|fixture|struct|enum|interface|trait)\b",
    re.IGNORECASE,
)
# What it is to be added to: "to the Table class", "on `Router`".
_OWNER = re.compile(r"\b(?:to|in|into|on|inside|of)\s+(?:the\s+)?(?:class\s+)?(`?)([A-Za-z_][\w.]*)\1")
_PATH_WORD = re.compile(
    r"(?<![\w./-])[\w.-]+(?:/[\w.-]+)*\.\w{1,10}(?![\w/])|(?<![\w./-])[\w.-]+(?:/[\w.-]+)+(?![\w/])"
)


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be done where. `region` is the place of a change, or the one that an addition follows."""

    kind: Kind
    path: str
    region: Region | None = None
    to: str = ""

    @property
    def label(self) -> str:
        """The target in words."""
        if self.kind is Kind.REPLACE and self.region:
            return f"{CHANGE} {self.region.label}"
        if self.kind is Kind.INSERT and self.region:
            return f"{ADD} {self.region.label}"
        return f"{self.kind.value} {self.path}" + (f" to {self.to}" if self.to else "")

    def holds(self, hit: Hit) -> bool:
        """Whether all lines of a hit are among those of the target."""
        region = self.region
        return (
            region is not None
            and hit.path == region.path
            and region.start_line <= hit.start_line
            and hit.end_line <= region.end_line
        )

    def meets(self, other: Target) -> bool:
        """Whether both are about the same lines, so that only one of them can be done."""
        if self.path != other.path:
            return False
        if self.region is None or other.region is None:
            return True
        return (
            self.region.start_line <= other.region.end_line
            and other.region.start_line <= self.region.end_line
        )


@dataclass(frozen=True, slots=True)
class Menu:
    """What may be chosen: places, files that may go or get another name, and names for new files.

    `new_paths` are those that the request names; where it names none, any in `folders` may be written. `new_names` are
    those that it names for a file that gets another name; where it names none, any may be written.
    """

    regions: tuple[Region, ...]
    new_paths: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    new_names: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    deletes: bool = False
    renames: bool = False
    adds: bool = True
    most: int = 3

    def text(self) -> str:
        """The lines that the model is shown."""
        lines = [f"- {region.label}: {region.first}" for region in self.regions]
        return "\n".join(lines)

    def forms(self) -> list[str]:
        """The forms of a line, as the prompt names them."""
        found = [f"{CHANGE} PLACE"] if self.regions else []
        if self.regions and self.adds:
            found.append(f"{ADD} PLACE")
        if self.new_paths or self.folders:
            found.append(f"{CREATE} PATH")
        if self.whole and self.deletes:
            found.append(f"{DELETE} PATH")
        if self.whole and self.renames:
            found.append(f"{RENAME} PATH to PATH")
        return found

    def grammar(self) -> str:
        """GBNF of the answer: one to `most` lines that each name what exists, then the word that ends it."""
        lines, rules = [], []
        if self.regions:
            rules.append(f"place ::= {' | '.join(literal(region.label) for region in self.regions)}")
            lines.append(f'"{CHANGE} " place')
            if self.adds:
                lines.append(f'"{ADD} " place')
        if self.new_paths or self.folders:
            rules.append(f"fresh ::= {self._fresh()}")
            rules.append(f"name ::= {_NAME}")
            lines.append(f'"{CREATE} " fresh')
        if self.whole and (self.deletes or self.renames):
            rules.append(f"whole ::= {' | '.join(map(literal, self.whole))}")
            lines += [f'"{DELETE} " whole'] if self.deletes else []
            lines += [f'"{RENAME} " whole " to " target'] if self.renames else []
            if self.renames and self.new_names:
                rules.append(f"target ::= {' | '.join(map(literal, self.new_names))}")
            elif self.renames:
                rules.append(f'target ::= part ("/" part){{0,{_DEEPEST}}}')
                rules.append(f"part ::= {_NAME}")
        rest = f'("\\n" line){{0,{self.most - 1}}} ' if self.most > 1 else ""
        return "\n".join([f'root ::= line {rest}"\\n{DONE}"', f"line ::= {' | '.join(lines)}", *rules]) + "\n"

    def _fresh(self) -> str:
        if self.new_paths:
            return " | ".join(map(literal, self.new_paths))
        return " | ".join(f"{literal(folder)} name" if folder else "name" for folder in self.folders)

    def read(self, written: str) -> list[Target]:
        """What was chosen, each once. Lines that no grammar allowed (a model without one wrote them) are left out.

        So is a place that shares lines with one chosen before it: the first is the most important.
        """
        found: list[Target] = []
        for line in written.split("\n"):
            target = self._target(line.strip())
            if target is not None and not any(target.meets(other) for other in found):
                found.append(target)
        return found[: self.most]

    def _target(self, line: str) -> Target | None:
        for verb, kind in ((CHANGE, Kind.REPLACE), (ADD, Kind.INSERT)):
            if line.startswith(f"{verb} "):
                label = line[len(verb) + 1 :]
                region = next((region for region in self.regions if region.label == label), None)
                return Target(kind, region.path, region) if region else None
        verb, _, rest = line.partition(" ")
        if verb == CREATE and self._may_be_new(rest):
            return Target(Kind.CREATE, rest)
        if verb == DELETE and self.deletes and rest in self.whole:
            return Target(Kind.DELETE, rest)
        if verb == RENAME and self.renames:
            path, _, to = rest.partition(" to ")
            named = to in self.new_names if self.new_names else _PATH.fullmatch(to) is not None
            return Target(Kind.RENAME, path, to=to) if path in self.whole and named else None
        return None

    def _may_be_new(self, path: str) -> bool:
        if self.new_paths:
            return path in self.new_paths
        folder, name = path[: path.rfind("/") + 1], path[path.rfind("/") + 1 :]
        return folder in self.folders and _PATH.fullmatch(name) is not None


def paths_in(request: str) -> list[str]:
    """What in a request is written like a path, in its order."""
    return list(dict.fromkeys(word.rstrip(".") for word in _PATH_WORD.findall(request)))


def wants_definition(request: str) -> bool:
    """Whether a request asks for a definition that is not there yet."""
    return _NEW_DEFINITION.match(request.strip()) is not None


def owners(request: str) -> list[str]:
    """Names in a request that something may be added to; whether they are any of code's, the caller knows."""
    return [name for _, name in _OWNER.findall(request)]


def literal(text: str) -> str:
    """GBNF that matches exactly this text, which has no control characters."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def spans_by_file(hits: Sequence[object]) -> dict[str, list[tuple[int, int]]]:
    """The lines of hits by file, files and lines in the order of the hits."""
    found: dict[str, list[tuple[int, int]]] = {}
    for hit in hits:
        path = str(getattr(hit, "path", ""))
        found.setdefault(path, []).append(
            (int(getattr(hit, "start_line", 0)), int(getattr(hit, "end_line", 0)))
        )
    return found
