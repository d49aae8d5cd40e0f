"""Imports that code needs and did not write: found by how the repository itself imports the name, or in the library."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexers.relations import Relations

# Names of the standard library that are used without their module, and are hardly anything else.
_KNOWN = {
    **dict.fromkeys(
        "Any Optional Union Iterable Iterator Callable Sequence Mapping cast overload TYPE_CHECKING".split(),
        "typing",
    ),
    **dict.fromkeys(("List", "Dict", "Tuple", "Set", "Type", "NamedTuple", "Literal", "Generator"), "typing"),
    **dict.fromkeys(("dataclass", "field"), "dataclasses"),
    **dict.fromkeys(("Path", "PurePath"), "pathlib"),
    **dict.fromkeys(("defaultdict", "OrderedDict", "Counter", "deque", "namedtuple"), "collections"),
    **dict.fromkeys(("wraps", "partial", "lru_cache", "cached_property", "reduce"), "functools"),
    **dict.fromkeys(("contextmanager", "suppress", "ExitStack"), "contextlib"),
    **dict.fromkeys(("datetime", "timedelta", "timezone"), "datetime"),
    "Enum": "enum",
    "Decimal": "decimal",
    "StringIO": "io",
    "BytesIO": "io",
}
_MOST_USES = 200
_FUTURE = "from __future__ "
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_FOR_MACHINES = re.compile(r"#!|#.*?coding[:=]")


def import_for(name: str, path: str, relations: Relations | None) -> str:
    """The line that imports a name into the Python file at `path`; empty where nobody can tell."""
    if relations is not None:
        line = _as_the_repository_does(name, path, relations)
        if line:
            return line
    if name in sys.stdlib_module_names:
        return f"import {name}"
    return f"from {_KNOWN[name]} import {name}" if name in _KNOWN else ""


def import_rows(text: str, lines: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Where import lines go in a Python file: the line (1-based) before which each group of them stands."""
    future = [line for line in lines if line.startswith(_FUTURE)]
    others = [line for line in lines if not line.startswith(_FUTURE)]
    rows: dict[int, list[str]] = {}
    for row, group in ((_row(text, future=True), future), (_row(text), others)):
        if group:
            rows.setdefault(row, []).extend(group)
    return list(rows.items())


def _row(text: str, *, future: bool = False) -> int:
    """Behind the last import before the first definition, or else the docstring, or else the comment at the very top.

    :param future: behind the docstring and other imports from the future alone, as Python wants it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return _below_comment(text)
    docstring = (
        body[:1] if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) else []
    )
    # One below a definition, such as one that would else import this file in turn, is too late for what stands above.
    head = takewhile(lambda node: not isinstance(node, _DEFINITIONS), body)
    imports = [node for node in head if isinstance(node, ast.Import | ast.ImportFrom)]
    if future:
        imports = [
            node for node in imports if isinstance(node, ast.ImportFrom) and node.module == "__future__"
        ]
    return max(
        ((node.end_lineno or node.lineno) + 1 for node in (*docstring, *imports)),
        default=_below_comment(text),
    )


def _below_comment(text: str) -> int:
    """The line behind a comment that begins a file and belongs to all of it: set apart, or read by a machine."""
    lines = text.split("\n")
    count = len(list(takewhile(lambda line: line.startswith("#"), lines)))
    if count == len(lines) or not lines[count].strip():
        return count + 1
    return 1 + sum(bool(_FOR_MACHINES.match(line)) for line in lines[: min(2, count)])


def missing_imports(text: str, lines: Sequence[str]) -> list[str]:
    """Those import lines that a Python text has not got, each once."""
    have = {" ".join(line.split()) for line in text.split("\n")}
    bound = _bound(text)
    found = []
    for line in dict.fromkeys(" ".join(line.split()) for line in lines):
        names = _bound(line)
        if line not in have and names and not names <= bound:
            found.append(line)
    return found


def _bound(text: str) -> set[str]:
    """The names that the imports at the top of a text bind."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return set()
    return {
        (alias.asname or alias.name).partition(".")[0]
        for node in body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


def _as_the_repository_does(name: str, path: str, relations: Relations) -> str:
    """The import of this name that most files of the repository have, where it means the same in this one."""
    forms: Counter[str] = Counter()
    for use in relations.uses_of(name, ("import",), _MOST_USES):
        form = _form(use.text, name)
        if form and (not form.startswith("from .") or _beside(use.path, path)):
            # Whoever lives nearer knows better.
            forms[form] += 3 if _beside(use.path, path) else 1
    return forms.most_common(1)[0][0] if forms else ""


def _form(text: str, name: str) -> str:
    """One line of an import, cut to this one name; empty where it is no such line."""
    whole = re.match(rf"\s*from\s+([\w.]+)\s+import\s+.*\b{re.escape(name)}\b(?!\s+as\b)", text)
    if whole and not re.search(rf"\bas\s+{re.escape(name)}\b", text):
        return f"from {whole[1]} import {name}"
    return f"import {name}" if re.match(rf"\s*import\s+{re.escape(name)}\s*(?:#.*)?$", text) else ""


def _beside(path: str, other: str) -> bool:
    return PurePosixPath(path).parent == PurePosixPath(other).parent
