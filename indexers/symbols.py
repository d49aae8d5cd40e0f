"""What a text defines, and whether it parses: the outline of one file as other parts ask for it."""

from __future__ import annotations

from indexers import syntax
from indexers.outline import outline_of
from indexers.types import Symbol


def definitions(text: str, language: str) -> list[Symbol]:
    """Every definition of a text in order of lines; empty for languages in which we know none."""
    return outline_of(text, language).symbols()


def parses(text: str, language: str) -> bool | None:
    """Whether the text has no syntax error; None where it has no grammar or is too odd to parse."""
    tree = syntax.parse(text, language)
    return None if tree is None else not tree.root.has_error
