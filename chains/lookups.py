"""The lookups that a model may make for one question: read-only, each result labelled, all of them bounded."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chains.ask import DEFAULT_CONTEXT_TOKENS, DEFAULT_MAX_TOKENS
from chains.context import pack
from chains.engine.tools import CHOICES
from chains.reviewing.callers import Graph, KeywordGraph
from chains.search.passages import Passages, hit_of, merged, qualified
from chains.search.query import looks_like_code
from chains.search.reading import read_for
from chains.search.retrieval import relevant
from chains.search.symbol_graph import SymbolGraph
from chains.types import OVER_BUDGET, Dropped, Source, Step
from indexers.errors import UsageError
from indexers.types import Hit

if TYPE_CHECKING:
    from chains.context import CountTokens
    from chains.search.retrieval import Search
    from indexers.relations import Relations

DEFAULT_STEPS = 6
# Each is read twice: while looking things up, and to answer.
DEFAULT_TOKENS = 3_600
DEFAULT_SECONDS = 180.0
MOST_STEPS = 50
# Tokens that a result may cost after the first, which is that of a one-shot answer; with less left nothing fits.
RESULT_TOKENS, LEAST_TOKENS = 600, 160
NOTHING, REPEATED = "nothing", "refused: asked before"
# A model that has been refused so often in a row has nothing else to ask.
_PATIENCE = 2
_HITS, _PLACES, _DEFINITIONS = 8, 8, 4
_MAX_LINES, _DEFAULT_LINES, _LAST_LINE, _AROUND = 80, 40, 9_999_999, 3
_MAX_QUERY, _MAX_NAME, _MAX_PATH = 120, 80, 200
_NAMED_BESIDE = 4
# A line is shortened, one after another, until what is left costs about this share of its budget: labels cost too.
_SHARE_OF_TEXT = 0.85
# Names that may be asked for at a time, and in how many places one may be defined to be worth asking for.
_MOST_NAMES, _MOST_PLACES = 60, 6
_NAME, _CALLED = re.compile(r"\w{3,}"), re.compile(r"(\w{3,})\s{0,2}[({<!]")


def _text(about: str, longest: int) -> dict[str, Any]:
    return {"type": "string", "description": about, "minLength": 1, "maxLength": longest}


def _spec(name: str, about: str, **parameters: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": parameters, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": about, "parameters": schema}}


ANSWER = "answer"
_LINE = {"type": "integer", "minimum": 1}
# In OpenAI's format. The first one looks nothing up: it ends the looking up.
SPECS: tuple[dict[str, Any], ...] = (
    _spec(ANSWER, "the sources above suffice to answer the question"),
    _spec("search", "find code by words or names", query=_text("a few words", _MAX_QUERY)),
    _spec(
        "definition_of", "the code of a function, class or method", identifier=_text("its name", _MAX_NAME)
    ),
    _spec("callers_of", "lines that use a name", identifier=_text("the name", _MAX_NAME)),
    _spec(
        "read",
        f"lines of a file, at most {_MAX_LINES}",
        path=_text("as in a source's label", _MAX_PATH),
        start=_LINE,
        end=_LINE,
    ),
    _spec("map", "an outline of the repository"),
)


@dataclass(frozen=True, slots=True)
class DeepSettings:
    """Bounds: lookups in all, tokens of all results, tokens of the answer, and after how many seconds none begins.

    The answer is written when a bound is reached, from what was found until then.
    """

    steps: int = DEFAULT_STEPS
    tokens: int = DEFAULT_TOKENS
    seconds: float = DEFAULT_SECONDS
    max_tokens: int = DEFAULT_MAX_TOKENS

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MOST_STEPS:
            raise UsageError(f"The number of steps must be between 1 and {MOST_STEPS}, not {self.steps}.")
        if self.tokens < 1 or self.max_tokens < 1 or self.seconds <= 0:
            raise UsageError("Token and time budgets must be positive.")


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool gave: the text that the model reads, a word on it for people, and the sources in it."""

    text: str
    outcome: str
    sources: tuple[Source, ...] = ()


class Lookups:
    """The lookups for one question: what they may cost in all, what they have shown, and which were made.

    One at a time, from whatever thread. What was shown once is not shown again. `steps` are what was done, `sources`
    what all of it showed, both in their order.
    """

    def __init__(
        self,
        search: Search,
        count: CountTokens,
        *,
        tokens: int,
        steps: int,
        relations: Relations | None = None,
    ) -> None:
        self.steps: list[Step] = []
        self.sources: list[Source] = []
        self._search = search
        self._passages = Passages(search.index, search.only)
        self._relations = relations
        self._graph: Graph = (
            SymbolGraph(relations, search.only) if relations else KeywordGraph(search.index, search.only)
        )
        self._count = count
        self._left = tokens
        self._most_steps = steps
        self._question = ""
        self._refused = 0
        self._made: set[str] = set()
        self._dropped: list[Dropped] = []
        self._lines: dict[str, set[int]] = {}
        self._lock = threading.Lock()
        self._tools: dict[str, Callable[[Mapping[str, Any], int], Result]] = {
            "search": self._do_search,
            "definition_of": self._do_definition,
            "callers_of": self._do_callers,
            "read": self._do_read,
            "map": self._do_map,
        }

    @property
    def exhausted(self) -> bool:
        """Whether the steps or the tokens are used up, or the last lookups were repetitions."""
        steps, tokens = len(self.steps) >= self._most_steps, self._left < LEAST_TOKENS
        return steps or tokens or self._refused >= _PATIENCE

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        """What was found, did not fit, and was not shown later either."""
        shown = {source.label for source in self.sources}
        left = {item.label: item for item in self._dropped if item.label not in shown}
        return tuple(left.values())

    def first(self, query: str) -> str:
        """The result of the search that a one-shot answer would begin with, its functions completed."""

        def find() -> Result:
            self._question = query
            self._made.add(_asked("search", {"query": query}))
            hits = read_for(query, self._search, self._relations).hits
            return self._found(query, hits, min(DEFAULT_CONTEXT_TOKENS, self._left))

        return self._step("search", {"query": query}, find)

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The result of what a model asked for; whatever it asks for, a text that says what came of it."""
        return self._step(name, arguments, lambda: self._allowed(name, arguments))

    def specs(self) -> list[dict[str, Any]]:
        """The tools as they can be used now: names and paths are those that the results so far have shown."""
        with self._lock:
            unseen, seen = self._names()
            # A grammar holds text, and not every file's name is any.
            shown = dict.fromkeys(source.path for source in self.sources)
            paths = [path for path in shown if path.isprintable() and len(path) <= _MAX_PATH]
        choices = {
            "definition_of": ("identifier", unseen),
            "callers_of": ("identifier", seen),
            "read": ("path", paths),
        }
        return [_limited(spec, *choices.get(spec["function"]["name"], ("", ()))) for spec in SPECS]

    def _step(self, name: str, arguments: Mapping[str, Any], work: Callable[[], Result]) -> str:
        with self._lock:
            started = time.monotonic()
            result = work()
            tokens = self._count(result.text)
            self._left -= tokens
            self._refused = self._refused + 1 if result.outcome == REPEATED else 0
            self._show(result.sources)
            labels = tuple(source.label for source in result.sources)
            seconds = round(time.monotonic() - started, 3)
            self.steps.append(Step(name, dict(arguments), result.outcome, labels, tokens, seconds))
            return result.text

    def _allowed(self, name: str, arguments: Mapping[str, Any]) -> Result:
        if name not in self._tools:
            return Result(f"There is no tool {name!r}.", "no such tool")
        if self.exhausted:
            return Result("No more lookups: answer from what stands above.", "refused: the limit is reached")
        asked = _asked(name, arguments)
        if asked in self._made:
            return Result("That was asked before: see above. Ask for something else, or answer.", REPEATED)
        self._made.add(asked)
        return self._tools[name](arguments, min(RESULT_TOKENS, self._left))

    # -- the tools -------------------------------------------------------------------------------

    def _do_search(self, arguments: Mapping[str, Any], budget: int) -> Result:
        query = _string(arguments, "query")[:_MAX_QUERY]
        return self._found(query, self._search.hits(query, _HITS), budget)

    def _found(self, query: str, hits: Sequence[Hit], budget: int) -> Result:
        if not relevant(query, hits, self._search.index):
            return Result("Nothing in this repository is about that. Try other words.", NOTHING)
        # The best stands last, nearest to what is written next.
        return self._packed(hits, budget, best_last=True)

    def _do_definition(self, arguments: Mapping[str, Any], budget: int) -> Result:
        owner, name = qualified(_string(arguments, "identifier")[:_MAX_NAME])
        ranked = [hit.chunk_id for hit in self._search.hits(name, 2 * _HITS)]
        found = self._passages.defining(name, owner, ranked) if name else []
        if not found:
            return Result("No definition of that name is in the index. Try search.", NOTHING)
        return self._packed([hit_of(stored) for stored in found[:_DEFINITIONS]], budget)

    def _do_callers(self, arguments: Mapping[str, Any], budget: int) -> Result:
        _, name = qualified(_string(arguments, "identifier")[:_MAX_NAME])
        spans: dict[str, list[tuple[int, int]]] = {}
        for place in self._graph.callers_of(name, _PLACES) if name else ():
            spans.setdefault(place.path, []).append((place.line - _AROUND, place.line + _AROUND))
        hits = [
            hit
            for path, around in spans.items()
            for first, last in merged(around)
            for hit in self._passages.lines(path, first, last)
        ]
        return self._packed(hits, budget) if hits else Result("No line in the index uses that name.", NOTHING)

    def _do_read(self, arguments: Mapping[str, Any], budget: int) -> Result:
        path, others = self._passages.resolved(_string(arguments, "path")[:_MAX_PATH])
        if not path:
            alike = [other for other in others if len(other) <= _MAX_PATH][:_NAMED_BESIDE]
            hint = f"Did you mean {', '.join(alike)}?" if alike else "Try search."
            return Result(f"No such file is in the index. {hint}", "no such file")
        start = _number(arguments, "start", 1)
        end = min(max(_number(arguments, "end", start + _DEFAULT_LINES - 1), start), start + _MAX_LINES - 1)
        hits = self._passages.lines(path, start, end)
        if not hits:
            last = self._passages.last_line(path)
            return Result(f"The index holds no such lines; the last one of that file is {last}.", NOTHING)
        return self._packed([self._cut(hit, budget // len(hits)) for hit in hits], budget)

    def _do_map(self, arguments: Mapping[str, Any], budget: int) -> Result:
        return Result(self._graph.overview(budget, self._count), "the map")

    # -- packing ---------------------------------------------------------------------------------

    def _packed(self, hits: Sequence[Hit], budget: int, *, best_last: bool = False) -> Result:
        """The hits that fit and were not shown before; those that do not fit are named."""
        fresh = [hit for hit in hits if not self._is_shown(hit)]
        if not fresh:
            return Result(
                "All of that stands above already. Ask for something else, or answer.", "nothing new"
            )
        context = pack(fresh, budget, self._count, best_last=best_last)
        self._dropped += [item for item in context.dropped if item.reason == OVER_BUDGET]
        beside = [
            item.label
            for item in context.dropped
            if item.reason == OVER_BUDGET and len(item.label) <= _MAX_PATH
        ]
        parts = [source.text for source in (reversed(context.sources) if best_last else context.sources)]
        if beside:
            parts.insert(0, f"Found too, but not shown: {', '.join(beside[:_NAMED_BESIDE])}\n")
        if not parts:
            return Result("What was found is too long to be shown.", "too long")
        count = len(context.sources)
        return Result("".join(parts), f"{count} source{'' if count == 1 else 's'}", context.sources)

    def _cut(self, hit: Hit, budget: int) -> Hit:
        """The first lines of a run, as many as cost about the budget."""
        lines = hit.text.split("\n")
        while len(lines) > 1 and self._count("\n".join(lines)) > _SHARE_OF_TEXT * budget:
            lines = lines[: max(1, len(lines) * 4 // 5)]
        return Hit(hit.path, hit.start_line, hit.start_line + len(lines) - 1, "\n".join(lines), 1.0)

    def _show(self, sources: Iterable[Source]) -> None:
        for source in sources:
            # What was told in brief may still be asked for, and gives way then.
            self.sources = [known for known in self.sources if known.whole or not _covers(source, known)]
            self.sources.append(source)
            if source.whole:
                lines = self._lines.setdefault(source.path, set())
                lines.update(range(source.start_line, source.end_line + 1))

    def _is_shown(self, hit: Hit) -> bool:
        return self._lines.get(hit.path, set()).issuperset(range(hit.start_line, hit.end_line + 1))

    def _names(self) -> tuple[list[str], list[str]]:
        """Names in question and sources: those whose definition was not shown yet, and those whose was.

        Names of the question come first, then the oftener used.
        """
        text = "\n".join(source.text.removeprefix(f"Source [{source.label}]") for source in self.sources)
        used = Counter(_CALLED.findall(text))
        used.update(name for name in _NAME.findall(text) if looks_like_code(name))
        unseen: list[str] = []
        seen: list[str] = []
        for name in dict.fromkeys(
            [*_NAME.findall(self._question), *(name for name, _ in used.most_common())]
        ):
            places = self._passages.places(name)
            if not 0 < len(places) <= _MOST_PLACES:
                continue
            shown = any(symbol.line in self._lines.get(path, ()) for path, symbol in places)
            if _asked("callers_of" if shown else "definition_of", {"identifier": name}) not in self._made:
                (seen if shown else unseen).append(name)
        return unseen[:_MOST_NAMES], seen[:_MOST_NAMES]


def _limited(spec: dict[str, Any], parameter: str, choices: Sequence[str]) -> dict[str, Any]:
    """A tool one of whose parameters can only be one of these texts, where there are any."""
    if not choices:
        return spec
    function = spec["function"]
    schema = function["parameters"]
    properties = schema["properties"]
    limited = {**properties, parameter: {**properties[parameter], CHOICES: list(choices)}}
    return {**spec, "function": {**function, "parameters": {**schema, "properties": limited}}}


def _covers(source: Source, other: Source) -> bool:
    return (
        source.path == other.path
        and source.start_line <= other.start_line
        and source.end_line >= other.end_line
    )


def _asked(name: str, arguments: Mapping[str, Any]) -> str:
    """A lookup as a text that is the same for what differs in case and spaces only."""
    return " ".join(json.dumps([name, dict(arguments)], sort_keys=True).split()).lower()


def _string(arguments: Mapping[str, Any], name: str) -> str:
    # A lone surrogate is no text: no tokenizer and no database takes it.
    return str(arguments.get(name, "")).encode("utf-8", "replace").decode()


def _number(arguments: Mapping[str, Any], name: str, default: int) -> int:
    value = arguments.get(name, default)
    if not isinstance(value, int | float) or not math.isfinite(value):
        return default
    return min(max(int(value), 1), _LAST_LINE)
