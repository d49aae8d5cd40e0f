"""`agent warm`: what is likeliest to be asked is read before it is asked."""

from __future__ import annotations

import re
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands import (
    ContextOption,
    ExactOption,
    FastOption,
    Job,
    JsonOption,
    ModelOption,
    RepoOption,
    reading_of,
    tell_stopped,
    work_on,
)
from agent.commands.cache import bytes_of
from agent.commands.engine import Engine, with_engine
from agent.output import Output
from agent.wording import count_text, seconds_text, size_text
from indexers.errors import UsageError

if TYPE_CHECKING:
    from agent.warming import Warmed, Warming

_TIMES = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0}
_DEFAULT = "10m"


@with_engine
def command(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH]...", help="Only files that these cover: src/, '*.py'."),
    ] = None,
    repo: RepoOption = Path(),
    model: ModelOption = None,
    context_tokens: ContextOption = None,
    budget: Annotated[
        str,
        typer.Option(
            "--budget", metavar="TIME|SIZE", help="Stop after 90s, 20m, 1h, or 500M, 2GB of states."
        ),
    ] = _DEFAULT,
    wait: Annotated[
        bool, typer.Option("--wait", help="Read in this process, and say what it came to.")
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the worker.")] = False,
    on_battery: Annotated[
        bool, typer.Option("--on-battery", help="Start a worker also where the machine runs on its battery.")
    ] = False,
    exact: ExactOption = False,
    fast: FastOption = False,
    json: JsonOption = False,
    *,
    engine: Engine,
) -> Job:
    """Read ahead, so that answers begin sooner.

    A worker in the background reads with the lowest priority, rests while a question is answered, and ends by itself;
    agent status shows it. What is kept already is not read again, so that stopping costs nothing.

    The head of prompts is read for every model. Where sources are joined (--fast), the likeliest are read: the most
    used, the last changed, those shown before; each serves at any place of a prompt. Else prompts about them are read
    as they would be asked, and a question that shows the same sources begins with them, and with
    what else stands there and is about it.

    Example: agent warm --budget 20m src/
    """
    if stop:
        return Job(partial(run_stop, repo=repo, json=json), json=json)
    flags = {
        **{"model": model, "context_tokens": context_tokens, "reading": reading_of(exact, fast)},
        **{"download": False, **engine},
    }
    how = {"paths": tuple(paths or ()), **budget_of(budget), "wait": wait, "on_battery": on_battery}
    return Job(partial(run, repo=repo, flags=flags, how=how, json=json), json=json)


def run(output: Output, *, repo: Path, flags: dict[str, object], how: dict[str, Any], json: bool) -> int:
    """Read ahead in the repository at `repo`, or have it done."""
    with work_on(output, repo, flags) as work:
        done = work.agent.warm(**how)
        work.progress.hide()
    if json:
        output.json(done)
    else:
        _show(output, done)
    return 0


def run_stop(output: Output, *, repo: Path, json: bool) -> int:
    """Stop the worker of the repository at `repo`, where there is one."""
    with work_on(output, repo) as work:
        stopped = work.agent.stop_warming()
    return tell_stopped(output, stopped, "what was read", json=json)


def budget_of(text: str) -> dict[str, float | int | None]:
    """A time or a size as people write it: 90s, 20m, 1h; 500M, 2GB.

    :raises UsageError: it is neither, or nothing.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h)\s*", text)
    if found is not None:
        limits: dict[str, float | int | None] = {"seconds": float(found[1]) * _TIMES[found[2]], "bytes": None}
    else:
        try:
            limits = {"seconds": None, "bytes": bytes_of(text)}
        except UsageError:
            raise UsageError(
                f"{text!r} is neither a time nor a size.", "Write it as 90s, 20m, 1h, or as 500M, 2GB."
            ) from None
    if not any(limits.values()):
        raise UsageError("A budget of nothing reads nothing.", "agent warm --budget 20m")
    return limits


def warmed_text(warmed: Warmed) -> str:
    """What a reading ahead came to, and what it can save, on one line."""
    age = max(0, int(time.time() - warmed.when))
    ago = f"{age // 3_600} h" if age >= 3_600 else f"{age // 60} min" if age >= 60 else f"{age} s"
    sources = f" and {count_text(warmed.sources, 'source')}" if warmed.sources else " alone"
    sources += f" of {count_text(warmed.prompts, 'foreseen prompt')}" if warmed.prompts else ""
    took = f"{warmed.read:,} tokens read in {seconds_text(warmed.seconds)}" if warmed.read else "nothing new"
    return f"the head{sources} with {warmed.model}, {took}, {ago} ago ({warmed.ended})"


def savings(warmed: Warmed) -> str:
    """What it can save, and where it saves nothing. Seconds by the rate just seen."""

    def worth(tokens: int) -> str:
        about = f", about {seconds_text(tokens / warmed.rate)}" if warmed.rate else ""
        return f"{tokens:,} tokens{about}"

    head = f"Every first question saves the head: {worth(warmed.head)}."
    if warmed.joined and warmed.sources:
        return f"{head} One that shows sources read ahead saves them too, of {worth(warmed.tokens)} in all."
    if warmed.prompts:
        like = "One like a question foreseen, in other words, begins as that would have"
        return f"{head} {like}: as far as it shows the same, at most {worth(warmed.largest)}."
    return head


def _show(output: Output, done: Warming) -> None:
    if done.read is not None:
        kept = f", {count_text(done.read.known, 'beginning')} had been kept" if done.read.known else ""
        output.line(("warmed", "bold"), f"  {warmed_text(done.read)}")
        output.line(("saves", "bold"), f"   {savings(done.read)}")
        output.note((f"{size_text(done.read.bytes)} of states written{kept}", "dim"))
    elif done.started:
        output.line(
            f"a worker reads ahead with {done.model}; agent status shows it, agent warm --stop ends it"
        )
    else:
        output.line(f"no worker was started: {done.reason}")
