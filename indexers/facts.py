"""What the symbol graph knows of one file: definitions, names in use, words of its imports; and how that is stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# Raised whenever the same text gives other facts: stored ones are then made anew.
FACTS_VERSION = 1

CALL, TYPE, IMPORT, NAME = "call", "type", "import", "name"
# Encloses lines but is no definition of its own: an `impl`, a further clause of a function.
SCOPE, CLAUSE = "scope", "clause"
# Something stands before the dot of a name, but no plain word.
UNKNOWN = "?"


class Defined(NamedTuple):
    """A definition. Lines are 1-based: of its name, its first and its last; `path` ends in its name, outermost first.

    `kind` is that of `types.Symbol`, or `scope` or `clause` for what only encloses lines.
    """

    name: str
    kind: str
    line: int
    start_line: int
    end_line: int
    path: tuple[str, ...]

    @property
    def is_hidden(self) -> bool:
        """Whether this only encloses lines and is no definition to list."""
        return self.kind in (SCOPE, CLAUSE)


class Reference(NamedTuple):
    """A name that a file uses: `kind` is call, type, import or name; `lines` are those of its uses, ascending.

    `receiver` is the word before its dot (`self`, a variable, a class, a module), `?` where that is no plain word,
    and empty for a name that stands alone.
    """

    name: str
    kind: str
    receiver: str
    lines: tuple[int, ...]


def _nesting(item: Defined) -> tuple[int, int]:
    return item.start_line, -item.end_line


class FileFacts(NamedTuple):
    """The facts of one file. `imports` are the words of its import statements."""

    defined: tuple[Defined, ...] = ()
    references: tuple[Reference, ...] = ()
    imports: frozenset[str] = frozenset()

    def enclosing(self, lines: Iterable[int]) -> dict[int, Defined]:
        """The innermost definition around each line that stands in one; a constant encloses nothing."""
        found: dict[int, Defined] = {}
        waiting = sorted((d for d in self.defined if d.kind != "constant"), key=_nesting, reverse=True)
        open_: list[Defined] = []
        for line in sorted(set(lines)):
            while waiting and waiting[-1].start_line <= line:
                open_.append(waiting.pop())
            while open_ and open_[-1].end_line < line:
                open_.pop()
            if open_:
                found[line] = open_[-1]
        return found


class Piece(NamedTuple):
    """Whole lines of a file; `start_line` and `end_line` are 1-based and inclusive."""

    start_line: int
    end_line: int
    text: str


def whole_lines(pieces: Iterable[Piece]) -> list[str]:
    """The lines of a file from its pieces in order: line n stands at n - 1, and what no piece holds is blank."""
    lines: list[str] = []
    for piece in pieces:
        lines += [""] * (piece.start_line - 1 - len(lines))
        lines += piece.text.split("\n")
    return lines


def merged(parts: Iterable[FileFacts]) -> FileFacts:
    """The facts of a file that was read in parts."""
    found = list(parts)
    return FileFacts(
        tuple(item for part in found for item in part.defined),
        tuple(item for part in found for item in part.references),
        frozenset[str]().union(*(part.imports for part in found)),
    )


def encode_defined(defined: Sequence[Defined]) -> str:
    """Definitions as text for the ledger."""
    return json.dumps(defined, ensure_ascii=False, separators=(",", ":"))


def decode_defined(text: str) -> tuple[Defined, ...]:
    """What `encode_defined` wrote."""
    rows = json.loads(text)
    return tuple(Defined._make((*row[:5], tuple(row[5]))) for row in rows)


def encode_used(facts: FileFacts) -> str:
    """References and imports as text for the ledger."""
    return json.dumps([facts.references, sorted(facts.imports)], ensure_ascii=False, separators=(",", ":"))


def decode_used(text: str) -> tuple[tuple[Reference, ...], frozenset[str]]:
    """What `encode_used` wrote."""
    references, imports = json.loads(text)
    return tuple(map(Reference._make, references)), frozenset(imports)
