"""Values of writing code: limits, what was checked, what a round said, and the draft that comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from chains.types import Dropped, Source, Usage
from chains.writing.edits import Edit, FileChange
from indexers.errors import UsageError

DEFAULT_ROUNDS, MOST_ROUNDS = 3, 10
DEFAULT_CONTEXT_TOKENS, DEFAULT_MAX_TOKENS = 1_200, 1_500
DEFAULT_TEST_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """Bounds: drafts in all, tokens of sources, tokens of one draft, seconds of one run of a command, places changed.

    `test`, `linter` and `formatter` are commands as they are typed; empty for none.
    """

    rounds: int = DEFAULT_ROUNDS
    context_tokens: int = DEFAULT_CONTEXT_TOKENS
    max_tokens: int = DEFAULT_MAX_TOKENS
    seconds: float = DEFAULT_TEST_SECONDS
    targets: int = 3
    test: str = ""
    linter: str = ""
    formatter: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= MOST_ROUNDS:
            raise UsageError(f"The number of rounds must be between 1 and {MOST_ROUNDS}, not {self.rounds}.")
        if self.context_tokens < 0 or self.max_tokens < 1 or self.seconds <= 0 or self.targets < 1:
            raise UsageError("Budgets of tokens, seconds and places must be positive.")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: `ok` is None where it could not be, `detail` says what was found.

    A check that is not `required` is told, and stops nothing.
    """

    name: str
    ok: bool | None
    detail: str = ""
    required: bool = True

    @property
    def failed(self) -> bool:
        """Whether it says that the draft must not be made."""
        return self.ok is False and self.required


@dataclass(frozen=True, slots=True)
class Stage:
    """A state of the machine that has ended: its name, what came of it, and what it cost."""

    name: str
    detail: str
    seconds: float = 0.0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the model was given and what it said, for `--trace`."""

    stage: str
    prompt: str
    reply: str
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class Draft:
    """What the machine ends with. `edits` are empty when there was nothing to change, `reason` says why then.

    `passed` is whether every required check holds; `rounds` how many drafts were made.
    """

    request: str
    edits: tuple[Edit, ...] = ()
    changes: tuple[FileChange, ...] = field(default=(), repr=False)
    checks: tuple[Check, ...] = ()
    rounds: int = 0
    reason: str = ""
    sources: tuple[Source, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    usage: Usage = field(default_factory=Usage)
    exchanges: tuple[Exchange, ...] = field(default=(), repr=False)

    @property
    def passed(self) -> bool:
        """Whether the draft may be offered as good."""
        return bool(self.edits) and not any(check.failed for check in self.checks)
