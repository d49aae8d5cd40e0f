"""Grammars of lines that do not begin with given words: what a model would rather say than do the work. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_COMMENTS = ("#", "//", "/*")
# What stands for itself in a string, and in a set of characters, of GBNF.
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\\": "\\\\", '"': '\\"', "]": "\\]", "-": "\\x2D"}


@dataclass(frozen=True, slots=True)
class Barred:
    """What an answer may not begin a line with behind its white space.

    :param first: nor its first statement: the first line that is neither blank nor a comment.
    :param ever: nor any line. A word that ends in a line break bars that line alone, not longer ones.
    """

    first: tuple[str, ...] = ()
    ever: tuple[str, ...] = ()

    def rules(self, marks: str) -> list[str]:
        """The rules `lines` and `rest`: lines that begin with none of the words, nor with `marks` at the margin."""
        lines = [*_line("line", marks, self.ever), 'rest ::= [^\\n\\x00]* "\\n"']
        if not self.first:
            return ["lines ::= line*", *lines]
        return [
            "lines ::= lead* first line*",
            f'lead ::= [ \\t]* ("\\n" | ({" | ".join(map(_literal, _COMMENTS))}) rest)',
            *_line("first", marks, (*self.first, *self.ever, *_COMMENTS, "\n")),
            *lines,
        ]


def _line(name: str, marks: str, words: Sequence[str]) -> list[str]:
    """Two rules: a line as it begins at the margin, and what may follow white space."""
    return [
        f"{name} ::= {_beside([marks, *words])} | [ \\t]+ {name}-in",
        f"{name}-in ::= {_beside(words)}",
    ]


def _beside(words: Sequence[str]) -> str:
    """Alternatives for a line with its break that begins with none of the words, nor with white space.

    One for each prefix of a word: it, and then a character that leads to no word.
    """
    shortest = [
        word for word in words if not any(word != other and word.startswith(other) for other in words)
    ]
    found = []
    for prefix in sorted({word[:size] for word in shortest for size in range(len(word))}) or [""]:
        leads = {word[len(prefix)] for word in shortest if word.startswith(prefix)}
        ends = [] if "\n" in leads else ['"\\n"']
        leads |= {" ", "\t"} if not prefix else set()
        ends.append(f"[^{_escaped(''.join(sorted(leads - {chr(10)})))}\\n\\x00] rest")
        found.append(f"{_literal(prefix)} ({' | '.join(ends)})" if prefix else " | ".join(ends))
    return " | ".join(found)


def _literal(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(char, char) for char in text)
