"""Definitions in the twenty languages we promise, and a few more."""

from __future__ import annotations

import pytest

from indexers.chunking import chunk_source
from indexers.config import IndexConfig
from indexers.symbols import definitions, parses
from indexers.types import SourceFile

# language -> (text, "name kind line" of every definition expected)
SNIPPETS: dict[str, tuple[str, str]] = {
    "python": (
        '''\
# How often to try.
RETRIES = 3
timeout: float = 1.5


class Client(Base):
    """Talks to the server."""

    # Opens the connection.
    @property
    def open(self) -> None:
        def inner() -> int:
            local = 1
            return local

        inner()

    async def close(self): ...


def main() -> int:
    x = 1
    return x
''',
        """RETRIES constant 2, timeout constant 3, Client class 6, open method 11, inner function
        12, close method 18, main function 21""",
    ),
    "javascript": (
        """\
// Limits.
const LIMIT = 3;
export const run = async (a) => {
  const local = 1;
  return a;
};
exports.stop = function () {};
class Queue extends Base {
  size = 0;
  onDone = () => 1;
  // Adds one.
  push(item) {
    return item;
  }
}
function* walk() {}
export default function start() {}
const api = { fetch: function () {} };
""",
        """LIMIT constant 2, run function 3, stop function 7, Queue class 8, onDone method 10, push
        method 12, walk function 16, start function 17, api constant 18, fetch function 18""",
    ),
    "typescript": (
        """\
/** A point. */
export interface Point {
  x: number;
  norm(): number;
}
type Pair = [Point, Point];
enum Color { Red }
namespace Geo {
  export function area(): number { return 1; }
}
@Injectable()
export abstract class Shape {
  // Its area.
  abstract area(): number;
  private scale(by: number): number { return by; }
  handler = (): void => {};
}
export const origin: Point = { x: 0 };
""",
        """Point class 2, norm method 4, Pair type 6, Color class 7, Geo module 8, area function 9,
        Shape class 12, area method 14, scale method 15, handler method 16, origin constant 18""",
    ),
    "tsx": (
        """\
// A button.
export const Button = (p: Props) => <b>{p.text}</b>;
export function App() {
  return <Button text="x" />;
}
""",
        "Button function 2, App function 3",
    ),
    "go": (
        """\
package main

// Limits.
const (
	Max = 3
	Min
)

var Default, Other = 1, 2

// Stack is a stack.
type Stack[T any] struct{ items []T }

type Reader interface{ Read() }

type ID int

// Push adds.
func (s *Stack[T]) Push(item T) {
	var local = 1
	_ = local
}

func New() *Stack[int] { return nil }
""",
        """Max constant 5, Min constant 6, Default constant 9, Other constant 9, Stack class 12,
        Reader class 14, ID type 16, Push method 19, New function 24""",
    ),
    "rust": (
        """\
//! Shapes.

/// A circle.
#[derive(Debug)]
pub struct Circle<T> {
    r: T,
}

impl<T> Area for Circle<T> {
    type Output = T;
    const SIDES: u32 = 0;
    /// Its area.
    fn area(&self) -> T {
        todo!()
    }
}

pub trait Area {
    fn area(&self);
}
enum Kind { A }
mod inner {
    pub fn helper() {}
}
static COUNT: u32 = 1;
type Pair = (u32, u32);
macro_rules! square { ($x:expr) => { $x * $x }; }
""",
        """Circle class 5, SIDES constant 11, area method 13, Area class 18, area method 19, Kind
        class 21, inner module 22, helper function 23, COUNT constant 25, Pair type 26, square
        function 27""",
    ),
    "java": (
        """\
package a.b;

/** A cache. */
@Service
public class Cache<K> extends Base {
    static final int SIZE = 3;

    public Cache() {}

    // Finds one.
    @Override
    public int get(K key) {
        int local = 1;
        return local;
    }

    enum Mode { A }
}

interface Store { void put(); }
record Point(int x) {}
""",
        """Cache class 5, SIZE constant 6, Cache method 8, get method 12, Mode class 17, Store
        class 20, put method 20, Point class 21""",
    ),
    "kotlin": (
        """\
package a.b

// A user.
data class User(val name: String) {
    fun greet(): String = name

    companion object Factory {
        const val MAX = 3
    }
}

interface Repo {
    fun find(): User
}

object Registry {
    fun add() {
        val local = 1
    }
}

fun String.shout(x: Int) = x
typealias Id = Int
val top = 3
""",
        """User class 4, greet method 5, Factory class 7, MAX constant 8, Repo class 12, find
        method 13, Registry class 16, add method 17, shout function 22, Id type 23, top constant
        24""",
    ),
    "c": (
        """\
#include <stdio.h>
#define MAX 3
#define SQ(x) ((x) * (x))

/* A node. */
struct node {
    int a;
};
typedef struct node node_t;
enum color { RED };

int proto(int a);

/* Pushes. */
static node_t *
push(node_t *n, int a)
{
    int local = 1;
    return n;
}
""",
        """MAX constant 2, SQ function 3, node class 6, node_t type 9, color class 10, proto
        function 12, push function 16""",
    ),
    "cpp": (
        """\
#include <vector>

namespace geo {

// A shape.
template <typename T>
class Shape : public Base {
 public:
  Shape();
  ~Shape() {}
  virtual T area() const = 0;
  bool operator==(const Shape& o) const { return true; }
};

using Pair = int;
constexpr int SIDES = 3;

template <typename T>
T& Shape<T>::scale(int by) {
  std::lock_guard<int> guard(mutex);
  return *this;
}

}  // namespace geo
""",
        """geo module 3, Shape class 7, Shape method 9, ~Shape method 10, area method 11,
        operator== method 12, Pair type 15, SIDES constant 16, scale method 19""",
    ),
    "csharp": (
        """\
namespace App.Core
{
    /// <summary>A service.</summary>
    [Serializable]
    public class Service : IService
    {
        public const int Max = 3;
        public Service() {}

        // Runs it.
        [Obsolete]
        public int Run(int a)
        {
            int Local(int b) { return b; }
            return Local(a);
        }

        public int Size { get; set; }
    }

    interface IService { void Stop(); }
    struct Point {}
    record Pair(int X);
    enum Mode { A }
    delegate void Handler(int a);
}
""",
        """App.Core module 1, Service class 5, Max constant 7, Service method 8, Run method 12,
        Local function 14, Size method 18, IService class 21, Stop method 21, Point class 22,
        Pair class 23, Mode class 24, Handler type 25""",
    ),
    "php": (
        """\
<?php
namespace App\\Models;

const LIMIT = 3;

// A user.
#[Entity]
final class User extends Model
{
    const ROLE = 1;

    /** Says hello. */
    public function greet($a)
    {
        return 1;
    }
}

interface Named { function name(); }
trait Loud {}
enum Suit { case A; }
function helper() {}
""",
        """LIMIT constant 4, User class 8, ROLE constant 10, greet method 13, Named class 19, name
        method 19, Loud class 20, Suit class 21, helper function 22""",
    ),
    "ruby": (
        """\
# Everything.
module Shop
  class Cart < Base
    LIMIT = 3
    attr_reader :items

    # Adds one.
    def add(item)
      @items << item
    end

    def self.build
    end

    def ==(other); end
  end
end

def helper = 1
""",
        """Shop module 2, Cart class 3, LIMIT constant 4, add method 8, build method 12, == method
        15, helper function 19""",
    ),
    "scala": (
        """\
package a.b

/** Main. */
object Main extends App {
  val Limit = 1
  // Runs.
  def run(a: Int): Int = {
    val local = a
    local
  }
}

class Box(x: Int) { def get = x }
trait Named { def name: String }
case class Point(x: Int)
type Id = Int
enum Color { case Red }
""",
        """Main class 4, Limit constant 5, run method 7, Box class 13, get method 13, Named class
        14, name method 14, Point class 15, Id type 16, Color class 17""",
    ),
    "swift": (
        """\
/// A store.
public class Store: Base {
  let size: Int
  init(size: Int) { self.size = size }
  // Finds one.
  func find(id: Int) -> Int {
    return id
  }
}

struct Point { func norm() {} }
enum Mode { case a }
protocol Named { func name() }
extension Store { func clear() {} }
func helper() {}
typealias Id = Int
let Limit = 3
""",
        """Store class 2, init method 4, find method 6, Point class 11, norm method 11, Mode class
        12, Named class 13, name method 13, clear method 14, helper function 15, Id type 16,
        Limit constant 17""",
    ),
    "elixir": (
        '''\
defmodule Shop.Cart do
  @moduledoc "A cart."

  @doc """
  Adds.
  """
  @spec add(integer, integer) :: integer
  def add(a, b) when a > 1 do
    a + b
  end

  def add(a, _), do: a
  def empty, do: 0
  defp hidden(a), do: String.trim(a)

  defmacro twice(x) do
    x
  end
end

defimpl Size, for: Shop.Cart do
  def size(_), do: 1
end
''',
        """Shop.Cart module 1, add function 8, empty function 13, hidden function 14, twice
        function 16, Size module 21, size function 22""",
    ),
    "lua": (
        """\
-- A module.
local M = {}

-- Opens.
function M.open(a)
  local b = a
  return b
end

function M:close() end

local function helper() end

M.reset = function(x) return x end

return M
""",
        "M constant 2, open function 5, close method 10, helper function 12, reset function 14",
    ),
    "bash": (
        """\
#!/bin/bash
readonly LIMIT=3
NAME=x

# Builds.
build() {
  local out=1
  echo "$out"
}

function clean { rm -f x; }
""",
        "LIMIT constant 2, NAME constant 3, build function 6, clean function 11",
    ),
    "haskell": (
        """\
module Data.Shape where

import Data.List

-- | A shape.
data Shape = Circle Double | Square { side :: Double }

newtype Id = Id Int

type Name = String

class Area a where
  area :: a -> Double

instance Area Shape where
  area (Circle r) = r

-- | Scales.
scale :: Int -> Int
scale 0 = 0
scale x = y
  where y = x + 1

pi2 = 6
""",
        """Shape type 6, Id type 8, Name type 10, Area class 12, area method 13, scale function 19,
        pi2 function 24""",
    ),
    "zig": (
        """\
const std = @import("std");

/// A point.
pub const Point = struct {
    x: i32,

    pub fn norm(self: Point) i32 {
        const local = 1;
        return local;
    }
};

pub fn main() void {}

test "adds" {}
""",
        "std constant 1, Point class 4, norm method 7, main function 13, adds function 15",
    ),
    "sql": (
        """\
-- People.
CREATE TABLE IF NOT EXISTS shop.users (
  id INT PRIMARY KEY,
  name TEXT
);

-- Adds.
CREATE OR REPLACE FUNCTION add_user(a int) RETURNS int AS $$
BEGIN
  RETURN 1;
END;
$$ LANGUAGE plpgsql;

create view active as select 1;
CREATE PROCEDURE clean() LANGUAGE SQL AS $$ SELECT 1 $$;
CREATE SCHEMA shop;
""",
        """shop.users type 2, add_user function 8, active type 14, clean function 15, shop module
        16""",
    ),
}


def listed(expected: str) -> list[tuple[str, str, int]]:
    found = []
    for item in " ".join(expected.split()).split(", "):
        name, kind, line = item.rsplit(" ", 2)
        found.append((name, kind, int(line)))
    return found


@pytest.mark.parametrize("language", SNIPPETS)
def test_definitions(language: str) -> None:
    text, expected = SNIPPETS[language]
    found = [(symbol.name, symbol.kind, symbol.line) for symbol in definitions(text, language)]
    assert found == listed(expected)


@pytest.mark.parametrize("language", SNIPPETS)
def test_every_symbol_is_named_on_its_line(language: str) -> None:
    text, _ = SNIPPETS[language]
    lines = text.split("\n")
    for symbol in definitions(text, language):
        assert symbol.name in lines[symbol.line - 1]


@pytest.mark.parametrize("language", SNIPPETS)
@pytest.mark.parametrize("size", [40, 120, 300, 1_000])
def test_chunks_hold_their_lines_and_symbols(language: str, size: int) -> None:
    text, expected = SNIPPETS[language]
    lines = text.split("\n")
    config = IndexConfig(chunk_chars=size, chunk_max_chars=size * 3 // 2)
    chunks = chunk_source(SourceFile("a/file", "0" * 40, text, language), config)
    for chunk in chunks:
        assert "\n".join(lines[chunk.start_line - 1 : chunk.end_line]) == chunk.text
        assert all(chunk.start_line <= symbol.line <= chunk.end_line for symbol in chunk.symbols)
    found = [(s.name, s.kind, s.line) for chunk in chunks for s in chunk.symbols]
    assert found == listed(expected)


@pytest.mark.parametrize("language", sorted(SNIPPETS))
def test_snippets_parse(language: str) -> None:
    text, _ = SNIPPETS[language]
    # These grammars do not know `fun g()` without a body, curried templates or every dialect.
    if language not in {"kotlin", "sql"}:
        assert parses(text, language)


def test_parses_tells_errors_from_unknown() -> None:
    assert parses("def f():\n    return 1\n", "python") is True
    assert parses("def f(:\n    return 1\n", "python") is False
    assert parses("int f() { return 1;", "c") is False  # something is missing, nothing is wrong
    assert parses("anything", "text") is None
    assert parses("anything", "no such language") is None
    assert parses("(" * 100_000, "python") is None


def test_c_header_of_cpp() -> None:
    text = "namespace a {\nclass B {\n public:\n  int c();\n};\n}\n"
    assert [s.name for s in definitions(text, "c")] == ["a", "B", "c"]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("dart", "class A {\n  int f(int a) {\n    return a;\n  }\n}\n", "A class 1, f method 2"),
        ("r", "# adds\nadd <- function(a) {\n  a\n}\n", "add function 2"),
        (
            "julia",
            "module M\nstruct P\n  x\nend\nfunction f(x)\n  x\nend\nend\n",
            "M module 1, P class 2, f function 5",
        ),
        ("ocaml", "type t = int\nlet rec f x =\n  x\n", "t type 1, f function 2"),
        (
            "erlang",
            "-module(a).\nf(0) -> 1;\nf(X) -> X.\ng() -> 2.\n",
            "a module 1, f function 2, g function 4",
        ),
        ("clojure", "(ns a.b)\n(defn f [x]\n  x)\n(def k 1)\n", "a.b module 1, f function 2, k constant 4"),
        ("objc", "@interface A : B\n- (int)run:(int)a;\n@end\n", "A class 1, run method 2"),
        ("perl", "package A::B;\nsub run {\n  1\n}\n", "A::B module 1, run function 2"),
        ("hcl", 'resource "aws_x" "web" {\n  a = 1\n}\n', "web class 1"),
        ("make", "CC := gcc\nall: a b\n\tcc x\n", "CC constant 1, all function 2"),
        (
            "proto",
            "message A {\n  int32 x = 1;\n}\nservice S {\n  rpc Get(A) returns (A);\n}\n",
            "A class 1, S class 4, Get method 5",
        ),
        ("solidity", "contract A {\n  function f() public {}\n}\n", "A class 1, f method 2"),
        (
            "vue",
            "<template>\n <b/>\n</template>\n<script>\nexport default {\n  run() {\n  },\n}\n</script>\n",
            "run method 6",
        ),
        ("markdown", "# A\n\ntext\n\n## B `c`\n", "A section 1, B `c` section 5"),
        ("rst", "=====\nTitle\n=====\n\nPart\n----\n\ntext\n", "Title section 2, Part section 5"),
    ],
)
def test_other_languages(language: str, text: str, expected: str) -> None:
    found = [(symbol.name, symbol.kind, symbol.line) for symbol in definitions(text, language)]
    assert found == listed(expected)
