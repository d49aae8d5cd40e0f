"""Characters that make code read otherwise than it runs: bidirectional controls, invisible ones, look-alikes."""

# Trojan Source (CVE-2021-42574, CVE-2021-42694); tags and variation selectors carry text to a model that no person
# sees. What languages need is let through: joiners inside words of scripts that join, and inside emoji.

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING

from chains.reviewing.checks.lines import added_lines, finding
from chains.reviewing.checks.said import is_said
from chains.reviewing.types import FileDiff, Finding, Severity
from chains.reviewing.visible import BIDI, CARRIERS, SUSPECT
from indexers.syntax import parse

if TYPE_CHECKING:
    from indexers.syntax import Syntax

CATEGORY = "hidden-text"
_CODE_POINT = re.compile(f"[{BIDI}]")
_CARRIER = re.compile(f"[{CARRIERS}]")
_JOINERS = "\u200c\u200d"
_MARKS = "\u200e\u200f\u061c"
_PROSE = frozenset({"markdown", "text", "rst", "html", "xml", "json", "yaml", "latex"})
# Scripts whose words are spelled with joiners.
_JOINING = re.compile("[\u0600-\u06ff\u0750-\u077f\u0900-\u0dff\u1000-\u109f\u1780-\u17ff\u1800-\u18af]")
_WORD = re.compile(r"[^\W\d_]\w*")
_SOFT_HYPHEN = "\u00ad"
# A name is read as the words it is made of.
_PART = re.compile(r"[A-Z\u0370-\u03ab\u0400-\u042f]?[^\W\d_A-Z]+|[^\W\d_a-z]+")
# Letters of Cyrillic and Greek that look like a Latin one.
_ALIKE = frozenset("асеорхуіјѕһԁӏАВЕКМНОРСТУХІЈЅοανικρτυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧ")
# Those that stand for a quantity, alone or beside a Latin letter: `dν`, `αs`.
_QUANTITIES = frozenset("ανικρτυχ")


def check(file: FileDiff) -> Iterator[Finding]:
    """One finding for each added line with such a character, which is named by its code point."""
    trees: list[Syntax | None] = []
    for number, line in added_lines(file):
        if line.isascii():
            continue
        found = _hidden(line, first=number == 1)
        if found:
            if found == _SOFT_HYPHEN and not trees:
                trees.append(parse(file.after or "", file.language))
            said = found == _SOFT_HYPHEN and _is_only_said(trees[0], number, line)
            severity = Severity.HIGH if not said and _is_grave(found, file.language) else Severity.MEDIUM
            message = f"A character that nobody sees: U+{ord(found):04X} {_name(found)}. The line is not what it seems."
            yield finding(file, number, severity, CATEGORY, message)
        elif file.language not in _PROSE and (word := _mixed(line)):
            message = f"{word!r} mixes letters of two alphabets that look alike."
            yield finding(file, number, Severity.MEDIUM, CATEGORY, message)


def _hidden(line: str, *, first: bool) -> str:
    for match in SUSPECT.finditer(line):
        at, character = match.start(), match[0]
        if character == "\ufeff" and first and at == 0:
            continue
        around = line[max(0, at - 2) : at] + line[at + 1 : at + 3]
        if character in _JOINERS and (_JOINING.search(around) or _is_emoji(around)):
            continue
        if character in _MARKS and any(unicodedata.bidirectional(c) in ("R", "AL") for c in line):
            continue
        if _CARRIER.match(character) and line[:at].rstrip(
            "".join(map(chr, range(0xE0020, 0xE0080)))
        ).endswith("\U0001f3f4"):
            continue  # a regional flag is spelled with tags
        return character
    return ""


def _is_emoji(text: str) -> bool:
    return any(unicodedata.category(c) in ("So", "Sk") or c == "\ufe0f" for c in text)


def _is_grave(character: str, language: str) -> bool:
    """Whether a hidden character can change what code does, or carries text."""
    return bool(_CODE_POINT.match(character) or _CARRIER.match(character)) or language not in _PROSE


def _is_only_said(tree: Syntax | None, number: int, line: str) -> bool:
    """Whether every soft hyphen of a line is in a string or a comment: there it only says where to break a word."""
    places = [match.start() for match in re.finditer(_SOFT_HYPHEN, line)]
    return tree is None or all(is_said(tree, number, len(line[:at].encode())) for at in places)


def _mixed(line: str) -> str:
    """A word that holds Latin letters and look-alikes of them."""
    for word in _WORD.findall(line):
        if not word.isascii() and any(_is_disguised(part) for part in _PART.findall(word)):
            return str(word)
    return ""


def _is_disguised(part: str) -> bool:
    """Whether a part of a name looks Latin to its last letter, and is so only in part."""
    latin = [at for at, c in enumerate(part) if c.isascii()]
    alike = [at for at, c in enumerate(part) if c in _ALIKE]
    if not latin or not alike or len(latin) + len(alike) < len(part):
        return False
    return any(part[at] not in _QUANTITIES or latin[0] < at < latin[-1] for at in alike)


def _name(character: str) -> str:
    return unicodedata.name(character, "unnamed")
