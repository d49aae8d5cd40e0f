"""The worker that embeds behind a search: one at a time, out of the way, and gone when there is nothing left to do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from agent import background
from agent.api import Agent
from agent.background import LOG_BYTES, LOG_NAME
from agent.config import load_settings
from indexers.claim import MOST_FAILURES, Embedding
from indexers.config import IndexConfig
from indexers.locks import locked
from indexers.priority import MOST
from tests.repos import make_repo, write

ROOT = Path(__file__).parents[1]
AGENT = (sys.executable, "-c", "import sys; from agent.cli import main; sys.exit(main())")
FILES = {f"src/m{i:02}.py": f"def function_{i:02}(value):\n    return value * {i}\n" * 12 for i in range(60)}
# A worker gets what the others leave: on a busy machine that is little.
PATIENCE = 240.0
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_EMBEDDER", "hash")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", FILES)


@pytest.fixture
def agent(root: Path) -> Iterator[Agent]:
    """A library agent that has read the text and made no vector; whatever works behind it is ended after the test."""
    with opened(root) as made:
        made.refresh()
        yield made
        while (worker := made.workspace.builder().claim.holder()) is not None and worker.pid:
            os.kill(worker.pid, signal.SIGKILL)
            time.sleep(0.05)


def opened(root: Path, *, behind: bool = False) -> Agent:
    return Agent.open(root, settings=replace(load_settings(root, {}), embedder="hash"), background=behind)


def command(root: Path, *arguments: str, behind: bool = False) -> subprocess.CompletedProcess[str]:
    return finished(started(root, *arguments, behind=behind))


def started(root: Path, *arguments: str, behind: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*AGENT, *arguments, "--repo", str(root)],
        env={**os.environ, "AGENT_BACKGROUND": str(int(behind))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def eventually(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.2)


def worker_of(agent: Agent) -> Embedding | None:
    return agent.workspace.builder().claim.holder()


def held_worker(agent: Agent, before: Collection[int] = ()) -> Embedding:
    """Start a worker while we hold the index's lock: it has the claim and waits for us.

    :param before: workers that are gone, whose note the new one has not overwritten as soon as it has the claim.
    """
    assert agent.workspace.ready_embedder(download=False) is not None and agent.workspace.start_worker()
    eventually(lambda: (worker := worker_of(agent)) and worker.pid and worker.pid not in before)
    worker = worker_of(agent)
    assert worker is not None
    return worker


def pending(agent: Agent) -> int:
    return agent.workspace.ledger.counts(agent.workspace.fingerprint_if_known()).pending


def log_of(agent: Agent) -> str:
    return (agent.workspace.directory / LOG_NAME).read_text()


# -- a search starts it --------------------------------------------------------------------------


def test_a_search_on_a_new_repository_answers_and_leaves_the_rest_to_a_worker(root: Path) -> None:
    done = command(root, "search", "function_07", "--json", behind=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["hits"][0]["path"] == "src/m07.py"
    assert found["index"]["vectors_pending"] > 0
    with opened(root) as agent:
        eventually(lambda: not pending(agent) and worker_of(agent) is None)
        assert "nothing is left to do" in log_of(agent)
        embedder = agent.workspace.ready_embedder(download=False)
        assert embedder is not None
        live = agent.workspace.ledger.live_keys(embedder.fingerprint())
        assert agent.workspace.builder().store.keys(embedder.fingerprint()) == live and len(live) == 60
        assert agent.index().vectors_embedded == 0


def test_after_a_long_reading_words_alone_answer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.workspace.LONGEST_READING", 0.0)
    with opened(root) as agent:
        assert agent.search("function_07")[0].path == "src/m07.py"
        assert pending(agent) == 60
        # Nothing has to be read this time.
        monkeypatch.setattr("agent.workspace.LONGEST_READING", 60.0)
        agent.search("function_07")
        assert pending(agent) < 60


def test_the_worker_begins_with_what_was_found(root: Path) -> None:
    write(root, {"src/long.py": "def longest():\n" + "    value = value * 2\n" * 40})
    with opened(root) as agent:
        agent.refresh()
        ledger, embedder = agent.workspace.ledger, agent.workspace.ready_embedder(download=False)
        assert embedder is not None
        wanted = ledger.defining("longest")
        stops = iter([False, True, True])
        made = background._embed(agent.workspace.builder(), embedder, lambda: next(stops), frozenset(wanted))
        assert 0 < made < 61 and pending(agent) == 61 - made, "one batch, and not all"
        assert not ledger.missing_keys(embedder.fingerprint(), wanted)


def test_nothing_is_started_when_it_is_switched_off_or_by_a_library(root: Path) -> None:
    assert command(root, "search", "function_07").returncode == 0
    with opened(root) as agent:
        agent.search("function_08")
        assert pending(agent) and not (agent.workspace.directory / LOG_NAME).exists()


def test_nothing_is_started_when_nothing_is_pending(agent: Agent) -> None:
    agent.index()
    with opened(agent.root, behind=True) as other:
        assert other.search("function_07")
        assert not (agent.workspace.directory / LOG_NAME).exists()


def test_a_library_starts_one_when_it_is_told_to(agent: Agent) -> None:
    with opened(agent.root, behind=True) as other:
        assert other.search("function_07")[0].path == "src/m07.py"
    eventually(lambda: not pending(agent))


def test_the_worker_is_out_of_the_way_and_shows_in_the_status(agent: Agent) -> None:
    with locked(agent.workspace.builder().lock):
        worker = held_worker(agent)
        assert os.getsid(worker.pid) not in (os.getsid(0), os.getpid())
        assert os.getpriority(os.PRIO_PROCESS, worker.pid) == 19
        # Where sessions are scheduled before processes, the worker's session has to be humble too.
        group = Path(f"/proc/{worker.pid}/autogroup")
        assert not group.exists() or group.read_text().endswith(f" nice {MOST}\n")
        shown = command(agent.root, "status").stdout
        assert f"process {worker.pid} (agent index --background)" in shown
        told = json.loads(command(agent.root, "status", "--json").stdout)["embedding"]
        assert told["pid"] == worker.pid and told["background"] is True
    eventually(lambda: not pending(agent) and worker_of(agent) is None)
    assert "embedding " not in command(agent.root, "status").stdout


def test_the_worker_runs_no_code_of_the_repository(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = root.parent / "canary"
    trap = f"open({str(canary)!r}, 'w')\n"
    write(root, {f"{name}.py": trap for name in ("agent", "json", "indexers", "sitecustomize", "os")})
    monkeypatch.chdir(root)
    with opened(root, behind=True) as agent:
        agent.search("function_07")
        eventually(lambda: not pending(agent))
    assert not canary.exists()


def test_there_is_one_worker_at_a_time(agent: Agent) -> None:
    with locked(agent.workspace.builder().lock):
        worker = held_worker(agent)
        assert not agent.workspace.start_worker()
        # Two that start at the same moment: the second gives up and says so.
        places = (agent.root, agent.workspace.directory, agent.workspace.ledger.vectors_path)
        names = ("root", "directory", "vectors")
        order: dict[str, object] = {
            n: os.fsencode(place).hex() for n, place in zip(names, places, strict=True)
        }
        order |= {"config": asdict(IndexConfig(embedder="hash")), "first": []}
        order |= {"reads_files": False, "makes_vectors": True}
        code = "from agent.background import main; main()"
        second = subprocess.run(
            [sys.executable, "-c", code, json.dumps(order)],
            capture_output=True,
            text=True,
        )
        assert second.returncode == 0, second.stderr
        assert f"in use by process {worker.pid}" in second.stderr
        now = worker_of(agent)
        assert now is not None and now.pid == worker.pid


# -- it ends -------------------------------------------------------------------------------------


def test_stop_ends_it_after_the_batch_in_hand(agent: Agent) -> None:
    with locked(agent.workspace.builder().lock):
        held_worker(agent)
        stopping = started(agent.root, "index", "--stop")
        eventually(agent.workspace.builder().claim.asked_to_stop)
    assert finished(stopping).stdout.startswith("the worker was stopped")
    assert worker_of(agent) is None and pending(agent) == 60
    assert "0 vectors made, another process asked for it" in log_of(agent)
    assert command(agent.root, "index", "--stop").stdout == "no worker is running\n"
    # The request does not outlive it.
    assert command(agent.root, "index", "--background").returncode == 0
    eventually(lambda: not pending(agent))


def test_a_worker_that_was_started_and_is_not_there_yet_stops_too(agent: Agent) -> None:
    claim, asked = agent.workspace.builder().claim, time.time() - 5
    assert command(agent.root, "index", "--stop").stdout == "no worker is running\n"
    with claim.held(agent.root, background=True, since=asked):
        assert claim.asked_to_stop()
    # What was asked of one before us is none of ours.
    with claim.held(agent.root, background=True, since=time.time() + 1):
        assert not claim.asked_to_stop()


def test_sigterm_ends_it_after_the_batch_in_hand(agent: Agent) -> None:
    with locked(agent.workspace.builder().lock):
        os.kill(held_worker(agent).pid, signal.SIGTERM)
    eventually(lambda: worker_of(agent) is None)
    assert f"ended by signal {signal.SIGTERM:d}" in log_of(agent)


def test_it_ends_when_the_work_tree_is_gone(agent: Agent) -> None:
    with locked(agent.workspace.builder().lock):
        held_worker(agent)
        agent.root.rename(agent.root.with_name("elsewhere"))
    eventually(lambda: worker_of(agent) is None)
    assert "the work tree is gone" in log_of(agent)
    agent.root.with_name("elsewhere").rename(agent.root)


def test_it_ends_when_the_index_is_gone(agent: Agent) -> None:
    with locked(agent.workspace.builder().lock):
        held_worker(agent)
        log = agent.workspace.directory / LOG_NAME
        kept = log.rename(log.with_name("kept"))
        for path in agent.workspace.directory.glob("ledger.sqlite*"):
            path.unlink()
    eventually(lambda: worker_of(agent) is None)
    assert "the index was removed or built anew" in kept.read_text()


def test_a_removed_index_directory_stays_removed(agent: Agent) -> None:
    lock = agent.workspace.builder().lock
    with locked(lock):
        held_worker(agent)
        shutil.rmtree(agent.workspace.directory)
    eventually(lambda: worker_of(agent) is None)
    assert not (agent.workspace.directory / "ledger.sqlite").exists()


def test_killed_workers_are_replaced_but_not_for_ever(agent: Agent) -> None:
    with locked(agent.workspace.builder().lock):
        pids = set()
        for _ in range(MOST_FAILURES):
            pids.add(held_worker(agent, pids).pid)
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            eventually(lambda: worker_of(agent) is None)
        assert len(pids) == MOST_FAILURES
        assert not agent.workspace.start_worker(), "it would die again"
    # In the foreground the same work shows what is wrong, or gets done.
    assert agent.index().vectors_embedded == 60
    write(agent.root, {"src/new.py": "def brand_new(): pass\n"})
    agent.refresh()
    assert agent.workspace.start_worker(), "once it has worked, workers may start again"
    eventually(lambda: not pending(agent))


def test_the_log_is_bounded_and_private(agent: Agent) -> None:
    log = agent.workspace.directory / LOG_NAME
    log.write_text("an old line\n" * LOG_BYTES)
    log.chmod(0o600)
    with opened(agent.root, behind=True) as other:
        other.search("function_07")
    eventually(lambda: not pending(agent) and worker_of(agent) is None)
    lines = log.read_text().splitlines()
    assert log.stat().st_size < LOG_BYTES and set(lines[:-2]) == {"an old line"}
    assert "function_07" not in log_of(agent)


def test_none_is_started_when_memory_is_short(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MEMORY_TO_START", 1 << 60)
    assert agent.workspace.ready_embedder(download=False) and not agent.workspace.start_worker()
    assert agent.index_in_background().notes == (
        "no worker was started: one is at work, or memory or battery are low",
    )


# -- the foreground beside it --------------------------------------------------------------------

EMBED = """
import sys
from dataclasses import asdict, replace
from agent.api import Agent
from agent.config import load_settings
agent = Agent.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(agent.workspace.builder().embed_alone(agent.workspace.ready_embedder(download=False)))
"""


def test_two_processes_do_not_make_the_same_vectors_twice(tmp_path: Path) -> None:
    texts = {f"m{i}.py": f"def f{i}():\n    return '{'word ' * 150}'\n" for i in range(400)}
    root = make_repo(tmp_path / "repo", texts)
    with opened(root) as agent:
        agent.refresh()
        total = pending(agent)
        both = [
            subprocess.Popen(
                [sys.executable, "-c", EMBED, str(root)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for _ in range(2)
        ]  # fmt: skip
        for process in both:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in both:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        made = [int(process.communicate(timeout=PATIENCE)[0]) for process in both]
        assert sum(made) == total and not pending(agent)


def test_index_takes_over_from_the_worker(agent: Agent) -> None:
    with locked(agent.workspace.builder().lock):
        worker = held_worker(agent)
        process = started(agent.root, "index", "--json")
        # It wants the lock that we hold before it asks the worker to make way.
        time.sleep(0.5)
        assert process.poll() is None
    done = finished(process)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["vectors_pending"] == 0
    now = worker_of(agent)
    assert now is None or now.pid != worker.pid
    made = sum(
        int(line.split("ended: ")[1].split()[0]) for line in log_of(agent).splitlines() if "ended: " in line
    )
    assert made + json.loads(done.stdout)["vectors_embedded"] >= 60


def test_wait_lets_the_worker_finish(agent: Agent) -> None:
    with locked(agent.workspace.builder().lock):
        held_worker(agent)
        late = command(agent.root, "index", "--wait", "--timeout", "0.5")
        assert late.returncode == 75 and "agent index --background" in late.stderr
        process = started(agent.root, "index", "--wait", "--timeout", "50", "--json")
        time.sleep(0.5)
        assert process.poll() is None and not agent.workspace.builder().claim.asked_to_stop()
    done = finished(process)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["vectors_pending"] == 0
    assert "60 vectors made, nothing is left to do" in log_of(agent)


def test_a_timeout_bounds_our_own_embedding_too(agent: Agent) -> None:
    done = command(agent.root, "index", "--wait", "--timeout", "0")
    assert done.returncode == 75 and "60 vectors are still to come" in done.stderr
    assert command(agent.root, "index", "--wait").returncode == 0 and not pending(agent)


def test_index_in_the_background_returns_with_keywords(root: Path) -> None:
    done = command(root, "index", "--background", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["indexed"], report["vectors_embedded"], report["vectors_pending"]) == (60, 0, 60)
    with opened(root) as agent:
        eventually(lambda: not pending(agent))


@pytest.mark.parametrize(
    "flags", [("--background", "--wait"), ("--stop", "--rebuild"), ("--background", "--timeout", "3")]
)
def test_flags_that_contradict_are_refused(root: Path, flags: tuple[str, ...]) -> None:
    assert command(root, "index", *flags).returncode == 2


# -- several processes ---------------------------------------------------------------------------


def four_at_once(agent: Agent, number: int) -> None:
    """Index, two searches and an edit at the same moment: everybody comes through, or says that it is busy."""
    root = agent.root
    processes = [
        started(root, "index", "--json"),
        started(root, "search", f"function_{number % 60:02}", "--json", behind=True),
        started(root, "search", f"edited_{number}", "--json", behind=True),
    ]
    write(root, {f"src/e{number % 7}.py": f"def edited_{number}(value):\n    return value\n" * 30})
    for process in processes:
        done = finished(process)
        assert done.returncode in (0, 75), done.stderr
        assert "Traceback" not in done.stderr and "bug" not in done.stderr
        if done.returncode == 75:
            assert "process " in done.stderr, done.stderr
    # Whoever was open all along sees what the others did.
    assert agent.search(f"edited_{number}")[0].path == f"src/e{number % 7}.py"


@pytest.mark.parametrize(
    "rounds", [3, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(3_600)])]
)
def test_four_processes_at_once(agent: Agent, rounds: int) -> None:
    for number in range(rounds):
        four_at_once(agent, number)
    command(agent.root, "index", "--stop")
    report = agent.index()
    assert report.vectors_pending == 0
    embedder = agent.workspace.ready_embedder(download=False)
    assert embedder is not None
    live = agent.workspace.ledger.live_keys(embedder.fingerprint())
    assert agent.workspace.builder().store.keys(embedder.fingerprint()) == live
    assert agent.check().faults == ()
    ok, said = agent.self_test()
    assert ok, said


def test_a_long_lived_reader_notices_a_new_generation_and_an_index_built_anew(agent: Agent) -> None:
    agent.index()
    before = agent.status().generation
    write(agent.root, {"src/new.py": "def brand_new():\n    return 1\n"})
    assert command(agent.root, "index").returncode == 0
    assert agent.status().generation > before
    assert agent.workspace.search().hits("brand_new")[0].path == "src/new.py", "without a refresh of its own"
    assert command(agent.root, "index", "--rebuild").returncode == 0
    inode = os.stat(agent.workspace.ledger.path).st_ino
    assert agent.search("brand_new")[0].path == "src/new.py"
    assert agent.workspace.ledger._inode == inode


def test_a_busy_index_names_who_has_it(agent: Agent) -> None:
    write(agent.root, {"src/new.py": "def brand_new():\n    return 1\n"})
    with locked(agent.workspace.builder().lock):
        done = command(agent.root, "search", "function_07")
        assert done.returncode == 0 and f"process {os.getpid()}" in done.stderr
        assert "Answered from what is indexed so far" in done.stderr
