"""How many arguments functions take and calls give, read by the grammars of languages that bind them by position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexers.syntax import node_text, parse

if TYPE_CHECKING:
    from tree_sitter import Node

# Python has its own check (`signatures`), which knows names as well. In others, such as Kotlin, C# and Swift, an
# argument in the wrong number is seldom told from one with a name; Elixir and Erlang define another function by it.
LANGUAGES = frozenset({"javascript", "typescript", "tsx", "go", "java", "ruby", "rust", "c", "cpp", "php"})
_OPTIONAL = frozenset({"assignment_pattern", "optional_parameter", "optional_parameter_declaration"})
_REST = frozenset(
    {"rest_pattern", "variadic_parameter", "variadic_parameter_declaration", "variadic_parameter_declarator"}
    | {"c_variadic_parameter", "spread_parameter", "splat_parameter", "forward_parameter"}
    | {"variadic_declaration", "parameter_pack_expansion"}
)
# Parameters that no argument in brackets stands for, and what is between them.
_NO_PARAMETER = frozenset(
    {"comment", "line_comment", "block_comment", "self_parameter", "receiver_parameter", "block_parameter"}
    | {"attribute_item", "decorator"}
)
_NO_ARGUMENT = frozenset({"comment", "line_comment", "block_comment", "block_argument"})
# Arguments that stand for nobody knows how many.
_SPREAD = frozenset(
    {"spread_element", "variadic_argument", "splat_argument", "hash_splat_argument", "forward_argument"}
    | {"variadic_unpacking", "variadic_placeholder", "parameter_pack_expansion"}
)
_CALLED = ("function", "constructor", "method", "name", "type")
_LAST_NAME = ("property", "field", "name", "function")
# How deep a callee or a declarator may be nested, and how much of a tree is read.
_DEEP, _MOST_NODES = 8, 200_000


@dataclass(frozen=True, slots=True)
class Arity:
    """How many positional arguments a function takes: at least, at most (None for any number), and by name.

    `of_self` is whether it has a receiver among its parameters, which a call behind a path gives itself.
    """

    least: int
    most: int | None
    needed: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()
    any_name: bool = False
    of_self: bool = False

    def misfit(self, call: Call) -> str:
        """Why a call does not fit; empty where it does, or nobody can say."""
        if self.of_self and call.by_path:
            return ""
        by_name = bool(self.named) or self.any_name
        # Without parameters that have names, names and their values are one argument more.
        given = call.given + (1 if call.names and not by_name else 0)
        if given < self.least:
            return f"at least {self.least} needed"
        if self.most is not None and given > self.most:
            return f"at most {self.most}"
        if by_name and not self.any_name and (unknown := sorted(call.names - self.named)):
            return f"no {unknown[0]!r}"
        missing = sorted(self.needed - call.names)
        return f"{missing[0]!r} is required" if missing else ""


@dataclass(frozen=True, slots=True)
class Call:
    """A call: its line (1-based), how many arguments it gives by position, and the names of the others.

    `by_path` is whether it is of the form `a::b(...)`, whose first argument may be the receiver.
    """

    line: int
    given: int
    names: frozenset[str] = frozenset()
    by_path: bool = False


def arities(text: str, language: str) -> dict[tuple[int, str], Arity]:
    """The functions of a text by the line (1-based) of their name and by it; none where a line has two of one name."""
    found: dict[tuple[int, str], list[Arity]] = {}
    for node in _nodes(text, language):
        parameters = node.child_by_field_name("parameters")
        name = _name_of(node) if parameters is not None else None
        if parameters is not None and name is not None:
            key = name.start_point.row + 1, node_text(name)
            found.setdefault(key, []).append(_arity(parameters, node, language))
    return {key: one[0] for key, one in found.items() if len(one) == 1}


def calls(text: str, language: str, name: str) -> Iterator[Call]:
    """The calls of something by its last name whose number of arguments can be told; `K.new` is a call of `K`."""
    for node in _nodes(text, language):
        arguments = node.child_by_field_name("arguments") or _unnamed(node, "arguments")
        if arguments is None or _callee(node) != name:
            continue
        call = _given(node, arguments, language)
        if call is not None:
            yield call


def _nodes(text: str, language: str) -> Iterator[Node]:
    tree = parse(text, language) if language in LANGUAGES else None
    stack, left = ([tree.root] if tree is not None else []), _MOST_NODES
    while stack and left:
        left -= 1
        node = stack.pop()
        yield node
        stack += node.named_children


def _name_of(node: Node) -> Node | None:
    """The name of a function: its own, that of the variable it is given to, or the innermost one of a declarator."""
    name = node.child_by_field_name("name") or node.child_by_field_name("declarator")
    parent = node.parent
    if name is None and parent is not None and node.type in ("arrow_function", "function_expression"):
        fields = ("name", "property", "key", "left")
        name = next((found for field in fields if (found := parent.child_by_field_name(field))), None)
    for _ in range(_DEEP):
        inner = name and next(
            (
                found
                for field in ("name", "property", "declarator")
                if (found := name.child_by_field_name(field))
            ),
            None,
        )
        if inner is None:
            break
        name = inner
    return name


def _arity(parameters: Node, function: Node, language: str) -> Arity:
    least = most = 0
    rest = language == "javascript" and b"arguments" in (function.text or b"")
    needed, named, any_name = set[str](), set[str](), False
    of_self = any(item.type == "self_parameter" for item in parameters.named_children)
    for item in parameters.named_children:
        kind, inside = item.type, {child.type for child in item.named_children}
        if kind in _NO_PARAMETER or node_text(item) == "void" or inside & {"this"}:
            continue
        if kind == "keyword_parameter":
            name = node_text(item.child_by_field_name("name") or item)
            named.add(name)
            if item.child_by_field_name("value") is None:
                needed.add(name)
        elif kind == "hash_splat_parameter":
            any_name = True
        elif kind in _REST or inside & _REST:
            rest = True
        else:
            count = max(1, len(item.children_by_field_name("name"))) if language == "go" else 1
            default = item.child_by_field_name("value") or item.child_by_field_name("default_value")
            most += count
            least += 0 if kind in _OPTIONAL or default is not None else count
    if (language == "c" and not parameters.named_children) or language == "php":
        rest = True  # `f()` says nothing of its arguments in C, and PHP lets a call give more
    return Arity(least, None if rest else most, frozenset(needed), frozenset(named), any_name, of_self)


def _unnamed(node: Node, kind: str) -> Node | None:
    """A part of `new K()`, to which PHP's grammar gives no field."""
    if node.type != "object_creation_expression":
        return None
    return next((child for child in node.named_children if child.type == kind), None)


def _callee(node: Node) -> str:
    """The last name of what is called."""
    named = next((found for field in _CALLED if (found := node.child_by_field_name(field))), None)
    if named is not None and named.child_by_field_name("arguments") is not None:
        return ""  # what a call gives back is called
    named = named or _unnamed(node, "name")
    receiver = node.child_by_field_name("receiver")
    if named is not None and receiver is not None and node_text(named) == "new":
        named = receiver
    for _ in range(_DEEP):
        inner = named and next(
            (found for field in _LAST_NAME if (found := named.child_by_field_name(field))), None
        )
        if inner is None:
            break
        named = inner
    return node_text(named) if named is not None else ""


def _given(node: Node, arguments: Node, language: str) -> Call | None:
    """What a call gives; None where its arguments stand for nobody knows how many."""
    items = [item for item in arguments.named_children if item.type not in _NO_ARGUMENT]
    names: set[str] = set()
    count = 0
    for item in items:
        inside = {child.type for child in item.named_children} if item.type == "argument" else set()
        if (inside | {item.type}) & _SPREAD or (
            item.type == "argument" and item.child_by_field_name("name") is not None
        ):
            return None
        if language == "ruby" and item.type == "pair":
            names.add(node_text(item.child_by_field_name("key") or item))
        else:
            count += 1
    # In Go the results of one call may be all the arguments of another.
    if language == "go" and count == 1 and items[0].type == "call_expression":
        return None
    function = node.child_by_field_name("function")
    by_path = function is not None and function.type == "scoped_identifier"
    return Call(node.start_point.row + 1, count, frozenset(names), by_path)
