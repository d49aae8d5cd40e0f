"""The reading ahead itself: the head, what prompts were read, what is likeliest to be asked, what may follow."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agent import trails, warming
from agent.background import Watch, log
from agent.warming import Budget, Warmed
from indexers.errors import AgentError, BusyError
from indexers.filters import EVERYTHING, Filter
from indexers.types import Progress

if TYPE_CHECKING:
    from agent.chosen_model import ChosenModel
    from agent.workspace import Workspace
    from chains.llm import LlamaCpp
    from chains.types import Source
    from chains.warming import Ahead
    from indexers.claim import Claim
    from indexers.ledger import StoredChunk

# Where sources are read in their place, each that is read ahead serves as the first of a prompt and no other: a few of
# the likeliest. Where they are joined each serves everywhere, and the budget decides.
MOST_STARTS, MOST_JOINED, MOST_FOLLOWING = 16, 2_000, 8
# A source of fewer tokens is not worth another order (`chains.kv.trail`); a larger one is seldom shown whole.
_LEAST, _LARGEST = 100, 900
# Commits whose files count as changed lately.
_COMMITS = 50
# Of what all states may take, so much may be new: reading ahead must not push out what was asked.
_SHARE_OF_STORE = 2
_LOOK, _REST = 0.1, 0.2


class _Spot(NamedTuple):
    """Some lines of a file."""

    path: str
    start_line: int
    end_line: int


class Patience(Watch):
    """Whether to stop: for now while a person waits for an answer, or for good. Asked thousands of times a second."""

    def __init__(self, workspace: Workspace, claim: Claim, budget: Budget, *, on_battery: bool) -> None:
        super().__init__(claim, workspace.ledger, workspace.repository.root)
        self._paused = 0.0
        self._stop, self._next = False, 0.0
        self._directory = workspace.directory
        self._budget = budget
        self._most = workspace.settings.kv_bytes // _SHARE_OF_STORE
        # Bytes written; whoever has a model says how many.
        self.written: Callable[[], int] = lambda: 0
        self._on_battery = on_battery
        self._started = time.monotonic()

    def clock(self) -> float:
        """Seconds of work since the start."""
        return time.monotonic() - self._started - self._paused

    def __call__(self) -> bool:
        """Whether to stop now; `reason` says why where that is for good."""
        now = time.monotonic()
        if now >= self._next or self._spent():
            self._stop = super().__call__() or warming.is_asking(self._directory)
            self._next = now + _LOOK
        return self._stop

    def rest(self) -> bool:
        """Wait until nobody waits for an answer; false where there is a reason to stop for good."""
        started = time.monotonic()
        while not super().__call__() and warming.is_asking(self._directory):
            time.sleep(_REST)
        self._paused += time.monotonic() - started
        self._next = 0.0
        return not self.reason

    def found(self) -> str:
        """A reason to stop for good that is there now; empty for none."""
        return super().found() or self._spent() or self._unplugged()

    def _spent(self) -> str:
        if self._budget.seconds is not None and self.clock() >= self._budget.seconds:
            return "its time is used up"
        if self._budget.bytes is not None and self.written() >= self._budget.bytes:
            return "its bytes are used up"
        return "half of what may be kept is new" if self.written() >= self._most else ""

    def _unplugged(self) -> str:
        from agent.hardware import on_battery

        return "this machine runs on its battery" if not self._on_battery and on_battery() else ""


def read_here(
    workspace: Workspace,
    model: ChosenModel,
    budget: Budget,
    only: Filter = EVERYTHING,
    *,
    follow: bool = False,
) -> Warmed:
    """Read ahead in this process, on a battery too. A worker makes way; interrupted, what was read stays.

    :param follow: what may be asked next, behind the last prompt, and nothing else.
    :raises BusyError: another process is at it and does not make way.
    """
    claim = warming.claim(workspace)
    warming.installed(model)
    with claim.turn(workspace.repository.root, lambda _: None):
        return _read(workspace, model, claim, budget, only, follow=follow, on_battery=True)


def main() -> None:
    """What the worker does: the last argument says it, a JSON object."""
    from agent.config import silence_tracing
    from indexers.priority import nice_session

    # The interpreter was started niced, and in a session of its own.
    nice_session()
    silence_tracing()
    order = json.loads(sys.argv[-1])
    root, directory = (Path(os.fsdecode(bytes.fromhex(order[key]))) for key in ("root", "directory"))
    try:
        _work(root, directory, order)
    except BusyError as error:
        log(f"ended: {error.message}")
    except AgentError as error:
        log(f"failed: {error.message}")


def _work(root: Path, directory: Path, order: Mapping[str, Any]) -> None:
    from agent.chosen_model import ChosenModel
    from agent.workspace import Workspace
    from indexers.git import Repository

    settings = warming.settings_of(order["settings"])
    workspace = Workspace(Repository.discover(root), settings, None, directory)
    model = ChosenModel(settings, warming.tell_nobody)
    claim = warming.claim(workspace)
    budget, only = Budget(**order["budget"]), Filter(paths=order["paths"])
    try:
        with claim.held(root, background=True, since=float(order["since"])):
            log("started")
            how = {name: bool(order[name]) for name in ("follow", "on_battery")}
            done = _read(workspace, model, claim, budget, only, **how, background=True)
            log(f"ended: {done.read:,} tokens read in {done.seconds:.0f} s, {done.ended}")
    finally:
        model.close()
        workspace.close()


def _read(
    workspace: Workspace,
    model: ChosenModel,
    claim: Claim,
    budget: Budget,
    only: Filter = EVERYTHING,
    *,
    follow: bool = False,
    on_battery: bool = False,
    background: bool = False,
) -> Warmed:
    """Read the head and what is planned behind it, until all is done or there is a reason to stop."""
    watch = Patience(workspace, claim, budget, on_battery=on_battery)
    if background:
        signal.signal(signal.SIGTERM, watch.end)
    workspace.refresh()
    # Imports and weights take a while where others have the machine.
    if not watch.rest():
        return Warmed(model.label(), when=time.time(), ended=watch.reason)
    from chains.warming import Ahead

    llm = model.local
    watch.written = lambda: llm.written[0]
    llm.load()
    ahead = Ahead(llm, watch)
    kept: list[Source] = []
    try:
        if ahead.ahead():
            with workspace.guarded():
                read = _follow if follow else _prepare
                for source, done, total in read(workspace, llm, ahead, only):
                    kept.append(source)
                    claim.tell(done, total)
                    workspace.progress(Progress("warm", done, total))
    finally:
        ended = watch.reason or ahead.failure or "nothing is left to do"
        report = _report(llm, ahead, kept, follow=follow, ended=ended)
        warming.keep_report(workspace.directory, report)
    return report


Step = tuple["Source", int, int]


def _prepare(workspace: Workspace, llm: LlamaCpp, ahead: Ahead, only: Filter) -> Iterator[Step]:
    """What prompts had read and is kept no more, then the likeliest sources: to be joined, or each to begin with."""
    directory, root = workspace.directory, workspace.repository.root
    joins = llm.joins
    if not (joins or llm.sticks):
        return  # asked to read all anew in the order of ranks: no prompt would begin with it
    if llm.sticks:
        for entry in trails.asked(directory, root, llm.label):
            if not ahead.ahead(entry.sources):
                return
    wanted = list(_sources(_likeliest(workspace, only), llm))
    kind, most = (trails.JOINED, MOST_JOINED) if joins else (trails.START, MOST_STARTS)
    wanted = wanted[:most]
    for number, source in enumerate(wanted, 1):
        stamp = trails.stamps(root, [source])[0]
        if not ahead.ahead([source]):
            return
        trails.add_read_ahead(directory, root, (kind, llm.label), source, stamp, most)
        yield source, number, len(wanted)


def _follow(workspace: Workspace, llm: LlamaCpp, ahead: Ahead, only: Filter) -> Iterator[Step]:
    """What may be asked next, by what the last answer cited, behind what its prompt had read."""
    from chains.search.likely import follow_ups

    directory, root = workspace.directory, workspace.repository.root
    kind = trails.SHOWN if llm.joins else trails.ASKED
    entry = next(iter(trails.asked(directory, root, llm.label, kind)), None)
    if entry is None or not entry.sources:
        return
    # What stood last had ranked first.
    best = entry.sources[: entry.shown][-1:]
    cited = [_Spot(*place) for place in entry.cited] or best
    found = follow_ups(workspace.names(), cited, entry.sources)
    room = llm.context_window // 2 - sum(source.tokens for source in entry.sources)
    wanted = list(_sources((stored for stored in found if _admitted(stored, only)), llm))[:MOST_FOLLOWING]
    for number, source in enumerate(wanted, 1):
        room -= source.tokens
        stamp = trails.stamps(root, [source])[0]
        sources = [source] if llm.joins else [*entry.sources, source]
        if room < 0 or not ahead.ahead(sources):
            return
        if not llm.joins:
            entry = trails.extend(directory, root, entry, source, stamp)
        yield source, number, len(wanted)


def _likeliest(workspace: Workspace, only: Filter) -> list[StoredChunk]:
    from chains.search.likely import likely
    from indexers.history import changed

    repository = workspace.repository
    head = repository.head()
    recent = changed(repository, head, _COMMITS) if head else {}
    shown = trails.labels(workspace.directory, repository.root)
    return likely(workspace.names(), recent, shown, only)


def _admitted(stored: StoredChunk, only: Filter) -> bool:
    return only.admits(stored.chunk.path, stored.chunk.language)


def _sources(chunks: Iterator[StoredChunk] | Sequence[StoredChunk], llm: LlamaCpp) -> Iterator[Source]:
    """Chunks as prompts show them, of a size that pays."""
    from chains.context import source_of
    from chains.search.retrieval import plain_hit

    for stored in chunks:
        source = source_of(plain_hit(stored, 1.0), llm.count_tokens)
        if _LEAST <= source.tokens <= _LARGEST:
            yield source


def _report(llm: LlamaCpp, ahead: Ahead, kept: Sequence[Source], *, follow: bool, ended: str) -> Warmed:
    sizes = [source.tokens for source in kept]
    return Warmed(
        model=llm.label,
        joined=llm.joins,
        when=time.time(),
        head=ahead.head,
        sources=len(sizes),
        tokens=sum(sizes),
        largest=max(sizes, default=0),
        read=ahead.read,
        known=ahead.known,
        seconds=round(ahead.seconds, 3),
        bytes=llm.written[0],
        followed=follow,
        ended=ended,
    )
