"""Where a program says something and does nothing: inside of comments and strings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexers.syntax import Syntax


def is_said(tree: Syntax, line: int, column: int) -> bool:
    """Whether a place is inside a comment or a string; `column` counts bytes."""
    node = tree.root.descendant_for_point_range((line - 1, column), (line - 1, column + 1))
    while node is not None:
        if (
            any(word in node.type for word in ("comment", "string", "heredoc", "regex"))
            and "template_sub" not in node.type
        ):
            return "interpolation" not in node.type
        if "interpolation" in node.type or "substitution" in node.type:
            return False
        node = node.parent
    return False
