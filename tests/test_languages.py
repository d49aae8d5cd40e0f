"""Which language a file is in, by its name or its first line."""

from __future__ import annotations

import zlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexers import patterns, syntax
from indexers.errors import UsageError
from indexers.languages import grammar_of, language_named, language_of

REQUIRED = (
    "python javascript typescript tsx go rust java kotlin c cpp csharp php ruby scala swift elixir lua bash "
    "haskell zig sql"
).split()


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("a.py", "python"),
        ("src/A.PY", "python"),
        ("a/b.pyi", "python"),
        ("a.js", "javascript"),
        ("a.mjs", "javascript"),
        ("a.ts", "typescript"),
        ("a.d.ts", "typescript"),
        ("a.tsx", "tsx"),
        ("a.go", "go"),
        ("a.rs", "rust"),
        ("A.java", "java"),
        ("a.kt", "kotlin"),
        ("a.c", "c"),
        ("a.h", "c"),
        ("a.hpp", "cpp"),
        ("a.cc", "cpp"),
        ("a.cs", "csharp"),
        ("a.php", "php"),
        ("a.rb", "ruby"),
        ("a.scala", "scala"),
        ("a.swift", "swift"),
        ("a.exs", "elixir"),
        ("a.lua", "lua"),
        ("a.sh", "bash"),
        ("a.hs", "haskell"),
        ("a.zig", "zig"),
        ("a.sql", "sql"),
        ("a.ipynb", "notebook"),
        ("README.md", "markdown"),
        ("docs/index.rst", "rst"),
        ("Dockerfile", "dockerfile"),
        ("docker/Dockerfile.dev", "dockerfile"),
        ("Makefile", "make"),
        ("CMakeLists.txt", "cmake"),
        ("Gemfile", "ruby"),
        (".env.example", "ini"),
        ("settings.py.in", "python"),
        ("config.yaml.j2", "yaml"),
        ("pyproject.toml", "toml"),
        ("LICENSE", "text"),
        ("notes.txt", "text"),
        ("a.py/b", "text"),
        ("python", "text"),
        ("", "text"),
        ("odd\udcff.py", "python"),
    ],
)
def test_by_name(path: str, language: str) -> None:
    assert language_of(path) == language


@pytest.mark.parametrize(
    ("line", "language"),
    [
        ("#!/usr/bin/env python3", "python"),
        ("#!/usr/bin/env -S FOO=1 python3.11 -u", "python"),
        ("#! /bin/sh -e", "bash"),
        ("#!/usr/local/bin/node", "javascript"),
        ("#!/usr/bin/perl -w", "perl"),
        ("\ufeff#!/usr/bin/ruby", "ruby"),
        ("# -*- mode: ruby -*-", "ruby"),
        ("# vim: set ft=python:", "python"),
        ("<?php echo 1;", "php"),
        ("<!DOCTYPE html>", "html"),
        ("#!/usr/bin/env", "text"),
        ("#!", "text"),
        ("#!/opt/unknown", "text"),
        ("", "text"),
    ],
)
def test_by_first_line(line: str, language: str) -> None:
    assert language_of("bin/tool", line) == language


def test_the_name_wins_over_the_first_line() -> None:
    assert language_of("a.py", "#!/bin/sh") == "python"


@pytest.mark.parametrize("language", REQUIRED)
def test_required_languages_have_a_grammar_and_know_definitions(language: str) -> None:
    grammar = grammar_of(language)
    assert grammar is not None
    assert grammar in patterns.TREE or language in patterns.LINES


def test_every_grammar_named_exists() -> None:
    from indexers.languages import _GRAMMARS

    for language, grammar in _GRAMMARS.items():
        tree = syntax.parse("a\n", language)
        assert tree is not None, grammar
        if grammar in patterns.TREE:
            tree.matches(patterns.TREE[grammar])


def test_header_files_are_read_as_what_they_hold() -> None:
    assert grammar_of("c", "struct a { int b; };\n") == "c"
    assert grammar_of("c", "#pragma once\nnamespace a {\n}\n") == "cpp"
    assert grammar_of("text") is None


@pytest.mark.parametrize(
    ("said", "language"),
    [
        ("python", "python"), ("Python", "python"), ("py", "python"), (".py", "python"), ("python3", "python"),
        ("js", "javascript"), ("jsx", "javascript"), ("ts", "typescript"), ("tsx", "tsx"), ("rs", "rust"),
        ("golang", "go"), ("c++", "cpp"), ("C++", "cpp"), ("C#", "csharp"), ("f#", "fsharp"), ("cs", "csharp"),
        ("sh", "bash"), ("shell", "bash"), ("objective-c", "objc"), ("Objective C", "objc"), ("md", "markdown"),
        ("ocaml interface", "ocaml_interface"), ("Dockerfile", "dockerfile"), ("yml", "yaml"), ("ipynb", "notebook"),
    ],
)  # fmt: skip
def test_a_language_is_known_by_many_names(said: str, language: str) -> None:
    assert language_named(said) == language


@pytest.mark.parametrize(
    ("said", "hint"),
    [("pyhton", "Did you mean python?"), ("typescipt", "typescript"), ("qqqq", "Known: python,")],
)
def test_an_unknown_language_is_refused_with_the_nearest(said: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"There is no language '{said}'") as caught:
        language_named(said)
    assert hint in caught.value.remedy


@pytest.mark.parametrize("said", ["", " ", ".", "-", "\udce9", "x" * 10_000])
def test_what_is_no_name_of_a_language_is_refused_at_once(said: str) -> None:
    with pytest.raises(UsageError):
        language_named(said)


@given(
    st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=8),
    st.integers(1, 3_000),
    st.integers(0, 20_000),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_the_beginning_never_hides_how_repetitive_a_text_is(
    pieces: list[bytes], count: int, noise: int, random: Random
) -> None:
    repeated = b"".join(pieces) * count
    for data in (repeated, repeated + random.randbytes(noise), random.randbytes(noise) + repeated):
        shrunk = len(data) > syntax._REPETITIVE * len(zlib.compress(data, 1))
        assert syntax._is_repetitive(data) == shrunk
