"""The only door to tree-sitter: text in, a syntax tree or None out, at a cost linear in the text."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from indexers.languages import grammar_of

if TYPE_CHECKING:
    from tree_sitter import Language, Node, Query

# Such a line is data or minified code, never something to cut by syntax.
_LONGEST_LINE = 20_000
# Brackets opened and not closed, or the reverse: some grammars need gigabytes for a megabyte of these.
_UNBALANCED = 2_000
# A query looks for the next *named* sibling of every node, so a long run of punctuation costs its square
# (20,000 brackets in one error node: 0.3 s; a megabyte: minutes).
_PUNCTUATION_RUN = 3_000
_MOST_CHILDREN = 100_000


def parse(text: str, language: str) -> Node | None:
    """The root of the syntax tree; None where there is no grammar, or parsing is not worth it or not safe."""
    grammar = grammar_of(language, text)
    if grammar is None or _hopeless(text):
        return None
    # Only row numbers and names are read from the tree, so a lone surrogate may become "?".
    root = parse_bytes(text.encode("utf-8", "replace"), grammar)
    return None if _is_hostile(root) else root


def parse_bytes(data: bytes, grammar: str) -> Node:
    """The root of the tree of `data`, without any guard. A parser per call: parsers are not thread-safe."""
    from tree_sitter import Parser

    return Parser(_language(grammar)).parse(data).root_node


@cache
def query(grammar: str, patterns: str) -> Query:
    """A compiled query; compiling costs milliseconds, so each is kept."""
    from tree_sitter import Query

    compiled: Query = Query(_language(grammar), patterns)
    return compiled


def last_row(node: Node) -> int:
    """Row of the last character of a node; some grammars count the line end as part of it."""
    end = node.end_point
    return end.row - 1 if end.column == 0 and end.row > node.start_point.row else end.row


@cache
def _language(grammar: str) -> Language:
    from tree_sitter_language_pack import get_language

    language: Language = get_language(grammar)
    return language


def _hopeless(text: str) -> bool:
    if any(abs(text.count(a) - text.count(b)) > _UNBALANCED for a, b in ("()", "[]", "{}")):
        return True
    return len(text) > _LONGEST_LINE and max(map(len, text.split("\n"))) > _LONGEST_LINE


def _is_hostile(root: Node) -> bool:
    """Whether some node is a long run of bare punctuation, or has more children than a program has."""
    pending = [root]
    while pending:
        node = pending.pop()
        children = node.child_count
        if children > _MOST_CHILDREN or children - 2 * node.named_child_count > _PUNCTUATION_RUN:
            return True
        if node.end_byte - node.start_byte > _PUNCTUATION_RUN:
            pending.extend(c for c in node.children if c.end_byte - c.start_byte > _PUNCTUATION_RUN)
    return False
