"""Measures of an answer about code that need no judge: the files and names it has, and whether they exist. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

_URL = re.compile(r"\b[a-z][a-z+.-]{1,10}://\S+")
# With a directory or an ending of letters: `a/b`, `a.py`; whether it is a path is decided by what exists.
_PATH = re.compile(r"(?<![\w/.@])\.{0,2}/?(?:[\w@+.-]+/)*[\w@+-][\w@+.-]*\.[A-Za-z]\w*")
_ENDINGS = frozenset("py pyi md rst toml cfg ini yml yaml".split())
# `response.json` is an attribute: these are files only behind a directory.
_ENDINGS_BEHIND_DIRECTORY = _ENDINGS | {"json", "txt", "html"}
_FENCED = re.compile(r"^\s*(```|~~~).*?(?:^\s*\1|\Z)", re.MULTILINE | re.DOTALL)
_BACKTICKED = re.compile(r"`([^`\n]{1,120})`")
_STRING = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")
_NAME = re.compile(r"[^\W\d]\w{2,}")
# What only code spells that way: an underscore inside or in front, a capital behind a small letter, HTTPServer.
_CODE_LIKE = re.compile(r"\w+_\w+|_\w+|\w*[a-z]\w*[A-Z]\w*|[A-Z]{3,}[a-z]{2,}\w*")
_CALLED = re.compile(r"\b([^\W\d]\w{2,})\(\)")
_TESTS = frozenset({"test", "tests", "testing"})
# Words of the language, and values: an answer that has them says nothing about this repository.
_COMMON = frozenset(
    """and any args assert async await bool break bytes class cls continue def del dict elif else except false
    finally float for from global import int is key kwargs lambda len list none nonlocal not object pass print
    raise return self set str super true try tuple type value while with yield""".split()
)


@dataclass(frozen=True, slots=True)
class Repository:
    """What exists: paths (posix, relative) and every word of the tracked text files."""

    paths: tuple[str, ...]
    words: frozenset[str]


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """One answer's measures, each a share of 0..1, or None where there is nothing to take a share of.

    `files` and `names`: share of the gold answer's files and names that the answer has. `exists`: share of the
    answer's own names and paths that the repository has.
    """

    files: float | None
    names: float | None
    exists: float | None


def words_of(text: str) -> set[str]:
    """Every word of three letters and more."""
    return set(_NAME.findall(text))


def paths_in(text: str) -> list[str]:
    """Whatever is written like the path of a file, in order, each once."""
    found = (match.removeprefix("./") for match in _PATH.findall(_URL.sub(" ", text)))
    return list(dict.fromkeys(path for path in found if _looks_like_path(path)))


def _looks_like_path(text: str) -> bool:
    endings = _ENDINGS_BEHIND_DIRECTORY if "/" in text else _ENDINGS
    return PurePosixPath(text).suffix.removeprefix(".") in endings


def files_in(text: str, paths: Sequence[str]) -> set[str]:
    """The files of a repository that a text names, by their whole path or an end of it.

    An end that several files have means the one that the text names in full, else the only one outside of tests, else
    none of them.
    """
    meant = [(path, _candidates(path, paths)) for path in paths_in(text)]
    sure = {found[0] for _, found in meant if len(found) == 1}
    for _, found in meant:
        if len(found) > 1:
            named = [path for path in found if path in sure]
            code = [path for path in found if not _TESTS & set(PurePosixPath(path).parts)]
            for choice in (named, code):
                if len(choice) == 1:
                    sure.add(choice[0])
                    break
    return sure


def _candidates(path: str, paths: Sequence[str]) -> list[str]:
    if path in paths:
        return [path]
    # The other direction too: an answer may write the path from above the repository.
    return [p for p in paths if p.endswith("/" + path) or ("/" in p and path.endswith("/" + p))]


def names_in(text: str) -> set[str]:
    """Names of code: what stands in backticks, is called, or is spelled as only code is; no paths, no keywords."""
    text = _URL.sub(" ", text)
    for path in sorted(paths_in(text), key=len, reverse=True):
        text = text.replace(path, " ")
    fenced = " ".join(match[0] for match in _FENCED.finditer(text))
    prose = _FENCED.sub(" ", text)
    quoted = " ".join(_STRING.sub(" ", span) for span in _BACKTICKED.findall(prose))
    bare = _STRING.sub(" ", fenced) + " " + _BACKTICKED.sub(" ", prose)
    found = words_of(quoted) | set(_CALLED.findall(bare))
    found |= {word for word in words_of(bare) if _CODE_LIKE.fullmatch(word)}
    return {name for name in found if name.lower() not in _COMMON}


def gold_names(question: str, gold: str, words: Collection[str]) -> set[str]:
    """Names that the gold answer has and the repository knows, less those that the question gives away."""
    return {name for name in names_in(gold) if name in words} - words_of(question)


def score(
    question: str, gold: str, answer: str, cited: Collection[str], repository: Repository
) -> AnswerScore:
    """Judge an answer by the gold answer's files and names.

    :param cited: paths that the answer's citations point at, besides those in its text.
    """
    files = files_in(gold, repository.paths)
    given = files_in(answer, repository.paths) | set(cited)
    names = gold_names(question, gold, repository.words)
    own_paths, own_names = paths_in(answer), names_in(answer)
    # `Session` is the class wherever it stands; "read" is a method only where the answer writes it as code.
    said = own_names | {word for word in words_of(answer) if not word.islower()}
    real = sum(bool(_candidates(path, repository.paths)) for path in own_paths)
    real += sum(name in repository.words for name in own_names)
    return AnswerScore(
        _share(len(files & given), len(files)),
        _share(len(names & said), len(names)),
        _share(real, len(own_paths) + len(own_names)),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
