"""One holder at a time, named to whoever waits in vain, and gone with its process."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from indexers.errors import AgentError, BusyError
from indexers.locks import locked

ROOT = Path(__file__).parents[1]
HOLD = (
    "import sys, time; from pathlib import Path; from indexers.locks import locked\n"
    "with locked(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
)


def hold(path: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    return process


def test_one_at_a_time_among_threads(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(5):
            with locked(tmp_path / "x.lock"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_another_process_is_named_and_its_end_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    process = hold(path)
    try:
        with pytest.raises(BusyError) as caught, locked(path, 0.2):
            pass
        assert f"process {process.pid}" in caught.value.message and caught.value.exit_code == 75
        process.send_signal(signal.SIGKILL)
        process.wait()
        with locked(path, 5):
            pass
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("note", ["", "not json", "[]", '"x"', "{}", '{"pid": "x", "command": 1}', "\x00"])
def test_a_damaged_note_does_not_hide_the_message(tmp_path: Path, note: str) -> None:
    path = tmp_path / "x.lock"
    with locked(path):
        path.with_name("x.lock.holder").write_text(note)
        with pytest.raises(BusyError, match="another process"), locked(path, 0.05):
            pass


def test_the_note_names_this_process(tmp_path: Path) -> None:
    with locked(tmp_path / "x.lock"):
        assert json.loads((tmp_path / "x.lock.holder").read_text())["pid"] == os.getpid()
    assert stat.S_IMODE((tmp_path / "x.lock").stat().st_mode) == 0o600


def test_an_error_inside_frees_the_lock(tmp_path: Path) -> None:
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), locked(tmp_path / "x.lock"):
            raise error
    with locked(tmp_path / "x.lock", 0.05):
        pass


def test_a_place_that_cannot_hold_a_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "x.lock"
    with pytest.raises(AgentError) as caught, locked(path, 0.05):
        pass
    assert not isinstance(caught.value, BusyError) and str(path) in caught.value.message
