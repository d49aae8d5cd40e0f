"""The files of a repository that a request names: which there are, which are to be made, which are refused."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chains.writing.policy import PolicyError, forbidden
from chains.writing.vacancy import taken
from chains.writing.wishes import Role, Word, leads_out, whole_deletes, whole_rename, words_in
from indexers.errors import AgentError, UsageError
from indexers.languages import TEXT, language_of

if TYPE_CHECKING:
    from chains.writing.material import Material

_WRITTEN = (Role.CREATE, Role.DELETE, Role.RENAME, Role.TO, Role.INTO, Role.EDIT)
WHOLE = (Role.DELETE, Role.RENAME)
# Of a name that several files have, these are all meant; of more, none.
_MOST_ALIKE = 5
_TOLD = 3
# Directories that lie at the top of a disk, and under which a web page does not.
_SYSTEM = re.compile(
    r"/(?:etc|usr|home|tmp|var|opt|root|dev|proc|sys|bin|sbin|lib|mnt|srv|boot|run|Users|Library|Windows)/"
)
_NOT_HERE = "Nothing is read or written outside of it."
_SUFFIXES = ("md", "py", "txt", "toml", "rst", "cfg", "ini", "csv", "log")
# Names that only look like those of files.
_PRODUCTS = frozenset(
    "node.js next.js nuxt.js vue.js react.js express.js three.js d3.js nest.js chart.js backbone.js".split()
)


@dataclass(frozen=True, slots=True)
class Named:
    """What a request names. `meant` are files that there are, and what is said of each.

    `made` are files that it asks for, `into` those that may have to be made for what is put there; `missing` are named
    to be changed, and there are none. `deletes` and `renamed` are what it asks for when it asks for nothing else;
    `to` is the new name of a file.
    """

    meant: Mapping[str, Role] = field(default_factory=dict)
    made: tuple[str, ...] = ()
    into: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    deletes: tuple[str, ...] = ()
    renamed: str = ""
    to: str = ""
    words: tuple[Word, ...] = ()

    @property
    def new(self) -> tuple[str, ...]:
        """Every new file that it names."""
        return (*self.made, *self.into)

    @property
    def edited(self) -> list[str]:
        """The files that something is to be done to, and not only spoken of."""
        return [path for path, role in self.meant.items() if role is not Role.MENTION]

    def having(self, *roles: Role) -> list[str]:
        """The files with one of these roles."""
        return [path for path, role in self.meant.items() if role in roles]


def named_in(request: str, material: Material) -> Named:
    """The files that a request names.

    :raises PolicyError: it asks for a change outside of the repository, or for a new file where none can be.
    :raises UsageError: it asks for a new file that must not be made, or to delete or rename what is no single file.
    """
    plain = {path for path in material.paths if "." not in path and "/" not in path}
    words = tuple(words_in(request, plain))
    names = _Names(material)
    _refuse_outside(words, names)
    meant: dict[str, Role] = {}
    new: dict[Role, list[str]] = {Role.CREATE: [], Role.INTO: []}
    missing = []
    for word in words:
        found = names.of(word)
        for path in found if word.role is not Role.REFERENCE else ():
            meant[path] = _stronger(meant.get(path), word.role)
        if found or leads_out(word.text) or not names.is_like_a_file(word):
            continue
        if word.role in new:
            new[word.role].append(_vacant(word.text, material))
        elif word.role in WHOLE:
            raise no_such_file(word.text, material)
        elif word.role is Role.EDIT:
            missing.append(word.text)
    deletes = [path for text in whole_deletes(request, words) for path in names.known(text)]
    renamed, to = _rename(request, words, names, material)
    return Named(
        meant,
        tuple(dict.fromkeys(new[Role.CREATE])),
        tuple(dict.fromkeys(new[Role.INTO])),
        tuple(missing),
        tuple(deletes),
        renamed,
        to,
        words,
    )


class _Names:
    """The paths of a repository by their last names."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self._by_name: dict[str, list[str]] = {}
        for path in material.paths:
            self._by_name.setdefault(path.rpartition("/")[2], []).append(path)

    def of(self, word: Word) -> list[str]:
        """The files that a word of a request may be the name of.

        :raises UsageError: it is to be deleted or renamed, and is the name of several files or of a directory.
        """
        if word.role in (Role.CREATE, Role.TO):
            # A new file is where its name says. What is not in the work tree any more can be made again.
            there = word.text in self._material.paths and (self._material.root / word.text).exists()
            return [word.text] if there else []
        found = self.known(word.text)
        if word.role in WHOLE:
            if len(found) > 1:
                some = f"{len(found)} files: {', '.join(found[:_TOLD])}"
                raise UsageError(f"{word.text} is the name of {some}.", "Name one of them.")
            if not found and self._is_directory(word.text):
                raise UsageError(f"{word.text} is a directory.", "Name the files in it that you mean.")
        return found if len(found) <= _MOST_ALIKE else []

    def known(self, text: str) -> list[str]:
        """The files with a path, or whose path ends with it."""
        root = f"{self._material.root}/"
        path = text.removeprefix(root).replace("\\", "/")
        if path in self._material.paths:
            return [path]
        alike = self._by_name.get(path.rpartition("/")[2], ())
        return [other for other in alike if other.endswith(f"/{path}")]

    def is_like_a_file(self, word: Word) -> bool:
        """Whether a word is a file's name rather than a module's, an attribute's or two words with a slash."""
        folder, _, name = word.text.rpartition("/")
        if folder:
            dotted = re.search(r"\.\w*[A-Za-z]", name) is not None
            below = self._is_directory(folder.partition("/")[0]) and not self._is_directory(word.text)
            return dotted or below
        if "." not in name[1:]:
            return word.role is Role.CREATE or (self._material.root / name).is_file()
        relations = self._material.relations
        if relations is not None and relations.definitions_of(name):
            return False  # a method that is called like an ending: `Response.json`
        suffix = name.rpartition(".")[2].lower()
        likely = suffix in _SUFFIXES or language_of(name) != TEXT or self._has_suffix(suffix)
        return likely and name.lower() not in _PRODUCTS

    def _has_suffix(self, suffix: str) -> bool:
        return any(name.lower().endswith(f".{suffix}") for name in self._by_name)

    def _is_directory(self, text: str) -> bool:
        return not leads_out(text) and (self._material.root / text).is_dir()


def _stronger(one: Role | None, other: Role) -> Role:
    """Of two things said of a file, the one that asks for more."""
    order = (Role.DELETE, Role.RENAME, Role.EDIT, Role.INTO, Role.CREATE, Role.TO, Role.MENTION)
    return min(filter(None, (one, other)), key=order.index)


def _refuse_outside(words: Sequence[Word], names: _Names) -> None:
    """Refuse a request for a change outside of the repository. What it only speaks of is text.

    :raises PolicyError: the first path that is refused.
    """
    inside = any(word.governed and word.role is Role.EDIT and names.known(word.text) for word in words)
    for word in words:
        if word.role not in _WRITTEN or names.known(word.text):
            continue
        if not (leads_out(word.text) or forbidden(word.text)) or _is_text(word, inside):
            continue
        raise PolicyError(f"{word.text!r} is not in the repository.", _NOT_HERE)


def _is_text(word: Word, inside: bool) -> bool:
    """Whether a path that leads out is one that a program knows: "change /old to /new in app.py".

    :param inside: the request says in which file of the repository it is to be done.
    """
    name = word.text.rpartition("/")[2]
    a_route = word.text.startswith("/") and "." not in name and not _SYSTEM.match(word.text)
    edited = word.role is Role.EDIT
    return (inside and edited) or (a_route and (inside or edited or word.governed))


def _vacant(path: str, material: Material, gone: Sequence[str] = ()) -> str:
    """The path of a new file.

    :raises PolicyError: no file can be put there.
    :raises UsageError: none may be made there.
    """
    if not material.only.admits(path, language_of(path)):
        raise UsageError(
            f"{path} may not be made: --files leaves it out.",
            "Name one that it covers, or let it cover more.",
        )
    reason = taken(material.root, path, gone)
    if reason:
        raise PolicyError(reason + _ignored(path, material), "Name another path.")
    return path


def _rename(request: str, words: Sequence[Word], names: _Names, material: Material) -> tuple[str, str]:
    """A file and its new name, where a request asks for nothing else; without the file, only a name that it gives."""
    text, to = whole_rename(
        request, words, {path.partition("/")[0] for path in material.paths if "/" in path}
    )
    found = names.known(text) if text else []
    if len(found) == 1:
        if to.endswith("/") or (material.root / to).is_dir():
            to = f"{to.rstrip('/')}/{found[0].rpartition('/')[2]}"
        if leads_out(to) or forbidden(to):
            raise PolicyError(f"{to!r} is not in the repository.", _NOT_HERE)
        return found[0], _vacant(to, material, found)
    files = any(word.role is Role.RENAME and names.known(word.text) for word in words)
    given = [word.text for word in words if word.role is Role.TO]
    return "", _vacant(given[0], material) if files and len(given) == 1 else ""


def no_such_file(text: str, material: Material) -> UsageError:
    """The error that says why a file that is named is none that can be edited, and which are like it."""
    try:
        state = material.read(text)
    except PolicyError as error:
        return UsageError(error.message, "Name a file of this repository.")
    except OSError as error:
        return UsageError(f"{text} cannot be read: {error.strerror or error}.")
    if state is not None:
        return UsageError(
            f"{text} is not a file that git has.{_ignored(text, material)}",
            f"Let git have it: git add -f {text}",
        )
    near = _near(text, material)
    listed = f"The nearest are {', '.join(near)}. " if near else ""
    return UsageError(
        f"There is no file {text} in the repository.",
        f"{listed}Name one that there is, or ask to create it.",
    )


def _ignored(path: str, material: Material) -> str:
    """The rule by which git ignores a path, as a sentence; empty where there is none, or git cannot say."""
    try:
        rule = material.repository.ignored_by(path)
    except AgentError:
        return ""
    return f" Git ignores it: {rule}" if rule else ""


def _near(text: str, material: Material) -> list[str]:
    """The paths that are most like a name, those with nearly the same last name first."""
    name = text.rpartition("/")[2].lower()
    by_name: dict[str, str] = {}
    for path in material.paths:
        by_name.setdefault(path.rpartition("/")[2].lower(), path)
    alike = [by_name[other] for other in difflib.get_close_matches(name, by_name, _TOLD, 0.6)]
    alike += difflib.get_close_matches(text, list(material.paths), _TOLD, 0.4)
    return list(dict.fromkeys(alike))[:_TOLD]
