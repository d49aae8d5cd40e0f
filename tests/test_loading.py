"""What is loaded beside other work: imports that two threads must not share, and failures that are told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agent.loading import Background
from indexers.errors import BusyError, ModelError


def test_numpy_is_whole_before_a_second_thread_needs_it() -> None:
    code = (
        "import sys\n"
        "from agent.loading import Background\n"
        "assert 'numpy' not in sys.modules\n"
        "loading = Background(lambda: print(sys.modules['numpy'].__spec__._initializing))\n"
        "loading.wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_failure_is_told_where_it_is_waited_for() -> None:
    def fails(error: BaseException) -> None:
        raise error

    with pytest.raises(BusyError, match="later"):
        Background(lambda: fails(BusyError("later"))).wait()
    with pytest.raises(ModelError, match="could not be loaded: too short"):
        Background(lambda: fails(ValueError("too short"))).wait()
