"""Reading ahead as a whole: its budget, the worker that does it in the background, and what the last one came to."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent import background
from indexers.claim import Claim, Embedding, Work
from indexers.errors import BusyError, ModelError, UsageError
from indexers.filters import EVERYTHING, Filter
from indexers.locks import is_held, locked

if TYPE_CHECKING:
    from agent.chosen_model import ChosenModel
    from agent.config import Settings
    from agent.workspace import Workspace
    from indexers.types import Progress

LOG_NAME, REPORT_NAME = "warm.log", "warmed.json"
DEFAULT_SECONDS = 600.0
WORK = Work(
    "warm", "Reading ahead in this repository", "agent warm", "Sources are read ahead", "agent warm --stop"
)
# Beside the weights a worker needs its interpreter, the index, and a window of keys and values.
_BESIDE_WEIGHTS = 700_000_000
_ASKING = "asking.lock"
_ASKING_WAIT = 0.2
NOTHING_KEPT = "nothing may be kept: kv_bytes is 0"


@dataclass(frozen=True, slots=True)
class Budget:
    """Where reading ahead stops by itself: after `seconds` of reading, or `bytes` of states; None for no limit."""

    seconds: float | None = DEFAULT_SECONDS
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Warmed:
    """What a reading ahead came to. `head` and `tokens` are tokens of the head and of all `sources` that are kept.

    `read` tokens were read in `seconds`, `known` beginnings of prompts had been kept before, `bytes` were written.
    `joined`: the sources serve at any place of a prompt; else `prompts` were foreseen, and each source serves behind
    those that stand before it there. `largest` is the largest source or prompt, in tokens. `followed`: of what may
    follow the last answer. `ended` says why it ended.
    """

    model: str
    joined: bool = False
    when: float = 0.0
    head: int = 0
    prompts: int = 0
    sources: int = 0
    tokens: int = 0
    largest: int = 0
    read: int = 0
    known: int = 0
    seconds: float = 0.0
    bytes: int = 0
    followed: bool = False
    ended: str = ""

    @property
    def rate(self) -> float:
        """Tokens that were read a second; 0 where nothing was."""
        return self.read / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Warming:
    """What `agent warm` did: a worker `started` for `model`, or was not, for a `reason`; or what was `read` here."""

    model: str = ""
    started: bool = False
    reason: str = ""
    read: Warmed | None = None


def claim(workspace: Workspace) -> Claim:
    """The claim to read ahead in a work tree."""
    return Claim(workspace.directory / "reading", WORK)


def warm(
    workspace: Workspace,
    model: ChosenModel,
    budget: Budget,
    only: Filter,
    *,
    wait: bool = False,
    on_battery: bool = False,
) -> Warming:
    """Read ahead here, where somebody waits for it, or leave it to a worker.

    :raises BusyError: another process is at it here.
    :raises ModelError: the model is not installed.
    :raises UsageError: it is behind a server.
    """
    installed(model)
    if not workspace.settings.kv_bytes:
        return Warming(model.label(), reason=NOTHING_KEPT)
    if not wait:
        reason = start(workspace, model, budget, only, on_battery=on_battery)
        return Warming(model.label(), started=not reason, reason=reason)
    from agent.reading_ahead import read_here

    done = read_here(workspace, model, budget, only)
    return Warming(done.model, read=done)


def follow(workspace: Workspace, model: ChosenModel) -> bool:
    """Have a worker read what is likely to be asked after the last answer, where that is wanted; whether it begins."""
    seconds = workspace.settings.follow_up_seconds
    if not seconds or not workspace.background or not model.is_local:
        return False
    return not start(workspace, model, Budget(seconds), EVERYTHING, follow=True)


def start(
    workspace: Workspace,
    model: ChosenModel,
    budget: Budget,
    only: Filter,
    *,
    follow: bool = False,
    on_battery: bool = False,
) -> str:
    """Start a worker that reads ahead; why none was started, or nothing.

    :param follow: read what may be asked next, behind the last prompt, and nothing else.
    :param on_battery: also where this machine runs on its battery.
    :raises ModelError: the model is not installed.
    :raises UsageError: it is behind a server.
    """
    from agent.hardware import on_battery as runs_on_battery

    path = installed(model)
    held = claim(workspace)
    if not workspace.settings.kv_bytes:
        return NOTHING_KEPT
    if (holder := held.holder()) is not None:
        return f"process {holder.pid} is at it already"
    if held.keeps_failing():
        return f"the last workers failed: see {workspace.directory / LOG_NAME}, or use --wait"
    if not on_battery and runs_on_battery():
        return "this machine runs on its battery"
    if reason := background.reason_to_rest(path.stat().st_size + _BESIDE_WEIGHTS):
        return reason
    order = {
        "root": os.fsencode(workspace.repository.root).hex(),
        "directory": os.fsencode(workspace.directory).hex(),
        "settings": settings_order(workspace.settings, model),
        "budget": asdict(budget),
        "paths": list(only.paths),
        "follow": follow,
        "on_battery": on_battery,
        "since": time.time(),
    }
    begun = background.detach("agent.reading_ahead", order, workspace.directory / LOG_NAME)
    return "" if begun else "no process could be started"


def stop(workspace: Workspace, seconds: float = 60.0) -> bool:
    """Ask the worker to stop, and wait for it; false when there is none. One that is only just starting reads nothing.

    :raises BusyError: it did not stop in time.
    """
    held = claim(workspace)
    holder = held.holder()
    held.ask_to_stop()
    held.wait(lambda _: None, time.monotonic() + seconds, stop=True)
    return holder is not None


def installed(model: ChosenModel) -> Path:
    """The model's file: nothing is fetched for the sake of reading ahead.

    :raises ModelError: it is not here.
    :raises UsageError: it is behind a server, whose memory is not ours.
    """
    if not model.is_local:
        raise UsageError("A model behind a server cannot be read to ahead.", "Leave out --engine openai")
    path = model.installed_path()
    if path is None:
        raise ModelError("No model is installed to read ahead with.", "Fetch one: agent models pull")
    return path


def settings_order(settings: Settings, model: ChosenModel) -> dict[str, object]:
    """Settings for a worker's command line, with the model and its loading as they are here: states depend on them."""
    options = model.local.options
    chosen = replace(
        settings,
        model=str(installed(model)),
        kv=options.type_k,
        gpu_layers=options.n_gpu_layers,
        warnings=(),
    )
    plain = type(settings)()
    values = {field.name: getattr(chosen, field.name) for field in fields(chosen)}
    return {name: value for name, value in values.items() if value != getattr(plain, name)}


def settings_of(order: Mapping[str, object]) -> Settings:
    """The settings that `settings_order` wrote."""
    from agent.config import Settings

    values = {name: tuple(value) if isinstance(value, list) else value for name, value in order.items()}
    return Settings(**values)  # type: ignore[arg-type]


# -- what others see -------------------------------------------------------------------------------


def holder(workspace: Workspace) -> Embedding | None:
    """The process that reads ahead now, and how far it is."""
    return claim(workspace).holder()


def report(directory: Path) -> Warmed | None:
    """What the last reading ahead came to; None when there was none."""
    try:
        return Warmed(**json.loads((directory / REPORT_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def keep_report(directory: Path, warmed: Warmed) -> None:
    """Keep it for `report`. Only a courtesy."""
    new = directory / f"{REPORT_NAME}.{os.getpid()}.new"
    with suppress(OSError):
        new.write_text(json.dumps(asdict(warmed)), encoding="utf-8")
        new.replace(directory / REPORT_NAME)


@contextmanager
def asking(directory: Path) -> Iterator[None]:
    """Tell whoever reads ahead that a person waits for an answer: it rests meanwhile."""
    try:
        with locked(directory / _ASKING, _ASKING_WAIT):
            yield
            return
    except BusyError:
        # Another question says the same.
        pass
    yield


def is_asking(directory: Path) -> bool:
    """Whether a person waits for an answer about this work tree."""
    path = directory / _ASKING
    return path.exists() and is_held(path)


def tell_nobody(_: Progress) -> None:
    """Progress of a process that nobody watches."""
