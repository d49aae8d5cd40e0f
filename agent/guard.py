"""Runs a review in a process of its own, which ends when its time is over, whatever it is doing."""

# A check of a clock between two steps keeps no deadline: loading weights, a grammar's error recovery or a slow disk
# cannot be asked. What the process has reported by then is what was reviewed. A crash inside a native library costs
# the rest of the review and not the commit.

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from chains.review import finished_late
from chains.reviewing.codec import report_from_data, report_to_data
from chains.reviewing.types import Reason, ReviewReport, Unreviewed
from indexers import errors
from indexers.children import is_alone
from indexers.errors import AgentError

Work = Callable[[], Iterator[ReviewReport]]
# What the work may take beyond its own deadline, for the report to be written, in seconds.
GRACE_SECONDS = 0.4
_LONGEST_START = 15.0
# How long its end is waited for, and how often it is looked at.
_BURIAL_SECONDS, _NAP_SECONDS = 0.3, 0.002
_PR_SET_PDEATHSIG = 1
_READ = 1 << 16
_FAILED = 70


def guarded(work: Work, *, started: float, deadline: float) -> ReviewReport:
    """The last report of `work`, or what it had reported when its time was over or it crashed.

    Where no process can be forked safely, the work runs here, and only its own clock ends it.

    :param started: the monotonic time from which `deadline`, in seconds, counts.
    :raises AgentError: the work raised one.
    """
    if not is_alone():
        *_, report = work()
        return report
    descriptor, pid = _forked(work)
    try:
        messages, ended = _listen(descriptor, started + deadline + GRACE_SECONDS)
    finally:
        os.close(descriptor)
        _kill(pid)
        status = _status(pid)
    return _concluded(messages, ended, status, time.monotonic() - started)


def began() -> float:
    """The monotonic time at which this process began, where the system tells; else now.

    Starting an interpreter is part of what a person waits for. A process that is older than any start takes was not
    started for this review: it counts from now.
    """
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        # Field 22 of proc(5), in ticks since boot; the monotonic clock of Linux counts from then too.
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic()
    return time.monotonic() - (max(0.0, age) if age < _LONGEST_START else 0.0)


def _concluded(last: list[dict[str, Any]], ended: bool, status: int, seconds: float) -> ReviewReport:
    error = next((item["error"] for item in last if "error" in item), None)
    if error is not None:
        failure = _kind_of(error["type"])(error["message"], error["remedy"])
        failure.exit_code = int(error["exit_code"])
        raise failure
    report = next((report_from_data(item["report"]) for item in reversed(last) if "report" in item), None)
    done = any(item.get("done") for item in last)
    if report is None:
        whole = Unreviewed("(the whole change)", 0, 0, Reason.PENDING, "it was not even read")
        report = ReviewReport("a change", unreviewed=(whole,))
    if done:
        return report
    if not ended:
        return finished_late(report, seconds)
    detail = (
        f"the process of the review ended by signal {-status}" if status < 0 else f"it ended with {status}"
    )
    lost = tuple(
        replace(item, reason=Reason.MODEL_FAILED, detail=detail) if item.reason is Reason.PENDING else item
        for item in report.unreviewed
    )
    return replace(report, unreviewed=lost, notes=(*report.notes, f"The review did not end well: {detail}."))


def _listen(descriptor: int, end: float) -> tuple[list[dict[str, Any]], bool]:
    """The first error or the last report, and whether the other side closed before the time was over."""
    pending = b""
    last: list[dict[str, Any]] = []
    while (left := end - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            break
        data = os.read(descriptor, _READ)
        if not data:
            return last, True
        *lines, pending = (pending + data).split(b"\n") if b"\n" in data else (pending + data,)
        for line in lines:
            message = json.loads(line)
            last = [*last[-1:], message] if "error" in message or message.get("done") else [message]
    return last, False


def _forked(work: Work) -> tuple[int, int]:
    """The read end of a pipe on which the child reports, and its process id."""
    reading, writing = os.pipe()
    parent = os.getpid()
    # No signal may make the child run our handlers before it has its own.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become_reviewer(work, writing, parent)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(writing)
    return reading, pid


def _become_reviewer(work: Work, descriptor: int, parent: int) -> NoReturn:
    """Work, report and end, without a word to the terminal and without our parent's goodbyes."""
    status = _FAILED
    try:
        os.setsid()
        _die_with(parent)
        gc.freeze()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        _report_all(work, descriptor)
        status = 0
    finally:
        os._exit(status)


def _die_with(parent: int) -> None:
    """Where the system can, end as soon as the parent does: not even SIGKILL leaves a model running behind."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(_FAILED)


def _report_all(work: Work, descriptor: int) -> None:
    try:
        report: ReviewReport | None = None
        for report in work():
            _send(descriptor, {"report": report_to_data(report)})
        _send(descriptor, {"done": True})
    except AgentError as error:
        name = type(error).__name__
        _send(descriptor, {"error": _error(error.message, error.remedy, error.exit_code, name)})
    except BaseException:  # noqa: BLE001 (the boundary of this process: its parent tells)
        message = "This is a bug in agent review:\n" + traceback.format_exc()
        _send(descriptor, {"error": _error(message, "", _FAILED)})


def _error(message: str, remedy: str, code: int, name: str = AgentError.__name__) -> dict[str, object]:
    return {"type": name, "message": message, "remedy": remedy, "exit_code": code}


def _kind_of(name: str) -> type[AgentError]:
    """The class of the error tree with this name, so that whoever called can tell errors apart."""
    found = getattr(errors, name, None)
    return found if isinstance(found, type) and issubclass(found, AgentError) else AgentError


def _send(descriptor: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode("ascii") + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


def _status(pid: int) -> int:
    """How a killed process ended; where the system takes its time with that, it is not waited for."""
    end = time.monotonic() + _BURIAL_SECONDS
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(_NAP_SECONDS)
    return -signal.SIGKILL


def _kill(pid: int) -> None:
    """The process and what it started: it leads a session of its own."""
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
