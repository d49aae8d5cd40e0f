"""Ranking: what a query is, what each signal does, and that no query breaks it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.ranking import (
    DEFAULT_WEIGHTS,
    Candidate,
    definition_boost,
    file_name_match,
    fuse,
    looks_like_code,
    path_factor,
    rank,
    saturate,
    understand,
)


def candidate(
    number: int, path: str, keyword: float | None = 1.0, dense: float | None = None, *symbols: str
) -> Candidate:
    return Candidate(number, path, symbols, (), keyword, dense)


def order(query: str, *candidates: Candidate) -> list[int]:
    return [item.candidate.chunk_id for item in rank(understand(query), candidates)]


# -- queries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "names"),
    [
        ("RetryPolicy", "identifier", ("RetryPolicy",)),
        ("http.client.send()", "identifier", ("http", "client", "send")),
        ("std::vec", "identifier", ("std", "vec")),
        ("  retry_call\n", "identifier", ("retry_call",)),
        ("save!", "identifier", ("save",)),
        ("where does retry_call use the HTTPClient?", "sentence", ("retry_call", "HTTPClient")),
        ("where are plain words", "sentence", ()),
        ("x" * 401 + " y", "long", ()),
        ("", "sentence", ()),
        ("größe", "identifier", ("größe",)),
    ],
)
def test_kinds_and_names(text: str, kind: str, names: tuple[str, ...]) -> None:
    query = understand(text)
    assert (query.kind, query.names) == (kind, names)


def test_stop_words_say_nothing_unless_there_is_nothing_else() -> None:
    assert understand("how does the retry of it work, and where is there some").tokens == ("retry",)
    assert understand("get_where").tokens == ("get_where", "wher")
    assert understand("what is it").tokens == ("what", "is", "it")


def test_what_a_query_asks_for() -> None:
    assert understand("which tests cover retries").wants_tests
    assert understand("an example of retries").wants_examples
    assert not understand("latest contest demonstration").wants_tests


@pytest.mark.parametrize("word", ["snake_case", "camelCase", "PascalCase", "HTTPServer", "_private_name"])
def test_spelled_like_code(word: str) -> None:
    assert looks_like_code(word)


@pytest.mark.parametrize("word", ["word", "Word", "README", "JSON", "utf8", "_", "__", "I", "ABC"])
def test_spelled_like_prose(word: str) -> None:
    assert not looks_like_code(word)


HOSTILE = [
    '"',
    "'",
    '" OR "',
    "NEAR(a, b)",
    "a AND NOT b",
    "*",
    "body:x",
    "(((",
    "\x00",
    "\ud800",
    "%s %n {0}",
    "\\",
    "?",
]
HOSTILE += [
    "x",
    "é",
    "配置文件在哪里",
    "где настройки",
    "🎉",
    "a" * 50_000,
    "aB_" * 17_000,
    "a " * 25_000,
    "(" * 50_000,
]
HOSTILE += ["a.b." * 12_500, "::" * 25_000, "\n" * 50_000]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:12]))
def test_no_query_hurts(text: str) -> None:
    started = time.perf_counter()
    query = understand(text)
    candidates = [candidate(i, f"src/file{i}.py", float(i), 0.1, "name") for i in range(50)]
    assert len(rank(query, candidates)) == 50
    assert time.perf_counter() - started < 2.0


# -- fusing -------------------------------------------------------------------------------------------


def test_both_lists_count_and_a_missing_vector_costs_nothing() -> None:
    query = understand("where are retries")
    fused = fuse(
        query,
        [candidate(1, "a", 2.0, 0.9), candidate(2, "b", 2.0, 0.1), candidate(3, "c", 2.0)],
        DEFAULT_WEIGHTS,
    )
    assert fused[1] > fused[2] and fused[3] > fused[2]
    assert all(0 <= value <= 1 for value in fused.values())


def test_a_chunk_only_the_vectors_know_still_counts() -> None:
    fused = fuse(understand("where are retries"), [candidate(1, "a", None, 0.9)], DEFAULT_WEIGHTS)
    assert fused[1] > 0


def test_vectors_count_less_for_identifiers() -> None:
    pair = [candidate(1, "a", 1.0, 0.1), candidate(2, "b", 0.9, 0.9)]
    word, sentence = (
        fuse(understand(q), pair, DEFAULT_WEIGHTS) for q in ("RetryPolicy", "where are retries")
    )
    assert sentence[2] - sentence[1] > word[2] - word[1]


def test_scores_of_nothing() -> None:
    assert rank(understand("x y"), []) == []
    assert [
        item.score
        for item in rank(understand("x y"), [candidate(1, "a", 0.0), candidate(2, "b", None, -1.0)])
    ] == [0, 0]


# -- signals ------------------------------------------------------------------------------------------


def test_the_definition_of_the_identifier_comes_first() -> None:
    assert order(
        "RetryPolicy", candidate(1, "a.py", 9.0), candidate(2, "b.py", 5.0, None, "RetryPolicy")
    ) == [2, 1]
    assert (
        order("http.RetryPolicy", candidate(1, "a.py", 9.0), candidate(2, "b.py", 5.0, None, "retrypolicy"))[
            0
        ]
        == 2
    )


def test_a_definition_in_the_file_of_its_name_counts_more() -> None:
    query, boost = (
        understand("RetryPolicy"),
        lambda path: definition_boost(query, candidate(1, path, 1.0, None, "RetryPolicy"), DEFAULT_WEIGHTS),
    )
    assert boost("retry_policy.py") == boost("RetryPolicy.java") > boost("misc.py") > 0
    assert definition_boost(query, candidate(1, "misc.py", 1.0, None, "Other"), DEFAULT_WEIGHTS) == 0


def test_a_name_in_a_sentence_counts_less() -> None:
    item = candidate(1, "misc.py", 1.0, None, "retry_call")
    inside = definition_boost(understand("who calls retry_call here"), item, DEFAULT_WEIGHTS)
    assert 0 < inside < definition_boost(understand("retry_call"), item, DEFAULT_WEIGHTS)


def test_file_names_are_heard() -> None:
    query = understand("how are retries configured")
    assert file_name_match(query, "src/retry.py") > file_name_match(query, "src/other.py") == 0
    assert file_name_match(query, "retry/other.py") < file_name_match(query, "src/retry.py")
    assert file_name_match(query, "src/retry_config.py") == 1.0
    assert file_name_match(understand("???"), "a.py") == 0


@pytest.mark.parametrize(
    "path",
    [
        "tests/a.py",
        "src/test_a.py",
        "pkg/a_test.go",
        "web/a.spec.ts",
        "web/a.test.tsx",
        "src/ATest.java",
        "conftest.py",
    ]
    + [
        "examples/a.py",
        "docs/a.md",
        "legacy/a.py",
        "pkg/__init__.py",
        "src/index.ts",
        "types/a.d.ts",
        "src/compat.py",
    ],
)
def test_places_people_do_not_mean(path: str) -> None:
    assert path_factor(understand("where are retries"), path, DEFAULT_WEIGHTS) < 1


@pytest.mark.parametrize(
    "path", ["src/latest.py", "src/contest.py", "src/attest.go", "src/protest/a.py", "src/inspector.py"]
)
def test_places_that_only_sound_so(path: str) -> None:
    assert path_factor(understand("where are retries"), path, DEFAULT_WEIGHTS) == 1


def test_what_is_asked_for_is_not_weighed_down() -> None:
    assert path_factor(understand("tests of retries"), "tests/test_a.py", DEFAULT_WEIGHTS) == 1
    assert path_factor(understand("an example of retries"), "examples/a.py", DEFAULT_WEIGHTS) == 1


def test_one_best_chunk_a_file_first() -> None:
    many = [candidate(i, "big.py", 10.0 - i / 10) for i in range(5)]
    ranked = rank(understand("where are retries"), [*many, candidate(9, "small.py", 8.0)])
    assert [item.candidate.path for item in ranked[:3]] == ["big.py", "small.py", "big.py"]
    assert "same_file" in ranked[2].signals


def test_signals_add_up_to_the_score() -> None:
    items = [candidate(i, f"tests/f{i % 2}.py", 5.0 - i, 0.1 * i, "retry_call") for i in range(4)]
    for item in rank(understand("where is retry_call in f1"), items):
        assert item.score == pytest.approx(sum(item.signals.values()))


def test_a_signal_of_weight_zero_is_off() -> None:
    off = replace(DEFAULT_WEIGHTS, definition=0, file_name=0, coherence=0, named=0)
    ranked = rank(
        understand("RetryPolicy"),
        [candidate(1, "a.py", 9.0), candidate(2, "b.py", 5.0, None, "RetryPolicy")],
        off,
    )
    assert ranked[0].candidate.chunk_id == 1 and set(ranked[0].signals) == {"fused"}


scores = st.one_of(st.none(), st.floats(-2, 100, allow_nan=False))
candidates = st.lists(
    st.builds(
        Candidate,
        st.integers(0, 500),
        st.sampled_from(["a.py", "b/a.py", "tests/c.py", ""]),
        keyword=scores,
        dense=scores,
    ),
    max_size=20,
    unique_by=lambda item: item.chunk_id,
)


@given(st.text(max_size=60), candidates)
def test_every_candidate_comes_back_once_and_the_order_does_not_depend_on_the_input(
    text: str, items: list[Candidate]
) -> None:
    query = understand(text)
    ranked = rank(query, items)
    assert sorted(item.candidate.chunk_id for item in ranked) == sorted(item.chunk_id for item in items)
    assert [item.score for item in ranked] == sorted((item.score for item in ranked), reverse=True)
    again = rank(query, sorted(items, key=lambda item: -item.chunk_id))
    assert [item.candidate.chunk_id for item in again] == [item.candidate.chunk_id for item in ranked]
    assert saturate([], DEFAULT_WEIGHTS) == []
