"""Ranking: what a query is, what each signal does, and that no query breaks it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.search.exports import reexports
from chains.search.path_signals import file_name_match, of_other_platform, superseded
from chains.search.query import Query, looks_like_code, understand
from chains.search.ranking import (
    DEFAULT_WEIGHTS,
    Candidate,
    FileEvidence,
    definition_boost,
    fuse,
    path_factors,
    rank,
    saturate,
)
from chains.search.traces import Frame, frames, resolve


def candidate(
    number: int, path: str, keyword: float | None = 1.0, dense: float | None = None, *symbols: str
) -> Candidate:
    return Candidate(number, path, symbols, (), keyword, dense)


def factor_of(query: Query, path: str) -> float:
    return path_factors(query, [path], DEFAULT_WEIGHTS)[path]


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
        ("how res.redirect and absl::StrCat work", "sentence", ("StrCat", "redirect")),
        ("Router#call, or node->next. Or x.y", "sentence", ("call", "next")),
    ],
)
def test_kinds_and_names(text: str, kind: str, names: tuple[str, ...]) -> None:
    query = understand(text)
    assert (query.kind, query.names) == (kind, names)


def test_stop_words_say_nothing_unless_there_is_nothing_else() -> None:
    assert understand("how does the retry of it work, and where is there some").tokens == ("retry",)
    assert understand("Which command is meant when one is mistyped?").tokens == ("command", "meant", "mistyp")
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
        "src/RetryTest.java",
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
    assert factor_of(understand("where are retries"), path) < 1


@pytest.mark.parametrize(
    "path", ["src/latest.py", "src/contest.py", "src/attest.go", "src/protest/a.py", "src/inspector.py"]
)
def test_places_that_only_sound_so(path: str) -> None:
    assert factor_of(understand("where are retries"), path) == 1


def test_of_versions_side_by_side_the_newest_is_meant() -> None:
    paths = ["pkg/v3/types.ts", "pkg/v4/core/types.ts", "pkg/v4/types.ts", "other/v1/types.ts", "v.ts"]
    assert superseded(understand("types of errors"), paths) == {"pkg/v3/types.ts"}
    assert superseded(understand("types of errors in v3"), paths) == set()
    assert superseded(understand("types"), ["v99999999999/a.py", "v1/a.py", "vendor/v2.py"]) == set()


@pytest.mark.parametrize("path", ["src/win/tcp.c", "src/tcp_windows.go", "lib/poll.darwin.ts", "win32/a.c"])
def test_files_of_other_platforms_are_seldom_meant(path: str) -> None:
    assert of_other_platform(understand("how tcp connects"), path, "linux")
    assert not of_other_platform(understand("how tcp connects on windows"), path, "linux")


@pytest.mark.parametrize(
    "path", ["src/unix/tcp.c", "src/linux.c", "window/twin.py", "src/tcp.c", "winner.go"]
)
def test_files_of_this_platform_or_of_none_are_not_weighed_down(path: str) -> None:
    assert not of_other_platform(understand("how tcp connects"), path, "linux")


def test_everybody_is_at_home_somewhere() -> None:
    query = understand("how tcp connects")
    assert not of_other_platform(query, "src/win/tcp.c", "win32")
    assert not of_other_platform(query, "src/darwin/tcp.c", "darwin")
    assert of_other_platform(query, "src/win/tcp.c", "darwin")
    assert not of_other_platform(query, "src/freebsd.c", "freebsd14")


def test_snake_case_words_name_files_by_their_parts() -> None:
    query = understand("where is string_view made")
    assert file_name_match(query, "strings/string_view.h") > file_name_match(query, "strings/string.h")


# -- files --------------------------------------------------------------------------------------------


def test_a_file_that_holds_every_word_goes_before_one_that_repeats_some() -> None:
    pair = [candidate(1, "a.py", 5.0), candidate(2, "b.py", 5.0)]
    evidence = {"a.py": FileEvidence(0.5), "b.py": FileEvidence(1.0)}
    ranked = rank(understand("where are retries limited"), pair, files=evidence)
    assert ranked[0].candidate.path == "b.py" and ranked[0].signals["file_coverage"] > 0


def test_a_file_near_the_question_as_a_whole_goes_first() -> None:
    pair = [candidate(1, "a.py", 5.0, 0.5), candidate(2, "b.py", 5.0, 0.5)]
    evidence = {"a.py": FileEvidence(1.0, 0.2), "b.py": FileEvidence(1.0, 0.6)}
    assert rank(understand("where are retries limited"), pair, files=evidence)[0].candidate.path == "b.py"


def test_whole_files_say_nothing_about_an_identifier() -> None:
    ranked = rank(understand("RetryPolicy"), [candidate(1, "a.py")], files={"a.py": FileEvidence(1.0, 1.0)})
    assert set(ranked[0].signals) == {"fused", "coherence"}


def test_of_a_long_text_only_the_best_chunks_of_a_file_speak_for_it() -> None:
    text = "the retry loop never ends when the server answers " * 10
    many = [candidate(i, "big.py", 2.0) for i in range(30)]
    few = [candidate(100 + i, "small.py", 2.2) for i in range(3)]
    assert rank(understand(text), [*many, *few])[0].candidate.path == "small.py"
    assert rank(understand("the retry loop"), [*many, *few])[0].candidate.path == "big.py"


@pytest.mark.parametrize(
    "text",
    [
        "pub use axum_core::response::{\n    AppendHeaders,\n    IntoResponse,\n};",
        "pub(crate) use self::into::IntoResponse;",
        "export { IntoResponse, Other } from './response';",
        "export type { Other, IntoResponse } from './response'",
        "from .response import (\n    Other,\n    IntoResponse,\n)",
        "from .response import IntoResponse",
        "using http::IntoResponse;",
    ],
)
def test_names_that_are_passed_on(text: str) -> None:
    assert reexports(text, "IntoResponse") and not reexports(text, "Into")


@pytest.mark.parametrize(
    "text",
    [
        "use axum_core::IntoResponse;",
        "pub use other::Name;\nimpl IntoResponse for X {}",
        "import { IntoResponse } from 'x'",
        "def f():\n    from x import IntoResponse",
        "export const x = 1;\nIntoResponse()",
    ],
)
def test_names_that_are_only_used(text: str) -> None:
    assert not reexports(text, "IntoResponse")


def test_a_file_that_passes_the_name_on_stands_in_for_its_definition() -> None:
    here = replace(candidate(2, "b.py", 5.0), reexports=True)
    assert order("RetryPolicy", candidate(1, "a.py", 9.0), here) == [2, 1]


# -- stack traces -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('  File "/home/me/my app/src/retry.py", line 12, in call', ("/home/me/my app/src/retry.py", 12)),
        ("at Retry.call (/srv/app/lib/retry.js:10:5)", ("/srv/app/lib/retry.js", 10)),
        ("\tat com.acme.Retry.call(Retry.java:42)", ("Retry.java", 42)),
        ("\t/go/src/app/retry.go:31 +0x1d", ("/go/src/app/retry.go", 31)),
        ("thread 'main' panicked at src/retry.rs:7:13:", ("src/retry.rs", 7)),
        (r"   at Acme.Retry.Call() in C:\src\Retry.cs:line 9", ("/src/Retry.cs", 9)),
        ("#0 /app/src/Retry.php(8): call()", ("/app/src/Retry.php", 8)),
        ("retry.c:5:10: error: expected ';'", ("retry.c", 5)),
    ],
)
def test_frames_of_every_language(text: str, expected: tuple[str, int]) -> None:
    assert frames(text) == [Frame(*expected)]


def test_what_only_looks_like_a_frame() -> None:
    assert frames("at 12:30 we met, ratio 3:2, http://localhost:8080, version 1.2.3:4, f(3)") == []


def test_frames_of_hostile_text_take_no_time() -> None:
    started = time.perf_counter()
    for piece in ("a", "a.b", "a.py:1", "(", '", line 1', "/", "a:1"):
        assert len(frames(piece * (20_000 // len(piece)))) <= 40
    assert time.perf_counter() - started < 2.0


def test_a_frame_means_the_path_that_ends_alike() -> None:
    paths = ["src/retry.py", "src/http/retry.py", "tests/retry.py", "src/noretry.py"]
    assert resolve(Frame("/home/me/src/http/retry.py", 1), paths) == ["src/http/retry.py"]
    assert resolve(Frame("retry.py", 1), paths) == paths[:3]
    assert resolve(Frame("/x/other.py", 1), paths) == []


def test_the_chunk_a_trace_points_into_comes_first() -> None:
    here = replace(candidate(2, "b.py", 1.0), frame=True)
    text = "retries fail: " + "x " * 300
    assert order(text, candidate(1, "a.py", 9.0), here) == [2, 1]


def test_what_is_asked_for_is_not_weighed_down() -> None:
    assert factor_of(understand("tests of retries"), "tests/test_a.py") == 1
    assert factor_of(understand("an example of retries"), "examples/a.py") == 1


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


def test_a_name_is_found_where_it_stands_before_what_is_only_like_it() -> None:
    stands = candidate(1, "tests/test_widgets.py", 3.0, 0.1)
    like = [candidate(number, "src/parts.py", None, 0.9 - number / 100) for number in range(2, 30)]
    assert order("soak_widget", stands, *like)[0] == 1
    # A sentence means more than its words.
    assert order("where is the soaked widget kept", stands, *like)[0] != 1
