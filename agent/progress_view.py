"""Progress of long work on stderr: bars with rate and time left on a terminal, elsewhere nearly nothing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from agent.safe_text import sanitise, show_path
from agent.wording import size_text
from indexers.types import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import Task

    from agent.output import Output

_UNITS = {
    "read": "files",
    "parse": "files",
    "embed": "chunks",
    "store": "vectors",
    "prefill": "tokens",
    "warm": "steps",
}


class ProgressView:
    """Shows progress events of long work: bars on a terminal, elsewhere nearly nothing."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._bars: RichProgress | None = None
        self._tasks: dict[str, Any] = {}
        self._announced: set[str] = set()
        self._hidden = False
        self._lock = threading.RLock()

    def __call__(self, event: Progress) -> None:
        """Show one event; events may come from any thread, and those that come while hidden are dropped."""
        with self._lock:
            if self._hidden:
                return
            self._announce(event)
            if self._bars is None:
                self._bars = self._output.live()
                if self._bars is None:
                    return
                self._bars.start()
            total = event.total or None
            if event.stage not in self._tasks:
                self._tasks[event.stage] = self._bars.add_task(
                    sanitise(event.stage), total=total, unit=_unit(event.stage), detail=""
                )
            detail = show_path(event.detail)[:60]
            self._bars.update(self._tasks[event.stage], completed=event.done, total=total, detail=detail)

    def hide(self) -> None:
        """Take the display away, so that the answer can be written where it was."""
        with self._lock:
            self._hidden = True
            if self._bars is not None:
                self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def show(self) -> None:
        """Follow events again, for the next piece of work."""
        with self._lock:
            self._hidden = False

    def _announce(self, event: Progress) -> None:
        """Say what is fetched and how big it is, in a line that stays: it takes long and uses the network."""
        if event.stage.startswith("download") and event.stage not in self._announced:
            self._announced.add(event.stage)
            size = f" ({size_text(event.total)})" if event.total else ""
            self._output.note(f"{event.stage}{size} ...")


def _unit(stage: str) -> str:
    return "bytes" if stage.startswith("download") else _UNITS.get(stage, "")


def bars(console: Console) -> RichProgress:
    """Stage, bar, count, rate and time left."""
    from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Amount(ProgressColumn):
        """Done of total and the rate, in the stage's own unit."""

        def render(self, task: Task) -> Text:
            return Text(_amount(task), style="progress.data.speed")

    return RichProgress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        Amount(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[detail]}", style="dim", markup=False),
        console=console,
        refresh_per_second=6,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _amount(task: Task) -> str:
    unit = task.fields.get("unit", "")
    if unit == "bytes":
        show = size_text
    elif not unit:
        return ""
    else:

        def show(count: float) -> str:
            return f"{count:,.0f}"

    done = show(task.completed) + (f"/{show(task.total)}" if task.total else "")
    rate = f", {show(task.speed)}/s" if task.speed else ""
    return f"{done}{'' if unit == 'bytes' else ' ' + unit}{rate}"
