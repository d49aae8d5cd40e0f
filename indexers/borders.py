"""Where a text may be cut, and how well: borders between siblings of a syntax tree, or between lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from indexers.syntax import Syntax

if TYPE_CHECKING:
    from tree_sitter import Node

    from indexers.definitions import Definition

# All costs are on the scale of packing.py, where a chunk of half the size aimed at costs 0.25.
_PER_LEVEL = 0.06
_DEEPEST = 12
_DEEPEST_NODE = 400  # below this a text is not code but brackets
_NO_BLANK_LINE = 0.12
_AFTER_HEADER = 0.5  # between a signature and the first thing in the body
_GLUED = 1.1  # between a comment or decorator and what it belongs to: only where both do not fit
_CLAUSE = 0.4  # before else, except, ...
_CLOSER = 3.0
_BLIND = 1.0  # a line border in the middle of one syntax node
_AFTER_COMMENT = 0.4
_AFTER_TITLE = 0.25  # a comment and a blank line above: often the title of what follows
_PER_COLUMN = 0.015
_BEFORE_DEFINITION = {
    "class": -0.16,
    "module": -0.16,
    "scope": -0.16,
    "function": -0.08,
    "method": -0.08,
    "type": -0.04,
}
# Levels of borders inside a node that could not be opened: deeper than any real one.
_BLIND_LEVEL = 1_000

_BODY = re.compile(
    r"(?:^|_)(?:block|body|list|declarations|statements|compound_statement|group|arguments)$|ContainerDecl$",
    re.I,
)
_NOT_A_BODY = frozenset({"parameter_list", "attribute_list", "template_parameter_list", "expression_list"})
# Siblings that belong to what follows them. Anything called a comment does, too.
_LEADING = frozenset(
    "decorator attribute_item inner_attribute_item attribute attribute_list annotation marker_annotation "
    "modifiers access_specifier template_parameter_list signature haddock pragma".split()
)
_LEADING_BY_GRAMMAR = {"elixir": frozenset({"unary_operator"})}
_CLOSING = re.compile(r"\s*(?:[)\]}]|</|\*+/|(?:end|fi|done|esac|od)\b(?!\s*[=.(:]))")
_CLAUSE_LINE = re.compile(
    r"\s*(?:el(?:se|if|sif|seif)|except|catch|finally|rescue|ensure|when|then|case|default)\b"
)
_LINE_COMMENT = re.compile(r"\s*(?://|#(?![!\[])|--|;|%)")


class Border(NamedTuple):
    """That a chunk may begin at a line: what a cut there costs, and how deep inside the structure it is."""

    cost: float
    level: int


class Lines:
    """A text as lines. Only `\\n` ends a line: that is how git, editors and tree-sitter count."""

    __slots__ = ("offsets", "previous", "text")

    def __init__(self, text: Sequence[str]) -> None:
        self.text = text
        self.offsets = [0]
        # For each row the last row up to it that is not blank; -1 where there is none.
        self.previous: list[int] = []
        offset, filled = 0, -1
        for row, line in enumerate(text):
            offset += len(line) + 1
            self.offsets.append(offset)
            if line and not line.isspace():
                filled = row
            self.previous.append(filled)

    def size(self, first: int, last: int) -> int:
        """Characters from the start of one row to the end of another, line ends between them included."""
        return self.offsets[last + 1] - self.offsets[first] - 1

    def is_blank(self, row: int) -> bool:
        """Whether a row holds nothing but white space."""
        return self.previous[row] != row

    def after_blank(self, row: int) -> bool:
        """Whether a row is the first of a paragraph."""
        return row == 0 or self.previous[row - 1] != row - 1

    def indent(self, row: int) -> int:
        """Columns before the first character, a tab counted as four."""
        line = self.text[row]
        space = line[: len(line) - len(line.lstrip())]
        return len(space) + 3 * space.count("\t")


def of_tree(tree: Syntax, lines: Lines, limit: int) -> dict[int, Border]:
    """Borders between siblings. Only nodes of more than `limit` characters are opened, others stay whole."""
    borders: dict[int, Border] = {}
    leading = _LEADING | _LEADING_BY_GRAMMAR.get(tree.grammar, frozenset())
    pending = [(tree.root, 0, 0)]
    while pending:
        node, level, depth = pending.pop()
        children = node.children
        rows = _rows(children)
        cuts = list(_between(node, children, rows, lines, leading, depth == 0))
        for row, extra in cuts:
            cost = _PER_LEVEL * min(level, _DEEPEST) + extra
            if not lines.after_blank(row):
                cost += _NO_BLANK_LINE
            if _CLAUSE_LINE.match(lines.text[row]):
                cost += _CLAUSE
            borders.setdefault(row, Border(cost, level))
        deeper = level + 1 if cuts else level
        if depth < _DEEPEST_NODE:
            for child, (start, end) in zip(children, rows, strict=True):
                if start < end and _is_large(child, start, end, lines, limit):
                    pending.append((child, deeper, depth + 1))
    return borders


def of_lines(lines: Lines, first: int, last: int) -> dict[int, Border]:
    """Borders before every line of a range, best where a paragraph begins at little indentation."""
    borders: dict[int, Border] = {}
    after_comment = False
    for row in range(first, last + 1):
        if lines.is_blank(row):
            continue
        text = lines.text[row]
        indent = lines.indent(row)
        cost = 0.05 + _PER_COLUMN * min(indent, 40)
        if _CLOSING.match(text):
            cost += _CLOSER
        if not lines.after_blank(row):
            cost += 2 * _NO_BLANK_LINE + (_AFTER_COMMENT if after_comment else 0.0)
        borders[row] = Border(cost, indent)
        after_comment = _LINE_COMMENT.match(text) is not None
    return borders


def inside(lines: Lines, first: int, last: int) -> dict[int, Border]:
    """Line borders inside one piece of syntax that is too large to stay whole."""
    return {
        row: Border(border.cost + _BLIND, border.level + _BLIND_LEVEL)
        for row, border in of_lines(lines, first + 1, last).items()
    }


def prefer_definitions(borders: dict[int, Border], definitions: Sequence[Definition]) -> None:
    """Make borders cheaper at which a definition begins, its comments and decorators included."""
    rows = sorted(borders)
    position = 0
    best: dict[int, float] = {}
    for definition in definitions:
        bonus = _BEFORE_DEFINITION.get(definition.kind)
        if bonus is None:
            continue
        while position > 0 and rows[position - 1] > definition.start:
            position -= 1
        while position < len(rows) and rows[position] <= definition.start:
            position += 1
        if position:
            row = rows[position - 1]
            best[row] = min(bonus, best.get(row, 0.0))
    for row, bonus in best.items():
        borders[row] = Border(borders[row].cost + bonus, borders[row].level)


def _rows(nodes: Sequence[Node]) -> list[tuple[int, int]]:
    """First and last row of each node, as `last_row` counts; every node of a tree passes here, so without calls."""
    rows: list[tuple[int, int]] = []
    for node in nodes:
        start = node.start_point[0]
        end, column = node.end_point
        rows.append((start, end - 1 if column == 0 and end > start else end))
    return rows


def _between(
    node: Node,
    children: Sequence[Node],
    rows: Sequence[tuple[int, int]],
    lines: Lines,
    leading: frozenset[str],
    is_root: bool,
) -> Iterator[tuple[int, float]]:
    """Rows at which a child of `node` begins and may be cut off, each with an addition to the cost.

    :param rows: first and last row of each child.
    """
    last = -1 if is_root else node.start_point.row
    header = _header_end(node, children)
    after_header = _AFTER_HEADER if _is_body(node.type) else 0.0
    after_title = 0.0
    glued = False
    previous_start = last
    for position, (child, (start, end)) in enumerate(zip(children, rows, strict=True)):
        kind = child.type
        is_comment = "comment" in kind
        if start > last and start > header and not _CLOSING.match(lines.text[start]):
            if not glued:
                yield _with_comments(lines, start, last, previous_start), max(after_header, after_title)
                after_header = 0.0
            elif not is_comment:
                yield start, _GLUED
        if start > last or position == 0:
            after_title = _AFTER_TITLE if is_comment else 0.0
            glued = is_comment or kind in leading
            glued = glued and end + 1 < len(lines.text) and not lines.is_blank(end + 1)
            previous_start = start
        elif end > last:
            glued = False
        last = max(last, end)


def _with_comments(lines: Lines, row: int, previous_end: int, previous_start: int) -> int:
    """Some grammars hang the comment above a definition onto the end of what stands before it."""
    if previous_end + 1 < row:
        return row
    indent = lines.indent(row)
    while (
        row - 1 > max(previous_start, 0)
        and not lines.is_blank(row - 1)
        and _LINE_COMMENT.match(lines.text[row - 1])
        and lines.indent(row - 1) == indent
    ):
        row -= 1
    return row


def _header_end(node: Node, children: Sequence[Node]) -> int:
    """Last row of a node's signature: up to where its body begins there is no place to cut."""
    if _is_body(node.type):
        return -1
    body = next((child for child in children if _is_body(child.type)), None)
    return -1 if body is None else body.start_point.row


def _is_large(node: Node, start: int, end: int, lines: Lines, limit: int) -> bool:
    size = lines.size(start, min(end, len(lines.text) - 1))
    return size > limit or (2 * size > limit and _is_body(node.type))


@lru_cache(maxsize=4096)
def _is_body(kind: str) -> bool:
    return _BODY.search(kind) is not None and kind not in _NOT_A_BODY
