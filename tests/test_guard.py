"""A review ends when its time is over, whatever it is doing, and takes nobody with it when it dies."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from agent import guard

ROOT = Path(__file__).parents[1]
HEAD = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
from agent.guard import guarded
from chains.reviewing.types import Reason, Reviewed, ReviewReport, Unreviewed
from indexers.errors import UsageError

half = ReviewReport("x", reviewed=(Reviewed("a", 1, 2, True),), unreviewed=(Unreviewed("b", 1, 2, Reason.PENDING),))
whole = ReviewReport("x", reviewed=(Reviewed("a", 1, 2, True), Reviewed("b", 1, 2, True)))
started = time.monotonic()

def show(report):
    lost = [(item.path, item.reason.name) for item in report.unreviewed]
    print([item.path for item in report.reviewed], lost, report.outcome.value, round(time.monotonic() - started, 1))
"""


def run(body: str, deadline: float = 30.0) -> tuple[str, float]:
    """What a script with this work prints, and how long it took; the process of its own must be possible."""
    script = HEAD.format(root=str(ROOT)) + textwrap.dedent(body)
    script += f"\nshow(guarded(work, started=started, deadline={deadline}))\n"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False
    )
    return done.stdout + done.stderr.strip()[-500:], time.monotonic() - began


def test_the_last_report_is_the_review() -> None:
    said, _ = run(
        """
        def work():
            yield half
            yield whole
        """
    )
    assert said.startswith("['a', 'b'] [] clean")


def test_work_that_never_ends_is_ended_and_its_part_is_shown() -> None:
    said, _ = run(
        """
        def work():
            yield half
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            while True:
                pass
        """,
        deadline=1.0,
    )
    assert said.startswith("['a'] [('b', 'DEADLINE')] not reviewed")
    assert float(said.split()[-1]) <= 2.0


def test_work_that_says_nothing_in_time_was_no_review() -> None:
    said, _ = run("def work():\n    time.sleep(60)\n    yield whole\n", deadline=0.5)
    assert "[] [('(the whole change)', 'DEADLINE')] not reviewed" in said


def test_a_crash_costs_what_was_left_and_not_the_commit() -> None:
    said, _ = run("def work():\n    yield half\n    os.kill(os.getpid(), signal.SIGSEGV)\n")
    assert said.startswith("['a'] [('b', 'MODEL_FAILED')] not reviewed")


def test_errors_come_through_with_their_words() -> None:
    said, _ = run("def work():\n    yield half\n    raise UsageError('no such thing', 'do this')\n")
    assert "no such thing" in said and "do this" in said
    said, _ = run("def work():\n    yield half\n    1 / 0\n")
    assert "This is a bug in agent review" in said and "ZeroDivisionError" in said


def test_what_the_work_prints_goes_nowhere() -> None:
    said, _ = run("def work():\n    os.write(1, b'noise')\n    os.write(2, b'noise')\n    yield whole\n")
    assert "noise" not in said and said.startswith("['a', 'b']")


def test_with_other_threads_it_runs_in_place() -> None:
    said, _ = run(
        """
        import threading
        threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
        def work():
            yield half
            yield whole
        """
    )
    assert said.startswith("['a', 'b'] [] clean")


def test_the_deadline_counts_from_the_start_of_a_process_that_was_started_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.guard._LONGEST_START", float("inf"))
    assert guard.began() < time.monotonic() - 0.05, "the interpreter took longer than that to start"
    monkeypatch.setattr("agent.guard._LONGEST_START", 0.0)
    assert abs(time.monotonic() - guard.began()) < 1.0, "this one has been doing other things"
