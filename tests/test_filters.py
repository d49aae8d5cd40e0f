"""Which files a filter lets through: patterns as git reads them, languages by any name, tests by theirs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from indexers.errors import UsageError
from indexers.filters import EVERYTHING, MAX_PATTERN_CHARS, Filter, is_test
from indexers.globs import glob
from tests.repos import git, make_repo, write

# No name of one letter that is two bytes: git's `?` is one byte, ours is one letter.
PATHS = r"""
    a.py A.py README.md src src/a.py src/a.pyi src/b/a.py src/b/c/d.go src2/a.py lib/src/a.py lib/src/b/x.c docs/a.md
    lib/docs/b.md x/docs docs.py mydocs/a.py a/b a/x/b a/x/y/b a/x/y/c/b b/a [x] [x]/a x/a -/a a*b azb
    under_score/über.py foo-1.py foo-a.py foo-].py deep/1/2/3/4/5/6/leaf.ts #hash !bang back\slash name. .hidden/x
""".split()
PATTERNS = r"""
    *.py *.p? a.py /a.py src src/ /src /src/ src/* src/** src/**/ src/*.py src/b **/src **/src/** **/*.py ** * docs/
    **/docs/ lib/*/a.py lib/**/a.py a/**/b a/*/b a**b ?.py [ab].py [!a].py [^a].py [a-c]zb foo-[0-9].py foo-[]].py
    foo-[!]a]* [-]/a \[x\] \[x\]/ [x] a\*b a*b */ */*/* **/**/leaf.ts deep/**/leaf.ts deep/**/6/leaf.ts under*/ über.py
    *.PY \#hash \!bang back\\slash name. .hidden .* nope [z-a] /**/a.py a/** src/**/*.go */docs x/docs/ x/docs **/b/**
""".split()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which every path is a file, unless it is a directory of another one."""
    root = make_repo(tmp_path_factory.mktemp("globs"))
    write(root, {path: "x" for path in PATHS if path not in ("src", "[x]")})
    return root


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_covers_what_git_would_ignore(pattern: str, tree: Path) -> None:
    files = [path for path in PATHS if (tree / path).is_file()]
    listed = git(tree, "ls-files", "-z", "--others", "--ignored", f"--exclude={pattern}")
    ignored = {path for path in listed.decode().split("\0") if path}
    assert {path for path in files if glob(pattern).covers(path.split("/"))} == ignored


@pytest.mark.timeout(20)
def test_no_pattern_takes_long() -> None:
    name = "a" * 250
    deep = "/".join(["a"] * 2_000 + ["b"])
    started = time.process_time()
    for pattern in ("*a" * 100 + "b", "**/" * 300 + "c", "**/a/" * 150 + "c", "[a-z]*" * 100 + "B"):
        only = Filter(paths=[pattern])
        assert not only.admits(name, "") and not only.admits(deep, "")
    assert time.process_time() - started < 5


def test_the_default_lets_everything_through() -> None:
    assert not EVERYTHING and Filter() == EVERYTHING and str(EVERYTHING) == ""
    assert all(EVERYTHING.admits(path, "anything") for path in PATHS)


@pytest.mark.parametrize(
    ("paths", "inside", "outside"),
    [
        (["src/**"], ["src/a.py", "src/x/b.go"], ["lib/src/a.py", "a.py"]),
        (["*.py", "*.go"], ["a.py", "x/y.go"], ["a.md"]),
        (["!docs/"], ["a.py", "src/a.md"], ["docs/a.py", "x/docs/b.md"]),
        (["src/", "!*.md"], ["src/a.py"], ["src/a.md", "a.py"]),
        # What leaves out wins wherever it stands.
        (["!src/gen/", "src/"], ["src/a.py"], ["src/gen/a.py", "lib/a.py"]),
        (["src/*", "!src/*/"], ["src/a.py"], ["src/x/a.py"]),
        (["./src/a.py"], ["src/a.py"], ["x/src/a.py"]),
        (["!./src"], ["a.py"], ["src/a.py"]),
        (["\\!odd"], ["!odd", "x/!odd"], ["odd"]),
        ("src", ["src/a.py"], ["lib/a.py"]),
    ],
)
def test_paths(paths: list[str] | str, inside: list[str], outside: list[str]) -> None:
    only = Filter(paths=paths)
    assert only
    assert [path for path in inside if not only.admits(path, "python")] == []
    assert [path for path in outside if only.admits(path, "python")] == []


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "names no files"),
        ("!", "names no files"),
        ("/", "names no files"),
        (".", "names no files"),
        ("./", "names no files"),
        ("../src", "no name: . or .."),
        ("src/../x", "no name: . or .."),
        ("src/[ab", "[ without its ]"),
        ("src/[a/b]", "[ without its ]"),
        ("!x[", "[ without its ]"),
        ("[]", "[ without its ]"),
        ("[[:alpha:]].py", "named class"),
        ("x" * (MAX_PATTERN_CHARS + 1), "1,001 characters"),
    ],
)
def test_a_pattern_that_can_match_nothing_is_refused(pattern: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Filter(paths=[pattern])
    assert words in caught.value.message
    assert caught.value.remedy or len(pattern) > MAX_PATTERN_CHARS


def test_languages() -> None:
    only = Filter(languages=["ts", "Go", "golang"])
    assert only.languages == ("typescript", "go") and only == Filter(languages=("typescript", "go"))
    assert only.admits("a.ts", "typescript") and only.admits("a.tsx", "tsx") and only.admits("a.go", "go")
    assert not only.admits("a.js", "javascript") and not only.admits("go.mod", "text")
    assert Filter(languages="c++").admits("a.cc", "cpp") and not Filter(languages="c++").admits("a.c", "c")
    # A header is stored as C, whichever of the three includes it.
    assert all(Filter(languages=name).admits("a.h", "c") for name in ("c", "c++", "objc"))


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(UsageError, match="no language 'klingon'"):
        Filter(languages=["python", "klingon"])


TESTS = """
    tests/a.py src/test/java/App.java spec/models/user_spec.rb pkg/testdata/x.json a/__tests__/b.ts
    a_test.go x/test_a.py conftest.py app/tests.py b.test.tsx b.spec.ts UserTest.php UserTests.cs
    TestUser.java WordSpec.scala strings/cord-test.cc UserServiceIT.java Tests/Unit.swift test.sh
""".split()
OTHERS = """
    src/a.py testing.py src/testing/tools.py latest.py contest.go attestation.rs protest/a.py specification.md
    inspect.rb greatest/a.py src/Testament.java Latest.java EXIT.c manifest.json
""".split()


def test_tests_are_known_by_their_names() -> None:
    assert [path for path in TESTS if not is_test(path)] == []
    assert [path for path in OTHERS if is_test(path)] == []
    only = Filter(tests=False)
    assert only and only.admits("src/a.py", "python") and not only.admits("tests/a.py", "python")


def test_a_filter_is_a_value_that_says_what_it_is() -> None:
    only = Filter(paths=["src/**", "!*.md", "src/**"], languages=["py"], tests=False)
    assert only == Filter(["src/**", "!*.md"], ["python"], False) and len({only, Filter(only.paths)}) == 2
    assert str(only) == "--path 'src/**' --path '!*.md' --lang python --no-tests"
