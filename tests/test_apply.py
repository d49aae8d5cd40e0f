"""All or nothing: at every system call of a step the process is killed, or the disk is full; then comes a command."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from repos import git, make_repo, write

import chains.writing.apply
import chains.writing.journal
import chains.writing.placing
from chains.writing.apply import ChangedError, apply, recover, undo
from chains.writing.edits import FileChange, FileState
from chains.writing.jail import state_of
from chains.writing.journal import Entry, Journal
from chains.writing.policy import PolicyError
from indexers.errors import AgentError, BusyError, StorageError
from indexers.locks import locked

OLD, NEW = b"old\n" * 50, b"new\n" * 60
CHANGES = (
    FileChange("a.py", FileState(OLD, 0o640), FileState(NEW, 0o640)),
    FileChange("deep/er/new.py", None, FileState(b"fresh\n")),
    FileChange("gone.txt", FileState(b"gone\n"), None),
    FileChange("sub/run.sh", FileState(b"#!/bin/sh\n", 0o755), FileState(b"#!/bin/sh\ntrue\n", 0o755)),
)
# What changes something or may fail for want of space.
CALLS = ("open", "write", "fsync", "rename", "link", "unlink", "mkdir", "rmdir", "fchmod")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made(tmp_path / "r")


def made(path: Path) -> Path:
    """A work tree; what is tried here asks git nothing."""
    files = {change.path: change.before for change in CHANGES if change.before}
    write(path, {name: state.data for name, state in files.items()})
    for name, state in files.items():
        (path / name).chmod(state.mode)
    return path


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return journal_at(tmp_path / "state")


def journal_at(path: Path) -> Journal:
    path.mkdir(mode=0o700)
    return Journal(path)


def tree(root: Path) -> dict[str, object]:
    """Every file and directory outside of `.git`, with bytes and modes."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.partition("/")[0] != ".git":
            found[name] = (path.stat().st_mode & 0o7777, path.read_bytes()) if path.is_file() else None
    return found


def after(root: Path) -> bool:
    return all(state_of(root, change.path) == change.after for change in CHANGES)


# -- what it does ----------------------------------------------------------------------------------


def test_a_step_and_back(root: Path, journal: Journal) -> None:
    make_repo(root)
    git(root, "add", "-A")
    before, index = tree(root), (root / ".git/index").read_bytes()
    record = apply(root, CHANGES, journal, "do it")
    assert after(root) and record.request == "do it"
    assert not [name for name in tree(root) if name.endswith((".new", ".old"))]
    undo(root, journal)
    assert tree(root) == before
    assert (root / ".git/index").read_bytes() == index and not git(root, "rev-list", "--all")
    with pytest.raises(AgentError, match="nothing to undo"):
        undo(root, journal)


def test_steps_are_undone_one_after_the_other(root: Path, journal: Journal) -> None:
    first = FileState(b"first\n", 0o640)
    apply(root, [FileChange("a.py", FileState(OLD, 0o640), first)], journal)
    apply(root, [FileChange("a.py", first, FileState(b"second\n", 0o640))], journal)
    undo(root, journal)
    assert state_of(root, "a.py") == first
    undo(root, journal)
    assert state_of(root, "a.py") == FileState(OLD, 0o640)


@pytest.mark.parametrize("spoil", ["edit", "mode", "delete", "recreate"])
def test_undo_refuses_where_anything_changed_since(root: Path, journal: Journal, spoil: str) -> None:
    apply(root, CHANGES, journal)
    {
        "edit": lambda: (root / "a.py").write_bytes(NEW + b"mine\n"),
        "mode": lambda: (root / "sub/run.sh").chmod(0o644),
        "delete": lambda: (root / "deep/er/new.py").unlink(),
        "recreate": lambda: (root / "gone.txt").write_bytes(b"back\n"),
    }[spoil]()
    now = tree(root)
    with pytest.raises(ChangedError, match="changed after"):
        undo(root, journal)
    assert tree(root) == now


@pytest.mark.parametrize("spoil", ["edit", "mode", "delete", "appear"])
def test_nothing_is_written_where_a_file_is_not_as_it_was_read(
    root: Path, journal: Journal, spoil: str
) -> None:
    if spoil == "appear":
        (root / "deep/er").mkdir(parents=True)
    {
        "edit": lambda: (root / "a.py").write_bytes(b"mine\n"),
        "mode": lambda: (root / "sub/run.sh").chmod(0o644),
        "delete": lambda: (root / "gone.txt").unlink(),
        "appear": lambda: (root / "deep/er/new.py").write_bytes(b"mine\n"),
    }[spoil]()
    now = tree(root)
    with pytest.raises(ChangedError, match="since it was read"):
        apply(root, CHANGES, journal)
    assert tree(root) == now and journal.records() == []


@pytest.mark.parametrize(
    "path",
    ["../out.txt", ".git/hooks/post-commit", ".GIT/x", "away/x", "a.py/x", "nested/x", "A.PY", "/tmp/x"],
)
def test_refused_paths_leave_everything_as_it_is(
    root: Path, journal: Journal, tmp_path: Path, path: str
) -> None:
    make_repo(root)
    (root / "away").symlink_to(tmp_path)
    make_repo(root / "nested", {"b": "1"})
    now, around = tree(root), sorted(tmp_path.iterdir())
    with pytest.raises(PolicyError):
        apply(root, [*CHANGES, FileChange(path, None, FileState(b"x"))], journal)
    assert tree(root) == now and sorted(tmp_path.iterdir()) == around


def test_a_link_to_a_file_is_not_followed(root: Path, journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(OLD)
    (root / "a.py").unlink()
    (root / "a.py").symlink_to(tmp_path / "victim")
    with pytest.raises(PolicyError, match="symbolic link"):
        apply(root, CHANGES, journal)
    assert (tmp_path / "victim").read_bytes() == OLD


def test_a_hard_link_elsewhere_keeps_its_bytes(root: Path, journal: Journal, tmp_path: Path) -> None:
    os.link(root / "a.py", tmp_path / "twin")
    apply(root, CHANGES, journal)
    assert (tmp_path / "twin").read_bytes() == OLD


def test_who_holds_the_lock_is_waited_for(
    root: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chains.writing.apply, "_WAIT_SECONDS", 0.1)
    with locked(journal.lock), pytest.raises(BusyError, match="record of edits"):
        apply(root, CHANGES, journal)


def test_a_damaged_record_is_told_and_nothing_is_guessed(root: Path, journal: Journal) -> None:
    apply(root, CHANGES, journal)
    place = next(journal.directory.glob("*.applied"))
    (place / "before.0").write_bytes(b"other bytes")
    with pytest.raises(AgentError, match="damaged"):
        undo(root, journal)
    (place / "record.json").write_bytes(b"{")
    with pytest.raises(AgentError, match="damaged"):
        undo(root, journal)
    assert after(root)


def test_old_records_go(root: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains.writing.journal, "KEPT", 2)
    state = FileState(OLD, 0o640)
    for number in range(5):
        new = FileState(b"%d\n" % number, 0o640)
        apply(root, [FileChange("a.py", state, new)], journal)
        state = new
    assert [record.number for record in journal.records()] == [4, 5]


# -- every point of failure ------------------------------------------------------------------------


class Failing:
    """The `os` module, whose call number `at` (of those that write) does something else."""

    def __init__(self, at: int, act: Callable[[str], None], *, then: bool = False) -> None:
        self.count, self._at, self._act, self._then = 0, at, act, then

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not (args[1] & os.O_CREAT):
                return real(*args, **kwargs)
            self.count += 1
            if self.count == self._at or (self._then and self.count > self._at):
                self._act(name)
            # A killed process loses nothing that it wrote; waiting for the disk would only take time here.
            return None if name == "fsync" else real(*args, **kwargs)

        return call


def full(name: str) -> None:
    """A full disk: what takes space fails, the rest goes on."""
    if name in ("open", "write", "link", "mkdir", "fsync"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def killed(name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def patched(patch: pytest.MonkeyPatch, failing: Failing) -> Failing:
    for module in (chains.writing.apply, chains.writing.journal, chains.writing.jail, chains.writing.placing):
        patch.setattr(module, "os", failing)
    return failing


def in_a_child(act: Callable[[], object]) -> int:
    """The status of a child in which `act` ran."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("step", ["apply", "undo"])
def test_killed_at_every_call_it_is_all_or_nothing_after_the_next_command(tmp_path: Path, step: str) -> None:
    outcomes = set()
    for at in range(1, 400):
        root, journal = made(tmp_path / f"r{at}"), journal_at(tmp_path / f"s{at}")
        before = tree(root)
        if step == "undo":
            apply(root, CHANGES, journal)

        def run(root: Path = root, journal: Journal = journal, at: int = at) -> None:
            with pytest.MonkeyPatch.context() as patch:
                patched(patch, Failing(at, killed))
                apply(root, CHANGES, journal) if step == "apply" else undo(root, journal)

        status = in_a_child(run)
        recover(root, journal)
        done = after(root)
        assert done or tree(root) == before, f"call {at}"
        assert not [name for name in tree(root) if name.endswith((".new", ".old"))]
        assert not done or not [
            name
            for name in tree(root)
            if name not in {**before, "deep": 0, "deep/er": 0, "deep/er/new.py": 0}
        ]
        outcomes.add(done)
        # Whatever became of it, the next step works.
        if step == "apply" and done:
            undo(root, journal)
            assert tree(root) == before
        if status == 0:
            break
    assert outcomes == {True, False} and 20 < at < 400


@pytest.mark.parametrize("then", [False, True], ids=["once", "for good"])
def test_a_full_disk_at_any_call_leaves_nothing_behind(tmp_path: Path, then: bool) -> None:
    failures = 0
    for at in range(1, 400):
        root, journal = made(tmp_path / f"r{at}"), journal_at(tmp_path / f"s{at}")
        before = tree(root)
        with pytest.MonkeyPatch.context() as patch:
            failing = patched(patch, Failing(at, full, then=then))
            try:
                apply(root, CHANGES, journal)
            except StorageError:
                failures += 1
        recover(root, journal)
        assert after(root) or tree(root) == before, f"call {at}"
        if not journal.records():
            assert tree(root) == before
        if failing.count < at:
            break
    assert failures > 10


def test_somebody_elses_change_in_the_middle_is_kept_and_the_rest_taken_back(
    root: Path, journal: Journal
) -> None:
    """Killed after the first file; before the next command a person edits the last one."""
    at, before = _call_behind_the_first_file(root), tree(root)
    child = in_a_child(lambda: _killed_apply(root, journal, at))
    assert child == -signal.SIGKILL and state_of(root, "a.py") == CHANGES[0].after
    (root / "sub/run.sh").write_bytes(b"mine\n")
    told = recover(root, journal)
    assert "taken back" in told[0]
    assert tree(root) == {**before, "sub/run.sh": (0o755, b"mine\n")}


def _killed_apply(root: Path, journal: Journal, at: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patched(patch, Failing(at, killed))
        apply(root, CHANGES, journal)


def _call_behind_the_first_file(root: Path) -> int:
    """The number of the call that follows the one which gives a.py its new bytes, found on a copy."""
    names: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        copy, state = made(root.parent / "copy"), journal_at(root.parent / "copystate")
        patched(patch, Failing(0, names.append, then=True))
        apply(copy, CHANGES, state)
    # The record is renamed into place, then the journal's directory (committed), then a.py.
    return [at for at, name in enumerate(names, 1) if name == "rename"][2] + 1


# -- taking back what somebody else has touched ----------------------------------------------------

THREE = (
    FileChange("a.py", FileState(OLD), FileState(NEW)),
    FileChange("sub/b.py", FileState(OLD, 0o755), FileState(NEW, 0o755)),
    FileChange("sub/new.py", None, FileState(NEW)),
    FileChange("z.py", FileState(OLD), FileState(NEW)),
)


def killed_before_put(root: Path, journal: Journal, at: int, changes: tuple[FileChange, ...] = THREE) -> None:
    """Files as before `changes`, which are applied by a child that dies before it puts file number `at`."""
    for change in changes:
        if change.before is not None:
            write(root, {change.path: change.before.data})
            (root / change.path).chmod(change.before.mode)

    def act() -> None:
        entries: list[object] = []

        def put(root: Path, entry: Entry) -> None:
            entries.append(entry)
            if len(entries) > at:
                os.kill(os.getpid(), signal.SIGKILL)
            chains.writing.placing.put(root, entry)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chains.writing.apply, "put", put)
            apply(root, changes, journal)

    assert in_a_child(act) == -signal.SIGKILL


def _as_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("other.py")


def _as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _in_a_repository(path: Path) -> None:
    make_repo(path.parent)


def _behind_a_link(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.symlink_to("moved")


def _without_directory(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize(
    ("spoiled", "spoil", "reason"),
    [
        ("a.py", _as_link, "a.py.*symbolic link"),
        ("a.py", _as_directory, "a.py.*no regular file"),
        ("a.py", Path.unlink, "a.py.*changed by somebody else"),
        ("sub/b.py", _as_link, "sub/b.py.*symbolic link"),
        ("sub/b.py", _in_a_repository, "sub/b.py.*another repository"),
        ("sub/b.py", _behind_a_link, "sub/b.py.*symbolic link"),
        ("sub/b.py", _without_directory, "sub/b.py.*changed by somebody else"),
        ("sub/new.py", _as_link, "sub/new.py.*symbolic link"),
        ("z.py", _as_link, "z.py.*symbolic link"),
    ],
)
def test_what_cannot_be_taken_back_is_named_and_the_rest_is_taken_back(
    root: Path, journal: Journal, spoiled: str, spoil: Callable[[Path], None], reason: str
) -> None:
    killed_before_put(root, journal, 3)
    assert state_of(root, "sub/b.py") == THREE[1].after and state_of(root, "sub/new.py") == THREE[2].after
    (root / "other.py").write_bytes(b"other\n")
    spoil(root / spoiled)
    told = recover(root, journal)
    assert re.search(
        f"taken back as far as it could be.( It had failed: No such.*)? Left alone: {reason}", told[0]
    )
    for change in THREE:
        if (
            change.path != spoiled
            and change.path not in told[0]
            and spoil not in (_in_a_repository, _behind_a_link)
        ):
            assert state_of(root, change.path) == change.before, change.path
    if spoil is _as_link:
        assert os.readlink(root / spoiled) == "other.py" and (root / "other.py").read_bytes() == b"other\n"
    # What lies behind a link is out of reach; everything else of ours is gone, and nothing is left to recover.
    beside = [name for name in tree(root) if re.search(r"\.(new|old|part)$", name)]
    assert all(name.startswith("moved/") or spoil is _in_a_repository for name in beside)
    assert not journal.has_pending() and recover(root, journal) == []
    _old_bytes_are_where_it_says(told[0], spoiled)


def _old_bytes_are_where_it_says(told: str, spoiled: str) -> None:
    place = re.search(r"before the edit is in (\S+?)[),;]", told)
    assert (place is None) == (spoiled == "sub/new.py")
    if place:
        assert Path(place[1]).read_bytes() == OLD


def test_the_only_copy_of_old_bytes_stays_and_is_named(root: Path, journal: Journal) -> None:
    killed_before_put(root, journal, 3)
    next(journal.directory.glob("*.committed/before.0")).write_bytes(b"rotten")
    next(journal.directory.glob("*.committed/before.1")).write_bytes(b"rotten")
    _as_link(root / "a.py")
    told = recover(root, journal)
    (kept,) = [name for name in tree(root) if name.endswith(".old")]
    assert f"before the edit is in {kept})" in told[0] and (root / kept).read_bytes() == OLD
    # The link beside the other one was put back, and needs no second copy.
    assert state_of(root, "sub/b.py") == THREE[1].before and not journal.has_pending()


def test_bytes_that_are_nowhere_are_told(root: Path, journal: Journal) -> None:
    killed_before_put(root, journal, 3)
    next(journal.directory.glob("*.committed/before.0")).write_bytes(b"rotten")
    next(root.glob(".a.py.*.old")).unlink()
    (root / "z.py").write_bytes(b"mine\n")
    told = recover(root, journal)
    assert "a.py (The recorded bytes of a.py are damaged)" in told[0] and "z.py (z.py was changed" in told[0]
    assert state_of(root, "a.py") == THREE[0].after and state_of(root, "sub/b.py") == THREE[1].before


def test_old_bytes_come_from_the_record_where_nothing_lies_beside(root: Path, journal: Journal) -> None:
    """Also into a directory that has gone with the file, and whatever an earlier try had left half-written."""
    gone = FileChange("once/there.txt", FileState(OLD, 0o600), None)
    killed_before_put(root, journal, 4, (THREE[0], THREE[1], THREE[2], gone, THREE[3]))
    (part,) = [f"{name.name}.part" for name in root.glob(".a.py.*.old")]
    (root / part).write_bytes(OLD[:7])
    for name in (*root.glob(".a.py.*.old"), *root.glob("sub/.b.py.*.old")):
        name.unlink()
    shutil.rmtree(root / "once")
    (root / "z.py").write_bytes(b"mine\n")
    told = recover(root, journal)
    assert "Left alone: z.py" in told[0] and "a.py" not in told[0]
    for change in (*THREE[:3], gone):
        assert state_of(root, change.path) == change.before, change.path
    assert not [name for name in tree(root) if re.search(r"\.(new|old|part)$", name)]


def test_a_disk_that_fails_is_waited_for_and_the_rest_taken_back(root: Path, journal: Journal) -> None:
    killed_before_put(root, journal, 3)
    (root / "z.py").write_bytes(b"mine\n")

    def failing(name: str, *args: Any, **kwargs: Any) -> None:
        if str(name).startswith(".a.py"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.rename(name, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patched(patch, Failing(0, killed))
        patch.setattr(Failing, "rename", staticmethod(failing), raising=False)
        told = recover(root, journal)
        assert "could not be completed" in told[0] and "disk fails" in told[0] and journal.has_pending()
        assert state_of(root, "sub/b.py") == THREE[1].before and state_of(root, "a.py") == THREE[0].after
        # Nothing new begins on top of what is half done.
        with pytest.raises(StorageError, match="disk fails"):
            apply(root, [FileChange("more.py", None, FileState(b"x"))], journal)
        with pytest.raises(StorageError, match="disk fails"):
            undo(root, journal)
    told = recover(root, journal)
    assert "Left alone: z.py" in told[0] and state_of(root, "a.py") == THREE[0].before
    assert not journal.has_pending() and not (root / "more.py").exists()


def test_a_directory_that_is_not_ours_to_write_ends_the_record(root: Path, journal: Journal) -> None:
    killed_before_put(root, journal, 3)
    (root / "z.py").write_bytes(b"mine\n")

    def denied(name: str, *args: Any, **kwargs: Any) -> None:
        if str(name).startswith(".a.py"):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        os.rename(name, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patched(patch, Failing(0, killed))
        patch.setattr(Failing, "rename", staticmethod(denied), raising=False)
        told = recover(root, journal)
    assert "a.py (a.py cannot be written: Permission denied; what it held" in told[0]
    assert not journal.has_pending() and state_of(root, "sub/b.py") == THREE[1].before


def test_what_stops_an_edit_is_said_where_something_else_is_left(root: Path, journal: Journal) -> None:
    for change in THREE:
        if change.before:
            write(root, {change.path: change.before.data})
            (root / change.path).chmod(change.before.mode)

    def put(root: Path, entry: Entry) -> None:
        if entry.path == "z.py":
            _as_link(root / "a.py")
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        chains.writing.placing.put(root, entry)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chains.writing.apply, "put", put)
        with pytest.raises(ChangedError, match=r"It had failed: Input.*Left alone: a.py \('a.py' is a symb"):
            apply(root, THREE, journal)
    assert state_of(root, "sub/b.py") == THREE[1].before and not (root / "sub/new.py").exists()


# -- names -----------------------------------------------------------------------------------------


def created(*paths: str) -> list[FileChange]:
    return [FileChange(path, None, FileState(b"x\n")) for path in paths]


@pytest.mark.parametrize(
    "paths",
    [
        ("n", "n/b"),
        ("n.py", "N.py"),
        ("one/Src/a.py", "one/src/b.py"),
        ("Sub/a.py",),
        ("more/x.py", "SUB/deep/a.py"),
        ("Sub",),
        ("x/HEAD", "x/config", "x/objects/a", "x/refs/b"),
    ],
)
def test_files_that_cannot_be_there_together_leave_nothing(
    root: Path, journal: Journal, paths: tuple[str, ...]
) -> None:
    before = tree(root)
    with pytest.raises(PolicyError):
        apply(root, created(*paths), journal)
    assert tree(root) == before and journal.records() == []


def test_git_directories_are_told_by_the_caller(root: Path, journal: Journal) -> None:
    (root / "meta").mkdir()
    before = tree(root)
    with pytest.raises(PolicyError, match="git's own directory"):
        apply(root, created("meta/config"), journal, gits=[root / "meta"])
    assert tree(root) == before and journal.records() == []


def test_where_both_spellings_are_there_nothing_is_refused(root: Path, journal: Journal) -> None:
    write(root, {"Sub/x.py": "1\n", "sub/X.py": "1\n", "sub/x.py": "1\n"})
    one, two = FileState(b"1\n"), FileState(b"2\n")
    apply(root, [FileChange(path, one, two) for path in ("Sub/x.py", "sub/X.py", "sub/x.py")], journal)
    apply(root, created("Sub/a.py"), journal)
    apply(root, created("sub/b.py"), journal)
    assert state_of(root, "sub/X.py") == two and (root / "Sub/a.py").exists() and (root / "sub/b.py").exists()


def test_a_rename_of_case_alone_and_back(root: Path, journal: Journal) -> None:
    state = FileState(OLD, 0o640)
    apply(root, [FileChange("A.py", None, state), FileChange("a.py", state, None)], journal)
    assert state_of(root, "A.py") == state and state_of(root, "a.py") is None
    undo(root, journal)
    assert state_of(root, "a.py") == state and state_of(root, "A.py") is None


def test_a_rename_of_case_alone_beside_a_third_spelling(root: Path, journal: Journal) -> None:
    write(root, {"N.PY": "1\n", "n.py": "2\n"})
    change = FileChange("n.py", FileState(b"2\n"), None)
    with pytest.raises(PolicyError, match="'N.PY' is the same name"):
        apply(root, [change, *created("N.py")], journal)


def test_a_rename_of_case_alone_where_the_file_system_sees_none(
    root: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, before = FileState(OLD, 0o640), tree(root)
    monkeypatch.setattr(chains.writing.apply, "state_of", lambda root, path: state_of(root, path.lower()))
    with pytest.raises(PolicyError, match="'a.py' is the same name"):
        apply(root, [FileChange("A.py", None, state), FileChange("a.py", state, None)], journal)
    assert tree(root) == before


@pytest.mark.parametrize(
    "name", ["\u6f22" * 80 + ".py", "\u00e9" * 120 + ".py", "x" * 255, "\U0001f600" * 63]
)
def test_names_as_long_as_there_are(root: Path, journal: Journal, name: str) -> None:
    write(root, {name: OLD})
    change = FileChange(name, FileState(OLD), FileState(NEW))
    apply(root, [change, *created(f"sub/{name}")], journal)
    assert state_of(root, name) == change.after and state_of(root, f"sub/{name}") is not None
    undo(root, journal)
    assert state_of(root, name) == change.before and state_of(root, f"sub/{name}") is None


# -- interrupted -----------------------------------------------------------------------------------


def test_ctrl_c_while_it_writes_is_heard_when_it_is_done(root: Path, journal: Journal) -> None:
    def press(name: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    # A test run in the background is started with Ctrl-C ignored.
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as patch:
        patched(patch, Failing(12, press))
        with pytest.raises(KeyboardInterrupt):
            apply(root, CHANGES, journal)
    signal.signal(signal.SIGINT, usual)
    assert after(root) and not journal.has_pending()
