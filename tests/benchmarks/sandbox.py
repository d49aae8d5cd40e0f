"""Runs code that a model wrote in a process of its own: limits, no network, an empty directory, all killed after."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_MEMORY, _FILE, _PROCESSES = 2 << 30, 16 << 20, 256


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: `status` is its exit status, None when the time was over; `output` the end of what it said."""

    status: int | None
    output: str

    @property
    def passed(self) -> bool:
        return self.status == 0


def run_python(program: str, seconds: float = 10.0) -> Outcome:
    """Run a Python program that needs the standard library alone."""
    with tempfile.TemporaryDirectory() as place:
        script = Path(place, "program.py")
        script.write_text(program, encoding="utf-8", errors="replace")
        return run([sys.executable, "-I", "-B", str(script)], Path(place), seconds, {"HOME": place})


def run(command: list[str], place: Path, seconds: float, variables: dict[str, str] | None = None) -> Outcome:
    """Run a command in `place` with a bare environment, no input and no network."""
    environment = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        **(variables or {}),
    }
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [*_without_network(), *command],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: _limit(seconds),
        )
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        output.seek(0, os.SEEK_END)
        output.seek(max(0, output.tell() - 8_000))
        return Outcome(status, output.read().decode("utf-8", "replace"))


def _limit(seconds: float) -> None:
    cpu = int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    resource.setrlimit(resource.RLIMIT_NPROC, (_PROCESSES, _PROCESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@cache
def _without_network() -> list[str]:
    """What starts a command in network and process namespaces of its own, where this system lets us."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return []
    for flags in (["-rnpf", "--kill-child"], ["-rn"]):
        prefix = [unshare, *flags]
        if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
            return prefix
    return []
