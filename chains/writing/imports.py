"""Imports that code needs and did not write: found by how the repository itself imports the name, or in the library."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
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


def import_for(name: str, path: str, relations: Relations | None) -> str:
    """The line that imports a name into the Python file at `path`; empty where nobody can tell."""
    if relations is not None:
        line = _as_the_repository_does(name, path, relations)
        if line:
            return line
    if name in sys.stdlib_module_names:
        return f"import {name}"
    return f"from {_KNOWN[name]} import {name}" if name in _KNOWN else ""


def import_row(text: str) -> int:
    """The line (1-based) before which an import goes: behind the last one at the top of a Python file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return 1
    docstring = (
        body[:1] if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) else []
    )
    heads = [*docstring, *(node for node in body if isinstance(node, ast.Import | ast.ImportFrom))]
    return max(((node.end_lineno or node.lineno) + 1 for node in heads), default=1)


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
