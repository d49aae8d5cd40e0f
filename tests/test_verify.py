"""`agent index --check` sees every kind of damage and names what mends it; `--explain` knows every path's reason."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent.cli import main
from indexers.verify import inside
from tests.repos import commit, git, make_repo, write

SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
FILES = {
    "src/one.py": "def first():\n    return 1\n\n\ndef second():\n    return 2\n",
    "src/two.py": f'def deploy():\n    token = "{SECRET}"\n    return token\n',
    "notes.md": "# Notes\n\nWords about it.\n",
    "gone.bin": b"\0\1\2",
    ".gitignore": "*.log\nbuild/\n",
}
Shown = tuple[int, dict[str, object]]


@pytest.fixture(autouse=True)
def hash_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_EMBEDDER", "hash")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    root = make_repo(tmp_path / "repo", FILES)
    assert main(["index", "-q", "--repo", str(root)]) == 0
    return root


@pytest.fixture
def run(repo: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Shown]:
    def run(*arguments: str) -> Shown:
        capsys.readouterr()
        code = main(["index", *arguments, "--json", "--repo", str(repo)])
        return code, json.loads(capsys.readouterr().out)

    return run


def faults(found: Shown) -> list[str]:
    code, value = found
    listed = value["faults"]
    assert isinstance(listed, list) and code == (2 if listed else 0) and value["ok"] is not bool(listed)
    assert all(fault["remedy"].startswith("agent index") for fault in listed)
    return [f"{fault['part']}: {fault['path']}: {fault['text']}" for fault in listed]


def database(agent_home: Path, which: str) -> Path:
    return next(
        (agent_home / "cache").glob(f"{which}/*.sqlite" if which == "vectors" else "index/*/ledger.sqlite")
    )


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            assert db.execute(statement).rowcount, statement


def test_a_sound_index(run: Callable[..., Shown], repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run("--check")
    assert faults(found) == []
    assert found[1]["remarks"] == [] and found[1]["files"] == 4
    assert found[1]["chunks"] == found[1]["vectors"] == 4
    assert main(["index", "--check", "--repo", str(repo)]) == 0
    assert capsys.readouterr().out == "ok     4 files, 4 chunks, 4 vectors checked\n"


def test_nothing_indexed_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_repo(tmp_path / "new", FILES)
    assert main(["index", "--check", "--repo", str(root)]) == 2
    assert "nothing is indexed yet" in (shown := capsys.readouterr().out) and "try: agent index" in shown


LEDGER = [
    (
        "UPDATE chunks SET text = replace(text, 'return 1', 'return 7')",
        "tree: src/one.py: stored chunks differ",
    ),
    (
        "UPDATE chunks SET start_line = start_line + 1 WHERE text LIKE '%deploy%'",
        "tree: src/two.py: stored chunks",
    ),
    ("UPDATE files SET blob = 'other' WHERE path = CAST('notes.md' AS BLOB)", "tree: notes.md: its content"),
    ("UPDATE files SET skip = 'empty' WHERE path = CAST('gone.bin' AS BLOB)", "tree: gone.bin: is binary"),
    ("UPDATE definitions SET chunk_id = 99 WHERE rowid = 1", "ledger: : 1 definitions are of no chunk"),
    ("DELETE FROM keywords WHERE rowid = 2", "ledger: : 1 chunks have no keywords"),
    ("DELETE FROM chunks WHERE id = 2", "ledger: : 1 keyword rows are of no chunk"),
    (
        "DELETE FROM file_words WHERE file_id = (SELECT min(file_id) FROM chunks)",
        "ledger: : 1 files have no words",
    ),
    ("UPDATE keywords_content SET c0 = 'changed' WHERE id = 1", "ledger: : the keyword index is damaged"),
]


@pytest.mark.parametrize(("statement", "words"), LEDGER, ids=[statement[:40] for statement, _ in LEDGER])
def test_rows_that_are_not_what_they_should_be(
    statement: str, words: str, run: Callable[..., Shown], agent_home: Path, repo: Path
) -> None:
    change(database(agent_home, "index"), statement)
    found = faults(run("--check"))
    assert any(fault.startswith(words) for fault in found), found
    assert main(["index", "--rebuild", "-q", "--repo", str(repo)]) == 0
    assert faults(run("--check")) == []


@pytest.mark.parametrize("value", ["zeroblob(8)", "zeroblob(7)", "zeroblob(0)"])
def test_vectors_of_a_wrong_size(
    value: str, run: Callable[..., Shown], agent_home: Path, repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = f"UPDATE vectors SET vector = {value} WHERE key = (SELECT min(key) FROM vectors)"
    change(database(agent_home, "vectors"), one)
    assert any("dimensions" in fault for fault in faults(run("--check")))
    assert main(["search", "second", "--repo", str(repo)]) == 0
    assert "src/one.py" in capsys.readouterr().out
    # And once more what holds a secret: a new index has other marks for them.
    assert run("--rebuild")[1]["vectors_embedded"] in (1, 2)
    assert faults(run("--check")) == []


@pytest.mark.parametrize("value", ["0000C07F", "0000807F", "00002041"])
def test_vectors_that_are_not_numbers_or_not_units(
    value: str, run: Callable[..., Shown], agent_home: Path
) -> None:
    path = database(agent_home, "vectors")
    with closing(sqlite3.connect(path)) as db, db:
        key, vector = db.execute("SELECT key, vector FROM vectors LIMIT 1").fetchone()
        damaged = bytes.fromhex(value) + vector[4:]
        db.execute("UPDATE vectors SET vector = ? WHERE key = ?", (damaged, key))
    assert any("1 vectors are damaged" in fault for fault in faults(run("--check")))


def test_a_missing_vector_is_made_by_the_next_run(run: Callable[..., Shown], agent_home: Path) -> None:
    change(database(agent_home, "vectors"), "DELETE FROM vectors WHERE key = (SELECT min(key) FROM vectors)")
    code, value = run("--check")
    assert (code, value["faults"]) == (0, []) and "1 chunks have no vector yet" in str(value["remarks"])
    assert run()[1]["vectors_embedded"] == 1
    assert run("--check")[1]["remarks"] == []


def test_chroma_with_damaged_files_or_left_open(run: Callable[..., Shown], agent_home: Path) -> None:
    chroma = next((agent_home / "cache").glob("index/*/chroma"))
    for damage in (
        lambda: chroma.with_name("chroma.dirty").touch(),
        lambda: chroma.with_name("chroma.reading").touch(),
        lambda: os.truncate(chroma / "chroma.sqlite3", 5_000),
        lambda: chroma.with_name("chroma.seal").unlink(),
    ):
        damage()
        assert any(
            fault.startswith("chroma: : it was not closed cleanly") for fault in faults(run("--check"))
        )
        code, report = run()
        assert code == 0 and report["vectors_embedded"] == 0
        assert "rebuilt from stored vectors" in str(report["notes"])
        assert faults(run("--check")) == [] and run("--check")[1]["remarks"] == []


def test_a_tree_that_moved_on_is_no_fault(run: Callable[..., Shown], repo: Path) -> None:
    write(repo, {"src/three.py": "def third():\n    return 3\n"})
    (repo / "notes.md").unlink()
    code, value = run("--check")
    assert (code, value["faults"]) == (0, []) and "2 files changed" in str(value["remarks"])


def test_an_edit_that_hides_from_stat_is_found(
    run: Callable[..., Shown], repo: Path, agent_home: Path
) -> None:
    path = repo / "src/one.py"
    path.write_text(path.read_text().replace("return 2", "return 9"))
    found = os.lstat(path)
    stat = f"mtime_ns = {found.st_mtime_ns}, ctime_ns = {found.st_ctime_ns}, inode = {found.st_ino}"
    change(database(agent_home, "index"), f"UPDATE files SET {stat} WHERE path = CAST('src/one.py' AS BLOB)")
    assert any("src/one.py: its content is another" in fault for fault in faults(run("--check")))


@pytest.mark.parametrize(
    "arguments",
    [["--check", "--rebuild"], ["--check", "--explain", "x"], ["x"], ["--explain"]],
    ids=" ".join,
)
def test_what_does_not_go_together(
    arguments: list[str], repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", *arguments, "--repo", str(repo)]) == 2
    assert capsys.readouterr().err.count("try: ") == 1


# -- why a path is in it or not -----------------------------------------------------------------------


def explained(run: Callable[..., Shown], *paths: str) -> list[dict[str, object]]:
    code, value = run("--explain", *paths)
    assert code == 0 and isinstance(value["paths"], list), value
    return value["paths"]


def test_every_path_has_its_reason(run: Callable[..., Shown], repo: Path, tmp_path: Path) -> None:
    write(
        repo,
        {
            "deploy.pem": "x",
            "run.log": "x",
            "build/out.py": "x",
            "huge.py": "x = 1\n" * 300_000,
            "vendor/lib.py": "x = 1\n",
            "empty.py": "",
            "pointer.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        },
    )
    (repo / "link.py").symlink_to("/etc/passwd")
    (repo / "loop").symlink_to("loop")
    (repo / "folder").symlink_to("/etc")
    os.mkfifo(repo / "pipe.py")
    make_repo(repo / "nested", {"inner.py": "x = 1\n"})
    library = make_repo(tmp_path / "library", {"lib.py": "x = 1\n"})
    git(repo, "submodule", "--quiet", "add", str(library), "sub")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(repo)
        listener.bind("socket.py")
        wanted = {
            "src/one.py": ("indexed", "", "", ""),
            "gone.bin": ("skipped", "binary", "NUL at byte 0", ""),
            "deploy.pem": ("skipped", "looks like a secret", "by its name", ""),
            "run.log": ("ignored", "ignored by git", "", ".gitignore:1:*.log"),
            "build/out.py": ("ignored", "ignored by git", "", ".gitignore:2:build/"),
            "huge.py": ("skipped", "too large", "1800000 bytes, the limit is 1048576", ""),
            "vendor/lib.py": ("skipped", "vendored", "in vendor/", ""),
            "empty.py": ("skipped", "empty", "", ""),
            "pointer.bin": ("skipped", "Git LFS pointer", "", ""),
            "link.py": ("skipped", "symbolic link", "", ""),
            "loop": ("skipped", "symbolic link", "", ""),
            "folder/passwd": ("skipped", "symbolic link", "folder/ on the way is one", ""),
            "pipe.py": ("skipped", "not a regular file", "git does not list it either", ""),
            "socket.py": ("skipped", "not a regular file", "git does not list it either", ""),
            "nested": ("skipped", "nested repository", "", ""),
            "nested/inner.py": ("skipped", "nested repository", "it lies in nested", ""),
            "sub": ("skipped", "submodule", "", ""),
            "sub/lib.py": ("skipped", "submodule", "it lies in sub", ""),
            ".git/config": ("not listed", "git's own", "the repository itself is not indexed", ""),
            "nowhere.py": ("not listed", "there is no such file", "", ""),
            "/etc/passwd": ("outside", "not in the work tree", str(repo), ""),
            "../library/lib.py": ("outside", "not in the work tree", str(repo), ""),
        }
        found = explained(run, *wanted)
        shown = {
            item["path"]: tuple(item[k] for k in ("state", "reason", "detail", "rule")) for item in found
        }
        assert shown == wanted


def test_what_is_told_of_an_indexed_file(
    run: Callable[..., Shown], repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(repo, {"fresh.py": "def fresh():\n    return 1\n"})
    two, fresh = explained(run, "src/two.py", str(repo / "fresh.py"))
    blob = git(repo, "hash-object", "src/two.py").decode().strip()
    assert (two["blob"], two["language"], two["lines"], two["redactions"], two["tracked"]) == (
        blob,
        "python",
        [[1, 3]],
        1,
        True,
    )
    assert (fresh["path"], fresh["state"], fresh["tracked"]) == ("fresh.py", "indexed", False)
    assert main(["index", "--explain", "src/two.py", "fresh.py", "src", "--repo", str(repo)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"src/two.py  indexed: python, 1 chunk (1-3), 1 secret blacked out, blob {blob[:12]}",
        f"fresh.py  indexed: python, 1 chunk (1-2), blob {str(fresh['blob'])[:12]}, untracked",
        "src  directory: 2 indexed",
    ]


def test_untracked_files_left_out_by_settings(
    run: Callable[..., Shown], repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_INCLUDE_UNTRACKED", "false")
    write(repo, {"fresh.py": "x = 1\n"})
    (found,) = explained(run, "fresh.py")
    assert (found["state"], found["detail"]) == ("not listed", "include_untracked is off")
    commit(repo)
    assert explained(run, "fresh.py")[0]["state"] == "indexed"


def test_odd_names_are_explained(run: Callable[..., Shown], repo: Path) -> None:
    names = [
        os.fsdecode(name)
        for name in (b"caf\xe9.py", b"two\nlines.py", b"esc\x1b[2J.py", b"-dash.py", b"a b.py")
    ]
    write(repo, dict.fromkeys(names, "x = 1\n"))
    write(repo, {"odd\n\x1b.log": "x"})
    found = explained(run, *(f"./{name}" for name in names))
    assert [(item["path"], item["state"]) for item in found] == [
        (shown, "indexed")
        for shown in ("caf\\xe9.py", "two\nlines.py", "esc\x1b[2J.py", "-dash.py", "a b.py")
    ]
    assert explained(run, "odd\n\x1b.log")[0]["rule"] == ".gitignore:1:*.log"


def test_a_typed_path_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (tmp_path / "way").symlink_to(root)
    monkeypatch.chdir(root / "deep")
    assert inside(root, "x.py") == "deep/x.py" and inside(root, "../x.py") == "x.py"
    assert inside(root, str(tmp_path / "way" / "x.py")) == "x.py" and inside(root, "..") == ""
    assert inside(root, "../../x.py") is None and inside(root, "/etc") is None
    monkeypatch.chdir(tmp_path)
    assert inside(root, "deep/x.py") == "deep/x.py"
