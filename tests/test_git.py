"""The door to git: every shape of repository, precise refusals, and no configured program ever runs."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest

from indexers import git as door
from indexers.errors import RepositoryError
from indexers.git import Repository, git_version
from indexers.types import TrackedFile
from tests.repos import commit, git, make_repo, write

GITLINK = 0o160000
ODD_NAMES = (
    b"latin-\xe9.py",
    b"line\nbreak.py",
    b'tab\tquote".py',
    b"esc\x1b[31m.py",
    b"-rf",
    b" leading space",
    b"*.glob",
    b"CON.py ",
    b"x" * 255,
    "nfc-\u00e9".encode(),
    "nfd-e\u0301".encode(),
)


def paths(repository: Repository, *, untracked: bool = True) -> list[str]:
    return [file.path for file in repository.list_files(untracked=untracked)]


def refused(path: Path) -> RepositoryError:
    with pytest.raises(RepositoryError) as caught:
        Repository.discover(path)
    return caught.value


# --- what is found ----------------------------------------------------------------------------------


def test_a_work_tree_is_found_from_below_and_through_a_link(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "with space é\n", {"src/pkg/a.py": "a\n"})
    (tmp_path / "link").symlink_to(root / "src")
    for start in (root, root / "src" / "pkg", tmp_path / "link"):
        found = Repository.discover(start)
        assert found.root == root.resolve()
        assert found.git_dir == found.common_dir == root.resolve() / ".git"


def test_git_is_asked_for_tracked_files_only_when_its_index_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_repo(tmp_path / "repo", {"a.py": "a\n"})
    repository = Repository.discover(root)
    asked: list[tuple[str | bytes, ...]] = []
    run = Repository.run
    monkeypatch.setattr(Repository, "run", lambda self, *args: asked.append(args) or run(self, *args))
    paths(repository), paths(repository)
    assert sum("-s" in args for args in asked) == 2  # just written: it may be written again within the tick
    monkeypatch.setattr(door, "_SETTLED_NS", 0)
    asked.clear()
    assert paths(repository) == paths(repository) == ["a.py"] and sum("-s" in args for args in asked) == 1
    write(root, {"b.py": "b\n"})
    assert paths(repository) == ["a.py", "b.py"] and sum("-s" in args for args in asked) == 1
    git(root, "add", "b.py")
    git(root, "rm", "-q", "--cached", "a.py")
    assert [(f.path, f.tracked) for f in repository.list_files()] == [("a.py", False), ("b.py", True)]
    (root / ".git/index").unlink()
    assert not any(file.tracked for file in repository.list_files())


def test_git_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_repo(tmp_path / "repo", {"a.py": "a\n"})
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\nexec 1>&- 2>&-\nexec sleep 600\n")
    slow.chmod(0o755)
    for pidfd in (True, False):
        if not pidfd:
            monkeypatch.delattr(os, "pidfd_open", raising=False)
        began = time.monotonic()
        with pytest.raises(RepositoryError, match="did not finish within 0.2 seconds"):
            door._invoke(str(slow), ["ls-files"], cwd=root, timeout=0.2)
        assert time.monotonic() - began < 10


def test_tracked_staged_and_untracked_files_but_no_ignored_ones(tmp_path: Path) -> None:
    root = make_repo(tmp_path, {"b.py": "", "a/x.sh": "", ".gitignore": "*.log\n", "gone.py": ""})
    (root / "a/x.sh").chmod(0o755)
    (root / "link").symlink_to("b.py")
    commit(root)
    write(root, {"new.py": "", "noise.log": "", "staged.py": ""})
    git(root, "add", "staged.py")
    (root / "gone.py").unlink()
    repository = Repository.discover(root)
    assert repository.list_files() == [
        TrackedFile(".gitignore", 0o100644),
        TrackedFile("a/x.sh", 0o100755),
        TrackedFile("b.py", 0o100644),
        TrackedFile("gone.py", 0o100644),
        TrackedFile("link", 0o120000),
        TrackedFile("new.py", 0, tracked=False),
        TrackedFile("staged.py", 0o100644),
    ]
    assert "new.py" not in paths(repository, untracked=False)


@pytest.mark.parametrize("staged", [True, False])
def test_odd_names_come_through_byte_for_byte(tmp_path: Path, staged: bool) -> None:
    root = make_repo(tmp_path)
    for name in ODD_NAMES:
        (root / os.fsdecode(name)).write_bytes(b"x")
    if staged:
        git(root, "add", "-A")
    assert [os.fsencode(path) for path in paths(Repository.discover(root))] == sorted(ODD_NAMES)


def test_no_commits_yet(tmp_path: Path) -> None:
    root = make_repo(tmp_path)
    repository = Repository.discover(root)
    assert repository.list_files() == []
    assert repository.head() is None
    assert repository.branch() == "main"
    write(root, {"staged.py": "", "other.py": ""})
    git(root, "add", "staged.py")
    assert [(file.path, file.tracked) for file in repository.list_files()] == [
        ("other.py", False),
        ("staged.py", True),
    ]


def test_head_and_branch(tmp_path: Path) -> None:
    root = make_repo(tmp_path, {"a": "1"})
    repository = Repository.discover(root)
    first = git(root, "rev-parse", "HEAD").decode().strip()
    assert (repository.head(), repository.branch()) == (first, "main")
    git(root, "checkout", "-q", "-b", "feature/äö")
    second = commit(root)
    assert (repository.head(), repository.branch()) == (second, "feature/äö")
    git(root, "checkout", "-q", first)
    assert (repository.head(), repository.branch()) == (first, None)


def test_a_file_in_conflict_is_listed_once(tmp_path: Path) -> None:
    root = make_repo(tmp_path, {"a.py": "base\n"})
    git(root, "checkout", "-q", "-b", "other")
    write(root, {"a.py": "theirs\n"})
    commit(root)
    git(root, "checkout", "-q", "main")
    write(root, {"a.py": "ours\n"})
    commit(root)
    git(root, "merge", "other", check=False)
    assert git(root, "ls-files", "-u").count(b"a.py") == 3
    assert paths(Repository.discover(root)) == ["a.py"]


def test_submodules_and_nested_repositories_are_one_entry(tmp_path: Path) -> None:
    library = make_repo(tmp_path / "library", {"lib.py": ""})
    root = make_repo(tmp_path / "main", {"a.py": ""})
    git(root, "submodule", "--quiet", "add", str(library), "sub")
    make_repo(root / "nested", {"inner.py": ""})
    assert Repository.discover(root).list_files() == [
        TrackedFile(".gitmodules", 0o100644),
        TrackedFile("a.py", 0o100644),
        TrackedFile("nested", GITLINK, tracked=False),
        TrackedFile("sub", GITLINK),
    ]
    inside = Repository.discover(root / "sub")
    assert (inside.root, paths(inside)) == ((root / "sub").resolve(), ["lib.py"])


def test_linked_worktrees_are_told_apart(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "main", {"a.py": ""})
    git(root, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    write(tmp_path / "side", {"b.py": ""})
    main, side = Repository.discover(root), Repository.discover(tmp_path / "side")
    assert (side.root, side.branch(), paths(side)) == (
        (tmp_path / "side").resolve(),
        "side",
        ["a.py", "b.py"],
    )
    assert side.common_dir == main.git_dir != side.git_dir
    assert side.identity() != main.identity()


def test_a_git_directory_elsewhere(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "tree", {"a.py": ""})
    git(root, "init", "-q", f"--separate-git-dir={tmp_path / 'elsewhere'}")
    repository = Repository.discover(root)
    assert (repository.root, repository.git_dir) == (root.resolve(), (tmp_path / "elsewhere").resolve())
    assert paths(repository) == ["a.py"]


@pytest.mark.parametrize(
    "settings",
    [("index.version", "4"), ("core.splitIndex", "true"), ("core.untrackedCache", "true")],
    ids=lambda pair: pair[0],
)
def test_index_formats(tmp_path: Path, settings: tuple[str, str]) -> None:
    root = make_repo(tmp_path)
    git(root, "config", *settings)
    write(root, {"dir/one.py": "", "dir/two.py": ""})
    commit(root)
    assert paths(Repository.discover(root)) == ["dir/one.py", "dir/two.py"]


def test_sha256_repositories(tmp_path: Path) -> None:
    root = make_repo(tmp_path, {"a.py": ""}, "--object-format=sha256")
    repository = Repository.discover(root)
    assert paths(repository) == ["a.py"]
    assert len(repository.head() or "") == 64


def test_sparse_and_intent_to_add_files_are_listed(tmp_path: Path) -> None:
    root = make_repo(tmp_path, {"in/a.py": "", "out/b.py": "", "out/c.py": ""})
    git(root, "sparse-checkout", "set", "--cone", "--sparse-index", "in")
    write(root, {"in/soon.py": ""})
    git(root, "add", "-N", "in/soon.py")
    assert not (root / "out").exists()
    assert paths(Repository.discover(root)) == ["in/a.py", "in/soon.py", "out/b.py", "out/c.py"]


def test_identity_stays_and_names_a_directory(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "a", {"x": ""})
    identity = Repository.discover(root).identity()
    assert len(identity) == 20 and set(identity) <= set("0123456789abcdef")
    commit(root)
    (root / "sub").mkdir()
    assert Repository.discover(root / "sub").identity() == identity
    assert Repository.discover(make_repo(tmp_path / "b")).identity() != identity


def test_a_crafted_git_file_does_not_get_the_index_of_another_repository(tmp_path: Path) -> None:
    victim = make_repo(tmp_path / "victim", {"private.py": ""})
    (tmp_path / "bait").mkdir()
    write(tmp_path / "bait", {".git": f"gitdir: {victim}/.git\n"})
    assert Repository.discover(tmp_path / "bait").identity() != Repository.discover(victim).identity()


# --- what is refused, and what it says --------------------------------------------------------------


def test_not_a_repository(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert f"{tmp_path} is not in a git repository" in error.message
    assert "git init" in error.remedy and "--repo" in error.remedy


def test_a_broken_git_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert f"although there is a {tmp_path / '.git'}" in refused(tmp_path).message
    (tmp_path / "tree").mkdir()
    write(tmp_path, {"tree/.git": "gitdir: /nowhere/at/all\n"})
    assert "/nowhere/at/all" in refused(tmp_path / "tree").message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("part", ["", "HEAD", "config", "objects"])
def test_a_git_directory_that_cannot_be_read_is_no_missing_repository(part: str, tmp_path: Path) -> None:
    root = make_repo(tmp_path, {"a": ""})
    denied = root / ".git" / part
    mode = denied.stat().st_mode
    denied.chmod(0)
    try:
        error = refused(root)
    finally:
        denied.chmod(mode)
    assert error.message == f"{denied} cannot be read: permission denied."
    assert error.remedy == f"Mend its permissions: chmod -R u+rX {root / '.git'}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_on_the_path_that_is_not_ours_to_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir(mode=0)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert Repository.discover(make_repo(tmp_path / "repo", {"a": ""})).head()


def test_a_path_that_does_not_exist_or_is_a_file(tmp_path: Path) -> None:
    assert f"{tmp_path / 'missing'} does not exist" in refused(tmp_path / "missing").message
    write(tmp_path, {"a.py": ""})
    error = refused(tmp_path / "a.py")
    assert "is a file" in error.message and str(tmp_path) in error.remedy
    assert "does not exist" in refused(Path("no/such/place")).message


def test_a_deleted_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "current directory no longer exists" in refused(Path()).message


def test_inside_a_git_directory(tmp_path: Path) -> None:
    root = make_repo(tmp_path, {"a": ""})
    for place in (root / ".git", root / ".git" / "objects"):
        error = refused(place)
        assert "a git directory, not a work tree" in error.message
        assert error.remedy == f"Use --repo {root}"


def test_a_bare_repository(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "store.git")
    error = refused(tmp_path / "store.git")
    assert "is a bare repository" in error.message
    assert "git clone" in error.remedy


def test_a_bare_repository_among_the_files_is_refused_and_its_configuration_not_run(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "main", {"a.py": ""})
    git(root, "init", "-q", "--bare", "trap")
    canary = arm(root / "trap" / "config", tmp_path)
    git(root / "trap", "config", "core.bare", "false")
    git(root / "trap", "config", "core.worktree", "..")
    for place in (root / "trap", root / "trap" / "objects"):
        error = refused(place)
        assert "inside the files of another repository" in error.message
        assert str(root) in error.remedy
    assert not canary.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_repository_of_somebody_else(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "theirs", {"a": ""})
    for place in (root, root / ".git"):
        os.chown(place, 12345, 12345)
    before = git_config()
    error = refused(root)
    assert "dubious ownership" in error.message or "unsafe repository" in error.message
    assert "safe.directory" in error.remedy and str(root) in error.remedy
    assert git_config() == before


def git_config() -> bytes:
    done = subprocess.run(["git", "config", "--global", "--list"], capture_output=True, check=False)
    return done.stdout


def test_a_configuration_that_claims_another_directory(tmp_path: Path) -> None:
    home = make_repo(tmp_path / "home", {"private.txt": "x"})
    trap = make_repo(home / "unpacked", {"a.py": ""})
    git(trap, "config", "core.worktree", str(home))
    assert "names another directory as its work tree" in refused(trap).message
    (tmp_path / "open").mkdir()
    git(trap, "config", "core.worktree", str(tmp_path / "open"))
    assert "names another directory as its work tree" in refused(trap).message


# --- finding git ------------------------------------------------------------------------------------


def plant(directory: Path, canary: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    write(directory, {"git": f"#!/bin/sh\ntouch '{canary}'\necho git version 9.9.9\n"})
    (directory / "git").chmod(0o755)


def test_a_git_in_the_repository_or_on_a_relative_path_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, canary = make_repo(tmp_path / "repo", {"a": ""}), tmp_path / "canary"
    plant(root, canary)
    plant(root / "bin", canary)
    (tmp_path / "alias").symlink_to(root / "bin")
    monkeypatch.chdir(root)
    monkeypatch.setenv("PATH", f".:bin::{root}/bin:{tmp_path}/alias:{os.environ['PATH']}")
    repository = Repository.discover(root)
    assert paths(repository) == ["a", "bin/git", "git"]
    repository.head()
    assert not canary.exists()


def test_no_git_or_an_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_repo(tmp_path / "repo", {"a": ""})
    monkeypatch.setenv("PATH", f"{root}:relative")
    assert "git was not found on PATH" in refused(root).message
    old = tmp_path / "old"
    old.mkdir()
    write(old, {"git": "#!/bin/sh\necho git version 2.20.1\n"})
    (old / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(old))
    error = refused(root)
    assert "2.20.1" in error.message and "2.25" in error.remedy


def test_git_version_is_that_of_git() -> None:
    said = subprocess.run(["git", "version"], capture_output=True, check=True).stdout.decode()
    assert said.startswith("git version " + ".".join(map(str, git_version())))


# --- the runner -------------------------------------------------------------------------------------


def test_variables_of_another_repository_are_not_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_repo(tmp_path / "other", {"other.py": ""})
    root = make_repo(tmp_path / "repo", {"a.py": ""})
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "broken")
    assert paths(Repository.discover(root)) == ["a.py"]


def test_a_hook_may_name_the_index_to_read(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "repo", {"a.py": ""})
    shutil.copy(root / ".git/index", tmp_path / "kept")
    git(root, "rm", "-q", "--cached", "a.py")
    program = door._usable_git(root)
    kept = door._invoke(program, ["ls-files", "-z"], cwd=root, env={"GIT_INDEX_FILE": str(tmp_path / "kept")})
    assert kept.stdout == b"a.py\0"
    assert door._invoke(program, ["ls-files", "-z"], cwd=root).stdout == b""


def test_run_takes_and_gives_bytes(tmp_path: Path) -> None:
    root = make_repo(tmp_path, {"a.py": b"\xff\x00\n"})
    repository = Repository.discover(root)
    oid = repository.run("rev-parse", "HEAD:a.py").strip()
    assert repository.run("cat-file", "--batch", stdin=oid + b"\n") == oid + b" blob 3\n\xff\x00\n\n"


def test_a_failing_command_speaks_in_git_s_words(tmp_path: Path) -> None:
    repository = Repository.discover(make_repo(tmp_path, {"a": ""}))
    with pytest.raises(RepositoryError, match="no-such-ref"):
        repository.run("cat-file", "-t", "no-such-ref")


def test_a_command_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    write(
        slow, {"git": '#!/bin/sh\ncase "$*" in *version) echo git version 2.40.0;; *) exec sleep 60;; esac\n'}
    )
    (slow / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow}:/usr/bin:/bin")
    root = tmp_path / "repo"
    root.mkdir()
    with pytest.raises(RepositoryError, match="did not finish within"):
        Repository(root, root, root).run("rev-parse", "HEAD", timeout=0.2)


@pytest.mark.parametrize(
    "args",
    [
        ("status",),
        ("diff",),
        ("diff", "--cached"),
        ("ls-files", "-m"),
        ("cat-file", "--filters", "HEAD:a"),
        ("hash-object", "a"),
        ("-c", "core.fsmonitor=x", "ls-files"),
        ("fetch",),
        ("log", "-p"),
    ],
    ids=" ".join,
)
def test_commands_that_run_configured_programs_are_not_ours_to_run(
    tmp_path: Path, args: tuple[str, ...]
) -> None:
    repository = Repository.discover(make_repo(tmp_path, {"a": ""}))
    with pytest.raises(ValueError):
        repository.run(*args)


# --- canaries ---------------------------------------------------------------------------------------


def arm(config: Path, directory: Path) -> Path:
    """Make every program that git's configuration can name touch a file; returns that file."""
    canary, script = directory / "canary", directory / "fire.sh"
    write(directory, {"fire.sh": f'#!/bin/sh\necho "$0 $*" >> "{canary}"\nexec cat\n'})
    script.chmod(0o755)
    hooks = directory / "hooks"
    for hook in (
        "post-index-change",
        "reference-transaction",
        "fsmonitor-watchman",
        "post-checkout",
        "pre-commit",
    ):
        write(hooks, {hook: f"#!/bin/sh\ntouch '{canary}'\n"})
        (hooks / hook).chmod(stat.S_IRWXU)
    with config.open("a") as file:
        file.write(
            f"[core]\n\tfsmonitor = {script}\n\thooksPath = {hooks}\n\tpager = {script}\n"
            f"\tsshCommand = {script}\n\talternateRefsCommand = {script}\n\taskPass = {script}\n"
            f'[filter "evil"]\n\tclean = {script}\n\tsmudge = {script}\n\tprocess = {script}\n'
            "\trequired = true\n"
            f'[diff]\n\texternal = {script}\n[diff "evil"]\n\ttextconv = {script}\n\tcommand = {script}\n'
            f"[pager]\n\tls-files = {script}\n\trev-parse = {script}\n[gpg]\n\tprogram = {script}\n"
            f'[remote "origin"]\n\turl = ext::{script}\n\tuploadpack = {script}\n\tpromisor = true\n'
            f"[credential]\n\thelper = {script}\n[log]\n\tshowSignature = true\n"
        )
    return canary


def trapped(root: Path, how: str) -> Path:
    """A repository armed in one of the ways configuration gets in; returns the canary."""
    make_repo(root, {"a.py": "one\n", ".gitattributes": "*.py filter=evil diff=evil\n"})
    config = root / ".git/config"
    if how == "include":
        config = root.parent / "included"
        git(root, "config", "include.path", str(config))
    elif how == "include-if":
        config = root.parent / "included"
        git(root, "config", "includeIf.onbranch:main.path", str(config))
    elif how == "worktree":
        git(root, "config", "extensions.worktreeConfig", "true")
        config = root / ".git/config.worktree"
    canary = arm(config, root.parent)
    # Same size, other time: git has to look inside, through the filter.
    (root / "a.py").write_bytes(b"two\n")
    os.utime(root / "a.py", ns=(1, 1))
    return canary


WAYS = ("plain", "include", "include-if", "worktree")


@pytest.mark.parametrize("how", WAYS)
def test_nothing_configured_runs(tmp_path: Path, how: str) -> None:
    root = tmp_path / "repo"
    canary = trapped(root, how)
    repository = Repository.discover(root)
    assert paths(repository) == [".gitattributes", "a.py"]
    assert repository.head() and repository.branch() and repository.identity()
    repository.run("cat-file", "--batch-check", stdin=b"HEAD:a.py\n" + b"1" * 40 + b"\n")
    repository.run("diff", "--cached", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all")
    repository.run("diff-index", "--cached", "--raw", "-z", "HEAD")
    repository.run("hash-object", "--no-filters", "a.py")
    repository.run("ls-tree", "-rz", "HEAD")
    repository.run("for-each-ref")
    assert not canary.exists(), canary.read_text()


@pytest.mark.parametrize("how", WAYS)
def test_the_same_traps_spring_under_an_ordinary_git(tmp_path: Path, how: str) -> None:
    canary = trapped(tmp_path / "repo", how)
    git(tmp_path / "repo", "status", check=False)
    assert canary.exists()


def test_an_evil_submodule_does_not_run_either(tmp_path: Path) -> None:
    library = make_repo(tmp_path / "library", {"lib.py": ""})
    root = make_repo(tmp_path / "main", {"a.py": ""})
    git(root, "submodule", "--quiet", "add", str(library), "sub")
    canary = arm(root / ".git/modules/sub/config", tmp_path)
    write(root, {"sub/lib.py": "changed"})
    repository = Repository.discover(root)
    assert paths(repository) == [".gitmodules", "a.py", "sub"]
    repository.run("diff", "--cached", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all")
    assert not canary.exists()
    git(root / "sub", "status", check=False)
    assert canary.exists()
