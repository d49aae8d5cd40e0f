"""What edits do to bytes: everything that is not edited stays as it was, whatever the file is encoded in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repos import git, make_repo

from chains.writing.diffs import unified_diff
from chains.writing.edits import Edit, EditError, FileChange, FileState, Kind, Text, changes_of, edited
from indexers.files import blob_id


def replace(data: bytes, start: int, end: int, text: str) -> bytes:
    return edited(data, [Edit(Kind.REPLACE, "f", start, end, text, blob_id(data))])


def insert(data: bytes, at: int, text: str) -> bytes:
    return edited(data, [Edit(Kind.INSERT, "f", at, text=text, blob=blob_id(data))])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\nb\nc\n", b"a\nX\nY\nc\n"),
        (b"a\r\nb\r\nc\r\n", b"a\r\nX\r\nY\r\nc\r\n"),
        (b"a\nb\nc", b"a\nX\nY\nc"),
        # The line that is replaced decides in a mixed file, and the others keep theirs.
        (b"a\nb\r\nc\n", b"a\nX\r\nY\r\nc\n"),
        (b"\xef\xbb\xbfa\nb\nc\n", b"\xef\xbb\xbfa\nX\nY\nc\n"),
        (b"caf\xe9\nb\nc\n", b"caf\xe9\nX\nY\nc\n"),
        ("a\nb\nc\n".encode("utf-16"), "a\nX\nY\nc\n".encode("utf-16")),
        # Form feeds and the like end no line.
        (b"a\x0c1\nb\nc\xe2\x80\xa8d\n", b"a\x0c1\nX\nY\nc\xe2\x80\xa8d\n"),
    ],
)
def test_only_the_lines_named_change(data: bytes, expected: bytes) -> None:
    assert replace(data, 2, 2, "X\nY\n") == expected
    assert replace(data, 2, 2, "X\r\nY") == expected


def test_a_file_is_written_in_the_encoding_that_it_declares() -> None:
    data = b"# -*- coding: latin-1 -*-\nx = 1\n"
    assert replace(data, 2, 2, "x = '\u00e9'\n") == b"# -*- coding: latin-1 -*-\nx = '\xe9'\n"
    with pytest.raises(EditError, match="iso8859-1"):
        replace(data, 2, 2, "x = '\u20ac'\n")
    japanese = "#!/usr/bin/python\n# coding: euc-jp\nx = '\u65e5'\ny = 1\n".encode("euc-jp")
    assert replace(japanese, 4, 4, "y = '\u672c'\n").decode("euc-jp").endswith("y = '\u672c'\n")
    # What nobody knows, or would change plain ASCII, or is not true, is not believed.
    for wrong in (b"# coding: no-such\n", b"# coding: utf-16\n", b"# coding: ascii\ny = '\xc3\xa9'\n"):
        assert Text.of(wrong).encoding == "utf-8"


def test_lines_that_stay_keep_their_ends_where_the_place_has_two() -> None:
    data = b"a\r\nb\nc\r\nd\r\n"
    assert replace(data, 1, 4, "a\nb\nX\nd\n") == b"a\r\nb\nX\r\nd\r\n"
    assert replace(b"a\rb\nc\n", 1, 1, "a\rX\n") == b"a\rX\nc\n"


def test_of_two_inserts_at_one_place_the_later_stands_below() -> None:
    for data, at in ((b"a\nb\n", 2), (b"a\nb\n", 3), (b"a\r\nb", 3), (b"", 1)):
        edits = [Edit(Kind.INSERT, "f", at, text=text, blob=blob_id(data)) for text in ("1\n", "2\n")]
        assert [line for line in edited(data, edits).split() if line.isdigit()] == [b"1", b"2"]
    data = b"a\r\nb"
    both = [
        Edit(Kind.REPLACE, "f", 2, 2, "X\n", blob_id(data)),
        Edit(Kind.INSERT, "f", 3, text="Y\n", blob=blob_id(data)),
    ]
    assert edited(data, both) == b"a\r\nX\r\nY"


@pytest.mark.parametrize(
    ("data", "start", "end", "text", "expected"),
    [
        (b"a\nb", 2, 2, "X\n", b"a\nX"),
        (b"a\r\nb", 2, 2, "X\nY\n", b"a\r\nX\r\nY"),
        (b"a\nb\n", 2, 2, "", b"a\n"),
        (b"a\n", 1, 1, "", b""),
        (b"a\n", 1, 1, "X", b"X\n"),
        (b"a\nb\nc\n", 1, 3, "X\n\nY\n", b"X\n\nY\n"),
    ],
)
def test_ends_of_files(data: bytes, start: int, end: int, text: str, expected: bytes) -> None:
    assert replace(data, start, end, text) == expected


@pytest.mark.parametrize(
    ("data", "at", "expected"),
    [
        (b"a\nb\n", 1, b"X\na\nb\n"),
        (b"a\nb\n", 2, b"a\nX\nb\n"),
        (b"a\nb\n", 3, b"a\nb\nX\n"),
        (b"a\nb", 3, b"a\nb\nX"),
        (b"a\r\nb", 3, b"a\r\nb\r\nX"),
        (b"a\r\nb\r\n", 3, b"a\r\nb\r\nX\r\n"),
        (b"", 1, b"X\n"),
    ],
)
def test_inserts(data: bytes, at: int, expected: bytes) -> None:
    assert insert(data, at, "X\n").rstrip(b"\n") == expected.rstrip(b"\n")
    assert insert(data, at, "X\n") == expected or data == b""


def test_several_edits_of_a_file_count_in_the_file_as_it_was_read() -> None:
    data = b"".join(b"%d\n" % n for n in range(1, 10))
    blob = blob_id(data)
    edits = [
        Edit(Kind.REPLACE, "f", 2, 3, "two\nand three\nand more\n", blob),
        Edit(Kind.INSERT, "f", 1, text="top\n", blob=blob),
        Edit(Kind.REPLACE, "f", 9, 9, "", blob),
        Edit(Kind.INSERT, "f", 2, text="before two\n", blob=blob),
    ]
    assert edited(data, edits) == b"top\n1\nbefore two\ntwo\nand three\nand more\n4\n5\n6\n7\n8\n"


@pytest.mark.parametrize("edit", [(0, 1), (3, 2), (4, 4), (1, 4), (-1, 1)])
def test_lines_that_are_not_there(edit: tuple[int, int]) -> None:
    with pytest.raises(EditError, match="3 lines"):
        replace(b"a\nb\nc\n", *edit, "x\n") if edit != (3, 2) else replace(b"a\nb\nc\n", 5, 5, "x\n")


def test_edits_that_overlap_are_refused() -> None:
    data = b"a\nb\nc\nd\n"
    blob = blob_id(data)
    with pytest.raises(EditError, match="same lines"):
        edited(data, [Edit(Kind.REPLACE, "f", 1, 2, "x", blob), Edit(Kind.REPLACE, "f", 2, 3, "y", blob)])


def test_an_edit_of_other_bytes_is_refused() -> None:
    with pytest.raises(EditError, match="changed since"):
        edited(b"a\n", [Edit(Kind.REPLACE, "f", 1, 1, "x", blob_id(b"b\n"))])


def test_what_the_encoding_does_not_have() -> None:
    with pytest.raises(EditError, match="cp1252"):
        replace(b"caf\xe9\nb\n", 2, 2, "漢\n")
    with pytest.raises(EditError, match="binary"):
        Text.of(b"a\0b")
    with pytest.raises(EditError, match="binary"):
        Text.of(b"\xff\xfea\xd8")


_LINE = st.text(st.characters(blacklist_characters="\n\r\0", blacklist_categories=["Cs"]), max_size=8)
_ENDED = st.tuples(_LINE, st.sampled_from(["\n", "\r\n"]))


@given(st.lists(_ENDED, min_size=1, max_size=12), st.booleans(), st.data())
def test_bytes_outside_an_edit_never_change(
    lines: list[tuple[str, str]], ended: bool, data: st.DataObject
) -> None:
    pieces = [(line + end).encode() for line, end in lines]
    if not ended and lines[-1][0]:
        pieces[-1] = lines[-1][0].encode()
    whole = b"".join(pieces)
    if whole.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return
    start = data.draw(st.integers(1, len(pieces)))
    end = data.draw(st.integers(start, len(pieces)))
    text = "\n".join(data.draw(st.lists(_LINE, min_size=1, max_size=4)))
    if not text.strip("\n"):
        return
    after = replace(whole, start, end, text + "\n")
    head, tail = b"".join(pieces[: start - 1]), b"".join(pieces[end:])
    assert after.startswith(head) and after.endswith(tail)
    assert after.endswith(b"\n") == whole.endswith(b"\n")
    middle = after[len(head) : len(after) - len(tail)].decode()
    expected = text.split("\n") if tail or whole.endswith(b"\n") else text.rstrip("\n").split("\n")
    assert [line.removesuffix("\r") for line in middle.removesuffix("\n").split("\n")] == expected


# -- several files ---------------------------------------------------------------------------------


FILES = {"a.py": FileState(b"one\ntwo\n"), "run.sh": FileState(b"#!/bin/sh\n", 0o755)}


def blob(path: str) -> str:
    return FILES[path].blob


def test_new_files_deletions_and_renames() -> None:
    edits = [
        Edit(Kind.CREATE, "new/b.py", text="x = 1"),
        Edit(Kind.DELETE, "a.py", blob=blob("a.py")),
        Edit(Kind.RENAME, "run.sh", to="bin/run.sh", blob=blob("run.sh")),
        Edit(Kind.INSERT, "run.sh", 2, text="exit 0\n", blob=blob("run.sh")),
    ]
    found = {change.path: change for change in changes_of(edits, FILES)}
    assert found["new/b.py"] == FileChange("new/b.py", None, FileState(b"x = 1\n"))
    assert found["a.py"].after is None
    assert found["run.sh"].after is None
    assert found["bin/run.sh"].after == FileState(b"#!/bin/sh\nexit 0\n", 0o755)


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ([Edit(Kind.CREATE, "a.py", text="x")], "already"),
        ([Edit(Kind.DELETE, "gone.py")], "no file"),
        ([Edit(Kind.RENAME, "a.py", to="run.sh", blob=FILES["a.py"].blob)], "already"),
        ([Edit(Kind.DELETE, "a.py", blob="0" * 40)], "changed since"),
        (
            [
                Edit(Kind.DELETE, "a.py", blob=FILES["a.py"].blob),
                Edit(Kind.REPLACE, "a.py", 1, 1, "x", FILES["a.py"].blob),
            ],
            "at once",
        ),
        (
            [Edit(Kind.CREATE, "x", text="1"), Edit(Kind.RENAME, "a.py", to="x", blob=FILES["a.py"].blob)],
            "already",
        ),
    ],
)
def test_edits_that_contradict_files_or_each_other(edits: list[Edit], reason: str) -> None:
    with pytest.raises(EditError, match=reason):
        changes_of(edits, FILES)


# -- the diff --------------------------------------------------------------------------------------


LONG = "".join(f"line {n}\n" for n in range(1, 61)).encode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"a\nb\nc\n", b"a\nX\nc\n"),
        (b"a\nb", b"a\nb\n"),
        (b"a\nb\n", b"a\nb\nc"),
        (b"a\r\nb\r\n", b"a\r\nX\r\n"),
        (None, b"new\nfile"),
        (b"gone\n", None),
        (None, b""),
        (LONG, LONG.replace(b"line 3\n", b"LINE 3\n").replace(b"line 40\n", b"").replace(b"line 60", b"end")),
        (b"caf\xc3\xa9\x0c\nb\n", b"caf\xc3\xa9\x0c\nc\n"),
        (b"\xef\xbb\xbfa\nb\n", b"\xef\xbb\xbfa\nc\n"),
    ],
)
@pytest.mark.parametrize("name", ["f.txt", 'di r/caf\u00e9 "x".txt'])
def test_git_applies_the_diff(tmp_path: Path, before: bytes | None, after: bytes | None, name: str) -> None:
    files = {"other": b"1\n"} | ({name: before} if before is not None else {})
    repo = make_repo(tmp_path / "r", files)
    change = FileChange(
        name,
        FileState(before) if before is not None else None,
        FileState(after) if after is not None else None,
    )
    diff = unified_diff([change]).encode()
    done = subprocess.run(["git", "apply", "-"], cwd=repo, input=diff, capture_output=True, check=False)
    assert done.returncode == 0, (done.stderr, diff)
    assert ((repo / name).read_bytes() if (repo / name).exists() else None) == after
    git(repo, "status")


def test_modes_and_renames_in_the_diff(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a.sh": b"1\n2\n3\n4\n", "b.sh": b"1\n"})
    changes = [
        FileChange("a.sh", FileState(b"1\n2\n3\n4\n"), None),
        FileChange("b.sh", FileState(b"1\n"), FileState(b"1\n", 0o755)),
        FileChange("bin/a.sh", None, FileState(b"1\n2\n3\n5\n")),
    ]
    diff = unified_diff(changes)
    assert "rename from a.sh\nrename to bin/a.sh\n" in diff and "new mode 100755" in diff
    subprocess.run(["git", "apply", "-"], cwd=repo, input=diff.encode(), check=True)
    assert (repo / "bin/a.sh").read_bytes() == b"1\n2\n3\n5\n" and not (repo / "a.sh").exists()
    assert (repo / "b.sh").stat().st_mode & 0o111


def test_twenty_thousand_lines_are_compared_at_once() -> None:
    lines = [f"value {n % 7}\n" for n in range(20_000)]
    after = [*lines[:15_000], "new\n", *lines[15_003:]]
    change = FileChange("big", FileState("".join(lines).encode()), FileState("".join(after).encode()))
    assert unified_diff([change]).count("\n") < 20
