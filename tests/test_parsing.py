"""Citations on realistic model output: what is a place, what is a claim, and what may be called verified."""

from __future__ import annotations

import time

import pytest

from chains.context import source_block
from chains.parsing import check, code_names, places, resolve, sentences, unresolved
from chains.types import Source

RETRY = '''\
def retry_call(fn, attempts=3):
    """Call fn until it succeeds."""
    for attempt in range(attempts):
        try:
            return fn()
        except ConnectionError:
            backoff = BASE_DELAY * 2**attempt
            time.sleep(backoff)
    raise RetryExhausted("gave up after all attempts")'''
CONFIG = """\
BASE_DELAY = 0.5
MAX_DELAY = 30.0


class Settings:
    timeout: float = 10.0"""
LATER = """\
def load_settings(path):
    data = json.loads(path.read_text())
    return Settings(**data)"""


def source(path: str, start: int, text: str, scope: tuple[str, ...] = ()) -> Source:
    end = start + text.count("\n")
    return Source(path, start, end, source_block(path, start, end, text, scope), 10)


A = source("src/retry.py", 10, RETRY)
B = source("src/config.py", 1, CONFIG)
C = source("src/config.py", 40, LATER)
SOURCES = (A, B, C)


def verdicts(answer: str, sources: tuple[Source, ...] = SOURCES) -> dict[str, bool]:
    return {c.label: c.verified for c in check(answer, sources).citations}


# -- places -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("It retries [src/a.py:1-20].", [("src/a.py", 1, 20)]),
        ("It retries (src/a.py:1-20).", [("src/a.py", 1, 20)]),
        ("in `src/a.py` lines 3-9", [("src/a.py", 3, 9)]),
        ("in `src/a.py`, lines 3–9", [("src/a.py", 3, 9)]),
        ("in **src/a.py** (lines 3 to 9)", [("src/a.py", 3, 9)]),
        ("in src/a.py, line 7,", [("src/a.py", 7, 7)]),
        ("in `src/a.py` (line 7)", [("src/a.py", 7, 7)]),
        ("in `src/a.py` at lines 3 and 9", [("src/a.py", 3, 9)]),
        ("see lines 3-9 of `src/a.py`", [("src/a.py", 3, 9)]),
        ("see line 4 in src/a.py", [("src/a.py", 4, 4)]),
        ("see src/a.py#L3-L9", [("src/a.py", 3, 9)]),
        ("see `src/a.py#L3`", [("src/a.py", 3, 3)]),
        ("see src/a.py:L3-L9", [("src/a.py", 3, 9)]),
        ("see `src/a.py:3`.", [("src/a.py", 3, 3)]),
        ("at src/a.py:3:17 it", [("src/a.py", 3, 3)]),
        ("[a.py:1-9, src/b.py:3-4; c.go:1]", [("a.py", 1, 9), ("src/b.py", 3, 4), ("c.go", 1, 1)]),
        ("[src/a.py:1-20, 30-40]", [("src/a.py", 1, 20), ("src/a.py", 30, 40)]),
        ("[a.py:1-9](a.py)", [("a.py", 1, 9), ("a.py", None, None)]),
        ("[a.py](a.py#L3-L9)", [("a.py", None, None), ("a.py", 3, 9)]),
        ("[`src/a.py:1-20`]", [("src/a.py", 1, 20)]),
        ("[./src/a.py:1-20]", [("./src/a.py", 1, 20)]),
        (r"[src\a.py:1-20]", [("src/a.py", 1, 20)]),
        ("[.github/workflows/ci.yml:1-5]", [(".github/workflows/ci.yml", 1, 5)]),
        ("[src/a.test.ts:1-5].", [("src/a.test.ts", 1, 5)]),
        ("[docs/read me.md:1-5]", [("docs/read", None, None), ("me.md", 1, 5)]),
        ("x[1:2] and arr[i:10] and m[a, 1:3]", []),
        ("Python 3.11: it is fast", []),
        ("Python 3.11:30", []),
        ("on 0.5:1 and 127.0.0.1:8080 and v1.2.3:4", []),
        ("https://example.com:443/a/b.py:3-9 and http://localhost:8080/x", []),
        ("it listens on example.com:8080", []),
        ("It ends. Then", []),
        ("e.g. lines 3-9", []),
        ("", []),
    ],
)
def test_places(text: str, wanted: list[tuple[str, int | None, int | None]]) -> None:
    found = [place for place in places(text) if place[1] is not None or "/" in place[0] or place in wanted]
    assert found == wanted


def test_places_of_known_sources_may_hold_any_character() -> None:
    odd = ("app/[slug]/(group)/page.tsx", "docs/read me.md", "Makefile")
    text = (
        "[app/[slug]/(group)/page.tsx:3-9] then [docs/read me.md:1-2] then `Makefile:4-5`, but not Makefile."
    )
    assert places(text, odd) == [(odd[0], 3, 9), (odd[1], 1, 2), ("Makefile", 4, 5)]


# -- resolving --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "start", "end", "wanted"),
    [
        ("src/retry.py", 10, 18, A),
        ("retry.py", 10, 18, A),
        ("./src/retry.py", 10, 18, A),
        ("/home/me/project/src/retry.py", 10, 18, A),
        ("src/retry.py", 12, 13, A),
        ("src/retry.py", None, None, A),
        ("src/config.py", 1, 6, B),
        ("src/config.py", 41, 41, C),
        ("src/config.py", 5, 42, C),
        ("src/config.py", None, None, None),
        ("src/config.py", 20, 30, None),
        ("src/retry.py", 100, 120, None),
        ("src/retry.py", 18, 10, A),
        ("try.py", 10, 18, None),
        ("lib/retry.py", 10, 18, None),
        ("src/retry.js", 10, 18, None),
    ],
)
def test_resolve(path: str, start: int | None, end: int | None, wanted: Source | None) -> None:
    assert resolve(path, start, end, SOURCES) is wanted


def test_an_ambiguous_end_of_a_path_means_nothing() -> None:
    one, two = source("a/util.py", 1, "x = 1"), source("b/util.py", 1, "x = 1")
    assert resolve("util.py", 1, 1, (one, two)) is None
    assert resolve("b/util.py", 1, 1, (one, two)) is two


def test_the_source_that_overlaps_most_is_meant() -> None:
    parts = (source("a.py", 1, "x\n" * 9), source("a.py", 11, "y\n" * 9))
    assert resolve("a.py", 10, 20, parts) is parts[1]


# -- verifying --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        "`retry_call` sleeps between attempts [src/retry.py:10-18].",
        "`retry_call` sleeps between attempts (src/retry.py:10-18).",
        "In `src/retry.py` lines 10-18, `retry_call` sleeps.",
        "`retry_call` sleeps, see src/retry.py#L10-L18.",
        "`retry_call` sleeps between attempts. [src/retry.py:10-18]",
        "`retry_call` sleeps between attempts.\n\n[src/retry.py:10-18]",
        "`retry_call` sleeps between attempts.\nSource: [src/retry.py:10-18]",
        "`retry_call` sleeps between attempts. (See `src/retry.py:10-18`.)",
        "- `retry_call` sleeps between attempts [src/retry.py:10-18]",
        "1. **`retry_call`**: sleeps between attempts [src/retry.py:10-18]",
        "`retry_call()` calls `fn()` [src/retry.py:10-18].",
        "`time.sleep(backoff)` waits [src/retry.py:10-18].",
        "The retry_call function waits [retry.py:10-18].",
        "RetryExhausted is raised [src/retry.py:10-18].",
        'It fails with "gave up after all attempts" [src/retry.py:10-18].',
        "It fails with “gave up  after all attempts” [src/retry.py:10-18].",
        "In [src/retry.py:10-18]: `retry_call` sleeps.",
        "In [src/retry.py:10-18]:\n- `retry_call` sleeps\n- `RetryExhausted` ends it",
        "`retry_call` in `retry.py` sleeps [src/retry.py:10-18].",
        "`retry_call` uses e.g. `ConnectionError` [src/retry.py:10-18].",
        "[src/retry.py:10-18] defines `retry_call`.",
        "`retry_call` is JavaScript-like on GitHub [src/retry.py:10-18].",
        "`retry_call` waits `0.5` on Python 3.11: fine [src/retry.py:10-18].",
        "`retry_call` sleeps [src/retry.py:10-18](src/retry.py).",
        "```python\nx[1:2]\nunknown_name()\n```\n`retry_call` sleeps [src/retry.py:10-18].",
    ],
)
def test_a_true_claim_is_verified(answer: str) -> None:
    checked = check(answer, SOURCES)
    assert [(c.label, c.verified) for c in checked.citations] == [("src/retry.py:10-18", True)]
    assert checked.unverified == ()


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ("`retry_forever` sleeps [src/retry.py:10-18].", "retry_forever"),
        ("`retry_call` calls `jitter` [src/retry.py:10-18].", "jitter"),
        ("RetryPolicy sleeps. [src/retry.py:10-18]", "RetryPolicy"),
        ("`fn.cancel()` is called [src/retry.py:10-18].", "cancel"),
        ("`größe_max` sets it [src/retry.py:10-18].", "größe_max"),
    ],
)
def test_a_name_that_is_not_in_the_source_is_never_verified(answer: str, missing: str) -> None:
    checked = check(answer, SOURCES)
    assert [(c.label, c.verified) for c in checked.citations] == [("src/retry.py:10-18", False)]
    assert missing in checked.citations[0].reason
    assert "stand" in checked.citations[0].reason
    assert checked.unverified == (missing,)


@pytest.mark.parametrize("name", ["retry", "src"])
def test_a_word_of_the_path_proves_nothing_but_is_not_invented(name: str) -> None:
    checked = check(f"`{name}` sleeps [src/retry.py:10-18].", SOURCES)
    assert [(c.label, c.verified) for c in checked.citations] == [("src/retry.py:10-18", False)]
    assert name in checked.citations[0].reason and checked.unverified == ()


def test_a_true_name_at_the_wrong_place_is_not_verified() -> None:
    checked = check("`retry_call` sleeps [src/config.py:1-6].", SOURCES)
    assert [(c.label, c.verified) for c in checked.citations] == [("src/config.py:1-6", False)]
    assert checked.unverified == ()


def test_a_quote_that_does_not_stand_there_is_not_verified() -> None:
    assert verdicts('It prints "never give up now" [src/retry.py:10-18].') == {"src/retry.py:10-18": False}


def test_a_sentence_that_names_nothing_proves_nothing() -> None:
    (citation,) = check("It sleeps between attempts [src/retry.py:10-18].", SOURCES).citations
    assert not citation.verified and "names nothing" in citation.reason


def test_one_failed_claim_outweighs_the_proofs() -> None:
    good, bad = "`retry_call` sleeps [src/retry.py:10-18].", "`jitter` helps [src/retry.py:10-18]."
    assert verdicts(f"{good} {bad} {good}") == {"src/retry.py:10-18": False}


def test_two_sources_share_one_sentence() -> None:
    answer = "`retry_call` reads `MAX_DELAY` [src/retry.py:10-18; src/config.py:1-6]."
    assert verdicts(answer) == {"src/retry.py:10-18": True, "src/config.py:1-6": True}


def test_each_sentence_is_held_to_its_own_source() -> None:
    answer = "`retry_call` sleeps [src/retry.py:10-18]. `MAX_DELAY` is 30 [src/config.py:1-6]."
    assert verdicts(answer) == {"src/retry.py:10-18": True, "src/config.py:1-6": True}


def test_a_citation_after_the_full_stop_belongs_to_what_it_follows() -> None:
    answer = "`retry_call` sleeps. [src/retry.py:10-18] `MAX_DELAY` is 30. [src/config.py:1-6] Done."
    assert verdicts(answer) == {"src/retry.py:10-18": True, "src/config.py:1-6": True}


def test_two_sources_of_one_path_are_told_apart() -> None:
    assert verdicts("`load_settings` reads it [src/config.py:40-42].") == {"src/config.py:40-42": True}
    assert verdicts("`load_settings` reads it [src/config.py:1-6].") == {"src/config.py:1-6": False}


def test_the_scope_of_a_source_may_be_named() -> None:
    method = source("src/http.py", 30, "def send(self):\n    return 1", ("Client",))
    assert verdicts("`Client.send` returns 1 [src/http.py:30-31].", (method,)) == {"src/http.py:30-31": True}


def test_a_cited_part_of_a_source_is_that_source() -> None:
    assert verdicts("`retry_call` sleeps [src/retry.py:10-12].") == {"src/retry.py:10-18": True}


def test_without_citation_we_say_where_it_stands_and_that_it_is_ours() -> None:
    (citation,) = check("The function `retry_call` raises `RetryExhausted`.", SOURCES).citations
    assert citation.label == "src/retry.py:10-18" and citation.verified
    assert "not cited by the model" in citation.reason


def test_without_citation_and_with_one_foreign_name_nothing_is_attributed() -> None:
    checked = check("The function `retry_call` raises `Timeout`.", SOURCES)
    assert checked.citations == () and checked.unverified == ("Timeout",)


def test_names_of_the_question_are_not_held_against_the_answer() -> None:
    assert check("There is no `jitter` here.", SOURCES, "where is jitter?").unverified == ()


def test_invented_places_are_reported() -> None:
    answer = "See [src/retry.py:100-120], [lib/none.py:3-9] and `src/retry.py:10-18`."
    assert unresolved(answer, SOURCES) == ("src/retry.py:100-120", "lib/none.py:3-9")
    assert check(answer, SOURCES).unverified == ("src/retry.py:100-120", "lib/none.py:3-9")


def test_no_sources_and_no_answer() -> None:
    assert check("", SOURCES).citations == () and check("`foo_bar` does it [a.py:1-2].", ()).citations == ()
    assert check("`foo_bar` does it [a.py:1-2].", ()).unverified == ("foo_bar", "a.py:1-2")


# -- names and sentences ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("`foo.bar()` and `Baz::qux`", ["foo", "bar", "Baz", "qux"]),
        ("see `src/a.py:1-2`, `a.py`, `config.toml` and [b.py:3]", []),
        (
            "use `--dry-run` of camelCase and snake_case, HTTPServer",
            ["dry", "run", "camelCase", "snake_case", "HTTPServer"],
        ),
        ("A plain Sentence about The Thing, README and JSON", []),
        ("`None`, `true` and `self` say nothing", []),
        ("on GitHub with JavaScript, TypeScript and PostgreSQL", []),
        ("in lines 3-9 of `src/my_module.py` there", []),
        ("https://example.com/some_page/other_name", []),
        ("`überschrift_setzen` is called", ["überschrift_setzen"]),
        ("`user.name` is read", ["user", "name"]),
    ],
)
def test_code_names(text: str, wanted: list[str]) -> None:
    assert code_names(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("One. Two.", ["One.", "Two."]),
        ("Some code, e.g. `foo`, is used. Then more.", ["Some code, e.g. `foo`, is used.", "Then more."]),
        ("Done. [a.py:1-2]", ["Done. [a.py:1-2]"]),
        ("Done.\n[a.py:1-2]\n[b.py:3]", ["Done. [a.py:1-2] [b.py:3]"]),
        ("Done. [a.py:1-2] Then more.", ["Done. [a.py:1-2]", "Then more."]),
        ("Done. [a.py:1-2] shows how.", ["Done.", "[a.py:1-2] shows how."]),
        ("- one\n- two", ["- one", "- two"]),
        ("Before\n```py\nx = 1. Y\n```\nAfter", ["Before", "After"]),
        ("Before\n```py\nnever closed. Yes", ["Before"]),
        ("Before\n~~~\n```\n~~~\nAfter", ["Before", "After"]),
        ("Use `foo.` Then go.", ["Use `foo.`", "Then go."]),
        ("", []),
    ],
)
def test_sentences(text: str, wanted: list[str]) -> None:
    assert sentences(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["a" * 20_000, "a/" * 10_000, "a." * 10_000, "[" * 20_000, "(a:1" * 5_000, "`" * 20_001, "\n" * 20_000]
    + [
        ". " * 10_000,
        '"a b' * 5_000,
        "a.py:1-" * 3_000,
        "`foo_bar` " * 2_000,
        "lines 3 of " * 2_000,
        "```\n" * 5_001,
    ]
    + ["\x00\ud800 [a.py:1-2]" * 500, "i1_" * 7_000, "[a.py:1, 2-3" * 2_000, "- x\n" * 5_000],
    ids=lambda text: repr(text[:8]),
)
def test_hostile_answers_take_no_time(text: str) -> None:
    started = time.perf_counter()
    check(text, SOURCES, "q")
    assert time.perf_counter() - started < 2.0


def test_one_name_alone_points_only_at_the_best_sources() -> None:
    others = [source(f"docs/page{n}.md", 1, f"Nothing about it on page {n}.") for n in range(3)]
    last = source("CHANGELOG.md", 1, "Writes to os.Stderr now.")
    assert check("It logs to `Stderr`.", [*others, last]).citations == ()
    assert [c.label for c in check("It logs to `Stderr`.", [last, *others]).citations] == ["CHANGELOG.md:1-1"]
