"""Text -> keyword tokens, the same for index and query: identifiers whole and in parts, lightly stemmed."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile(r"\w+")
_QUALIFIED = re.compile(r"[.:#]+")
# Borders inside an identifier: aB, ABc, a1, 1a. Underscores are separators of their own.
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Scripts written without spaces: a run of them is indexed by pairs of characters.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]+")
# A token longer than this is data (base64, hashes), and would only bloat the index.
_MAX_TOKEN = 64
_CACHE_LIMIT = 200_000
# string, exceed, embed: what looks like an ending is part of the word.
_NO_ENDING = re.compile("[^aeiouy]*ing|[a-z]*[cp]eed|embed")
_LOST_E = re.compile("[^aeiou][aeiouy][^aeiouywx]")
# Every ASCII character outside of words as a space, in UTF-8 too, so that splitting finds what `_WORD` would, three
# times faster. What then still holds other signs is looked at once and remembered.
_ASCII_WORDS = bytes(b if b > 127 or chr(b).isalnum() or b == ord("_") else ord(" ") for b in range(256))


def stem(word: str) -> str:
    """Cut the commonest English endings so that parse, parses, parsed and parsing meet.

    Deliberately lighter than Porter's algorithm: code identifiers lose their identity under heavy stemming.
    """
    size = len(word)
    if size < 4 or not word.isascii():
        return word
    if word.endswith(("ies", "ied")):
        return word[:-3] + "y" if size > 4 else word
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
        size -= 1
    for ending, least in (("ing", 6), ("ed", 5)):
        if size >= least and word.endswith(ending):
            return word if _NO_ENDING.fullmatch(word) else _undouble(word[: -len(ending)])
    return word[:-1] if size > 4 and word.endswith("e") else word


def _undouble(root: str) -> str:
    """`mapp` -> `map`; `typ` -> `type`: short words keep their final e, so their other forms get it back."""
    if len(root) > 3 and root[-1] == root[-2] and root[-1] not in "lsz":
        return root[:-1]
    return root + "e" if _LOST_E.fullmatch(root) else root


def split_identifier(word: str) -> list[str]:
    """The lower-case parts of an identifier: `HTTPServer2_start` -> http, server, 2, start."""
    if not word.isascii():
        spaced = _UNSPACED.sub(lambda run: "_".join(("", *_pairs(run[0]), "")), word.lower())
        return [part for part in spaced.split("_") if part]
    return [part.lower() for part in _PART.findall(word)]


def last_component(name: str) -> str:
    """What follows the last separator of a qualified name: `Router` of Phoenix.Router, A::Router and A#Router."""
    return _QUALIFIED.split(name)[-1]


def _pairs(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(len(run) - 1)] or [run]


def _expand(word: str) -> tuple[str, ...]:
    if "_" not in word and not word.isascii() and not _UNSPACED.search(lower := word.lower()):
        return (stem(lower),)
    parts = split_identifier(word)
    whole = word.lower().strip("_")
    if len(parts) <= 1:
        return (stem(whole),) if whole else ()
    stemmed = [stem(part) for part in parts if len(part) > 1 or part.isdigit()]
    return (whole, *stemmed)


def _long(word: str) -> tuple[str, ...]:
    return _expand(word)[1:] if _UNSPACED.search(word) else ()


class _Expanded(dict[str, str]):
    """Pieces of text and their tokens, joined by spaces; each piece is taken apart when it turns up first."""

    def __missing__(self, piece: str) -> str:
        words = (piece,) if piece.isascii() else _WORD.findall(piece)
        if words and words[0] == piece:
            tokens = " ".join(_expand(piece) if len(piece) <= _MAX_TOKEN else _long(piece))
        else:
            tokens = " ".join(filter(None, map(self.__getitem__, words)))
        if len(piece) <= _MAX_TOKEN:
            if len(self) >= _CACHE_LIMIT:
                self.clear()
            self[piece] = tokens
        return tokens


_expanded = _Expanded()


def joined_tokens(text: str) -> str:
    """All tokens of a text in order, with repeats, joined by spaces; no token holds white space."""
    code = "surrogatepass"
    pieces = text.encode("utf-8", code).translate(_ASCII_WORDS).decode("utf-8", code).split()
    return " ".join(filter(None, map(_expanded.__getitem__, pieces)))


def tokenize(text: str) -> list[str]:
    """All tokens of a text in order, with repeats. A compound identifier yields itself, then its parts."""
    return joined_tokens(text).split()


def whole_word(name: str) -> re.Pattern[str]:
    """Finds a name where it is no part of a longer word; it may hold any character."""
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")


def unique(tokens: Iterable[str]) -> list[str]:
    """Tokens without repeats, first occurrence kept."""
    return list(dict.fromkeys(tokens))
