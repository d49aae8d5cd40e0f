"""Hunks from texts and from patches: applied again they give the new text, whatever the texts are."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repos import git, make_repo, write

from chains.reviewing.changes import read_patch
from chains.reviewing.diff import hunks, limited, touched_lines
from chains.reviewing.patch import parse_patch
from chains.reviewing.types import Hunk
from indexers.errors import UsageError

LINES = st.lists(st.sampled_from(["a", "b", "c", "d", "", "  e", "f\x0bg", "\u2028"]), max_size=25)


def applied(before: str, found: tuple[Hunk, ...]) -> str:
    old = before.split("\n")[:-1] if before else []
    new: list[str] = []
    at = 0
    for hunk in found:
        start = hunk.old_start - 1
        assert tuple(old[start : start + len(hunk.removed)]) == hunk.removed
        new += old[at:start]
        assert len(new) + 1 == hunk.start
        new += hunk.added
        at = start + len(hunk.removed)
    return "".join(f"{line}\n" for line in [*new, *old[at:]])


@given(LINES, LINES)
@settings(max_examples=300, deadline=None)
def test_hunks_turn_one_text_into_the_other(old: list[str], new: list[str]) -> None:
    before, after = ("".join(f"{line}\n" for line in lines) for lines in (old, new))
    found = hunks(before, after)
    assert applied(before, found) == after
    for first, second in zip(found, found[1:], strict=False):
        assert first.old_start + len(first.removed) < second.old_start or first.end < second.start


def test_long_texts_are_compared_in_seconds() -> None:
    random.seed(7)
    old = [f"line {random.randrange(3_000)}" for _ in range(20_000)]
    new = old[:]
    for _ in range(300):
        new[random.randrange(len(new))] = f"changed {random.random()}"
    del new[5_000:5_040]
    before, after = ("".join(f"{line}\n" for line in lines) for lines in (old, new))
    found = hunks(before, after)
    assert applied(before, found) == after
    assert sum(len(hunk.added) for hunk in found) < 2_000


def test_what_ends_a_line_and_what_does_not() -> None:
    assert hunks("a\x0bb\u2028c\n", "a\x0bb\u2028d\n") == (
        Hunk(1, ("a\x0bb\u2028d",), 1, ("a\x0bb\u2028c",)),
    )
    assert hunks("a\n", "a") == ()
    assert hunks(None, None) == ()


def test_lines_taken_away_leave_their_neighbours_touched() -> None:
    [hunk] = hunks("a\nb\nc\n", "a\nc\n")
    assert hunk.removed == ("b",) and list(hunk.touched) == [1, 2]


def test_a_merge_is_cut_to_what_neither_side_had() -> None:
    [hunk] = hunks("", "one\ntwo\nthree\nfour\n")
    lines = touched_lines("two\nfour\n", "one\ntwo\nthree\nfour\n")
    assert [piece.added for piece in limited([hunk], lines)] == [("one",), ("three",)]


# --- patches ---------------------------------------------------------------------------------------


def test_gits_own_patches_are_read_whatever_names_and_bytes_they_hold(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"plain.py": "a\nb\nc\n", "with space.py": "x\n", "gone.py": "g\n"})
    write(root, {"plain.py": "a\nB\nc\nd\n", "with space.py": "y\n", "--- odd": "-- a\n", "tab\t.py": "t\n"})
    (root / "latin.py").write_bytes(b"# caf\xe9\n")
    (root / "b.bin").write_bytes(b"\0\1")
    (root / "gone.py").unlink()
    git(root, "mv", "plain.py", "moved.py")
    git(root, "add", "-A")
    patch = git(root, "diff", "--cached", "-M", "--binary")
    found = {item.path or item.old_path: item for item in parse_patch(patch)}
    assert set(found) == {"moved.py", "with space.py", "--- odd", "tab\t.py", "latin.py", "b.bin", "gone.py"}
    assert found["moved.py"].old_path == "plain.py" and [h.added for h in found["moved.py"].hunks] == [
        ("B",),
        ("d",),
    ]
    assert found["--- odd"].hunks[0].added == ("-- a",)
    assert found["latin.py"].hunks[0].added == ("# café",)
    assert not found["b.bin"].is_text and found["gone.py"].path == ""


def test_a_removed_line_that_looks_like_a_header_is_a_line() -> None:
    patch = b"--- a/q.sql\n+++ b/q.sql\n@@ -1,2 +1,2 @@\n--- drop\n+++ keep\n x\n"
    [item] = parse_patch(patch)
    assert item.hunks == (Hunk(1, ("++ keep",), 1, ("-- drop",)),)


def test_a_patch_on_files_we_have_gives_the_whole_text(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("one\ntwo\nthree\nfour\nfive\nsix\nseven\n")
    new.write_text("one\n2\nthree\nfour\nfive\nsix\nseven\neight\n")
    done = subprocess.run(["diff", "-u", "old", "new"], cwd=tmp_path, capture_output=True, check=False)
    patch = done.stdout.replace(b"--- old", b"--- a/f.txt").replace(b"+++ new", b"+++ b/f.txt")
    known = read_patch(patch, lambda path: old.read_bytes() if path == "f.txt" else None)
    assert known.files[0].after == new.read_text() and known.files[0].whole
    unknown = read_patch(patch, lambda path: b"something else\n")
    assert not unknown.files[0].whole and unknown.files[0].line(2) == "2"
    assert known.files[0].hunks == unknown.files[0].hunks == hunks(old.read_text(), new.read_text())


@pytest.mark.parametrize("data", [b"", b"\n\n"])
def test_an_empty_patch_changes_nothing(data: bytes) -> None:
    assert parse_patch(data) == []


def test_what_is_no_patch_is_refused() -> None:
    with pytest.raises(UsageError):
        parse_patch(b"hello\nworld\n")


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_bytes_break_the_parser(data: bytes) -> None:
    for head in (b"", b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n"):
        try:
            parse_patch(head + data)
        except UsageError:
            pass
