"""Calls of Python functions that fitted the old signature and do not fit the new one."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from chains.reviewing.types import FileDiff

_MOST_FILES = 60
# These leave the signature as it is; any other decorator may give another one.
_HARMLESS = frozenset({"staticmethod", "classmethod", "abstractmethod", "override", "final"})
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Tree(Protocol):
    """All files as they are after the change; see `callers.Tree`."""

    def holding(self, word: str) -> Sequence[str]:
        """The paths of files in which a word stands."""

    def texts(self, paths: Sequence[str]) -> Mapping[str, str]:
        """The texts of files."""


@dataclass(frozen=True, slots=True)
class Call:
    """A line that calls something."""

    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Broken:
    """A function with calls that no longer fit; `line` is where it is defined now."""

    name: str
    line: int
    reason: str
    calls: tuple[Call, ...]


def broken_calls(file: FileDiff, tree: Tree) -> Iterator[Broken]:
    """The functions of one changed file with calls, anywhere, that fitted before and do not now."""
    if file.language != "python" or file.before is None or file.after is None:
        return
    before, after = _module(file.before), _module(file.after)
    if before is None or after is None:
        return
    old, new = _functions(before), _functions(after)
    for name, function in new.items():
        was = old.get(name)
        if was is None or ast.dump(was.args) == ast.dump(function.args):
            continue
        owner, _, last = name.rpartition(".")
        called = owner if last == "__init__" else last
        paths = tree.holding(called)
        if len(paths) > _MOST_FILES:
            continue
        calls, reason = _misfits(file, called, bool(owner), (was, function), tree.texts(paths))
        if calls:
            yield Broken(called, function.lineno, reason, tuple(calls))


def _misfits(
    file: FileDiff, name: str, bound: bool, sides: tuple[_Function, _Function], texts: Mapping[str, str]
) -> tuple[list[Call], str]:
    """Calls that fit the old side alone; none where another definition of that name could be meant."""
    found: list[Call] = []
    reason = ""
    stem = file.path.rpartition("/")[2].removesuffix(".py")
    for path, text in texts.items():
        module = _module(text) if path.endswith(".py") else None
        if module is None:
            continue
        if _definitions(module, name) > (1 if path == file.path else 0):
            return [], ""
        reachable = path == file.path or _imports(module, name, stem)
        for node in ast.walk(module):
            if not isinstance(node, ast.Call) or not _names(node.func, name, bound, stem, reachable):
                continue
            was, now = (_misfit(side, node, bound) for side in sides)
            if not was and now:
                found.append(Call(path, node.lineno))
                reason = reason or now
    return found, reason


def _names(function: ast.expr, name: str, bound: bool, stem: str, reachable: bool) -> bool:
    if isinstance(function, ast.Name):
        return function.id == name and reachable and (not bound or name[:1].isupper())
    if not isinstance(function, ast.Attribute) or function.attr != name:
        return False
    owner = function.value
    if bound and not name[:1].isupper():
        # Of anything but `self` nobody knows what it is; a name with two words is seldom somebody else's.
        return (isinstance(owner, ast.Name) and owner.id in ("self", "cls")) or "_" in name.strip("_")
    return isinstance(owner, ast.Name) and owner.id == stem


def _misfit(function: _Function, call: ast.Call, bound: bool) -> str:
    """Why a call does not fit a signature; empty where it does, or nobody can say."""
    if any(isinstance(item, ast.Starred) for item in call.args) or any(k.arg is None for k in call.keywords):
        return ""
    arguments = function.args
    positional = [item.arg for item in (*arguments.posonlyargs, *arguments.args)]
    static = any(_decorator(item) == "staticmethod" for item in function.decorator_list)
    skipped = 1 if bound and not static else 0
    required = positional[: len(positional) - len(arguments.defaults)][skipped:]
    positional = positional[skipped:]
    given = {str(keyword.arg) for keyword in call.keywords}
    if len(call.args) > len(positional) and arguments.vararg is None:
        return f"at most {len(positional)} without a name"
    by_name = {*positional, *(item.arg for item in arguments.kwonlyargs)}
    unknown = sorted(given - by_name)
    if unknown and arguments.kwarg is None:
        return f"no {unknown[0]!r}"
    needed = [name for name in required[len(call.args) :] if name not in given]
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    needed += [item.arg for item, default in pairs if default is None and item.arg not in given]
    return f"{needed[0]!r} is required" if needed else ""


def _module(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _functions(module: ast.Module) -> dict[str, _Function]:
    """Functions and methods that others can call, by `name` or `Class.name`, without those that are decorated."""
    found: dict[str, _Function] = {}
    for node in module.body:
        if isinstance(node, _Function):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            found.update(
                {f"{node.name}.{item.name}": item for item in node.body if isinstance(item, _Function)}
            )
    return {
        name: function
        for name, function in found.items()
        if all(_decorator(item) in _HARMLESS for item in function.decorator_list)
    }


def _decorator(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _definitions(module: ast.Module, name: str) -> int:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return sum(1 for node in ast.walk(module) if isinstance(node, kinds) and node.name == name)


def _imports(module: ast.Module, name: str, stem: str) -> bool:
    """Whether a file imports the name, or the module it comes from."""
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom):
            if any(alias.name == name and alias.asname in (None, name) for alias in node.names):
                return True
            if (node.module or "").rpartition(".")[2] == stem and any(
                a.name in (stem, "*") for a in node.names
            ):
                return True
        elif isinstance(node, ast.Import) and any(
            alias.name.rpartition(".")[2] == stem for alias in node.names
        ):
            return True
    return False
