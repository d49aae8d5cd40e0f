"""Files that a change leaves unparsable."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from chains.reviewing.checks.lines import finding
from chains.reviewing.types import FileDiff, Finding, Severity
from indexers.filters import is_test
from indexers.syntax import parse

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from indexers.syntax import Syntax

CATEGORY = "syntax"
# Languages in which a grammar meets what it cannot know: templates, macros, dialects.
_UNSURE = frozenset(
    {
        "html",
        "css",
        "scss",
        "c",
        "cpp",
        "objc",
        "make",
        "bash",
        "fish",
        "sql",
        "markdown",
        "vue",
        "svelte",
        "notebook",
    }
)
# Declarations alone are a language that the grammar for programs reads in part.
_UNSURE_ENDINGS = (".d.ts", ".d.mts", ".d.cts")
_MOST_NODES = 20_000
# What the program that reads it lets have comments, and commas at an end.
_COMMENTED = re.compile(
    r"(?:^|/)(?:[tj]sconfig(?:\.[\w.-]+)?\.json|\.eslintrc(?:\.json)?|\.babelrc(?:\.json)?|tslint\.json|deno\.json"
    r"|\.?devcontainer\.json|\.swcrc|language-configuration\.json|\.jshintrc|api-extractor\.json)$"
    r"|(?:^|/)\.(?:vscode|devcontainer|zed)/[^/]+\.json$|\.(?:jsonc|code-workspace|code-snippets)$",
    re.IGNORECASE,
)
# More than one value in a file, or a language of its own.
_NOT_JSON = (".jsonl", ".ndjson", ".json5")
_STRING = r'"(?:[^"\\\n]|\\.)*"'
_COMMENT = re.compile(rf"{_STRING}|//[^\n]*|/\*")
_LAST_COMMA = re.compile(rf"{_STRING}|,(?=\s*[}}\]])")
_TEMPLATE = re.compile(r"\{\{|\{%|<%")
# A line that is nothing but a template's own, and names of files that are filled in.
_TEMPLATE_LINE = re.compile(r"^[ \t]*(?:\{%|\{#|<%|\{\{)", re.MULTILINE)
# What later versions of Python read and this one may not: type parameters, `type`, quotes inside of f-strings,
# strings with `t`, several exceptions without brackets.
_NEWER = re.compile(
    r"^\s*(?:(?:async\s+)?def|class)\s+\w+\s*\[|^\s*type\s+\w+\s*[\[=]|\b(?:[rR]?[fFtT]|[fFtT][rR])[\"']"
    r"|^\s*except\*?\s+[\w.]+\s*,\s*[A-Z]",
    re.MULTILINE,
)
_PLACE = re.compile(r"\(at line (\d+)")
# What CI fills in within a line is no template of the file.
_EXPRESSION = re.compile(r"\$\{\{.*?\}\}")
# Collections in collections cost a YAML parser the square of their depth.
_DEEPEST = 200
# What other parsers of YAML, or a later version of it, let pass.
_OTHER_YAML = re.compile(r"alphabetic or numeric|tag handle", re.IGNORECASE)
_NO_TOKEN = "cannot start any token"
_SCRIPT = "javascript"


def check(file: FileDiff) -> Iterator[Finding]:
    """One finding where the text before parsed and this one does not, or a new file does not parse."""
    if (
        not file.whole
        or file.after is None
        or file.language in _UNSURE
        or file.path.endswith(_UNSURE_ENDINGS)
        or not any(h.added or h.removed for h in file.hunks)
    ):
        return
    strict = {"python": _python, "json": _json, "toml": _toml, "yaml": _yaml}.get(file.language)
    yield from strict(file) if strict is not None else _by_grammar(file)


def _by_grammar(file: FileDiff) -> Iterator[Finding]:
    """By a grammar, which proves something of texts that it could read before."""
    after = parse(file.after or "", file.language)
    if after is None or not after.root.has_error:
        return
    line = _line_of_error(after, file)
    if file.before is None:
        if file.language == _SCRIPT and not _is_other_script(file.after or ""):
            message = "This new file does not seem to be valid JavaScript."
            yield finding(file, line, Severity.MEDIUM, CATEGORY, message)
        return
    before = parse(file.before, file.language)
    if before is None or before.root.has_error:
        return  # a grammar that never read this file proves nothing
    yield _invalid(file, line, file.language)


def _is_other_script(text: str) -> bool:
    """Whether a script is one with types, or is filled in before it is one."""
    if _TEMPLATE.search(text) or "@flow" in text:
        return True
    return any(
        (tree := parse(text, language)) is not None and not tree.root.has_error
        for language in ("typescript", "tsx")
    )


def _invalid(file: FileDiff, line: int, language: str, why: str = "") -> Finding:
    """The finding, at a line that there is."""
    last = len(file.lines()) - (1 if (file.after or "").endswith("\n") else 0)
    said = "This new file is not" if file.before is None else "After this change the file is no longer"
    message = f"{said} valid {language}{why and f': {why}'}."
    return finding(file, max(1, min(line, last)), Severity.HIGH, CATEGORY, message)


def _python(file: FileDiff) -> Iterator[Finding]:
    """By Python itself, which says where and why; what a later Python may read is let through."""
    text = file.after or ""
    error = _python_error(text)
    if error is None or (file.before and _python_error(file.before) is not None):
        return
    line = error.lineno or 1
    if not _is_template(file.path, text, line) and not _is_newer(text, line):
        yield _invalid(file, line, "Python", error.msg)


def _is_template(path: str, text: str, line: int) -> bool:
    """Whether a text becomes a program only once it is filled in."""
    lines = text.split("\n")
    return bool(
        _TEMPLATE.search(path)
        or _TEMPLATE_LINE.search(text)
        or _TEMPLATE.search("".join(lines[line - 1 : line]))
    )


def _is_newer(text: str, line: int) -> bool:
    """Whether what is wrong may be right in a later Python: its grammar reads the text, and something new is near."""
    near = "\n".join(text.split("\n")[max(0, line - 3) : line + 1])
    if not _NEWER.search(near):
        return False
    tree = parse(text, "python")
    return tree is not None and not tree.root.has_error


def _python_error(text: str) -> SyntaxError | None:
    try:
        ast.parse(text)
    except SyntaxError as error:
        return error
    except (ValueError, RecursionError, MemoryError):  # a NUL, or nested too deep for the parser
        return None
    return None


def _json(file: FileDiff) -> Iterator[Finding]:
    """By the standard's own rules, where the text before kept to them: some programs allow comments."""
    text = file.after or ""
    if file.path.lower().endswith(_NOT_JSON):
        return
    if _COMMENTED.search(file.path):
        error = _json_error(_plain(text))
        before = _json_error(_plain(file.before)) if file.before is not None else None
    else:
        error = _json_error(text)
        before = _json_error(file.before) if file.before is not None else None
    if error is None or before is not None or (file.before is None and _is_other_json(file, error)):
        return
    yield _invalid(file, error.lineno, "JSON", error.msg)


def _is_other_json(file: FileDiff, error: json.JSONDecodeError) -> bool:
    """Whether a new file is not meant to keep to the standard: filled in later, a test's, with comments, or many."""
    text = file.after or ""
    if is_test(file.path) or _TEMPLATE.search(file.path + text) or not text.strip():
        return True
    return error.msg == "Extra data" or _json_error(_plain(text)) is None


def _plain(text: str) -> str:
    """The text without comments and commas at an end; lines stay where they are."""
    kept: list[str] = []
    at = 0
    while match := _COMMENT.search(text, at):
        kept.append(text[at : match.start()])
        at = match.end()
        if match[0][0] == '"':
            kept.append(match[0])
        elif match[0] == "/*":
            end = text.find("*/", at)
            end = len(text) if end < 0 else end + 2
            kept.append("\n" * text.count("\n", at, end))
            at = end
    return _LAST_COMMA.sub(lambda found: found[0].removeprefix(","), "".join([*kept, text[at:]]))


def _json_error(text: str) -> json.JSONDecodeError | None:
    try:
        json.loads(text.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        return error
    except RecursionError:
        return None
    return None


def _toml(file: FileDiff) -> Iterator[Finding]:
    """By Python's own parser."""
    error = _toml_error(file.after or "")
    if not error or (file.before is not None and _toml_error(file.before)):
        return
    if _TEMPLATE.search(file.path + (file.after or "")) or (file.before is None and is_test(file.path)):
        return
    place = _PLACE.search(error)
    line = int(place[1]) if place else len(file.lines())
    yield _invalid(file, line, "TOML", error.partition(" (at ")[0])


def _toml_error(text: str) -> str:
    try:
        tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        return str(error)
    except RecursionError:
        return ""
    return ""


def _yaml(file: FileDiff) -> Iterator[Finding]:
    """By a parser of YAML, which reads events alone: nothing is built, and no alias followed."""
    text = file.after or ""
    error = _yaml_error(text)
    if error is None or (file.before is not None and _yaml_error(file.before) is not None):
        return
    line, why = error
    plain = _EXPRESSION.sub("", text)
    near = "".join(plain.split("\n")[max(0, line - 2) : line])
    if _is_template(file.path, plain, line) or _TEMPLATE.search(near):
        return
    if file.before is not None:
        yield _invalid(file, line, "YAML", why)
    elif not is_test(file.path):
        yield replace(_invalid(file, line, "YAML", why), severity=Severity.MEDIUM)


def _yaml_error(text: str) -> tuple[int, str] | None:
    """The line (1-based) and the reason; None where it parses, or nobody can say."""
    import yaml

    depth = 0
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.CollectionStartEvent | yaml.CollectionEndEvent):
                depth += 1 if isinstance(event, yaml.CollectionStartEvent) else -1
            if depth > _DEEPEST:
                return None
    except yaml.MarkedYAMLError as error:
        line, why = (error.problem_mark.line if error.problem_mark else 0), error.problem or ""
        near = (text.split("\n")[line : line + 1] or [""])[0]
        known = re.match(r"\t+[^\s#]", near) if _NO_TOKEN in why else not _OTHER_YAML.search(why)
        return (line + 1, why) if known else None
    except (yaml.YAMLError, RecursionError):  # a character that it does not let through, which others may
        return None
    return None


def _line_of_error(tree: Syntax, file: FileDiff) -> int:
    """The error nearest to what was touched."""
    touched = [number for hunk in file.hunks for number in (hunk.touched[0], hunk.touched[-1])]
    best, distance = touched[0], 1 << 30
    stack, seen = [tree.root], 0
    while stack and seen < _MOST_NODES:
        node = stack.pop()
        seen += 1
        if node.is_error or node.is_missing:
            line = node.start_point.row + 1
            near = min(abs(line - number) for number in touched)
            if near < distance:
                best, distance = line, near
        elif node.has_error:
            stack += node.children
    return min(best, len(file.lines()))
