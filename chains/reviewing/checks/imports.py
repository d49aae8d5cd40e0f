"""Where a file has its names from: whether a name in it could be the one that a changed file defined."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from indexers.syntax import parse

SCRIPTS = frozenset({"javascript", "typescript", "tsx"})
# A package's own file stands for its directory.
_PACKAGE_FILES = frozenset({"__init__", "index", "mod", "lib"})
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_STAR = "*"
_MOST_NODES = 50_000
_KEPT_CHARS = 50_000

_FROM = re.compile(
    r"""(?:^|;)[ \t]*(?:import|export)\b((?:(?!\b(?:import|export)\b)[^;"'()=]){0,2000}?)\bfrom\s*["']([^"'\n]+)["']""",
    re.MULTILINE,
)
_ASIDE = re.compile(r"^[ \t]*//[^\n]*|/\*.*?\*/", re.MULTILINE | re.DOTALL)
_EXPORTED = re.compile(
    r"\bexports\.([\w$]+)\s*=|\bmodule\.exports\s*=\s*\{([^{}]{0,4000})|\bexport\s*\{([^{}]{0,4000})\}"
)
_KEY = re.compile(r"([\w$]+)\s*(?=[,:}]|$)")
# Where a program's modules begin: at the root, or in a directory that is no module itself.
ROOTS = frozenset({(), ("src",), ("lib",), ("python",), ("packages",)})
_REQUIRE = re.compile(
    r"""\b(?:const|let|var)\s+(\{[^{}]*\}|[\w$]+)\s*=\s*(?:await\s+)?(?:require|import)\s*\(\s*["']([^"'\n]+)["']"""
)
_UNPACKED = re.compile(r"\b(?:const|let|var)\s+(\{[^{}=]*\}|\[[^\[\]=]*\])\s*=")
_RUST_USE = re.compile(r"\buse\s+([^;]{1,2000});")
_WORD = re.compile(r"[\w$]+")


@dataclass(frozen=True, slots=True)
class Imported:
    """A name that a file imports: `original` of `module`, there called `name` here; a whole module has no original.

    `exact` is true where the module's parts begin at the repository's root; `line` is where the import begins, 1-based.
    `said` is what a script calls the module, and `relative` is whether it is told from where the file is.
    """

    name: str
    module: tuple[str, ...]
    original: str
    exact: bool = False
    line: int = 0
    said: str = ""
    relative: bool = False

    def could_be(self, path: str) -> bool:
        """Whether the module could be a file, or a package around it that hands its names on."""
        parts = parts_of_path(path)
        if self.exact:
            return parts[: len(self.module)] == self.module
        if len(self.module) == 1:
            # One word is a package, ours or somebody's: ours stands where packages do.
            return any(parts[at : at + 1] == self.module and parts[:at] in ROOTS for at in (0, 1))
        return _within(self.module, parts)

    def is_module(self, path: str) -> bool:
        """Whether what is imported could be the file itself, as a module."""
        whole = (*self.module, self.original) if self.original else self.module
        parts = parts_of_path(path)
        return parts == whole if self.exact else parts[-len(whole) :] == whole and _within(whole, parts)


def parts_of_path(path: str) -> tuple[str, ...]:
    """The names that lead to a file, without its ending; a package's own file is called as the package."""
    *parents, name = path.split("/")
    stem = name.partition(".")[0]
    return tuple(parents) if stem in _PACKAGE_FILES and parents else (*parents, stem)


def _within(module: Sequence[str], parts: tuple[str, ...]) -> bool:
    """Whether the names of a module follow each other in those of a path."""
    size = len(module)
    return any(parts[at : at + size] == tuple(module) for at in range(len(parts) - size + 1))


def imported(text: str, language: str, path: str) -> list[Imported] | None:
    """What a file imports by name; None where its language is not read here, or the text is not in it."""
    if language in SCRIPTS:
        return list(_of_script(text, path))
    if language != "python":
        return None
    module = parsed(text)
    return None if module is None else list(of_python(module, path))


def parsed(text: str) -> ast.Module | None:
    """The tree of a Python file; None where there is none. The last ones are kept: several checks ask for the same."""
    return _kept(text) if len(text) < _KEPT_CHARS else _parsed(text)


@lru_cache(maxsize=32)
def _kept(text: str) -> ast.Module | None:
    return _parsed(text)


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def of_python(module: ast.Module, path: str) -> Iterator[Imported]:
    """The imports of a Python file, wherever in it they stand."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield _absolute(alias.asname or alias.name, alias.name, "", node.lineno)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = alias.asname or alias.name
                if not node.level:
                    yield _absolute(name, node.module or "", alias.name, node.lineno)
                    continue
                parents = path.split("/")[:-1]
                parents = parents[: len(parents) - node.level + 1]
                parts = (*parents, *(node.module or "").split(".")) if node.module else tuple(parents)
                yield Imported(name, parts, alias.name, exact=True, line=node.lineno, relative=True)


def _absolute(name: str, module: str, original: str, line: int) -> Imported:
    """An import by its full name; the standard library's is a file of ours only where that stands before it."""
    parts = tuple(module.split("."))
    return Imported(name, parts, original, exact=parts[0] in sys.stdlib_module_names, line=line)


def _of_script(text: str, path: str) -> Iterator[Imported]:
    """The imports of a script, by the shape of their lines."""
    text = _ASIDE.sub(lambda match: "\n" * match[0].count("\n"), text)
    for pattern in (_FROM, _REQUIRE):
        line, at = 1, 0
        for match in pattern.finditer(text):
            begin = match.start() + len(match[0]) - len(match[0].lstrip(" \t;\n"))
            line, at = line + text.count("\n", at, begin), begin
            module, exact = _specified(match[2], path)
            for name, original in _clause(match[1]):
                yield Imported(name, module, original, exact, line, match[2], match[2].startswith("."))


def _specified(module: str, path: str) -> tuple[tuple[str, ...], bool]:
    """The parts of what stands behind `from`, and whether they begin at the root."""
    if not module.startswith("."):
        # An alias for the root, or the scope of a package, is no directory.
        return tuple(part.partition(".")[0] for part in module.split("/") if part[:1] not in "@~#"), False
    where = spelled(module, path)
    return (parts_of_path(where) if where else ()), True


def spelled(module: str, path: str) -> str:
    """The path that a relative import of a script spells, from the script's own."""
    parts = path.split("/")[:-1]
    for part in module.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in (".", ""):
            parts.append(part)
    return "/".join(parts)


def _clause(text: str) -> Iterator[tuple[str, str]]:
    """The names that an import gives and those they have in their module."""
    outside, brace, inside = text.partition("{")
    for part in inside.partition("}")[0].split(",") if brace else ():
        words = [word for word in _WORD.findall(part) if word not in ("as", "type")]
        if words:
            yield words[-1], words[0]
    if _STAR in outside:
        yield next((word for word in reversed(_WORD.findall(outside)) if word != "as"), _STAR), ""
    else:
        for word in (word for word in _WORD.findall(outside) if word != "type"):
            # A default export, or all of a module: whoever imports it gives it its name.
            yield word, ""


def still_named(text: str, language: str, words: frozenset[str]) -> frozenset[str]:
    """The names that a file has without defining them: by imports, and by assignments of several at once.

    :param words: all words of its imports, for languages of which nothing more is known.
    """
    if language in SCRIPTS:
        unpacked = (name for match in _UNPACKED.finditer(text) for name in _WORD.findall(match[1]))
        exported = (
            name
            for match in _EXPORTED.finditer(text)
            for part in match.groups(default="")
            for name in _KEY.findall(part if part != match[1] else f"{part},")
        )
        return frozenset({item.name for item in _of_script(text, "")} | set(unpacked) | set(exported))
    if language != "python":
        return words
    module = parsed(text)
    if module is None:
        return words
    return frozenset({item.name for item in of_python(module, "")} | set(_assigned(module)))


def takes_all(text: str, language: str) -> frozenset[str]:
    """The modules from which a file takes whatever they have: any name may be among it."""
    if language == "python":
        module = parsed(text)
        items = of_python(module, "") if module is not None else iter(())
        return frozenset(".".join(item.module) for item in items if item.original == _STAR)
    if language in SCRIPTS:
        return frozenset(re.findall(r"""\bexport\s*\*\s*from\s*["']([^"'\n]+)["']""", text))
    if language == "rust":
        return frozenset(use for use in _RUST_USE.findall(text) if _STAR in use)
    return frozenset()


def _assigned(*roots: ast.AST) -> Iterator[str]:
    """Names that are set somewhere below, outside of functions and classes."""
    stack = list(roots)  # sums of a thousand parts nest as deep: nothing here may call itself
    while stack:
        for child in ast.iter_child_nodes(stack.pop()):
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                yield child.id
            elif not isinstance(child, (*_FUNCTIONS, *_COMPREHENSIONS, ast.ClassDef)):
                stack.append(child)


def names(imports: Sequence[Imported], name: str, path: str) -> bool:
    """Whether a file that imports these has a name by itself from the file of that path."""
    return any(
        item.could_be(path)
        for item in imports
        if name in (item.original, item.name) or item.original == _STAR
    )


def reaches(imports: Sequence[Imported], name: str, path: str) -> bool:
    """Whether a file that imports these has a name, or its module, from the file of that path."""
    return names(imports, name, path) or any(item.is_module(path) for item in imports)


def rust_elsewhere(text: str, name: str, path: str) -> bool:
    """Whether a Rust file has a name from another crate than that of a path."""
    uses = [set(_WORD.findall(use)) for use in _RUST_USE.findall(text)]
    uses = [words for words in uses if name in words]
    ours = {"crate", "self", "super", *parts_of_path(path)}
    return bool(uses) and not any(words & ours for words in uses)


def shadows(module: ast.Module, name: str, *, own: bool) -> list[range]:
    """The lines of a Python file in which a name is a variable or a parameter.

    :param own: whether the file is the one that defined it: its own assignments outside of functions then do not count.
    """
    if not own and name in set(_assigned(module)):
        return [range(1, sys.maxsize)]
    return [
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(module)
        if isinstance(node, (*_FUNCTIONS, *_COMPREHENSIONS)) and name in set(_variables(node))
    ]


def script_parameters(text: str, language: str, name: str) -> list[range]:
    """The lines of a script's functions that have a parameter of that name."""
    if language not in SCRIPTS or not re.search(rf"(?<![\w$]){re.escape(name)}\s*[,)}}=:\]]", text):
        return []
    tree = parse(text, language)
    stack = [tree.root] if tree is not None else []
    found: list[range] = []
    seen = 0
    while stack and seen < _MOST_NODES:
        node = stack.pop()
        seen += 1
        given = node.child_by_field_name("parameters") or node.child_by_field_name("parameter")
        body = node.child_by_field_name("body")
        if tree is not None and given is not None and body is not None:
            words = _WORD.findall(tree.text(given))
            # A default may call what has the name; then it stands in the line of the function itself.
            if name in words:
                found.append(range(body.start_point.row + 1, body.end_point.row + 2))
        stack += node.children
    return found


def _variables(node: ast.AST) -> Iterator[str]:
    """The parameters and variables of one function or comprehension."""
    if isinstance(node, _FUNCTIONS):
        arguments = node.args
        every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        yield from (item.arg for item in (*every, arguments.vararg, arguments.kwarg) if item is not None)
    yield from _assigned(node)
