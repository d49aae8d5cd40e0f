"""Functions that are still to be written: what stands before a body that only says so. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexers.syntax import parse

if TYPE_CHECKING:
    from tree_sitter import Node

# A statement that stands where the work should be.
_PLACEHOLDER = re.compile(
    r"pass|\.\.\.|(?:todo|unimplemented|not_?implemented)!?\(.*\)"
    r"|(?:raise|throw|panic|abort|fail|fatalError|die|error)\b.*"
    r"(?:not[ _-]?(?:yet[ _-]?)?implemented|unimplemented|unsupported[ _-]?operation|todo|fixme).*",
    re.IGNORECASE | re.DOTALL,
)
_COMMENT = re.compile("comment")
# What a request says that wants such a body written.
_WRITE_IT = re.compile(
    r"\b(?:implement|fill|complete|finish|write|code|stub|body|todo|placeholder|missing|empty|NotImplemented\w*)\w*\b",
    re.IGNORECASE,
)


def wants_body(request: str) -> bool:
    """Whether a request seems to be about a function that is still to be written."""
    return _WRITE_IT.search(request) is not None


@dataclass(frozen=True, slots=True)
class Stub:
    """What there is of a function whose body is a placeholder: `known` lines, and the `head` that stays as it is.

    They differ in comments that stand in the place of the body.
    """

    known: str
    head: str


def stub_of(shown: str, language: str) -> Stub | None:
    """The function that a text holds, if nothing is in it; None for any other code.

    :param shown: a whole function without its margin.
    """
    tree = parse(shown, language)
    body = _body(tree.root) if tree is not None else None
    if body is None:
        return None
    items = list(body.named_children)
    if items and _is_docstring(items[0]):
        del items[0]
    work = [item for item in items if not _COMMENT.search(item.type)]
    lines = shown.split("\n")
    if not work or not all(map(_is_placeholder, work)) or not _begins_line(items[0], lines):
        return None
    known, head = ("".join(f"{line}\n" for line in lines[: at.start_point.row]) for at in (work[0], items[0]))
    return Stub(known, head)


def _is_placeholder(item: Node) -> bool:
    return _PLACEHOLDER.fullmatch((item.text or b"").decode("utf-8", "replace").strip(" ;\n")) is not None


def _begins_line(item: Node, lines: list[str]) -> bool:
    return not lines[item.start_point.row][: item.start_point.column].strip()


def _body(root: Node) -> Node | None:
    """The body of the one function that a text holds."""
    pending = [root]
    while pending:
        node = pending.pop(0)
        body = node.child_by_field_name("body")
        if body is not None and (
            node.child_by_field_name("parameters") or node.child_by_field_name("declarator")
        ):
            return body
        # The function may stand behind decorators or an `export`, and in an answer alone.
        pending += [child for child in node.named_children if not _COMMENT.search(child.type)][-2:]
    return None


def _is_docstring(item: Node) -> bool:
    inner = item.named_children[0] if item.type == "expression_statement" and item.named_children else item
    return inner.type == "string"
