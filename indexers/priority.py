"""Has a process in a session of its own get less of the machine than what runs in a terminal."""

from __future__ import annotations

import os
import time
from pathlib import Path

# Linux desktops and many servers schedule by session first (CONFIG_SCHED_AUTOGROUP, sched(7)): a process in a session
# of its own then gets as much as everything in the user's terminal together, whatever its nice value. Measured on two
# cores beside four workers at nice 19: each got the same share as a program in the foreground.
_GROUP = Path("/proc/self/autogroup")
_ATTEMPTS, _BETWEEN_SECONDS = 5, 0.11
# A tenth of what an ordinary session gets. At 19 it would be a seventieth: a worker that is asked to make way has to
# get as far as hearing of it, and whoever asked is waiting.
MOST = 10


def nice_session() -> None:
    """Give the session we lead the nice value of this process, up to a limit; where there is none, nothing."""
    wanted = min(os.nice(0), MOST)
    if session_nice() in (None, wanted):
        return
    for _ in range(_ATTEMPTS):
        try:
            with _GROUP.open("w") as group:
                group.write(str(wanted))
            return
        except BlockingIOError:
            # The kernel takes one such request in a tenth of a second, from all of us together.
            time.sleep(_BETWEEN_SECONDS)
        except OSError:
            return


def session_nice() -> int | None:
    """The nice value of our session as a whole; None where the nice value of a process counts by itself."""
    try:
        return int(_GROUP.read_text().rsplit(None, 1)[-1])
    except (OSError, ValueError, IndexError):
        return None
