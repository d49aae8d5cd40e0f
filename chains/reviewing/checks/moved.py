"""Files that a change moves or deletes while others go on importing them from where they were."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from chains.reviewing.checks.imports import ROOTS, SCRIPTS, Imported, imported, parsed, parts_of_path, spelled
from chains.reviewing.checks.uses import Tree, Users
from chains.reviewing.types import FileDiff

_PYTHON = (".py", ".pyi")
_PYTHON_ENDINGS = (".py", ".pyi", ".pyx", ".so", "/__init__.py", "/__init__.pyi")
_ENDINGS = ("js", "jsx", "mjs", "cjs", "ts", "tsx", "mts", "cts", "d.ts", "json", "vue", "svelte")
_SCRIPT_ENDINGS = ("", *(f".{ending}" for ending in _ENDINGS), *(f"/index.{ending}" for ending in _ENDINGS))
_SCRIPT_ENDING = re.compile(r"\.(?:d\.ts|[cm]?[jt]sx?|json|vue|svelte)$")
# What a build makes may well be taken out of the repository, and still be imported.
_MADE = re.compile(r"_pb2|_version\.|generated|(?:^|/)(?:dist|build)/", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """A file that is gone from a path, the lines that still import it from there, and whether they plainly do."""

    file: FileDiff
    uses: tuple[tuple[str, int], ...]
    sure: bool


def left_behind(
    files: Sequence[FileDiff], users: Users, tree: Tree, late: Callable[[], bool]
) -> Iterator[LeftBehind]:
    """The files that others import from where they no longer are."""
    there = [file.path for file in files if file.after is not None]
    for file in files:
        old = file.path if file.after is None else file.old_path
        if not old or file.status not in ("D", "R") or not _is_read(file) or _MADE.search(old) or late():
            continue
        uses: dict[tuple[str, int], bool] = {}
        for user in users.holding(_stem(old).rpartition("/")[2] or parts_of_path(old)[-1], old):
            for item in user.imports or ():
                if (
                    _is_from(item, old, user.path, tree)
                    and not any(_leads_to(item, path) for path in there)
                    and not _is_tried(user.path, user.text, item.line)
                    and not _is_elsewhere(item, old, user.path, tree)
                ):
                    uses[user.path, item.line] = item.relative or _size(item, old) > 1
        if uses:
            told = tuple(sorted(uses))
            yield LeftBehind(file, told, sure=file.after is not None and any(uses.values()))


def lost_by_moving(files: Sequence[FileDiff], tree: Tree, late: Callable[[], bool]) -> Iterator[LeftBehind]:
    """The moved files whose own relative imports led somewhere before, and lead nowhere now."""
    there = {file.path for file in files if file.after is not None}
    for file in files:
        if file.status != "R" or not _is_read(file) or not file.after or not file.before or late():
            continue
        before = imported(file.before, file.language, file.old_path) or ()
        worked = {_key(item) for item in before if item.relative}
        lost = {
            item.line
            for item in imported(file.after, file.language, file.path) or ()
            if item.relative
            and _key(item) in worked
            and not there & set(_candidates(item, file.path))
            and not _is_elsewhere(item, "", file.path, tree)
            and not _is_tried(file.path, file.after, item.line)
        }
        if lost:
            yield LeftBehind(file, tuple((file.path, line) for line in sorted(lost)), sure=True)


def _key(item: Imported) -> tuple[str, str, str]:
    return item.name, item.original, item.said


def _is_read(file: FileDiff) -> bool:
    return file.language in (*SCRIPTS, "python")


def _folder(path: str) -> tuple[str, ...]:
    return tuple(path.split("/")[:-1])


def _stem(path: str) -> str:
    """A file as scripts import it: without its ending, and without `index`; in Python without its ending."""
    if path.endswith(_PYTHON):
        return "/".join(parts_of_path(path))
    return _SCRIPT_ENDING.sub("", path).removesuffix("/index")


def _is_from(item: Imported, old: str, path: str, tree: Tree) -> bool:
    """Whether an import means the file that was at a path, and no package that is installed."""
    if not old.endswith(_PYTHON):
        return item.relative and _stem(spelled(item.said, path)) == _stem(old)
    if not _leads_to(item, old) or item.relative:
        return item.relative and _leads_to(item, old)
    if item.module[0] in sys.stdlib_module_names:
        return False
    parts = parts_of_path(old)
    size = _size(item, old)
    folder = "/".join(parts[:-1])
    # A script finds what lies beside it; a package's module does not.
    beside = (
        size == 1 and parts[:-1] == _folder(path) and not tree.texts([f"{folder}/__init__.py".lstrip("/")])
    )
    return beside or parts[: len(parts) - size] in ROOTS


def _size(item: Imported, old: str) -> int:
    """Of how many words the name of the module is."""
    return len(item.module) + (0 if _module(item).is_module(old) else 1)


def _leads_to(item: Imported, path: str) -> bool:
    """Whether an import reads the file of a path, as a module or for a name in it."""
    return item.is_module(path) or _module(item).is_module(path)


def _module(item: Imported) -> Imported:
    """The module that an import reads, without the name taken from it."""
    return replace(item, original="")


def _is_elsewhere(item: Imported, old: str, path: str, tree: Tree) -> bool:
    """Whether there is another file that the import reads, or a package that may have the name itself."""
    if tree.texts([found for found in _candidates(item, path) if found != old]):
        return True
    if item.said or not item.original or _module(item).is_module(old):
        return False
    packages = tree.texts(_places(item.module, item, path)).values()
    return any(item.original in text or "*" in text for text in packages)


def _candidates(item: Imported, path: str) -> list[str]:
    """The paths that the module could have, and what is taken from it, if that is a module."""
    if item.said:
        said = spelled(item.said, path)
        return [said + ending for ending in _SCRIPT_ENDINGS] + [
            _SCRIPT_ENDING.sub("", said) + ending for ending in _SCRIPT_ENDINGS
        ]
    if not item.original:
        return _places(item.module, item, path)
    found = _places((*item.module, item.original), item, path)
    # A package that has the module is no answer to where the module is.
    return found + [one for one in _places(item.module, item, path) if "/__init__." not in one]


def _places(module: tuple[str, ...], item: Imported, path: str) -> list[str]:
    roots = {""} if item.exact else {"/".join(_folder(path)), *("/".join(root) for root in ROOTS)}
    return [
        "/".join(filter(None, [root, *module])) + ending
        for root in sorted(roots)
        for ending in _PYTHON_ENDINGS
    ]


def _is_tried(path: str, text: str, line: int) -> bool:
    """Whether a line may fail, or is not always run: what it imports may be absent."""
    if not path.endswith(_PYTHON):
        return re.search(r"\btry\s*\{", "\n".join(text.split("\n")[max(0, line - 3) : line])) is not None
    module = parsed(text)
    return any(
        node.body[0].lineno <= line <= (node.body[-1].end_lineno or line)
        for node in (ast.walk(module) if module is not None else ())
        if (isinstance(node, ast.Try) and node.handlers)
        or (isinstance(node, ast.With) and "suppress" in ast.dump(node.items[0]))
        or (isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test))
    )
