"""`agent map`: what matters most, within the budget, the same for the same tree, and safe to show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent import Agent, Filter
from agent.cli import main
from agent.config import load_settings
from chains.search.repo_map import LEAST_TOKENS, RepoMap, estimated_tokens, signature
from chains.search.symbol_graph import SymbolGraph
from indexers.errors import UsageError
from tests.repos import commit, git, make_repo, write

CORE = '''\
"""The core."""

import enum


class Context:
    """What a command runs in."""

    def __init__(
        self,
        command: "Command",
        parent: "Context | None" = None,
    ) -> None:
        self.command = command

    def invoke(self, callback, *args):
        return callback(*args)

    def _close(self): ...


class Command:
    def main(self, args):
        context = Context(self)
        return context.invoke(parse_arguments, args)


def parse_arguments(args):
    def inner(): ...

    return inner()


def never_used_by_anybody():
    return 1
'''
FILES = {
    "src/core.py": CORE,
    "src/shell.py": "from src.core import Command\n\n\ndef start_shell(args):\n    return Command().main(args)\n",
    "src/types.py": "class Kind: ...\n",
    "tests/test_core.py": "from src.core import Command\n\n\ndef test_main():\n    Command().main([])\n",
    "README.md": "# Demo\n\n## Usage\n\nRun it.\n",
}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", FILES)


@pytest.fixture(autouse=True)
def no_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_EMBEDDER", "none")


def map_of(root: Path, tokens: int = 1_000, **options: object) -> RepoMap:
    with Agent.open(root, settings=load_settings(root, {})) as agent:
        return agent.map(tokens, **options)  # type: ignore[arg-type]


def names(found: RepoMap) -> list[str]:
    return [entry.name for file in found.files for entry in file.entries]


# -- what is in it ---------------------------------------------------------------------------------


def test_a_whole_map(repo: Path) -> None:
    assert str(map_of(repo)) == (
        "src/core.py:\n"
        " 6 class Context:\n"
        ' 9   def __init__(self, command: "Command", parent: "Context | None" = None) -> None:\n'
        "16   def invoke(self, callback, *args):\n"
        "19   def _close(self): ...\n"
        "22 class Command:\n"
        "23   def main(self, args):\n"
        "28 def parse_arguments(args):\n"
        "34 def never_used_by_anybody():\n"
        "src/shell.py:\n"
        "4 def start_shell(args):\n"
        "tests/test_core.py:\n"
        "4 def test_main():\n"
        "src/types.py:\n"
        "1 class Kind: ..."
    )


def test_what_is_left_out_is_counted(repo: Path) -> None:
    found = map_of(repo, LEAST_TOKENS)
    assert found.tokens <= LEAST_TOKENS
    assert names(found)[0] == "Context"
    shown = {file.path: len(file.entries) for file in found.files}
    assert [file.more for file in found.files if file.path == "src/core.py"] == [8 - shown["src/core.py"]]
    assert found.more_files == 4 - len(shown)
    assert str(found).endswith(f"⋮ {found.more_files} more files, {found.more_definitions} definitions")


@pytest.mark.parametrize("tokens", [50, 80, 120, 200, 100_000])
def test_the_budget_is_kept_and_used(repo: Path, tokens: int) -> None:
    found = map_of(repo, tokens)
    assert estimated_tokens(str(found)) == found.tokens <= tokens
    more = map_of(repo, tokens + 60)
    assert set(names(found)) <= set(names(more))
    assert found.budget == tokens and "characters" in found.counted


def test_a_method_stands_below_its_class(repo: Path) -> None:
    found = map_of(repo, 60, focus=["Context.invoke"])
    (core,) = [file for file in found.files if file.path == "src/core.py"]
    assert [(entry.name, entry.depth) for entry in core.entries][:2] == [("Context", 0), ("invoke", 1)]


def test_focus(repo: Path) -> None:
    by_name = map_of(repo, 90, focus=["parse_arguments"])
    assert {"parse_arguments", "Command"} <= set(names(by_name))
    for word in ("src/types.py", "types.py", "./src/types.py"):
        assert map_of(repo, 60, focus=[word]).files[0].path == "src/types.py"
    assert map_of(repo, 90, focus="tests/").files[0].path == "tests/test_core.py"


@pytest.mark.parametrize("word", ["nosuch", "", "/", "\udcff", "x" * 5_000, "src/cor.py"])
def test_a_focus_that_is_nothing(repo: Path, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        map_of(repo, focus=[word])
    assert len(str(caught.value)) < 1_000
    if word == "src/cor.py":
        assert "src/core.py" in caught.value.remedy


def test_only_some_files_are_shown_but_all_count(repo: Path) -> None:
    found = map_of(repo, only=Filter(paths=["src/**"], tests=False))
    assert [file.path for file in found.files] == ["src/core.py", "src/shell.py", "src/types.py"]
    assert map_of(repo, only=Filter(languages=["go"])).files == ()


def test_another_way_to_count(repo: Path) -> None:
    from chains.search.repo_map import repo_map

    with Agent.open(repo, settings=load_settings(repo, {})) as agent:
        agent.refresh()
        found = repo_map(agent.workspace.names(), 60, count=lambda text: len(text.split()), counted="words")
    assert found.tokens == len(str(found).split()) <= 60 and found.counted == "words"


@pytest.mark.parametrize("tokens", [0, -1, LEAST_TOKENS - 1])
def test_too_small_a_budget(repo: Path, tokens: int) -> None:
    with pytest.raises(UsageError, match="at least"):
        map_of(repo, tokens)


# -- always the same -------------------------------------------------------------------------------


def test_the_same_tree_gives_the_same_bytes_whatever_came_before(repo: Path, tmp_path: Path) -> None:
    expected = str(map_of(repo))
    assert str(map_of(repo)) == expected
    # Other row ids, other order of indexing, the same tree.
    write(repo, {"src/core.py": "x = 1\n", "src/zzz.py": "def start_shell(): ...\n"})
    assert str(map_of(repo)) != expected
    git(repo, "checkout", "-q", "--", ".")
    (repo / "src/zzz.py").unlink()
    assert str(map_of(repo)) == expected
    other = make_repo(tmp_path / "other")
    for path in sorted(FILES, reverse=True):
        write(other, {path: FILES[path]})
        commit(other, path)
        map_of(other)
    assert str(map_of(other)) == expected


def test_one_agent_follows_the_tree(repo: Path) -> None:
    with Agent.open(repo, settings=load_settings(repo, {})) as agent:
        before = str(agent.map())
        write(repo, {"src/more.py": "def brand_new_function(): ...\n"})
        assert "brand_new_function" in str(agent.map())
        (repo / "src/more.py").unlink()
        assert str(agent.map()) == before


# -- signatures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def run(\n    a,\n    b: int = 1,\n) -> None:\n    pass", "def run(a, b: int = 1) -> None:"),
        ("func (c *Context) Next() {", "func (c *Context) Next()"),
        ("pub struct Router<S = ()> {", "pub struct Router<S = ()>"),
        ("export function make<\n  A,\n  B\n>(a: A): B {", "export function make<A, B"),
        ("LIMIT = 3", "LIMIT = 3"),
        ("TABLE = {\n  1: 2}", "TABLE"),
        ("#define MAX(a, b) \\\n  a", "#define MAX(a, b)"),
        ("x" * 5_000, "x" * 89 + "…"),
        ("def f(" + "(" * 3_000, "def f(" + "(" * 83 + "…"),
        ("", ""),
    ],
)
def test_signatures(text: str, expected: str) -> None:
    assert signature(text.split("\n"), 1) == expected
    assert signature([], 7) == ""


# -- nothing hostile gets through ------------------------------------------------------------------


def test_names_of_files_and_code_cannot_break_the_map(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_repo(
        tmp_path / "repo",
        {
            "a\n9 def fake():\x1b[31m.py": "def real(a='\x1b]0;title\x07\u202e'): ...\n",
            "<b>x</b>.py": "def markup(): ...\n",
        },
    )
    found = map_of(root)
    assert len(str(found).splitlines()) == 4
    assert "\x1b" not in str(found).split(":")[0] and "<b>" not in found._repr_html_()
    assert "&lt;b&gt;x&lt;/b&gt;.py:" in found._repr_html_()
    assert main(["map", "--repo", str(root)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\u202e" not in shown and "\x07" not in shown
    assert len(shown.splitlines()) == 4


@pytest.mark.parametrize(
    "files",
    [
        {"a.txt": "nothing to see"},
        {"one.py": "def alone(): ...\n"},
        {"deep.py": "f(" * 20_000, "wide.js": "a" * 100_000 + "()\n", "odd.py": b"def \xff(): ...\n"},
        {"nest.py": "".join(" " * n + f"def f{n}():\n" for n in range(300)) + " " * 300 + "pass\n"},
        {"many.py": "".join(f"def f{n}(): f{n + 1}()\n" for n in range(3_000))},
        {"loop.py": "def a(): b()\ndef b(): a()\n"},
    ],
    ids=["text", "one", "hostile", "nested", "many", "loop"],
)
def test_odd_repositories(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    found = map_of(make_repo(tmp_path / "repo", files), 200)
    assert found.tokens <= 200
    assert str(found) == str(map_of(tmp_path / "repo", 200))


def test_an_empty_repository(tmp_path: Path) -> None:
    assert str(map_of(make_repo(tmp_path / "repo"))) == ""


# -- the command -----------------------------------------------------------------------------------


def test_command(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "--repo", str(repo), "--tokens", "100", "--no-tests"]) == 0
    shown = capsys.readouterr()
    expected = map_of(repo, 100, only=Filter(tests=False))
    assert shown.out == f"{expected}\n"
    assert f"{expected.tokens} of 100 tokens, about 4 characters a token" in shown.err


def test_command_as_json(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "--repo", str(repo), "--json", "--focus", "Command", "--focus", "src/types.py"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"files", "more_files", "more_definitions", "tokens", "budget", "counted"} == set(found)
    assert {"path", "language", "entries", "more"} == set(found["files"][0])
    assert found["files"][0]["entries"][0]["signature"]


@pytest.mark.parametrize(
    "arguments", [["--tokens", "10"], ["--tokens", "many"], ["--focus", "nosuch"], ["--path", ".."]]
)
def test_command_with_wrong_arguments(
    repo: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["map", "--repo", str(repo), *arguments]) == 2
    assert "error: " in capsys.readouterr().err


# -- for whoever looks things up -------------------------------------------------------------------


def test_the_graph_as_it_is_looked_things_up_in(repo: Path) -> None:
    with Agent.open(repo, settings=load_settings(repo, {})) as agent:
        agent.refresh()
        graph = SymbolGraph(agent.workspace.names())
        found = [(use.path, use.line, use.kind) for use in graph.callers_of("Command", 10)]
        assert found == [("src/shell.py", 5, "call"), ("tests/test_core.py", 5, "call")]
        assert len(graph.callers_of("Command", 1)) == 1
        uses = graph.callers_of("parse_arguments", 10)
        assert [(use.line, use.kind) for use in uses] == [(25, "name")]
        assert (
            SymbolGraph(agent.workspace.names(), Filter(tests=False)).callers_of("Command", 10)[-1].path
            == "src/shell.py"
        )
        overview = graph.overview(60, estimated_tokens)
        assert overview.startswith("src/core.py:\n") and estimated_tokens(overview) <= 60
        assert graph.overview(LEAST_TOKENS - 1, estimated_tokens) == ""
