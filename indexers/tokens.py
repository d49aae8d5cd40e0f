"""Text -> keyword tokens, the same for index and query: identifiers whole and in parts, lightly stemmed."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile(r"\w+")
# Borders inside an identifier: aB, ABc, a1, 1a. Underscores are separators of their own.
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# A token longer than this is data (base64, hashes), and would only bloat the index.
_MAX_TOKEN = 64
_CACHE_LIMIT = 200_000

_cache: dict[str, tuple[str, ...]] = {}


def stem(word: str) -> str:
    """Cut the commonest English endings so that parse, parses, parsed and parsing meet.

    Deliberately lighter than Porter's algorithm: code identifiers lose their identity under heavy stemming.
    """
    size = len(word)
    if size < 4 or not word.isascii():
        return word
    if word.endswith("ies"):
        return word[:-3] + "y" if size > 4 else word
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
        size -= 1
    for ending, least in (("ing", 6), ("ed", 5)):
        if size >= least and word.endswith(ending):
            return _undouble(word[: -len(ending)])
    return word[:-1] if size > 4 and word.endswith("e") else word


def _undouble(word: str) -> str:
    """`mapp` -> `map`; a final e goes as well, so that `cached` and `cache` agree."""
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        return word[:-1]
    return word[:-1] if len(word) > 4 and word[-1] == "e" else word


def split_identifier(word: str) -> list[str]:
    """The lower-case parts of an identifier: `HTTPServer2_start` -> http, server, 2, start."""
    if not word.isascii():
        return [part for part in word.lower().split("_") if part]
    return [part.lower() for part in _PART.findall(word)]


def _expand(word: str) -> tuple[str, ...]:
    parts = split_identifier(word)
    whole = word.lower().strip("_")
    if len(parts) <= 1:
        return (stem(whole),) if whole else ()
    stemmed = [stem(part) for part in parts if len(part) > 1 or part.isdigit()]
    return (whole, *stemmed)


def tokenize(text: str) -> list[str]:
    """All tokens of a text in order, with repeats. A compound identifier yields itself, then its parts."""
    found: list[str] = []
    for word in _WORD.findall(text):
        tokens = _cache.get(word)
        if tokens is None:
            tokens = _expand(word) if len(word) <= _MAX_TOKEN else ()
            if len(_cache) >= _CACHE_LIMIT:
                _cache.clear()
            _cache[word] = tokens
        found += tokens
    return found


def unique(tokens: Iterable[str]) -> list[str]:
    """Tokens without repeats, first occurrence kept."""
    return list(dict.fromkeys(tokens))
