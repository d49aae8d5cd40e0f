"""Indexing from end to end, real git, SQLite, Chroma and the hash embedder: only what changed is redone."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexers.build import Builder
from indexers.config import IndexConfig
from indexers.embedding import open_embedder
from indexers.errors import BusyError
from indexers.files import stat_file
from indexers.git import Repository
from indexers.index import Index
from indexers.ledger import Ledger
from indexers.reading import vector_key
from indexers.types import Chunk, IndexReport, Progress, SkipReason
from tests.repos import commit, git, make_repo, write

if TYPE_CHECKING:
    from indexers.unit_vectors import FloatArray

ROOT = Path(__file__).parents[1]
# Long enough ago that no stat is racy unless a test wants it so.
LONG_AGO = 1_500_000_000


class CountingEmbedder:
    """The hash embedder, counting the texts it was given."""

    name = "hash"

    def __init__(self, salt: str = "") -> None:
        self._inner = open_embedder("hash", None)
        self.dimensions = self._inner.dimensions
        self.texts: list[str] = []
        self._salt = salt

    def fingerprint(self) -> str:
        return self._inner.fingerprint() + self._salt

    def embed_documents(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> FloatArray:
        self.texts += texts
        return self._inner.embed_documents(texts, progress)

    def embed_query(self, text: str) -> FloatArray:
        return self._inner.embed_query(text)


class Place:
    """A repository and an index of it."""

    def __init__(
        self, root: Path, index: Path, config: IndexConfig | None = None, vectors: Path | None = None
    ) -> None:
        self.root = root
        self.directory = index
        index.mkdir(parents=True, exist_ok=True)
        self.config = config or IndexConfig(embedder="hash")
        self.embedder = CountingEmbedder()
        self.ledger = Ledger(index / "ledger.sqlite", vectors or index / "vectors.sqlite")
        self.events: list[Progress] = []

    def builder(self, **more: object) -> Builder:
        repository = Repository.discover(self.root)
        return Builder(
            repository, self.ledger, self.config, self.directory, on_progress=self.events.append, **more
        )  # type: ignore[arg-type]

    def run(self) -> IndexReport:
        self.embedder.texts.clear()
        return self.builder().run(self.embedder)

    def rows(self) -> list[tuple[str, int, int, str]]:
        """Everything stored, in an order of its own."""
        stored = self.ledger.chunks(self.ledger.chunk_ids()).values()
        return sorted((c.chunk.path, c.chunk.start_line, c.chunk.end_line, c.chunk.text) for c in stored)

    def found(self, *words: str) -> list[str]:
        hits = self.ledger.match(words, (1.0, 2.0, 2.0), 1_000)
        chunks = self.ledger.chunks([number for number, _ in hits])
        return sorted(chunks[number].chunk.label for number, _ in hits)

    def near(self, text: str) -> list[str]:
        """The paths nearest to a text, by the vectors in the ledger and by Chroma; both must agree."""
        index = Index(self.ledger, self.builder().store)
        vector = self.embedder.embed_query(text)
        scanned = index.by_vector(self.embedder.fingerprint(), vector, 3)
        asked = index.store.query(self.embedder.fingerprint(), vector, 3)
        assert asked is not None
        # HNSW leaves points unreachable where most are nearest to the same few, as those of the hash embedder are.
        # Among 15,191 MiniLM vectors of code it found the ten best of each of 300 queries.
        near = [round(s.score, 4) for s in index.by_vector(self.embedder.fingerprint(), vector, 6)]
        assert {round(score, 4) for _, score in asked} <= set(near)
        chunks = self.ledger.chunks([s.chunk_id for s in scanned])
        return [chunks[s.chunk_id].chunk.path for s in scanned]


def age(root: Path) -> None:
    """Set the time of every file back; that the system saw it change just now remains."""
    for path in root.rglob("*"):
        if path.is_file() and ".git" not in path.parts:
            os.utime(path, (LONG_AGO, LONG_AGO))


@pytest.fixture
def racy() -> None:
    """Asked for by tests of what happens within the clock's grain."""


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Files just written are racy for two seconds; tests that are not about that need not wait."""
    if "racy" not in request.fixturenames:
        monkeypatch.setattr("indexers.build._RACY_NS", -1)


def module(name: str, body: str = "return 1") -> str:
    return f'"""Module {name}."""\n\n\ndef {name}_function(value):\n    {body}\n'


FILES = {
    f"src/{name}.py": module(name, f"return value + len('{name}')")
    for name in ("alpha", "beta", "gamma", "delta")
}
FILES["README.md"] = "# Title\n\nSome words about the project.\n"
FILES[".gitignore"] = "ignored/\n*.log\n"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(make_repo(tmp_path / "repo", FILES), tmp_path / "index")


# -- the ordinary course ----------------------------------------------------------------------------


def test_a_full_run(place: Place) -> None:
    report = place.run()
    assert (report.indexed, report.kept, report.removed, report.interrupted) == (6, 0, 0, False)
    assert report.chunks == report.vectors_embedded == len(place.rows()) >= 6
    assert report.vectors_pending == 0 and report.seconds > 0 and report.skipped == ()
    assert place.found("beta_function") == ["src/beta.py:1-5"]
    assert place.near("def gamma_function(value)")[0] == "src/gamma.py"
    assert {event.stage for event in place.events} == {"read", "embed", "store"}
    for event in place.events:
        assert 0 <= event.done <= event.total
    assert int(place.ledger.meta("indexed_at")) > LONG_AGO
    assert place.ledger.meta("head") == git(place.root, "rev-parse", "HEAD").decode().strip()


def test_an_unchanged_tree_costs_nothing(place: Place) -> None:
    place.run()
    before = place.ledger.generation(), place.ledger.chunk_ids()
    report = place.run()
    assert (report.indexed, report.kept, report.removed, report.vectors_embedded) == (0, 6, 0, 0)
    assert place.embedder.texts == [] and (place.ledger.generation(), place.ledger.chunk_ids()) == before


@pytest.mark.usefixtures("racy")
def test_files_just_written_are_read_again_but_nothing_else_happens(place: Place) -> None:
    place.run()
    generation = place.ledger.generation()
    report = place.run()
    assert (report.indexed, report.kept, report.removed) == (0, 6, 0)
    assert place.embedder.texts == [] and place.ledger.generation() == generation


def test_one_changed_file_touches_only_its_chunks(place: Place) -> None:
    place.run()
    ids = {path: numbers for path, numbers in place.ledger.paths().items() if path != "src/beta.py"}
    write(place.root, {"src/beta.py": module("beta", "return 'quite another thing'")})
    report = place.run()
    assert (report.indexed, report.kept, report.removed) == (1, 5, 0)
    assert {path: numbers for path, numbers in place.ledger.paths().items() if path != "src/beta.py"} == ids
    assert len(place.embedder.texts) == 1 and "another thing" in place.embedder.texts[0]
    assert (
        place.found("another") == ["src/beta.py:1-5"]
        and place.near("quite another thing")[0] == "src/beta.py"
    )


def test_a_rename_embeds_nothing(place: Place) -> None:
    place.run()
    git(place.root, "mv", "src/beta.py", "src/zeta.py")
    report = place.run()
    assert (report.indexed, report.removed, place.embedder.texts) == (1, 1, [])
    assert place.found("beta_function") == ["src/zeta.py:1-5"]


def test_a_branch_and_back_embeds_nothing(place: Place) -> None:
    place.run()
    first = place.rows()
    git(place.root, "checkout", "-q", "-b", "other")
    write(
        place.root,
        {"src/beta.py": module("beta", "return 'on the other branch'"), "src/new.py": module("new")},
    )
    commit(place.root)
    place.run()
    second = place.rows()
    assert len(place.embedder.texts) == 2 and place.near("on the other branch")[0] == "src/beta.py"
    for branch, rows in (("main", first), ("other", second), ("main", first)):
        git(place.root, "checkout", "-q", branch)
        place.run()
        assert place.embedder.texts == [] and place.rows() == rows


def test_equal_text_shares_one_vector(place: Place) -> None:
    write(place.root, {"copy/beta.py": FILES["src/beta.py"]})
    report = place.run()
    assert len(place.embedder.texts) == len(set(place.embedder.texts)) == report.chunks - 1
    assert len(place.found("beta_function")) == 2
    (place.root / "copy/beta.py").unlink()
    place.run()
    assert place.near("def beta_function(value)")[0] == "src/beta.py"


def test_untracked_and_ignored(place: Place) -> None:
    write(
        place.root, {"new.py": module("untracked"), "ignored/x.py": module("ignored"), "a.log": "ignored too"}
    )
    place.run()
    assert place.found("untracked_function") == ["new.py:1-5"]
    assert place.found("ignored_function") == [] and "a.log" not in place.ledger.manifest()
    write(place.root, {".gitignore": ""})
    place.run()
    assert place.found("ignored_function") == ["ignored/x.py:1-5"]
    write(place.root, {".gitignore": "ignored/\nnew.py\n"})
    place.run()
    assert place.found("ignored_function", "untracked_function") == []


def test_what_git_never_lists_is_counted(place: Place) -> None:
    (place.root / "ignored").mkdir()
    nested = make_repo(place.root / "nested", {"in.py": "x = 1\n"})
    for folder in (place.root, place.root / "src", place.root / "ignored", nested):
        os.mkfifo(folder / "pipe.py")
    os.mkfifo(place.root / "pipe.log")
    git(place.root, "add", "src")
    (place.root / "src" / "alpha.py").unlink()
    os.mkfifo(place.root / "src" / "alpha.py")
    wanted = {"pipe.py", "src/pipe.py", "src/alpha.py"}

    def told() -> set[str]:
        report = place.run()
        assert report.skipped_by_reason().get("not a regular file", 0) == place.ledger.counts("").skipped - 1
        return {item.path for item in report.skipped if item.reason is SkipReason.NOT_A_FILE}

    assert told() == wanted == told()
    (place.root / "pipe.py").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(place.root / "talk.py"))
    assert told() == wanted - {"pipe.py"} | {"talk.py"}
    (place.root / "talk.py").unlink()
    (place.root / "talk.py").write_text("x = 1\n")
    assert told() == wanted - {"pipe.py"}


def test_only_tracked_files_when_told_so(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "repo", FILES)
    write(root, {"new.py": module("untracked")})
    place = Place(root, tmp_path / "index", IndexConfig(embedder="hash", include_untracked=False))
    place.run()
    assert place.found("untracked_function") == []


def test_every_kind_of_entry(place: Place, tmp_path: Path) -> None:
    write(
        place.root,
        {"binary.bin": b"\x00\x01", "empty.py": "", "blank.py": " \n\n", "big.txt": "word " * 300_000},
    )
    write(
        place.root,
        {".env": "KEY=1", "vendor/x.py": "x = 1", "latin.py": "# caf\xe9\n".encode("latin-1") + b"y = 1\n"},
    )
    (place.root / "link.py").symlink_to("src/beta.py")
    (place.root / os.fsdecode(b"odd\xff.py")).write_text(module("odd"))
    nested = make_repo(place.root / "nested", {"inner.py": module("inner")})
    report = place.run()
    reasons = report.skipped_by_reason()
    assert (
        reasons["binary"]
        == reasons["symbolic link"]
        == reasons["nested repository"]
        == reasons["too large"]
        == 1
    )
    assert reasons["empty"] == 2 and reasons["vendored"] == 1 and reasons["looks like a secret"] == 1
    assert place.found("odd_function") == [os.fsdecode(b"odd\xff.py") + ":1-5"]
    assert place.found("inner_function") == [] and place.found("café") == ["latin.py:1-2"]
    generation = place.ledger.generation()
    again = place.run()
    assert again.skipped == report.skipped and place.ledger.generation() == generation and nested.is_dir()


@pytest.mark.usefixtures("racy")
def test_skipped_files_read_again_change_nothing(place: Place) -> None:
    write(place.root, {"binary.bin": b"\x00\x01", "empty.py": "", "blank.py": " \n\n"})
    place.run()
    generation = place.ledger.generation()
    place.run()
    assert place.ledger.generation() == generation


def test_a_file_changes_its_kind(place: Place) -> None:
    place.run()
    beta = place.root / "src/beta.py"
    beta.write_bytes(b"\x00binary")
    assert place.run().skipped_by_reason() == {"binary": 1} and place.found("beta_function") == []
    beta.unlink()
    beta.symlink_to("alpha.py")
    assert place.run().skipped_by_reason() == {"symbolic link": 1}
    beta.unlink()
    assert place.run().skipped_by_reason() == {"missing from the work tree": 1}
    beta.mkdir()
    write(place.root, {"src/beta.py/inner.py": module("inner")})
    place.run()
    assert place.found("inner_function") == ["src/beta.py/inner.py:1-5"]
    shutil.rmtree(beta)
    write(place.root, {"src/beta.py": FILES["src/beta.py"]})
    report = place.run()
    assert report.skipped == () and place.found("beta_function") == ["src/beta.py:1-5"]
    assert place.embedder.texts == []


def test_repositories_without_commits_or_files(tmp_path: Path) -> None:
    place = Place(make_repo(tmp_path / "repo"), tmp_path / "index")
    report = place.run()
    assert (report.indexed, report.chunks, place.embedder.texts) == (0, 0, [])
    assert place.found("x") == []
    write(place.root, {"a.py": module("a")})
    assert place.run().indexed == 1
    (place.root / "a.py").unlink()
    assert place.run().removed == 1 and place.rows() == []


def test_without_an_embedder_keywords_work(place: Place) -> None:
    report = place.builder().run(None)
    assert report.indexed == 6 and report.vectors_embedded == 0
    assert place.found("beta_function") == ["src/beta.py:1-5"]
    report = place.run()
    assert report.kept == 6 and report.vectors_embedded == report.chunks


# -- secrets and deletion ---------------------------------------------------------------------------


def everything_on_disk(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def test_deleted_text_leaves_the_disk(place: Place) -> None:
    write(
        place.root,
        {
            "gone.py": "planted_marker_seven = 'planted marker eight'\n",
            "part.py": module("part", "plantedninth()"),
        },
    )
    place.run()
    place.ledger.close()
    assert b"planted" in everything_on_disk(place.directory)
    (place.root / "gone.py").unlink()
    write(place.root, {"part.py": module("part")})
    again = Place(place.root, place.directory)
    again.run()
    again.ledger.close()
    left = everything_on_disk(place.directory)
    assert b"planted" not in left and b"marker" not in left and b"alpha_function" in left


def test_secrets_never_reach_the_disk(place: Place) -> None:
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    write(place.root, {"deploy.py": f"TOKEN = '{token}'\n\ndef deploy():\n    return TOKEN\n"})
    report = place.run()
    place.ledger.close()
    assert report.redactions == 1
    data = everything_on_disk(place.directory)
    assert token.encode() not in data and token.lower().encode() not in data
    assert not any(token in text for text in place.embedder.texts)


# Indexes in a process of its own, which is killed at the first event of a stage.
CHILD = (
    sys.executable,
    "-c",
    """
import os, sys
from pathlib import Path
from indexers.build import Builder
from indexers.config import IndexConfig
from indexers.embedding import open_embedder
from indexers.git import Repository
from indexers.ledger import Ledger

root, index, stage = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
ledger = Ledger(index / "ledger.sqlite", index / "vectors.sqlite")
stop = lambda event: os._exit(9) if event.stage == stage else None
builder = Builder(Repository.discover(root), ledger, IndexConfig(embedder="hash"), index, on_progress=stop)
builder.run(open_embedder("hash", None))
""",
)

# -- interruption -----------------------------------------------------------------------------------


def many(count: int) -> dict[str, str]:
    return {f"src/m{i:03}.py": module(f"m{i:03}", f"return {i}") for i in range(count)}


@pytest.mark.parametrize("stage", ["read", "embed", "store"])
@pytest.mark.parametrize("nth", [1, 2])
def test_an_interrupted_run_keeps_what_is_done(tmp_path: Path, stage: str, nth: int) -> None:
    place = Place(make_repo(tmp_path / "repo", many(300)), tmp_path / "index")
    seen = 0

    def stop(event: Progress) -> None:
        nonlocal seen
        seen += event.stage == stage
        if seen == nth:
            raise KeyboardInterrupt

    repository = Repository.discover(place.root)
    report = Builder(repository, place.ledger, place.config, place.directory, on_progress=stop).run(
        place.embedder
    )
    if stage == "store" and nth == 2:
        assert not report.interrupted
        return
    assert report.interrupted
    kept = len(place.rows())
    assert kept == 64 * nth if stage == "read" else kept == 300
    if stage == "embed":
        assert report.vectors_pending == 300 - report.vectors_embedded > 0
    embedded = report.vectors_embedded
    report = place.run()
    assert not report.interrupted and report.indexed == 300 - kept
    assert len(place.rows()) == 300 and len(place.embedder.texts) == 300 - embedded
    assert place.near("return 277") and place.found("m277_function") == ["src/m277.py:1-5"]


def test_a_kill_in_the_middle_leaves_a_usable_index(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "repo", many(300))
    for stage in ("read", "embed", "store"):
        index = tmp_path / f"index-{stage}"
        index.mkdir()
        done = subprocess.run([*CHILD, str(root), str(index), stage], cwd=ROOT, check=False)
        assert done.returncode == 9
        place = Place(root, index)
        report = place.run()
        assert report.chunks == len(place.rows()) == 300 and report.vectors_pending == 0
        assert place.near("return 277")
        place.ledger.close()


# -- races ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("racy")
def test_an_edit_that_keeps_size_and_time_is_noticed(place: Place) -> None:
    beta = place.root / "src/beta.py"
    for old in (True, False):
        stamp = (LONG_AGO, LONG_AGO) if old else (time.time(), time.time())
        os.utime(beta, stamp)
        place.run()
        for word in ("one", "two", "six"):
            beta.write_text(module("beta", f"return '{word}'"))
            os.utime(beta, stamp)
            place.run()
            assert place.found(word) == ["src/beta.py:1-5"], (old, word)


@pytest.mark.usefixtures("racy")
def test_a_file_from_the_future_is_not_read_for_ever(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    future = time.time() + 1e6
    os.utime(place.root / "src/beta.py", (future, future))
    place.run()
    now = time.time_ns
    # Three seconds on, when its change is no longer recent.
    monkeypatch.setattr("indexers.build.time.time_ns", lambda: now() + 3_000_000_000)
    place.run()
    assert place.builder().plan(place.ledger.manifest()).changed == ()


@pytest.mark.usefixtures("racy")
@pytest.mark.parametrize(
    ("seconds", "changed"), [(-5, True), (0, True), (1, True), (1.9, True), (2.1, False), (60, False)]
)
def test_a_stat_is_trusted_once_its_tick_is_over(place: Place, seconds: float, changed: bool) -> None:
    """Even of a file whose own time was set back: what counts is when the system saw it change."""
    age(place.root)
    place.builder().refresh()
    stat = stat_file(place.root, "src/beta.py")
    assert stat is not None and stat.mtime_ns == LONG_AGO * 10**9
    manifest = place.ledger.manifest()
    looked = stat.ctime_ns + int(seconds * 1e9)
    manifest["src/beta.py"] = replace(manifest["src/beta.py"], checked_ns=looked)
    assert ("src/beta.py" in [f.path for f in place.builder().plan(manifest).changed]) is changed


@pytest.mark.usefixtures("racy")
def test_a_glance_trusts_the_stat(place: Place) -> None:
    place.run()
    builder = place.builder()
    assert len(builder.plan(place.ledger.manifest()).changed) == 6
    assert builder.plan(place.ledger.manifest(), trust_stat=True).changed == ()


def test_a_file_that_changes_while_it_is_read_is_read_again(place: Place) -> None:
    beta = place.root / "src/beta.py"
    repository = Repository.discover(place.root)

    def edit(event: Progress) -> None:
        if event.stage == "read":
            beta.write_text(module("beta", "return 'written behind our back'"))

    Builder(repository, place.ledger, place.config, place.directory, on_progress=edit).refresh()
    assert place.found("behind") == []
    place.builder().refresh()
    assert place.found("behind") == ["src/beta.py:1-5"]


# -- settings ---------------------------------------------------------------------------------------


def test_other_settings_chunk_again_but_embed_only_what_is_new(place: Place) -> None:
    place.run()
    rows, generation = place.rows(), place.ledger.generation()
    place.config = replace(place.config, exclude=("nothing-is-called-so",))
    report = place.run()
    assert report.indexed == 6 and place.rows() == rows and place.embedder.texts == []
    assert place.ledger.generation() > generation
    place.config = replace(place.config, exclude=("beta.py",))
    assert place.run().skipped_by_reason() == {"excluded by settings": 1}
    assert place.found("beta_function") == [] and place.embedder.texts == []


def test_the_embedder_is_no_part_of_the_chunks(place: Place) -> None:
    assert place.config.fingerprint() == replace(place.config, embedder="minilm").fingerprint()


def test_vectors_of_two_embedders_are_never_mixed(place: Place) -> None:
    place.run()
    place.embedder = CountingEmbedder("another")
    report = place.run()
    assert report.kept == 6 and report.vectors_embedded == report.chunks == len(place.embedder.texts)
    assert place.near("def beta_function(value)")[0] == "src/beta.py"
    store = place.builder().store
    assert store.query(CountingEmbedder().fingerprint(), place.embedder.embed_query("x"), 1) is None
    place.embedder = CountingEmbedder()
    place.run()
    assert place.embedder.texts == []


def test_the_key_of_a_vector_is_text_and_scope_but_not_the_path() -> None:
    chunk = Chunk("a.py", 1, 1, "x = 1", "python", ("A",))
    assert vector_key(chunk) == vector_key(
        replace(chunk, path="b.py", start_line=9, end_line=9, language="go")
    )
    assert vector_key(chunk) != vector_key(replace(chunk, text="x = 2"))
    assert vector_key(chunk) != vector_key(replace(chunk, scope=("B",)))
    assert vector_key(replace(chunk, text="a \ud800")) != vector_key(chunk)


# -- damage -----------------------------------------------------------------------------------------


def test_chroma_is_rebuilt_without_the_embedder(place: Place) -> None:
    place.run()
    store = place.builder().store

    def truncate() -> None:
        for path in [path for path in store.directory.rglob("*") if path.is_file()]:
            os.truncate(path, path.stat().st_size // 2)

    damages: list[Callable[[], object]] = [
        lambda: shutil.rmtree(store.directory),
        lambda: store._dirty.touch(),
        lambda: store._seal.unlink(),
        truncate,
        lambda: next(store.directory.rglob("chroma.sqlite3")).write_bytes(b"garbage" * 1_000),
    ]
    for damage in damages:
        damage()
        report = place.run()
        assert place.embedder.texts == [] and report.vectors_embedded == 0
        assert place.near("def beta_function(value)")[0] == "src/beta.py"


def test_a_lost_ledger_costs_chunks_but_no_vectors(place: Place, tmp_path: Path) -> None:
    place.run()
    rows = place.rows()
    place.ledger.close()
    for path in place.directory.glob("ledger.sqlite*"):
        path.unlink()
    again = Place(place.root, place.directory)
    again.run()
    assert again.rows() == rows and again.embedder.texts == []


def test_worktrees_share_vectors(place: Place, tmp_path: Path) -> None:
    vectors = tmp_path / "shared.sqlite"
    one = Place(place.root, tmp_path / "one", vectors=vectors)
    one.run()
    git(place.root, "worktree", "add", "-q", str(tmp_path / "tree"), "-b", "side")
    two = Place(tmp_path / "tree", tmp_path / "two", vectors=vectors)
    report = two.run()
    assert report.indexed == 6 and two.embedder.texts == [] and two.rows() == one.rows()
    assert two.near("def beta_function(value)")[0] == "src/beta.py"


# -- several at once --------------------------------------------------------------------------------


def test_threads_indexing_at_once(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "repo", many(150))
    places = [Place(root, tmp_path / "index") for _ in range(3)]
    failures: list[BaseException] = []

    def work(place: Place) -> None:
        try:
            place.run()
        except BusyError:
            pass
        except BaseException as error:  # noqa: BLE001 - looked at below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    places[0].run()
    assert len(places[0].rows()) == 150 and len(places[0].found("m077_function")) == 1
    assert (
        places[0].near("return 77") and places[0].ledger.counts(places[0].embedder.fingerprint()).pending == 0
    )


def test_processes_indexing_at_once(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "repo", many(150))
    (tmp_path / "index").mkdir()
    command = [*CHILD, str(root), str(tmp_path / "index"), "never"]
    running = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate()[1] for process in running] == [b"", b"", b""]
    place = Place(root, tmp_path / "index")
    report = place.run()
    assert (report.indexed, report.chunks, place.embedder.texts) == (0, 150, [])
    assert place.near("return 77") and len(place.found("m077_function")) == 1


# -- equality ---------------------------------------------------------------------------------------

WORDS = "retry backoff timeout session cookie header socket buffer parser token cache index".split()


def random_edit(chance: random.Random, root: Path, number: int) -> None:
    tree = sorted(path for path in root.rglob("*.py") if ".git" not in path.parts)
    kind = chance.choice(["add", "edit", "edit", "edit", "delete", "rename", "commit", "branch", "binary"])
    word = chance.choice(WORDS)
    text = "\n\n".join(
        module(f"{chance.choice(WORDS)}_{i}", f"return '{chance.choice(WORDS)}'")
        for i in range(chance.randint(1, 12))
    )
    if kind == "add" or not tree:
        write(root, {f"{chance.choice(['', 'a/', 'a/b/'])}{word}{number}.py": text})
    elif kind == "edit":
        chosen = chance.choice(tree)
        lines = chosen.read_bytes().split(b"\n")
        lines.insert(chance.randint(0, len(lines)), f"# {word} {number}".encode())
        chosen.write_bytes(b"\n".join(lines))
    elif kind == "delete":
        chance.choice(tree).unlink()
    elif kind == "rename":
        chance.choice(tree).rename(root / f"{word}{number}.py")
    elif kind == "binary":
        chance.choice(tree).write_bytes(b"\x00" * number)
    elif kind == "commit":
        commit(root, f"edit {number}")
    else:
        commit(root, f"before branch {number}")
        git(root, "checkout", "-q", "-B", chance.choice(["x", "y", "main"]))


@pytest.mark.parametrize("seed", [1, 2])
def test_forty_edits_end_where_a_new_index_begins(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    root = make_repo(tmp_path / "repo", FILES)
    place = Place(root, tmp_path / "index")
    for number in range(1, 41):
        random_edit(chance, root, number)
        place.builder().refresh()
        if number % 10:
            continue
        place.run()
        fresh = Place(root, tmp_path / f"fresh{number}")
        fresh.run()
        assert place.rows() == fresh.rows() and len(place.rows()) > 0
        for word in WORDS:
            assert place.found(word) == fresh.found(word), word
        assert place.ledger.document_frequency(WORDS) == fresh.ledger.document_frequency(WORDS)
        assert place.builder().store.keys(place.embedder.fingerprint()) == place.ledger.live_keys(
            place.embedder.fingerprint()
        )
        fresh.ledger.close()


# -- fuzz -------------------------------------------------------------------------------------------

NAME = (
    st.binary(min_size=1, max_size=60)
    .map(lambda raw: raw.translate(None, b"/\0"))
    .filter(lambda raw: raw not in (b"", b".", b"..") and raw.lower() not in (b".git", b"git~1"))
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    names=st.dictionaries(
        NAME, st.one_of(st.binary(max_size=400), st.text(max_size=400).map(str.encode)), max_size=8
    ),
    staged=st.booleans(),
)
def test_any_names_and_bytes_are_indexed_or_counted(
    names: dict[bytes, bytes], staged: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    top = tmp_path_factory.mktemp("fuzz")
    place = Place(make_repo(top / "repo", {"plain.py": module("plain")}), top / "index")
    for name, content in names.items():
        path = Path(os.fsdecode(os.fsencode(place.root) + b"/" + name))
        path.write_bytes(content)
    if staged:
        git(place.root, "add", "-A")
    builder = place.builder()
    report = builder.refresh()
    listed = {file.path for file in builder.repository.list_files()}
    stored = {file.path for file in place.ledger.files()}
    skipped = {item.path for item in report.skipped}
    assert stored | skipped == listed and not stored & skipped and "plain.py" in stored
    for path in stored - {"plain.py"}:
        lines = text_lines((place.root / path).read_bytes())
        for item in place.ledger.chunks_of(path):
            chunk = item.chunk
            assert (
                "REDACTED" in chunk.text
                or chunk.text.split("\n") == lines[chunk.start_line - 1 : chunk.end_line]
            )
    assert builder.refresh().indexed == 0
    place.ledger.close()


def text_lines(data: bytes) -> list[str]:
    """A file's lines by rules of this test's own."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16").replace("\r\n", "\n").split("\n")
    for encoding in ("utf-8-sig", "cp1252", "latin-1"):
        try:
            return data.decode(encoding).replace("\r\n", "\n").split("\n")
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 takes anything")
