"""The house rules, read off the source: what may import what, and which door leads to which outside thing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("indexers", "chains", "agent")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]

# Everything that takes long to import; `agent --help` and a search on an unchanged index pay for none of it.
HEAVY = {
    *("chromadb", "torch", "transformers", "sentence_transformers", "llama_cpp", "onnxruntime", "onnx"),
    *("tokenizers", "huggingface_hub", "detect_secrets", "numpy", "safetensors", "tree_sitter"),
    *("tree_sitter_language_pack", "langgraph", "pydantic", "httpx2", "openai", "tiktoken"),
}
# What is LangChain's by its nature: the model, the retriever. They are imported by name, never by a package.
LANGCHAIN_MODULES = {
    "chains/server/connection.py",
    "chains/engines.py",
    "chains/server/base.py",
    "chains/engine/bound.py",
    "chains/engine/conversation.py",
    "chains/deep.py",
    "chains/generation.py",
    "chains/llm.py",
    "chains/search/retriever.py",
}

DOORS: dict[str, set[str]] = {
    "chromadb": {"indexers/store.py"},
    # Those beside the door ask only what the installed build can do.
    "llama_cpp": {"chains/engine/library.py", "agent/hardware.py", "agent/commands/doctor.py"},
    "subprocess": {
        *("indexers/git.py", "indexers/children.py", "indexers/rescue.py"),
        *("agent/background.py", "agent/wheels.py", "agent/after_commit.py"),
        # The user's own commands, on a copy.
        "chains/writing/scratch.py",
    },
    "sqlite3": {
        "indexers/database.py",
        "indexers/chunk_rows.py",
        "indexers/ledger.py",
        "indexers/unused.py",
        "agent/workspace.py",
        "agent/commands/doctor.py",
    },
    "filelock": {"indexers/locks.py", "agent/download.py"},
    "onnxruntime": {"indexers/bert_embedder.py"},
    "langchain": {"chains/deep.py"},
    "httpx2": {"chains/server/about.py", "agent/web.py"},
    "openai": {"chains/server/errors.py"},
    "langchain_openai": {"chains/server/base.py"},
    "langgraph": {"chains/deep.py", "chains/write.py"},
    "pyflakes": {"chains/writing/edit_checks.py"},
    # A styled text is a value; only output prints it.
    "rich": {"agent/output.py", "agent/progress_view.py", "agent/commands/search.py"},
}
ENVIRONMENT = {
    *("agent/config.py", "agent/paths.py", "agent/models.py", "agent/download.py"),
    # What git tells its hooks stands nowhere else.
    "agent/hook_environment.py",
    # They hand a clean environment on to git and pip; nothing is decided by what is in it.
    *("indexers/git.py", "agent/wheels.py"),
}
# The start has nothing else yet.
PRINTING = {"agent/output.py", "agent/__main__.py"}
# Puts away a stdout that nobody reads any more.
HOLDS_STDOUT = {"agent/cli.py"}
# One boundary, and how many exceptions to that: an error carried from a thread to the task that awaits it,
# and a library that raises nothing more precise.
# The hook is a boundary too, and so is the process in which a review runs: its parent tells.
BROAD_EXCEPT = {
    **{"agent/cli.py": 9, "chains/llm.py": 1, "chains/engine/waiting.py": 1, "indexers/bert_embedder.py": 1},
    **{"agent/commands/hook.py": 1, "agent/guard.py": 1},
}
BANNED = {"langchain_community", "llama_index", "requests", "git"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in {
        "import_module",
        "importlib.import_module",
        "__import__",
    }:
        first = node.args[0]
        if isinstance(first, ast.Constant):
            yield str(first.value)


def all_imports(node: ast.AST) -> Iterator[str]:
    for child in ast.walk(node):
        yield from imported_by(child)


def at_module_level(path: Path) -> Iterator[str]:
    """What importing the module imports: everything but the bodies of functions."""

    def outside_functions(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            yield from imported_by(child)
            yield from outside_functions(child)

    return outside_functions(tree(path))


def top(name: str) -> str:
    return name.partition(".")[0]


def each_module() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", MODULES, ids=NAMES)


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 20 and {"indexers/store.py", "chains/ask.py", "agent/api.py"} <= set(NAMES)


@each_module()
def test_imports_point_down(path: Path) -> None:
    level = PACKAGES.index(name_of(path).partition("/")[0])
    above = {package for package in PACKAGES if PACKAGES.index(package) > level}
    assert [name for name in all_imports(tree(path)) if top(name) in above] == []


@each_module()
def test_the_index_knows_no_langchain_and_nobody_knows_the_archived_one(path: Path) -> None:
    names = {top(name) for name in all_imports(tree(path))}
    assert not names & BANNED
    if name_of(path).startswith("indexers/"):
        assert not [name for name in names if name.startswith("langchain")]


@each_module()
def test_each_outside_thing_has_one_door(path: Path) -> None:
    used = {top(name) for name in all_imports(tree(path))} & DOORS.keys()
    assert {thing for thing in used if name_of(path) not in DOORS[thing]} == set()


def test_every_door_is_used() -> None:
    """A door that leads nowhere is a rule that guards nothing."""
    for thing, doors in DOORS.items():
        users = {name_of(path) for path in MODULES if thing in map(top, all_imports(tree(path)))}
        assert users <= doors and users, thing


@each_module()
def test_heavy_libraries_are_imported_inside_functions(path: Path) -> None:
    heavy = {top(name) for name in at_module_level(path)}
    allowed = {"pydantic"} if name_of(path) in LANGCHAIN_MODULES else set()
    assert heavy & (HEAVY - allowed) == set()
    assert name_of(path) in LANGCHAIN_MODULES or not [name for name in heavy if name.startswith("langchain")]


@each_module()
def test_what_imports_langchain_is_itself_imported_inside_functions(path: Path) -> None:
    modules = {name.removesuffix(".py").replace("/", ".") for name in LANGCHAIN_MODULES}
    if name_of(path) in LANGCHAIN_MODULES:
        return
    assert [
        name for name in at_module_level(path) if name in modules or name.rpartition(".")[0] in modules
    ] == []


@each_module()
def test_only_output_prints(path: Path) -> None:
    if name_of(path) in PRINTING:
        return
    calls = [ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    assert not {"print", "pprint", "input"} & set(calls)
    if name_of(path) in HOLDS_STDOUT:
        return
    attributes = {ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
    assert not attributes & {"sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}
    assert not [name for name in all_imports(tree(path)) if name in {"sys.stdout", "sys.stderr"}]


@each_module()
def test_only_the_edge_reads_the_environment(path: Path) -> None:
    if name_of(path) in ENVIRONMENT:
        return
    names = {ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
    names |= {name for name in all_imports(tree(path)) if name.startswith("os.")}
    assert not names & {"os.environ", "os.environb", "os.getenv", "os.putenv", "os.unsetenv"}


@each_module()
def test_no_broad_except(path: Path) -> None:
    """Everything is caught once, at the command line. Elsewhere all may be caught only to be raised again."""
    found = []
    for handler in (node for node in ast.walk(tree(path)) if isinstance(node, ast.ExceptHandler)):
        caught = ast.unparse(handler.type) if handler.type else "BaseException"
        broad = bool(re.search(r"\b(Base)?Exception\b", caught))
        last = handler.body[-1]
        again = isinstance(last, ast.Raise) and last.exc is None
        if broad and not again:
            found.append(f"{name_of(path)}:{handler.lineno} catches {caught}")
    assert len(found) <= BROAD_EXCEPT.get(name_of(path), 0), found


@each_module()
def test_every_module_says_what_it_does(path: Path) -> None:
    docstring = ast.get_docstring(tree(path))
    assert docstring and len(docstring.split("\n", 1)[0]) > 20
    assert docstring.split("\n", 1)[0].rstrip().endswith(".")


@each_module()
def test_no_module_runs_anything_when_imported(path: Path) -> None:
    if name_of(path) in {"agent/cli.py", "agent/__main__.py"}:
        return
    assert not [
        node
        for node in tree(path).body
        if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
    ]


@each_module()
def test_nothing_exits_below_the_command_line(path: Path) -> None:
    # A forked worker is a process of its own, and ends itself.
    forks = {"indexers/children.py", "agent/guard.py", "chains/writing/supervising.py"}
    if name_of(path) in {"agent/cli.py", "agent/__main__.py", "agent/output.py", *forks}:
        return
    calls = {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}
    assert not calls & {"sys.exit", "exit", "quit", "os._exit", "os.abort"}


@each_module()
def test_no_shell_no_eval(path: Path) -> None:
    calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    names = {ast.unparse(node.func) for node in calls}
    assert not names & {"eval", "exec", "compile", "os.system", "os.popen", "pickle.load", "pickle.loads"}
    assert not [call for call in calls for keyword in call.keywords if keyword.arg == "shell"]


def test_no_import_cycles() -> None:
    known = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in NAMES}
    graph = {}
    for path in MODULES:
        me = name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        found = {name if name in known else name.rpartition(".")[0] for name in at_module_level(path)}
        graph[me] = (found & known) - {me}

    def walk(node: str, above: tuple[str, ...]) -> None:
        assert node not in above, " -> ".join((*above, node))
        for child in graph[node]:
            walk(child, (*above, node))

    for node in graph:
        walk(node, ())


@pytest.mark.parametrize(
    "statement",
    ["import agent, chains, indexers", "import agent.cli", "import indexers.build", "import agent.api"],
)
def test_importing_costs_no_heavy_library(statement: str) -> None:
    """The rule above, proven by a real interpreter."""
    code = f"{statement}; import sys; print(*(name.partition('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & HEAVY and not [name for name in loaded if name.startswith("langchain")]


def test_no_package_but_ours_lies_at_the_top() -> None:
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} <= {*PACKAGES, "tests"}
