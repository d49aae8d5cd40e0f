"""Reads a file's text into facts for the symbol graph: what it defines, which names it uses, what it imports. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from indexers import definitions as finder
from indexers import patterns, syntax
from indexers.facts import (
    CALL,
    CLAUSE,
    IMPORT,
    NAME,
    TYPE,
    UNKNOWN,
    Defined,
    FileFacts,
    Piece,
    Reference,
    merged,
    whole_lines,
)
from indexers.languages import NOTEBOOK
from indexers.outline import COMPONENTS, scripts
from indexers.reference_patterns import LEAVES, QUERIES, Leaves

if TYPE_CHECKING:
    from tree_sitter import Node

    from indexers.definitions import Definition
    from indexers.syntax import Syntax

_LONGEST_NAME = 120
# A file of a megabyte that is nothing but names: what is beyond says no more about it.
_MOST_USES = 100_000
_LONGEST_IMPORT = 4_000
_MOST_IMPORT_WORDS = 2_000
# How far back a receiver is looked for, in bytes.
_LOOKED_BACK = 100

# What may stand between a name and the bracket of its call: `name!(`, `name::<T>(`, `name<T>(`, `name[T](`.
_CALLED = re.compile(
    rb"(?:!|(?:::)?<[^<>();={}\n]{0,80}(?:<[^<>();={}\n]{0,60}>[^<>();={}\n]{0,40})?>|\[[\w.*, \[\]]{1,60}\])?\s?\("
)
_WORD = bytes(b for b in range(256) if b >= 128 or chr(b).isalnum() or chr(b) in "_$@")
_ACCESS = frozenset({b".", b"::", b"->", b"?.", b"&.", b"!!.", b"?->"})
_LAST_OF_ACCESS = frozenset(b".:>")
# Imports that most grammars take for a call with a string, or that are clauses like any other (Elixir, shell).
_IMPORTED = re.compile(
    rb"""(?:\b(?:require|require_relative|import|from|include|load|source|autoload|import_module|library)|@import)
    \s*\(?\s*["']([\w./@-]{1,200})["']|^[ \t]*(?:alias|import|use|require|mod|source|\.)[ \t]+([\w./:]{1,200})""",
    re.VERBOSE | re.MULTILINE,
)
_IMPORT_WORD = re.compile(rb"[^\W\d]\w*")
_NAMELIKE = re.compile(r"(?:^|_)(?:identifier|name|atom|constant|constructor|alias)$", re.IGNORECASE)
_NOT_A_NAME = re.compile(r"^(?:statement|package|blank|reserved|operator|scoped|qualified|nested)_|_pattern$")
_LETTER = re.compile(r"[^\W\d_]")


def read_file(pieces: Sequence[Piece], language: str) -> FileFacts:
    """The facts of a file that is stored in pieces, given in order of lines."""
    if language == NOTEBOOK:
        return merged(_read_cells(pieces))
    return read_text("\n".join(whole_lines(pieces)), language)


def read_text(text: str, language: str) -> FileFacts:
    """The facts of a text; only definitions, by the shape of their lines, where no grammar can read it."""
    if language in COMPONENTS:
        return merged(read_text(script, "typescript") for _, script in scripts(text))
    tree = syntax.parse(text, language)
    if tree is None:
        return FileFacts(_defined(finder.from_lines(text.split("\n"), language)))
    defined = _defined(finder.from_tree(tree) or finder.from_lines(text.split("\n"), language))
    if tree.grammar not in patterns.TREE and language not in patterns.LINES:
        return FileFacts(defined)  # style sheets and the like: nothing in them names code
    table = _table(tree.grammar)
    captures = tree.captures(table.query)
    names = {(item.line - 1, item.name) for item in defined}
    return FileFacts(
        defined, _references(tree, table, captures, names), _imports(tree, captures.get("import", ()))
    )


def _defined(found: Iterable[Definition]) -> tuple[Defined, ...]:
    return tuple(
        Defined(d.name, CLAUSE if d.repeated else d.kind, d.row + 1, d.start + 1, d.end + 1, d.path)
        for d in found
    )


def _read_cells(pieces: Iterable[Piece]) -> Iterator[FileFacts]:
    """A notebook's pieces, each on its own, in the language that nearly all are written in.

    Where cells were joined, rows are not lines of the file: all of the piece then counts as its first line.
    """
    for piece in pieces:
        tree = syntax.parse(piece.text, "python")
        if tree is None or tree.root.has_error:  # another language, or prose
            continue
        exact = piece.text.count("\n") == piece.end_line - piece.start_line
        yield _moved(read_text(piece.text, "python"), piece.start_line - 1, exact)


def _moved(facts: FileFacts, by: int, exact: bool) -> FileFacts:
    def line(number: int) -> int:
        return number + by if exact else by + 1

    defined = (
        item._replace(line=line(item.line), start_line=line(item.start_line), end_line=line(item.end_line))
        for item in facts.defined
    )
    references = (item._replace(lines=tuple(map(line, item.lines))) for item in facts.references)
    return facts._replace(defined=tuple(defined), references=tuple(references))


class _Table(NamedTuple):
    """How names are found in one grammar; `generic` when nobody wrote down which kinds of nodes are leaves."""

    query: str
    all_calls: bool
    generic: bool


@cache
def _table(grammar: str) -> _Table:
    leaves = LEAVES.get(grammar)
    generic = leaves is None
    if leaves is None:
        kinds = (kind for kind in syntax.named_kinds(grammar) if _NAMELIKE.search(kind))
        leaves = Leaves(tuple(sorted(kind for kind in kinds if not _NOT_A_NAME.search(kind))))
    parts = [QUERIES.get(grammar, "")]
    for capture, kinds_ in (("leaf", leaves.names), ("type", leaves.types)):
        if kinds_:
            parts.append(f"[{' '.join(f'({kind})' for kind in kinds_)}] @{capture}")
    return _Table("\n".join(parts), leaves.all_calls, generic)


def _references(
    tree: Syntax, table: _Table, captures: Mapping[str, Sequence[Node]], defined: set[tuple[int, str]]
) -> tuple[Reference, ...]:
    """Every use of a name, grouped; `defined` holds row and name of definitions, which do not use themselves."""
    skipped, imports = _Ranges(captures.get("skip", ())), _Ranges(captures.get("import", ()))
    name_of = lru_cache(maxsize=None)(_name)  # names repeat
    bound = {name_of(tree.data[n.start_byte : n.end_byte]) for n in captures.get("bound", ())}
    called = {node.start_byte for node in captures.get("call", ())}
    uses: dict[tuple[str, str, str], list[int]] = {}
    for node, kind in _leaves(captures):
        start, end = node.start_byte, node.end_byte
        if skipped.hold(start) or (table.generic and node.child_count):
            continue
        row = node.start_point.row
        name, receiver = name_of(tree.data[start:end]), _receiver(tree, start)
        if not name or (row, name) in defined:
            continue
        if "." in name:  # Elixir's aliases
            receiver, _, name = name.rpartition(".")
            receiver = receiver.rpartition(".")[2]
        if imports.hold(start):
            kind = IMPORT
        elif start in called or _CALLED.match(tree.data, end):
            kind = CALL
        elif name in bound and not receiver:
            continue
        elif kind == NAME and table.all_calls:
            kind = CALL
        uses.setdefault((name, kind, receiver), []).append(row + 1)
    return tuple(Reference(*key, tuple(sorted(uses[key]))) for key in sorted(uses))


def _leaves(captures: Mapping[str, Sequence[Node]]) -> list[tuple[Node, str]]:
    """Every node that may be a name in use, once, with the kind that its own kind says."""
    found: dict[int, tuple[Node, str]] = {}
    for capture, kind in (("type", TYPE), ("leaf", NAME), ("call", CALL)):
        for node in captures.get(capture, ())[:_MOST_USES]:
            found.setdefault(node.start_byte, (node, kind))
    return list(found.values())


def _name(raw: bytes) -> str:
    """A leaf as a name; empty for what is too long to be one, or has no letter in it."""
    if len(raw) > _LONGEST_NAME:
        return ""
    name = raw.decode("utf-8", "replace")
    return name if _LETTER.search(name) and len(name.split()) == 1 else ""


def _receiver(tree: Syntax, start: int) -> str:
    """The word before the dot before a name."""
    if not start or tree.data[start - 1] not in _LAST_OF_ACCESS:
        return ""
    head = tree.data[max(0, start - _LOOKED_BACK) : start]
    before = head.rstrip(b".:>-?&!")
    access = head[len(before) :]
    if access not in _ACCESS and not (access == b":" and tree.grammar == "lua"):
        return UNKNOWN if access.endswith((b">::", b">.")) else ""
    before = before.rstrip()
    word = before[len(before.rstrip(_WORD)) :]
    return word.decode("utf-8", "replace") or UNKNOWN


def _imports(tree: Syntax, statements: Sequence[Node]) -> frozenset[str]:
    """The words of all imports: parts of paths and names alike."""
    texts = [tree.data[n.start_byte : min(n.end_byte, n.start_byte + _LONGEST_IMPORT)] for n in statements]
    texts += [match[1] or match[2] for match in _IMPORTED.finditer(tree.data)]
    words = dict.fromkeys(word for text in texts for word in _IMPORT_WORD.findall(text))
    return frozenset(word.decode("utf-8", "replace") for word in list(words)[:_MOST_IMPORT_WORDS])


class _Ranges:
    """Stretches of bytes that nodes cover; nodes nest or lie apart."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        spans = sorted((node.start_byte, node.end_byte) for node in nodes)
        self._starts = [start for start, _ in spans]
        # What began earlier may reach further.
        self._ends: list[int] = []
        for _, end in spans:
            self._ends.append(max(end, self._ends[-1]) if self._ends else end)

    def hold(self, position: int) -> bool:
        """Whether some node covers a position."""
        if not self._starts or position < self._starts[0] or position >= self._ends[-1]:
            return False
        return position < self._ends[bisect_right(self._starts, position) - 1]
