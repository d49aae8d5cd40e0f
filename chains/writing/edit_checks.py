"""What can be told about edits without running them: they apply, they parse, the names they use exist."""

from __future__ import annotations

import ast
import json
import re
import symtable
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from chains.writing.edits import FileChange, FileState, Text
from chains.writing.types import Check
from chains.writing.undeclared import LANGUAGES, undeclared
from indexers.definitions import from_tree
from indexers.errors import AgentError
from indexers.languages import language_of
from indexers.syntax import parse

if TYPE_CHECKING:
    from tree_sitter import Node

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PARSES, NAMES, CALLS, KEEPS = "parses", "names exist", "calls what is declared", "keeps definitions"
_MOST_TOLD = 5
_MOST_NODES = 200_000


def static_checks(
    changes: Sequence[FileChange],
    exists: Callable[[str, str], bool] | None = None,
    *,
    defines: Callable[[str, str], bool] = lambda path, name: True,
    removes: bool = False,
) -> list[Check]:
    """Every check that needs no process, over all files.

    :param exists: whether a module of the repository has a name: (path of the importing file, "module:name").
    :param defines: whether the repository defines a name where a file sees it without importing it: (path, name).
    :param removes: something was to be removed or to get another name, so that definitions may go.
    """
    parsed = [problem for change in changes for problem in _worse(change)]
    lost = [] if removes else _lost(changes)
    lost += [problem for change in changes for problem in _hidden(change)]
    return [
        Check(PARSES, not parsed, "; ".join(parsed[:_MOST_TOLD])),
        *_names(changes, exists, defines),
        Check(KEEPS, not lost, "; ".join(lost[:_MOST_TOLD])),
    ]


def _names(
    changes: Sequence[FileChange],
    exists: Callable[[str, str], bool] | None,
    defines: Callable[[str, str], bool],
) -> Iterator[Check]:
    """Whether names exist: in Python all of them; elsewhere a hint about calls, of which nobody can be sure."""
    languages = {change: _language_of(change) for change in changes}
    if "python" in languages.values():
        missing = [problem for change in changes for problem in new_undefined(change)]
        if exists is not None:
            made = _made(changes)
            missing += [problem for change in changes for problem in _imports_nothing(change, exists, made)]
        yield Check(NAMES, not missing, "; ".join(missing[:_MOST_TOLD]))
    others = [change for change, language in languages.items() if language in LANGUAGES]
    strange = [
        f"{change.path}: nothing seems to declare {name!r}"
        for change in others
        for name in undeclared(
            text_in(change.before) or "",
            text_in(change.after) or "",
            change.path,
            languages[change],
            partial(defines, change.path),
        )
    ]
    if others:
        yield Check(CALLS, None if strange else True, "; ".join(strange[:_MOST_TOLD]), required=False)


def _language_of(change: FileChange) -> str:
    after = text_in(change.after)
    return _language(change.path, after) if after is not None else ""


def _language(path: str, text: str) -> str:
    return language_of(path, text[:200].split("\n", 1)[0])


def text_in(state: FileState | None) -> str | None:
    """A file's text with line feeds; None where it has none."""
    if state is None:
        return None
    try:
        return Text.of(state.data).text
    except AgentError:
        return None


# -- syntax ----------------------------------------------------------------------------------------


def _worse(change: FileChange) -> list[str]:
    """What does not parse after a change and did before, as sentences."""
    before, after = text_in(change.before), text_in(change.after)
    if after is None:
        return []
    language = _language(change.path, after)
    strict = _STRICT.get(language) or _STRICT.get(change.path.rpartition(".")[2])
    if strict is not None and (before is None or strict(before) is None):
        error = strict(after)
        return [f"{change.path}: {error}"] if error else []
    old, new = errors_in(before or "", language), errors_in(after, language)
    if old is None or new is None:
        return []
    # Lines move: what counts is how many errors there are.
    return [f"{change.path} line {row}: syntax error" for row in new[:1]] if len(new) > len(old) else []


def errors_in(text: str, language: str) -> list[int] | None:
    """The lines (1-based) of syntax errors in a text, as tree-sitter sees them; None where it cannot be parsed."""
    tree = parse(text, language)
    if tree is None:
        return None
    if not tree.root.has_error:
        return []
    rows: list[int] = []
    pending: list[Node] = [tree.root]
    for _ in range(_MOST_NODES):
        if not pending:
            break
        node = pending.pop()
        if node.is_error or node.is_missing:
            rows.append(node.start_point.row + 1)
        elif node.has_error:
            pending.extend(node.children)
    return sorted(rows)


def _python_error(text: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            # What only shows when names are bound: two arguments of one name, a stray `nonlocal`.
            symtable.symtable(text, "<draft>", "exec")
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return str(error)
    return misplaced(tree, "module")


_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_ASYNC = (ast.Await, ast.AsyncFor, ast.AsyncWith)


def misplaced(node: ast.AST, inside: str, *, loop: bool = False) -> str | None:
    """What Python's parser lets pass and its compiler refuses: `await` in a plain function, a stray `return`.

    :param inside: module, class, function or coroutine.
    """
    pending = [(child, inside, loop) for child in ast.iter_child_nodes(node)]
    while pending:
        child, where, looping = pending.pop()
        wrong = _wrong(child, where, looping)
        if wrong:
            return f"line {getattr(child, 'lineno', 0)}: {wrong}"
        if isinstance(child, ast.AsyncFunctionDef):
            where, looping = "coroutine", False
        elif isinstance(child, ast.FunctionDef | ast.Lambda):
            where, looping = "function", False
        elif isinstance(child, ast.ClassDef):
            where, looping = "class", False
        looping = looping or isinstance(child, _LOOPS)
        pending += [(grandchild, where, looping) for grandchild in ast.iter_child_nodes(child)]
    return None


def _wrong(node: ast.AST, where: str, looping: bool) -> str:
    if isinstance(node, _ASYNC) and where != "coroutine":
        return "'await', 'async for' and 'async with' need an async function"
    if isinstance(node, ast.Return) and where not in ("function", "coroutine"):
        return "'return' outside function"
    if isinstance(node, ast.Break | ast.Continue) and not looping:
        return "'break' or 'continue' outside loop"
    return ""


def _json_error(text: str) -> str | None:
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        return str(error)
    return None


def _toml_error(text: str) -> str | None:
    try:
        tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return str(error)
    return None


# Languages whose own parser tells more than tree-sitter; where the file before does not satisfy it (a newer Python than
# ours, JSON with comments), tree-sitter alone judges.
_STRICT: dict[str, Callable[[str], str | None]] = {
    "python": _python_error,
    "json": _json_error,
    "toml": _toml_error,
}


# -- definitions -----------------------------------------------------------------------------------


def _lost(changes: Sequence[FileChange]) -> list[str]:
    """Functions, classes and methods that were there and are nowhere after, as sentences."""
    after = {name for change in changes for name in _defined(change.path, change.after)}
    return [
        f"{change.path}: {'.'.join(name)} is gone"
        for change in changes
        for name in sorted(_defined(change.path, change.before) - after)
    ]


def _hidden(change: FileChange) -> list[str]:
    """Functions and classes of Python that a new one of the same name takes the place of, as sentences."""
    after = text_in(change.after)
    if after is None or _language_of(change) != "python":
        return []
    before = _redefined(text_in(change.before) or "")
    known = {name[-1] for name in _defined(change.path, change.before)}
    return [
        f"{change.path}: {name} is defined there already, and hidden by the new one: give it another name"
        for name, count in _redefined(after).items()
        if count > before[name] and name in known
    ]


def _redefined(text: str) -> Counter[str]:
    from pyflakes.messages import RedefinedWhileUnused

    return Counter(
        str(found.message_args[0]) for found in _messages(text) if isinstance(found, RedefinedWhileUnused)
    )


def _defined(path: str, state: FileState | None) -> set[tuple[str, ...]]:
    text = text_in(state)
    tree = parse(text, _language(path, text)) if text else None
    if tree is None:
        return set()
    kinds = ("function", "method", "class", "type")
    return {item.path for item in from_tree(tree) if item.kind in kinds and not item.is_hidden}


# -- names -----------------------------------------------------------------------------------------


def undefined_in(text: str) -> Counter[str]:
    """Names of a Python text that nothing in it defines or imports, with how often each is used (pyflakes)."""
    from pyflakes.messages import UndefinedExport, UndefinedLocal, UndefinedName

    kinds = (UndefinedName, UndefinedLocal, UndefinedExport)
    return Counter(str(message.message_args[0]) for message in _messages(text) if isinstance(message, kinds))


def _messages(text: str) -> list[Any]:
    """What pyflakes says of a Python text; nothing where it is none."""
    from pyflakes.checker import Checker

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(Checker(ast.parse(text), filename="").messages)
    except (SyntaxError, ValueError, RecursionError):
        return []


def undefined_names(change: FileChange) -> list[str]:
    """Names that a Python file uses after a change without having them, and did not before."""
    after = text_in(change.after)
    if after is None or _language(change.path, after) != "python":
        return []
    before = undefined_in(text_in(change.before) or "")
    return [name for name, count in undefined_in(after).items() if count > before[name]]


def new_undefined(change: FileChange) -> list[str]:
    """The same as sentences."""
    return [f"{change.path}: the name {name!r} is not defined" for name in undefined_names(change)]


def _imports_nothing(change: FileChange, exists: Callable[[str, str], bool], made: set[str]) -> list[str]:
    """Imports of names that the repository's own modules do not have; `made` are modules that come with the change."""
    before, after = (
        _imported(text_in(change.before), change.path),
        _imported(text_in(change.after), change.path),
    )
    new = [item for item in after if item not in before]
    return [
        f"{change.path}: {item.partition(':')[0]} has no {item.partition(':')[2]!r}"
        for item in new
        if not made & set(re.split(r"[.:]", item)) and not exists(change.path, item)
    ]


def _made(changes: Sequence[FileChange]) -> set[str]:
    """The names by which new files can be imported."""
    paths = [PurePosixPath(change.path) for change in changes if change.before is None]
    return {path.parent.name if path.stem == "__init__" else path.stem for path in paths}


def _imported(text: str | None, path: str) -> list[str]:
    """The names that a Python file imports, as "module:name"; relative modules with their dots."""
    if text is None or not path.endswith((".py", ".pyi")):
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found += [f"{module}:{alias.name}" for alias in node.names if alias.name != "*"]
    return found
