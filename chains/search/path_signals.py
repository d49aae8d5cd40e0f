"""What a path says about a query: its name, and whether it holds tests, examples, old or foreign code. Pure."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import NamedTuple

from chains.search.query import Query
from indexers.filters import is_test
from indexers.tokens import split_identifier, stem, unique

# Files whose own name says nothing: their directory's name speaks for them.
_NAMELESS = frozenset({"mod", "index", "__init__", "main", "lib"})
# Files that mostly pass on what others define.
_BARRELS = frozenset({"__init__.py", "index.ts", "index.js", "mod.rs", "package-info.java"})
_PARENT_SHARE = 0.5
_NAME_PRECISION = 0.4
_SHORTEST_PREFIX = 3
# Text about the code rather than the code; asked for by its own words.
_PROSE = frozenset(".md .mdx .rst .txt .adoc .yml .yaml .json .toml .ini .cfg .csproj .lock".split())

_TEST_MODULES = frozenset({"test", "tests"})
_EXAMPLE_DIRS = frozenset("example examples sample samples demo demos docs doc benchmark benchmarks".split())
_LEGACY_DIRS = frozenset("compat _compat legacy deprecated old vendor third_party".split())
_VERSION = re.compile(r"v(\d+)")

# How the families of operating systems are named in paths. Whoever asks without naming one means the one they are on.
_PLATFORMS = {
    "windows": "win windows win32 win64 mingw msvc cygwin",
    "darwin": "mac macos darwin osx apple ios",
    "bsd": "bsd freebsd openbsd netbsd dragonfly",
    "android": "android",
    "unixes": "aix sunos solaris os390 zos ibmi hpux haiku hurd qnx",
    "web": "wasm wasi emscripten",
}
_FAMILY = {name: family for family, names in _PLATFORMS.items() for name in names.split()}
_HERE = {"win32": "windows", "cygwin": "windows", "darwin": "darwin", "android": "android"}


class PathFacts(NamedTuple):
    """What a path says whatever is asked: lower-case stem, words of name and parent, and what kinds of file it is."""

    name: str
    stems: frozenset[str]
    parents: frozenset[str]
    test: bool
    example: bool
    prose: bool
    legacy: bool
    barrel: bool
    platforms: frozenset[str]


@lru_cache(maxsize=16_384)
def path_facts(path: str) -> PathFacts:
    """Take a path apart, once for all queries."""
    pure = PurePosixPath(path)
    speaks = pure.parent.name if pure.stem.lower() in _NAMELESS else pure.stem
    dirs = {part.lower() for part in pure.parts[:-1]}
    parts = dirs | set(re.split(r"[-_.]", pure.stem.lower()))
    return PathFacts(
        name=pure.stem.lower(),
        stems=frozenset(stem(part) for part in split_identifier(speaks) if len(part) > 1),
        parents=frozenset(stem(part) for part in split_identifier(pure.parent.name) if len(part) > 2),
        test=is_test(path),
        example=bool(dirs & _EXAMPLE_DIRS),
        prose=pure.suffix.lower() in _PROSE,
        legacy=bool(dirs & _LEGACY_DIRS) or pure.stem.lower() in _LEGACY_DIRS,
        barrel=pure.name in _BARRELS or path.endswith(".d.ts"),
        platforms=frozenset(_FAMILY[part] for part in parts if part in _FAMILY),
    )


def file_name_match(query: Query, path: str) -> float:
    """How far the file's name and the query say the same, in 0..1.

    The share of the query's words that the name says (its directory's name counts half), mixed with the share
    of the name that the query says: `auth.py` fully named by one word of five is a better match than a word
    of a long name.
    """
    words = _name_words(query.words)
    if not words:
        return 0.0
    facts = path_facts(path)
    said: set[str] = set()
    matched = 0.0
    for word in words:
        found = {s for s in facts.stems if word == s or _prefix(word, s)}
        if found:
            said |= found
            matched += 1.0
        elif any(word == p or _prefix(word, p) for p in facts.parents):
            matched += _PARENT_SHARE
    recall = matched / len(words)
    precision = len(said) / max(len(facts.stems), 1)
    return (1 - _NAME_PRECISION) * recall + _NAME_PRECISION * precision


@lru_cache(maxsize=64)
def _name_words(words: tuple[str, ...]) -> tuple[str, ...]:
    """The stems of a query's words; a snake_case name counts by its parts, as it does in a file's name."""
    parts = (part for word in words for part in (word.split("_") if "_" in word else (word,)))
    return tuple(stem(part) for part in unique(part for part in parts if part))


def _prefix(word: str, other: str) -> bool:
    short, long = sorted((word, other), key=len)
    return len(short) >= _SHORTEST_PREFIX and long.startswith(short)


def is_test_scope(scope: tuple[str, ...]) -> bool:
    """Whether a chunk lies in a module of tests inside a source file, as Rust has them."""
    return bool(scope) and scope[0].lower() in _TEST_MODULES


def of_other_platform(query: Query, path: str, platform: str = sys.platform) -> bool:
    """Whether a file is for operating systems other than this one, and the query names none."""
    platforms = path_facts(path).platforms
    if not platforms or any(word in _FAMILY for word in query.words):
        return False
    here = "bsd" if "bsd" in platform else _HERE.get(platform, "")
    return here not in platforms


def superseded(query: Query, paths: Iterable[str]) -> frozenset[str]:
    """Of these paths, those in a directory named by a version (`v3`) that has a newer one (`v4`) beside it.

    A version that the query names is as good as the newest.
    """
    newest: dict[tuple[str, ...], int] = {}
    placed: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    for path in paths:
        parts = PurePosixPath(path).parts[:-1]
        for depth, part in enumerate(parts):
            match = _VERSION.fullmatch(part.lower())
            if match and len(match[1]) < 5 and part.lower() not in query.words:
                version = int(match[1])
                newest[parts[:depth]] = max(version, newest.get(parts[:depth], 0))
                placed.setdefault(path, []).append((parts[:depth], version))
    return frozenset(
        path for path, places in placed.items() if any(version < newest[where] for where, version in places)
    )


def penalties(query: Query, path: str, old: frozenset[str]) -> Mapping[str, bool]:
    """Which of the kinds of file that are seldom meant this one is, unless the query asks for them.

    :param old: the superseded paths among the candidates.
    """
    facts = path_facts(path)
    test = facts.test and not query.wants_tests
    return {
        "test": test,
        "example": facts.example and not test and not query.wants_examples,
        "prose": facts.prose and not query.wants_examples,
        "legacy": facts.legacy,
        "barrel": facts.barrel,
        "superseded": path in old,
        "platform": of_other_platform(query, path),
    }
