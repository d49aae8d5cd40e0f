"""The order of sources is sticky: a question that needs what was just read begins with it, and shows nothing stale."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agent import trails
from chains.kv.trail import beginning, continued
from chains.types import Context, Source


def source(name: str, tokens: int = 200, score: float = 1.0) -> Source:
    return Source(f"{name}.py", 1, 9, f"text of {name}", tokens, score)


A, B, C, D, E = map(source, "abcde")


@pytest.mark.parametrize(
    ("trail", "wanted", "spare", "kept"),
    [
        ([], [A, B], 500, ""),
        ([A, B, C], [C, B, A], 0, "abc"),  # the same question
        ([A, B, C], [B, A], 0, "ab"),  # what is not needed at the end is left out
        ([A, B, C], [D, C, B], 200, "abc"),  # one that is not needed saves two
        ([A, B, C], [D, C, B], 199, ""),  # no room for it
        ([A, B], [B], 500, ""),  # saves no more than it costs, or hardly
        ([A, B, C, D], [D], 900, ""),
        ([source("a", 90)], [source("a", 90)], 0, ""),  # too little to care
    ],
)
def test_as_much_is_repeated_as_saves_more_than_it_costs(
    trail: list[Source], wanted: list[Source], spare: int, kept: str
) -> None:
    assert "".join(found.path[0] for found in beginning(trail, wanted, spare)) == kept


def test_new_sources_stand_last_the_best_of_them_nearest_to_the_question() -> None:
    context = continued(Context((D, B, E, A)), [A, C, B], 200)
    assert "".join(found.path[0] for found in reversed(context.sources)) == "acbed"
    # The same question again has the same order: nothing is read but the question.
    shown = list(reversed(context.sources))
    again = continued(Context((D, B, E, A)), shown, 200)
    assert [found.text for found in reversed(again.sources)] == [found.text for found in shown]


def test_sources_keep_the_score_of_this_question() -> None:
    context = continued(Context((source("a", 200, 0.7),)), [source("a", 200, 0.1)], 0)
    assert [found.score for found in context.sources] == [0.7]


def test_what_was_shown_is_known_until_its_file_changes(tmp_path: Path) -> None:
    index, root = tmp_path / "index", tmp_path / "root"
    index.mkdir()
    root.mkdir()
    for one in (A, B, C):
        (root / one.path).write_text(one.text)
    trails.save(index, root, "m", [A, B, C])
    assert trails.load(index, root, "m") == (A, B, C)
    assert (index / "trail.json").stat().st_mode & 0o777 == 0o600
    (root / "b.py").write_text("other")
    assert trails.load(index, root, "m") == (A,)
    (root / "a.py").unlink()
    assert trails.load(index, root, "m") == ()


def test_another_model_an_old_trail_or_a_damaged_one_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / A.path).write_text("x")
    trails.save(tmp_path, tmp_path, "m", [A])
    assert trails.load(tmp_path, tmp_path, "other") == ()
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(trails.time, "time", lambda: now + 7 * 3_600)
        assert trails.load(tmp_path, tmp_path, "m") == ()
    for text in ("", "[]", '{"model": "m", "when": 1e99, "sources": []}', '{"model": "m"}', "\xff"):
        (tmp_path / "trail.json").write_text(text, encoding="latin-1")
        assert trails.load(tmp_path, tmp_path, "m") == ()
    os.chmod(tmp_path, 0o500)
    trails.save(tmp_path / "missing", tmp_path, "m", [A])  # and says nothing
    os.chmod(tmp_path, 0o700)
