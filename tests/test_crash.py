"""Killed, out of disk or damaged at any moment: the next command answers, embeds nothing again, and says so."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.cli import main
from tests.repos import make_repo, write

ROOT = Path(__file__).parents[1]
FILES = {f"src/m{i:02}.py": f"def function_{i:02}(value):\n    return value * {i}\n" for i in range(60)}
QUERY = "function_07"
# Embeds four chunks in a batch, slowly enough that kills fall between batches too.
INDEX = (
    sys.executable,
    "-c",
    """
import sys, time
import indexers.build, indexers.hash_embedder
from agent.cli import main
slow = indexers.hash_embedder.HashEmbedder.embed_documents
def embed(self, texts, progress=None):
    time.sleep(0.01)
    return slow(self, texts, progress)
indexers.hash_embedder.HashEmbedder.embed_documents = embed
indexers.build._EMBED_BATCH = 4
sys.exit(main(["index", "--json", "--repo", sys.argv[1]]))
""",
)


@pytest.fixture(autouse=True)
def hash_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_EMBEDDER", "hash")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@dataclass(frozen=True)
class Cache:
    """The files of one index."""

    home: Path

    @property
    def ledger(self) -> Path:
        return next(self.home.glob("cache/index/*/ledger.sqlite"))

    @property
    def chroma(self) -> Path:
        return self.ledger.with_name("chroma")

    @property
    def vectors(self) -> Path:
        return next(self.home.glob("cache/vectors/*.sqlite"))

    def acknowledged(self) -> int:
        """Vectors that a committed transaction holds."""
        try:
            with closing(sqlite3.connect(self.vectors)) as db:
                return int(db.execute("SELECT count(*) FROM vectors").fetchone()[0])
        except (StopIteration, sqlite3.OperationalError):
            return 0


Report = dict[str, object]
Run = Callable[..., Report]


@pytest.fixture
def cache(agent_home: Path) -> Cache:
    return Cache(agent_home)


@pytest.fixture
def run(repo: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command of ours on the repository, which must succeed; its JSON."""

    def run(*arguments: str, code: int = 0) -> Report:
        capsys.readouterr()
        found = main([arguments[0], "--json", "--repo", str(repo), *arguments[1:]])
        shown = capsys.readouterr()
        assert found == code and "Traceback" not in shown.err, shown
        value: Report = json.loads(shown.out)
        return {**value, "stderr": shown.err}

    return run


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", FILES)


def found(report: Report) -> list[str]:
    hits = report["hits"]
    assert isinstance(hits, list)
    return [f"{hit['path']}:{hit['start_line']}-{hit['end_line']}" for hit in hits]


def answers(run: Run) -> Report:
    """The command that follows whatever happened."""
    report = run("search", QUERY, "-k", "1")
    assert found(report) == ["src/m07.py:1-2"]
    return report


def is_whole(run: Run) -> None:
    checked = run("index", "--check")
    assert (checked["faults"], checked["remarks"], checked["vectors"]) == ([], [], len(FILES))


# -- SIGKILL ----------------------------------------------------------------------------------------


def kill_rounds(count: int, seed: int, repo: Path, run: Run, cache: Cache) -> list[str]:
    """Kill `agent index` at a random moment of each run; what the marks left behind said each time."""
    chance = random.Random(seed)
    mended = []
    for number in range(count):
        # Every few rounds from nothing; else on top of what the last one left, after an edit.
        if number % 3 == 0:
            shutil.rmtree(cache.home, ignore_errors=True)
        write(
            repo,
            {f"src/m{number % 60:02}.py": f"def function_{number % 60:02}(value):\n    return {number}\n"},
        )
        child = subprocess.Popen([*INDEX, str(repo)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _at_some_moment(chance, child, cache)
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=60)
        assert child.returncode in (0, -signal.SIGKILL)
        acknowledged, left_open = (
            cache.acknowledged(),
            bool(list(cache.home.glob("cache/index/*/chroma.dirty"))),
        )
        if number % 60 != 7:
            answers(run)
        report = run("index")
        made = report["vectors_embedded"]
        assert isinstance(made, int) and made <= max(0, len(FILES) + number % 3 + 1 - acknowledged), number
        if left_open:
            assert "rebuilt from stored vectors" in str(report["notes"])
            mended.append("chroma")
        is_whole(run)
    return mended


def _at_some_moment(chance: random.Random, child: subprocess.Popen[bytes], cache: Cache) -> None:
    """Wait until the child has got to a stage drawn at random, and then a random while."""
    stage = chance.choice(
        ["cache/index/*/ledger.sqlite", "cache/vectors/*.sqlite-wal", "cache/index/*/chroma.dirty"]
    )
    deadline = time.monotonic() + 30
    while not list(cache.home.glob(stage)) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(chance.random() * 0.3)


@pytest.mark.timeout(600)
def test_killed_at_any_moment(repo: Path, run: Run, cache: Cache) -> None:
    kill_rounds(10, 1, repo, run, cache)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_killed_at_any_moment_a_hundred_times(repo: Path, run: Run, cache: Cache) -> None:
    assert kill_rounds(100, int(time.time()), repo, run, cache), "some of them hit Chroma"


# -- a full disk ------------------------------------------------------------------------------------

FULL_DISK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
/* From the N-th write below HOME on, there is no space left. */
static int full(int fd) {
    static long seen;
    char link[64], path[4096];
    const char *home = getenv("FULL_BELOW"), *nth = getenv("FULL_FROM");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (!home || !nth || size < 0) return 0;
    path[size] = 0;
    if (strncmp(path, home, strlen(home))) return 0;
    return __sync_add_and_fetch(&seen, 1) >= atol(nth);
}
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define NO_SPACE(fd) if (full(fd)) { errno = ENOSPC; return -1; }
ssize_t write(int fd, const void *data, size_t count) { NO_SPACE(fd) return REAL(write)(fd, data, count); }
ssize_t pwrite(int fd, const void *data, size_t count, off_t at) {
    NO_SPACE(fd) return REAL(pwrite)(fd, data, count, at); }
ssize_t pwrite64(int fd, const void *data, size_t count, off64_t at) {
    NO_SPACE(fd) return REAL(pwrite64)(fd, data, count, at); }
int ftruncate(int fd, off_t size) { if (size) NO_SPACE(fd) return REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { if (size) NO_SPACE(fd) return REAL(ftruncate64)(fd, size); }
int posix_fallocate(int fd, off_t at, off_t size) {
    if (full(fd)) return ENOSPC; return REAL(posix_fallocate)(fd, at, size); }
"""


@pytest.fixture(scope="session")
def full_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that, loaded before all others, lets writes fail as on a full disk."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler, and Linux")
    directory = tmp_path_factory.mktemp("full")
    (directory / "full.c").write_text(FULL_DISK)
    library = directory / "full.so"
    built = [compiler, "-shared", "-fPIC", "-o", str(library), str(directory / "full.c"), "-ldl"]
    subprocess.run(built, check=True, capture_output=True)
    return library


def fill_disk(nth: int, library: Path, repo: Path, cache: Cache) -> subprocess.CompletedProcess[str]:
    variables = {"LD_PRELOAD": str(library), "FULL_BELOW": str(cache.home), "FULL_FROM": str(nth)}
    environment = {**os.environ, **variables}
    return subprocess.run(
        [*INDEX, str(repo)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def full_disk_rounds(numbers: list[int], library: Path, repo: Path, run: Run, cache: Cache) -> int:
    """Index on a disk that is full from the N-th write on, until it is full too late to matter: that N."""
    for nth in numbers:
        shutil.rmtree(cache.home, ignore_errors=True)
        # The directories are there: making one is no write.
        done = fill_disk(nth, library, repo, cache)
        assert "Traceback" not in done.stderr, (nth, done.stderr)
        acknowledged = cache.acknowledged() if list(cache.home.glob("cache/vectors/*.sqlite")) else 0
        answers(run)
        report = run("index")
        made = report["vectors_embedded"]
        assert isinstance(made, int) and made <= len(FILES) - acknowledged, nth
        is_whole(run)
        if done.returncode == 0 and "No space" not in done.stdout + done.stderr and not report["notes"]:
            return nth
        told = done.stderr + done.stdout
        assert done.returncode in (0, 2), (nth, told)
        assert "space" in told or "disk I/O error" in told or "cannot be" in told, (nth, told)
    raise AssertionError("it was never enough")


@pytest.mark.timeout(900)
def test_a_disk_that_is_full_from_some_write_on(full_disk: Path, repo: Path, run: Run, cache: Cache) -> None:
    assert full_disk_rounds([1, 20, 60, 130, 230, 100_000], full_disk, repo, run, cache) > 130


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_a_disk_that_is_full_from_the_nth_write_on(
    full_disk: Path, repo: Path, run: Run, cache: Cache
) -> None:
    assert full_disk_rounds(list(range(1, 5_000, 3)), full_disk, repo, run, cache) > 130


SEARCH = (
    *INDEX[:2],
    f"import sys; from agent.cli import main; sys.exit(main(['search', '{QUERY}', *sys.argv[1:]]))",
)


@pytest.mark.parametrize("edited", [False, True])
def test_a_search_on_a_full_disk(edited: bool, full_disk: Path, repo: Path, run: Run, cache: Cache) -> None:
    run("index")
    if edited:
        with closing(sqlite3.connect(cache.vectors)) as db, db:
            db.execute("DELETE FROM vectors")
        write(repo, {"src/m08.py": "def changed_since():\n    return 1\n"})
    variables = {"LD_PRELOAD": str(full_disk), "FULL_BELOW": str(cache.home), "FULL_FROM": "1"}
    done = subprocess.run(
        [*SEARCH, "--repo", str(repo)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.startswith("src/m07.py:1-2"), done.stderr
    # What was written a moment ago is read once more, and its new stat stored.
    assert "No space" in done.stderr or not edited
    assert found(run("search", "changed_since", "-k", "1")) == ["src/m08.py:1-2"] or not edited
    run("index")
    is_whole(run)


@pytest.mark.parametrize("pages", [3, 40, 100])
def test_a_limit_on_the_size_of_files(pages: int, repo: Path, run: Run, cache: Cache) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (pages * 4_096, pages * 4_096))

    done = subprocess.run([*INDEX, str(repo)], capture_output=True, text=True, check=False, preexec_fn=limit)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "ulimit -f" in done.stderr or "No space" in done.stderr or "cannot be" in done.stderr, done.stderr
    answers(run)
    run("index")
    is_whole(run)


# -- damage -----------------------------------------------------------------------------------------


def cut(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(max(1, len(data) // 2_000)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(bytes(data))


def zero_page(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    at = 4_096 * chance.randrange(max(1, len(data) // 4_096))
    data[at : at + 4_096] = bytes(len(data[at : at + 4_096]))
    path.write_bytes(bytes(data))


DAMAGES = [cut, flip, zero_page]


def damage_rounds(rounds: int, seed: int, run: Run, cache: Cache) -> None:
    run("index")
    whole = cache.home.with_name("whole")
    shutil.copytree(cache.home, whole)
    for number in range(rounds):
        chance = random.Random(seed + number)
        shutil.rmtree(cache.home)
        shutil.copytree(whole, cache.home)
        chroma = sorted(file for file in cache.chroma.rglob("*") if file.is_file() and file.stat().st_size)
        which = (cache.ledger, cache.vectors, chance.choice(chroma))[number % 3]
        damage = DAMAGES[number // 3 % 3]
        damage(which, chance)
        case = f"{damage.__name__} {which.name}, seed {seed + number}"
        answers(run)
        report = run("index")
        assert report["vectors_pending"] == 0, case
        if which != cache.vectors:
            assert report["vectors_embedded"] == 0, case
        # What SQLite does not notice, a check does; and what it finds, the command it names mends.
        code = _check_code(run)
        if code:
            run("index", "--rebuild")
        assert not _check_code(run), case
        answers(run)


def _check_code(run: Run) -> int:
    try:
        run("index", "--check")
    except AssertionError:
        run("index", "--check", code=2)
        return 2
    return 0


@pytest.mark.timeout(600)
def test_damaged_files(repo: Path, run: Run, cache: Cache) -> None:
    damage_rounds(9, 100, run, cache)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_damaged_files_in_many_places(repo: Path, run: Run, cache: Cache) -> None:
    damage_rounds(300, 1_000, run, cache)


# -- Chroma ends the process ------------------------------------------------------------------------

# Chroma itself, but for its end: a fault in its compiled part, the first so many times that it is opened.
FATAL = """
import os, pathlib
from importlib.util import module_from_spec, spec_from_file_location
left = pathlib.Path({counter!r})
real = spec_from_file_location("chromadb", {chromadb!r}, submodule_search_locations=[os.path.dirname({chromadb!r})])
import sys
module = module_from_spec(real)
sys.modules["chromadb"] = module
real.loader.exec_module(module)
client = module.PersistentClient
def dying(*arguments, **options):
    count = int(left.read_text())
    left.write_text(str(count - 1))
    if count > 0:
        os.kill(os.getpid(), {signal})
    return client(*arguments, **options)
module.PersistentClient = dying
"""


@pytest.mark.parametrize(("end", "times"), [(signal.SIGSEGV, 1), (signal.SIGABRT, 1), (signal.SIGSEGV, 2)])
def test_a_crash_inside_chroma_ends_no_command(
    end: signal.Signals, times: int, repo: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import chromadb

    counter = tmp_path / "crashes"
    counter.write_text(str(times))
    fatal = FATAL.format(counter=str(counter), chromadb=chromadb.__file__, signal=int(end))
    write(tmp_path / "fatal", {"chromadb/__init__.py": fatal})
    with monkeypatch.context() as patch:
        patch.setattr("indexers.build.APART", True)
        patch.syspath_prepend(str(tmp_path / "fatal"))
        report = run("index")
    answers(run)
    if times == 1:
        assert "rebuilt from stored vectors" in str(report["notes"])
    else:
        assert f"it crashed ({end.name})" in str(report["notes"])
        report = run("index")
        assert report["vectors_embedded"] == 0 and "rebuilt from stored vectors" in str(report["notes"])
    is_whole(run)


def test_chroma_is_opened_only_when_there_is_something_to_do(
    repo: Path, run: Run, monkeypatch: pytest.MonkeyPatch, cache: Cache
) -> None:
    monkeypatch.setattr("indexers.build.APART", True)
    run("index")
    is_whole(run)
    # A program that cannot be started would be told of.
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere")
        assert run("index")["notes"] == []
        write(repo, {"src/new.py": "def brand_new():\n    return 1\n"})
        assert "no process can be started" in str(run("index")["notes"])
    assert run("index")["notes"] == []
    assert run("index", "--check")["faults"] == []


def test_a_chroma_that_always_crashes_is_done_without(
    repo: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Cache
) -> None:
    run("index")
    cache.chroma.with_name("chroma.dirty").touch()
    fake = tmp_path / "fake" / "chromadb"
    write(fake, {"__init__.py": "import os; os.kill(os.getpid(), 11)\n", "errors.py": "", "config.py": ""})
    write(repo, {"src/new.py": "def brand_new():\n    return 1\n"})
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(fake.parent))
        for _ in range(2):
            report = run("index")
            assert "Chroma could not rebuild its vector index: it crashed (SIGSEGV)" in str(report["notes"])
            assert found(run("search", "brand_new", "-k", "1")) == ["src/new.py:1-2"]
    assert "rebuilt from stored vectors" in str(run("index")["notes"])
