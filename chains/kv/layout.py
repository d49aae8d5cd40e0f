"""What of a prompt is read together, what its KV states are called, and how joined sources are repaired."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from chains.engine.families import Prompt

# Raised when states that an earlier release wrote must not be read any more.
FORMAT = 1
# A step shorter than this is read together with what follows: a batch costs a pass over all weights.
_LEAST_STEP = 24
# Of a tail's ids, so many are in its key.
_TAIL_KEY = 8
_SAMPLES, _SAMPLE_BYTES, _HEAD_BYTES = 32, 64 * 1024, 1 << 20


@dataclass(frozen=True, slots=True)
class Repair:
    """What of joined sources is read again in its place, where it sees the sources before it.

    `first` tokens of each, and the `last` sources of a run in full.
    """

    first: int = 0
    last: int = 0

    def __str__(self) -> str:
        return f"first {self.first}, last {self.last}"


@dataclass(frozen=True, slots=True)
class Step:
    """A span of a prompt that is read in batches of its own, so that its state is the same wherever reading began.

    `joined` sources are read behind the head alone and shifted to their place, where their first `repaired` tokens are
    read again.
    """

    start: int
    end: int
    ids: tuple[int, ...]
    joined: bool = False
    repaired: int = 0


def plan(prompt: Prompt, repair: Repair | None) -> list[Step]:
    """The steps of a prompt, its head first. Without a repair nothing is joined.

    A source right behind the head is in its place already.
    """
    cuts = _cuts(prompt)
    pairs = list(zip(cuts, cuts[1:], strict=False))
    if repair is None:
        return [Step(start, end, prompt.ids[start:end]) for start, end in pairs]
    joined = _joined(prompt.sources, cuts[1], repair)
    steps = []
    for start, end in pairs:
        again = min(repair.first, end - start) if (start, end) in joined else 0
        steps.append(Step(start, end, prompt.ids[start:end], (start, end) in joined, again))
    return steps


def beginning(prompt: Prompt, sources: int) -> Prompt:
    """The prompt up to the end of its first `sources` sources, or with 0 to where the first one begins.

    Its steps are the first of the whole prompt's. A prompt without sources is its own beginning.
    """
    if not prompt.sources:
        return prompt
    spans = prompt.sources[:sources]
    end = spans[-1][1] if spans else prompt.sources[0][0]
    boundaries = tuple(at for at in prompt.boundaries if at <= end)
    return Prompt(prompt.ids[:end], boundaries, tuple(at for at in prompt.answers if at <= end), spans)


def _cuts(prompt: Prompt) -> list[int]:
    """Where steps begin and end: at sources and answers, and at other boundaries that have room behind them.

    Whether there is a cut does not depend on what a later turn of the conversation adds.
    """
    fixed = {0, len(prompt.ids), *prompt.answers, *(at for span in prompt.sources for at in span)}
    every = sorted(fixed | set(prompt.boundaries))
    pairs = zip(every, every[1:], strict=False)
    return sorted(fixed | {cut for cut, following in pairs if following - cut >= _LEAST_STEP})


def _joined(sources: Sequence[tuple[int, int]], head: int, repair: Repair) -> frozenset[tuple[int, int]]:
    joined: set[tuple[int, int]] = set()
    run: list[tuple[int, int]] = []
    for span in (*sources, (-1, -1)):
        if run and span[0] != run[-1][1]:
            joined |= set(run[: len(run) - repair.last])
            run = []
        run.append(span)
    return frozenset(span for span in joined if span[0] > head)


# -- keys ----------------------------------------------------------------------------------------


class Keys:
    """Names of states: everything that changes their numbers, in one hash.

    A key names all that was read so far and how; two prompts that share one share every number up to there.
    """

    def __init__(self, fingerprint: str) -> None:
        self.root = hashlib.sha256(fingerprint.encode()).hexdigest()

    def read(self, before: str, ids: Sequence[int]) -> str:
        """Tokens read in their place behind what `before` names."""
        return _hash(before, "read", ids)

    def said(self, before: str, ids: Sequence[int]) -> str:
        """The same, the first of them by the model itself, one by one."""
        return _hash(before, "said", ids)

    def tail(self, before: str, ids: Sequence[int]) -> str:
        """What the model said behind `before`, beginning with these tokens."""
        return _hash(before, "tail", ids[:_TAIL_KEY])

    def joined(self, before: str, repaired: int, ids: Sequence[int]) -> str:
        """A source read behind the head and joined here, its first tokens read again."""
        return _hash(before, f"joined {repaired}", ids)

    def repaired(self, before: str, ids: Sequence[int]) -> str:
        """The first tokens of a joined source, read in their place."""
        return _hash(before, "repaired", ids)


def _hash(before: str, how: str, ids: Sequence[int]) -> str:
    data = array("i", ids).tobytes()
    return hashlib.sha256(f"{before}\0{how}\0".encode() + data).hexdigest()


def fingerprint(files: Sequence[Path], build: Mapping[str, object], options: Mapping[str, object]) -> str:
    """What a state depends on beside its tokens: model and adapter, llama.cpp's build, and how the model was loaded.

    A file is told by its size, its time, its beginning and samples of all parts of it: reading gigabytes would cost
    more than the states save.

    :raises OSError: a file cannot be read.
    """
    parts = {
        "format": FORMAT,
        "files": [_sampled(file) for file in files],
        "build": build,
        "options": options,
    }
    return json.dumps(parts, sort_keys=True, default=str)


def _sampled(path: Path) -> str:
    status = path.stat()
    digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode())
    with path.open("rb") as file:
        digest.update(file.read(_HEAD_BYTES))
        for sample in range(1, _SAMPLES + 1):
            file.seek(max(0, status.st_size * sample // _SAMPLES - _SAMPLE_BYTES))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def source_spans(prompt: Prompt, sources: Collection[tuple[int, ...]]) -> Prompt:
    """The prompt with the places of `sources`, given as ids: those that end at a boundary, where they stand whole."""
    by_end: dict[int, tuple[int, int]] = {}
    lengths = sorted({len(ids) for ids in sources if ids}, reverse=True)
    known = frozenset(sources)
    for end in prompt.boundaries:
        for length in lengths:
            if length <= end and prompt.ids[end - length : end] in known:
                by_end[end] = (end - length, end)
                break
    spans = [span for span in by_end.values() if span[0] > 0]
    apart = [span for at, span in enumerate(spans) if not at or span[0] >= spans[at - 1][1]]
    return replace(prompt, sources=tuple(apart))
