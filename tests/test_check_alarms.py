"""Ordinary commits that the deterministic checks must not stop, each beside a bad one that they must."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from test_checks import broken, diff, found

from chains.reviewing.checks import first, second
from chains.reviewing.types import FileDiff, Finding, Severity

GRAVE = (Severity.HIGH, Severity.CRITICAL)


def blocking(file: FileDiff) -> list[Finding]:
    return [item for item in (*first(file), *second(file)) if item.severity in GRAVE]


def stopped(before: FileDiff, others: Mapping[str, str]) -> list[Finding]:
    return [item for item in broken([before], others) if item.severity in GRAVE]


# --- callers: a name that is still there --------------------------------------------------------------

PROPERTY = "def cached_property(f):\n    return f\n\n\n@cached_property\ndef g(): ...\n"
USES_PROPERTY = "from tools import cached_property\n\n@cached_property\ndef h(): ...\ncached_property(1)\n"


@pytest.mark.parametrize(
    ("path", "before", "after", "others"),
    [
        ("tools.py", PROPERTY, "from functools import cached_property\n", {"b.py": USES_PROPERTY}),
        (
            "tools.py",
            PROPERTY,
            "try:\n    from functools import cached_property\nexcept ImportError:\n"
            "    from backports import cached_property\n",
            {"b.py": USES_PROPERTY},
        ),
        ("tools.py", PROPERTY, "cached_property, other = make()\n", {"b.py": USES_PROPERTY}),
        ("tools.py", PROPERTY, "from ._impl import *\n", {"b.py": USES_PROPERTY}),
        (
            "src/ui.js",
            "export function render(x) { return x; }\n",
            'import {render} from "preact";\nexport {render};\nrender(1);\n',
            {"src/b.js": 'import {render} from "./ui";\nrender(1);\n'},
        ),
        (
            "src/ui.js",
            "function render(x) { return x; }\nrender(1);\n",
            'const {render} = require("preact");\nrender(1);\n',
            {},
        ),
        (
            "src/a.rs",
            "pub fn helper() {}\nfn m() { helper(); }\n",
            "use other::helper;\nfn m() { helper(); }\n",
            {},
        ),
    ],
)
def test_a_definition_replaced_by_an_import_is_not_removed(
    path: str, before: str, after: str, others: Mapping[str, str]
) -> None:
    assert broken([diff(path, before, after)], others) == []


LOADS = "def loads(text):\n    return text\n\n\ndef other():\n    return 1\n"
RENDER = "export function render(x) { return x; }\nexport function other() {}\n"


@pytest.mark.parametrize(
    ("path", "before", "after", "user", "text", "breaks"),
    [
        ("pkg/codec.py", LOADS, LOADS[42:], "b.py", "from json import loads\nloads('1')\n", False),
        ("pkg/json.py", LOADS, LOADS[42:], "b.py", "from json import loads\nloads('1')\n", False),
        ("pkg/codec.py", LOADS, LOADS[42:], "b.py", "from pkg.codec import loads\nloads('1')\n", True),
        ("src/pkg/codec.py", LOADS, LOADS[42:], "b.py", "from pkg import loads\nloads('1')\n", True),
        ("pkg/codec.py", LOADS, LOADS[42:], "pkg/b.py", "from .codec import loads\nloads('1')\n", True),
        ("pkg/codec.py", LOADS, LOADS[42:], "pkg/b.py", "from .other import loads\nloads('1')\n", False),
        ("pkg/codec.py", LOADS, LOADS[42:], "b.py", "from pkg import codec as c\nc.loads('1')\n", True),
        ("pkg/codec.py", LOADS, LOADS[42:], "b.py", "import pkg.codec\npkg.codec.loads('1')\n", True),
        (
            "pkg/codec.py",
            LOADS,
            LOADS[42:],
            "b.py",
            "from pkg import codec\nloads, other = codec.make()\nloads('1')\n",
            False,
        ),
        (
            "pkg/codec.py",
            LOADS,
            LOADS[42:],
            "b.py",
            "from pkg import codec\n\ndef f(loads):\n    loads('1')\n",
            False,
        ),
        (
            "src/ui.js",
            RENDER,
            RENDER[40:],
            "src/b.js",
            'import {render} from "react-dom";\nrender(1);\n',
            False,
        ),
        ("src/ui.js", RENDER, RENDER[40:], "src/b.js", 'const {render} = require("x");\nrender(1);\n', False),
        ("src/ui.js", RENDER, RENDER[40:], "src/b.js", 'import {render} from "./ui.js";\nrender(1);\n', True),
        ("src/ui.ts", RENDER, RENDER[40:], "test/b.ts", 'import {render} from "../src";\nrender(1);\n', True),
        ("src/ui.ts", RENDER, RENDER[40:], "test/b.ts", 'import {render} from "@/ui";\nrender(1);\n', True),
        ("src/ui.js", RENDER, RENDER[40:], "src/b.js", 'const ui = require("./ui");\nui.render(1);\n', True),
        (
            "src/ui.js",
            RENDER,
            RENDER[40:],
            "src/b.js",
            'import {other} from "./ui";\nfunction f(render) {\n  render(1);\n}\n',
            False,
        ),
        (
            "src/a.rs",
            "pub fn helper() {}\n",
            "",
            "src/b.rs",
            "use serde::helper;\nfn m() { helper(); }\n",
            False,
        ),
        (
            "src/a.rs",
            "pub fn helper() {}\n",
            "",
            "src/b.rs",
            "use crate::a::helper;\nfn m() { helper(); }\n",
            True,
        ),
        (
            "a/a.go",
            "package a\n\nfunc Help() {}\n",
            "package a\n",
            "b/b.go",
            "package b\nfunc f() { Help() }\n",
            False,
        ),
        (
            "a/a.go",
            "package a\n\nfunc Help() {}\n",
            "package a\n",
            "a/b.go",
            "package a\nfunc f() { Help() }\n",
            True,
        ),
        (
            "a.c",
            "static int help_me(void) { return 1; }\n",
            "",
            "b.c",
            "int f(void) { return help_me(); }\n",
            False,
        ),
        ("a.c", "int help_me(void) { return 1; }\n", "", "b.c", "int f(void) { return help_me(); }\n", True),
        (
            "a.rb",
            "module Rack\n  class Multi\n    class Tempfile\n    end\n  end\nend\n",
            "module Rack\n  class Multi\n  end\nend\n",
            "b.rb",
            "require 'tempfile'\nTempfile.new('x')\nx = Tempfile.open\nclass A < Tempfile\nend\n",
            False,
        ),
        (
            "a.rb",
            "class Job < Base\n  def run_job(x)\n  end\n  def go\n    run_job(1)\n  end\nend\n",
            "class Job < Base\n  def go\n    run_job(1)\n  end\nend\n",
            "b.rb",
            "x.run_job(1)\n",
            False,
        ),
        ("pkg/codec.py", LOADS, LOADS[42:], "b.py", "import pkg.codec\nloads('1')\n", False),
    ],
)
def test_only_files_that_have_the_name_from_there_break(
    path: str, before: str, after: str, user: str, text: str, breaks: bool
) -> None:
    assert bool(stopped(diff(path, before, after), {user: text})) is breaks


@pytest.mark.parametrize(
    ("imported", "breaks"),
    [
        ("from json import dumps", False),
        ("from pkg.codec import dumps", True),
        ("from pkg.codec import *", True),
        ("def f(dumps): ...\nfrom pkg import codec\ndef g(dumps):\n    dumps(1)\ng(0)", False),
    ],
)
def test_another_signature_concerns_those_who_import_it(imported: str, breaks: bool) -> None:
    file = diff("pkg/codec.py", "def dumps(o):\n    pass\n", "def dumps(o, indent):\n    pass\n")
    call = "\ndumps(1)\n" if "def" not in imported else "\n"
    assert bool(broken([file], {"b.py": imported + call})) is breaks


STORE = "class Store:\n    def save(self):\n        pass\n\n    def get_item(self):\n        pass\n"
NEW_STORE = STORE.replace("(self)", "(self, commit)")


@pytest.mark.parametrize(
    ("text", "severity"),
    [
        ("class B(models.Model):\n    def f(self):\n        self.save()\n", None),
        ("from store import Store\nclass B(models.Model):\n    def f(self):\n        self.save()\n", None),
        ("from store import Store\nclass B(Store):\n    def f(self):\n        self.save()\n", Severity.HIGH),
        ("from store import Store\nStore.save(1, 2)\n", None),
        ("from store import Store\nStore.save(Store())\n", Severity.HIGH),
        ("from store import Store\nx = Store()\nx.save()\n", Severity.HIGH),
        ("from store import Store\ndef f(x: Store | None):\n    x.save()\n", Severity.HIGH),
        ("t = boto3.resource('x').Table('y')\nt.get_item()\n", Severity.MEDIUM),
        ("from store import Store\nt = boto3.Table('y')\nt.get_item()\n", Severity.MEDIUM),
        ("import store\n\ndef f(t):\n    t.get_item()\n", Severity.HIGH),
    ],
)
def test_a_method_is_called_only_where_it_plainly_is_that_one(text: str, severity: Severity | None) -> None:
    items = broken([diff("store.py", STORE, NEW_STORE)], {"b.py": text})
    assert [item.severity for item in items] == ([severity] if severity else [])
    assert all("may be" in item.message for item in items if item.severity is Severity.MEDIUM)


def test_a_nested_class_named_by_its_owner_is_surely_gone() -> None:
    file = diff("a.py", "class Outer:\n    class Inner:\n        pass\n", "class Outer:\n    pass\n")
    [item] = broken([file], {"b.py": "from a import Outer\nOuter.Inner()\n"})
    assert item.severity is Severity.HIGH


# --- syntax ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("a.sh", "#!/bin/bash\ntrue\n", "#!/bin/bash\nexec {fd}<>/tmp/x\n"),
        ("a.zsh", "true\n", "for f (*.txt) print $f\n"),
        ("types/a.d.ts", "export {};\n", "declare module 'x' { export = function( }\n"),
        *(
            (path, '{"a": 1}\n', '{\n  // why "not,]"\n  "a": "//b,}", /* c */\n  "d": [1, 2,],\n}\n')
            for path in (
                *("tsconfig.json", "pkg/tsconfig.build.json", "jsconfig.json", ".vscode/settings.json"),
                *(".eslintrc.json", "a.jsonc", ".devcontainer/devcontainer.json", "x.code-workspace"),
            )
        ),
        ("a.jsonl", '{"a": 1}\n', '{"a": 1}\n{"a": 2}\n'),
        ("a.py", "x = 1\n", "def first[T](x: T) -> T:\n    return x\n"),
        ("a.py", "x = 1\n", "class Box[T]:\n    x: T\n"),
        ("a.py", "x = 1\n", "type Pair = tuple[int, int]\n"),
        ("a.py", "x = 1\n", 'd = {}\nx = f"{d["a"]}"\n'),
        ("a.py", None, 'd = {}\nx = f"{d["a"]}"\n'),
        ("a.py", "x = 1\n", "{% if cookiecutter.x %}\nx = 1\n{% endif %}\n"),
        ("a.py", "x = 1\n", "import {{cookiecutter.name}}.core\n"),
        ("a.json", None, '{\n  // a comment\n  "a": 1\n}\n'),
        ("a.json", None, '{"a": {{ value }} }\n'),
        ("tests/data/bad.json", None, '{"a": \n'),
        ("a.toml", "x = 1\n", 'x = 1\n[a]\ny = "z"\n'),
        ("a.toml", None, "x = {{ value }}\n"),
        ("a.js", None, "// @flow\nfunction f(x: ?string): void {}\n"),
        ("a.js", None, "type A = {x: number};\nconst a: A = {x: 1};\n"),
        ("a.js", None, "const a = <b>{x}</b>;\n"),
    ],
)
def test_what_some_reader_takes_for_valid(path: str, before: str | None, after: str) -> None:
    assert [item for item in found(diff(path, before, after)) if item[0] == "syntax"] == []


@pytest.mark.parametrize(
    ("path", "before", "after", "line"),
    [
        ("a.json", '{"a": 1}\n', '{"a":1\n', 1),
        ("a.json", None, '{"a":1', 1),
        ("tsconfig.json", '{"a": 1}\n', '{\n  // x\n  "a": 1 2\n}\n', 3),
        ("a.toml", "x = 1\n", "x = 1\ny = \n", 2),
        ("a.toml", None, "[a\n", 1),
        ("a.py", "x = 1\n", "def first[T](x:\n    return x\n", 1),
        ("a.py", "x = 1\n", 'print "x"\n', 1),
        ("a.py", "x = 1\n", 'x = f"{d["a"}"\n', 1),
    ],
)
def test_what_is_broken_is_told_at_a_line_that_is_there(
    path: str, before: str | None, after: str, line: int
) -> None:
    [item] = second(diff(path, before, after))
    assert (item.category, item.line, item.severity) == ("syntax", line, Severity.HIGH) and item.quote


def test_a_new_script_that_no_grammar_reads() -> None:
    [item] = second(diff("a.js", None, "function f( {\n  return 1;\n"))
    assert (item.category, item.severity) == ("syntax", Severity.MEDIUM)


# --- leftovers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.py", "class A:\n    def breakpoint(self):\n        pass\n"),
        ("a.py", "from bisect_tool import breakpoint\nbreakpoint(1)\n"),
        ("a.py", "def set_trace(x):\n    pass\n"),
        ("a.php", "<?php\nfunction dd($x) { return $x; }\n"),
        ("tests/a.test.js", 'import {fit} from "curve";\nfit([1, 2]);\n'),
        ("tests/a.test.js", "function fit(x) { return x; }\nfit([1, 2]);\n"),
        ("a.js", "const x = 'if (x) { debugger }';\n"),
    ],
)
def test_names_of_their_own_are_no_leftovers(path: str, text: str) -> None:
    assert [item for item in found(diff(path, "", text)) if item[0] == "debug"] == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.js", "if (x) { debugger }\n"),
        ("a.js", "const a = 'debugger;'; debugger;\n"),
        ("tests/a.test.js", "it.only.each([1])('x', f);\n"),
        ("tests/a.test.js", "describe.only.each`a`('x', f);\n"),
        ("tests/a.test.js", "test.concurrent.only('x', f);\n"),
        ("tests/a.test.js", "fit('x', f);\n"),
        ("a.py", "from pdb import set_trace; set_trace()\n"),
        ("a.py", '__import__("pdb").set_trace()\n'),
        ("a.php", "<?php dd($x);\n"),
    ],
)
def test_leftovers_in_other_shapes(path: str, text: str) -> None:
    assert [(item.category, item.severity) for item in second(diff(path, "", text))] == [
        ("debug", Severity.HIGH)
    ]


# --- characters, markers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text", "severity"),
    [
        ("a.py", 'x = "Donau\u00addampf"\n', Severity.MEDIUM),
        ("a.py", "# Donau\u00addampf\n", Severity.MEDIUM),
        ("a.md", "Donau\u00addampf\n", Severity.MEDIUM),
        ("a.py", 'if admin\u00ad == "a\u00adb":\n    pass\n', Severity.HIGH),
        ("a.py", 'x = "a\u202eb"\n', Severity.HIGH),
        ("a.py", 'x = "a\u200bb"\n', Severity.HIGH),
    ],
)
def test_a_soft_hyphen_that_is_only_said(path: str, text: str, severity: Severity) -> None:
    assert [(item.category, item.severity) for item in first(diff(path, "", text))] == [
        ("hidden-text", severity)
    ]


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        *(
            ("ρ_max = 1", False),
            ("αs = [1]", False),
            ("dν = 1", False),
            ("maxΔν = 1", False),
            ("χ2 = 1", False),
        ),
        *(("APIклиент = 1", False), ("αMax = 1", False), ("naïve = 1", False), ("pαssword = 1", True)),
        *(("p\u0430ssword = 1", True), ("is_\u0430dmin = 1", True), ("isAd\u043cin = 1", False)),
        ("\u0410dmin = 1", True),
    ],
)
def test_greek_quantities_are_no_look_alikes(line: str, seen: bool) -> None:
    assert found(diff("a.jl", "", f"{line}\n")) == ([("hidden-text", 1)] if seen else [])


@pytest.mark.parametrize(
    ("path", "text", "lines"),
    [
        ("a.rst", "Title\n>>>>>>>\n\nOther\n<<<<<<<\n\nThird\n=======\n", []),
        ("a.rst", "First\n<<<<<<<\n\nTitle\n=======\n\nLast\n>>>>>>>\n", []),
        ("a.md", ">>>>>>> quoted seven times\n", []),
        ("a.py", "a\n>>>>>>> side\n", [2]),
        ("a.rst", "a\n<<<<<<< HEAD\n", [2]),
        ("a.rst", "<<<<<<<\na\n||||||| base\nb\n=======\nc\n>>>>>>> side\n", [1, 3, 7]),
        ("a.txt", "<<<<<<< HEAD\r\na\r\n=======\r\nc\r\n>>>>>>> side\r\n", [1, 5]),
    ],
)
def test_underlined_headings_are_no_conflict(path: str, text: str, lines: list[int]) -> None:
    assert [item.line for item in first(diff(path, "", text)) if item.category == "merge-marker"] == lines


# --- what runs by itself -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [".github/workflows/ci.yml", ".pre-commit-config.yaml", ".gitattributes", ".agent.toml"]
)
def test_what_ran_by_itself_is_taken_away(path: str) -> None:
    text = "a: 1\n"
    for file in (diff(path, text, None), diff("old/x.txt", text, text, old_path=path)):
        [item] = first(file)
        assert (item.category, item.severity) == ("self-running", Severity.MEDIUM) and path in item.message
    assert list(first(diff("src/a.txt", text, None))) == []


@pytest.mark.parametrize(
    ("path", "line", "seen"),
    [
        ("package.json", '{"scripts": {"postinstall": "curl x|sh"}}', True),
        ("package.json", '{"scripts": {"a": "b", "prepare": "husky"}}', True),
        ("package.json", '{"scripts": {"build": "tsc"}}', False),
        *((path, "x = 1", True) for path in ("CODEOWNERS", ".github/CODEOWNERS")),
        *((path, "x = 1", False) for path in ("tests/conftest.py", "setup.py", "Makefile", "Dockerfile")),
        *((path, "x = 1", True) for path in ("hooks/pre-push", "scripts/hooks/commit-msg")),
        *((path, "x = 1", False) for path in ("src/hooks/post-list.ts", "src/setup.pyi", "docs/makefile.md")),
    ],
)
def test_more_that_runs_by_itself(path: str, line: str, seen: bool) -> None:
    items = [item for item in first(diff(path, "", f"{line}\n")) if item.category == "self-running"]
    assert len(items) == seen


def test_texts_made_to_be_slow_are_not() -> None:
    import time

    started = time.process_time()
    deep = "x = " + "+".join(f"n{number}" for number in range(1_500)) + "\n"
    caller = f"from lib import go_on\n{deep}\ndef f():\n    y = {deep[4:]}    go_on(1)\n"
    file = diff("lib.py", "def go_on(a):\n    pass\n", f"{deep}\ndef go_on(a, b):\n    pass\n")
    assert len(broken([file], {"b.py": caller})) == 1
    assert len(broken([diff("lib.py", "def go_on(a):\n    pass\n", deep)], {"b.py": caller})) == 1
    for text in ("{" + "// " * 20_000, "{" + "/*" * 20_000, "[" + ", " * 20_000, "{," + " " * 20_000):
        list(second(diff("tsconfig.json", "{}\n", text)))
    script = "import " * 10_000 + "const {" * 10_000
    list(
        broken([diff("a.js", "function go_on() {}\n", "go_on();\n" + script)], {"b.js": f"go_on()\n{script}"})
    )
    list(first(diff("a.py", "", "x = 'a\u00adb'\n" * 2_000)))
    list(second(diff("a.py", "", "breakpoint()\n" * 2_000)))
    assert time.process_time() - started < 20


# -- what belongs to somebody else ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "before", "after", "user", "text"),
    [
        # A default export has the name that its importer gives it.
        (
            "a.js",
            "export default function Foo(a) {}\n",
            "export default function Bar(a) {}\n",
            "b.js",
            "import Foo from './a';\nFoo(1);\n",
        ),
        (
            "a.js",
            "export default function Foo(a) {}\n",
            "export default memo((a) => 1);\n",
            "b.js",
            "import Foo from './a';\nFoo(1);\n",
        ),
        # The language's own packages, and other people's.
        (
            "internal/errors/e.go",
            "package errors\nfunc New(a string) {}\n",
            "package errors\nfunc New(a string, b int) {}\n",
            "cmd/m.go",
            'package main\nimport "errors"\nfunc m() { errors.New("x") }\n',
        ),
        (
            "store/log.go",
            "package store\nfunc Print(a int) {}\n",
            "package store\n",
            "m.go",
            'package main\nimport "log"\nfunc m() { log.Print(1) }\n',
        ),
        (
            "src/fs.rs",
            "pub fn read_all(a: &str) {}\n",
            "pub fn read_all(a: &str, b: u8) {}\n",
            "src/b.rs",
            'fn m() { std::fs::read_all("x"); }\n',
        ),
        (
            "a.cpp",
            "int format(int a) { return 1; }\n",
            "int format(int a, int b) { return 1; }\n",
            "b.cpp",
            "int m() { return std::format(1); }\n",
        ),
        ("lib/json.rb", "def parse(a)\nend\n", "def parse(a, b)\nend\n", "b.rb", "x.json.parse(1)\n"),
        (
            "p/Config.java",
            "package p;\nclass Config {\n Config(String a) {}\n}\n",
            "package p;\nclass Config {\n Config(String a, int b) {}\n}\n",
            "q/B.java",
            "import com.lib.Config;\nclass B { Object x = new Config(1); }\n",
        ),
        (
            "Request.php",
            "<?php\nnamespace App;\nclass Request {\n function __construct($a) {}\n}\n",
            "<?php\nnamespace App;\nclass Request {\n function __construct($a, $b) {}\n}\n",
            "b.php",
            "<?php\nuse GuzzleHttp\\Request;\nnew Request(1);\n",
        ),
        (
            "src/utils/debounce.ts",
            "export function debounce(a: X) {}\n",
            "export function debounce(a: X, b: Y) {}\n",
            "b.ts",
            "import debounce from 'debounce';\ndebounce('1');\n",
        ),
        (
            "src/utils/retry.py",
            "def retry(a):\n    pass\n",
            "def retry(a, b):\n    pass\n",
            "b.py",
            "from retry import retry\nretry(1)\n",
        ),
        # Names that every object has.
        (
            "A.java",
            'class A {\n public String toString() { return ""; }\n}\n',
            "class A {\n}\n",
            "B.java",
            "class B { String x(Object o) { return o.toString(); } }\n",
        ),
        (
            "a.rs",
            "impl A {\n pub fn from_str(a: &str) {}\n}\n",
            "impl A {\n}\n",
            "b.rs",
            "use crate::a::A;\nfn m() { serde_json::from_str(1); }\n",
        ),
        (
            "a.rs",
            "impl A {\n pub fn with_room(a: u8) {}\n}\n",
            "impl A {\n}\n",
            "b.rs",
            "use crate::a::A;\nfn m() { Vec::with_room(1); }\n",
        ),
        # Removed, and still there by other means.
        (
            "a.rb",
            "class A\n  def full_name\n  end\nend\n",
            "class A\n  attr_reader :full_name\nend\n",
            "b.rb",
            "user.full_name\n",
        ),
        (
            "a.py",
            "class A:\n    def run_it(self):\n        pass\n",
            "class A:\n    run_it = partialmethod(go, 1)\n",
            "b.py",
            "from a import A\nA().run_it()\n",
        ),
        (
            "a.ts",
            "class A extends Base {\n onLoad() {}\n go() { this.onLoad(); }\n}\n",
            "class A extends Base {\n go() { this.onLoad(); }\n}\n",
            "b.ts",
            "import { A } from './a';\n",
        ),
        (
            "a.js",
            "function get() {}\nmodule.exports = { get };\n",
            "module.exports = { get: require('lib').get };\n",
            "b.js",
            "const { get } = require('./a');\nget();\n",
        ),
        (
            "a.py",
            "def old_name():\n    pass\n",
            "def __getattr__(name):\n    return 1\n",
            "b.py",
            "from a import old_name\nold_name()\n",
        ),
        # Something else of that name.
        (
            "a.go",
            "package a\nfunc run(s string) {}\n",
            "package a\n",
            "b.go",
            'package a\nfunc t() { run := func(s string) {}; run("x") }\n',
        ),
        (
            "a.c",
            "int work(int a) { return 1; }\n",
            "",
            "b.c",
            "int m(int (*work)(int)) { return work(1); }\n",
        ),
        # What a language lets a call do.
        (
            "a.php",
            "<?php function foo_bar($a, $b) {}\n",
            "<?php function foo_bar($a) {}\n",
            "b.php",
            "<?php foo_bar(1, 2);\n",
        ),
        (
            "a.php",
            "<?php function foo_bar($a) {}\n",
            "<?php function foo_bar($a, $b) {}\n",
            "b.php",
            "<?php $f = foo_bar(...);\n",
        ),
        (
            "a.js",
            "export function get(a) {}\n",
            "export function get(a, b) { return (c) => 1 }\n",
            "b.js",
            "import { get } from './a';\nget('1', 2)(3);\n",
        ),
    ],
)
def test_what_belongs_to_somebody_else_is_left_alone(
    path: str, before: str, after: str, user: str, text: str
) -> None:
    assert broken([diff(path, before, after)], {user: text}) == []


def test_a_package_of_go_is_known_by_its_path_under_any_name() -> None:
    changed = diff("x/work/w.go", "package work\nfunc Do(a int) {}\n", "package work\nfunc Do(a, b int) {}\n")
    text = 'package main\n\nimport ww "example.org/x/work"\n\nfunc m() { ww.Do(1) }\n'
    [item] = broken([changed], {"m.go": text})
    assert "m.go:5" in item.message
