"""Drafting: which tokens are tried, when it is left alone, and that the text never changes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage, SystemMessage

from chains.engine.drafting import LENGTHS, Drafted, Lookup, Pace, Plain
from chains.engine.sampler import Sampling
from chains.llm import LlamaCpp
from indexers.errors import UsageError

END = 0
UNLIKE = [1 + number * 37 % 499 for number in range(400)]
CODE = '''\
def area(width, height):
    """The area of a rectangle."""
    if width < 0 or height < 0:
        raise ValueError("negative side")
    return width * height


def perimeter(width, height):
    """The length around a rectangle."""
    if width < 0 or height < 0:
        raise ValueError("negative side")
    return 2 * (width + height)
'''
REWRITE = [
    SystemMessage("You edit Python. Answer with the whole file and nothing else."),
    HumanMessage(f"{CODE}\nRename width to w in both functions."),
]


class Machine:
    """A reader and chooser in one that continues a text it knows; what it is made to read decides what it says."""

    def __init__(self, prompt: Sequence[int], text: Sequence[int], seconds: Sequence[float] = (1.0,)) -> None:
        self.tokens = list(prompt)
        self.n_ctx, self.n_batch = 10_000, 64
        self.batches: list[int] = []
        self.now = 0.0
        self._text, self._prompt, self._seconds = [*text, END], len(prompt), seconds

    def append(self, token: int) -> None:
        self.extend([token])

    def extend(self, ids: Sequence[int]) -> None:
        self.tokens += ids
        self.batches.append(len(ids))
        self.now += self._seconds[min(len(ids), len(self._seconds)) - 1]

    def forget(self, length: int) -> None:
        del self.tokens[length:]

    def next(self, at: int = -1) -> int:
        # As a model would: by all that stands before, and something else once that is not what it wrote itself.
        last = len(self.tokens) if at < 0 else len(self.tokens) - self.batches[-1] + at + 1
        said = self.tokens[self._prompt : last]
        assert said == self._text[: len(said)], "a token is asked for behind one that was refused"
        return self._text[len(said)]


def written(machine: Machine, *, drafting: bool = True, most: int = 10_000) -> list[int]:
    steps: Drafted | Plain = Plain(machine, machine)
    if drafting:
        steps = Drafted(machine, machine, lambda token: token == END, clock=lambda: machine.now)
    found: list[int] = []
    while len(found) < most:
        token = steps.next(most - len(found))
        if token == END:
            break
        found.append(token)
    return found


def test_the_longest_match_is_continued_and_of_equal_ones_the_latest() -> None:
    lookup = Lookup([1, 2, 3, 7, 2, 3, 8, 9, 2, 3, 5, 1, 2, 3])
    assert lookup.draft(3).tokens == (7, 2, 3) and lookup.draft(3).matched == 3
    assert Lookup([4, 2, 3, 8, 6, 2, 3, 9, 5, 2, 3]).draft(1).tokens == (9,)
    assert Lookup([7] * 40).draft(8).tokens == (7,) * 8
    assert (
        Lookup([1, 2, 3]).draft(5).tokens
        == ()
        == Lookup([1]).draft(5).tokens
        == Lookup([1, 1, 1]).draft(0).tokens
    )


tokens = st.lists(st.integers(1, 4), min_size=1, max_size=60)


@given(tokens, tokens, st.integers(1, 80), st.integers(0, 2**16))
@settings(max_examples=150)
def test_a_draft_never_changes_what_is_written(
    prompt: list[int], text: list[int], most: int, seed: int
) -> None:
    seconds = [1.0 + random.Random(seed).random() * n for n in range(1, 26)]
    machine = Machine(prompt, text, seconds)
    assert written(machine, most=most) == text[:most]
    # What was read ahead of the end is known to the reader.
    assert machine.tokens[: len(prompt)] == prompt


def test_a_copied_text_takes_few_batches() -> None:
    text = UNLIKE
    machine = Machine(text, text, [1.0] * 30)
    assert written(machine) == text
    assert len(machine.batches) < 400 / 8


def test_it_is_left_alone_where_batches_cost_what_their_tokens_do() -> None:
    text = UNLIKE
    machine = Machine(text, text, [float(n) for n in range(1, 30)])
    assert written(machine) == text
    assert machine.now <= 410


def test_it_is_left_alone_where_drafts_do_not_hold() -> None:
    """Every pair of tokens was there before, and something else followed each time."""
    chance = random.Random(3)
    prompt = [chance.randrange(1, 5) for _ in range(3_000)]
    text = [chance.randrange(1, 5) for _ in range(600)]
    machine = Machine(prompt, text, [1.0, *(1.0 + n / 2 for n in range(1, 30))])
    assert written(machine) == text
    assert machine.now < 640


def test_nothing_is_drafted_before_a_plain_step_was_timed() -> None:
    pace = Pace(100.0)
    assert pace.length(20, 16) == 0
    pace.stepped(0, 0.1)
    assert pace.length(20, 16) in LENGTHS and pace.length(20, 1) == 0


@pytest.fixture(scope="module")
def smollm(smollm_gguf: Path) -> Iterator[LlamaCpp]:
    llm = LlamaCpp(model_path=str(smollm_gguf), n_threads=1, n_ctx=2048, max_tokens=60)
    yield llm
    llm.close()


class Eager(Pace):
    """Drafts whatever can be drafted: how long things take is not for a test to decide."""

    def length(self, matched: int, most: int) -> int:
        return min(most, 8)


def answer(
    llm: LlamaCpp, *, drafting: bool, sampling: Sampling | None = None, most: int = 40
) -> tuple[str, int]:
    """What the model writes to `REWRITE`, and how many tokens of drafts were right."""
    llm.load()
    runtime = llm._state.runtime
    assert runtime is not None
    assert llm._state.reader is not None
    llm._state.reader.read(llm.prompt(REWRITE), None, None, lambda: False)
    sampler = runtime.sampler(sampling or Sampling())
    ends = runtime.vocabulary.ends
    steps = Drafted(runtime, sampler, ends, Eager()) if drafting else Plain(runtime, sampler)
    found: list[int] = []
    while len(found) < most and not (found and ends(found[-1])):
        found.append(steps.next(most - len(found)))
    sampler.close()
    return runtime.vocabulary.decode(found), steps.accepted


GRAMMAR = 'root ::= "def " [a-z]+ "(width, height):\\n" [^\\x00]*'


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.8, seed=5),
        Sampling(grammar=GRAMMAR),
        Sampling(repeat_penalty=1.1),
    ],
    ids=["greedy", "sampled", "grammar", "penalty"],
)
def test_a_real_model_writes_the_same_with_and_without(smollm: LlamaCpp, sampling: Sampling) -> None:
    plain, _ = answer(smollm, drafting=False, sampling=sampling)
    drafted, accepted = answer(smollm, drafting=True, sampling=sampling)
    assert drafted == plain and (accepted > 5 or sampling.temperature)


def test_the_option_says_what_it_tried(smollm: LlamaCpp) -> None:
    plain, drafted = (smollm.invoke(REWRITE, max_tokens=20, draft=draft) for draft in ("", "prompt"))
    assert drafted.content == plain.content and "draft_tokens" not in plain.response_metadata


def test_an_unknown_draft_is_refused(smollm: LlamaCpp) -> None:
    with pytest.raises(UsageError, match="no draft 'model'"):
        smollm.invoke(REWRITE, draft="model")
