"""Keyword tokens: the same for index and query, identifiers whole and in parts, no input that hurts."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexers.tokens import joined_tokens, split_identifier, stem, tokenize, unique


@pytest.mark.parametrize(
    "family",
    [
        "parse parses parsed parsing",
        "cache caches cached caching",
        "retry retries retried retrying",
        "map maps mapped mapping",
        "type types typed typing",
        "code codes coded coding",
        "name names named naming",
        "file files filed filing",
        "string strings",
        "embed embeds embedded embedding",
        "exceed exceeds exceeded exceeding",
        "query queries queried querying",
        "token tokens",
        "class classes",
        "hash hashes hashed hashing",
        "call calls called calling",
        "pass passes passed passing",
        "configure configures configured configuring",
        "index indexes indexed indexing",
        "add adds added adding",
    ],
)
def test_forms_of_a_word_meet(family: str) -> None:
    assert len({stem(word) for word in family.split()}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("string", "str"), ("status", "state"), ("this", "thi"), ("bus", "bu"), ("red", "r")]
    + [("thing", "th"), ("speed", "spe"), ("note", "not"), ("mode", "mod"), ("base", "bass")],
)
def test_different_words_stay_apart(one: str, other: str) -> None:
    assert stem(one) != stem(other)


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("HTTPServer2_start", ["http", "server", "2", "start"]),
        ("getUserByID", ["get", "user", "by", "id"]),
        ("snake_case_name", ["snake", "case", "name"]),
        ("__init__", ["init"]),
        ("SCREAMING_CASE", ["screaming", "case"]),
        ("utf8", ["utf", "8"]),
        ("_", []),
        ("größe_max", ["größe", "max"]),
        ("读取配置文件", ["读取", "取配", "配置", "置文", "文件"]),
        ("读取config文件", ["读取", "config", "文件"]),
    ],
)
def test_split_identifier(word: str, parts: list[str]) -> None:
    assert split_identifier(word) == parts


def test_a_compound_yields_itself_then_its_parts() -> None:
    assert tokenize("def retryAfter(max_attempts=3):") == [
        *("def", "retryafter", "retry", "after"),
        *("max_attempts", "max", "attempt", "3"),
    ]


def test_a_question_meets_the_code_it_asks_for() -> None:
    code = set(tokenize("class RetryPolicy:\n    def computeBackoff(self, attempts): ..."))
    assert {"retry", "policy", "backoff"} <= code & set(
        tokenize("how do retries compute the backoff of a policy")
    )


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("配置文件", "# 读取配置文件"),
        ("größe", "maximale Größe"),
        ("настройки", "Настройки сети"),
        ("설정", "설정을 읽는다"),
    ],
)
def test_other_languages_are_found(query: str, text: str) -> None:
    assert set(tokenize(query)) & set(tokenize(text))


def test_a_long_run_of_an_unspaced_script_is_not_lost() -> None:
    text = "界面" * 50 + "配置" + "界面" * 50
    assert "配置" in tokenize(text) and max(map(len, tokenize(text))) == 2


def test_data_is_left_out() -> None:
    assert tokenize("x" * 65) == [] and tokenize("x" * 64) == ["x" * 64]


@pytest.mark.parametrize("text", ["", " \n\t", "'\"`()[]{}", "\x00\x01", "\ud800\udfff", "___", "🎉🎉"])
def test_nothing_to_index(text: str) -> None:
    assert tokenize(text) == []


def test_fifty_kilobytes_take_no_time() -> None:
    started = time.perf_counter()
    for text in ("a" * 50_000, "aB" * 25_000, "_" * 50_000, "界" * 50_000, "x1" * 25_000, "é_" * 25_000):
        tokenize(text)
    assert time.perf_counter() - started < 2.0


@given(st.text())
def test_tokens_are_lower_case_words_and_stable(text: str) -> None:
    first = tokenize(text)
    assert first == tokenize(text)
    assert all(token and not token.isspace() for token in first)
    assert unique(first) == list(dict.fromkeys(first))


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,40}", fullmatch=True))
def test_parts_lose_no_letter(word: str) -> None:
    assert "".join(split_identifier(word)) == word.replace("_", "").lower()


@given(st.text(st.characters(codec="utf-8")) | st.text(st.characters(max_codepoint=127)))
def test_words_are_those_of_the_pattern_in_any_script(text: str) -> None:
    assert tokenize(text) == [token for word in re.findall(r"\w+", text) for token in tokenize(word)]
    assert joined_tokens(text) == " ".join(tokenize(text))
