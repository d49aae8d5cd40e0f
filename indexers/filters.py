"""Which indexed files a search may look in: by path, by language, with or without tests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from indexers.errors import UsageError
from indexers.globs import class_end, glob
from indexers.languages import is_written_in, language_named

# Nobody types more; a pattern costs time for every file and component.
MAX_PATTERN_CHARS = 1_000
_FROM_THE_TOP = "Patterns are relative to the top of the repository: --path 'src/**' or --path '!docs/'"
# Directories that hold tests and what only tests need. Not `testing`, which as often helps to test other code.
_TEST_FOLDERS = frozenset(
    "test tests spec specs testdata test-data test_data __tests__ __mocks__ __fixtures__ __snapshots__ fixtures"
    " e2e androidtest unittests unit-tests integration-tests integration_tests".split()
)
_TEST_NAME = re.compile(
    r"test_.*|tests?|conftest|Test[A-Z].*|.*[._-](?:tests?|specs?|unittest)|.*[a-z\d](?:Tests?|TestCase|Spec|IT)"
)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a search is limited to; the default lets everything through.

    :param paths: patterns as in a .gitignore, relative to the top of the repository: `src/**`, `*.py`, `docs/`. A file
        passes that one of them covers, unless one with a leading `!` does, wherever that stands in the list.
    :param languages: names or common aliases of languages (python, js, c++), of which a file must have one.
    :param tests: whether files of tests pass, and in Rust the modules of tests inside other files.
    :raises UsageError: a pattern that cannot match anything, or a language that is not known.
    """

    paths: Sequence[str] = ()
    languages: Sequence[str] = ()
    tests: bool = True

    def __post_init__(self) -> None:
        paths = (self.paths,) if isinstance(self.paths, str) else tuple(self.paths)
        names = (self.languages,) if isinstance(self.languages, str) else self.languages
        object.__setattr__(self, "paths", tuple(dict.fromkeys(map(_checked, paths))))
        object.__setattr__(self, "languages", tuple(dict.fromkeys(map(language_named, names))))

    def __bool__(self) -> bool:
        """Whether anything is left out."""
        return bool(self.paths or self.languages) or not self.tests

    def __str__(self) -> str:
        flags = [*(f"--path {path!r}" for path in self.paths), *(f"--lang {name}" for name in self.languages)]
        return " ".join([*flags, *([] if self.tests else ["--no-tests"])])

    def admits(self, path: str, language: str) -> bool:
        """Whether a file passes, given its path with `/` and the language it is stored under."""
        if self.languages and not any(is_written_in(name, language, path) for name in self.languages):
            return False
        parts = path.split("/")
        wanted = [pattern for pattern in self.paths if not pattern.startswith("!")]
        if wanted and not any(glob(pattern).covers(parts) for pattern in wanted):
            return False
        if any(glob(pattern[1:]).covers(parts) for pattern in self.paths if pattern.startswith("!")):
            return False
        return self.tests or not is_test(path)


def is_test(path: str) -> bool:
    """Whether a file is one of tests, by its name or a directory it lies in."""
    *folders, name = path.split("/")
    if any(folder.lower() in _TEST_FOLDERS for folder in folders):
        return True
    stem = name.rpartition(".")[0] or name
    return _TEST_NAME.fullmatch(stem) is not None


def _checked(pattern: str) -> str:
    """The pattern without a leading `./`, or why it can match nothing."""
    exclude, body = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    body = body.removeprefix("./")
    names = [name for name in body.split("/") if name]
    if len(body) > MAX_PATTERN_CHARS:
        raise UsageError(
            f"A path pattern has {len(body):,} characters; at most {MAX_PATTERN_CHARS:,} are read."
        )
    if not names or names == ["."]:
        raise UsageError(f"The path pattern {pattern!r} names no files.", _FROM_THE_TOP)
    if ".." in names or "." in names:
        raise UsageError(f"The path pattern {pattern!r} has a part that is no name: . or ..", _FROM_THE_TOP)
    for name in names:
        _check_classes(name, pattern)
    return exclude + body


def _check_classes(name: str, pattern: str) -> None:
    at = 0
    while at < len(name):
        if name[at] == "\\":
            at += 1
        elif name[at] == "[":
            end = class_end(name, at)
            if end is None:
                raise UsageError(
                    f"The path pattern {pattern!r} has a [ without its ].",
                    r"Write \[ for the character itself: --path 'app/\[id\]/**'",
                )
            if "[:" in name[at + 1 : end]:
                raise UsageError(
                    f"The path pattern {pattern!r} has a named class, which is not known here.",
                    "Write it out: [a-z], [A-Za-z0-9]",
                )
            at = end
        at += 1


EVERYTHING = Filter()
