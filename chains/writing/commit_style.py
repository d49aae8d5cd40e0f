"""How a repository writes its commit messages, read off the last ones, as a grammar for the next. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_CONVENTIONAL = re.compile(r"([a-z]{2,12})(\([\w./ -]{1,30}\))?!?: \S")
_LEAST, _MOST, _USUAL = 30, 100, 72
_SHARE = 0.6
_TYPES = ("feat", "fix", "docs", "style", "refactor", "perf", "test", "build", "ci", "chore", "revert")
# What merges and machines write says nothing about how people do.
_NOT_WRITTEN = re.compile(r"Merge |Revert \"|Bump |\[pre-commit|fixup!|squash!|amend!")
_ISSUE = re.compile(r"\s*\(?(?:#\d+|GH-\d+)\)?\.?$")


@dataclass(frozen=True, slots=True)
class Style:
    """`types` begin a subject, before a colon, and are empty where subjects have none; `longest` is in characters.

    `scoped` allows a scope in brackets behind the type; `free` any first character, as where subjects begin with a tag
    in brackets, a sign or another script's letters.
    """

    subjects: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    scoped: bool = False
    capital: bool = True
    period: bool = False
    free: bool = False
    longest: int = _USUAL

    def grammar(self) -> str:
        """GBNF of one subject in this style."""
        first = r"[^\n\x00-\x20\x7F]" if self.free else "[A-Z]" if self.capital else "[a-z]"
        inner = r"[^\n\x00-\x1F\x7F]"
        last = '"."' if self.period else r"[^\n\x00-\x20\x7F.,;:]"
        text = f"{first} {inner}{{4,{max(8, self.longest - 8)}}} {last}"
        if not self.types:
            return f"root ::= {text}\n"
        kinds = " | ".join(f'"{kind}"' for kind in self.types)
        scope = '("(" [a-z0-9_./-]{1,20} ")")? ' if self.scoped else ""
        return f'root ::= type {scope}": " {text}\ntype ::= {kinds}\n'


def style_of(messages: Sequence[str]) -> Style:
    """The style that most of these messages have; the usual one where there are none."""
    subjects = [_subject(message) for message in messages]
    written = [subject for subject in subjects if subject and not _NOT_WRITTEN.match(subject)]
    if not written:
        return Style()
    typed = [match for subject in written if (match := _CONVENTIONAL.match(subject))]
    conventional = len(typed) >= _SHARE * len(written)
    types: tuple[str, ...] = ()
    if conventional:
        used = Counter(match[1] for match in typed)
        types = tuple(dict.fromkeys([*(kind for kind, _ in used.most_common()), *_TYPES]))
    rest = [
        _CONVENTIONAL.sub(lambda match: match[0][-1], subject) if conventional else subject
        for subject in written
    ]
    initial = [text[0] for text in rest if text[:1].isalpha()]
    free = sum(text[:1].isascii() and text[:1].isalpha() for text in rest) < (1 - _SHARE) * len(rest)
    capital = sum(char.isupper() for char in initial) * 2 >= len(initial)
    period = sum(subject.endswith(".") for subject in written) > _SHARE * len(written)
    lengths = sorted(len(subject) for subject in written)
    longest = min(_MOST, max(_LEAST, lengths[int(0.9 * (len(lengths) - 1))]))
    scoped = conventional and sum(bool(match[2]) for match in typed) >= len(typed) / 3
    return Style(tuple(written), types, scoped, capital, period, free, max(longest, 50))


def tidied(text: str, style: Style) -> str:
    """A subject as it was written, on one line, at most as long as the style has them, cut between words."""
    subject = _ISSUE.sub("", " ".join(text.split("\n", 1)[0].split()))
    if len(subject) > style.longest + 10:
        subject = subject[: style.longest].rpartition(" ")[0].rstrip(",;:")
    return subject


def _subject(message: str) -> str:
    first = message.strip().split("\n", 1)[0].strip()
    return _ISSUE.sub("", "".join(char for char in first if char.isprintable()))[:200]
