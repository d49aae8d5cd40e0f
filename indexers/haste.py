"""Which of many unread files to read first while somebody waits: a glance at their bytes for the words of a query."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from indexers.config import IndexConfig
from indexers.files import glance
from indexers.filters import EVERYTHING, Filter
from indexers.languages import language_of
from indexers.types import TrackedFile

# Read and stored together while somebody waits: what comes first are long files, and few are much.
FILES_AT_ONCE = 16
# What may go into looking: 2,500 files (17 MB) take 0.2 s.
LOOKING_SECONDS = 1.0
# What is at least read for, however long planning and waiting for others took.
LEAST_SECONDS = 1.0
# Less than this is no reason to leave an index unfinished.
LITTLE_SECONDS = 1.0
# Of a longer query the rarest words can only be guessed; each word is looked for in every file.
MOST_TOKENS = 40
# Okapi BM25 with its usual constants (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009), of whole
# files; a name says more than a mention. Of the files among the three best of a complete search, 94 % were in the first
# twentieth of the bytes, and 98 % in the first tenth, with 1 and 0.7 for them (90 queries, 2,500 files).
_K1, _B = 1.2, 0.75
_PATH_WEIGHT = 2.0
# Files are looked at in an order that has nothing to do with their names, where there may not be time for all.
_STRIDE, _PRIME = 40_503, 1_000_003
_FIRST_LINE = 200


@dataclass(frozen=True, slots=True)
class Haste:
    """Somebody waits, for this many seconds from `since`, for what has to do with the tokens of a query.

    :param tokens: as the keyword index holds them, lower case.
    :param only: files that do not pass come last.
    :param stop: of a worker for whom nobody waits: asked after every few files whether to stop. Its seconds count from
        its first file on, so that each of its turns gets something done.
    """

    seconds: float
    tokens: Sequence[str] = ()
    only: Filter = EVERYTHING
    since: float = field(default_factory=time.monotonic)
    stop: Callable[[], bool] | None = None

    @property
    def is_worker(self) -> bool:
        """Whether nobody waits."""
        return self.stop is not None

    def is_over(self, done: int, left: int, began: float) -> bool:
        """Whether to stop here, with `done` files read since `began`, and the rest more than a moment's work."""
        now = time.monotonic()
        if self.stop is not None:
            return self.stop() or now - began > self.seconds
        late = now > max(self.since + self.seconds, began + min(LEAST_SECONDS, self.seconds))
        return late and left * (now - began) / max(1, done) > LITTLE_SECONDS


def likeliest_first(
    root: Path, files: Sequence[TrackedFile], config: IndexConfig, haste: Haste
) -> list[TrackedFile]:
    """The files in the order in which to read them for a query.

    Files are ranked by BM25 on their bytes, with a token in the path counted twice; those that there was no time to
    look at, by their paths. What does not pass the filter comes last.
    """
    if len(files) <= FILES_AT_ONCE or not (haste.tokens or haste.only):
        return list(files)
    tokens = [token.encode("utf-8", "replace") for token in dict.fromkeys(haste.tokens)][:MOST_TOKENS]
    paths = [file.path.lower().encode("utf-8", "replace") for file in files]
    named = [[token in path for token in tokens] for path in paths]
    counts: dict[int, list[int]] = {}
    lengths: dict[int, int] = {}
    passing = [_may_pass(file, b"", haste.only) for file in files]
    until = time.monotonic() + LOOKING_SECONDS
    for at in sorted(range(len(files)), key=lambda at: (-sum(named[at]), at * _STRIDE % _PRIME)):
        if time.monotonic() > until:
            break
        if passing[at] or not _has_ending(files[at].path):
            text = glance(root, files[at], config)
            passing[at] = _may_pass(files[at], text, haste.only)
            lowered = text.lower()
            counts[at] = [lowered.count(token) for token in tokens]
            lengths[at] = len(text)
    worth = _bm25(counts, lengths, named)
    order = sorted(range(len(files)), key=lambda at: (not passing[at], -worth[at]))
    return [files[at] for at in order]


def _has_ending(path: str) -> bool:
    return "." in path.rpartition("/")[2]


def _may_pass(file: TrackedFile, text: bytes, only: Filter) -> bool:
    """Whether a filter lets a file through, by its path and, of one without an ending, its first line."""
    first = text[:_FIRST_LINE].split(b"\n", 1)[0].decode("utf-8", "replace")
    return not only or only.admits(file.path, language_of(file.path, first))


def _bm25(
    counts: Mapping[int, Sequence[int]], lengths: Mapping[int, int], named: Sequence[Sequence[bool]]
) -> list[float]:
    """The score of each file, by how often each token stands in it and whether its path has it.

    :param counts: of the files that were looked at, by their place in `named`.
    """
    looked = max(1, len(counts))
    average = max(1.0, sum(lengths.values()) / looked)
    columns = zip(*counts.values(), strict=True) if counts else ((),) * len(named[0])
    weights = [math.log(1 + looked / (1 + sum(map(bool, column)))) for column in columns]
    scores = []
    for at, paths in enumerate(named):
        damping = _K1 * (1 - _B + _B * lengths.get(at, 0) / average)
        score = sum(_PATH_WEIGHT * weight for weight, there in zip(weights, paths, strict=True) if there)
        if at in counts:
            score += sum(weight * n / (n + damping) for weight, n in zip(weights, counts[at], strict=True))
        scores.append(score)
    return scores
