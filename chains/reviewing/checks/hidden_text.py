"""Characters that make code read otherwise than it runs: bidirectional controls, invisible ones, look-alikes."""

# Trojan Source (CVE-2021-42574, CVE-2021-42694); tags and variation selectors carry text to a model that no person
# sees. What languages need is let through: joiners inside words of scripts that join, and inside emoji.

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from chains.reviewing.checks.lines import added_lines, finding
from chains.reviewing.types import FileDiff, Finding, Severity

CATEGORY = "hidden-text"
_BIDI = "\u202a-\u202e\u2066-\u2069"
_INVISIBLE = "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2060-\u2064\u206a-\u206f\u3164\ufeff\uffa0"
_CARRIERS = "\U000e0000-\U000e007f\U000e0100-\U000e01ef"
_SUSPECT = re.compile(f"[{_BIDI}{_INVISIBLE}{_CARRIERS}]")
_CODE_POINT = re.compile(f"[{_BIDI}]")
_CARRIER = re.compile(f"[{_CARRIERS}]")
_JOINERS = "\u200c\u200d"
_MARKS = "\u200e\u200f\u061c"
_PROSE = frozenset({"markdown", "text", "rst", "html", "xml", "json", "yaml", "latex"})
# Scripts whose words are spelled with joiners.
_JOINING = re.compile("[\u0600-\u06ff\u0750-\u077f\u0900-\u0dff\u1000-\u109f\u1780-\u17ff\u1800-\u18af]")
_WORD = re.compile(r"[^\W\d_]\w*")
# Letters of Cyrillic and Greek that look like a Latin one.
_ALIKE = frozenset("асеорхуіјѕһԁӏАВЕКМНОРСТУХІЈЅοανικρτυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧ")


def check(file: FileDiff) -> Iterator[Finding]:
    """One finding for each added line with such a character, which is named by its code point."""
    for number, line in added_lines(file):
        if line.isascii():
            continue
        found = _hidden(line, first=number == 1)
        if found:
            grave = _CODE_POINT.match(found) or _CARRIER.match(found) or file.language not in _PROSE
            severity = Severity.HIGH if grave else Severity.MEDIUM
            message = f"A character that nobody sees: U+{ord(found):04X} {_name(found)}. The line is not what it seems."
            yield finding(file, number, severity, CATEGORY, message, quote=visible(line.strip()))
        elif file.language not in _PROSE and (word := _mixed(line)):
            message = f"{word!r} mixes letters of two alphabets that look alike."
            yield finding(file, number, Severity.MEDIUM, CATEGORY, message, quote=visible(line.strip()))


def _hidden(line: str, *, first: bool) -> str:
    for match in _SUSPECT.finditer(line):
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


def _mixed(line: str) -> str:
    """A word that holds Latin letters and look-alikes of them."""
    for word in _WORD.findall(line):
        if (
            not word.isascii()
            and any(c in _ALIKE for c in word)
            and any("a" <= c.lower() <= "z" for c in word)
        ):
            return str(word)
    return ""


def _name(character: str) -> str:
    return unicodedata.name(character, "unnamed")


def visible(line: str) -> str:
    """The line with every such character written out."""
    return _SUSPECT.sub(lambda match: f"\u27e6U+{ord(match[0]):04X}\u27e7", line)
