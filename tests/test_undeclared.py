"""Calls of functions that nothing declares, in code that was written."""

from __future__ import annotations

from pathlib import Path

import pytest
from repos import make_repo

from chains.writing.edit_checks import CALLS, NAMES, static_checks
from chains.writing.edits import FileChange, FileState
from chains.writing.material import Material
from indexers.git import Repository


def change(path: str, before: str, after: str) -> FileChange:
    return FileChange(path, FileState(before.encode()), FileState(after.encode()))


@pytest.mark.parametrize(
    ("path", "before", "call", "strange"),
    [
        ("a.js", "const x = 1;\n", "helper(x);\n", True),
        ("a.js", "import { helper } from './b';\n", "helper(1);\n", False),
        ("a.js", "const { helper } = require('./b');\n", "helper(1);\n", False),
        ("a.js", "function helper() {}\n", "helper(1);\n", False),
        ("a.js", "const x = 1;\n", "setTimeout(() => fetch(String(x)), 5);\n", False),
        ("a.js", "const x = 1;\n", "x.helper(1);\n", False),
        ("a.js", "helper(0);\n", "helper(1);\n", False),  # it was so before
        ("a.ts", "const x = 1;\n", "const f = (cb: () => void) => { cb(); helper<number>(1) };\n", True),
        ("a.ts", "const x = 1;\n", "const f = (cb: () => void) => { cb(); new Map<string, X>() };\n", False),
        ("a.test.js", "const x = 1;\n", "describe('x', () => {});\n", False),
        ("a.go", "package a\n", "func b(m map[string]int) { delete(m, string(1)); helper(1) }\n", True),
        ("a.go", "package a\n", 'func b(f func(int)) { f(len("a")) }\n', False),
        ("a.rs", "fn x() {}\n", "fn y() -> Option<u8> { drop(1); x(); Some(helper(1)) }\n", True),
        (
            "a.rs",
            "enum E { A(u8), C(Vec<u8>) }\n",
            "#[derive(Debug)]\nstruct S;\nfn y(f: impl Fn(u8)) { f(1); A(1); }\n",
            False,
        ),
        ("a.rs", "fn z() {}\n", "mod tests {\n    use super::*;\n}\nfn y() { helper(1) }\n", True),
        ("a.js", "const x = 1;\n", "const y = [\n  helper(1),\n];\n", True),
        ("a.go", 'package a\n\nimport . "math"\n', "func b() { Sqrt(2) }\n", False),
        ("a.rs", "use super::*;\n", "fn y() { helper(1) }\n", False),
    ],
)
def test_a_hint_about_what_nothing_declares(path: str, before: str, call: str, strange: bool) -> None:
    checks = static_checks([change(path, before, before + call)], defines=lambda path, name: False)
    [hint] = [check for check in checks if check.name == CALLS]
    assert not hint.failed and hint.ok is (None if strange else True)
    assert ("helper" in hint.detail) is strange


def test_of_other_files_nothing_is_said() -> None:
    names = {check.name for check in static_checks([change("a.md", "x\n", "y\n")])}
    assert not names & {CALLS, NAMES}
    names = {check.name for check in static_checks([change("a.py", "x = 1\n", "x = 2\n")])}
    assert NAMES in names and CALLS not in names


def test_in_go_a_directory_shares_its_names(tmp_path: Path) -> None:
    from agent import Agent

    root = make_repo(
        tmp_path / "r", {"p/a.go": "package p\n", "p/b.go": "package p\n\nfunc helper(n int) {}\n"}
    )
    with Agent.open(root) as agent:
        agent.refresh()
        with agent.workspace.guarded():
            material = Material(Repository.discover(root), lambda _: ((), False), agent.workspace.names())
            assert material.sees("p/a.go", "helper") and not material.sees("q/a.go", "helper")
