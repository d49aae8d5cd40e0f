"""Tells text that is nothing but comment lines, in any language, without parsing it."""

from __future__ import annotations

import re

_COMMENT = re.compile(r"\s*(?://|#(?!\[|include|define|if|endif|pragma)|\*|/\*|--|;|%|<!--|\(\*|\{-)")
# Between the lines of a long comment stand a few that look like code: examples in block comments without stars.
_SHARE = 0.9


def is_comment(text: str) -> bool:
    """Whether all but a few lines of a text begin like comments; blank lines do not count."""
    lines = [line for line in text.split("\n") if line.strip()]
    return bool(lines) and sum(bool(_COMMENT.match(line)) for line in lines) >= _SHARE * len(lines)
