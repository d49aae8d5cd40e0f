"""From a request to the places that an edit may be about, or to the sentence that says why there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from chains.search.query import looks_like_code
from chains.writing.choosing import Menu, Target, owners, paths_in, spans_by_file, wants_definition
from chains.writing.drafter import LOCAL, SECRET, secret_lines
from chains.writing.edits import FileState, Kind, Text
from chains.writing.losses import loses_definitions
from chains.writing.naming import WHOLE, Named, named_in, no_such_file
from chains.writing.policy import PolicyError, forbidden
from chains.writing.regions import Region, named, near, regions_of
from chains.writing.wishes import Role, asks_for_more, moves
from indexers.errors import AgentError, UsageError
from indexers.filters import is_test
from indexers.languages import language_of

if TYPE_CHECKING:
    from chains.writing.material import Material
    from chains.writing.types import WriteSettings
    from indexers.types import Hit

_MOST_FILES, _MOST_REGIONS, _MOST_EACH = 5, 20, 8
# A heading of reStructuredText may have seven equal signs: git's marks come together.
_OURS, _THEIRS = re.compile(r"^<{7}(?: |$)", re.MULTILINE), re.compile(r"^>{7}(?: |$)", re.MULTILINE)
_WORD = re.compile(r"`([^`\n]{1,120})`|([A-Za-z_][\w.]*(?:\(\))?)")
_ADDS = re.compile(r"\b(?:add|create|write|new|introduce|make|generate|implement)\b", re.IGNORECASE)
# "Make it faster" asks for no new file.
_MAY_BE_A_FILE = re.compile(r"\b(?:add|create|write|new|introduce|generate|implement)\b", re.IGNORECASE)
NOTHING = "Nothing in this repository seems to be about that."


@dataclass(frozen=True, slots=True)
class Places:
    """What may be changed. `direct` are targets that the request itself names; `reason` says why there is nothing.

    `loses` is whether definitions are to go, so that it is no mistake when they are gone.
    """

    hits: tuple[Hit, ...] = ()
    files: Mapping[str, FileState] = field(default_factory=dict)
    menu: Menu = field(default_factory=lambda: Menu(()))
    direct: tuple[Target, ...] = ()
    reason: str = ""
    loses: bool = False


@dataclass(frozen=True, slots=True)
class _Read:
    """Files that can be edited, with their definitions; of the others that are meant, why they cannot."""

    files: dict[str, FileState] = field(default_factory=dict)
    regions: dict[str, list[Region]] = field(default_factory=dict)
    left: dict[str, UsageError] = field(default_factory=dict)


def find_places(request: str, material: Material, settings: WriteSettings) -> Places:
    """Search for the request, read the files that it names and that are found, and list their definitions.

    :raises PolicyError: the request asks for a change outside of the repository.
    :raises UsageError: none of the files that it names can be edited.
    """
    asked = named_in(request, material)
    hits, relevant = material.search(request)
    ranked = spans_by_file([hit for hit in hits if _may(hit.path, material)])
    names = _code_names(request)
    defining = [path for path in material.defining(names) if _may(path, material)]
    known = asked.meant or asked.missing or asked.new
    if not (relevant or known or material.only or material.defining(names)):
        return Places(reason=f"{NOTHING} Name a file or a definition, or limit it: --files 'src/**'")
    about_tests = re.search(r"\btests?\b", request, re.IGNORECASE) is not None
    found = [path for path in [*defining, *ranked] if about_tests or not is_test(path)]
    read = _read(asked, list(dict.fromkeys([*asked.meant, *found])), material)
    _refuse_others(asked, read, material)
    direct = _direct(request, asked, read)
    regions = read.regions if direct or material.local else _without_secrets(read)
    menu = _menu(request, asked, regions, ranked)
    if not direct and not menu.forms():
        if regions != read.regions:
            raise PolicyError(f"{', '.join(read.files)}: {SECRET}.", LOCAL)
        return Places(hits=tuple(hits), reason=f"{NOTHING} No file could be read that may be changed.")
    loses = bool(menu.deletes) or loses_definitions(request, lambda name: _is_defined(name, read, material))
    return Places(tuple(hits), read.files, replace(menu, most=settings.targets), direct, loses=loses)


def _menu(
    request: str,
    asked: Named,
    regions: Mapping[str, Sequence[Region]],
    ranked: Mapping[str, Sequence[tuple[int, int]]],
) -> Menu:
    """What the model may choose from."""
    whole = [path for path in asked.having(*WHOLE) if path in regions]
    meant = {path: found for path, found in regions.items() if path in asked.meant}
    # Whoever names a file means that file; with the whole of it gone, what used it is meant too.
    chosen = _offered(request, regions if whole or not meant else meant, ranked)
    adds = bool(asked.new) or moves(request, asked.words) or _ADDS.search(request) is not None
    # With no name of its own a new file goes where the best hits lie.
    unnamed = not chosen and not asked.new and _MAY_BE_A_FILE.search(request) is not None
    return Menu(
        tuple(chosen[:_MOST_REGIONS]),
        new_paths=asked.new,
        folders=tuple(dict.fromkeys(map(_folder, regions)))[:3] if unnamed else (),
        new_names=(asked.to,) if asked.to else (),
        whole=tuple(whole),
        deletes=any(asked.meant[path] is Role.DELETE for path in whole),
        renames=any(asked.meant[path] is Role.RENAME for path in whole),
        adds=adds,
    )


def _may(path: str, material: Material) -> bool:
    return not forbidden(path) and material.only.admits(path, language_of(path))


def _read(asked: Named, order: Sequence[str], material: Material) -> _Read:
    """The first files that can be edited, with their definitions."""
    read = _Read()
    for path in order:
        whole = asked.meant.get(path) in WHOLE
        if len(read.files) >= _MOST_FILES and not whole:
            continue
        try:
            state = _editable(path, material)
            # A picture too can be deleted or get another name.
            text = None if whole and _is_binary(state) else Text.of(state.data)
            if text is not None and _OURS.search(text.text) and _THEIRS.search(text.text):
                raise UsageError(f"{path} is in conflict.", f"Resolve it first, then: git add {path}")
        except (AgentError, OSError) as error:
            if path in asked.meant:
                read.left[path] = _said(path, error)
            continue
        read.files[path] = state
        read.regions[path] = regions_of(path, text.text, language_of(path, text.lines[0])) if text else []
    return read


def _editable(path: str, material: Material) -> FileState:
    """A file as it is now.

    :raises UsageError: it may not be changed, or is not there.
    """
    if not _may(path, material):
        raise UsageError(f"{path} may not be changed: --files leaves it out.", "Let it cover that file too.")
    if not path.isprintable():
        raise UsageError(f"{path!r} has characters in its name that no request can have.", "Rename it.")
    state = material.read(path)
    if state is None:
        raise UsageError(
            f"{path} is tracked by git, and not in the work tree.", f"Bring it back: git restore {path}"
        )
    return state


def _is_binary(state: FileState) -> bool:
    try:
        Text.of(state.data)
    except AgentError:
        return True
    return False


def _said(path: str, error: AgentError | OSError) -> UsageError:
    """Why a file that is named cannot be edited."""
    if isinstance(error, UsageError):
        return error
    if isinstance(error, OSError):
        return UsageError(f"{path} cannot be read: {error.strerror or error}.", "Mend its permissions.")
    return UsageError(f"{path} cannot be edited. {error.message}", error.remedy or "Name another file.")


def _refuse_others(asked: Named, read: _Read, material: Material) -> None:
    """Refuse a request that names files of which none can be edited: another file is not what was asked for.

    :raises UsageError: why the first of them cannot; or one that was to be deleted or renamed.
    """
    for path in asked.having(*WHOLE):
        if path in read.left:
            raise read.left[path]
    # "Add tests for src/x.py in tests/test_x.py" means the second, whatever there is of the first.
    spoken = [path for path in asked.having(Role.MENTION) if not asked.missing]
    if asked.new or any(path in read.files for path in [*asked.edited, *spoken]):
        return
    for path, error in read.left.items():
        # "--files tests/" and "write tests for src/x.py": what is only spoken of need not be covered.
        if _may(path, material) or asked.meant[path] is Role.EDIT:
            raise error
    if asked.missing:
        raise no_such_file(asked.missing[0], material)


def _is_defined(name: str, read: _Read, material: Material) -> bool:
    """Whether a name is that of a definition that the request may be about."""
    every = [region for found in read.regions.values() for region in found]
    return bool(named(every, [name])) or bool(material.defining([name]))


def _without_secrets(read: _Read) -> dict[str, list[Region]]:
    """The places that may be chosen of when the model is on a server: none that holds what looks like a secret."""
    shown = {}
    for path, regions in read.regions.items():
        hidden = secret_lines(Text.of(read.files[path].data).text, path) if regions else frozenset()
        shown[path] = [r for r in regions if hidden.isdisjoint(range(r.start_line, r.end_line + 1))]
    return shown


def _direct(request: str, asked: Named, read: _Read) -> tuple[Target, ...]:
    """Targets that leave nothing to choose: one definition that is named, a file to be made, deleted or renamed."""
    if asked.deletes:
        return tuple(Target(Kind.DELETE, path) for path in asked.deletes if path in read.files)
    if asked.renamed:
        return (Target(Kind.RENAME, asked.renamed, to=asked.to),) if asked.renamed in read.files else ()
    if asked.having(*WHOLE) or moves(request, asked.words):
        return ()
    if asked.new:
        edited = any(path in read.files for path in asked.edited)
        alone = not edited and not asks_for_more(request, asked.words)
        return tuple(Target(Kind.CREATE, path) for path in asked.new) if alone else ()
    return _one_definition(request, asked, read)


def _one_definition(request: str, asked: Named, read: _Read) -> tuple[Target, ...]:
    """The one definition that a request names, the place behind the last one, or the whole of a small file."""
    every = [region for found in read.regions.values() for region in found]
    ours = [region for path in asked.meant for region in read.regions.get(path, ())]
    found = [region for region in named(ours or every, _code_names(request)) if region.kind != "lines"]
    if not found and len(ours) == 1 and len(asked.meant) == 1:
        # The whole of a small file.
        return (Target(Kind.REPLACE, ours[0].path, ours[0]),)
    added = _addition(request, asked.edited or list(asked.meant), read.regions)
    if added is not None:
        return (added,)
    # "Add a flag to `main`" changes main.
    first = request.split(None, 1)[0].lower() if request.split() else ""
    # "Use `f` from src/x.py in src/y.py" does not.
    elsewhere = bool(asked.edited and found) and found[0].path not in asked.edited
    if (
        len(found) == 1
        and not elsewhere
        and not (first in ("create", "write", "new") or wants_definition(request))
    ):
        return (Target(Kind.REPLACE, found[0].path, found[0]),)
    return ()


def _addition(
    request: str, mentioned: Sequence[str], regions: Mapping[str, Sequence[Region]]
) -> Target | None:
    """Where a new definition goes by custom: behind the last member of the type that the request names, or the last
    definition of the file that it names. None where that cannot be told."""
    if not wants_definition(request):
        return None
    files = [path for path in regions if path in mentioned] or list(regions)
    for name in owners(request):
        parts = name.split(".")
        for path in files:
            members = [r for r in regions[path] if r.kind != "lines" and _lies_in(r, parts)]
            if members:
                last = max(members, key=lambda region: region.end_line)
                return Target(Kind.INSERT, path, last)
    if len(mentioned) != 1 or re.search(r"\bmethods?\b", request.split("`")[0], re.IGNORECASE):
        return None
    outer = [r for r in regions.get(mentioned[0], ()) if r.kind != "lines" and "." not in r.name]
    if not outer:
        return None
    return Target(Kind.INSERT, mentioned[0], max(outer, key=lambda region: region.end_line))


def _lies_in(region: Region, owner: Sequence[str]) -> bool:
    return region.name.split(".")[:-1][-len(owner) :] == list(owner)


def _code_names(request: str) -> list[str]:
    """Names of code in a request: what stands in backticks, and words that no prose has."""
    names = []
    # README.md is a file, Circle.size is none.
    paths = {word for word in paths_in(request) if language_of(word) != language_of("Circle.size")}
    for quoted, word in _WORD.findall(request):
        name = (quoted or word).removesuffix("()").strip()
        if name in paths:
            continue
        if re.fullmatch(r"[A-Za-z_][\w.:#]*", name) and (quoted or looks_like_code(name)) and "/" not in name:
            names.append(name)
    return list(dict.fromkeys(names))


def _offered(
    request: str, regions: Mapping[str, Sequence[Region]], ranked: Mapping[str, Sequence[tuple[int, int]]]
) -> list[Region]:
    """The regions that are offered: those named first, then those near the hits, then the first of a file without."""
    names = _code_names(request)
    chosen: dict[Region, None] = dict.fromkeys(named([r for found in regions.values() for r in found], names))
    for path, found in regions.items():
        spans = ranked.get(path, [])
        close = near(found, spans) if spans else list(found)
        chosen.update(dict.fromkeys(close[:_MOST_EACH]))
    return list(chosen)


def _folder(path: str) -> str:
    return path[: path.rfind("/") + 1]
