"""Whether a piece of code passes on a name that is defined elsewhere: re-exports and aliases. Pure."""

from __future__ import annotations

import re

# Up to the name, inside one statement. Bounded: the text is anybody's.
_WITHIN = r"[^;]{0,2000}?"
_FORMS = (
    rf"\bpub(?:\([^)]{{0,80}}\))?\s+use\b{_WITHIN}",  # Rust
    r"\bexport\b[^;{]{0,80}\{[^}]{0,2000}?",  # JavaScript, TypeScript
    r"^from\s+\S+\s+import\b(?:[^(\n]{0,500}?|\s*\([^)]{0,2000}?)",  # Python, at the top level
    r"^using\s+[\w:]{0,200}::",  # C++
    r"^export\s+",  # Scala, Elm
)


def reexports(text: str, name: str) -> bool:
    """Whether a statement in `text` makes `name`, defined somewhere else, available from here."""
    if name not in text:
        return False
    wanted = rf"\b{re.escape(name)}\b"
    return any(re.search(form + wanted, text, re.MULTILINE) for form in _FORMS)
