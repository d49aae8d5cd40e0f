"""Who uses a name that a changed file defines: in which files, and on which lines it can be that one."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
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
)
from chains.reviewing.types import FileDiff
from indexers.facts import CALL, IMPORT, TYPE, Defined, FileFacts
from indexers.languages import language_of
from indexers.references import read_text
from indexers.resolve import last_part

# Files read for one name: a name in more places is a word.
_MOST_FILES = 60
# Languages whose files name one another's things.
FAMILIES: Mapping[str, str] = {
    **dict.fromkeys(("javascript", "typescript", "tsx"), "script"),
    **dict.fromkeys(("c", "cpp", "objc"), "c"),
}
_SELF = frozenset({"self", "Self", "this", "$this", "cls", "super", "@"})
# Where a method is called by its name alone from within its class.
_OWN_WITHOUT_SELF = frozenset({"ruby", "java", "cpp"})
# Whose name it is, a file does not say where it uses it, or says it in ways that are not read here.
_UNTOLD = frozenset({"ruby", "java", "php", "cpp"})
# Methods that so many objects have that a name says nothing of whose it is, without marks of case.
_COMMON = frozenset(
    """addeventlistener removeeventlistener dispatchevent appendchild removechild queryselector queryselectorall
    getattribute setattribute hasattribute getelementbyid tostring tojson hashcode compareto getclass getname getvalue
    setvalue getkey getproperty setproperty hasownproperty isempty isarray indexof lastindexof foreach charat
    startswith endswith tolowercase touppercase asstr fromstr fromutf8 toowned tovec intoiter asref asmut asbytes
    withcapacity pushback popback pushstr findby firstorcreate eachwithindex respondto writestring writebyte readall
    readfile writefile readstring servehttp marshaljson unmarshaljson isnone issome isok iserr unwrapor""".split()
)
# Objects that a language or a browser brings.
_BROUGHT = frozenset("window document console System Math Object Array String JSON Promise".split())
_TWO_WORDS = re.compile(r"[^\W_]_[^\W_]|[a-z][A-Z]")
# What makes a variable or a parameter of a name, in languages where that is told by its shape.
_SHADOWS = {
    "go": r"\b{0}\s*:=|\bvar\s+{0}\b|\bfunc\b[^{{}}\n]*[(,]\s*{0}\s+[\w.*\[\]]",
    "c": r"\(\s*\*\s*{0}\s*\)",
    "ruby": r"^\s*{0}\s*=[^=~]|\blet!?\(:{0}\)",
}
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
class Both:
    """A changed file with the facts of both sides."""

    file: FileDiff
    before: FileFacts
    after: FileFacts


@dataclass(frozen=True, slots=True)
class User:
    """A file that may use a name: its facts, and what it imports by name where that can be told."""

    path: str
    text: str
    facts: FileFacts
    imports: Sequence[Imported] | None = None


class Users:
    """The files that hold a name, each read once."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._known: dict[str, User] = {}

    def holding(self, name: str, changed: str) -> list[User]:
        """The files that may name what is in a changed one; none where the name is in so many that it is a word."""
        paths = self._tree.holding(name)
        if len(paths) > _MOST_FILES:
            return []
        wanted = [path for path in paths if _alike(path, changed)]
        for path, text in self._tree.texts([path for path in wanted if path not in self._known]).items():
            language = language_of(path, text.split("\n", 1)[0])
            self._known[path] = User(path, text, read_text(text, language), imported(text, language, path))
        return [self._known[path] for path in wanted if path in self._known]

    def is_sure(self, item: Defined, changed: str, uses: Sequence[tuple[str, int]]) -> bool:
        """Whether uses are plainly of one definition: a name inside another may also stand for one outside."""
        if item.kind == "method":
            return False
        if not all(path == changed or _is_told(self._known[path], item, changed) for path, _ in uses):
            return False
        if len(item.path) < 2:
            return True
        name, outer = last_part(item.name), last_part(item.path[-2])
        return any(
            reference.name == name and reference.receiver == outer and line in reference.lines
            for path, line in uses
            for reference in self._known[path].facts.references
        )


def _is_told(user: User, item: Defined, changed: str) -> bool:
    """Whether another file says whose name it uses; in some languages it never does."""
    language = language_of(changed)
    if language == "rust":
        near = rf"\b(?:crate|super|self)\b[^;]*\b(?:{re.escape(_stem(changed))}|{re.escape(last_part(item.name))})\b"
        return re.search(near, user.text) is not None
    return language not in _UNTOLD


def lines_of(user: User, file: FileDiff, item: Defined) -> list[int]:
    """The lines of a file on which a name can be the one that a changed file defined."""
    name = last_part(item.name)
    found: list[int] = []
    if not _has(user, file, item):
        return found
    for reference in user.facts.references:
        if reference.name != name or reference.kind not in (CALL, TYPE, IMPORT):
            continue
        if item.kind == "method":
            if not _is_of(reference.receiver, user, file, item):
                continue
        elif not _named_by(reference.receiver, user, file, item):
            continue
        found += reference.lines
    if found and item.kind != "method":
        hidden = _hidden(user, name, own=user.path == file.path)
        found = [line for line in found if not any(line in lines for lines in hidden)]
    return found


def _is_of(receiver: str, user: User, file: FileDiff, item: Defined) -> bool:
    """Whether what stands before the dot can have the method.

    `self` and its class say so; anything else may be anything's, unless the name has two words, as few others do.
    """
    if user.path == file.path and (
        receiver in _SELF or (not receiver and file.language in _OWN_WITHOUT_SELF)
    ):
        return True
    if len(item.path) > 1 and receiver == last_part(item.path[-2]):
        return True
    name = last_part(item.name)
    if not receiver or name in _BUILT_IN or name.replace("_", "").lower().rstrip("?!") in _COMMON:
        return False
    # A type that is not its own has a method of its own.
    foreign = receiver in _BROUGHT or receiver[:1].isupper()
    return not foreign and _TWO_WORDS.search(name) is not None


def _has(user: User, file: FileDiff, item: Defined) -> bool:
    """Whether a file could have the name, or something around it, from the changed one."""
    if user.path == file.path:
        return True
    if file.language == "rust":
        return not rust_elsewhere(user.text, last_part(item.name), file.path)
    if file.language in ("java", "php"):
        return not any(_is_from_elsewhere(user.text, last_part(part), file) for part in item.path)
    return user.imports is None or any(
        reaches(user.imports, last_part(part), file.path) for part in item.path
    )


def _is_from_elsewhere(text: str, name: str, file: FileDiff) -> bool:
    """Whether a file of Java or PHP imports a name from another package than that of the changed file."""
    own = re.search(r"^\s*(?:package|namespace)\s+([\w.\\]+)", file.before or "", re.MULTILINE)
    package = own[1] if own else ""
    pattern = rf"^\s*(?:import|use)\s+(?:static\s+|function\s+)?([\w.\\]*?)[.\\]?{re.escape(name)}\s*;"
    return any(
        not match.startswith(package) or not package for match in re.findall(pattern, text, re.MULTILINE)
    )


def _hidden(user: User, name: str, *, own: bool) -> list[range]:
    """The lines in which the name is something else."""
    if user.path.endswith((".py", ".pyi")):
        module = parsed(user.text)
        return shadows(module, name, own=own) if module is not None else []
    language = language_of(user.path)
    if (pattern := _SHADOWS.get(language)) and re.search(
        pattern.format(re.escape(name)), user.text, re.MULTILINE
    ):
        return [range(1, sys.maxsize)]
    return script_parameters(user.text, language, name)


def _named_by(receiver: str, user: User, file: FileDiff, item: Defined) -> bool:
    """Whether a name with that word before its dot can be the one meant; in Go a bare one is of its directory."""
    if receiver:
        return receiver in _owners(user, file, item)
    if user.path != file.path and user.imports is not None:
        return names(user.imports, last_part(item.name), file.path)
    return file.language != "go" or _parent(user.path) == _parent(file.path)


def _owners(user: User, file: FileDiff, item: Defined) -> frozenset[str]:
    """The words that before a name say that it is the one that is meant: its module, under any name, and its class."""
    found = {last_part(part) for part in item.path[:-1]}
    found |= {one.name for one in user.imports or () if one.is_module(file.path)}
    if file.language == "go":
        return frozenset(found | _go_names(user.text, _parent(file.path)))
    if file.language == "rust" and _is_of_std(user.text, _stem(file.path)):
        return frozenset(found)
    stems = {_stem(file.path)} if file.language in ("python", "rust") else set()
    return frozenset(found | stems)


def _go_names(text: str, directory: str) -> set[str]:
    """What a file calls the package of a directory: by the last part of its import path, or by a name of its own."""
    if not directory:
        return set()
    # A directory alone is also what packages of the language are called: ours is imported by a longer path.
    before = r"(?:[^\"\n]*/)?" if "/" in directory else r"[^\"\n]+/"
    found = re.finditer(rf"^\s*(?:import\s+)?(\w+\s+)?\"{before}{re.escape(directory)}\"", text, re.MULTILINE)
    return {(match[1] or directory.rpartition("/")[2]).strip() for match in found}


def _is_of_std(text: str, stem: str) -> bool:
    """Whether a Rust file has a module of that name from the language."""
    return (
        re.search(rf"\b(?:std|core|alloc)::(?:[\w:]*::)?(?:\{{[^}}]*)?\b{re.escape(stem)}\b", text)
        is not None
    )


def is_static(one: Both, item: Defined) -> bool:
    """Whether C keeps a function to its file."""
    if FAMILIES.get(one.file.language) != "c" or one.file.path.endswith((".h", ".hpp", ".hh")):
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
    return FAMILIES.get(first, first) == FAMILIES.get(second, second)
