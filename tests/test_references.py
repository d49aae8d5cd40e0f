"""What a text uses: calls, types, imports and other names in the languages we promise, and in hostile texts."""

from __future__ import annotations

import random
import time

import pytest

from indexers import syntax
from indexers.facts import (
    CALL,
    IMPORT,
    NAME,
    TYPE,
    Defined,
    FileFacts,
    Piece,
    decode_defined,
    decode_used,
    encode_defined,
    encode_used,
    whole_lines,
)
from indexers.languages import _GRAMMARS
from indexers.reference_patterns import LEAVES, QUERIES
from indexers.references import _table, read_file, read_text

# language -> text; what it calls, names as types and otherwise uses, as `receiver.name`; some words of its imports
SNIPPETS: dict[str, tuple[str, str, str, str]] = {
    "python": (
        """\
from .core import Context as Ctx, helper
import os.path

@decorated
class Client(Base):
    def run(self, name: Kind, *rest, flag=DEFAULT):
        # comment_call()
        total = name.go(1, key=LIMIT)
        other = helper(total) + "string_call()"
        for item in rest:
            self.stop(item)
        return f"{formatted(flag)}"
""",
        "decorated name.go helper self.stop formatted",
        "",
        "Base Kind DEFAULT LIMIT",
        "core Context helper os path",
    ),
    "javascript": (
        """\
import { one, two as deux } from './util/one.js';
const fs = require('fs-extra');
export * from "./barrel";
function run(a, { b, c: d }) {
  const y = a.go(1);
  new Thing(y, b);
  return { key: other(d), y, LIMIT };
}
""",
        "require a.go Thing other",
        "",
        "LIMIT",
        "one two util fs extra barrel",
    ),
    "typescript": (
        """\
import type { Foo } from "./types";
class C extends Base<T> implements Shape {
  @decorated() run(n: Foo, o?: Other): Result {
    const y = n.go<number>(1);
    const { p, q: r } = y;
    return new Thing(p, r, LIMIT);
  }
}
""",
        "decorated n.go Thing",
        "T Shape Foo Other Result",
        "Base LIMIT",
        "Foo types",
    ),
    "tsx": (
        """\
export const App = (props: Props) => <Page title='a' onClick={props.go}><Icon/>{render(props)}</Page>;
""",
        "Page Icon render",
        "Props",
        "props.go",
        "",
    ),
    "go": (
        """\
package web

import (
\t"fmt"
\tbind "example.org/web/binding"
)

type Reader interface { Read(p []byte) error }

func (c *Context) Bind(obj Model) (err error) {
\ty, found := bind.Default(c.Request)
\tfmt.Println(y, LIMIT)
\tgeneric[string](found)
\treturn helper(Options{Name: y})
}
""",
        "bind.Default fmt.Println generic helper",
        "byte error Context Model Options string",
        "fmt bind LIMIT",
        "fmt example web binding",
    ),
    "rust": (
        """\
use crate::routing::{Route, strip};

impl Service for Router {
    fn call(&self, req: Request) -> Reply {
        let y = self.inner.go(1);
        Route::<T>::new(y);
        helper::<u8>(LIMIT);
        println!("{}", inside(req));
        Point { x: 1 }
    }
}
""",
        "inner.go ?.new helper println inside",
        "Service Request Reply Route T Point",
        "LIMIT",
        "crate routing Route strip",
    ),
    "java": (
        """\
package org.example;

import org.example.util.Helper;

class Client extends Base implements Shape {
    @Override
    Foo run(List<Foo> n) throws Failure {
        var y = n.go(LIMIT);
        new Thing<>(y);
        n.forEach(Client::deep);
        return Helper.help(y);
    }
}
""",
        "n.go Thing n.forEach Helper.help",
        "Base Shape Foo List Foo Failure var",
        "Override LIMIT Client Client.deep",
        "org example util Helper",
    ),
    "cpp": (
        """\
#include "absl/strings/str_cat.h"
using ns::Name;
namespace web {
class Client : public Base {
 public:
  Foo run(const Foo& n, int* q) {
    auto y = n.go(1);
    p_->deep(LIMIT);
    ns::make<int>(2);
    helper<int>(y);
    new Thing(q);
    return y;
  }
};
}
""",
        "n.go p_.deep ns.make helper Thing",
        "Base Foo Foo ns",
        "p_ LIMIT",
        "absl strings str_cat ns Name",
    ),
    "c": (
        """\
#include <uv/loop.h>
int run(struct loop *l, int n) {
  int y = go(l->next, LIMIT);
  l->stop(n);
  return y;
}
""",
        "go l.stop",
        "loop",
        "LIMIT",
        "uv loop",
    ),
    "ruby": (
        """\
require "rack/utils"

class Client < Base
  include Mixin
  def run(n, m: 1)
    y = n.go 1
    helper
    Thing.new(LIMIT)
    other(y, m)
  end
end
""",
        "require include n.go helper Thing.new other",
        "Base Mixin Thing LIMIT",
        "",
        "rack utils",
    ),
    "elixir": (
        """\
defmodule Web.Router do
  alias Web.Scope
  @spec run(term) :: :ok
  def run(n, m) when is_list(n) do
    y = Scope.push(n)
    helper y
    n |> pipe() |> other
    %Route{a: m}
  end
end
""",
        "defmodule alias def spec is_list Scope.push helper pipe other",
        "Web.Scope Route Scope",
        "",
        "Web Scope",
    ),
    "php": (
        """\
<?php
use Web\\Level;
class Logger extends Base implements Shape {
  function run(Foo $n): Bar { $y = $n->go(1); Level::make(); new Thing(2); return helper(self::LIMIT); }
}
""",
        "$n.go Level.make Thing helper",
        "",
        "Base Shape Foo Bar Level self.LIMIT",
        "Web Level",
    ),
    "kotlin": (
        """\
import a.b.Foo
class A(val x: Int) : Base(x) {
 fun run(n: Foo) { val y = n.go(1)
 helper { it }
 Thing<Int>(y) }
}
""",
        "Base n.go helper Thing",
        "Int Foo Int",
        "it",
        "Foo",
    ),
    "swift": (
        """\
import UIKit
class A: Base {
 func run(with n: Foo) { let y = n.go(1)
 _ = Thing<Int>(x: y)
 list.map { $0 } }
}
""",
        "n.go Thing list.map",
        "Base Foo Int",
        "list",
        "UIKit",
    ),
    "csharp": (
        """\
using A.B;
class C : Base { Foo Run(Foo n) { var y = n.Go(1); new Thing<int>(2); Help<int>(3); a?.Deep(); } }
""",
        "n.Go Thing Help a.Deep",
        "",
        "Base Foo Foo a",
        "A B",
    ),
    "scala": (
        """\
import a.b.Foo
class C(x: Int) extends Base { def run(n: Foo) = { val y = n.go(1); new Thing(2); helper[Int](y); y } }
""",
        "n.go Thing helper",
        "Int Base Foo Int",
        "",
        "a b Foo",
    ),
    "lua": (
        """\
local M = require("a.b")
function M.run(n) local y = n:go(1); helper(LIMIT); M.deep{1}; shout "s"; return y end
""",
        "require n.go helper M.deep shout",
        "",
        "LIMIT",
        "a b",
    ),
    "bash": (
        'source ./lib.sh\nrun() { go "$1"; helper arg | pipe_it; x=$(inner a); }\n',
        "source go helper pipe_it inner",
        "",
        "",
        "lib",
    ),
    "haskell": (
        """\
module A where
import B.C (foo)
run :: Foo -> Bar
run n = go n $ helper (C.deep n)
 where x = 1
""",
        "go helper C.deep",
        "Foo Bar",
        "",
        "B C foo",
    ),
    "zig": (
        'const std = @import("std");\nfn run(n: Foo) void { const y = n.go(1); helper(LIMIT, y); }\n',
        "n.go helper",
        "",
        "Foo LIMIT",
        "std",
    ),
    # No list of ours says which nodes are names: their kinds do.
    "dart": (
        "class C extends Base { void run(int n) { n.go(1); helper(2); } }\n",
        "run n.go helper",
        "",
        "Base int n",
        "",
    ),
    "julia": ("using A: foo\nrun(n) = go(n) + A.deep(1)\n", "go A.deep", "", "A foo n A", ""),
}


def used(facts: FileFacts, kind: str) -> list[str]:
    return sorted(
        f"{item.receiver}.{item.name}" if item.receiver else item.name
        for item in facts.references
        if item.kind == kind
    )


@pytest.mark.parametrize("language", SNIPPETS)
def test_what_a_text_uses(language: str) -> None:
    text, calls, types, names, imports = SNIPPETS[language]
    facts = read_text(text, language)
    assert used(facts, CALL) == sorted(set(calls.split()))
    if types:
        assert used(facts, TYPE) == sorted(set(types.split()))
        assert not set(names.split()) - set(used(facts, NAME))
    else:
        assert used(facts, NAME) == sorted(set(names.split()))
    assert set(imports.split()) <= facts.imports


def test_lines_and_imported_names() -> None:
    text = "from a import (\n    one,\n    two,\n)\n\none()\nx = one(one())\n"
    facts = read_text(text, "python")
    assert [(r.kind, r.lines) for r in facts.references if r.name == "one"] == [
        (CALL, (6, 7, 7)),
        (IMPORT, (2,)),
    ]


def test_a_definition_does_not_use_itself() -> None:
    facts = read_text("def run():\n    run()\n\n\nclass Thing:\n    def run(self): ...\n", "python")
    assert [(r.name, r.lines) for r in facts.references] == [("run", (2,))]
    assert [d.path for d in facts.defined] == [("run",), ("Thing",), ("Thing", "run")]


def test_every_grammar_has_a_query_that_compiles() -> None:
    for grammar in sorted(set(_GRAMMARS.values())):
        syntax._query(grammar, _table(grammar).query)
    assert set(QUERIES) <= set(LEAVES) <= set(_GRAMMARS.values())


def test_scripts_of_a_component_keep_their_lines() -> None:
    script = "import { a } from './a';\nfunction run() {\n  a();\n}\n"
    text = f"<template>\n <p>x()</p>\n</template>\n<script lang='ts'>\n{script}</script>\n"
    facts = read_text(text, "vue")
    assert [(d.name, d.line, d.end_line) for d in facts.defined] == [("run", 6, 8)]
    assert [(r.name, r.kind, r.lines) for r in facts.references] == [("a", CALL, (7,)), ("a", IMPORT, (5,))]


def test_cells_of_a_notebook() -> None:
    pieces = [
        Piece(10, 12, "import a\n\nrun(a)"),
        Piece(20, 29, "def go():\n    run(1)"),  # two cells, with other JSON between them
        Piece(40, 40, "# Some *Markdown* that is no (code"),
    ]
    facts = read_file(pieces, "notebook")
    assert [(r.name, r.lines) for r in facts.references if r.kind == CALL] == [("run", (12,)), ("run", (20,))]
    assert [(d.name, d.line) for d in facts.defined] == [("go", 20)]


def test_text_without_a_grammar_has_definitions_only() -> None:
    assert read_text("create table users (id int);\n", "sql").defined[0].name == "users"
    assert read_text("# Title\n\ncall()\n", "markdown") == FileFacts()
    assert read_text(".button { color: red }\n", "css").references == ()


def test_lines_of_pieces() -> None:
    assert whole_lines([Piece(2, 3, "a\nb"), Piece(6, 6, "c")]) == ["", "a", "b", "", "", "c"]
    assert whole_lines([]) == []


def test_facts_survive_storing() -> None:
    for text, *_ in SNIPPETS.values():
        facts = read_text(text, "python")
        used_again, imports = decode_used(encode_used(facts))
        assert decode_defined(encode_defined(facts.defined)) == facts.defined
        assert [tuple(r[:3]) for r in used_again] == [tuple(r[:3]) for r in facts.references]
        assert [tuple(r.lines) for r in used_again] == [r.lines for r in facts.references]
        assert imports == facts.imports


def test_what_encloses_a_line() -> None:
    facts = FileFacts(
        (
            Defined("LIMIT", "constant", 1, 1, 9, ("LIMIT",)),
            Defined("C", "class", 2, 2, 8, ("C",)),
            Defined("run", "method", 3, 3, 5, ("C", "run")),
            Defined("stop", "method", 6, 6, 6, ("C", "stop")),
        )
    )
    found = {line: item.name for line, item in facts.enclosing(range(1, 12)).items()}
    assert found == {2: "C", 3: "run", 4: "run", 5: "run", 6: "stop", 7: "C", 8: "C"}


# -- hostile texts ---------------------------------------------------------------------------------

_WORDS = 'a b run self return if def class import ( ) { } [ ] . :: -> , ; = \n " # // < > ! @ |> 1'.split(" ")
HOSTILE = {
    "deep calls": "f(" * 1_500 + ")" * 1_500,
    "deeper calls": "f(" * 20_000 + ")" * 20_000,
    "names": "\n".join(f"n{i}" for i in range(10_000)),
    "dots": "a" + ".b" * 20_000,
    "a long name": "x" * 100_000 + "()",
    "imports": "\n".join(f"import a{i}.b{i}" for i in range(10_000)),
    "one import": "from a import (" + ", ".join(f"b{i}" for i in range(2_000)) + ")",
    "generics": "\n".join("foo<a<b<c<d<e,f<g<h<i<j<k" for _ in range(1_500)),
    "brackets": "\n".join(f"foo[a,b,c,d,e,f,g,h,i,j,k{i}" for i in range(1_500)),
    "nested": "".join(f"{' ' * i}def f{i}(a{i}):\n" for i in range(400)) + " " * 400 + "pass",
    "odd bytes": "def f\udcff(): return g\udcfe()\n" * 50,
    "nul": "def f():\x00 g()\n" * 500,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("language", ["python", "go", "rust", "typescript", "java", "cpp"])
def test_hostile_text_is_read_in_bounded_time(language: str, name: str) -> None:
    text = HOSTILE[name]
    started = time.thread_time()
    facts = read_text(text, language)
    # Parsing alone may take 0.2 s and 2 microseconds a byte before it is stopped.
    assert time.thread_time() - started < 1.0 + 5e-6 * len(text)
    assert all(r.name and len(r.name) <= 120 and r.lines for r in facts.references)
    assert decode_defined(encode_defined(facts.defined)) == facts.defined


def test_random_text_is_read_the_same_every_time() -> None:
    chooser = random.Random(7)
    for language in ("python", "go", "rust", "typescript", "cpp", "ruby", "swift", "scala"):
        text = " ".join(chooser.choice(_WORDS) for _ in range(3_000))
        assert read_text(text, language) == read_text(text, language)
