"""Who defines, who calls, what is called, what tests it: over a real index that follows the tree."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from indexers import fact_reader
from indexers.build import Builder
from indexers.config import IndexConfig
from indexers.errors import BusyError
from indexers.facts import FACTS_VERSION
from indexers.git import Repository
from indexers.ledger import Ledger
from indexers.locks import locked
from indexers.relations import Relations
from indexers.stored import StoredFacts
from indexers.types import Place, Progress, Use
from tests.repos import git, make_repo, write


class Indexed:
    """A repository with its index."""

    def __init__(self, directory: Path, files: Mapping[str, str | bytes]) -> None:
        self.root = make_repo(directory / "repo", files)
        (directory / "index").mkdir()
        self.ledger = Ledger(directory / "index" / "ledger.sqlite", directory / "index" / "vectors.sqlite")
        self.builder = Builder(
            Repository.discover(self.root), self.ledger, IndexConfig(), directory / "index", wait_seconds=1
        )
        self.builder.refresh()
        self.relations = Relations(self.ledger, self.builder.keep_facts)

    def change(self, files: Mapping[str, str]) -> None:
        write(self.root, files)
        self.builder.refresh()

    def called_by(self, name: str) -> list[str]:
        (place,) = self.relations.definitions_of(name)
        return labels(self.relations.called_by(place))

    def stored(self) -> int:
        with sqlite3.connect(self.ledger.path) as db:
            return int(db.execute("SELECT count(*) FROM facts").fetchone()[0])


def labels(places: Sequence[Place]) -> list[str]:
    return [".".join((place.path, *place.scope, place.name)) for place in places]


def lines(uses: Sequence[Use]) -> list[str]:
    return [f"{use.path}:{use.line} {'.'.join(use.enclosing)}".strip() for use in uses]


PYTHON = {
    "shop/cart.py": """\
from shop.prices import total_of
from shop import stock


class Cart:
    def add(self, item):
        self._check(item)
        stock.reserve(item)
        self.items.append(item)

    def _check(self, item):
        raise ValueError(item)

    def total(self):
        return total_of(self.items)


def checkout(cart):
    def pay():
        return cart.total()

    return pay()
""",
    "shop/prices.py": """\
def total_of(items):
    return sum(price(item) for item in items)


def price(item):
    return item.price
""",
    "shop/stock.py": "def reserve(item):\n    ...\n\n\ndef _check(item):\n    ...\n",
    "tests/test_cart.py": """\
from shop.cart import Cart, checkout


class TestCart:
    def test_add(self):
        Cart().add(1)


def test_checkout():
    assert checkout(Cart()) == 0


def helper():
    total_of([])
""",
    "docs.md": "# Cart\n\nCall `checkout(cart)` to pay.\n",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    return Indexed(tmp_path_factory.mktemp("shop"), PYTHON)


# -- who defines -----------------------------------------------------------------------------------


def test_definitions(shop: Indexed) -> None:
    (place,) = shop.relations.definitions_of("Cart.total")
    assert place == Place("shop/cart.py", 14, 14, 15, "total", "method", ("Cart",), "def total(self):")
    assert place.label == "shop/cart.py:14-15"
    assert labels(shop.relations.definitions_of("_check")) == [
        "shop/cart.py.Cart._check",
        "shop/stock.py._check",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cart", "shop/cart.py.Cart"),  # nothing is called so in this case
        ("Cart::total", "shop/cart.py.Cart.total"),
        ("Cart#total", "shop/cart.py.Cart.total"),
        ("Basket.total", ""),
        ("nowhere", ""),
        ("", ""),
        ("..", ""),
        ("\udcff", ""),
        ("x" * 10_000, ""),
        ('total" OR *', ""),
    ],
)
def test_definitions_by_odd_names(shop: Indexed, name: str, expected: str) -> None:
    assert labels(shop.relations.definitions_of(name)) == ([expected] if expected else [])
    assert shop.relations.callers_of(name) is not None
    assert shop.relations.tests_of(name) is not None


# -- who calls -------------------------------------------------------------------------------------


def test_callers(shop: Indexed) -> None:
    assert shop.relations.callers_of("checkout") == [
        Use(
            "tests/test_cart.py",
            10,
            "call",
            ("test_checkout",),
            9,
            "assert checkout(Cart()) == 0",
        )
    ]
    assert lines(shop.relations.callers_of("total")) == ["shop/cart.py:20 checkout.pay"]
    # Code stands before tests.
    assert lines(shop.relations.callers_of("total_of")) == [
        "shop/cart.py:15 Cart.total",
        "tests/test_cart.py:14 helper",
    ]
    assert lines(shop.relations.callers_of("total_of", 1)) == ["shop/cart.py:15 Cart.total"]


def test_uses_of_every_kind(shop: Indexed) -> None:
    uses = shop.relations.uses_of("total_of")
    assert [(use.line, use.kind) for use in uses if use.path == "shop/cart.py"] == [
        (1, "import"),
        (15, "call"),
    ]


def test_a_qualified_name_leaves_out_what_is_plainly_another(tmp_path: Path) -> None:
    code = """\
class Queue:
    def push(self): ...

    def twice(self):
        self.push()


class Stack:
    def push(self): ...

    def twice(self):
        self.push()


def work(thing):
    thing.push()
    Stack.push(thing)
"""
    relations = Indexed(tmp_path, {"a.py": code}).relations
    assert [use.line for use in relations.callers_of("push")] == [5, 12, 16, 17]
    assert [use.line for use in relations.callers_of("Queue.push")] == [5, 16]
    assert [use.line for use in relations.callers_of("Stack.push")] == [12, 16, 17]


# -- what tests ------------------------------------------------------------------------------------


def test_tests(shop: Indexed) -> None:
    assert lines(shop.relations.tests_of("checkout")) == ["tests/test_cart.py:10 test_checkout"]
    assert lines(shop.relations.tests_of("Cart")) == [
        "tests/test_cart.py:4 TestCart",
        "tests/test_cart.py:6 TestCart.test_add",
        "tests/test_cart.py:10 test_checkout",
    ]


def test_tests_by_their_name_and_in_the_file_itself(tmp_path: Path) -> None:
    files = {
        "api_test.go": 'package api\n\nfunc TestServe(t *T) {\n\tget("/")\n}\n',
        "api.go": "package api\n\nfunc Serve() {}\n",
        "lib.rs": "fn parse() {}\n\nmod tests {\n    fn numbers() {\n        parse();\n    }\n}\n",
    }
    relations = Indexed(tmp_path, files).relations
    assert lines(relations.tests_of("Serve")) == ["api_test.go:3 TestServe"]
    assert lines(relations.tests_of("parse")) == ["lib.rs:5 tests.numbers"]


# -- what is called --------------------------------------------------------------------------------


def test_called_from_python(shop: Indexed) -> None:
    assert shop.called_by("Cart.add") == ["shop/cart.py.Cart._check", "shop/stock.py.reserve"]
    assert shop.called_by("Cart.total") == ["shop/prices.py.total_of"]
    # A method is not called by its bare name, and what is defined inside is not told again.
    assert shop.called_by("checkout") == ["shop/cart.py.Cart.total"]
    # Whose `add` it is, nobody knows.
    assert shop.called_by("TestCart.test_add") == ["shop/cart.py.Cart"]


CALLS: dict[str, tuple[Mapping[str, str], str, list[str]]] = {
    "go": (
        {
            "web/app.go": """\
package web

import "x/web/bind"

func (a *App) Run() {
	a.start()
	bind.Default(1)
	help()
	x.String()
}

func (a *App) start() {}
""",
            "web/help.go": "package web\n\nfunc help() {}\n\ntype T struct{}\n\nfunc (t T) String() {}\n",
            "web/bind/bind.go": "package bind\n\nfunc Default(n int) {}\n",
            "other/help.go": "package other\n\nfunc help() {}\n\nfunc Default() {}\n",
        },
        "Run",
        ["web/app.go.App.start", "web/bind/bind.go.Default", "web/help.go.help"],
    ),
    "rust": (
        {
            "src/lib.rs": """\
use crate::route::Route;

impl Router {
    fn merge(self) {
        self.check();
        Route::new(1);
        tap!(self);
    }

    fn check(&self) {}
}

macro_rules! tap {
    () => {};
}
""",
            "src/route.rs": "impl Route {\n    pub fn new(n: u8) -> Self {\n        Route\n    }\n}\n",
            "src/node.rs": "impl Node {\n    pub fn new() -> Self {\n        Node\n    }\n}\n",
        },
        "merge",
        ["src/lib.rs.Router.check", "src/route.rs.Route.new", "src/lib.rs.tap"],
    ),
    "typescript": (
        {
            "src/store.ts": """\
import { reduce } from "./reduce";

export class Store {
  dispatch(a: Action) {
    this.check(a);
    return reduce(a).map(String);
  }
  private check(a: Action) {}
}
""",
            "src/reduce.ts": "export function reduce(a: Action) {\n  return [a];\n}\n",
            "lib/reduce.ts": "export function reduce() {}\n\nexport function map() {}\n",
        },
        "dispatch",
        ["src/store.ts.Store.check", "src/reduce.ts.reduce"],
    ),
    "java": (
        {
            "src/a/Gson.java": """\
package a;

import a.b.Reader;

class Gson {
  String toJson(Object o) {
    return write(new Reader(o));
  }

  String write(Reader r) { return r.readAll(); }
}
""",
            "src/a/b/Reader.java": """\
package a.b;

public class Reader {
  public Reader(Object o) {}

  public String readAll() { return null; }
}
""",
        },
        "toJson",
        ["src/a/b/Reader.java.Reader", "src/a/Gson.java.Gson.write"],
    ),
    "cpp": (
        {
            "absl/cord.h": """\
namespace absl {
class Cord {
 public:
  void Append(int n);
  void Grow(int n);
};
}
""",
            "absl/cord.cc": """\
#include "absl/cord.h"
#include "absl/check.h"
namespace absl {
void Cord::Append(int n) {
  Grow(n);
  Verify(n);
}

void Cord::Grow(int n) {
  n++;
}
}
""",
            "absl/check.h": "namespace absl {\ninline void Verify(int n) {}\n}\n",
        },
        "Append",
        ["absl/cord.cc.absl.Cord.Grow", "absl/check.h.absl.Verify"],
    ),
}


@pytest.mark.parametrize("language", CALLS)
def test_called_in_other_languages(language: str, tmp_path: Path) -> None:
    files, name, expected = CALLS[language]
    relations = Indexed(tmp_path, files).relations
    place = max(relations.definitions_of(name), key=lambda place: place.end_line - place.line)
    assert labels(relations.called_by(place)) == expected


def test_what_could_be_several_is_left_out(tmp_path: Path) -> None:
    files = {f"src/p{n}/m{n}.py": "def render(x):\n    ...\n" for n in range(2)}
    files["main.py"] = "def main():\n    render(1)\n    only_one()\n    x.get()\n"
    files["src/one.py"] = "def only_one():\n    ...\n\n\nclass Map:\n    def get(self):\n        ...\n"
    assert Indexed(tmp_path, files).called_by("main") == ["src/one.py.only_one"]


# -- keeping up with the tree ----------------------------------------------------------------------


def test_only_files_that_hold_a_name_are_parsed(tmp_path: Path) -> None:
    indexed = Indexed(tmp_path, PYTHON)
    assert indexed.stored() == 0
    indexed.relations.callers_of("reserve")
    assert indexed.stored() == 2
    indexed.relations.files()
    assert indexed.stored() == len(PYTHON)


def test_a_change_parses_only_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed = Indexed(tmp_path, PYTHON)
    indexed.relations.files()
    parsed: list[str] = []
    read = fact_reader.read_file

    def reading(pieces: Sequence[object], language: str) -> object:
        parsed.append(language)
        return read(pieces, language)  # type: ignore[arg-type]

    monkeypatch.setattr(fact_reader, "read_file", reading)
    indexed.change({"shop/new.py": "def fresh():\n    reserve(1)\n"})
    fresh = Relations(indexed.ledger, indexed.builder.keep_facts)
    for relations in (fresh, indexed.relations):
        assert lines(relations.callers_of("reserve")) == ["shop/cart.py:8 Cart.add", "shop/new.py:2 fresh"]
    assert parsed == ["python"]
    (indexed.root / "shop/new.py").unlink()
    git(indexed.root, "mv", "shop/cart.py", "shop/basket.py")
    indexed.builder.refresh()
    fresh = Relations(indexed.ledger, indexed.builder.keep_facts)
    for relations in (indexed.relations, fresh):
        assert lines(relations.callers_of("reserve")) == ["shop/basket.py:8 Cart.add"]
    assert indexed.stored() == len(PYTHON)


def test_facts_go_with_the_files_they_were_read_from(tmp_path: Path) -> None:
    indexed = Indexed(tmp_path, {"a.py": "def secret_name(): ...\n", "b.py": "x()\n"})
    indexed.relations.files()
    indexed.change({"a.py": "def other(): ...\n"})
    assert indexed.stored() == 1
    git(indexed.root, "rm", "-q", "b.py", "--cached")
    (indexed.root / "b.py").unlink()
    indexed.builder.refresh()
    assert indexed.stored() == 0


def test_equal_files_are_parsed_once_and_both_found(tmp_path: Path) -> None:
    indexed = Indexed(tmp_path, {"a.py": "def f():\n    g()\n", "b/a.py": "def f():\n    g()\n"})
    assert lines(indexed.relations.callers_of("g")) == ["a.py:2 f", "b/a.py:2 f"]
    assert indexed.stored() == 1


def test_an_index_from_before_there_was_a_graph(tmp_path: Path) -> None:
    indexed = Indexed(tmp_path, PYTHON)
    with sqlite3.connect(indexed.ledger.path) as db:
        db.executescript("DROP TRIGGER facts_of_removed; DROP TRIGGER facts_of_changed; DROP TABLE facts;")
    indexed.ledger.close()
    ledger = Ledger(indexed.ledger.path, indexed.ledger.vectors_path)
    assert lines(Relations(ledger).callers_of("reserve")) == ["shop/cart.py:8 Cart.add"]


def test_facts_of_another_version_are_made_anew(tmp_path: Path) -> None:
    indexed = Indexed(tmp_path, PYTHON)
    indexed.relations.files()
    with sqlite3.connect(indexed.ledger.path) as db:
        db.execute("UPDATE facts SET version = ?, defined = 'not ours'", (FACTS_VERSION + 1,))
    relations = Relations(indexed.ledger, indexed.builder.keep_facts)
    assert len(relations.files()) == len(PYTHON)
    assert indexed.ledger.facts(FACTS_VERSION + 1) == []


def test_facts_of_what_changed_meanwhile_are_not_stored(tmp_path: Path) -> None:
    indexed = Indexed(tmp_path, {"a.py": "x()\n"})
    (before,) = indexed.ledger.listed()
    indexed.change({"a.py": "y()\n"})
    assert indexed.ledger.pieces(before) == []
    indexed.builder.keep_facts([StoredFacts(before, "[]", "[[],[]]")])
    assert indexed.stored() == 0


def test_while_another_process_writes_facts_are_kept_in_memory(tmp_path: Path) -> None:
    indexed = Indexed(tmp_path, PYTHON)
    release, held = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(indexed.builder.lock):
            held.set()
            release.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    try:
        with pytest.raises(BusyError):
            indexed.builder.keep_facts([])
        for _ in range(2):
            assert lines(indexed.relations.callers_of("reserve")) == ["shop/cart.py:8 Cart.add"]
            assert len(indexed.relations.files()) == len(PYTHON)
        assert indexed.stored() == 0
    finally:
        release.set()
        holder.join()


def test_progress_of_long_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed = Indexed(tmp_path, PYTHON)
    seen: list[Progress] = []
    Relations(indexed.ledger, on_progress=seen.append).files()
    assert seen == []
    monkeypatch.setattr(fact_reader, "_QUIET_SECONDS", -1.0)
    Relations(indexed.ledger, on_progress=seen.append).files()
    assert [(event.stage, event.done, event.total) for event in seen] == [
        ("parse", number, len(PYTHON)) for number in range(1, len(PYTHON) + 1)
    ]


def test_ranks(shop: Indexed) -> None:
    ranks = shop.relations.ranks()
    assert ranks.files["shop/cart.py"] > ranks.files["shop/stock.py"] > ranks.files["docs.md"]
    # What is inside of a function is nobody else's business.
    assert not [name for _, name in ranks.names if name == "pay"]
    assert ranks == shop.relations.ranks()
