"""A model's code as text: the grammar that fences it, and the code alone when it has been written. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chains.writing.barring import Barred

_LEAST_FENCE = 3
# llama.cpp reads a run of alternatives; more backticks than this in a file are no code and no prose.
_MOST_FENCE = 40
_OPENING = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n", re.MULTILINE)
NOTHING_BARRED = Barred()


@dataclass(frozen=True, slots=True)
class Fence:
    """The marks between which code stands: longer than any run of backticks in the text that it is made for."""

    marks: str = "`" * _LEAST_FENCE
    language: str = ""

    @classmethod
    def around(cls, text: str, language: str = "") -> Fence:
        """The shortest fence that no line of `text` can close."""
        longest = max(map(len, re.findall("`+", text)), default=0)
        return cls("`" * min(max(_LEAST_FENCE, longest + 1), _MOST_FENCE), language)

    @property
    def opening(self) -> str:
        """The line that opens a block: what an answer is made to begin with."""
        return f"{self.marks}{self.language}\n"

    def block(self, code: str) -> str:
        """Code as a prompt shows it."""
        return f"{self.opening}{code.removesuffix(chr(10))}\n{self.marks}\n"

    def grammar(self, barred: Barred = NOTHING_BARRED) -> str:
        """GBNF of what follows the opening line: any lines, the first of which that begins with the marks ends it.

        The text itself is free but for what is barred; what it cannot do is to end without the closing line, or to go
        on behind it.
        """
        return "\n".join([f'root ::= lines "{self.marks}" "\\n"?', *barred.rules(self.marks), ""])

    def body(self, written: str) -> str:
        """The code of an answer that was made to begin with the opening line, whether or not it was finished."""
        closing = re.search(rf"^{self.marks}", written, re.MULTILINE)
        return written[: closing.start()] if closing else written

    def closes(self, written: str) -> bool:
        """Whether the closing line has been written."""
        return re.search(rf"^{self.marks}", written, re.MULTILINE) is not None


def fenced_code(text: str) -> str:
    """The code of a free answer: its first fenced block, closed or cut short; all of it where there is none."""
    opening = _OPENING.search(text)
    if opening is None:
        return text
    rest = text[opening.end() :]
    closing = re.search(rf"^[ \t]*{re.escape(opening[1])}[ \t]*$", rest, re.MULTILINE)
    return rest[: closing.start()] if closing else rest


def margin_of(text: str) -> str:
    """The white space that every line which is not blank begins with."""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return ""
    first, last = min(lines), max(lines)
    size = 0
    while size < len(first) and first[size] in " \t" and last[size : size + 1] == first[size]:
        size += 1
    return first[:size]


def without_margin(text: str, margin: str) -> str:
    """The text with `margin` taken off each line that has it."""
    return "\n".join(line.removeprefix(margin) for line in text.split("\n"))


def with_margin(text: str, margin: str) -> str:
    """The text with `margin` in front of each line that is not blank."""
    return "\n".join(margin + line if line.strip() else line for line in text.split("\n"))
