"""The reading ahead itself: the head, what prompts were read, what is likeliest to be asked, what may follow."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
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
    from indexers.stored import StoredChunk

# Where sources are joined each serves everywhere, and the budget decides. Where they are read in their place a source
# serves behind those that stood before it and nowhere else, so whole prompts are read: as they would be for questions
# about what is likeliest to be asked. By tests/benchmarks/foreseen.py 101 follow-ups in other words then begin with
# 1,184 of 2,043 tokens known (with what the best source calls appended to its prompt, 346 of an older measurement), and
# 42 first questions with 291 of 1,907 (with single sources, 193 of the older one).
MOST_JOINED, MOST_FORESEEN, MOST_FOLLOWING, MOST_CITED = 1_000, 16, 8, 3
# A source of fewer tokens is read about as fast as found; a larger one is seldom shown whole.
_LEAST, _LARGEST = 24, 900
# Commits whose files count as changed lately.
_COMMITS = 50
# Of what all states may take, so much may be new: reading ahead must not push out what was asked.
_SHARE_OF_STORE = 2
_LOOK, _REST = 0.1, 0.2
# What was read is noted for so many sources at once.
_AT_ONCE = 16


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
    # What a question in haste left, without holding the index against those who ask.
    with suppress(BusyError), workspace.guarded():
        workspace.builder().read_rest(lambda: bool(watch.reason), watch.rest)
    workspace.refresh()
    # Imports and weights take a while where others have the machine.
    if not watch.rest():
        return Warmed(model.label(), when=time.time(), ended=watch.reason)
    from chains.warming import Ahead

    llm = model.local
    watch.written = lambda: llm.written[0]
    llm.load()
    work = _Work(workspace, model, Ahead(llm, watch), only)
    ended = "interrupted"
    try:
        with workspace.guarded():
            for done, total in _follow(work) if follow else _prepare(work):
                claim.tell(done, total)
                workspace.progress(Progress("warm", done, total))
        ended = watch.reason or work.ahead.failure or "nothing is left to do"
    finally:
        report = work.report(follow=follow, ended=ended)
        warming.keep_report(workspace.directory, report)
    return report


@dataclass(slots=True)
class _Work:
    """One reading ahead: for what, with what, and the sources that are kept so far, by text."""

    workspace: Workspace
    model: ChosenModel
    ahead: Ahead
    only: Filter
    kept: dict[str, int] = field(default_factory=dict)
    prompts: list[int] = field(default_factory=list)

    @property
    def llm(self) -> LlamaCpp:
        return self.model.local

    @property
    def where(self) -> tuple[Path, Path]:
        return self.workspace.directory, self.workspace.repository.root

    def stamped(self, sources: Sequence[Source]) -> tuple[trails.Stamp, ...]:
        """What tells whether the files of sources change."""
        return trails.indexed(self.workspace.ledger.manifest(), sources)

    def read(self, sources: Sequence[Source]) -> int:
        """Read sources behind the head, in this order; how many of them are kept: fewer where it was stopped."""
        for number, source in enumerate(sources, 1):
            if not self.ahead.ahead(sources[:number]):
                return number - 1
            self.kept[source.text] = source.tokens
        return len(sources)

    def report(self, *, follow: bool, ended: str) -> Warmed:
        """What it came to."""
        return Warmed(
            model=self.llm.label,
            joined=self.llm.joins,
            when=time.time(),
            head=self.ahead.head,
            prompts=len(self.prompts),
            sources=len(self.kept),
            tokens=sum(self.kept.values()),
            largest=max(self.prompts or self.kept.values(), default=0),
            read=self.ahead.read,
            known=self.ahead.known,
            seconds=round(self.ahead.seconds, 3),
            bytes=self.llm.written[0],
            followed=follow,
            ended=ended,
        )


def _prepare(work: _Work) -> Iterator[tuple[int, int]]:
    """The head, what prompts had read and is kept no more, then what is likeliest to be asked."""
    llm = work.llm
    if not work.ahead.ahead():
        return
    if llm.joins:
        yield from _sources_to_join(work)
    elif llm.sticks:
        for entry in trails.asked(*work.where, llm.label):
            if _fits(entry.sources, llm) and work.read(entry.sources) < len(entry.sources):
                return
        from chains.search.likely import about

        texts = list(islice(about(_likeliest(work), work.workspace.names()), MOST_FORESEEN))
        yield from _prompts(work, texts, trails.FORESEEN)
    # Else all is to be read anew in the order of ranks: of that, only the head is known before.


def _follow(work: _Work) -> Iterator[tuple[int, int]]:
    """What may be asked next, by what the last answer cited."""
    from chains.search.likely import follow_ups

    kind = trails.SHOWN if work.llm.joins else trails.ASKED
    entry = next(iter(trails.asked(*work.where, work.llm.label, kind)), None)
    if not work.ahead.ahead() or entry is None or not entry.sources:
        return
    # What stood last had ranked first.
    cited = [_Spot(*place) for place in entry.cited] or entry.sources[-1:]
    texts = follow_ups(work.workspace.names(), cited[:MOST_CITED])
    yield from _prompts(work, texts[:MOST_FOLLOWING], trails.FOLLOWING)


def _prompts(work: _Work, texts: Sequence[str], kind: str) -> Iterator[tuple[int, int]]:
    """Read what prompts with these questions would show: a question like them, in other words, shows much of it."""
    from agent.asking import foreseen

    for number, text in enumerate(texts, 1):
        sources = foreseen(work.workspace, work.model, text)
        if not _fits(sources, work.llm):
            continue
        if work.llm.joins:
            done = next((n for n, source in enumerate(sources) if not work.read([source])), len(sources))
        else:
            done = work.read(sources)
            if done:
                work.prompts.append(sum(source.tokens for source in sources[:done]))
                trails.foresee(
                    *work.where, (kind, work.llm.label), sources[:done], work.stamped(sources[:done])
                )
        if done < len(sources):
            return
        yield number, len(texts)


def _sources_to_join(work: _Work) -> Iterator[tuple[int, int]]:
    """The likeliest sources, each behind the head alone."""
    from chains.context import source_of
    from chains.search.retrieval import plain_hit

    count = work.llm.count_tokens
    sources = (source_of(plain_hit(stored, 1.0), count) for stored in _likeliest(work))
    wanted = list(islice((s for s in sources if _LEAST <= s.tokens <= _LARGEST), MOST_JOINED))
    pairs = list(zip(wanted, work.stamped(wanted), strict=True))
    new: list[tuple[Source, trails.Stamp]] = []
    try:
        for number, pair in enumerate(pairs, 1):
            if not work.read([pair[0]]):
                return
            new.append(pair)
            if number % _AT_ONCE == 0:
                trails.add_joined(*work.where, work.llm.label, new, MOST_JOINED)
            yield number, len(pairs)
    finally:
        trails.add_joined(*work.where, work.llm.label, new, MOST_JOINED)


def _fits(sources: Sequence[Source], llm: LlamaCpp) -> bool:
    """Whether a prompt that begins so leaves half of the window to the question that comes."""
    return sum(source.tokens for source in sources) <= llm.context_window // 2


def _likeliest(work: _Work) -> list[StoredChunk]:
    from chains.search.likely import likely
    from indexers.history import changed

    repository = work.workspace.repository
    head = repository.head()
    recent = changed(repository, head, _COMMITS) if head else {}
    return likely(work.workspace.names(), recent, trails.labels(*work.where), work.only)
