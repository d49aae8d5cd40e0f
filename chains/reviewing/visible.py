"""Characters that nobody sees, and lines with every one of them written out. Pure."""

from __future__ import annotations

import re

BIDI = "\u202a-\u202e\u2066-\u2069"
INVISIBLE = "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2060-\u2064\u206a-\u206f\u3164\ufeff\uffa0"
CARRIERS = "\U000e0000-\U000e007f\U000e0100-\U000e01ef"
SUSPECT = re.compile(f"[{BIDI}{INVISIBLE}{CARRIERS}]")


def visible(line: str) -> str:
    """The line with every such character written out."""
    return SUSPECT.sub(lambda match: f"\u27e6U+{ord(match[0]):04X}\u27e7", line)
