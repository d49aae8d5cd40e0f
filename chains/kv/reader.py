"""Brings a context to a prompt and reads nothing twice: from memory, from disk, joined, or else by the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from chains.engine.library import build
from chains.kv.cells import CellsError
from chains.kv.layout import Keys, Repair, Step, fingerprint, plan
from chains.kv.store import Entry, KvStore

if TYPE_CHECKING:
    from chains.engine.families import Prompt
    from chains.engine.runtime import LoadOptions, Runtime
    from chains.models.gguf import GgufInfo

OnProgress = Callable[[int, int], None]
# Fewer tokens are read about as fast as a file is opened.
_LEAST_KEPT, _LEAST_TAIL = 8, 16
_LABEL_TOKENS, _LABEL_CHARS, _SOURCE = 48, 100, "Source ["
# States that were there and are gone, or damaged, are computed again; at last nothing on disk is believed.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """How a prompt of `tokens` was read: `read` by the model, the rest restored; `joined` of its `sources`.

    `read` may exceed `tokens`: a joined source that was not known is read behind the head, and in part again. `fresh`
    are the tokens of each source that the model read, in the order of the prompt.
    """

    tokens: int
    read: int = 0
    sources: int = 0
    joined: int = 0
    fresh: tuple[int, ...] = ()

    @property
    def cached(self) -> int:
        """Tokens that the model did not have to read."""
        return max(0, self.tokens - self.read)


@dataclass(frozen=True, slots=True)
class _Known:
    """A step in memory: where it ends, its key, and whether its batches began where it begins."""

    end: int
    key: str
    plain: bool = True


class _Missing(Exception):
    """A state that was there is gone or damaged."""


@dataclass(slots=True)
class _Work:
    """One call of `read`: whom to tell, what was read so far, and states that are not on disk.

    `fresh` are tokens that the model read, by where the step begins.
    """

    total: int
    progress: OnProgress | None
    stopped: Callable[[], bool]
    read: int = 0
    done: int = -1
    doubts: bool = False
    spare: dict[str, bytearray] = field(default_factory=dict)
    fresh: dict[int, int] = field(default_factory=dict)

    def tell(self, done: int) -> None:
        """Say how far we are; never less than before."""
        if self.progress is not None and done > self.done:
            self.done = min(done, self.total)
            self.progress(self.done, self.total)


def open_reader(runtime: Runtime, info: GgufInfo, options: LoadOptions, directory: str, limit: int) -> Reader:
    """The reader of a model just loaded.

    :param directory: where states are kept; empty: in memory alone.
    :param limit: bytes that all states there may take.
    """
    # Threads only share out the work, and how much more could be read changes nothing that is.
    used = {name: value for name, value in asdict(options).items() if name not in ("n_ctx", "n_threads")}
    files = [info.path, *([Path(options.lora)] if options.lora else [])]
    store = KvStore(Path(directory), limit) if directory else None
    return Reader(runtime, fingerprint(files, build(), used), info.path.stem, store)


class Reader:
    """The reading side of a loaded model. Not thread-safe: one caller at a time."""

    def __init__(self, runtime: Runtime, fingerprint: str, model: str, store: KvStore | None) -> None:
        """:param fingerprint: see `kv.fingerprint`.
        :param store: keeps states between processes; None: in memory alone.
        """
        self.store = store if runtime.cells.spans else None
        self._runtime = runtime
        self._keys = Keys(fingerprint)
        self._model = model
        self._known: list[_Known] = []
        # What stands in memory behind the known steps: said by the model one by one, or read in batches.
        self._said = False

    def read(
        self,
        prompt: Prompt,
        repair: Repair | None,
        progress: OnProgress | None,
        stopped: Callable[[], bool],
        *,
        ahead: bool = False,
    ) -> Reading:
        """Bring the context to a prompt. Its last step is always read: the next token is chosen by what that gives.

        :param repair: how sources are joined; None reads every source in its place.
        :param ahead: nothing is to be said behind it: the last step too is read only where it is not known.
        :raises Interrupted: `stopped` became true; what was read so far stays valid.
        """
        work = _Work(len(prompt.ids), progress, stopped)
        self._see_what_is_left()
        steps = plan(prompt, repair if self._runtime.cells.shifts else None)
        if ahead:
            steps.append(Step(len(prompt.ids), len(prompt.ids), ()))
        joined_from = next((step.start for step in steps if step.joined), None)
        known = [start for start in (joined_from, self._runtime.joined_from) if start is not None]
        self._runtime.joined_from = min(known, default=None)
        for attempt in range(_ATTEMPTS):
            work.doubts = attempt == _ATTEMPTS - 1
            try:
                self._bring(steps, work)
                break
            except _Missing:
                continue
        self._runtime.joined_from = joined_from
        fresh = tuple(work.fresh.get(start, 0) for start, _ in prompt.sources)
        return Reading(
            len(prompt.ids), work.read, len(prompt.sources), sum(step.joined for step in steps), fresh
        )

    def kept(self, prompt: Prompt) -> int:
        """How many of a prompt's first tokens are on disk, by their names: nothing is loaded or checked."""
        before, end = self._keys.root, 0
        for step in plan(prompt, None):
            key = next(
                (key for key in self._possible(before, step) if self.store and self.store.has(key)), ""
            )
            if not key:
                break
            before, end = key, step.end
        return end

    def keep_said(self) -> None:
        """Keep what the model said behind the prompt, for the next turn of the conversation."""
        if not self._said or not self._known:
            return
        if self._runtime.touched is not None:
            return
        last = self._known[-1]
        said = self._runtime.tokens[last.end :]
        if len(said) >= _LEAST_TAIL:
            self._keep(self._keys.tail(last.key, said), "tail", last.end, said, tokens=tuple(said))

    def _see_what_is_left(self) -> None:
        """Forget what a look in between has overwritten."""
        left, self._runtime.touched = self._runtime.touched, None
        if left is not None:
            self._known = [known for known in self._known if known.end <= left]
            self._said = False
            if self._runtime.cut(self._known[-1].end if self._known else 0) == 0:
                self._known.clear()

    # -- memory ------------------------------------------------------------------------------------

    def _bring(self, steps: Sequence[Step], work: _Work) -> None:
        there = self._matching(steps)
        if self._read_apart(steps, there, work):
            there = 1
        there, said = self._cut(steps, there)
        work.tell(len(self._runtime.tokens))
        try:
            for at in range(there, len(steps)):
                step = steps[at]
                if not step.ids:
                    break
                if not step.joined:
                    self._read_step(step, work, last=at == len(steps) - 1, said=said and at == there)
                    continue
                if at == there or not steps[at - 1].joined:
                    self._fetch_run(steps, at, work)
                self._join(step, work)
        finally:
            self._runtime.cells.forget_waiting()
        work.tell(len(self._runtime.tokens))
        self._said = True

    def _matching(self, steps: Sequence[Step]) -> int:
        """How many steps are in memory. A run of joined sources counts as a whole or not at all.

        So cells lie in memory in the same order whatever was there, and sums come out the same.
        """
        before, count = self._keys.root, 0
        for step, known in zip(steps[:-1], self._known, strict=False):
            if known.end != step.end or known.key not in self._possible(before, step):
                break
            before, count = known.key, count + 1
        while count and steps[count].joined and steps[count - 1].joined:
            count -= 1
        return count

    def _possible(self, before: str, step: Step) -> tuple[str, ...]:
        if step.joined:
            return (self._keys.joined(before, step.repaired, step.ids),)
        return self._keys.read(before, step.ids), self._keys.said(before, step.ids)

    def _cut(self, steps: Sequence[Step], there: int) -> tuple[int, bool]:
        """Keep what is there, and what the next step begins with: how many steps are left, and if that was said."""
        end = self._known[there - 1].end if there else 0
        said = self._said and there == len(self._known)
        begun = self._begun(steps[there], there, end, said=said)
        if there == len(steps) - 1 and begun >= len(steps[there].ids):
            begun = 0
        del self._known[there:]
        self._said = False
        if self._runtime.cut(end + begun) < end + begun:
            self._known.clear()
            return 0, False
        return there, said and begun > 0

    def _begun(self, step: Step, there: int, end: int, *, said: bool) -> int:
        """Tokens in memory that a step begins with; of what was read whole batches only: other ones sum otherwise."""
        if step.joined or (there < len(self._known) and not self._known[there].plain):
            return 0
        same = 0
        for old, new in zip(self._runtime.tokens[end:], step.ids, strict=False):
            if old != new:
                break
            same += 1
        return same if said else same - same % self._runtime.n_batch

    @property
    def _before(self) -> str:
        return self._known[-1].key if self._known else self._keys.root

    # -- reading -----------------------------------------------------------------------------------

    def _read_step(self, step: Step, work: _Work, *, last: bool = False, said: bool = False) -> None:
        """A step in its place: restored, or read behind what of it is there already."""
        read, said_key = self._possible(self._before, step)
        begun = len(self._runtime.tokens) - step.start
        if not begun and not last:
            for key in (said_key, read):
                if self._restore(key, step.start, step.ids, work):
                    self._known.append(_Known(step.end, key, plain=key == read))
                    work.tell(step.end)
                    return
            begun = self._restore_tail(step, work)
            said = begun > 0
        self._read(step.ids[begun:], work)
        work.fresh[step.start] = len(step.ids) - begun
        key = said_key if said else read
        self._keep(key, "place" if self._known else "head", step.start, step.ids)
        self._known.append(_Known(step.end, key, plain=not said))

    def _read(self, ids: Sequence[int], work: _Work) -> None:
        def told() -> None:
            work.tell(len(self._runtime.tokens))

        before = len(self._runtime.tokens)
        try:
            self._runtime.read(ids, told, work.stopped)
        finally:
            work.read += len(self._runtime.tokens) - before

    def _read_apart(self, steps: Sequence[Step], there: int, work: _Work) -> bool:
        """Read the sources to be joined that are not known, each behind the head alone; whether there were any.

        Nothing else is in memory then: what a source's state is must not depend on when it was read.
        """
        head = self._keys.read(self._keys.root, steps[0].ids)
        missing = {self._keys.read(head, step.ids): step for step in steps[there:] if step.joined}
        missing = {key: step for key, step in missing.items() if not self._has(key, work)}
        if not missing:
            return False
        self._set_aside(steps[1:there], work)
        there, _ = self._cut(steps, min(there, 1))
        if not there:
            self._read_step(steps[0], work)
        base = steps[0].end
        for key, step in missing.items():
            self._runtime.cut(base)
            self._read(step.ids, work)
            work.fresh[step.start] = len(step.ids)
            if not self._keep(key, "source", base, step.ids) or work.doubts:
                work.spare[key] = bytearray(self._runtime.cells.save(base, base + len(step.ids)))
        self._runtime.cut(base)
        return True

    def _set_aside(self, steps: Sequence[Step], work: _Work) -> None:
        """Keep in memory, for this call, what has to make room and is not on disk."""
        for step, known in zip(steps, self._known[1:], strict=False):
            if not step.joined and not self._has(known.key, work):
                work.spare[known.key] = bytearray(self._runtime.cells.save(step.start, step.end))

    # -- joining -----------------------------------------------------------------------------------

    def _fetch_run(self, steps: Sequence[Step], first: int, work: _Work) -> None:
        """Load a run of joined sources and turn them to their places: once for all, when something is read next."""
        head = self._keys.read(self._keys.root, steps[0].ids)
        missing = False
        for step in steps[first:]:
            if not step.joined:
                break
            key = self._keys.read(head, step.ids)
            data = self._data(key, steps[0].end, len(step.ids), work)
            try:
                if data is not None:
                    self._runtime.cells.wait(data, steps[0].end, len(step.ids), step.repaired, step.start)
                missing = missing or data is None
            except CellsError:
                self._forget(key, work)
                missing = True
        # All were looked at: what is damaged is gone now, and is read in one go.
        if missing:
            raise _Missing

    def _join(self, step: Step, work: _Work) -> None:
        """A source that waits, its first tokens read again in their place."""
        again = step.ids[: step.repaired]
        key = self._keys.repaired(self._before, again)
        if again and not self._restore(key, step.start, again, work):
            self._read(again, work)
            work.fresh[step.start] = work.fresh.get(step.start, 0) + len(again)
            self._keep(key, "place", step.start, again)
        self._runtime.cells.join(step.start + len(again), step.end)
        self._runtime.tokens += step.ids[len(again) :]
        joined = self._keys.joined(self._before, step.repaired, step.ids)
        self._known.append(_Known(step.end, joined, plain=False))
        work.tell(step.end)

    # -- states ------------------------------------------------------------------------------------

    def _has(self, key: str, work: _Work) -> bool:
        return key in work.spare or (self.store is not None and not work.doubts and self.store.has(key))

    def _data(self, key: str, start: int, length: int, work: _Work) -> bytearray | None:
        if key in work.spare:
            return work.spare[key]
        found = self.store.get(key) if self.store is not None and not work.doubts else None
        if found is None or (found[0].start, found[0].length) != (start, length):
            return None
        return found[1]

    def _restore(self, key: str, start: int, ids: Sequence[int], work: _Work) -> bool:
        data = self._data(key, start, len(ids), work) if len(ids) >= _LEAST_KEPT else None
        return data is not None and self._put_back(key, data, start, ids, work)

    def _restore_tail(self, step: Step, work: _Work) -> int:
        """What the model once said here, as far as the step begins with it; how many tokens that are."""
        key = self._keys.tail(self._before, step.ids)
        found = self.store.get(key) if self.store is not None and self.store.has(key) else None
        if found is None or found[0].start != step.start or found[0].length != len(found[0].tokens):
            return 0
        same = next(
            (at for at, (a, b) in enumerate(zip(found[0].tokens, step.ids, strict=False)) if a != b),
            min(len(found[0].tokens), len(step.ids)),
        )
        if same < _LEAST_TAIL or not self._put_back(key, found[1], step.start, step.ids[:same], work):
            return 0
        return same

    def _put_back(self, key: str, data: bytearray, start: int, ids: Sequence[int], work: _Work) -> bool:
        try:
            self._runtime.cells.restore(data, start, len(ids))
        except CellsError:
            self._forget(key, work)
            return False
        self._runtime.tokens += ids
        return True

    def _keep(
        self, key: str, kind: str, start: int, ids: Sequence[int], *, tokens: tuple[int, ...] = ()
    ) -> bool:
        """Put the state of these tokens, which stand at `start` now, on disk; whether it is there."""
        if self.store is None or len(ids) < _LEAST_KEPT:
            return False
        if self.store.has(key):
            return True
        words = self._runtime.vocabulary.decode(ids[:_LABEL_TOKENS])
        label = " ".join(words.split())[:_LABEL_CHARS]
        if label.startswith(_SOURCE):
            # Its place alone: what a file said must not outlive the file in a list of what was read.
            label = label.partition("]")[0] + "]"
        entry = Entry(key, kind, self._model, start, len(ids), label, tokens)
        return self.store.put(entry, self._runtime.cells.save(start, start + len(ids)))

    def _forget(self, key: str, work: _Work) -> None:
        work.spare.pop(key, None)
        if self.store is not None:
            self.store.drop(key)
