"""From a request to the places that an edit may be about, or to the sentence that says why there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chains.search.query import looks_like_code
from chains.writing.choosing import Menu, Target, owners, paths_in, spans_by_file, wants, wants_definition
from chains.writing.edits import FileState, Kind, Text
from chains.writing.policy import PolicyError, forbidden
from chains.writing.regions import Region, named, near, regions_of
from indexers.errors import AgentError
from indexers.filters import is_test
from indexers.languages import language_of

if TYPE_CHECKING:
    from chains.writing.material import Material
    from chains.writing.types import WriteSettings
    from indexers.types import Hit

_MOST_FILES, _MOST_REGIONS, _MOST_EACH = 5, 20, 8
_CONFLICT = re.compile(r"^(?:<{7} |={7}$|>{7} )", re.MULTILINE)
_WORD = re.compile(r"`([^`\n]{1,120})`|([A-Za-z_][\w.]*(?:\(\))?)")
NOTHING = "Nothing in this repository seems to be about that."


@dataclass(frozen=True, slots=True)
class Places:
    """What may be changed. `direct` are targets that the request itself names; `reason` says why there is nothing."""

    hits: tuple[Hit, ...] = ()
    files: Mapping[str, FileState] = field(default_factory=dict)
    menu: Menu = field(default_factory=lambda: Menu(()))
    direct: tuple[Target, ...] = ()
    reason: str = ""


def find_places(request: str, material: Material, settings: WriteSettings) -> Places:
    """Search for the request, read the files that it names and that are found, and list their definitions.

    :raises PolicyError: the request names a path outside of the repository.
    """
    mentioned, new = _mentioned(request, material)
    hits, relevant = material.search(request)
    ranked = spans_by_file([hit for hit in hits if _may(hit.path, material)])
    if not (relevant or mentioned or new or material.only or material.defining(_code_names(request))):
        return Places(reason=f"{NOTHING} Name a file or a definition, or limit it: --files 'src/**'")
    about_tests = re.search(r"\btests?\b", request, re.IGNORECASE) is not None
    defining = [path for path in material.defining(_code_names(request)) if _may(path, material)]
    order = [*mentioned, *(path for path in [*defining, *ranked] if about_tests or not is_test(path))]
    files, regions = _read(list(dict.fromkeys(order)), material)
    deletes, renames, adds = wants(request)
    if new and not adds and not renames:
        raise AgentError(
            f"There is no file {new[0]} in the repository.", "Name one that there is, or ask to create it."
        )
    direct = _direct(request, mentioned, new, files, regions, (deletes, renames, adds))
    # Whoever names a file means that file.
    meant = {path: found for path, found in regions.items() if path in mentioned} or regions
    chosen = _offered(request, meant, ranked)
    # With no name of its own a new file goes where the best hits lie.
    folders = tuple(dict.fromkeys(_folder(path) for path in files))[:3] if adds and not new else ()
    menu = Menu(
        tuple(chosen[:_MOST_REGIONS]),
        new_paths=tuple(new) if adds else (),
        folders=folders if not chosen else (),
        whole=tuple(path for path in mentioned if path in files and path.isprintable()),
        deletes=deletes,
        renames=renames,
        adds=adds,
        most=settings.targets,
    )
    if not direct and not menu.forms():
        return Places(hits=tuple(hits), reason=f"{NOTHING} No file could be read that may be changed.")
    return Places(tuple(hits), files, menu, direct)


def _mentioned(request: str, material: Material) -> tuple[list[str], list[str]]:
    """The files of the repository that a request names, and the paths in it that are none yet."""
    found: dict[str, None] = {}
    new: dict[str, None] = {}
    for word in _outside(request):
        raise PolicyError(f"{word!r} is not in the repository.", "Nothing is read or written outside of it.")
    for word in paths_in(request):
        exact = [path for path in material.paths if path == word or path.endswith(f"/{word}")]
        if word in exact or len(exact) == 1:
            found[word if word in exact else exact[0]] = None
        elif (
            not exact
            and "." in word.rpartition("/")[2]
            and re.search(r"[A-Za-z]", word)
            and (
                _like_a_file(word, material)
                and not forbidden(word)
                and material.only.admits(word, language_of(word))
            )
        ):
            new[word] = None
    kept = [path for path in found if _may(path, material)]
    return kept, list(new)


def _outside(request: str) -> list[str]:
    """Paths in a request that lead out of any repository."""
    words = re.findall(
        r"(?:(?<=\s)|^|(?<=[`'\"]))(?:\.\./[\w./-]+|/(?:[\w.-]+/)+[\w.-]+|~/[\w./-]+)", request
    )
    inside = re.findall(r"(?:(?<=\s)|^|(?<=[`'\"]))[\w./-]*\.git/[\w./-]+", request, re.IGNORECASE)
    return [*words, *(word for word in inside if forbidden(word))]


def _like_a_file(word: str, material: Material) -> bool:
    """Whether a word with a dot in it is a file's name rather than a module's or an attribute's."""
    if "/" in word:
        return True
    suffix = word.rpartition(".")[2].lower()
    return any(path.lower().endswith(f".{suffix}") for path in material.paths) or suffix in (
        "md",
        "py",
        "txt",
        "toml",
    )


def _may(path: str, material: Material) -> bool:
    return not forbidden(path) and material.only.admits(path, language_of(path))


def _read(order: Sequence[str], material: Material) -> tuple[dict[str, FileState], dict[str, list[Region]]]:
    """The first files that can be edited, with their definitions."""
    files: dict[str, FileState] = {}
    regions: dict[str, list[Region]] = {}
    for path in order:
        if len(files) >= _MOST_FILES:
            break
        try:
            state = material.read(path)
            text = Text.of(state.data) if state else None
        except (AgentError, OSError):
            continue
        if state is None or text is None or not path.isprintable() or _CONFLICT.search(text.text):
            continue
        files[path] = state
        regions[path] = regions_of(path, text.text, language_of(path, text.lines[0]))
    return files, regions


def _direct(
    request: str,
    mentioned: Sequence[str],
    new: Sequence[str],
    files: Mapping[str, FileState],
    regions: Mapping[str, Sequence[Region]],
    wish: tuple[bool, bool, bool],
) -> tuple[Target, ...]:
    """Targets that leave nothing to choose: one definition that is named, a file to be deleted or renamed."""
    deletes, renames, _ = wish
    names = _code_names(request)
    every = [region for path in files for region in regions[path]]
    ours = [region for path in mentioned if path in files for region in regions[path]]
    found = [region for region in named(ours or every, names) if region.kind != "lines"]
    if not found and len(ours) == 1 and len(mentioned) == 1 and not (deletes or renames or new):
        # The whole of a small file.
        return (Target(Kind.REPLACE, ours[0].path, ours[0]),)
    if renames and len(mentioned) == 1 and len(new) == 1 and mentioned[0] in files and not found:
        return (Target(Kind.RENAME, mentioned[0], to=new[0]),)
    added = _addition(request, mentioned, regions) if not new else None
    if added is not None:
        return (added,)
    first = request.split(None, 1)[0].lower() if request.split() else ""
    if deletes and first in ("delete", "remove", "drop") and len(mentioned) == 1 and not names and not found:
        return (Target(Kind.DELETE, mentioned[0]),) if mentioned[0] in files else ()
    # "Add a flag to `main`" changes main.
    if len(found) == 1 and not (first in ("create", "write", "new") or wants_definition(request)):
        return (Target(Kind.REPLACE, found[0].path, found[0]),)
    if new and not mentioned and not found:
        return tuple(Target(Kind.CREATE, path) for path in new[:1])
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
