"""What was read before comes first where it is as good, and for nothing where there was no room: by records alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from chains.context import pack, source_of
from chains.kv.trail import Trail
from chains.packing import ReadBefore, packed
from chains.types import Context, Source
from indexers.types import Hit

# A source of these is 100 tokens: a token is a character here.
WIDTH = 100
HEAD = len("Source [a.py:1-2]:\n```\n\n```\n")


def hit(name: str, score: float = 1.0) -> Hit:
    return Hit(f"{name}.py", 1, 2, name * (WIDTH - HEAD), score)


def text(name: str) -> str:
    return source_of(hit(name), len).text


def source(name: str) -> Source:
    return source_of(hit(name), len)


def shown(context: Context) -> str:
    return "".join(found.path[0] for found in context.sources)


def dropped(context: Context) -> str:
    return "".join(item.label[0] for item in context.dropped)


@pytest.mark.parametrize(
    ("scores", "read", "kept"),
    [
        ((1.0, 0.99, 0.98), "", "ab"),
        ((1.0, 0.99, 0.98), "c", "ac"),  # as good, and read before
        ((1.0, 0.99, 0.90), "c", "ab"),  # not as good
        ((1.0, 0.99, 0.98), "bc", "bc"),
        ((0.96, 0.50, 0.96), "c", "ab"),  # it ranks last by design
        ((0.95, 0.96, 0.97), "c", "ab"),
    ],
)  # fmt: skip
def test_of_hits_that_are_as_good_those_read_before_are_packed(
    scores: Sequence[float], read: str, kept: str
) -> None:
    hits = [hit(name, score) for name, score in zip("abc", scores, strict=True)]
    context = pack(hits, 2 * WIDTH, len, read={text(name) for name in read})
    # Who gets in is another matter than who ranks first.
    assert shown(context) == kept


def test_what_is_joined_and_was_read_ahead_takes_room_of_its_own() -> None:
    hits = [hit(name, 1 - number / 10) for number, name in enumerate("abcdef")]
    before = ReadBefore(joined=frozenset(map(text, "def")))
    assert shown(packed(hits, 2 * WIDTH, len)) == "ab"
    warm = packed(hits, 2 * WIDTH, len, before, 10_000)
    assert (shown(warm), dropped(warm)) == ("abd", "cef")
    assert shown(packed(hits, 4 * WIDTH, len, before, 10_000)) == "abcdef"
    # A window that has no room has no room.
    assert shown(packed(hits, 2 * WIDTH, len, before, 4 * WIDTH)) == "ab"


def test_noise_is_not_shown_because_it_was_read() -> None:
    hits = [hit("a"), hit("b", 0.01)]
    assert shown(packed(hits, 900, len, ReadBefore(joined=frozenset([text("b")])), 10_000)) == "a"


def test_a_trail_brings_what_the_budget_had_no_room_for() -> None:
    hits = [hit(name, 1 - number / 10) for number, name in enumerate("abcdef")]
    trail = Trail(tuple(map(source, "bcef")))
    warm = packed(hits, 4 * WIDTH, len, ReadBefore(trails=(trail,)), 10_000)
    assert shown(warm) == "adfecb" and not warm.dropped
    # A prompt that others are to begin with shows nothing because it was read.
    bare = packed(hits, 4 * WIDTH, len, ReadBefore(trails=(trail,), needed_only=True), 10_000)
    assert shown(bare) == "adcb"
    # Alone it saves nothing of what the question needs.
    other = Trail((source("e"), source("f")))
    assert shown(packed(hits, 4 * WIDTH, len, ReadBefore(trails=(other,)), 10_000)) == "abcd"


def test_the_same_question_again_is_packed_the_same() -> None:
    """Whatever it began with; else every repetition would read something new."""
    hits = [hit(name, 1 - number / 100) for number, name in enumerate("abcdefgh")]
    trail = Trail(tuple(map(source, "gbahc")))
    first = packed(hits, 4 * WIDTH, len, ReadBefore(trails=(trail,)), 10_000)
    asked = Trail(tuple(reversed(first.sources)))
    again = packed(hits, 4 * WIDTH, len, ReadBefore(trails=(asked, trail)), 10_000)
    assert [s.text for s in again.sources] == [s.text for s in first.sources]
    assert again.tokens <= 6 * WIDTH
