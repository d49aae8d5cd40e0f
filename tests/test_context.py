"""Packing: what fits is packed best first, what does not is named, and no text breaks out of its fence."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.context import pack, source_block
from chains.types import OVER_BUDGET
from indexers.types import Hit


def words(text: str) -> int:
    return len(text.split())


def hit(name: str, size: int, score: float = 1.0, scope: tuple[str, ...] = ()) -> Hit:
    return Hit(f"{name}.py", 1, size, "\n".join(["w"] * size), score, scope=scope)


def test_a_block_says_where_it_is_from() -> None:
    assert (
        source_block("a/b.py", 3, 4, "x = 1\ny = 2", ("A", "f"))
        == "Source [a/b.py:3-4], inside A > f:\n```\nx = 1\ny = 2\n```\n"
    )
    assert source_block("a/b.py", 3, 3, "x") == "Source [a/b.py:3-3]:\n```\nx\n```\n"


@given(st.text(alphabet="`\nab", max_size=80))
def test_no_text_closes_its_own_fence(text: str) -> None:
    block = source_block("a.py", 1, 1, text)
    fence = block.split("\n")[1]
    inside = block.removeprefix(f"Source [a.py:1-1]:\n{fence}\n").removesuffix(f"\n{fence}\n")
    assert inside == text and len(fence) >= 3 and fence not in inside
    assert re.fullmatch("`+", fence)


def test_all_that_fits_is_packed_in_order() -> None:
    context = pack([hit("a", 10), hit("b", 20, 0.9)], 1_000, words)
    assert [source.path for source in context.sources] == ["a.py", "b.py"]
    assert context.dropped == () and context.budget == 1_000
    assert context.tokens == sum(words(source.text) for source in context.sources)


def test_what_does_not_fit_is_named_and_leaves_room_for_others() -> None:
    context = pack([hit("a", 10), hit("big", 500, 0.9), hit("c", 10, 0.8)], 40, words)
    assert [source.path for source in context.sources] == ["a.py", "c.py"]
    assert [(item.label, item.tokens, item.reason) for item in context.dropped] == [
        ("big.py:1-500", 504, OVER_BUDGET)
    ]


def test_a_much_weaker_hit_is_dropped_for_that() -> None:
    context = pack([hit("a", 1), hit("b", 1, 0.1)], 1_000, words)
    assert [source.path for source in context.sources] == ["a.py"]
    assert "weaker" in context.dropped[0].reason


@pytest.mark.parametrize("scores", [(0.0, 0.0), (-1.0, -2.0), (0.0, -1.0)])
def test_scores_that_say_nothing_drop_nothing(scores: tuple[float, float]) -> None:
    context = pack([hit("a", 1, scores[0]), hit("b", 1, scores[1])], 1_000, words)
    assert len(context.sources) == 2


def test_the_order_given_is_kept_even_when_the_best_is_not_first() -> None:
    context = pack([hit("a", 1, 0.5), hit("b", 1, 1.0), hit("c", 1, 0.05)], 1_000, words)
    assert [source.path for source in context.sources] == ["a.py", "b.py"]


def test_nothing_in_nothing_out() -> None:
    assert pack([], 100, words).sources == () and pack([hit("a", 1)], 0, words).sources == ()


def with_brief(name: str, size: int, score: float = 1.0) -> Hit:
    return replace(hit(name, size, score), brief="head\n...")


def test_the_first_hits_are_whole_and_others_in_brief() -> None:
    hits = [with_brief(name, 50, 1 - n / 10) for n, name in enumerate("abcde")]
    context = pack(hits, 90, words)
    assert [(source.path, source.whole) for source in context.sources] == [
        ("a.py", True),
        ("b.py", False),
        ("c.py", False),
        ("d.py", False),
        ("e.py", False),
    ]
    assert "\nhead\n...\n" in context.sources[1].text and context.sources[1].label == "b.py:1-50"
    assert context.dropped == () and context.tokens <= 90


def test_what_is_left_makes_those_in_brief_whole() -> None:
    context = pack([with_brief(name, 50) for name in "abc"], 130, words)
    assert [source.whole for source in context.sources] == [True, True, False]
    assert all(source.whole for source in pack([with_brief(name, 50) for name in "abc"], 500, words).sources)


def test_nothing_is_told_in_brief_that_is_hardly_longer() -> None:
    context = pack([with_brief("a", 50), with_brief("b", 2), hit("c", 60)], 100, words)
    assert [(source.path, source.whole) for source in context.sources] == [("a.py", True), ("b.py", True)]
    assert [item.label for item in context.dropped] == ["c.py:1-60"]


@given(st.lists(st.tuples(st.integers(1, 60), st.floats(0, 1)), max_size=12), st.integers(0, 200))
def test_the_budget_is_never_passed_and_nothing_is_lost(parts: list[tuple[int, float]], budget: int) -> None:
    made = (hit, with_brief)
    hits = [made[i % 2](f"f{i}", size, score) for i, (size, score) in enumerate(parts)]
    context = pack(hits, budget, words)
    assert context.tokens <= budget
    assert len(context.sources) + len(context.dropped) == len(hits)


def test_a_source_reads_the_same_whatever_stands_around_it() -> None:
    alone = pack([hit("a", 5)], 1_000, words).sources[0]
    among = pack([hit("b", 5, 2.0), hit("a", 5)], 1_000, words).sources[1]
    assert alone == among


def piece(path: str, start: int, end: int, *symbols: str, scope: tuple[str, ...] = ("f",)) -> Hit:
    text = "\n".join(f"line {n}" for n in range(start, end + 1))
    return Hit(path, start, end, text, 1.0, scope=scope, symbols=symbols)


def test_pieces_of_one_body_are_read_from_its_beginning_to_its_end() -> None:
    hits = [
        piece("a", 21, 30),
        piece("b", 1, 9, "g"),
        piece("a", 1, 10, "f", scope=()),
        piece("a", 60, 70),
        piece("a", 12, 19),
    ]
    context = pack(hits, 10_000, words)
    read = [(source.path, source.start_line) for source in reversed(context.sources)]
    assert read == [("a", 60), ("b", 1), ("a", 1), ("a", 12), ("a", 21)]
    told = [(source.path, source.start_line) for source in pack(hits, 10_000, words, best_last=False).sources]
    assert told == [("a", 1), ("a", 12), ("a", 21), ("b", 1), ("a", 60)]


def test_a_piece_between_two_joins_them_and_lines_apart_stay_by_rank() -> None:
    hits = [piece("a", 1, 4, "f"), piece("a", 9, 12), piece("a", 5, 8), piece("a", 17, 20)]
    starts = [source.start_line for source in pack(hits, 10_000, words).sources]
    assert starts == [9, 5, 1, 17]


def test_whole_definitions_side_by_side_stay_by_rank() -> None:
    hits = [
        piece("a", 5, 9, "g"),
        piece("a", 1, 4, "f"),
        piece("a", 10, 12, "h"),
        piece("a", 13, 14, scope=()),
    ]
    assert [source.start_line for source in pack(hits, 10_000, words).sources] == [5, 1, 10, 13]
