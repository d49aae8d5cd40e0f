"""Chunks: whole lines, no overlap, nothing lost, cut where a person would cut."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexers.chunking import chunk_source
from indexers.config import IndexConfig
from indexers.types import Chunk, SourceFile

CONFIG = IndexConfig()
SMALL = IndexConfig(chunk_chars=200, chunk_max_chars=300)
LANGUAGES = (
    "python javascript typescript tsx go rust java kotlin c cpp csharp php ruby scala swift elixir lua bash "
    "haskell zig sql markdown rst text json yaml toml vue html clojure make dockerfile erlang"
).split()


def chunks_of(text: str, language: str, config: IndexConfig = SMALL) -> list[Chunk]:
    return chunk_source(SourceFile("src/file", "0" * 40, text, language), config)


def assert_exact(text: str, chunks: list[Chunk], config: IndexConfig) -> None:
    lines = text.split("\n")
    covered: set[int] = set()
    before = 0
    for chunk in chunks:
        assert before < chunk.start_line <= chunk.end_line <= len(lines)
        before = chunk.end_line
        assert "\n".join(lines[chunk.start_line - 1 : chunk.end_line]) == chunk.text
        assert chunk.text.split("\n")[0].strip() and chunk.text.split("\n")[-1].strip()
        assert len(chunk.text) <= config.chunk_max_chars or chunk.start_line == chunk.end_line
        assert all(chunk.start_line <= symbol.line <= chunk.end_line for symbol in chunk.symbols)
        covered.update(range(chunk.start_line, chunk.end_line + 1))
    assert {number for number, line in enumerate(lines, 1) if line.strip()} <= covered


def function(name: str, statements: int, indent: str = "") -> str:
    body = "".join(f"{indent}    value_{i} = compute({i})\n" for i in range(statements))
    return f"{indent}def {name}(self):\n{body}"


# --- where cuts fall


def test_definitions_of_some_size_have_their_own_chunks() -> None:
    text = "\n\n".join(function(name, 7) for name in ("one", "two", "three"))
    chunks = chunks_of(text, "python")
    assert [[symbol.name for symbol in chunk.symbols] for chunk in chunks] == [["one"], ["two"], ["three"]]


def test_tiny_definitions_share_chunks() -> None:
    text = "\n\n".join(function(f"f{i}", 1) for i in range(30))
    chunks = chunks_of(text, "python", CONFIG)
    assert 1 < len(chunks) <= 4
    assert min(len(chunk.text) for chunk in chunks) > 300


def test_comments_and_decorators_stay_with_their_definition() -> None:
    text = function("one", 7) + "\n# about two\n# at length\n@decorated\n@again(1)\n" + function("two", 7)
    chunks = chunks_of(text, "python")
    assert chunks[1].text.startswith("# about two\n# at length\n@decorated\n@again(1)\ndef two")


@pytest.mark.parametrize(
    ("language", "first", "second"),
    [
        ("rust", "fn a() {\n%s}", "/// About b.\n#[inline]\n#[cfg(test)]\npub fn b() {\n%s}"),
        ("java", "class A {\n%s}", "/**\n * About b.\n */\n@Deprecated\n@Other\nclass B {\n%s}"),
        ("go", "func a() {\n%s}", "// b is it.\n// More.\nfunc b() {\n%s}"),
        ("cpp", "int a() {\n%s}", "// About b.\ntemplate <typename T>\nint b() {\n%s}"),
        ("kotlin", "fun a() {\n%s}", "// About b.\nfun b() {\n%s}"),
        ("elixir", "def a do\n%send", '@doc "b"\n@spec b() :: any\ndef b do\n%send'),
        ("haskell", "a :: Int\na = do\n%s", "-- | About b.\nb :: Int\nb = do\n%s"),
        ("typescript", "function a() {\n%s}", "/** b */\n@Dec()\nexport class B {\n%s}"),
        ("csharp", "class A {\n%s}", "/// <summary>b</summary>\n[Attr]\nclass B {\n%s}"),
    ],
)
def test_what_leads_a_definition_stays_with_it(language: str, first: str, second: str) -> None:
    kind = "" if language == "typescript" else "int "
    body = "".join(f"    {kind}value_{i} = compute({i});\n" for i in range(7))
    text = f"{first % body}\n\n{second % body}\n"
    assert [chunk.text.split("\n")[0] for chunk in chunks_of(text, language)] == [
        first.split("\n")[0],
        second.split("\n")[0],
    ]


def test_big_class_is_cut_between_methods_with_scope() -> None:
    methods = "\n".join(function(f"m{i}", 6, "    ") for i in range(6))
    text = f'class Big(Base):\n    """What it is."""\n\n    field = 1\n\n{methods}'
    chunks = chunks_of(text, "python")
    assert chunks[0].scope == () and chunks[0].symbols[0].name == "Big"
    assert "field = 1" in chunks[0].text
    assert len(chunks) >= 6
    for chunk in chunks[1:]:
        assert chunk.scope == ("Big",)
        assert chunk.text.startswith("    def m")
    assert chunks[1].header == "src/file > Big"


def test_big_function_is_cut_between_statements_with_scope() -> None:
    inner = "".join(f"        if flag_{i}:\n            do_something({i})\n\n" for i in range(30))
    chunks = chunks_of(f"class A:\n    def big(self):\n{inner}", "python")
    assert len(chunks) > 3
    for chunk in chunks[1:]:
        assert chunk.scope == ("A", "big")
        assert chunk.text.startswith("        if flag_")


def test_go_methods_belong_to_their_receiver() -> None:
    body = "".join(f"\tcall(s, {i})\n" for i in range(12))
    method = f"// Push adds.\nfunc (s *Stack[T]) Push() {{\n{body}}}\n"
    text = f"package a\n\n{method}\nfunc New() {{\n{body}{body}{body}}}\n"
    chunks = chunks_of(text, "go")
    assert {chunk.scope for chunk in chunks if "Push" in chunk.text} == {("Stack",)}
    assert chunks[-1].scope == ("New",)


def test_rust_impl_is_the_scope_of_its_methods() -> None:
    methods = "".join(f"    fn m{i}(&self) {{\n" + "        call(1);\n" * 10 + "    }\n\n" for i in range(4))
    chunks = chunks_of(f"impl<T> fmt::Display for Wrapper<T> {{\n{methods}}}\n", "rust")
    assert {chunk.scope for chunk in chunks[1:]} == {("Wrapper",)}


@pytest.mark.parametrize(
    ("language", "opening", "closing"),
    [
        ("c", "void f() {", "}"),
        ("ruby", "def f", "end"),
        ("bash", "f() {", "}"),
        ("lua", "function f()", "end"),
    ],
)
def test_closers_are_not_left_alone(language: str, opening: str, closing: str) -> None:
    call = "  call {}" if language == "bash" else "  call({})"
    text = "\n".join([opening, *(call.format(i) for i in range(60)), closing])
    chunks = chunks_of(text, language)
    assert len(chunks) > 2
    assert all(len(chunk.text) >= 80 for chunk in chunks)
    assert chunks[-1].text.endswith(f"\n{closing}")


def test_a_line_longer_than_the_limit_stays_alone() -> None:
    long = f"DATA = '{'x' * 2_000}'"
    text = f"{function('one', 5)}\n{long}\n\n{function('two', 5)}"
    chunks = chunks_of(text, "python")
    assert [chunk.text for chunk in chunks if len(chunk.text) > 300] == [long]
    assert_exact(text, chunks, SMALL)


@pytest.mark.parametrize("text", ["", "\n", "\n\n  \t\n\x0c\n", "\u2028\n\x85"])
def test_nothing_but_blank_lines_makes_no_chunk(text: str) -> None:
    assert chunks_of(text, "python") == []


def test_only_a_newline_ends_a_line() -> None:
    text = "# a\u2028b\x0cc\x85d\re\x0bf\n\x0c\ndef f():\n    return '\u2029'\n"
    chunks = chunks_of(text, "python")
    assert_exact(text, chunks, SMALL)
    assert chunks[0].symbols[0].line == 3
    assert chunks[-1].end_line == 4


# --- prose


def test_markdown_by_section() -> None:
    filler = "Some words about it that fill the line.\n" * 4
    text = (
        f"---\ntitle: x\n# no heading\n---\n\n# Guide\n\n{filler}\n## Install\n\n{filler}\n"
        f"```sh\n# not a heading\npip install it\n```\n\nUsage\n-----\n\n{filler}\n### Deep #\n\n{filler}"
    )
    chunks = chunks_of(text, "markdown")
    assert [symbol.name for chunk in chunks for symbol in chunk.symbols] == [
        "Guide",
        "Install",
        "Usage",
        "Deep",
    ]
    by_name = {chunk.symbols[0].name: chunk for chunk in chunks if chunk.symbols}
    assert by_name["Guide"].scope == ()
    assert by_name["Install"].scope == ("Guide",)
    assert by_name["Deep"].scope == ("Guide", "Usage")
    assert_exact(text, chunks, SMALL)


def test_long_section_is_cut_at_paragraphs() -> None:
    paragraphs = "\n".join(
        f"Paragraph {i} says something that is long enough to matter here.\n" for i in range(20)
    )
    chunks = chunks_of(f"# One\n\n## Two\n\n{paragraphs}", "markdown")
    assert all(chunk.text.split("\n")[0].startswith("Paragraph") for chunk in chunks[1:])
    assert {chunk.scope for chunk in chunks[1:]} == {("One", "Two")}


def test_heading_is_never_last() -> None:
    words = "word " * 35
    text = "".join(f"## Section {i}\n\n{words}\n\n" for i in range(10))
    assert all(not chunk.text.split("\n")[-1].startswith("#") for chunk in chunks_of(text, "markdown"))


def test_restructured_text_by_section() -> None:
    filler = "Some words about it that fill the line.\n" * 5
    parts = ("=====\nTitle\n=====", "Part\n----", "Deep\n~~~~", "Next\n----")
    text = "\n".join(f"{part}\n\n{filler}" for part in parts)
    chunks = chunks_of(text, "rst")
    assert [(c.symbols[0].name, c.scope) for c in chunks] == [
        ("Title", ()),
        ("Part", ("Title",)),
        ("Deep", ("Title", "Part")),
        ("Next", ("Title",)),
    ]


def test_component_scripts_are_cut_by_syntax() -> None:
    functions = "".join(f"function f{i}() {{\n" + "  call(1);\n" * 15 + "}\n\n" for i in range(3))
    text = f"<template>\n  <b>x</b>\n</template>\n\n<script>\n{functions}</script>\n"
    chunks = chunks_of(text, "vue")
    assert [[s.name for s in chunk.symbols] for chunk in chunks if chunk.symbols] == [["f0"], ["f1"], ["f2"]]
    assert_exact(text, chunks, SMALL)


# --- notebooks


def notebook(indent: int | None, *, as_list: bool = True) -> str:
    def source(text: str) -> list[str] | str:
        return text.splitlines(keepends=True) if as_list else text

    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": source("# Title\n\nSome “words” \\ here.")},
        {
            "cell_type": "code",
            "metadata": {"source": ["not this"]},
            "outputs": [
                {"data": {"image/png": "iVBORw0KGgo" * 200, "text/plain": ["OUTPUT"]}, "output_type": "x"}
            ],
            "source": source("import os\n\n\ndef load(path):\n    return os.stat(path)\n"),
        },
        {"cell_type": "code", "metadata": {}, "outputs": [], "source": source("")},
        {
            "cell_type": "code",
            "metadata": {},
            "outputs": [],
            "source": source("class Model:\n" + "    x = 1\n" * 40),
        },
    ]
    data = {
        "cells": cells,
        "metadata": {"kernelspec": {"language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(data, indent=indent, ensure_ascii=False)


def test_notebook_cells_point_into_the_raw_file() -> None:
    raw = notebook(1)
    lines = raw.split("\n")
    chunks = chunks_of(raw, "notebook")
    text = "\n".join(chunk.text for chunk in chunks)
    assert "OUTPUT" not in text and "iVBOR" not in text and "not this" not in text
    assert "Some “words” \\ here." in text
    for chunk in chunks:
        rows = chunk.text.split("\n")
        for number, line in ((chunk.start_line, rows[0]), (chunk.end_line, rows[-1])):
            assert json.loads(lines[number - 1].strip().rstrip(",")).rstrip("\n") == line
    symbols = {symbol.name: symbol for chunk in chunks for symbol in chunk.symbols}
    assert set(symbols) == {"Title", "load", "Model"}
    assert "def load" in lines[symbols["load"].line - 1]
    assert chunks[0].scope == ("cell 1",)
    assert chunks[-1].scope == ("cell 4", "Model")
    assert chunks[-1].language == "python"


@pytest.mark.parametrize("indent", [None, 2])
def test_notebook_source_as_one_string(indent: int | None) -> None:
    chunks = chunks_of(notebook(indent, as_list=False), "notebook")
    assert "def load(path):\n    return os.stat(path)" in "\n".join(chunk.text for chunk in chunks)
    assert all(chunk.start_line == chunk.end_line for chunk in chunks if "class Model" in chunk.text)


@pytest.mark.parametrize(
    "raw", ["", "{", "[1, 2]", "{}", '{"cells": 3}', '{"cells": [}', "not json\n", '{"cells": [[["a"]]]}']
)
def test_broken_notebooks_do_not_raise(raw: str) -> None:
    chunks_of(raw, "notebook")


def test_broken_notebook_is_cut_by_lines_without_pictures() -> None:
    raw = notebook(1).replace('"nbformat": 4', '"nbformat": ')[:-3]
    chunks = chunks_of(raw, "notebook")
    text = "\n".join(chunk.text for chunk in chunks)
    assert "def load" in text and "iVBOR" not in text


def test_notebook_with_half_a_surrogate_pair() -> None:
    raw = '{"cells": [{"cell_type": "code", "source": ["a = \'\\ud83d\'"]}]}'
    (chunk,) = chunks_of(raw, "notebook")
    chunk.text.encode()


# --- anything at all

PIECES = st.sampled_from(
    """def class function fn func if else end do { } ( ) [ ] ; : , -> => = == # ## // /* */ -- {- -} \" ' `
    \"\"\" ''' ``` ~~~ === --- <script> </script> <?php impl struct module import return @doc #[x] @x $ \\ % *
    + < > | & ! ? name other value é 漢字 \u2028 \x0c \x85 \x0b \r \x00 \ufeff \U0001f600 public static const
    let var""".split(" ")
)
LINES = st.builds(
    lambda indent, words: " " * indent + " ".join(words),
    st.integers(0, 12),
    st.lists(PIECES, min_size=0, max_size=8),
)
SOUPS = st.lists(LINES | st.text(max_size=30), max_size=60).map("\n".join)


@settings(max_examples=250, deadline=None)
@given(text=SOUPS, language=st.sampled_from(LANGUAGES), size=st.sampled_from([1, 60, 200, 1_000]))
def test_any_text_is_covered_exactly(text: str, language: str, size: int) -> None:
    config = IndexConfig(chunk_chars=size, chunk_max_chars=size * 3 // 2)
    assert_exact(text, chunks_of(text, language, config), config)


@settings(max_examples=60, deadline=None)
@given(text=SOUPS)
def test_any_text_as_a_notebook(text: str) -> None:
    chunks_of(text, "notebook")
    raw = json.dumps(
        {"cells": [{"cell_type": "code", "source": text}, {"cell_type": "markdown", "source": [text]}]}
    )
    chunks = chunks_of(raw, "notebook")
    assert bool(chunks) == bool(text.strip())


@pytest.mark.parametrize("language", ["python", "haskell", "markdown"])
@pytest.mark.parametrize(
    "text",
    [
        "(" * 300_000,
        "(\n" * 150_000,
        "x = " + "(" * 10_000 + ")" * 10_000,
        "x = " + "[\n" * 10_000 + "]\n" * 10_000,
        "x = [\n" + "  1234,\n" * 40_000 + "]\n",
        "x = [" + "1234, " * 50_000 + "]",
        "/*\n" * 100_000,
        "a\n" * 150_000,
        "\n" * 300_000,
        "".join(f"{' ' * i}if x:\n" for i in range(700)),
    ],
    ids=[
        "open",
        "open-lines",
        "deep",
        "deep-lines",
        "array",
        "array-line",
        "comments",
        "short",
        "blank",
        "stairs",
    ],
)
def test_cost_stays_linear(language: str, text: str) -> None:
    # A square law would take minutes: the limit only has to tell seconds from those.
    start = time.process_time()
    chunks = chunks_of(text, language, CONFIG)
    assert time.process_time() - start < 8
    assert_exact(text, chunks, CONFIG)
