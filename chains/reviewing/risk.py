"""Which hunks a model should read first: where a fault is likeliest and costs most. Pure."""

from __future__ import annotations

import re

from chains.reviewing.types import FileDiff, Hunk
from indexers.comments import is_comment
from indexers.filters import is_test

_PROSE = frozenset(
    {"markdown", "text", "rst", "latex", "json", "yaml", "toml", "ini", "csv", "xml", "html", "css"}
)
# Where control flow turns, an error is handled, or something leaves the program.
_TURNS = re.compile(
    r"\b(?:if|else|elif|for|while|switch|case|match|return|try|except|catch|raise|throw|finally|break|continue)\b"
)
_COMPARES = re.compile(r"[<>!=]=|[^-=<]>(?![>=])|<(?![<=])|\b(?:not|and|or|is|in)\b|&&|\|\|")
_GRAVE = re.compile(
    r"(?i)auth|passw|token|secret|crypt|sql|exec|eval|subprocess|shell|unlink|delete|remove|lock|thread|async|await|"
    r"alloc|free\b|unsafe|verify|permission|admin|timeout|retry|cache|index|range|len\b"
)
_MOST_LINES = 400


def risk(file: FileDiff, hunk: Hunk) -> float:
    """A number to order by, larger first; it means nothing by itself."""
    text = "\n".join((*hunk.added[:_MOST_LINES], *hunk.removed[:_MOST_LINES]))
    if file.language in _PROSE:
        return 0.1
    if is_comment(text):
        return 0.2
    score = 1.0 + min(len(_TURNS.findall(text)), 10) * 0.3 + min(len(_COMPARES.findall(text)), 10) * 0.2
    score += min(len(_GRAVE.findall(text)), 10) * 0.2
    if hunk.added and hunk.removed:
        score += 1.0  # what worked is changed
    return score * (0.3 if is_test(file.path) else 1.0)
