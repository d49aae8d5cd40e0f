"""Changed signatures in languages that bind arguments by position, and the calls that no longer fit them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from test_checks import broken, diff

from chains.reviewing.checks.arities import LANGUAGES, arities, calls
from chains.reviewing.types import Severity

# For each language: a file that defines, the same with one parameter more, a path and text that call it.
CHANGED = {
    "javascript": (
        "lib.js",
        "export function loadUser(name) { return name; }\n",
        ("name", "name, age"),
        {"app.js": "import { loadUser } from './lib.js';\nloadUser('a');\n"},
    ),
    "typescript": (
        "lib.ts",
        "export const loadUser = (name: string) => name;\n",
        ("name: string", "name: string, age: number"),
        {"app.ts": "import { loadUser } from './lib';\nloadUser('a');\n"},
    ),
    "tsx": (
        "lib.tsx",
        "export class User { constructor(private name: string) {} }\n",
        ("name: string", "name: string, age: number"),
        {"app.tsx": "import { User } from './lib';\nnew User('a');\n"},
    ),
    "go": (
        "store/lib.go",
        "package store\n\nfunc LoadUser(name string) string { return name }\n",
        ("name string", "name string, age int"),
        {"main.go": 'package main\nimport "example.org/x/store"; func main() { store.LoadUser("a") }\n'},
    ),
    "java": (
        "User.java",
        "class User {\n  static int load(int name) { return name; }\n}\n",
        ("int name", "int name, int age"),
        {"App.java": "class App {\n  int x() { return User.load(1); }\n}\n"},
    ),
    "ruby": (
        "user.rb",
        "class User\n  def initialize(name)\n    @name = name\n  end\nend\n",
        ("(name)", "(name, age:)"),
        {"app.rb": "require_relative 'user'\nUser.new('a')\n"},
    ),
    "rust": (
        "src/user.rs",
        "pub fn load_user(name: &str) -> u8 { 1 }\n",
        ("name: &str", "name: &str, age: u8"),
        {"src/app.rs": 'use crate::user;\nfn x() { user::load_user("a"); }\n'},
    ),
    "c": (
        "user.c",
        "int load_user(char *name) { return 1; }\n",
        ("char *name", "char *name, int age"),
        {
            "app.c": '\nint x(void) { return load_user("a"); }\n',
            "user.h": "int load_user(char *name, int age);\n",
        },
    ),
    "cpp": (
        "user.cpp",
        "int load_user(char *name) { return 1; }\n",
        ("char *name", "char *name, int age"),
        {"app.cpp": '\nint x() { return load_user("a"); }\n'},
    ),
    "php": (
        "user.php",
        "<?php\nfunction load_user($name) { return 1; }\n",
        ("$name", "$name, $age"),
        {"app.php": "<?php\nload_user('a');\n"},
    ),
}


def test_every_language_that_is_read_has_a_case() -> None:
    assert set(CHANGED) == LANGUAGES


@pytest.mark.parametrize("language", CHANGED)
def test_a_call_that_no_longer_fits_is_told_at_its_line(language: str) -> None:
    path, before, (old, new), others = CHANGED[language]
    [item] = broken([diff(path, before, before.replace(old, new))], others)
    caller = next(iter(others))
    assert f"{caller}:2" in item.message and "other arguments" in item.message
    # JavaScript lets a call give fewer arguments; in others a file does not say whose name it uses.
    grave = language not in ("javascript", "java", "ruby", "php", "cpp")
    assert item.severity is (Severity.HIGH if grave else Severity.MEDIUM)


@pytest.mark.parametrize("language", CHANGED)
def test_what_goes_on_fitting_is_no_finding(language: str) -> None:
    path, before, (old, new), others = CHANGED[language]
    assert broken([diff(path, before, before.replace(old, old + " "))], others) == []
    # A call that never fitted is not broken by this change.
    assert broken([diff(path, before.replace(old, new), before.replace(old, new) + "\n")], others) == []


@pytest.mark.parametrize(
    ("path", "before", "after", "others"),
    [
        (
            "a.js",
            "export function go(a) {}\n",
            "export function go(a, b = 1) {}\n",
            {"b.js": "import { go } from './a';\ngo(1)\n"},
        ),
        (
            "a.js",
            "export function go(a) {}\n",
            "export function go(...a) {}\n",
            {"b.js": "import { go } from './a';\ngo(1)\n"},
        ),
        (
            "a.js",
            "export function go(a) {}\n",
            "export function go() { return arguments[0] }\n",
            {"b.js": "import { go } from './a';\ngo(1)\n"},
        ),
        (
            "a.js",
            "export function go(a) {}\n",
            "export function go(a, b) {}\n",
            {"b.js": "import { go } from './a';\ngo(...x)\n"},
        ),
        (
            "a.js",
            "export function go(a) {}\n",
            "export function go(a, b) {}\n",
            {"b.js": "import { go } from './other';\ngo(1)\n"},
        ),
        (
            "a.ts",
            "export function go(a: X) {}\n",
            "export function go(a: X, b?: Y) {}\n",
            {"b.ts": "import { go } from './a';\ngo(1)\n"},
        ),
        (
            "a.ts",
            "export function go(a: X) {}\n",
            "export function go(a: X): void;\n"
            "export function go(a: X, b: Y): void;\nexport function go(a: X, b?: Y) {}\n",
            {"b.ts": "import { go } from './a';\ngo(1)\n"},
        ),
        (
            "a.go",
            "package a\nfunc Go(a int) {}\n",
            "package a\nfunc Go(a int, b ...int) {}\n",
            {"b.go": "package a\nfunc x() { Go(1) }\n"},
        ),
        (
            "a.go",
            "package a\nfunc Go(a, b int) {}\n",
            "package a\nfunc Go(a, b, c int) {}\n",
            {"b.go": "package a\nfunc x() { Go(two()) }\n"},
        ),
        (
            "A.java",
            "class A {\n static int go(int a) { return 1; }\n}\n",
            "class A {\n static int go(int a) { return 1; }\n static int go(int a, int b) { return 1; }\n}\n",
            {"B.java": "class B { int x = A.go(1); }\n"},
        ),
        (
            "a.rb",
            "def go_on(a)\nend\n",
            "def go_on(a, b = 1, *c, d: 2, &e)\nend\n",
            {"b.rb": "go_on(1)\ngo_on 1\n"},
        ),
        ("a.rb", "def go_on(a)\nend\n", "def go_on(a, b)\nend\n", {"b.rb": "go_on(*c)\n"}),
        (
            "a.rs",
            "impl A { fn go_on(&self) {} }\n",
            "impl A { fn go_on(&self, b: u8) {} }\n",
            {"b.rs": "use crate::a::A;\nfn x() { A::go_on(&a); }\n"},
        ),
        (
            "a.php",
            "<?php function go_on($a) {}\n",
            "<?php function go_on($a, $b = 1) {}\n",
            {"b.php": "<?php go_on(1); go_on(...$c);\n"},
        ),
        (
            "a.cpp",
            "int go_on(int a) { return 1; }\n",
            "int go_on(int a, int b) { return 1; }\n",
            {"b.cpp": "int x() { return go_on(1); }\n", "a.hpp": "int go_on(int a, int b = 2);\n"},
        ),
        (
            "a.c",
            "static int go_on(int a) { return 1; }\n",
            "static int go_on(int a, int b) { return 1; }\n",
            {"b.c": "int x(void) { return go_on(1); }\n"},
        ),
        (
            "a.c",
            "int go_on() { return 1; }\n",
            "int go_on(void) { return 1; }\n",
            {"b.c": "int x(void) { return go_on(); }\n"},
        ),
    ],
)
def test_what_a_language_lets_pass(path: str, before: str, after: str, others: Mapping[str, str]) -> None:
    assert broken([diff(path, before, after)], others) == []


def test_what_the_language_has_itself_is_not_gone() -> None:
    own = "package a\n\nfunc min(a, b int) int { return a }\n\n"
    use = "func x() int { return min(1, 2) }\n"
    assert broken([diff("a.go", own + use, "package a\n\n" + use)], {}) == []


@pytest.mark.parametrize(
    ("path", "text", "old", "new"),
    [
        ("a.rb", "class A\n  def go(n)\n  end\n\n  def x\n    go(1)\n  end\nend\n", "(n)", "(n, m)"),
        (
            "a.php",
            "<?php\nclass A {\n function go($n) {}\n\n\n function x() { $this->go(1); }\n}\n",
            "($n)",
            "($n, $m)",
        ),
        ("a.php", "<?php\nclass A {\n function __construct($n) {}\n}\n\nnew A(1);\n", "($n)", "($n, $m)"),
        (
            "a.go",
            "package a\n\nfunc (a *A) goOn(n int) {}\n\n\nfunc x(a *A) { a.goOn(1) }\n",
            "(n int)",
            "(n, m int)",
        ),
        ("a.ts", "class A {\n static go(n: X) {}\n}\n\n\nA.go(1)\n", "(n: X)", "(n: X, m: X)"),
    ],
)
def test_methods_called_from_within_by_their_class_or_by_a_name_of_two_words(
    path: str, text: str, old: str, new: str
) -> None:
    [item] = broken([diff(path, text, text.replace(old, new))], {path: text.replace(old, new)})
    assert f"{path}:6" in item.message


def test_two_changed_languages_in_one_commit_hide_nothing_of_each_other() -> None:
    files = [
        diff("lib.js", "export function go_on(a) {}\n", "export const other = 1\n"),
        diff("lib.py", "def go_on(a):\n    pass\n", "other = 1\n"),
    ]
    others = {
        "b.py": "from lib import go_on\ngo_on(1)\n",
        "b.js": "import { go_on } from './lib';\ngo_on(1);\n",
    }
    told = [item.message for item in broken(files, others)]
    assert (
        len(told) == 2 and any("b.py:1" in text for text in told) and any("b.js:1" in text for text in told)
    )


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_hostile_nesting_is_read_within_bounds(language: str) -> None:
    text = "f(" * 20_000 + ")" * 20_000
    assert arities(text, language) == {}
    assert len(list(calls(text, language, "f"))) <= 20_000
