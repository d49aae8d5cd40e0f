"""The only door to tree-sitter: text in, a syntax tree or None out, at a cost linear in the text."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from indexers.languages import grammar_of

if TYPE_CHECKING:
    from tree_sitter import Language, Node, Query

# Such a line is data or minified code, never something to cut by syntax.
_LONGEST_LINE = 20_000
# Brackets opened and not closed, or the reverse: some grammars need gigabytes for a megabyte of these.
_UNBALANCED = 2_000
_BRACKETS = ((b"(", b")"), (b"[", b"]"), (b"{", b"}"))
# Over long runs of operators, or of one thing repeated, error recovery takes the square of the text, and
# does not call back meanwhile (4 KB of "/* " as Swift: 20 s; a megabyte of "/*" as Python: stack
# overflow). No program has so few words in a block, or is shrunk so much by zlib: such a text is not
# parsed.
_BLOCK = 2_048
_WORDS = 0.15
_REPETITIVE = 25
_TABLES = 320
# What is slow all the same is stopped; ordinary files take 0.1 microseconds a byte. CPU time of this
# thread, so that a busy machine does not change what comes out.
_SECONDS = 0.2
_SECONDS_PER_BYTE = 2e-6
# Asking for the time takes longer than a hundred steps of a parser: it is looked at every so many times.
_ASKED = 8
_READ = 65_536
_WORD_BYTES = bytes(b for b in range(256) if b >= 128 or chr(b).isalnum() or chr(b) in "_ \t\r\n\f\v")
_OTHER_BYTES = bytes(b for b in range(256) if not (b >= 128 or chr(b).isalnum() or b == ord("_")))
# A query looks for the next *named* sibling of every node, so a long run of punctuation costs its square
# (20,000 brackets in one error node: 0.3 s), and a query cannot be stopped (its callback crashes in
# 0.26).
_PUNCTUATION_RUN = 3_000
_MOST_CHILDREN = 100_000
_MOST_LARGE_NODES = 20_000


@dataclass(frozen=True, slots=True)
class Syntax:
    """A parsed text: the root node, and the bytes its positions count in."""

    root: Node
    data: bytes
    grammar: str

    def text(self, node: Node, most: int = 800) -> str:
        """The text of a node on one line, shortened to about `most` bytes."""
        raw = self.data[node.start_byte : min(node.end_byte, node.start_byte + most)]
        return " ".join(raw.decode("utf-8", "replace").split())

    def matches(self, patterns: str) -> list[tuple[int, dict[str, list[Node]]]]:
        """What a query finds: the number of the pattern, and nodes by capture.

        Predicates such as `#eq?` do not work: the tree has no text of its own, as only a parser that reads by
        callback can be stopped.
        """
        from tree_sitter import QueryCursor

        return QueryCursor(_query(self.grammar, patterns)).matches(self.root)

    def captures(self, patterns: str) -> dict[str, list[Node]]:
        """The nodes that a query captures, by name of the capture. Predicates do not work here either."""
        from tree_sitter import QueryCursor

        return QueryCursor(_query(self.grammar, patterns)).captures(self.root)


def parse(text: str, language: str) -> Syntax | None:
    """The syntax tree of a text; None where there is no grammar, or parsing is no use or too slow."""
    grammar = grammar_of(language, text)
    if grammar is None:
        return None
    # Only row numbers and names are read from the tree, so a lone surrogate may become "?".
    data = text.encode("utf-8", "replace")
    if _hopeless(data):
        return None
    from tree_sitter import Parser

    stop = _deadline(len(data))
    try:
        tree = Parser(_language(grammar)).parse(
            lambda offset, _: data[offset : offset + _READ], progress_callback=stop
        )
    except ValueError:  # stopped
        return None
    return None if _is_hostile(tree.root_node) else Syntax(tree.root_node, data, grammar)


def node_text(node: Node) -> str:
    """The text of a node as it stands in the file; see `Syntax.text` for one to show."""
    return (node.text or b"").decode("utf-8", "replace")


def last_row(node: Node) -> int:
    """Row of the last character of a node; some grammars count the line end as part of it."""
    end = node.end_point
    return end.row - 1 if end.column == 0 and end.row > node.start_point.row else end.row


def named_kinds(grammar: str) -> list[str]:
    """The kinds of named nodes that a query of this grammar can ask for."""
    language = _language(grammar)
    numbers = range(language.node_kind_count)
    shown = (n for n in numbers if language.node_kind_is_named(n) and language.node_kind_is_visible(n))
    kinds = {kind for n in shown if (kind := language.node_kind_for_id(n)) and kind != "ERROR"}
    return sorted(kinds)


def _deadline(size: int) -> Callable[[int, bool], bool]:
    """What tells a parser, which asks every hundred steps, whether its time is over."""
    end = time.thread_time() + _SECONDS + _SECONDS_PER_BYTE * size
    asked = 0

    def stop(*_: object) -> bool:
        nonlocal asked
        asked += 1
        return not asked % _ASKED and time.thread_time() > end

    return stop


@cache
def _query(grammar: str, patterns: str) -> Query:
    """A compiled query; compiling costs milliseconds, so each is kept."""
    from tree_sitter import Query

    compiled: Query = Query(_language(grammar), patterns)
    return compiled


@cache
def _language(grammar: str) -> Language:
    from tree_sitter_language_pack import get_language

    language: Language = get_language(grammar)
    return language


def _hopeless(data: bytes) -> bool:
    """Whether a text is plainly no program: each test is for something tree-sitter cannot cope with."""
    if any(abs(data.count(a) - data.count(b)) > _UNBALANCED for a, b in _BRACKETS):
        return True
    if len(data) > _LONGEST_LINE and max(map(len, data.split(b"\n"))) > _LONGEST_LINE:
        return True
    if len(data) > _BLOCK // 2 and _is_repetitive(data):
        return True
    return any(_is_noise(data[start : start + _BLOCK]) for start in range(0, len(data), _BLOCK))


def _is_repetitive(data: bytes) -> bool:
    # A whole is compressed at least to the size of its beginning, but for the tables of one block: in ordinary
    # files the beginning settles it.
    beginning = len(zlib.compress(data[: len(data) // 4], 1)) - _TABLES
    return len(data) > _REPETITIVE * beginning and len(data) > _REPETITIVE * len(zlib.compress(data, 1))


def _is_noise(block: bytes) -> bool:
    marks = len(block.translate(None, _WORD_BYTES))
    if marks <= _BLOCK // 4:
        return False
    words = len(block.translate(None, _OTHER_BYTES))
    return words < _WORDS * (marks + words)


def _is_hostile(root: Node) -> bool:
    """Whether the tree is wider or deeper than any program's, or has a long run of bare punctuation."""
    pending = [root]
    seen = 0
    while pending:
        node = pending.pop()
        children = node.child_count
        seen += 1
        if seen > _MOST_LARGE_NODES:
            return True
        if children > _MOST_CHILDREN or children - 2 * node.named_child_count > _PUNCTUATION_RUN:
            return True
        pending.extend(c for c in node.children if c.end_byte - c.start_byte > _PUNCTUATION_RUN)
    return False
