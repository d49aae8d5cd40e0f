"""Finds definitions in a syntax tree or in lines: names, kinds, where each stands and what encloses it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from indexers import patterns
from indexers.syntax import Syntax, last_row

if TYPE_CHECKING:
    from tree_sitter import Node

_KINDS = ("function", "method", "class", "module", "type", "constant", "scope")
_OWNERS = frozenset({"class", "scope"})
# Where several clauses or a signature and its body define one name, the first stands for all.
_CLAUSES = frozenset({"haskell", "elixir", "erlang", "elm", "purescript"})
_DECLARATORS = frozenset({"c", "cpp", "objc"})
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition with its rows (0-based, inclusive); `path` is its name behind the names that enclose it.

    `row` is the row of the name, `start` that of the whole definition. `repeated` is a further clause of a
    definition already listed: it encloses lines but is no symbol of its own.
    """

    name: str
    kind: str
    row: int
    start: int
    end: int
    path: tuple[str, ...]
    receiver: tuple[str, ...] = ()
    repeated: bool = False

    @property
    def is_hidden(self) -> bool:
        """Whether this only encloses other lines and is no symbol of its own."""
        return self.kind == "scope" or self.repeated


def from_tree(tree: Syntax) -> list[Definition]:
    """The definitions of a syntax tree, outer before inner."""
    table = patterns.TREE.get(tree.grammar)
    if table is None:
        return []
    best: dict[tuple[int, int], tuple[int, _Found]] = {}
    for pattern, captures in tree.matches(table):
        kind = next(kind for kind in _KINDS if kind in captures)
        if "word" in captures and tree.text(captures["word"][0]) not in patterns.WORDS[kind]:
            continue
        node, name = captures[kind][0], captures["name"][0]
        # One definition has one name, but a constant statement may bind several.
        key = (name.start_byte, -1) if kind == "constant" else (node.start_byte, node.end_byte)
        old = best.get(key)
        if old is None or (pattern, name.start_byte) < (old[0], old[1].name.start_byte):
            best[key] = (pattern, _Found(kind, node, name, tuple(captures.get("receiver", ()))))
    names = {found.name.start_byte: pattern for pattern, found in best.values() if found.kind != "constant"}
    kept = [f for p, f in best.values() if f.kind != "constant" or f.name.start_byte not in names]
    kept.sort(key=lambda found: (found.node.start_byte, -found.node.end_byte, found.name.start_byte))
    return _nested(kept, tree)


def from_lines(lines: Sequence[str], language: str) -> list[Definition]:
    """Definitions by the shape of their first line, each up to the next line that is indented no deeper."""
    rules = _line_rules(language)
    found: list[Definition] = []
    if not rules:
        return found
    open_: list[tuple[int, int]] = []  # (indentation, position in found) of definitions not yet closed
    ends: dict[int, int] = {}
    last = -1
    for row, line in enumerate(lines):
        text = line.lstrip()
        if not text:
            continue
        indent = len(line) - len(text)
        while open_ and indent <= open_[-1][0] and text[0] not in "})]":
            ends[open_.pop()[1]] = last
        last = row
        hit = next(((kind, m) for kind, rule in rules if (m := rule.match(line[:300]))), None)
        if hit is None:
            continue
        kind, match = hit
        parent = found[open_[-1][1]] if open_ else None
        found.append(
            _definition(kind, match[1].strip("\"`[]'"), (), (row, row, row), parent, found, language)
        )
        open_.append((indent, len(found) - 1))
    for _, position in open_:
        ends[position] = last
    return [_with_end(definition, ends[position]) for position, definition in enumerate(found)]


@cache
def _line_rules(language: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((kind, re.compile(pattern)) for kind, pattern in patterns.LINES.get(language, ()))


@dataclass(frozen=True, slots=True)
class _Found:
    kind: str
    node: Node
    name: Node
    receivers: tuple[Node, ...]


def _nested(found: Sequence[_Found], tree: Syntax) -> list[Definition]:
    result: list[Definition] = []
    open_: list[tuple[int, Definition]] = []
    for item in found:
        while open_ and open_[-1][0] <= item.node.start_byte:
            open_.pop()
        parent = open_[-1][1] if open_ else None
        name, receiver, name_node = _name_of(item, tree)
        if name in ("", "_") or _is_local(item, [d.kind for _, d in open_]):
            continue
        rows = (name_node.start_point.row, item.node.start_point.row, last_row(item.node))
        definition = _definition(item.kind, name, receiver, rows, parent, result, tree.grammar)
        result.append(definition)
        if item.kind != "constant":
            open_.append((item.node.end_byte, definition))
    return result


def _definition(
    kind: str,
    name: str,
    receiver: tuple[str, ...],
    rows: tuple[int, int, int],
    parent: Definition | None,
    earlier: Sequence[Definition],
    language: str,
) -> Definition:
    above = parent.path if parent else ()
    if kind == "function" and (
        (parent is not None and parent.kind in _OWNERS) or (receiver and language == "cpp")
    ):
        kind = "method"
    path = (*above, *receiver, name)
    repeated = False
    if language in _CLAUSES and kind in ("function", "method") and earlier:
        repeated = next((d.path for d in reversed(earlier) if len(d.path) <= len(path)), None) == path
    return Definition(name, kind, *rows, path=path, receiver=receiver, repeated=repeated)


def _with_end(definition: Definition, end: int) -> Definition:
    d = definition
    return Definition(d.name, d.kind, d.row, d.start, max(end, d.row), d.path, d.receiver, d.repeated)


def _name_of(found: _Found, tree: Syntax) -> tuple[str, tuple[str, ...], Node]:
    """The name as people say it, the types it says it belongs to, and the node the name stands in."""
    node = found.name
    receiver = tuple(_bare_type(tree.text(r)) for r in found.receivers)
    if tree.grammar in _DECLARATORS:
        node, receiver = _innermost(node, tree)
    name = tree.text(node)[:_LONGEST_NAME]
    if found.kind == "scope":
        name = _bare_type(name)
    if tree.grammar == "zig":
        name = name.strip('"')
    return name, receiver, node


def _innermost(node: Node, tree: Syntax) -> tuple[Node, tuple[str, ...]]:
    """Through C's pointer, function, array and qualified declarators to the name they declare."""
    scopes: list[str] = []
    while True:
        if node.type == "qualified_identifier":
            scope, inner = node.child_by_field_name("scope"), node.child_by_field_name("name")
            if scope is not None:
                scopes.append(_bare_type(tree.text(scope)))
        elif node.type in ("parenthesized_declarator", "reference_declarator", "attributed_declarator"):
            inner = next((child for child in node.named_children if child.type != "ms_call_modifier"), None)
        elif node.type == "template_function":
            inner = node.child_by_field_name("name")
        else:
            inner = node.child_by_field_name("declarator")
        if inner is None:
            return node, tuple(scopes)
        node = inner


def _is_local(found: _Found, above: Sequence[str]) -> bool:
    """What only its own function or `impl` can see, given the kinds of all that encloses it.

    `Lock guard(mutex);` in a C++ function looks like the declaration of a function, and is none.
    """
    if found.kind == "constant" or found.node.type == "declaration":
        return "function" in above or "method" in above
    return found.kind == "type" and above[-1:] == ["scope"]


def _bare_type(text: str) -> str:
    """`*Stack[T]` and `Stack<T>` are both called Stack."""
    for opening in "<[":
        head, separator, _ = text.partition(opening)
        if separator and head.strip("*& "):
            text = head
    return text.strip("*& ()")
