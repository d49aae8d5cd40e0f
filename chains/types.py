"""Values of the answering side: what is asked, what the model saw, what it said and what of it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from indexers.types import Hit


@dataclass(frozen=True, slots=True)
class Source:
    """A hit as the model saw it: its label, its text, and what that costs in the model's own tokens.

    `whole` is false where the text is only the heads of the definitions in these lines.
    """

    path: str
    start_line: int
    end_line: int
    text: str
    tokens: int
    score: float = 0.0
    whole: bool = True

    @property
    def label(self) -> str:
        """Path and lines: what the model cites."""
        return f"{self.path}:{self.start_line}-{self.end_line}"


@dataclass(frozen=True, slots=True)
class Turn:
    """One finished exchange of a conversation, and the sources that were read for it, best first, where known."""

    question: str
    answer: str
    read: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the conversation before it, oldest turn first."""

    text: str
    history: tuple[Turn, ...] = ()


OVER_BUDGET = "over the token budget"
# Why an answer ended that its model would not have: it said the same over and over.
REPEATED = "repetition"


@dataclass(frozen=True, slots=True)
class Dropped:
    """A hit that was not packed, and why."""

    label: str
    tokens: int
    reason: str = OVER_BUDGET


@dataclass(frozen=True, slots=True)
class Context:
    """What was packed for the model, best first, and what was left out.

    `again` is the best source where the order moves it away from the question: it is shown there once more.
    """

    sources: tuple[Source, ...]
    dropped: tuple[Dropped, ...] = ()
    budget: int = 0
    again: Source | None = None

    @property
    def prompted(self) -> tuple[Source, ...]:
        """The sources as a prompt shows them, from the question backwards."""
        return self.sources if self.again is None else (self.again, *self.sources)

    @property
    def tokens(self) -> int:
        """Tokens of all sources together."""
        return sum(source.tokens for source in self.sources)


@dataclass(frozen=True, slots=True)
class Citation:
    """A place in the repository that the answer names, and whether what was said of it stands there.

    `verified` is true when the identifiers and quotes that the sentence attributes to the place stand there.
    `reason` says what was found, or what was not; `symbol` is the definition that new code reuses, else empty.
    """

    path: str
    start_line: int
    end_line: int
    verified: bool
    reason: str = ""
    symbol: str = ""

    @property
    def label(self) -> str:
        """Path and lines."""
        return f"{self.path}:{self.start_line}-{self.end_line}"


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost. Times are seconds; `first_token_seconds` counts from the question.

    `cached_tokens` of the prompt were not read again. `joined_sources` were read on their own and joined;
    `tokens_read` counts those too that were read for later questions, and may exceed the prompt. `reading` says whether
    sources are joined or read exactly, and why. `preview_seconds` counts from the question to the first token of a
    preview, for which `preview_tokens` were read before the prompt; 0 where there was none.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    first_token_seconds: float = 0.0
    seconds: float = 0.0
    finish_reason: str = ""
    tokens_read: int = 0
    joined_sources: int = 0
    reading: str = ""
    preview_seconds: float = 0.0
    preview_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a source cost: its tokens, those that the model had to read, and about how many seconds that took."""

    label: str
    tokens: int
    fresh: int
    seconds: float

    @property
    def read_before(self) -> bool:
        """Whether most of it had been read before."""
        return 2 * self.fresh < self.tokens


@dataclass(frozen=True, slots=True)
class Preview:
    """A piece of a preview: what a model says from `sources`, quickly read, while the answer's own are still to come.

    The last piece is empty. `total` is how many sources are shown for the answer, `tokens` what was read for the
    preview, `seconds` about how long reading the others takes.
    """

    piece: str
    sources: tuple[Source, ...]
    total: int
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """One lookup of a deep answer: the tool and its arguments, what came of it, and what that cost.

    `sources` are labels, `tokens` is the result in the model's own tokens, `seconds` what the lookup took.
    """

    tool: str
    arguments: Mapping[str, object]
    outcome: str
    sources: tuple[str, ...] = ()
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A checked answer. `unverified` are names and places in it that no source and no question bears out.

    `costs` says of each source in the order in which the model saw it what reading it took, where that is known.
    `preview` is what was said before it, from the sources that were quickly read; nothing in it was checked.
    """

    text: str
    citations: tuple[Citation, ...] = ()
    sources: tuple[Source, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    found: bool = True
    unverified: tuple[str, ...] = ()
    index: Mapping[str, object] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    costs: tuple[Cost, ...] = ()
    preview: str = ""

    def _repr_markdown_(self) -> str:
        """How a notebook shows an answer: its text, then every place it cites and whether that holds."""
        from chains.markdown import code, document, prose

        lines = [document(self.text)]
        if self.citations:
            lines.append("")
        for citation in self.citations:
            mark = "✓" if citation.verified else "✗ not verified"
            lines.append(f"- {code(citation.label)} {mark}: {prose(citation.reason)}")
        if self.unverified:
            lines.append("\nNot found in any source: " + ", ".join(code(name) for name in self.unverified))
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Hits for a question, and whether anything relevant was found at all."""

    question: Question
    query: str
    hits: tuple[Hit, ...]
    relevant: bool = True
