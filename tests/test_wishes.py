"""What a request asks to be done with the paths in it: the whole file, a part of it, or nothing at all."""

from __future__ import annotations

import time

import pytest

from chains.writing.losses import loses_definitions, removes
from chains.writing.wishes import Role, asks_for_more, leads_out, whole_deletes, whole_rename, words_in


def roles(request: str) -> dict[str, str]:
    return {word.text: word.role.name for word in words_in(request, {"README", "Makefile"})}


@pytest.mark.parametrize(
    "request_",
    [
        "Delete src/pause.py",
        "Remove the file src/pause.py",
        "delete `src/pause.py`, please",
        'Please could you delete "src/pause.py"?',
        "Get rid of the old module src/pause.py.",
        "I want to drop src/pause.py as it is unused",
        "Remove src/pause.py from the repository",
        "Delete the file called src/pause.py because nobody reads it",
    ],
)
def test_a_file_to_be_deleted(request_: str) -> None:
    assert whole_deletes(request_, words_in(request_)) == ["src/pause.py"]


@pytest.mark.parametrize(
    ("request_", "role"),
    [
        ("Remove the unused imports from src/pause.py", "EDIT"),
        ("Delete the docstring in src/pause.py", "EDIT"),
        ("Remove trailing whitespace in src/pause.py", "EDIT"),
        ("Drop support for Python 2 in src/pause.py", "EDIT"),
        ("Remove dead code from src/pause.py and simplify it", "EDIT"),
        ("Remove src/pause.py's unused imports", "EDIT"),
        ("Remove src/pause.py imports", "EDIT"),
        ("Remove src/pause.py as a dependency", "MENTION"),
        ("Remove src/pause.py from the list in docs/x.md", "MENTION"),
        ("Delete src/pause.py and its uses", "DELETE"),
        ("Delete src/pause.py, then fix src/retry.py", "DELETE"),
        ("Delete src/pause.py because it is empty, and update the imports", "DELETE"),
    ],
)
def test_what_is_no_mere_deletion(request_: str, role: str) -> None:
    assert roles(request_)["src/pause.py"] == role and whole_deletes(request_, words_in(request_)) == []


def test_several_files_to_be_deleted() -> None:
    request = "Delete a.md, b.md and c.md."
    assert whole_deletes(request, words_in(request)) == ["a.md", "b.md", "c.md"]


@pytest.mark.parametrize(
    ("request_", "old", "new"),
    [
        ("Rename examples/README to examples/README.md", "examples/README", "examples/README.md"),
        ("Rename README to README.md.", "README", "README.md"),
        ("Move src/a.py to src/b/a.py", "src/a.py", "src/b/a.py"),
        ("Move src/a.py into src/b/, please", "src/a.py", "src/b/"),
        ("rename the module `src/a.py` to `src/b.py`", "src/a.py", "src/b.py"),
        ("Rename Makefile to GNUmakefile", "Makefile", "GNUmakefile"),
    ],
)
def test_a_file_that_gets_another_name(request_: str, old: str, new: str) -> None:
    assert whole_rename(request_, words_in(request_, {"README", "Makefile"})) == (old, new)


@pytest.mark.parametrize(
    "request_",
    [
        "Move the retry helpers from src/retry.py to src/helpers.py",
        "Move the tests of src/retry.py to tests/test_retry.py",
        "Rename the constants in src/retry.py as described in docs/naming.md",
        "Rename src/retry.py's constants",
        "Rename src/retry.py to a better name",
        "Rename src/retry.py to something",
        "Move src/retry.py to src/again.py and update the imports",
    ],
)
def test_what_is_no_mere_rename(request_: str) -> None:
    assert whole_rename(request_, words_in(request_)) == ("", "")


@pytest.mark.parametrize(
    ("request_", "path", "role"),
    [
        ("Create docs/glossary.md that explains it", "docs/glossary.md", "CREATE"),
        ("Add a new file src/x.py with a greeting", "src/x.py", "CREATE"),
        ("Make a new file src/x.py", "src/x.py", "CREATE"),
        ("Create a file with a greeting named hello.py", "hello.py", "CREATE"),
        ("Make src/x.py faster", "src/x.py", "EDIT"),
        ("Add type hints to x.py", "x.py", "EDIT"),
        ("Add a docstring to `f` in src/x.py", "src/x.py", "EDIT"),
        ("Add logging to x.py", "x.py", "EDIT"),
        ("Write a docstring for the function f in src/x.py", "src/x.py", "EDIT"),
        ("In src/x.py, be faster", "src/x.py", "EDIT"),
        ("src/x.py: be faster", "src/x.py", "EDIT"),
        ("Write a function parse in utils.js", "utils.js", "INTO"),
        ("Move the helpers to src/x.py", "src/x.py", "INTO"),
        ("Create a function that is used in src/x.py", "src/x.py", "EDIT"),
        ("Add package.json parsing", "package.json", "MENTION"),
        ("Fix package.json parsing", "package.json", "MENTION"),
        ("Read the settings from package.json", "package.json", "MENTION"),
        ("Add an option to save the output to out.json", "out.json", "MENTION"),
        ("Fix the crash when data is loaded from cache.json", "cache.json", "MENTION"),
        ("Write the result to out.txt", "out.txt", "MENTION"),
        ("Fix `python src/x.py --fast`", "src/x.py", "MENTION"),
        ("Implement it like src/x.py does", "src/x.py", "REFERENCE"),
        ("Do it as described in docs/x.md", "docs/x.md", "REFERENCE"),
        ("Fix **src/x.py** today", "src/x.py", "EDIT"),
        ("Fix ./src/x.py:12", "src/x.py", "EDIT"),
        ("Fix README", "README", "EDIT"),
        ("Add an endpoint /api/users to app.py", "/api/users", "MENTION"),
        ("Add /api/users to app.py", "/api/users", "MENTION"),
        ("Handle the route /users/list in app.py", "/users/list", "MENTION"),
        ("Read it from /etc/app/conf.toml in app.py", "/etc/app/conf.toml", "MENTION"),
        ("Fix the crash when ~/x/config is missing", "~/x/config", "MENTION"),
        ("Ignore .git directories when walking", ".git", "MENTION"),
        ("Change `.git` detection to walk up", ".git", "MENTION"),
        ("Edit .git", ".git", "EDIT"),
        ("Create C:\\tmp\\x.py", "C:\\tmp\\x.py", "CREATE"),
        ("Create foo/../../x.py", "foo/../../x.py", "CREATE"),
    ],
)
def test_what_is_to_be_done_with_a_path(request_: str, path: str, role: str) -> None:
    assert roles(request_)[path] == role


@pytest.mark.parametrize("request_", ["See https://example.com/a/b.py", "Format *.py", "no paths", "3.14"])
def test_what_is_no_path(request_: str) -> None:
    assert roles(request_) == {}


def test_a_new_file_and_more() -> None:
    for request, more in (("Create x.py with f", False), ("Create x.py and use it in y.py", True)):
        assert asks_for_more(request, words_in(request)) is more


@pytest.mark.parametrize(
    "path", ["/x", "~/x", "../x", "a/../../x", ".git", "a/.GIT/x", "C:/x", "c:\\x", "\\x"]
)
def test_paths_that_lead_out(path: str) -> None:
    assert leads_out(path)


def test_a_long_request_is_read_in_time() -> None:
    began = time.monotonic()
    words = words_in("Fix the bug in src/a.py and in b.py, because it fails. " * 500)
    assert len(words) == 1_000 and time.monotonic() - began < 10
    assert words[-1].role is Role.EDIT


# -- what may be gone ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "gone"),
    [
        ("Remove the unused imports from src/pause.py", False),
        ("Make `pause` shorter and remove comments", False),
        ("Remove the comments and simplify `pause`", False),
        ("Drop support for Python 2 in src/pause.py", False),
        ("Remove the docstring of `pause`", False),
        ("Remove the `pause` parameter", False),
        ("Remove `os` from src/pause.py", False),
        ("Add a remove method to `Table`", False),
        ("Rename the constants in src/pause.py", False),
        ("Move the retry helpers from a.py to b.py", False),
        ("Remove `pause` from src/pause.py", True),
        ("Remove the imports, the comments and `pause`", True),
        ("Delete the function nap in src/pause.py", True),
        ("Remove dead code from src/pause.py", True),
        ("Please rename pause to nap", True),
        ("Remove the property from `Circle`", True),
        ("Move the method `pause` to class `B`", True),
        ("Shorten it by removing `pause`", True),
    ],
)
def test_whether_definitions_may_be_gone(request_: str, gone: bool) -> None:
    assert loses_definitions(request_, lambda name: name == "pause") is gone


def test_whether_nothing_may_be_left() -> None:
    assert removes("Please remove the imports") and removes("Shorten it by deleting comments")
    assert not removes("Add a remove method") and not removes("Add a drop shadow")
