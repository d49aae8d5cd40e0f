"""Who uses whose names, and personalised PageRank over that. Pure, and always the same for the same files.

The weights of edges follow aider's repository map (Gauthier 2023, https://aider.chat/2023/10/22/repomap.html): from the
file that uses a name to those that define it, more for a name that looks like code, less for a short or private one, by
the square root of the uses. Here a name also counts less the more files define it (inverse file frequency), and goes
only to those definitions that the using file imports, or failing that has beside it, where there are any.

PageRank (Page et al. 1999, with a restart vector as in Haveliwala 2002) runs over the edges in both directions, and
restarts in proportion to what a file defines. Along the edges alone, rank collects in constants and compatibility
shims; what a repository is about lies between what many use and what uses many. Measured over 18 repositories, as the
NDCG@10 of files by how many questions of a benchmark are about each: 0.38 along the edges, 0.62 in both directions,
0.67 with the restart by size as well; 0.64 by size alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

from indexers.tokens import split_identifier

DAMPING = 0.85
# The rank left to spread after so many steps is 0.85 ** 60 of it: one in 17,000.
_STEPS = 60
# What is defined in more files than this (main, get, setUp) says nothing about any of them.
_MOST_DEFINERS = 40
_LOOKS_LIKE_CODE = 10.0
_LONG, _TITLE = 8, 5
_PRIVATE, _SHORT = 0.1, 0.1
# A use inside the defining file says less about what others need.
_OWN = 0.2
# Tests and examples use everything, and are not what a repository is about.
_ASIDE = 0.2
# How much of the restart goes to what is asked about, and how much more its names weigh.
_FOCUS, _FOCUS_NAME = 0.8, 10.0
# Digits that are the same whichever way a machine rounds.
_DIGITS = 12
# Files whose own name says nothing: who imports them names their directory.
_NAMELESS = frozenset({"__init__", "index", "mod", "lib", "main", "init"})
_FAMILIES = {
    **dict.fromkeys(("c", "cpp", "objc"), "c"),
    **dict.fromkeys(("javascript", "typescript", "tsx", "vue", "svelte", "html"), "javascript"),
    **dict.fromkeys(("java", "kotlin", "scala", "groovy"), "java"),
    **dict.fromkeys(("python", "notebook"), "python"),
    **dict.fromkeys(("ocaml", "ocaml_interface"), "ocaml"),
}


@dataclass(frozen=True, slots=True)
class GraphFile:
    """A file as the graph sees it: names that others can use, names it uses with how often, words of its imports.

    `aside` marks tests and examples.
    """

    path: str
    language: str
    defines: frozenset[str] = frozenset()
    uses: Mapping[str, float] = field(default_factory=dict)
    imports: frozenset[str] = frozenset()
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Ranks:
    """Importance of each file, and of each (path, name) that anybody uses; numbers without a unit, larger is more."""

    files: Mapping[str, float]
    names: Mapping[tuple[str, str], float]


@dataclass(slots=True)
class _Edges:
    """Uses of names, side by side: from which file, to which, by what name, and how much each says."""

    sources: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[int, int, str, float]]:
        return zip(self.sources, self.targets, self.names, self.weights, strict=True)


class _Named(NamedTuple):
    """The files that define a name, and what a use of it says."""

    files: list[GraphFile]
    weight: float


def rank(
    files: Sequence[GraphFile], focus_paths: Collection[str] = (), focus_names: Collection[str] = ()
) -> Ranks:
    """The importance of files and of the names they define, seen from the focus where there is one.

    The order of `files` does not matter.
    """
    # What is asked about is not aside.
    asked = (replace(file, aside=file.aside and file.path not in focus_paths) for file in files)
    ordered = sorted(asked, key=lambda file: file.path)
    edges = _edges(ordered, focus_names)
    restart = _restart(ordered, focus_paths, focus_names)
    ranks = _pagerank(edges, restart)
    ranks = [share * (_ASIDE if file.aside else 1.0) for file, share in zip(ordered, ranks, strict=True)]
    names = _names(ordered, edges, ranks)
    _add_focus(names, ordered, ranks, focus_paths, focus_names)
    return Ranks(
        {file.path: round(ranks[at], _DIGITS) for at, file in enumerate(ordered)},
        {key: round(names[key], _DIGITS) for key in sorted(names)},
    )


def _names(files: Sequence[GraphFile], edges: _Edges, ranks: Sequence[float]) -> dict[tuple[str, str], float]:
    """What the names of files are worth: each file shares its rank among all the names it uses."""
    leaving = [0.0] * len(files)
    for source, _, _, weight in edges:
        leaving[source] += weight
    names: dict[tuple[str, str], float] = {}
    for source, target, name, weight in edges:
        share = ranks[source] * weight / leaving[source]
        key = (files[target].path, name)
        names[key] = names.get(key, 0.0) + (share * _OWN if source == target else share)
    return names


def name_weight(name: str, definers: int, files: int) -> float:
    """What one use of a name says, given how many of how many files define it."""
    weight = math.log1p(files / definers) / math.log1p(files)
    if (name[0].isupper() and len(name) >= _TITLE) or (
        len(name) >= _LONG and len(split_identifier(name)) > 1
    ):
        weight *= _LOOKS_LIKE_CODE
    if name.startswith(("_", "#")):
        weight *= _PRIVATE
    if len(name) < 3:
        weight *= _SHORT
    return weight


def nearest(user: GraphFile, definers: Sequence[GraphFile]) -> list[GraphFile]:
    """Of files that define a name, those that the using one most likely means.

    Itself; else those it imports by their own name; else by their directory's; else those beside it; else all.
    Code of another language is never meant.
    """
    mine = family(user.language)
    same = [file for file in definers if file.language == user.language or family(file.language) == mine]
    if len(same) == 1:
        return same
    levels: dict[int, list[GraphFile]] = {}
    for file in same:
        levels.setdefault(_distance(user, file), []).append(file)
    return levels[min(levels)] if levels else []


def family(language: str) -> str:
    """Languages whose files use one another's names have one family."""
    return _FAMILIES.get(language, language)


def _distance(user: GraphFile, other: GraphFile) -> int:
    if other.path == user.path:
        return 0
    place, mine = _place_of(other.path), _place_of(user.path)
    if place.stem in user.imports and place.stem not in _NAMELESS:
        return 1
    if place.folder and place.folder in user.imports:
        return 2
    return 3 if place.directory == mine.directory else 4


class _Place(NamedTuple):
    directory: str
    folder: str
    stem: str


@lru_cache(maxsize=50_000)
def _place_of(path: str) -> _Place:
    directory, _, name = path.rpartition("/")
    return _Place(directory, directory.rpartition("/")[2], name.split(".")[0])


def _edges(files: Sequence[GraphFile], focus_names: Collection[str]) -> _Edges:
    known = _defined(files, focus_names)
    positions = {file.path: at for at, file in enumerate(files)}
    edges = _Edges()
    for source, file in enumerate(files):
        for name in sorted(known.keys() & file.uses.keys()):
            named = known[name]
            targets = nearest(file, named.files)
            for target in targets:
                edges.sources.append(source)
                edges.targets.append(positions[target.path])
                edges.names.append(name)
                edges.weights.append(named.weight * math.sqrt(file.uses[name]) / len(targets))
    return edges


def _defined(files: Sequence[GraphFile], focus_names: Collection[str]) -> dict[str, _Named]:
    """Every name that says something, with the files that define it."""
    where: dict[str, list[GraphFile]] = {}
    for file in files:
        for name in file.defines:
            where.setdefault(name, []).append(file)
    return {
        name: _Named(
            holding,
            name_weight(name, len(holding), len(files)) * (_FOCUS_NAME if name in focus_names else 1.0),
        )
        for name, holding in where.items()
        if len(holding) <= _MOST_DEFINERS
    }


def _restart(
    files: Sequence[GraphFile], focus_paths: Collection[str], focus_names: Collection[str]
) -> list[float]:
    """Where rank starts anew, all together 1."""
    base = [(_ASIDE if file.aside else 1.0) * (1 + len(file.defines)) for file in files]
    asked = [0.0] * len(files)
    for name in sorted(focus_names):
        holding = [at for at, file in enumerate(files) if name in file.defines]
        for at in holding:
            asked[at] += 1 / len(holding)
    for at, file in enumerate(files):
        asked[at] += file.path in focus_paths
    total, wanted = sum(base) or 1.0, sum(asked)
    share = _FOCUS if wanted else 0.0
    return [(1 - share) * b / total + share * a / (wanted or 1.0) for b, a in zip(base, asked, strict=True)]


def _pagerank(edges: _Edges, restart: Sequence[float]) -> list[float]:
    """Power iteration over the edges in both directions; a file without any gives its rank back to the restart."""
    import numpy as np

    start = np.array(restart, dtype=np.float64)
    ends = np.array([edges.sources, edges.targets], dtype=np.intp).T
    sources, targets = ends.ravel(), ends[:, ::-1].ravel()
    weights = np.repeat(np.array(edges.weights, dtype=np.float64), 2)
    leaving = np.bincount(sources, weights, len(start))
    dangling = leaving == 0
    shares = weights / leaving[sources]
    ranks = start.copy()
    for _ in range(_STEPS):
        passed = np.bincount(targets, shares * ranks[sources], len(start))
        ranks = DAMPING * (passed + ranks[dangling].sum() * start) + (1 - DAMPING) * start
    found: list[float] = ranks.tolist()
    return found


def _add_focus(
    names: dict[tuple[str, str], float],
    files: Sequence[GraphFile],
    ranks: Sequence[float],
    focus_paths: Collection[str],
    focus_names: Collection[str],
) -> None:
    """What is asked about is shown whether or not anybody uses it: a file's names share its rank, a name has it."""
    for at, file in enumerate(files):
        wanted = set(focus_names) & file.defines
        if file.path in focus_paths:
            for name in sorted(file.defines):
                names[file.path, name] = names.get((file.path, name), 0.0) + ranks[at] / len(file.defines)
        for name in sorted(wanted):
            names[file.path, name] = names.get((file.path, name), 0.0) + ranks[at]
