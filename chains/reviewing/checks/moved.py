"""Files that a change moves or deletes while others go on importing them from where they were."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from chains.reviewing.checks.imports import SCRIPTS, Imported, parsed, parts_of_path
from chains.reviewing.checks.uses import Tree, User, Users
from chains.reviewing.types import FileDiff

_PYTHON_ENDINGS = (".py", ".pyi", ".pyx", ".so", "/__init__.py", "/__init__.pyi")
_SCRIPT_ENDINGS = tuple(
    f"{index}.{ending}"
    for index in ("", "/index")
    for ending in ("js", "jsx", "mjs", "cjs", "ts", "tsx", "mts", "cts", "d.ts", "json", "vue", "svelte")
)
# Where a program's modules begin: at the root, or in a directory that is no module itself.
_ROOTS = frozenset({(), ("src",), ("lib",), ("python",)})


def left_behind(
    files: Sequence[FileDiff], users: Users, tree: Tree, late: Callable[[], bool]
) -> Iterator[tuple[FileDiff, list[tuple[str, int]]]]:
    """The files that are gone from a path, with the lines that still import them from there."""
    there = [file.path for file in files if file.after is not None]
    for file in files:
        old = file.path if file.after is None else file.old_path
        if not old or file.status not in ("D", "R") or file.language not in (*SCRIPTS, "python") or late():
            continue
        uses = {
            (user.path, item.line)
            for user in users.holding(parts_of_path(old)[-1], old)
            for item in user.imports or ()
            if _is_from(item, old, user.path)
            and not any(_leads_to(item, path) for path in there)
            and not _is_tried(user, item.line)
            and not _is_elsewhere(item, old, tree)
        }
        if uses:
            yield file, sorted(uses)


def _is_from(item: Imported, old: str, path: str) -> bool:
    """Whether an import plainly means the file that was at a path, and no package that is installed."""
    if not _leads_to(item, old):
        return False
    if item.exact or not old.endswith((".py", ".pyi")):
        return item.exact
    parts = parts_of_path(old)
    size = len(item.module) + (0 if _module(item).is_module(old) else 1)
    beside = size == 1 and parts[:-1] == tuple(path.split("/")[:-1])
    return beside or parts[: len(parts) - size] in _ROOTS


def _leads_to(item: Imported, path: str) -> bool:
    """Whether an import reads the file of a path, as a module or for a name in it."""
    return item.is_module(path) or _module(item).is_module(path)


def _module(item: Imported) -> Imported:
    """The module that an import reads, without the name taken from it."""
    return replace(item, original="")


def _is_elsewhere(item: Imported, old: str, tree: Tree) -> bool:
    """Whether there is another file that the import reads, or a package that may have the name itself."""
    if _module(item).is_module(old):
        return bool(tree.texts(_candidates(item.module, item.exact, old)))
    if tree.texts(_candidates((*item.module, item.original), item.exact, old)):
        return True
    packages = tree.texts(_candidates(item.module, item.exact, old)).values()
    return any(item.original in text or "*" in text for text in packages)


def _candidates(module: tuple[str, ...], exact: bool, old: str) -> list[str]:
    """The paths at which a module could be, without the one where it was."""
    python = old.endswith((".py", ".pyi"))
    above = "/".join(old.split("/")[:-1])
    roots = {""} if exact else {above, *("/".join(root) for root in _ROOTS)}
    return [
        path
        for root in sorted(roots)
        for ending in (_PYTHON_ENDINGS if python else _SCRIPT_ENDINGS)
        if (path := "/".join(filter(None, [root, *module])) + ending) != old
    ]


def _is_tried(user: User, line: int) -> bool:
    """Whether a line of a Python file may fail: what it imports may be absent."""
    module = parsed(user.text) if user.path.endswith((".py", ".pyi")) else None
    return any(
        node.body[0].lineno <= line <= (node.body[-1].end_lineno or line)
        for node in (ast.walk(module) if module is not None else ())
        if isinstance(node, ast.Try) and node.handlers
    )
