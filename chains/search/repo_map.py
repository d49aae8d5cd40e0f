"""The most important definitions of a repository as an outline that fits a budget of tokens."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from indexers.errors import UsageError
from indexers.filters import EVERYTHING, Filter
from indexers.tokens import last_component

if TYPE_CHECKING:
    from indexers.fact_reader import KnownFile
    from indexers.facts import Defined
    from indexers.graph import Ranks
    from indexers.relations import Relations

DEFAULT_TOKENS = 1_000
LEAST_TOKENS = 50
CHARS_PER_TOKEN = 4
ESTIMATED = f"about {CHARS_PER_TOKEN} characters a token"
# What a definition is worth by its kind, beside what its name is worth and the square root of its lines. Measured like
# the ranks of files: of 63 symbols that questions ask for, 70% are then among the first 40 definitions, else 29%.
_WORTH = {"class": 3.0, "module": 3.0, "type": 2.0, "constant": 0.3}
# Where a module only puts names in a drawer.
_NAMESPACES = frozenset({"c", "cpp", "csharp", "php", "rust"})
_OVERLOAD = 0.5
# What comes before all others when something is asked about by name.
_ASKED, _CALLED, _CALLING = 3.0, 2.0, 1.0
_MOST_AROUND = 20
_LONGEST_SIGNATURE, _SIGNATURE_LINES = 90, 6
_ELISION = "⋮"
# What joining lines leaves beside brackets.
_INNER_SPACE = re.compile(r"(?<=[(\[<]) |,? (?=[)\]])")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class MapEntry:
    """A definition in the outline; `depth` counts the entries around it, `signature` is one line of source."""

    name: str
    kind: str
    line: int
    end_line: int
    signature: str
    depth: int = 0


@dataclass(frozen=True, slots=True)
class MapFile:
    """A file in the outline: entries in order of lines, and how many of its definitions are left out."""

    path: str
    language: str
    entries: tuple[MapEntry, ...]
    more: int = 0


class MapLine(NamedTuple):
    """A line of the text: `role` is file, entry or more; `head` is a path, a line number or an elision."""

    role: str
    head: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class RepoMap:
    """An outline of a repository, the most important file first; `str()` is its text.

    `tokens` of at most `budget` is what the text costs, `counted` how they were counted. `more_files` have definitions
    and are left out, with all `more_definitions` of theirs.
    """

    files: tuple[MapFile, ...]
    more_files: int
    more_definitions: int
    tokens: int
    budget: int
    counted: str = ESTIMATED

    def lines(self) -> Iterator[MapLine]:
        """The text line by line, for whoever styles it."""
        return _lines(self.files, self.more_files, self.more_definitions)

    def __str__(self) -> str:
        return _text(self.lines())

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        note = f"{self.tokens:,} of {self.budget:,} tokens, {self.counted}"
        text = str(self).encode("utf-8", "backslashreplace").decode()
        return f"<pre style='text-align:left'>{escape(text)}</pre><small>{escape(note)}</small>"


@dataclass(frozen=True, slots=True)
class _Candidate:
    known: KnownFile
    item: Defined
    score: float
    first: float


def repo_map(
    relations: Relations,
    tokens: int = DEFAULT_TOKENS,
    *,
    focus: Sequence[str] = (),
    only: Filter = EVERYTHING,
    count: Callable[[str], int] | None = None,
    counted: str = "the model's tokenizer",
) -> RepoMap:
    """The outline that costs at most `tokens`: the same for the same tree, whatever it was before.

    :param focus: paths, directories or names that importance is seen from.
    :param only: which files are shown; all of them count.
    :param count: tokens of a text; `counted` says whose. Without it they are estimated from the characters.
    :raises UsageError: `tokens` is too small to show anything, or nothing is called like a word of `focus`.
    """
    if tokens < LEAST_TOKENS:
        raise UsageError(f"A map needs at least {LEAST_TOKENS} tokens, not {tokens}.")
    files = relations.files()
    focus_paths, focus_names = _focused(focus, files)
    ranks = relations.ranks(focus_paths, focus_names)
    shown = [known for known in files if only.admits(known.file.path, known.file.language)]
    ranked = _ranked(shown, ranks, _around(relations, focus_names))
    totals = _totals(ranked)
    sources = _Sources(relations)
    # A file that is asked about stands first, however little it matters.
    place = {path: (path not in focus_paths, -ranks.files[path], path) for path in totals}
    measure = count or estimated_tokens

    def outline(number: int) -> RepoMap:
        chosen = _outlined(ranked[:number], totals, sources, place)
        left = sum(totals.values()) - sum(totals[file.path] for file in chosen)
        more = len(totals) - len(chosen)
        cost = measure(_text(_lines(chosen, more, left)))
        return RepoMap(chosen, more, left, cost, tokens, counted if count else ESTIMATED)

    least, most = 0, min(len(ranked), tokens)  # a definition costs more than a token
    while least < most:
        middle = (least + most + 1) // 2
        if outline(middle).tokens <= tokens:
            least = middle
        else:
            most = middle - 1
    return outline(least)


def estimated_tokens(text: str) -> int:
    """Tokens of a text where no tokenizer is at hand, rounded up."""
    return -(-len(text) // CHARS_PER_TOKEN)


def signature(lines: Sequence[str], line: int) -> str:
    """The head of a definition on one line of source: up to where its brackets close, shortened."""
    parts: list[str] = []
    depth = 0
    for text in lines[line - 1 : line - 1 + _SIGNATURE_LINES]:
        part = text[: 4 * _LONGEST_SIGNATURE].strip().removesuffix("\\").rstrip()
        parts.append(part)
        depth += sum(map(part.count, "([")) - sum(map(part.count, ")]"))
        if depth <= 0 and not part.endswith(("<", "=", ",")):
            break
    found = " ".join(" ".join(parts).split()).removesuffix("{").rstrip().removesuffix(" =")
    found = _INNER_SPACE.sub("", found)
    if len(found) > _LONGEST_SIGNATURE or depth > 0:
        found = found[: _LONGEST_SIGNATURE - 1].rstrip() + "…"
    return found


def _focused(words: Sequence[str], files: Sequence[KnownFile]) -> tuple[set[str], set[str]]:
    """The paths and the names that somebody means by some words."""
    paths: set[str] = set()
    names: set[str] = set()
    for word in words:
        plain = word.strip().removeprefix("./").rstrip("/")
        found = {known.file.path for known in files if plain and f"/{plain}/" in f"/{known.file.path}/"}
        last = last_component(plain)
        if found:
            paths |= found
        elif any(item.name in (plain, last) for known in files for item in known.facts.defined):
            names |= {last}
        else:
            raise _unknown(word, files)
    return paths, names


def _unknown(word: str, files: Sequence[KnownFile]) -> UsageError:
    known = {item.name for file in files for item in file.facts.defined} | {file.file.path for file in files}
    near = difflib.get_close_matches(word[:200], sorted(known), n=3) if len(known) < 50_000 else []
    hint = f"Did you mean {', '.join(near)}?" if near else "Look for it first: agent search NAME"
    return UsageError(f"No indexed file, directory or definition is called {word[:200]!r}.", hint)


def _around(relations: Relations, names: Collection[str]) -> dict[tuple[str, int], float]:
    """Definitions by path and line that come before all others: those asked about, what they call, who calls them."""
    found: dict[tuple[str, int], float] = {}
    for name in sorted(names):
        places = relations.definitions_of(name)[:_MOST_AROUND]
        for place in places:
            found[place.path, place.line] = _ASKED
        for place in places:
            for called in relations.called_by(place)[:_MOST_AROUND]:
                found.setdefault((called.path, called.line), _CALLED)
        for use in relations.callers_of(name)[:_MOST_AROUND]:
            if use.enclosing_line:
                found.setdefault((use.path, use.enclosing_line), _CALLING)
    return found


def _ranked(
    files: Sequence[KnownFile], ranks: Ranks, around: Mapping[tuple[str, int], float]
) -> list[_Candidate]:
    """Every definition that can be shown, the most important first."""
    from indexers.relations import visible  # with all that parses, which the help of a command does without

    found: list[_Candidate] = []
    for known in files:
        path = known.file.path
        seen: dict[str, int] = {}
        for item in visible(known.facts):
            if item.kind == "module" and known.file.language in _NAMESPACES:
                continue
            name = last_component(item.name) or item.name
            worth = ranks.names.get((path, name), 0.0) * _WORTH.get(item.kind, 1.0)
            size = max(1, item.end_line - item.start_line + 1) ** 0.5
            first = around.get((path, item.line), 0.0)
            score = worth * size * _OVERLOAD ** seen.get(name, 0)
            found.append(_Candidate(known, item, score, first))
            seen[name] = min(seen.get(name, 0) + 1, 50)
    return sorted(found, key=lambda candidate: _order(candidate, ranks))


def _order(candidate: _Candidate, ranks: Ranks) -> tuple[float, float, float, str, int, str]:
    path, item = candidate.known.file.path, candidate.item
    return -candidate.first, -candidate.score, -ranks.files[path], path, item.line, item.name


def _totals(ranked: Sequence[_Candidate]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for candidate in ranked:
        totals[candidate.known.file.path] = totals.get(candidate.known.file.path, 0) + 1
    return totals


class _Sources:
    """Lines of files, read when they are first shown."""

    def __init__(self, relations: Relations) -> None:
        self._relations = relations
        self._lines: dict[str, list[str]] = {}

    def signature(self, known: KnownFile, item: Defined) -> str:
        path = known.file.path
        if path not in self._lines:
            self._lines[path] = self._relations.lines(known)
        return _visible(signature(self._lines[path], item.line)) or item.name


def _outlined(
    chosen: Sequence[_Candidate],
    totals: Mapping[str, int],
    sources: _Sources,
    place: Mapping[str, tuple[bool, float, str]],
) -> tuple[MapFile, ...]:
    """The chosen definitions by file, each below the classes that enclose it."""
    by_file: dict[str, list[_Candidate]] = {}
    for candidate in chosen:
        by_file.setdefault(candidate.known.file.path, []).append(candidate)
    order = sorted(by_file, key=lambda path: place[path])
    files: list[MapFile] = []
    for path in order:
        known = by_file[path][0].known
        wanted = {candidate.item for candidate in by_file[path]}
        entries = tuple(_entries(known, wanted, sources))
        listed = sum(1 for entry in entries if entry.kind != "scope")
        files.append(MapFile(path, known.file.language, entries, max(0, totals[path] - listed)))
    return tuple(files)


def _entries(known: KnownFile, wanted: Collection[Defined], sources: _Sources) -> list[MapEntry]:
    entries: list[MapEntry] = []
    open_: list[tuple[Defined, bool]] = []  # what encloses the current line, and whether it is listed
    for item in sorted(known.facts.defined, key=lambda d: (d.start_line, -d.end_line)):
        while open_ and open_[-1][0].end_line < item.start_line:
            open_.pop()
        if item in wanted:
            for place, (outer, listed) in enumerate(open_):
                if not listed and outer.kind in ("class", "scope"):
                    open_[place] = (outer, True)
                    depth = sum(1 for _, done in open_[:place] if done)
                    entries.append(_entry(known, outer, sources, depth))
            entries.append(_entry(known, item, sources, sum(1 for _, done in open_ if done)))
        if item.kind != "constant":
            open_.append((item, item in wanted))
    return entries


def _entry(known: KnownFile, item: Defined, sources: _Sources, depth: int) -> MapEntry:
    return MapEntry(item.name, item.kind, item.line, item.end_line, sources.signature(known, item), depth)


def _lines(files: Sequence[MapFile], more_files: int, more_definitions: int) -> Iterator[MapLine]:
    for file in files:
        yield MapLine("file", _visible(file.path), ":")
        width = len(str(max((entry.line for entry in file.entries), default=0)))
        for entry in file.entries:
            yield MapLine("entry", f"{entry.line:>{width}} ", "  " * entry.depth + entry.signature)
        if file.more:
            yield MapLine("more", f"{_ELISION} {file.more} more")
    if more_files:
        noun = "file" if more_files == 1 else "files"
        yield MapLine("more", f"{_ELISION} {more_files} more {noun}, {more_definitions} definitions")


def _text(lines: Iterable[MapLine]) -> str:
    return "\n".join(line.head + line.text for line in lines)


def _visible(text: str) -> str:
    """Text that stays on its line, whatever a file is called."""
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
