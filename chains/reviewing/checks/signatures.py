"""Calls of Python functions that fitted the old signature and do not fit the new one."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from chains.reviewing.checks.imports import names, of_python, parsed, reaches, shadows
from chains.reviewing.checks.uses import Tree
from chains.reviewing.types import FileDiff

_MOST_FILES = 60
# These leave the signature as it is; any other decorator may give another one.
_HARMLESS = frozenset({"staticmethod", "classmethod", "abstractmethod", "override", "final"})
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Call:
    """A line that calls something."""

    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Broken:
    """A function with calls that no longer fit; `line` is where it is defined now.

    Where `sure` is false, they may be calls of something else that has the same name.
    """

    name: str
    line: int
    reason: str
    calls: tuple[Call, ...]
    sure: bool = True


def broken_calls(file: FileDiff, tree: Tree, late: Callable[[], bool] = lambda: False) -> Iterator[Broken]:
    """The functions of one changed file with calls, anywhere, that fitted before and do not now."""
    if file.language != "python" or file.before is None or file.after is None:
        return
    before, after = parsed(file.before), parsed(file.after)
    if before is None or after is None:
        return
    old, new = _functions(before), _functions(after)
    for name, function in new.items():
        was = old.get(name)
        if was is None or ast.dump(was.args) == ast.dump(function.args) or late():
            continue
        owner, _, last = name.rpartition(".")
        called = owner if last == "__init__" else last
        paths = tree.holding(called)
        if len(paths) > _MOST_FILES:
            continue
        wanted = _Wanted(file.path, name, called, "" if last == "__init__" else owner, was, function)
        found = list(_misfits(wanted, tree.texts(paths)))
        # Calls that are plainly of this one are told alone.
        told = [item for item in found if item.sure] or found
        if told:
            calls = tuple(item.call for item in told)
            yield Broken(called, function.lineno, told[0].reason, calls, sure=told[0].sure)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What calls are looked for: of a function, of a class (its `__init__`), or of a method, which has an owner.

    `key` is `name` or `Class.name`, as it is defined.
    """

    path: str
    key: str
    name: str
    owner: str
    was: _Function
    now: _Function


@dataclass(frozen=True, slots=True)
class _Found:
    """A call that fitted before and does not now, and whether it is plainly one of what was looked for."""

    call: Call
    reason: str
    sure: bool


def _misfits(wanted: _Wanted, texts: Mapping[str, str]) -> Iterator[_Found]:
    """Calls that fit the old side alone; none where another definition of that name could be meant."""
    modules = {
        path: module
        for path, text in texts.items()
        if path.endswith(".py") and (module := parsed(text)) is not None
    }
    for path, module in modules.items():
        if _definitions(module, wanted.name) > (1 if path == wanted.path else 0):
            return
    for path, module in modules.items():
        yield from _in_file(wanted, path, module)


def _in_file(wanted: _Wanted, path: str, module: ast.Module) -> Iterator[_Found]:
    imports = list(of_python(module, path))
    known = path == wanted.path or reaches(imports, wanted.owner or wanted.name, wanted.path)
    bare = path == wanted.path or names(imports, wanted.name, wanted.path)
    hidden = shadows(module, wanted.name, own=path == wanted.path)
    own = _inside(module, wanted.owner) if wanted.owner and known else frozenset()
    made = _instances(module, wanted.owner) if wanted.owner else {}
    called = frozenset(one.name for one in imports if one.is_module(wanted.path))
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        if wanted.owner:
            sure = _is_method(node, wanted, known, own, made)
        else:
            sure = _is_function(node.func, wanted.name, called)
            if isinstance(node.func, ast.Name) and (
                not bare or any(node.lineno in lines for lines in hidden)
            ):
                sure = None
        if sure is None:
            continue
        skipped = _skipped(wanted, node)
        if not _misfit(wanted.was, node, skipped) and (now := _misfit(wanted.now, node, skipped)):
            yield _Found(Call(path, node.lineno), now, sure)


def _is_function(function: ast.expr, name: str, modules: frozenset[str]) -> bool | None:
    """True for a call of a function or class by its name, alone or behind its module; else None."""
    if isinstance(function, ast.Name):
        return True if function.id == name else None
    if not isinstance(function, ast.Attribute) or function.attr != name:
        return None
    return True if _dotted(function.value) in modules else None


def _is_method(
    node: ast.Call, wanted: _Wanted, known: bool, own: frozenset[int], made: Mapping[str, bool]
) -> bool | None:
    """Whether a call is plainly of a method; None where nobody would think of it.

    :param known: whether the file has the class, or its module.
    :param own: the lines of the class and of those made from it.
    :param made: variables, and whether what they hold is an instance of the class.
    """
    function = node.func
    if not isinstance(function, ast.Attribute) or function.attr != wanted.name:
        return None
    receiver = function.value
    variable = receiver.id if isinstance(receiver, ast.Name) else ""
    if variable in ("self", "cls") and node.lineno in own:
        return True
    if known and (_is_named(receiver, wanted.owner) or _makes(receiver, wanted.owner) or made.get(variable)):
        return True
    # Of anything else nobody knows what it is; a name with two words is seldom somebody else's.
    if "_" not in wanted.name.strip("_"):
        return None
    return known and variable not in ("self", "cls") and variable not in made


def _is_named(node: ast.expr, name: str) -> bool:
    return (isinstance(node, ast.Name) and node.id == name) or (
        isinstance(node, ast.Attribute) and node.attr == name
    )


def _dotted(node: ast.expr) -> str:
    """`a.b.c` as text; empty for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _says(node: ast.AST, name: str) -> bool:
    """Whether a part of an annotation, which may be in quotes, is a name."""
    if isinstance(node, ast.Constant):
        return name in re.findall(r"\w+", str(node.value))
    return isinstance(node, ast.expr) and _is_named(node, name)


def _makes(node: ast.expr | None, owner: str) -> bool:
    return isinstance(node, ast.Call) and _is_named(node.func, owner)


def _instances(module: ast.Module, owner: str) -> dict[str, bool]:
    """Variables that are set by a call or have a type, and whether that is the class."""
    found: dict[str, bool] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = found.get(target.id, False) or _makes(node.value, owner)
        elif isinstance(node, ast.arg) and node.annotation is not None:
            typed = any(_says(part, owner) for part in ast.walk(node.annotation))
            found[node.arg] = found.get(node.arg, False) or typed
    return found


def _inside(module: ast.Module, owner: str) -> frozenset[int]:
    """The lines of a class, and of the classes of the same file that are made from it."""
    classes = [node for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
    family = {owner}
    for _ in classes:
        more = {c.name for c in classes if any(_is_named(base, n) for base in c.bases for n in family)}
        if more <= family:
            break
        family |= more
    return frozenset(
        line
        for node in classes
        if node.name in family
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    )


def _skipped(wanted: _Wanted, call: ast.Call) -> int:
    """How many of the first parameters a call does not give itself: `self`, unless it is asked of the class."""
    decorators = {_decorator(item) for item in wanted.now.decorator_list}
    if "." not in wanted.key or "staticmethod" in decorators:
        return 0
    receiver = call.func.value if isinstance(call.func, ast.Attribute) else None
    by_class = bool(wanted.owner) and receiver is not None and _is_named(receiver, wanted.owner)
    return 0 if by_class and "classmethod" not in decorators else 1


def _misfit(function: _Function, call: ast.Call, skipped: int) -> str:
    """Why a call does not fit a signature; empty where it does, or nobody can say."""
    if any(isinstance(item, ast.Starred) for item in call.args) or any(k.arg is None for k in call.keywords):
        return ""
    arguments = function.args
    positional = [item.arg for item in (*arguments.posonlyargs, *arguments.args)]
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
