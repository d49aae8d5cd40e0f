"""Functions that are still to be written: what stands around a body that only says so. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chains.writing.barring import Barred
from chains.writing.replies import margin_of, with_margin, without_margin
from indexers.syntax import node_text, parse

if TYPE_CHECKING:
    from tree_sitter import Node

# A statement that stands where the work should be.
_PLACEHOLDER = re.compile(
    r"pass|\.\.\.|(?:todo|unimplemented|not_?implemented)!?[({].*[)}]"
    r"|(?:raise|throw|panic|abort|fail|fatalError|die|error|assert|return)\b.*"
    r"(?:not[ _-]?(?:yet[ _-]?)?implemented|unimplemented|implement me|[\"'`]\s*todo\b\s*[:\"'`]|todo\(\)).*"
    r"|throw new UnsupportedOperationException\(.*\)",
    re.IGNORECASE | re.DOTALL,
)
# The part of it that little but placeholders begin with (`raise Not`: barred to the letter, small models write
# `Not ImplementedError`), and the word of those that are no work when they come first.
_TELLS = re.compile(
    r".*?(?:not(?=implemented)|not[ _-](?:yet[ _-])?i|unimplemented|implement m|todo[!(]?|UnsupportedOperationE)",
    re.IGNORECASE,
)
_GIVES_UP = re.compile(
    r"(?:raise|throw|panic|abort|fail|fatalError|die)\b|\w*(?:todo|implemented)!?[({]", re.IGNORECASE
)
# A request for a function that does no more than to fail.
_TO_FAIL = re.compile(
    r"\b(?:should|must|shall|to|and|make \S+|let \S+|have \S+)\s+(?:always\s+|only\s+|just\s+)?"
    r"(?:raise|throw|panic|fail|abort|die)\b",
    re.IGNORECASE,
)
_TO_DO = re.compile(r"\b(?:todo|fixme|implement|stub|your code)\b", re.IGNORECASE)
# Functions that are meant to be empty, or to be one of several.
_MEANT = re.compile(r"^\s*@(?:\w+\.)*(?:abstract\w*|overload)\b", re.MULTILINE)
_COMMENT = re.compile("comment")
# What leads to a function and is none: what it is exported, decorated or given a name by.
_AROUND = frozenset(
    {"module", "program", "source_file", "translation_unit", "decorated_definition", "export_statement"}
    | {"lexical_declaration", "variable_declaration", "variable_declarator", "class_body", "declaration_list"}
)
_ASIDE = re.compile("comment|^(?:decorator|php_tag|identifier|type_annotation)$")
_FUNCTION = re.compile(r"function|method|constructor")
# What a text is made a program with where it is none alone: a method without its class, PHP without its mark.
_WRAPPED = {
    **dict.fromkeys(("javascript", "typescript", "tsx"), "class Wrapped {\n{}\n}\n"),
    "java": "class Wrapped {\n{}\n}\n",
    "php": "<?php\n{}\n",
}
# What a request about an empty function says that is about its head, and not about a body.
_ABOUT_HEAD = re.compile(
    r"\b(?:parameters?|arguments?|signatures?|type hints?|annotat\w+|docstrings?|comments?|renam\w+|async|coroutine"
    r"|decorat\w+|abstract\w*|keyword-only|delete|remove|drop|move)\b",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"([\w$]+)\s*(?:<[^()]*>)?\s*(?:\(|=\s*(?:async\b|function\b|\(|\w+\s*=>))|\bdef\s+([\w.?!]+)"
)
_DEFINES = re.compile(
    r"\s*(?:export|async|def|function|func|fn|pub|public|private|protected|static|const|let|var)\b"
)
_STATEMENT = re.compile(
    r"\s*(?:if|elif|while|for|return|with|switch|match|await|yield|assert|try|unless|case|raise|throw)\b"
)
_DOCSTRING = re.compile(r"\s*[rRuU]?(\"\"\"|''').*?\1[ \t]*\n", re.DOTALL)
_OVER = re.compile(r"\s*(?:@|#|//|/?\*|import\b|from\b|use\b)")
_CLOSING = re.compile(r"\s*(?:\}\)?|end)[;,]?\s*")


@dataclass(frozen=True, slots=True)
class Stub:
    """What there is of a function whose body is a placeholder: lines before it, and the `tail` that closes it.

    `known` differs from `head` in comments that stand in the place of the body; `margin` is where that begins.
    `placeholder` is the statement in its place, if there is one.
    """

    known: str
    head: str
    tail: str = ""
    margin: str = ""
    placeholder: str = ""

    def barred(self, request: str) -> Barred:
        """What the answer may not begin its lines with: the placeholder again, and others of its kind.

        Small models copy it out of the file, or say it in other words, round after round.
        """
        if _TO_FAIL.search(_said(request)):
            return Barred()
        line = self.placeholder.strip(" ;\n").split("\n", 1)[0]
        if line in ("pass", "..."):
            return Barred((f"{line}\n", f"{line} ", "raise Not"))
        first, tells = _GIVES_UP.match(line), _TELLS.match(line)
        return Barred(*((found[0],) if found else () for found in (first, tells)))

    def joined(self, body: str, language: str) -> str:
        """The whole function from an answer that goes on behind the head, or that begins anew all the same."""
        plain = without_margin(body, margin_of(body))
        if self._is_begun_in(plain):
            return plain
        if language == "python":
            repeated = _DOCSTRING.match(body) if '"""' in self.head or "'''" in self.head else None
            body = body[repeated.end() :] if repeated else body
            body = with_margin(without_margin(body, margin_of(body)), self.margin)
        return self.head + self._closed(body)

    def _is_begun_in(self, text: str) -> bool:
        """Whether the first line that says something defines the function itself."""
        name = next(
            (match[1] or match[2] for line in _code_lines(self.head) if (match := _NAMED.search(line))), ""
        )
        first = next(_code_lines(text), "")
        called = re.search(rf"(?<!\w){re.escape(name)}\s*[(=<:]", first)
        opens = _DEFINES.match(first) or first.rstrip().endswith((":", "{", "(", ",", "=>"))
        return bool(name and called and opens) and _STATEMENT.match(first) is None

    def _closed(self, body: str) -> str:
        """The body with what closes the function as it was: models leave that out, or forget a comma behind it."""
        if not self.tail.strip():
            return body
        lines = body.rstrip().split("\n")
        if _CLOSING.fullmatch(lines[-1]) and not lines[-1].startswith(self.margin or " "):
            del lines[-1]
        return "\n".join([*lines, self.tail])


def _code_lines(text: str) -> Iterator[str]:
    """The lines of a text without what stands over a function: blank lines, decorators, imports, comments."""
    return (line for line in text.split("\n") if line.strip() and not _OVER.match(line))


def wants_body(request: str) -> bool:
    """Whether a request about an empty function can be about its body, and not about its head."""
    return _ABOUT_HEAD.search(_said(request)) is None


def _said(request: str) -> str:
    """A request without the code and the paths in it: `decorators.py` is nothing about a decorator."""
    return re.sub(r"`[^`]*`|\S*[/\\]\S*|\w+\.\w+", "", request)


def stub_of(shown: str, language: str) -> Stub | None:
    """The function that a text holds, if nothing is in it; None for any other code.

    :param shown: a whole function without its margin.
    """
    before, _, behind = _WRAPPED.get(language, "{}").partition("{}")
    for start, end in (("", ""), *([(before, behind)] if before else [])):
        tree = parse(start + shown + end, language)
        body = _body(tree.root) if tree is not None and not tree.root.has_error else None
        if body is not None:
            return None if _MEANT.search(shown) else _stub(body, shown, language, start.count("\n"))
    return None


def _stub(body: Node, shown: str, language: str, skipped: int) -> Stub | None:
    items = list(body.named_children)
    if items and _is_docstring(items[0]):
        del items[0]
    work = [item for item in items if not _COMMENT.search(item.type)]
    lines = shown.split("\n")
    if not all(map(_is_placeholder, work)) or not (work or _only_says_so(items)):
        return None
    rows = [item.start_point.row - skipped for item in (items[0], (work or items)[0], items[-1])]
    while language == "python" and rows[0] > 0 and lines[rows[0] - 1].lstrip().startswith("#"):
        rows[0] -= 1  # the grammar has comments over the first statement outside of the body
    first = lines[rows[0]]
    margin = first[: len(first) - len(first.lstrip())]
    if not margin or lines[rows[1]][: (work or items)[0].start_point.column].strip():
        return None  # in the line of the head
    head, known = ("".join(f"{line}\n" for line in lines[:row]) for row in rows[:2])
    end = items[-1].end_point
    last = end.row - skipped - (1 if end.column == 0 else 0)
    if not work:
        known = "".join(f"{line}\n" for line in lines[: last + 1])
    placeholder = node_text(work[0]) if work else ""
    return Stub(known, head, "\n".join(lines[last + 1 :]), margin, placeholder)


def _only_says_so(comments: list[Node]) -> bool:
    return bool(comments) and _TO_DO.search(" ".join(map(node_text, comments))) is not None


def _is_placeholder(item: Node) -> bool:
    return _PLACEHOLDER.fullmatch(node_text(item).strip(" ;\n")) is not None


def _body(root: Node) -> Node | None:
    """The body of the one function that a text holds; None where it holds anything else."""
    node = root
    while not _FUNCTION.search(node.type) or node.type == "function_declarator":
        inner = [child for child in node.named_children if not _ASIDE.search(child.type)]
        if node.type == "class_declaration" and node_text(node).startswith("class Wrapped"):
            inner = inner[-1:]
        elif node.type not in _AROUND:
            return None
        if len(inner) != 1:
            return None
        node = inner[0]
    return node.child_by_field_name("body")


def _is_docstring(item: Node) -> bool:
    inner = item.named_children[0] if item.type == "expression_statement" and item.named_children else item
    return inner.type == "string"
