"""What a request lets go: whether something may be empty afterwards, and whether definitions may be gone. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from chains.search.query import looks_like_code
from chains.writing.wishes import CLAUSE

_GOING = (
    r"(?:delet(?:e|ing)|remov(?:e|ing)|drop(?:ping)?|eras(?:e|ing)|rm|get(?:ting)?\s+rid\s+of|"
    r"renam(?:e|ing)|mov(?:e|ing))"
)
_REMOVES = re.compile(rf"(?:{CLAUSE}|\bby\s+)(?P<verb>{_GOING})\b\s*", re.IGNORECASE)
# So much is read behind a verb.
_REACH = 400
_ENDS = re.compile(
    r"\b(?:from|in|into|inside|within|to|with|without|on|at|by|as|so|that|which|because|since|when|if|where|while|of|for|"
    r"instead|after|before|under)\b|[.;:!?](?:\s|$)|\n",
    re.IGNORECASE,
)
_BORDER = re.compile(r"\s*,\s*(?:and\s+|or\s+)?|\s+and\s+|\s+or\s+")
_LISTED = re.compile(r"`|(?:the|all|its|their|any|every|this|both|unused|dead)\b", re.IGNORECASE)
_DEAD = re.compile(r"\b(?:dead|unused|unreachable)\s+code\b", re.IGNORECASE)
_DEFINITIONS = re.compile(
    r"\b(?:functions?|methods?|class(?:es)?|subclass(?:es)?|propert(?:y|ies)|helpers?|definitions?|tests?|fixtures?|"
    r"structs?|enums?|interfaces?|traits?|endpoints?|handlers?|commands?|wrappers?|constructors?|members?|overloads?|"
    r"accessors?|[gs]etters?)\b",
    re.IGNORECASE,
)
# Elsewhere they have another name: `A.f` is `B.f`. A function keeps its own.
_MEMBERS = re.compile(
    r"\b(?:methods?|propert(?:y|ies)|members?|constructors?|accessors?|[gs]etters?)\b|\w\.\w", re.IGNORECASE
)
# What belongs to a definition and can go without it: "the function's docstring", "the `timeout` parameter".
_PARTS = re.compile(
    r"\b(?:param(?:eter)?s?|arguments?|args?|imports?|comments?|docstrings?|decorators?|annotations?|hints?|calls?|uses?|"
    r"usages?|whitespace|spaces?|lines?|prints?|logs?|logging|statements?|variables?|flags?|options?|fields?|attributes?|"
    r"keys?|defaults?|checks?|branch(?:es)?|loops?|assert(?:ion)?s?|warnings?|support|dependenc(?:y|ies)|output|input|"
    r"names?|values?|constants?|docs?|documentation|references?|mentions?|links?|headings?|sections?|semicolons?|"
    r"newlines?|body|bodies|returns?|prefix(?:es)?|suffix(?:es)?|globals?|casts?|todos?)\b",
    re.IGNORECASE,
)
_CODE = re.compile(r"`([^`\n]+)`")


def removes(request: str) -> bool:
    """Whether something is to go or to be elsewhere, so that nothing may be what is left of a place."""
    return _REMOVES.search(request) is not None


def loses_definitions(request: str, defined: Callable[[str], bool]) -> bool:
    """Whether definitions are to go or to get other names, so that it is no mistake when they are gone.

    :param defined: whether a name is that of a definition which the request may be about.
    """
    return any(_is_definition(thing, defined) for thing in _gone(request))


def _gone(request: str) -> Iterator[str]:
    """What is to be removed, renamed or moved away: the objects of those verbs, one by one."""
    for match in _REMOVES.finditer(request):
        rest = request[match.end() : match.end() + _REACH]
        # A word in backticks ends no phrase.
        end = _ENDS.search(_CODE.sub(lambda found: "_" * len(found.group()), rest))
        for number, piece in enumerate(_BORDER.split(rest[: end.start() if end else len(rest)])):
            first = piece.split(None, 1)[0] if piece.split() else ""
            # "Remove the comments and simplify `f`": what follows is another wish.
            if number and not (_LISTED.match(piece) or looks_like_code(first)):
                break
            if not match["verb"].lower().startswith("mov") or _MEMBERS.search(piece):
                yield piece


def _is_definition(thing: str, defined: Callable[[str], bool]) -> bool:
    bare = _CODE.sub(" ", thing)
    if _DEAD.search(bare):
        return True
    if _PARTS.search(bare):
        return False
    if _DEFINITIONS.search(bare):
        return True
    words = [word for word in bare.split() if word.lower() not in ("the", "a", "an", "all")]
    names = [match.group(1) for match in _CODE.finditer(thing)]
    names += words if len(words) == 1 else filter(looks_like_code, words)
    return any(defined(name.removesuffix("()")) for name in names)
