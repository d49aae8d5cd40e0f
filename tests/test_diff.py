"""Hunks from texts and from patches: applied again they give the new text, whatever the texts are."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repos import git, make_repo, write

from chains.review import Policy, review
from chains.reviewing.changes import read_patch
from chains.reviewing.diff import hunks, limited, touched_lines
from chains.reviewing.patch import parse_patch
from chains.reviewing.types import Hunk, Reason
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


KEY = b"AKIAIOSFODNN7ABCDEFG"
HEAD = b"diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n"
ADDED = b'+key = "' + KEY + b'"\n'


@pytest.mark.parametrize(
    "patch",
    [
        b"diff --cc x.py\nindex 1,2..3\n--- a/x.py\n+++ b/x.py\n@@@ -1,1 -1,1 +1,2 @@@\n  a\n+" + ADDED,
        b"diff --cc x.py\nindex 1,2..3\n--- a/x.py\n+++ b/x.py\n@@@ -1,1 -1,1 +1,2 @@@\n  a\n " + ADDED,
        HEAD + b"@@ -1,1 +1,500 @@\n a\n" + ADDED,
        HEAD + b"@@ -1,1 +1,500 @@\n a\n" + ADDED + b"diff --git a/y.py b/y.py\n",
        HEAD + b"@@ broken @@\n" + ADDED,
        HEAD + b"@@ -1,1 +1,1 @@\n-a\n+b\n" + ADDED,
        HEAD + b"@@ -1,3 +1,1 @@\n-a\n+b\n" + ADDED,
        HEAD + ADDED,
        HEAD + b"@@ -1 +1,2 @@\n a\n" + ADDED + b"@@ -3 +2,2 @@\n a\n+b\n",
        HEAD.replace(b"---", b"Binary files a/x.py and b/x.py differ\n---") + b"@@ -0,0 +1 @@\n" + ADDED,
        HEAD.replace(b"b/x.py\n@@", b"/dev/null\n@@").replace(b"+++ b/x.py", b"+++ /dev/null")
        + b"@@ -0,0 +1 @@\n"
        + ADDED,
        b"diff --git a/x.py b/x.py\ndeleted file mode 100644\n--- a/x.py\n+++ b/x.py\n".replace(
            b"+++ b/x.py", b"+++ /dev/null"
        )
        + b"@@ -1 +1,2 @@\n a\n"
        + ADDED,
        b"*** a/x.py\n--- b/x.py\n***************\n*** 1,1 ****\n--- 1,2 ----\n  a\n+ " + ADDED[1:],
        b"*** a/x.py\n--- b/x.py\n***************\n*** 1,1 ****\n! a\n--- 1,1 ----\n! " + ADDED[1:],
        HEAD + b"@@ -1,1 +900000000,2 @@\n a\n" + ADDED,
    ],
)
def test_a_part_that_cannot_be_read_is_told_and_its_lines_are_looked_through(patch: bytes) -> None:
    *_, report = review(read_patch(patch, lambda path: None), Policy(strict=True))
    assert [(item.path, item.reason) for item in report.unreviewed] == [("x.py", Reason.NO_DIFF)]
    assert [(item.path, item.category) for item in report.blocking] == [("x.py", "secret")]
    *_, clean = review(read_patch(patch.replace(KEY, b"none"), lambda path: None), Policy(strict=True))
    assert clean.exit_code == 3


def test_line_numbers_alone_cost_nothing_and_switch_nothing_off() -> None:
    huge = b"".join(
        b"--- a/%d.py\n+++ b/%d.py\n@@ -1,1 +%d,2 @@\n a\n+b\n" % (n, n, 900_000_000 + n) for n in range(50)
    )
    started = time.monotonic()
    *_, report = review(read_patch(huge + HEAD + b"@@ -0,0 +1 @@\n" + ADDED, lambda path: None), Policy())
    assert time.monotonic() - started < 5 and len(report.unreviewed) == 50
    assert [item.path for item in report.blocking] == ["x.py"]


def test_links_and_modes_of_a_patch() -> None:
    link = b"diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc/passwd\n"
    mode = b"diff --git a/r.sh b/r.sh\nold mode 100644\nnew mode 100755\n"
    *_, report = review(read_patch(link + mode, lambda path: None), Policy())
    assert {(item.path, item.category) for item in report.findings} == {
        ("l", "self-running"),
        ("r.sh", "self-running"),
    }


def test_added_lines_before_any_file_and_binaries_with_the_name_of_a_secret() -> None:
    patch = ADDED + b"Binary files /dev/null and b/my.p12 differ\n" + HEAD + b"@@ -1 +1 @@\n-a\n+b\n"
    *_, report = review(read_patch(patch, lambda path: None), Policy())
    assert {(item.path, item.category) for item in report.findings} == {("-", "secret"), ("my.p12", "secret")}
    assert not report.unreviewed


def test_a_path_that_stands_twice_switches_nothing_off_for_the_other() -> None:
    second = HEAD + b"@@ -0,0 +1 @@\n+# agent: ignore[secret]\n"
    *_, report = review(read_patch(HEAD + b"@@ -0,0 +1 @@\n" + ADDED + second, lambda path: None), Policy())
    assert [item.category for item in report.blocking] == ["secret"]


def test_mails_and_logs_around_the_files_are_no_trouble(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "a = 1\n"})
    for number in (2, 3):
        write(root, {"a.py": f"a = {number}\n\nb = {number}\n", f"new {number}.py": "x\n"})
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", f"One\n\n- a bullet\n- another {number}\n\n--- and so on")
    for patch in (git(root, "format-patch", "--stdout", "HEAD~2"), git(root, "log", "-p", "--stat", "-2")):
        found = parse_patch(patch)
        assert [item.trouble for item in found] == [""] * 4, found


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_bytes_break_the_parser(data: bytes) -> None:
    for head in (b"", b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n"):
        try:
            parse_patch(head + data)
        except UsageError:
            pass
