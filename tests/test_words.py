"""Sets of words of whole files: what they cover, and that odd bytes are no set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexers.words import coverage, word_set


def test_coverage_is_the_share_of_the_weight() -> None:
    words = word_set(["retry call retry", "limit"])
    assert coverage(words, {"retry": 3.0, "limit": 1.0}) == 1.0
    assert coverage(words, {"retry": 3.0, "other": 1.0}) == pytest.approx(0.75)
    assert coverage(words, {"other": 1.0}) == 0.0


def test_order_and_repeats_do_not_matter() -> None:
    assert word_set(["a b", "c a"]) == word_set(["c", "b  a b"])
    assert word_set([]) == word_set([""]) == b""


@pytest.mark.parametrize("words", [b"", b"x", b"12345"])
def test_what_is_no_set_covers_nothing(words: bytes) -> None:
    assert coverage(words, {"x": 1.0}) == 0.0
    assert coverage(word_set(["x"]), {}) == 0.0


@given(st.lists(st.text("abz09_é配", min_size=1), max_size=40))
def test_every_token_put_in_is_found(tokens: list[str]) -> None:
    assert coverage(word_set([" ".join(tokens)]), dict.fromkeys(tokens, 1.0)) == (1.0 if tokens else 0.0)
