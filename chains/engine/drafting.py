"""Prompt-lookup drafting: what followed the same tokens before is tried now, and verified in one batch.

A rewritten file is mostly the file that stands in the prompt. Reading sixteen tokens takes llama.cpp little longer
than reading one as long as memory is what it waits for, so a draft that holds saves nearly all of that time. Every
token is still chosen by the sampler from the model's own logits, in order: a draft only decides which logits are
computed ahead. (Prompt lookup decoding, A. Saxena, 2023; speculative decoding, arXiv 2211.17192.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

# A match of fewer tokens says nothing; more than the longest make no difference.
SHORTEST, LONGEST = 2, 24
# Drafts that are considered. Beyond these a batch costs as much as its tokens.
LENGTHS = (2, 3, 4, 6, 8, 12, 16, 24)
# Places of one pair of tokens that are compared: the latest ones.
_MOST_PLACES = 12
# How fast beliefs about time and acceptance follow what is seen.
_NEW = 0.3
# What is believed of the first token of a draft before anything was seen, by the length of the match.
_PRIOR = {0: 0.35, 1: 0.7, 2: 0.92}
# No chance is certain, and one that was lost is tried again after a while.
_SUREST, _FORGIVEN = 0.98, 0.01
# So much better than a plain step a draft must promise to be.
_WORTH = 1.05


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may come next, and how many tokens before them stand in both places."""

    tokens: tuple[int, ...]
    matched: int


class Lookup:
    """Everything that was read and written, and where each pair of tokens in it stands."""

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self._tokens: list[int] = []
        self._places: dict[tuple[int, int], list[int]] = {}
        self.add(tokens)

    def add(self, tokens: Sequence[int]) -> None:
        """Go on with these tokens."""
        for token in tokens:
            self._tokens.append(token)
            end = len(self._tokens)
            if end >= SHORTEST:
                places = self._places.setdefault((self._tokens[-2], token), [])
                places.append(end)
                del places[:-_MOST_PLACES]

    def draft(self, most: int) -> Draft:
        """At most `most` tokens that followed the longest match of the last tokens.

        Of equal matches the one that most tokens follow, then the latest.
        """
        tokens, end = self._tokens, len(self._tokens)
        if most < 1 or end < SHORTEST:
            return Draft((), 0)
        best, rank = 0, (0, 0)
        for place in reversed(self._places.get((tokens[-2], tokens[-1]), ())):
            if place == end:
                continue
            same = SHORTEST
            while same < LONGEST and same < place and tokens[place - 1 - same] == tokens[end - 1 - same]:
                same += 1
            if (same, min(end - place, most)) > rank:
                best, rank = place, (same, min(end - place, most))
        return Draft(tuple(tokens[best : best + most]), rank[0]) if best else Draft((), 0)


class Pace:
    """What steps cost and how much of drafts holds, as far as was seen; and so how long a draft should be."""

    def __init__(self, prefill_rate: float = 0.0) -> None:
        """:param prefill_rate: tokens a second of reading the prompt, 0 where that is not known."""
        self._each = 1 / prefill_rate if prefill_rate > 0 else 0.0
        self._plain = 0.0
        self._seconds: dict[int, float] = {}
        self._holds = dict(_PRIOR)

    def stepped(self, drafted: int, seconds: float) -> None:
        """One batch with so many drafted tokens behind the certain one took so long."""
        if not drafted:
            self._plain = _blend(self._plain, seconds)
        else:
            self._seconds[drafted] = _blend(self._seconds.get(drafted, 0.0), seconds)

    def held(self, matched: int, accepted: int, drafted: int) -> None:
        """Of so many drafted tokens the first `accepted` were right."""
        kind = _kind(matched)
        for place in range(min(accepted + 1, drafted)):
            right = 1.0 if place < accepted else 0.0
            # A long draft says more than a short one, but not as often as it has tokens.
            self._holds[kind] += _NEW / 2 * (right - self._holds[kind])
        self._holds[kind] = min(self._holds[kind], _SUREST)

    def length(self, matched: int, most: int) -> int:
        """How many tokens to draft behind a match; 0 where a plain step promises more tokens a second."""
        if not self._plain or most < 1:
            return 0  # a plain step comes first: without it nothing can be said to be faster
        kind = _kind(matched)
        chance = self._holds[kind]
        best, best_rate = 0, _WORTH / self._plain
        for drafted in LENGTHS:
            if drafted > most:
                break
            rate = (1 - chance ** (drafted + 1)) / (1 - chance) / self._cost(drafted)
            if rate > best_rate:
                best, best_rate = drafted, rate
        if not best:
            self._holds[kind] += _FORGIVEN * (_PRIOR[kind] - chance)
        return best

    def _cost(self, drafted: int) -> float:
        """Seconds of a batch: seen, or between the nearest that were, or from the rate of reading."""
        if drafted in self._seconds:
            return self._seconds[drafted]
        shorter = [n for n in self._seconds if n < drafted]
        longer = [n for n in self._seconds if n > drafted]
        low, low_seconds = (max(shorter), self._seconds[max(shorter)]) if shorter else (0, self._plain)
        if longer:
            high = min(longer)
            share = (drafted - low) / (high - low)
            return low_seconds + share * (self._seconds[high] - low_seconds)
        each = self._each or self._plain / 8
        return max(low_seconds, (drafted + 1) * each)


def _blend(old: float, new: float) -> float:
    return new if not old else old + _NEW * (new - old)


def _kind(matched: int) -> int:
    return 0 if matched < 4 else 1 if matched < 10 else 2


class Reader(Protocol):
    """What drafting needs of a loaded model: `chains.engine.runtime.Runtime`."""

    tokens: list[int]
    n_ctx: int
    n_batch: int

    def append(self, token: int) -> None:
        """Read one token more."""

    def extend(self, ids: Sequence[int]) -> None:
        """Read several tokens more, with the logits behind each of them."""

    def forget(self, length: int) -> None:
        """Forget everything behind `length`."""


class Chooser(Protocol):
    """What drafting needs of a sampler: `chains.engine.sampler.Sampler`."""

    def next(self, at: int = -1) -> int:
        """The next token by the logits behind the token `at` of the last batch."""


class Plain:
    """One token after another."""

    drafted = accepted = 0

    def __init__(self, reader: Reader, chooser: Chooser) -> None:
        self._reader = reader
        self._chooser = chooser
        self._last: int | None = None

    def next(self, room: int) -> int:
        """The next token; the one before is read first."""
        if self._last is not None:
            self._reader.append(self._last)
        self._last = self._chooser.next()
        return self._last


class Drafted:
    """Token after token as `Plain` gives them, several at a time where a draft holds.

    What is read ahead stays in the reader's memory when the text ends early; its `tokens` say so.
    """

    def __init__(
        self,
        reader: Reader,
        chooser: Chooser,
        ends: Callable[[int], bool],
        pace: Pace | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """:param ends: tokens behind which nothing may be chosen any more."""
        self._reader = reader
        self._chooser = chooser
        self._ends = ends
        self._clock = clock
        self._lookup = Lookup(reader.tokens)
        self._pace = pace or Pace()
        self._ready: list[int] = []
        self._last: int | None = None
        self.drafted = 0
        """Tokens that were tried."""
        self.accepted = 0
        """Of these, how many were right."""

    def next(self, room: int) -> int:
        """The next token.

        :param room: tokens that may come, this one included; none is read ahead of more than these.
        """
        if not self._ready:
            self._step(room)
        return self._ready.pop(0)

    def _step(self, room: int) -> None:
        if self._last is None:
            self._take(self._chooser.next())
            return
        reader = self._reader
        most = min(room - 1, reader.n_batch - 1, reader.n_ctx - len(reader.tokens) - 1, LENGTHS[-1])
        draft = self._lookup.draft(most)
        length = self._pace.length(draft.matched, min(most, len(draft.tokens))) if draft.tokens else 0
        started = self._clock()
        if not length:
            reader.append(self._last)
            self._take(self._chooser.next())
        else:
            self._verify(draft.tokens[:length], draft.matched)
        self._pace.stepped(length, self._clock() - started)

    def _verify(self, tokens: Sequence[int], matched: int) -> None:
        """Read the certain token and the draft in one batch, and keep what the sampler says as well."""
        assert self._last is not None
        before = len(self._reader.tokens)
        self._reader.extend([self._last, *tokens])
        right = 0
        while True:
            token = self._chooser.next(right)
            self._take(token)
            if self._ends(token) or right == len(tokens) or token != tokens[right]:
                break
            right += 1
        self.drafted += len(tokens)
        self.accepted += right
        self._pace.held(matched, right, len(tokens))
        if right < len(tokens):
            self._reader.forget(before + 1 + right)

    def _take(self, token: int) -> None:
        self._ready.append(token)
        self._lookup.add([token])
        self._last = token
