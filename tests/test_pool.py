"""Reading files in worker processes: the same results in the same order, and no file that can end more than itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import tree_sitter_language_pack

from indexers import build, children, syntax
from indexers import pool as pool_module
from indexers.build import Builder
from indexers.config import IndexConfig
from indexers.git import Repository
from indexers.ledger import Ledger
from indexers.patience import MOST_OF_A_KIND, MOST_SECONDS, UNTRIED, Patience
from indexers.pool import Pool, WorkersLost, worker_count
from indexers.reading import Job, Reading, read_file
from indexers.types import IndexReport, TrackedFile
from tests.repos import make_repo, write

ROOT = Path(__file__).parents[1]
KEY = b"k" * 32
CONFIG = IndexConfig()
# Stands before the real package: its Lua crashes, its Ruby hangs in C, its PHP crashes once.
GRAMMARS = """
from importlib.machinery import PathFinder
from pathlib import Path
import ctypes, os, re, sys

here = Path(__file__).parents[1]
spec = PathFinder.find_spec(__name__, [entry for entry in sys.path if Path(entry) != here])
__path__ = list(spec.submodule_search_locations)
exec(compile(Path(spec.origin).read_text(), spec.origin, "exec"))
_get_language = get_language

def get_language(name):
    once = here / "once"
    if name == "lua" or (name == "php" and not once.exists()):
        once.touch()
        ctypes.string_at(0)
    if name == "ruby":
        re.match("(a|a)*$", "a" * 60 + "b")
    return _get_language(name)
"""
FILES = {
    "a.py": "def alpha():\n    return 1\n",
    "b.md": "# Beta\n\nwords\n",
    "c.bin": b"\0\1",
    "d.lua": "function delta()\n  return 1\nend\n",
    "e.go": "package e\n\nfunc Epsilon() int { return 1 }\n",
    "f.php": "<?php\nfunction phi() { return 1; }\n",
    "g.rb": "def gamma\n  1\nend\n",
    "key.py": 'password = "hunter2hunter2"\naws = "AKIAIOSFODNN7ABCDEFG"\n',
    "z.ts": "export const zeta = () => 1;\n",
}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", FILES)


@pytest.fixture(params=["fork", "interpreter"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two ways in which a worker can be started; under test we may have threads of our own."""
    if request.param == "fork" and not sys.platform.startswith("linux"):
        pytest.skip("forks are made on Linux only")
    monkeypatch.setattr(children, "is_alone", lambda: request.param == "fork")
    return str(request.param)


@pytest.fixture
def bad_grammars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Grammars that crash and hang, for processes started from here on; ours has the real ones loaded."""
    # A fork would bring along what we have loaded.
    monkeypatch.setattr(children, "is_alone", lambda: False)
    place = tmp_path / "site"
    write(place, {"tree_sitter_language_pack/__init__.py": GRAMMARS})
    monkeypatch.syspath_prepend(place)
    return place


def jobs(root: Path) -> list[Job]:
    return [Job(file) for file in Repository.discover(root).list_files()]


def plain(readings: Sequence[Reading]) -> list[Reading]:
    return [reading._replace(checked_ns=0) for reading in readings]


def refreshed(root: Path, index: Path) -> tuple[IndexReport, Ledger]:
    index.mkdir(exist_ok=True)
    ledger = Ledger(index / "ledger.sqlite", index / "vectors.sqlite")
    if not ledger.meta("redaction_key"):
        with ledger.transaction():
            ledger.set_meta("redaction_key", KEY.hex())
    return Builder(Repository.discover(root), ledger, CONFIG, index).refresh(), ledger


def stored(ledger: Ledger) -> list[tuple[str, int, str]]:
    chunks = ledger.chunks(ledger.chunk_ids()).values()
    return [(item.chunk.path, item.id, item.chunk.text) for item in chunks]


def workers() -> list[psutil.Process]:
    return psutil.Process().children()


def test_workers_say_what_we_would_say(repo: Path, way: str) -> None:
    asked = jobs(repo)
    alone = [read_file(repo, job, CONFIG, KEY) for job in asked]
    with Pool(repo, CONFIG, KEY, count=2) as pool:
        first, second = list(pool.read(asked)), list(pool.read(asked[::-1]))
    assert plain(first) == plain(alone) == plain(second)[::-1]
    assert [r.reason for r in alone].count("") == len(FILES) - 1 and alone[-2].redactions == 1
    known = [Job(job.file, read.blob) for job, read in zip(asked, alone, strict=True)]
    with Pool(repo, CONFIG, KEY, count=1) as pool:
        assert all(read.chunks is None for read in pool.read(known))
        assert list(pool.read([])) == []
    assert not workers()


def test_many_files_come_in_order(tmp_path: Path, way: str) -> None:
    sizes = [1 + (number * 7919) % 400 for number in range(300)]
    texts = {
        f"{n:03}.py": "".join(f"def f{i}(): return {n}\n" for i in range(size))
        for n, size in enumerate(sizes)
    }
    root = make_repo(tmp_path / "many", texts)
    with Pool(root, CONFIG, KEY, count=3) as pool:
        for number, read in enumerate(pool.read(jobs(root))):
            assert read.chunks is not None and read.chunks[0].text.split("\n")[0].endswith(f" {number}")


def test_odd_names(tmp_path: Path, way: str) -> None:
    root = make_repo(tmp_path / "odd", {"-c.py": "a = 1\n", "a b\n.py": "b = 1\n"})
    (root / os.fsdecode(b"\xff.py")).write_text("c = 1\n")
    asked = [*jobs(root), Job(TrackedFile("x" * 300_000)), Job(TrackedFile("../out.py"))]
    with Pool(root, CONFIG, KEY, count=1) as pool:
        assert plain(list(pool.read(asked))) == plain([read_file(root, j, CONFIG, KEY) for j in asked])


def test_a_crash_or_a_hang_costs_one_file(repo: Path, bad_grammars: Path) -> None:
    asked = jobs(repo)
    with Pool(repo, CONFIG, KEY, count=2, seconds=0.5) as pool:
        readings = {job.file.path: read for job, read in zip(asked, pool.read(asked), strict=True)}
    broken = {path: read.detail for path, read in readings.items() if read.reason == "breaks the parser"}
    # PHP's crash happened only once.
    assert broken == {"d.lua": "it crashes (SIGSEGV)", "g.rb": "it takes too long"}
    assert readings["d.lua"].stat.size == len(FILES["d.lua"])
    whole = {path for path, read in readings.items() if read.chunks}
    assert whole == FILES.keys() - broken.keys() - {"c.bin"}


def test_what_breaks_is_counted_and_not_tried_again(
    repo: Path, bad_grammars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repo / "g.rb").unlink()  # it would take its ten seconds
    monkeypatch.setattr(build, "_BYTES_FOR_WORKERS", 0)
    report, ledger = refreshed(repo, tmp_path / "index")
    assert report.skipped_by_reason() == {
        "binary": 1,
        "breaks the parser": 1,
        "missing from the work tree": 1,
    }
    assert report.indexed == len(FILES) - 3 and not ledger.match(["delta"], (1, 1, 1), 9)
    entry = ledger.manifest()["d.lua"]
    assert (entry.skip, entry.stat.size) == ("breaks the parser", len(FILES["d.lua"]))


def test_a_killed_worker_costs_nothing(repo: Path, way: str) -> None:
    asked = jobs(repo) * 20
    with Pool(repo, CONFIG, KEY, count=2) as pool:
        found = []
        for read in pool.read(asked):
            found.append(read)
            if len(found) in (1, 60):
                workers()[0].kill()
    assert plain(found) == plain([read_file(repo, job, CONFIG, KEY) for job in asked])


def test_no_workers_no_matter(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "is_alone", lambda: False)
    wanted = stored(refreshed(repo, tmp_path / "alone")[1])
    monkeypatch.setattr(build, "_BYTES_FOR_WORKERS", 0)
    assert stored(refreshed(repo, tmp_path / "pool")[1]) == wanted
    for program in ("/bin/false", str(tmp_path / "none"), ""):
        monkeypatch.setattr(sys, "executable", program)
        with pytest.raises(WorkersLost), Pool(repo, CONFIG, KEY) as pool:
            list(pool.read(jobs(repo)))
        place = tmp_path / f"without{len(program)}"
        assert stored(refreshed(repo, place)[1]) == wanted
    assert not workers()


def test_another_program_in_place_of_the_interpreter(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "is_alone", lambda: False)
    program = tmp_path / "application"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(pool_module, "_START_SECONDS", 0.5)
    with pytest.raises(WorkersLost), Pool(repo, CONFIG, KEY, count=2) as pool:
        list(pool.read(jobs(repo)))
    assert not [p for p in psutil.Process().children() if p.name() == "sleep"]


def test_a_reader_that_leaves_ends_the_workers(repo: Path, way: str) -> None:
    with Pool(repo, CONFIG, KEY, count=2) as pool:
        next(pool.read(jobs(repo) * 10))
        assert len(workers()) == 2
    assert not workers()


def test_workers_look_neither_here_nor_at_the_environment(
    repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(children, "is_alone", lambda: False)
    trap = "open({!r}, 'w').close()\nraise SystemExit\n".format(str(tmp_path / "sprung"))
    traps = {f"{name}.py": trap for name in ("marshal", "json", "indexers", "tree_sitter", "sitecustomize")}
    write(repo, traps)
    monkeypatch.chdir(repo)
    monkeypatch.setenv("PYTHONPATH", str(repo))
    monkeypatch.setenv("PYTHONSTARTUP", str(repo / "json.py"))
    monkeypatch.syspath_prepend("")
    with Pool(repo, CONFIG, KEY, count=1) as pool:
        assert sum(bool(read.chunks) for read in pool.read(jobs(repo))) == len(FILES) - 1 + len(traps)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks are made on Linux only")
def test_a_fork_that_crashes_or_hangs_costs_one_file_too(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "is_alone", lambda: True)
    real = tree_sitter_language_pack.get_language

    def bad(name: str) -> object:
        if name == "lua":
            os.kill(os.getpid(), signal.SIGSEGV)
        while name == "ruby":
            pass
        return real(name)

    syntax._language.cache_clear()
    monkeypatch.setattr(tree_sitter_language_pack, "get_language", bad)
    asked = jobs(repo)
    with Pool(repo, CONFIG, KEY, count=2, seconds=0.5) as pool:
        found = [(job.file.path, read.detail) for job, read in zip(asked, pool.read(asked), strict=True)]
    assert ("d.lua", "it crashes (SIGSEGV)") in found and ("g.rb", "it takes too long") in found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks are made on Linux only")
def test_many_files_that_never_end_cost_little_more_than_a_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{i:02}.rb": f"def m{i}\nend\n" for i in range(60)} | {
        f"{i:02}z.py": "x = 1\n" for i in range(60)
    }
    root = make_repo(tmp_path / "endless", files)
    monkeypatch.setattr(children, "is_alone", lambda: True)
    real = tree_sitter_language_pack.get_language

    def endless(name: str) -> object:
        while name == "ruby":
            pass
        return real(name)

    syntax._language.cache_clear()
    monkeypatch.setattr(tree_sitter_language_pack, "get_language", endless)
    asked = jobs(root)
    before = os.times()
    with Pool(root, CONFIG, KEY, count=2, seconds=0.5) as pool:
        found = {job.file.path: read for job, read in zip(asked, pool.read(asked), strict=True)}
    after = os.times()
    tried = [path for path, read in found.items() if read.detail == "it takes too long"]
    untried = [path for path, read in found.items() if read.detail == UNTRIED]
    assert len(tried) + len(untried) == 60 and all(path.endswith(".rb") for path in (*tried, *untried))
    # A file that a worker had begun when the last but one was given up is tried too.
    assert MOST_OF_A_KIND <= len(tried) <= MOST_OF_A_KIND + 2
    assert all(read.chunks for path, read in found.items() if path.endswith(".py"))
    # Sixty times half a second would be thirty.
    assert after.children_user - before.children_user < 15


def test_patience_is_spent_in_all_and_by_kind() -> None:
    patience = Patience(10.0)
    given = 0.0
    for number in range(1_000):
        path = f"{number}.k{number % 100}"
        if not patience.is_over(path):
            given += patience.seconds()
            patience.lose(path)
    assert MOST_SECONDS <= given <= MOST_SECONDS + 100 and not patience.is_over("a.py")
    assert patience.is_over("b.k7") and patience.seconds() == 1.0


def test_a_process_with_threads_is_not_forked() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert not children.is_alone()
    finally:
        done.set()
        thread.join()


def test_there_is_at_least_one_and_not_one_for_each_of_many() -> None:
    assert 1 <= worker_count() <= 4


# --- whole programs ---------------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
from indexers import build, children, syntax
from indexers import pool as pool_module
from indexers.build import Builder
from indexers.config import IndexConfig
from indexers.git import Repository
from indexers.ledger import Ledger
build._BYTES_FOR_WORKERS = int(sys.argv[3])
place = Path(sys.argv[2])
place.mkdir(exist_ok=True)
ledger = Ledger(place / "ledger.sqlite", place / "vectors.sqlite")
def tell(progress): print("progress", progress.done, flush=True)
report = Builder(Repository.discover(Path(sys.argv[1])), ledger, IndexConfig(), place, on_progress=tell).refresh()
print("done", report.indexed, report.interrupted, ledger.counts("").files, flush=True)
"""


def started(*arguments: object, path: Path | None = None) -> subprocess.Popen[str]:
    """The script above as a program with no guard for `__main__`, in a terminal's way."""
    import_path = [str(path)] * bool(path) + [str(ROOT)]
    return subprocess.Popen(
        [sys.executable, "-", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(import_path)},
        start_new_session=True,
    )


def test_a_program_without_a_main_guard(repo: Path, tmp_path: Path) -> None:
    output, errors = started(repo, tmp_path / "index", 0).communicate(SCRIPT, timeout=60)
    assert output.splitlines()[-1] == f"done {len(FILES) - 1} False {len(FILES) - 1}" and not errors
    assert output.count("done") == 1


def test_ctrl_c_keeps_what_is_done_and_leaves_no_process(tmp_path: Path) -> None:
    texts = {f"{n:04}.py": "".join(f"def f{i}(a): return a + {n}\n" for i in range(150)) for n in range(1200)}
    root = make_repo(tmp_path / "large", texts)
    program = started(root, tmp_path / "index", 0)
    assert program.stdin and program.stdout
    program.stdin.write(SCRIPT)
    program.stdin.close()
    assert program.stdout.readline().startswith("progress 64")
    workers = psutil.Process(program.pid).children()
    assert len(workers) == worker_count()
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to everything in its foreground
    *_, last = program.stdout.read().splitlines()
    _, indexed, interrupted, kept = last.split()
    assert program.wait(60) == 0 and interrupted == "True"
    assert 64 <= int(indexed) == int(kept) < 1200 and int(kept) % 64 == 0
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in workers)
    program.stdout.close()
    assert program.stderr and not program.stderr.read()
    program.stderr.close()


def test_workers_of_a_killed_program_end(tmp_path: Path, repo: Path) -> None:
    program = started(repo, tmp_path / "index", 0)
    assert program.stdin and program.stdout and program.stderr
    program.stdin.write(SCRIPT.replace("print(\"progress\"", "import time; print(\"progress\"").replace(
        "flush=True)\nreport", "flush=True); time.sleep(60)\nreport"
    ))  # fmt: skip
    program.stdin.close()
    program.stdout.readline()
    workers = psutil.Process(program.pid).children()
    assert workers
    program.kill()
    program.wait(60)
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    program.stdout.close()
    program.stderr.close()


def test_after_a_run_that_died_workers_do_the_reading(repo: Path, bad_grammars: Path, tmp_path: Path) -> None:
    (repo / "g.rb").unlink()
    (bad_grammars / "once").touch()
    place = tmp_path / "index"
    few = 1 << 60
    program = started(repo, place, few, path=bad_grammars)
    output, _ = program.communicate(SCRIPT, timeout=60)
    assert program.returncode == -signal.SIGSEGV and "done" not in output
    program = started(repo, place, few, path=bad_grammars)
    output, errors = program.communicate(SCRIPT, timeout=60)
    assert output.splitlines()[-1] == f"done {len(FILES) - 3} False {len(FILES) - 3}", errors
    began = time.monotonic()
    report, ledger = refreshed(repo, place)
    assert report.skipped_by_reason()["breaks the parser"] == 1 and not ledger.meta("reading")
    assert time.monotonic() - began < 20
