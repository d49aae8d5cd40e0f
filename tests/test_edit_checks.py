"""What is told about edits without running them, and the imports that are added."""

from __future__ import annotations

from pathlib import Path

import pytest
from repos import make_repo

from chains.writing.edit_checks import errors_in, static_checks, undefined_in
from chains.writing.edits import FileChange, FileState
from chains.writing.imports import import_for, import_rows, missing_imports
from chains.writing.material import Material
from indexers.git import Repository

BEFORE = (
    "import os\n\n\ndef f(x):\n    return os.fspath(x)\n\n\nclass A:\n    def g(self):\n        return f(1)\n"
)


def change(after: str, before: str | None = BEFORE, path: str = "a.py") -> FileChange:
    old = FileState(before.encode()) if before is not None else None
    return FileChange(path, old, FileState(after.encode()))


def failed(*changes: FileChange, removes: bool = False) -> list[str]:
    return [check.name for check in static_checks(changes, removes=removes) if check.failed]


def test_what_is_fine() -> None:
    assert failed(change(BEFORE.replace("f(1)", "f(2)"))) == []
    assert failed(change("x = 1\n", None)) == []


def test_syntax_errors_by_their_line() -> None:
    broken = change(BEFORE.replace("def f(x):", "def f(x:"))
    check = static_checks([broken])[0]
    assert check.failed and "a.py: line 4" in check.detail


@pytest.mark.parametrize(
    "body",
    [
        "await g()",
        "async with g(): pass",
        "async for x in g(): pass",
        "break",
        "class B:\n        return 1",
        "lambda: (await g())",
    ],
)
def test_what_only_the_compiler_refuses(body: str) -> None:
    assert "parses" in failed(change(f"def f(g):\n    {body}\n", "def f(g):\n    pass\n"))
    good = f"async def f(g):\n    for _ in g:\n        {body}\n"
    if not body.startswith(("class", "lambda")):
        assert failed(change(good, "async def f(g):\n    pass\n")) == []


def test_a_file_that_was_broken_before_may_stay_so_and_get_no_worse() -> None:
    broken = "def f(:\n    pass\n\n\nx = 1\n"
    assert failed(change(broken.replace("x = 1", "x = 2"), broken)) == []
    assert failed(change(broken + "def g(:\n    pass\n", broken)) == ["parses"]


@pytest.mark.parametrize(
    ("path", "before", "good", "bad"),
    [
        ("a.json", '{"a": 1}\n', '{"a": 2}\n', '{"a": 2,}\n'),
        ("a.toml", "a = 1\n", "a = 2\n", "a = \n"),
        (
            "a.go",
            "package a\n\nfunc f() int { return 1 }\n",
            "package a\n\nfunc f() int { return 2 }\n",
            "package a\n\nfunc f() int { return 2 \n",
        ),
        ("a.js", "function f() { return 1 }\n", "function f() { return 2 }\n", "function f( { return 2 }\n"),
        ("a.rs", "fn f() -> u8 { 1 }\n", "fn f() -> u8 { 2 }\n", "fn f() -> u8 { 2 \n"),
    ],
)
def test_other_languages(path: str, before: str, good: str, bad: str) -> None:
    assert failed(change(good, before, path)) == [] and "parses" in failed(change(bad, before, path))


def test_json_with_comments_is_judged_as_it_was() -> None:
    before = '// settings\n{"a": 1}\n'
    assert failed(change(before.replace("1", "2"), before, "a.json")) == []


def test_names_that_nothing_defines() -> None:
    assert failed(change(BEFORE.replace("f(1)", "missing(1)"))) == ["names exist"]
    assert failed(change(BEFORE.replace("f(1)", "len([1])"))) == []
    # What was undefined before is not the edit's fault.
    old = "def f():\n    return unknown\n"
    assert failed(change(old.replace("return", "yield"), old)) == []
    assert failed(change(old + "print(unknown)\n", old)) == ["names exist"]


def test_definitions_that_get_lost() -> None:
    without = BEFORE.partition("class A")[0]
    assert failed(change(without)) == ["keeps definitions"] and failed(change(without), removes=True) == []
    moved = [change(without), change("class A:\n    def g(self):\n        return 1\n", None, "b.py")]
    assert failed(*moved) == []


def test_binary_and_broken_bytes_are_no_error() -> None:
    assert failed(FileChange("a.bin", FileState(b"\0"), FileState(b"\0\1"))) == []
    assert errors_in("x", "no-such-language") is None and undefined_in("def (") == {}


FUTURE = "from __future__ import annotations"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('"""Doc."""\n\nimport os\nfrom a import (\n    b,\n)\n\nx = 1\n', {FUTURE: 2, "import json": 7}),
        ('"""Doc."""\nx = 1\n', {FUTURE: 2, "import json": 2}),
        ("x = 1\n", {FUTURE: 1, "import json": 1}),
        ("def (", {FUTURE: 1, "import json": 1}),
        ("#!/usr/bin/env python3\n# -*- coding: latin-1 -*-\nx = 1\n", {FUTURE: 3, "import json": 3}),
        ("# Licence\n# of all this\n\nx = 1\n", {FUTURE: 3, "import json": 3}),
        ("# about x\nx = 1\n", {FUTURE: 1, "import json": 1}),
        (f"{FUTURE}\nimport os\n", {"import json": 3}),
        # One that stands below definitions is too late for what decorates them.
        ("import os\n\n\ndef f():\n    pass\n\n\nimport late\n", {FUTURE: 1, "import json": 2}),
    ],
)
def test_where_imports_go(text: str, rows: dict[str, int]) -> None:
    found = {line: row for row, group in import_rows(text, list(rows)) for line in group}
    assert found == rows
    if "def (" not in text:
        lines = text.split("\n")
        for row, group in sorted(import_rows(text, list(rows)), reverse=True):
            lines[row - 1 : row - 1] = group
        compile("\n".join(lines), "", "exec")


@pytest.mark.parametrize(
    "code", ["def g(a, a):\n    pass\n", "nonlocal x\n", "return 1\n", "def g():\n    await f()\n", "break\n"]
)
def test_what_the_compiler_refuses_does_not_parse(code: str) -> None:
    assert failed(change(code)) == ["parses", "keeps definitions"] or "parses" in failed(change(code))


def test_which_imports_are_missing() -> None:
    text = "import os\nfrom a import b\n"
    assert missing_imports(
        text, ["import os", "from  a import b", "from c import b", "import json", "import json"]
    ) == ["import json"]


def test_imports_of_the_standard_library() -> None:
    assert import_for("json", "a.py", None) == "import json"
    assert import_for("Path", "a.py", None) == "from pathlib import Path"
    assert import_for("unheard_of", "a.py", None) == ""


def test_a_relative_import_of_nothing_is_told(tmp_path: Path) -> None:
    files = {"p/__init__.py": "", "p/a.py": "x = 1\n", ".gitignore": "_version.py\n"}
    root = make_repo(tmp_path / "r", files)
    (root / "p/_version.py").write_text("version = 1\n")
    material = Material(Repository.discover(root), lambda _: ((), False))

    def told(code: str, *more: FileChange) -> list[str]:
        checks = static_checks([change(code, None, "p/b.py"), *more], material.has_name)
        return [check.detail for check in checks if check.failed]

    assert told("from .nowhere import thing\n") == ["p/b.py: .nowhere has no 'thing'"]
    assert told("from .a import y\n") == ["p/b.py: .a has no 'y'"]
    for fine in (
        "from .a import x\n",
        "from . import a\n",
        "from ._version import version\n",
        "import nowhere\n",
    ):
        assert told(fine) == []
    # One that comes with the same change.
    assert told("from .new import thing\n", change("thing = 1\n", None, "p/new.py")) == []


def test_a_definition_that_another_one_hides_is_lost() -> None:
    old = "def test_a():\n    assert 1\n"
    [check] = [check for check in static_checks([change(old + "\n\n" + old, old)]) if check.failed]
    assert check.name == "keeps definitions" and "test_a is defined there already" in check.detail
    setter = "class A:\n    @property\n    def x(self):\n        return 1\n"
    both = f"{setter}\n    @x.setter\n    def x(self, value):\n        pass\n"
    assert failed(change(both, setter)) == [] and failed(change(f"{old}x = 1\n", old)) == []
