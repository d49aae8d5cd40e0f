"""Which of many unread files to read first while somebody waits: a glance at their bytes for the words of a query."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from indexers.config import IndexConfig
from indexers.files import glance
from indexers.filters import EVERYTHING, Filter
from indexers.languages import language_of
from indexers.types import TrackedFile

# Fewer are read in less time than it takes to choose among them.
MOST_UNSORTED = 400
# What may go into looking: 2,500 files (17 MB) take 0.2 s.
LOOKING_SECONDS = 1.0
# Less than this is no reason to leave an index unfinished.
LITTLE_SECONDS = 1.0
# A name says more than a mention.
_PATH_WEIGHT = 2.0
# A long file holds many words by chance, and takes longer to read. Between no discount and the square root it matters
# little: of the files among the three best of a complete search, 96 % are in the first tenth of the bytes
# (tests/benchmarks/first_search.py).
_LENGTH_EXPONENT = 0.15
_LENGTH_OFFSET = 1_000


@dataclass(frozen=True, slots=True)
class Haste:
    """Somebody waits, for this many seconds from `since`, for what has to do with the tokens of a query.

    :param tokens: as the keyword index holds them, lower case.
    :param only: files that do not pass come last.
    """

    seconds: float
    tokens: Sequence[str] = ()
    only: Filter = EVERYTHING
    since: float = field(default_factory=time.monotonic)

    def is_over(self, done: int, left: int, began: float) -> bool:
        """Whether to stop here, with `done` files read since `began`, and the rest more than a moment's work."""
        now = time.monotonic()
        return now - self.since > self.seconds and left * (now - began) / max(1, done) > LITTLE_SECONDS


def likeliest_first(
    root: Path, files: Sequence[TrackedFile], config: IndexConfig, haste: Haste
) -> list[TrackedFile]:
    """The files in the order in which to read them for a query; as they come, where they are few or nothing is asked.

    A token counts by how rare it is among the files looked at, in the text once and in the path twice; of two files
    that hold the same, the shorter one comes first. Files that there was no time to look at count by their paths.
    """
    tokens = [token.encode("utf-8", "replace") for token in dict.fromkeys(haste.tokens)]
    if not tokens or len(files) <= MOST_UNSORTED:
        return list(files)
    until = time.monotonic() + LOOKING_SECONDS
    inside: list[list[bool]] = []
    named: list[list[bool]] = []
    passing: list[bool] = []
    lengths: list[int] = []
    for file in files:
        passes = not haste.only or haste.only.admits(file.path, language_of(file.path, ""))
        looks = passes and time.monotonic() < until
        text = glance(root, file, config).lower() if looks else b""
        inside.append([token in text for token in tokens])
        path = file.path.lower().encode("utf-8", "replace")
        named.append([token in path for token in tokens])
        passing.append(passes)
        lengths.append(len(text))
    weights = [math.log(1 + len(files) / (1 + sum(column))) for column in zip(*inside, strict=True)]

    def worth(at: int) -> float:
        found = zip(weights, inside[at], named[at], strict=True)
        value = sum(weight * (here + _PATH_WEIGHT * there) for weight, here, there in found)
        return value / math.pow(lengths[at] + _LENGTH_OFFSET, _LENGTH_EXPONENT)

    order = sorted(range(len(files)), key=lambda at: (not passing[at], -worth(at)))
    return [files[at] for at in order]
