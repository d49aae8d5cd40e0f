"""How long each file may keep its reader busy, so that many that never end cost minutes in all and not hours."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

# Files that may take as long as they like, in a sense: whoever has one or two of them loses only those.
_FULL_MEASURE = 3
# What is left for the others, as a share: an ordinary file takes a hundredth of a second.
_SHARE = 0.1
# So many of one kind (a grammar that does not end on what this repository is full of), or so much in all, in seconds,
# and the rest of the kinds that have hung is left unread.
MOST_OF_A_KIND = 20
MOST_SECONDS = 120.0
UNTRIED = "files like it took too long; it was not tried"


class Patience:
    """What is left of it in one run; `seconds` of CPU time is what the first files get."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._hung: Counter[str] = Counter()
        self._lost = 0.0

    def seconds(self) -> float:
        """CPU time that the next file may take, beside what its size entitles it to."""
        return self._seconds * (1.0 if sum(self._hung.values()) < _FULL_MEASURE else _SHARE)

    def lose(self, path: str) -> None:
        """Note that a file took all it was given."""
        self._lost += self.seconds()
        self._hung[_kind(path)] += 1

    def is_over(self, path: str) -> bool:
        """Whether a file is not to be tried any more."""
        hung = self._hung[_kind(path)]
        return hung >= MOST_OF_A_KIND or (hung > 0 and self._lost > MOST_SECONDS)


def _kind(path: str) -> str:
    name = PurePosixPath(path)
    return name.suffix.lower() or name.name
