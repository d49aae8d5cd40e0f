"""What a change is, read from real repositories: exactly what git would commit, whatever it is called."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from repos import commit, git, make_repo, write

from chains.reviewing.changes import ReadChange, read_change
from chains.reviewing.types import Reason
from indexers.errors import UsageError
from indexers.git import Repository
from indexers.revisions import changes, new_since, of_commit, of_range, staged

LATIN = os.fsdecode(b"caf\xe9.py")


def read_staged(path: Path, index_file: str = "") -> ReadChange:
    repository = Repository.discover(path)
    return read_change(repository, staged(repository, index_file))


def texts(change: ReadChange) -> dict[str, tuple[str | None, str | None]]:
    return {file.path: (file.before, file.after) for file in change.files}


def state(path: Path) -> dict[str, str]:
    """Every file below a directory by the hash of its bytes."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file() and not file.is_symlink()
    }


def test_partial_staging_reads_the_index_and_leaves_every_byte(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    write(root, {"a.py": "x = 2\n"})
    git(root, "add", "a.py")
    write(root, {"a.py": "x = 3\n", "untracked.py": "y\n"})
    before = state(root)
    change = read_staged(root)
    assert texts(change) == {"a.py": ("x = 1\n", "x = 2\n")}
    assert state(root) == before


def test_a_first_commit_is_read_against_nothing(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r")
    write(root, {"a.py": "x = 1\n"})
    git(root, "add", "a.py")
    assert texts(read_staged(root)) == {"a.py": (None, "x = 1\n")}
    assert "first commit" in read_staged(root).title


def test_intent_to_add_is_in_no_commit(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    write(root, {"new.py": "y\n", "b.py": "z\n"})
    git(root, "add", "-N", "new.py")
    git(root, "add", "b.py")
    assert list(texts(read_staged(root))) == ["b.py"]


def test_the_index_that_git_names_is_the_one_read(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    other = tmp_path / "other.index"
    other.write_bytes((root / ".git/index").read_bytes())
    blob = git(root, "hash-object", "-w", "--stdin", check=True).decode().strip()
    assert blob
    write(root, {"a.py": "x = 2\n"})
    git(root, "add", "a.py")
    assert texts(read_staged(root, str(other))) == {}
    assert texts(read_staged(root)) == {"a.py": ("x = 1\n", "x = 2\n")}


def test_odd_names_are_read_and_told_apart(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    names = [
        LATIN,
        "with\nnewline.py",
        "tab\t.py",
        '"quoted".py',
        "-leading.py",
        " space.py",
        "x" * 240 + ".py",
    ]
    for name in names:
        (root / name).write_text("bad()\n")
    git(root, "add", "-A")
    assert set(texts(read_staged(root))) == set(names)
    done = git(root, "commit", "-q", "-m", "odd")
    assert done == b""
    repository = Repository.discover(root)
    assert {c.path for c in changes(repository, of_commit(repository, "HEAD"))} == set(names)


def test_renames_deletions_and_modes(tmp_path: Path) -> None:
    body = "".join(f"line {n}\n" for n in range(30))
    root = make_repo(tmp_path / "r", {"old.py": body, "gone.py": "x\n", "run.sh": "true\n"})
    git(root, "mv", "old.py", "new.py")
    write(root, {"new.py": body + "more\n"})
    git(root, "rm", "-q", "gone.py")
    (root / "run.sh").chmod(0o755)
    git(root, "add", "-A")
    by_path = {file.path: file for file in read_staged(root).files}
    assert by_path["new.py"].old_path == "old.py" and by_path["new.py"].hunks[0].added == ("more",)
    assert by_path["gone.py"].after is None and by_path["gone.py"].hunks[0].removed == ("x",)
    assert by_path["run.sh"].new_mode == 0o100755 and by_path["run.sh"].hunks == ()
    assert {item.reason for item in read_staged(root).quiet} == {
        "deleted",
        "nothing but its name or mode changed",
    }


def test_binaries_links_and_submodules_are_told(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    (root / "b.png").write_bytes(b"\x89PNG\0\0")
    (root / "link").symlink_to("../../etc/passwd")
    make_repo(root / "sub", {"f": "1\n"})
    git(root, "add", "-A")
    change = read_staged(root)
    assert {item.path: item.reason.partition(" ")[0] for item in change.exempt} == {
        "b.png": "binary",
        "sub": "submodule",
    }
    assert [file.path for file in change.files] == ["link"]


def test_a_merge_shows_what_neither_side_had(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "a = 1\n\n\n\nb = 1\n", "c.py": "c\n"})
    git(root, "checkout", "-q", "-b", "side")
    write(root, {"a.py": "a = 1\n\n\n\nb = 2\n", "side.py": "s\n"})
    commit(root, "side")
    git(root, "checkout", "-q", "main")
    write(root, {"a.py": "a = 2\n\n\n\nb = 1\n"})
    commit(root, "main")
    git(root, "merge", "--no-commit", "--no-ff", "side")
    assert texts(read_staged(root)).keys() == {"a.py"}
    assert read_staged(root).files[0].hunks == ()
    write(root, {"a.py": "a = 2\nevil()\n\n\nb = 2\n"})
    git(root, "add", "a.py")
    [file] = read_staged(root).files
    assert [hunk.added for hunk in file.hunks] == [("evil()",)]
    git(root, "commit", "-q", "-m", "merged")
    repository = Repository.discover(root)
    [file] = read_change(repository, of_commit(repository, "HEAD")).files
    assert [hunk.added for hunk in file.hunks] == [("evil()",)]


def test_conflicts_are_not_reviewed(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "a = 1\n"})
    git(root, "checkout", "-q", "-b", "side")
    write(root, {"a.py": "a = 2\n"})
    commit(root, "side")
    git(root, "checkout", "-q", "main")
    write(root, {"a.py": "a = 3\n"})
    commit(root, "main")
    git(root, "merge", "side", check=False)
    [lost] = read_staged(root).unreviewed
    assert lost.path == "a.py" and lost.reason is Reason.CONFLICT


def test_ranges_and_commits(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "a = 1\n"})
    repository = Repository.discover(root)
    assert texts(read_change(repository, of_commit(repository, "HEAD"))) == {"a.py": (None, "a = 1\n")}
    git(root, "checkout", "-q", "-b", "side")
    write(root, {"b.py": "b\n"})
    commit(root, "side")
    git(root, "checkout", "-q", "main")
    write(root, {"c.py": "c\n"})
    commit(root, "main")
    assert list(texts(read_change(repository, of_range(repository, "main..side")))) == ["b.py"]
    for wrong in ("HEAD", "nowhere..HEAD", "HEAD..--output=x"):
        with pytest.raises(UsageError):
            of_range(repository, wrong)
    with pytest.raises(UsageError):
        of_commit(repository, "-h")
    first = git(root, "rev-list", "--max-parents=0", "HEAD").decode().strip()
    assert (
        new_since(repository, "HEAD") == git(root, "hash-object", "-t", "tree", "/dev/null").decode().strip()
    )
    git(root, "update-ref", "refs/remotes/origin/main", first)
    assert new_since(repository, "HEAD") == first
    assert new_since(repository, first) == ""


def test_worktrees_and_sha256(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "a = 1\n"}, "--object-format=sha256")
    git(root, "worktree", "add", "-q", str(tmp_path / "w"))
    write(tmp_path / "w", {"a.py": "a = 2\n"})
    git(tmp_path / "w", "add", "a.py")
    assert texts(read_staged(tmp_path / "w")) == {"a.py": ("a = 1\n", "a = 2\n")}
    assert texts(read_staged(root)) == {}
    repository = Repository.discover(root)
    assert texts(read_change(repository, of_commit(repository, "HEAD"))) == {"a.py": (None, "a = 1\n")}


def test_a_missing_blob_is_told_and_nothing_is_fetched(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "a = 1\n"})
    write(root, {"a.py": "a = 2\n", "b.py": "b\n"})
    git(root, "add", "-A")
    blob = git(root, "rev-parse", ":a.py").decode().strip()
    (root / ".git/objects" / blob[:2] / blob[2:]).unlink()
    change = read_staged(root)
    assert [(item.path, item.reason) for item in change.unreviewed] == [("a.py", Reason.MISSING)]
    assert list(texts(change)) == ["b.py"]


def test_what_is_huge_is_not_read(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "a = 1\n"})
    with (root / "huge.txt").open("wb") as file:
        file.truncate(9_000_000)
    (root / "line.js").write_text("x=" + "1+" * 2_500_000 + "1\n")
    git(root, "add", "-A")
    change = read_staged(root)
    assert [(item.path, item.reason) for item in change.unreviewed] == [("huge.txt", Reason.TOO_LARGE)]
    assert [(item.path, item.reason) for item in change.quiet] == [("line.js", "minified")]


@pytest.mark.parametrize("value", ["touch {canary}", "!touch {canary}"])
def test_the_configuration_runs_nothing(tmp_path: Path, value: str) -> None:
    root = make_repo(
        tmp_path / "r", {"a.py": "a = 1\n", ".gitattributes": "*.py diff=evil filter=evil -text\n"}
    )
    canary = tmp_path / "canary"
    command = value.format(canary=canary)
    for key in (
        *("core.fsmonitor", "diff.external", "diff.evil.textconv", "diff.evil.command", "filter.evil.clean"),
        *("filter.evil.smudge", "filter.evil.process", "core.hooksPath", "core.pager", "core.sshCommand"),
    ):
        git(root, "config", key, command)
    (root / "a.py").write_text("a = 2\n")
    git(root, "-c", "core.fsmonitor=", "-c", "filter.evil.clean=", "-c", "filter.evil.process=", "add", "-A")
    canary.unlink(missing_ok=True)
    repository = Repository.discover(root)
    assert texts(read_staged(root)) == {"a.py": ("a = 1\n", "a = 2\n")}
    from indexers.blobs import holding
    from indexers.revisions import INDEX, Revision

    assert holding(repository, Revision("HEAD", INDEX, ""), "a") == ["a.py"]
    assert holding(repository, of_commit(repository, "HEAD"), "a") == ["a.py"]
    assert read_change(repository, of_commit(repository, "HEAD")).files
    repository.hooks_dir()
    assert not canary.exists()
