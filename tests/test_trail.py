"""The order of sources is sticky: a question that needs what was just read begins with it, and shows nothing stale."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agent import trails
from chains.kv.trail import Trail, beginning, continued
from chains.types import Citation, Context, Dropped, Source


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
    context = continued(Context((D, B, E, A)), [Trail((A, C, B))], 200)
    assert "".join(found.path[0] for found in reversed(context.sources)) == "acbed"
    # The same question again has the same order: nothing is read but the question.
    shown = tuple(reversed(context.sources))
    again = continued(Context((D, B, E, A)), [Trail(shown)], 200)
    assert [found.text for found in reversed(again.sources)] == [found.text for found in shown]


def test_sources_keep_the_score_of_this_question() -> None:
    context = continued(Context((source("a", 200, 0.7),)), [Trail((source("a", 200, 0.1),))], 0)
    assert [found.score for found in context.sources] == [0.7]


def test_the_trail_that_saves_most_is_gone_on_with() -> None:
    trails = [Trail((C,)), Trail((A, B)), Trail((D, A))]
    context = continued(Context((E, A, B, C)), trails, 0)
    assert "".join(found.path[0] for found in reversed(context.sources)) == "abce"


def test_what_was_read_ahead_does_not_move_the_best_source_from_the_question() -> None:
    foreseen = [Trail((source("a"),), ahead=True), Trail((B, A, C), ahead=True)]
    assert [s.path[0] for s in continued(Context((A, C, B)), foreseen, 0).sources] == ["a", "c", "b"]
    assert [s.path[0] for s in continued(Context((A, B, C)), foreseen, 0).sources] == ["a", "c", "b"]
    assert [s.path[0] for s in continued(Context((A, C)), foreseen, 0).sources] == ["a", "c"]


def test_the_best_source_stands_next_to_the_question_whatever_was_read_before() -> None:
    def prompt(context: Context) -> str:
        return "".join(found.path[0] for found in reversed(context.prompted))

    wanted = Context((A, B, C))
    # Read anew where that is cheaper than to read what follows it anew.
    assert prompt(continued(wanted, [Trail((B, A))], 400)) == "bca"
    # Shown once more where it is not, or where there is no room for that read anew all the same.
    assert prompt(continued(wanted, [Trail((A, B, C))], 400)) == "abca"
    assert prompt(continued(wanted, [Trail((B, A, C))], 0)) == "bca"
    # Asked again, that prompt is the same; and what was shown twice is listed once.
    again = continued(wanted, [Trail((A, B, C))], 400)
    shown = tuple(reversed(again.prompted))
    once_more = continued(wanted, [Trail(shown)], 400)
    assert prompt(once_more) == "abca" and again.again == A and len(again.sources) == 3
    # A question about something else has its own best source there.
    assert prompt(continued(Context((B, C, D)), [Trail(shown)], 400)) == "abcdb"
    assert prompt(continued(Context((B, A, C, D)), [Trail(shown)], 400)) == "abcdb"


def test_lines_are_shown_once_whole_or_in_brief() -> None:
    brief = Source("b.py", 1, 9, "head of b", 50, whole=False)
    context = continued(Context((A, B, C)), [Trail((brief, C, A))], 400)
    assert [found.text for found in context.sources] == [A.text, C.text, brief.text]
    # But for the best one, which the question needs whole.
    head = Source("a.py", 1, 9, "head of a", 50)
    context = continued(Context((A, B, C)), [Trail((B, C, head))], 400)
    assert [found.text for found in context.sources] == [A.text, C.text, B.text]
    assert continued(Context((A, B, C)), [Trail((head, B, C))], 400) == Context((A, B, C))


def test_what_the_budget_had_no_room_for_comes_for_nothing_where_it_was_read() -> None:
    over = (Dropped(C.label, 200), Dropped(D.label, 200))
    context = Context((A, B), over, 400)
    longer = continued(context, [Trail((B, C, A, D))], 0, {C.text: C, D.text: D}, 400)
    assert "".join(found.path[0] for found in reversed(longer.sources)) == "bca"
    assert longer.dropped == over[1:]
    # No more of it than there is room for, and nothing for its own sake.
    less = continued(context, [Trail((B, C, A, D))], 0, {C.text: C, D.text: D}, 199)
    assert "".join(found.path[0] for found in reversed(less.sources)) == "ba" and less.dropped == over
    assert continued(context, [Trail((C, D))], 0, {C.text: C, D.text: D}, 400) == context


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


def test_several_prompts_are_remembered_and_one_that_goes_on_replaces_what_it_goes_on_from(
    tmp_path: Path,
) -> None:
    for one in (A, B, C, D):
        (tmp_path / one.path).write_text(one.text)
    trails.save(tmp_path, tmp_path, "m", [source("a", score=0.3), B])
    trails.save(tmp_path, tmp_path, "m", [C])
    trails.save(
        tmp_path, tmp_path, "m", [A, B, D], [Citation("a.py", 1, 2, True), Citation("b.py", 1, 2, False)]
    )
    kept = trails.asked(tmp_path, tmp_path, "m")
    assert [entry.sources for entry in kept] == [(A, B, D), (C,)]
    assert kept[0].cited == (("a.py", 1, 2),)
    assert trails.labels(tmp_path, tmp_path) == [D.label, B.label, A.label, C.label]


def test_what_was_foreseen_comes_after_what_was_asked_and_is_remembered_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def foresee(kind: str, *sources: Source) -> None:
        stamped = trails.stamps(tmp_path, sources)
        trails.foresee(tmp_path, tmp_path, (kind, "m"), sources, stamped)

    for one in (A, B, C, D):
        (tmp_path / one.path).write_text(one.text)
    foresee(trails.FORESEEN, D)
    foresee(trails.FORESEEN, D, C)
    foresee(trails.FOLLOWING, B)
    trails.save(tmp_path, tmp_path, "m", [A])
    foreseen = Trail((D, C), ahead=True)
    assert trails.trails(tmp_path, tmp_path, "m") == (Trail((A,)), Trail((B,)), foreseen)
    assert trails.labels(tmp_path, tmp_path) == [A.label], "what nobody asked for was not shown"
    now = time.time()
    monkeypatch.setattr(trails.time, "time", lambda: now + 7 * 3_600)
    assert trails.trails(tmp_path, tmp_path, "m") == (foreseen,)
    (tmp_path / "c.py").write_text("other")
    assert trails.trails(tmp_path, tmp_path, "m") == (Trail((D,), ahead=True),)


def test_an_edit_while_the_model_reads_is_not_taken_for_what_it_read(tmp_path: Path) -> None:
    (tmp_path / A.path).write_text(A.text)
    before = trails.stamps(tmp_path, [A])
    (tmp_path / A.path).write_text("edited meanwhile")
    trails.save(tmp_path, tmp_path, "m", [A], (), before)
    assert trails.load(tmp_path, tmp_path, "m") == ()


def test_of_what_was_read_to_be_joined_only_what_was_edited_goes(tmp_path: Path) -> None:
    for one in (A, B, C):
        (tmp_path / one.path).write_text(one.text)
        trails.add_joined(tmp_path, tmp_path, "m", [(one, trails.stamps(tmp_path, [one])[0])], 2)
    assert trails.to_join(tmp_path, tmp_path, "m") == {B.text, C.text}
    (tmp_path / "c.py").write_text("other")
    assert trails.to_join(tmp_path, tmp_path, "m") == {B.text}
    assert trails.to_join(tmp_path, tmp_path, "other") == frozenset()
    assert trails.trails(tmp_path, tmp_path, "m") == ()
