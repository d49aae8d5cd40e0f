"""Completion: the prompt of each kind of model as token ids, what is taken of its text, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer, said
from repos import make_repo

from agent import Agent
from agent.cli import main
from agent.completing import parse_place
from agent.config import Settings
from chains.completing import CompleteSettings, cut, fill, hole_at, names_in_view
from chains.engines import ServerModel
from chains.llm import LlamaCpp
from chains.models.gguf import read_gguf
from chains.writing.infill import CODELLAMA, QWEN, Hole, end_ids, ended, infill_ids, marks_of, trimmed
from indexers.errors import AgentError, UsageError

GEOMETRY = '''\
def area(width, height):
    """The area of a rectangle."""
    return width * height
'''
SHAPES = """\
from geometry import area


def volume(width, height, depth):
    base = area(width, height)

    return base * depth
"""


class Words:
    """A tokenizer whose marks are tokens and whose every other character is one."""

    bos: int | None = 1
    eos: int | None = 2
    adds_bos = False

    def __init__(self, *marks: str) -> None:
        self._marks = {text: 1_000 + number for number, text in enumerate(marks)}

    def encode(self, text: str, *, control: bool = False, joined: bool = False) -> list[int]:
        assert not control, "text of a file is never control"
        return [*([32] if not joined and self.bos == 1 else []), *map(ord, text)]

    def token_id(self, text: str) -> int | None:
        return self._marks.get(text)

    def is_control(self, token: int) -> bool:
        return token >= 1_000


def chars(text: str) -> list[int]:
    return list(map(ord, text))


def test_codellama_reads_prefix_suffix_middle_as_metas_reference() -> None:
    words = Words("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>")
    ids = infill_ids(CODELLAMA, words, Hole("a.py", "ab", "cd"))
    assert ids == [1, 1000, 32, *chars("ab"), 1001, *chars("cd"), 1002]
    assert end_ids(words) == {1003, 2}
    helped = infill_ids(CODELLAMA, words, Hole("a.py", "ab", "cd"), [("b.py", "x\n\ny")])
    assert helped == [1, 1000, 32, *chars("# b.py\n# x\n#\n# y\n\nab"), 1001, *chars("cd"), 1002]


def test_qwen_reads_other_files_before_the_hole() -> None:
    words = Words("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|repo_name|>", "<|file_sep|>")
    hole = Hole("a.py", "ab", "cd<|fim_middle|>")
    pre, suf, mid, name, file = range(1000, 1005)
    tail = [pre, *chars("ab"), suf, *chars("cd<|fim_middle|>"), mid]
    assert infill_ids(QWEN, words, hole) == tail
    ids = infill_ids(QWEN, words, hole, [("b.py", "x")], "shapes")
    assert ids == [name, *chars("shapes\n"), file, *chars("b.py\nx\n"), file, *chars("a.py\n"), *tail]


@pytest.mark.parametrize(
    ("name", "infill"),
    [
        ("codellama_codellama-7b-instruct-hf", True),
        ("CodeLlama-13b-Instruct", True),
        ("codellama_codellama-7b-python-hf", False),
        ("some-llama-7b", False),
    ],
)
def test_only_models_that_were_trained_to_fill_are_asked_to(
    tiny_codellama: Path, tiny: LlamaCpp, name: str, infill: bool
) -> None:
    info = replace(read_gguf(tiny_codellama), name=name, path=Path(f"{name}.gguf"))
    assert (marks_of(info, tiny.vocabulary) is not None) == infill


def test_a_codellama_without_the_tokens_is_a_34b(tmp_path: Path) -> None:
    import tiny_gguf

    path = tiny_gguf.build(
        tmp_path / "codellama-34b-instruct.gguf", name="codellama-34b-instruct", infill=False
    )
    llm = LlamaCpp(model_path=str(path), n_ctx=512, n_threads=1)
    found = fill(hole_at("a.py", GEOMETRY, 3, 12), llm, CompleteSettings(max_tokens=3))
    assert found.method == "continued" and "not trained to fill holes" in found.notes[0]
    llm.close()


@pytest.fixture(scope="module")
def tiny(tiny_codellama: Path) -> Iterator[LlamaCpp]:
    llm = LlamaCpp(model_path=str(tiny_codellama), n_ctx=1024, n_threads=1)
    yield llm
    llm.close()


def test_the_tiny_codellama_gets_the_ids_of_the_facts_page(tiny: LlamaCpp) -> None:
    marks = marks_of(tiny.info, tiny.vocabulary)
    assert marks is CODELLAMA
    ids = infill_ids(marks, tiny.vocabulary, Hole("a.py", "def f(", "):\n    </s>"))
    assert ids[:2] == [1, 32007] and ids[-1] == 32009 and 32008 in ids and 32010 in end_ids(tiny.vocabulary)
    # The end token in the file is text, and the suffix begins without a space.
    assert 2 not in ids and tiny.vocabulary.decode(ids[ids.index(32008) + 1 : -1]) == "):\n    </s>"
    found = fill(hole_at("a.py", GEOMETRY, 3, 12), tiny, CompleteSettings(max_tokens=4))
    assert found.method == "infill" and (found.line, found.column) == (3, 12)


# -- places ----------------------------------------------------------------------------------------


def test_places_in_a_text() -> None:
    hole = hole_at("a.py", GEOMETRY, 3, 12)
    assert hole.prefix.endswith("\n    return ") and hole.suffix == "width * height\n" and hole.in_line
    assert hole_at("a.py", GEOMETRY, 2).suffix == "\n    return width * height\n"
    assert hole_at("a.py", "a\r\nb\r\n", 1) == Hole("a.py", "a", "\nb\n")
    assert hole_at("a.py", "", 1) == Hole("a.py", "", "")
    for line, column in ((0, None), (5, None), (1, 99), (1, 0)):
        with pytest.raises(UsageError):
            hole_at("a.py", GEOMETRY, line, column)


def test_places_as_they_are_typed() -> None:
    assert parse_place("src/a.py:12") == ("src/a.py", 12, None)
    assert parse_place("src/a.py:12:9") == ("src/a.py", 12, 9) and parse_place("a:b.py:3") == (
        "a:b.py",
        3,
        None,
    )
    for text in ("a.py", "a.py:", ":3", "a.py:x", "a.py:-1", "a.py:1.5", "a.py:" + "9" * 30):
        with pytest.raises(UsageError, match="names no line"):
            parse_place(text)


def test_what_stands_before_is_cut_by_lines_and_what_stands_behind_by_number() -> None:
    text = "\n".join(f"line {number}" for number in range(100))
    hole = cut(
        hole_at("a.txt", text, 50),
        CompleteSettings(suffix_lines=2, prefix_tokens=6),
        lambda t: len(t.split()),
    )
    assert hole.prefix == "line 47\nline 48\nline 49" and hole.suffix == "\nline 50\nline 51"
    assert cut(hole, CompleteSettings(suffix_lines=0, prefix_tokens=1), len) == Hole("a.txt", "line 49", "")


def test_names_in_view_begin_with_the_nearest() -> None:
    assert names_in_view(hole_at("shapes.py", SHAPES, 6))[:4] == ["height", "width", "area", "base"]


# -- what is taken ---------------------------------------------------------------------------------

IN_LINE = Hole("a.py", "def f(a, b):\n    return area(", ")\n")
BLOCK = Hole("a.py", "def f(a, b):\n    base = 1\n    ", "\n    return base\n\n\ndef g():\n    pass\n")


@pytest.mark.parametrize(
    ("hole", "text", "taken"),
    [
        (IN_LINE, "a, b", "a, b"),
        (IN_LINE, "a, b)\n    more", "a, b"),
        (IN_LINE, "max(a, b), b)", "max(a, b), b"),
        (IN_LINE, "max(a, b)", "max(a, b)"),
        (BLOCK, "base += a\n    base += b\n    return base\n\n\ndef g():", "base += a\n    base += b"),
        (BLOCK, "base += a\n\n\ndef h():\n    pass", "base += a"),
        (BLOCK, "base = [\n        a,\n    ]\n    x = 1\n", "base = [\n        a,\n    ]\n    x = 1"),
        (BLOCK, "    base += a\n    base += b\n", "base += a\n    base += b"),
        (BLOCK, "", ""),
        (Hole("a.c", "int f() {\n", "}\n"), "  return 1;\n}\n\nint g() {", "  return 1;"),
        (Hole("a.py", "x = 1\n", ""), "y = 2\nz = 3\n", "y = 2\nz = 3"),
    ],
)
def test_what_belongs_into_the_hole(hole: Hole, text: str, taken: str) -> None:
    assert trimmed(text, hole) == taken


def test_a_line_that_was_cut_short_is_left_out() -> None:
    assert trimmed("base += a\n    base += very_lo", BLOCK, complete=False) == "base += a"
    assert trimmed("base += very_lo", BLOCK, complete=False) == "base += very_lo"


def test_writing_ends_as_soon_as_nothing_more_can_be_taken() -> None:
    assert ended("a, b)\n", IN_LINE) and not ended("a, b", IN_LINE) and not ended("\n", IN_LINE)
    assert not ended("base += a\n    base += b\n", BLOCK) and not ended("    base += a\n", BLOCK)
    assert ended("base += a\n    return base\n", BLOCK) and ended("base += a\ndef h():\n", BLOCK)


# -- the verb --------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENT_EMBEDDER", "none")
    return make_repo(
        tmp_path / "repo", {"geometry.py": GEOMETRY, "shapes.py": SHAPES, "image.png": b"\x89PNG\0\0"}
    )


def test_complete_reads_the_definitions_of_names_in_view(
    root: Path, smollm_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SmolLM2 was not trained to fill, and goes on."""
    before = {path.name: path.read_bytes() for path in root.glob("*.py")}
    command = ["complete", str(root / "shapes.py") + ":6", "--repo", str(root), "--model", str(smollm_gguf)]
    assert main([*command, "--max-tokens", "8", "--threads", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["method"] == "continued" and (found["path"], found["line"], found["column"]) == (
        "shapes.py",
        6,
        1,
    )
    assert [(s["path"], s["start_line"]) for s in found["sources"]] == [("geometry.py", 1)]
    assert "goes on with what stands before" in found["notes"][0]
    assert {path.name: path.read_bytes() for path in root.glob("*.py")} == before


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("shapes.py", "names no line"),
        ("shapes.py:99", "has 8 lines"),
        ("missing.py:1", "is not read|cannot be read"),
        ("image.png:1", "is not read: binary"),
        ("../elsewhere.py:1", "is not in the work tree"),
    ],
)
def test_places_that_are_none(
    root: Path, place: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    assert main(["complete", place, "--base-url", "http://127.0.0.1:9"]) == 2
    import re

    assert re.search(message, capsys.readouterr().err)


def on(server: FakeServer, root: Path) -> Agent:
    return Agent.open(root, settings=Settings(engine="openai", base_url=server.url, embedder="none"))


def test_a_server_that_fills_is_asked_to(root: Path) -> None:
    asked: list[dict[str, Any]] = []

    def infill(body: dict[str, Any]) -> object:
        asked.append(body)
        return {"content": "    top = area(width, depth)\n    return base * depth", "stop_type": "eos"}

    with FakeServer(owner="llamacpp", posts={"/infill": infill}) as server, on(server, root) as agent:
        found = agent.complete(str(root / "shapes.py"), 6, suffix_lines=3)
    assert (found.text, found.method) == ("    top = area(width, depth)", "infill")
    assert (
        asked[0]["input_prefix"].endswith("area(width, height)\n")
        and "return base" in asked[0]["input_suffix"]
    )
    assert asked[0]["input_extra"] == [{"filename": "geometry.py", "text": GEOMETRY.rstrip()}]


@pytest.mark.parametrize("owner", ["llamacpp", "vllm"])
def test_other_servers_chat_models_are_asked_for_the_text(root: Path, owner: str) -> None:
    """One whose model cannot fill says so with an error."""
    answer = "```python\n    top = area(width, depth)\n```"
    with FakeServer([said(answer)], owner=owner, window=8_000) as server, on(server, root) as agent:
        for _ in range(2):
            found = agent.complete(str(root / "shapes.py"), 6)
    assert (found.text, found.method) == ("    top = area(width, depth)", "asked")
    assert "has no infilling" in found.notes[0]
    assert server.paths.count("/infill") == (owner == "llamacpp")
    assert "<HOLE>" in server.requests[0]["messages"][1]["content"]


def test_secrets_do_not_reach_the_model(root: Path) -> None:
    secret = "AKIA" + "IOSFODNN7REALKEY"
    (root / "shapes.py").write_text(f'KEY = "{secret}"\n\nprint(KEY)\n')
    with FakeServer([said("x = 1")], owner="vllm", window=8_000) as server, on(server, root) as agent:
        agent.complete(str(root / "shapes.py"), 2)
    assert secret not in json.dumps(server.requests)


def test_bounds_are_checked(root: Path) -> None:
    with pytest.raises(UsageError):
        CompleteSettings(suffix_lines=-1)
    with pytest.raises(AgentError):
        CompleteSettings(max_tokens=0)


def test_server_model_without_infill_is_not_asked_twice(install_models: Callable[..., None]) -> None:
    with FakeServer(owner="llamacpp") as server:
        llm = ServerModel(base_url=server.url)
        assert llm.infill(IN_LINE, [], 5) is None is llm.infill(IN_LINE, [], 5)
    assert server.paths.count("/infill") == 1
