"""Questions about names of code, answered from the facts: who defines, who calls, what is called, what tests it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from indexers.fact_reader import FactReader, Keep, KnownFile
from indexers.facts import CALL, IMPORT, NAME, TYPE, Defined, FileFacts, Reference
from indexers.filters import is_test
from indexers.graph import GraphFile, Ranks, rank
from indexers.ledger import Ledger
from indexers.resolve import Meant, last_part, parts_of, places_of, resolve
from indexers.tokens import tokenize
from indexers.types import Place, Progress, Use

ALL_KINDS = (CALL, TYPE, IMPORT, NAME)
# More uses than anybody reads.
MOST_USES = 500
# A call of a name that so many chunks define means none of them in particular.
_MOST_DEFINERS = 12
_LONGEST_TEXT = 200
# How much a use says about what is important, by kind; a word behind a dot may be any field of that name.
_WORTH = {CALL: 1.0, TYPE: 1.0, IMPORT: 0.5, NAME: 0.5}
_FIELD = 0.2
_EXAMPLES = frozenset(
    "example examples sample samples demo demos doc docs docs_src bench benches benchmarks".split()
)
_BODIES = frozenset({"function", "method", "clause"})


class Stretch(Protocol):
    """Some lines of a file: a chunk, a hit."""

    @property
    def path(self) -> str:
        """Relative to the repository."""

    @property
    def start_line(self) -> int:
        """1-based."""

    @property
    def end_line(self) -> int:
        """Inclusive."""


class Relations:
    """What one ledger says about names. Only files that hold a name are parsed, each content once.

    :param keep: stores what was parsed (`Builder.keep_facts`); without it, it is remembered for this object's life.
    """

    def __init__(
        self, ledger: Ledger, keep: Keep | None = None, on_progress: Callable[[Progress], None] | None = None
    ) -> None:
        self.ledger = ledger
        self._reader = FactReader(ledger, keep, on_progress)
        self._whole: list[KnownFile] = []
        self._whole_generation = -1
        self._paths: dict[str, int] = {}
        self._paths_generation = -1

    def definitions_of(self, name: str) -> list[Place]:
        """Every definition of a name, code before tests, then by path and line.

        :param name: as written; `Type.method`, `module::function` and the like ask for what lies in what. Letters in
            another case are found when there is nothing in this one.
        """
        *owners, last = parts_of(_text(name))
        found = [
            (known, item)
            for known in self._defining(last)
            for item in known.facts.defined
            if not item.is_hidden and item.name.lower().endswith(last.lower()) and _lies_in(item, owners)
        ]
        exact = [pair for pair in found if last_part(pair[1].name) == last]
        anyhow = [pair for pair in found if last_part(pair[1].name).lower() == last.lower()]
        return self._places(exact or anyhow)

    def callers_of(self, name: str, limit: int = MOST_USES) -> list[Use]:
        """The lines that call a name, code before tests, then by path and line.

        Calls are told by their names: whose `get` is called in `x.get()`, the text does not say. Asked for as
        `Type.get`, those are left out that are plainly of another type.
        """
        return self.uses_of(name, (CALL,), limit)

    def uses_of(self, name: str, kinds: Collection[str] = ALL_KINDS, limit: int = MOST_USES) -> list[Use]:
        """The lines that use a name in one of these ways, code before tests, then by path and line."""
        last = last_part(_text(name))
        meant = self._meant(name)
        found: list[Use] = []
        for known in self._holding(last):
            used = [r for r in known.facts.references if r.name == last and r.kind in kinds]
            if used:
                found += _uses(known, used, meant, self._reader.lines(known.file))
        return sorted(found, key=lambda use: (is_test_place(use), use.path, use.line))[:limit]

    def tests_of(self, name: str) -> list[Use]:
        """The tests that use a name or are called after it: of each its first such line, by path and line."""
        last = last_part(_text(name))
        first: dict[tuple[str, tuple[str, ...]], Use] = {}
        for use in self.uses_of(name, (CALL, TYPE, NAME)):
            if is_test_place(use):
                first.setdefault((use.path, use.enclosing), use)
        for called in (f"test_{last}", f"test{last}", f"{last}_test", f"{last}test"):
            for place in self.definitions_of(called):
                enclosing = (*place.scope, place.name)
                use = Use(place.path, place.line, NAME, enclosing, place.line, place.text)
                first.setdefault((place.path, enclosing), use)
        return sorted(first.values(), key=lambda use: (use.path, use.line))

    def called_by(self, chunk: Stretch) -> list[Place]:
        """The repository's definitions that some lines call, in order of the calls, without those in these lines.

        A call that could mean several definitions is left out.
        """
        user = next(iter(self._reader.of(self._ids([chunk.path]))), None)
        if user is None:
            return []
        calls = sorted(
            (line, reference.name, reference)
            for reference in user.facts.references
            if reference.kind == CALL
            for line in reference.lines
            if chunk.start_line <= line <= chunk.end_line
        )
        found: dict[tuple[str, int], tuple[KnownFile, Defined]] = {}
        around = user.facts.enclosing(line for line, *_ in calls)
        for line, _, reference in calls:
            inside = around[line].path if line in around else ()
            target = resolve(user, reference, inside, self._few_defining)
            if target is None:
                continue
            known, item = target
            itself = known is user and chunk.start_line <= item.line <= chunk.end_line
            # Nobody has to be told of the tests' helpers who does not read tests.
            if not itself and (is_test(user.file.path) or not is_test(known.file.path)):
                found.setdefault((known.file.path, item.line), target)
        return self._places(found.values(), in_order=True)

    def ranks(self, focus_paths: Collection[str] = (), focus_names: Collection[str] = ()) -> Ranks:
        """The importance of every file and name, seen from the focus where there is one."""
        return rank([_graph_file(known) for known in self.files()], focus_paths, focus_names)

    def files(self) -> list[KnownFile]:
        """Every file with its facts, in order of paths; remembered for this generation."""
        generation = self.ledger.generation()
        if generation != self._whole_generation:
            self._whole, self._whole_generation = self._reader.of(), generation
        return self._whole

    def lines(self, known: KnownFile) -> list[str]:
        """The text of a file as indexed: line n stands at n - 1."""
        return self._reader.lines(known.file)

    # -- inside ----------------------------------------------------------------------------------

    def _meant(self, name: str) -> Meant | None:
        """Whose definition a qualified name asks for; None for a plain one, or when nothing is called like that."""
        parts = parts_of(_text(name))
        asked = self.definitions_of(name) if len(parts) > 1 else []
        if not asked:
            return None
        owner = parts[-2]
        owners = {last_part(place.scope[-1]) for place in self.definitions_of(parts[-1]) if place.scope}
        return Meant(owner, frozenset(owners - {owner}), all(place.kind == "method" for place in asked))

    def _holding(self, name: str) -> list[KnownFile]:
        """Files in which a name occurs, by the keyword index; all, where that does not know such words."""
        tokens = tokenize(name)
        return self._reader.of(self.ledger.files_with(tokens[0]) if tokens else None)

    def _defining(self, name: str) -> list[KnownFile]:
        stored = self.ledger.chunks(self.ledger.defining(name))
        return self._reader.of(self._ids({item.chunk.path for item in stored.values()}))

    def _few_defining(self, name: str) -> list[KnownFile]:
        ids = self.ledger.defining(name, _MOST_DEFINERS + 1)
        if len(ids) > _MOST_DEFINERS:
            return []
        chunks = [stored.chunk for stored in self.ledger.chunks(ids).values()]
        # Letters in another case are another name to a compiler.
        paths = {c.path for c in chunks if any(last_part(s.name) == name for s in c.symbols)}
        return self._reader.of(self._ids(paths))

    def _ids(self, paths: Collection[str]) -> list[int]:
        generation = self.ledger.generation()
        if generation != self._paths_generation:
            self._paths = {file.path: file.id for file in self.ledger.listed()}
            self._paths_generation = generation
        return [self._paths[path] for path in paths if path in self._paths]

    def _places(self, pairs: Iterable[tuple[KnownFile, Defined]], *, in_order: bool = False) -> list[Place]:
        lines: dict[str, list[str]] = {}
        found: list[Place] = []
        for known, item in pairs:
            path = known.file.path
            if path not in lines:
                lines[path] = self._reader.lines(known.file)
            found += places_of(known, [item], lines[path])
        found = [replace(place, text=place.text[:_LONGEST_TEXT]) for place in found]
        return found if in_order else sorted(found, key=lambda p: (is_test(p.path), p.path, p.line))


def is_test_place(use: Use) -> bool:
    """Whether a use stands in a test: in a file of tests, or in a test inside another file."""
    if is_test(use.path):
        return True
    return any(name in ("test", "tests") or name.startswith("test_") for name in use.enclosing)


def visible(facts: FileFacts) -> list[Defined]:
    """The definitions of a file that others can name: not those inside a function."""
    found: list[Defined] = []
    body = 0  # the last line of the function we are in
    for item in sorted(facts.defined, key=lambda d: (d.start_line, -d.end_line)):
        if not item.is_hidden and item.start_line > body:
            found.append(item)
        if item.kind in _BODIES:
            body = max(body, item.end_line)
    return found


def _graph_file(known: KnownFile) -> GraphFile:
    uses: dict[str, float] = {}
    for reference in known.facts.references:
        field = reference.kind == NAME and reference.receiver
        worth = (_FIELD if field else _WORTH[reference.kind]) * len(reference.lines)
        uses[reference.name] = uses.get(reference.name, 0.0) + worth
    path = known.file.path
    return GraphFile(
        path=path,
        language=known.file.language,
        defines=frozenset(last_part(item.name) for item in visible(known.facts)),
        uses=uses,
        imports=known.facts.imports,
        aside=is_test(path) or not _EXAMPLES.isdisjoint(path.split("/")[:-1]),
    )


def _uses(
    known: KnownFile, references: Sequence[Reference], meant: Meant | None, lines: Sequence[str]
) -> list[Use]:
    found: dict[tuple[int, str], Use] = {}
    around = known.facts.enclosing(line for reference in references for line in reference.lines)
    for reference in references:
        for line in reference.lines:
            outer = around.get(line)
            enclosing, named = (outer.path, outer.line) if outer else ((), 0)
            if meant is None or meant.by(reference, enclosing):
                text = lines[line - 1].strip()[:_LONGEST_TEXT] if line <= len(lines) else ""
                found[line, reference.kind] = Use(
                    known.file.path, line, reference.kind, enclosing, named, text
                )
    return [found[key] for key in sorted(found)]


def _text(name: str) -> str:
    """A name as it was typed, without halves of characters, which no text holds."""
    return name.encode("utf-8", "replace").decode()


def _lies_in(item: Defined, owners: Sequence[str]) -> bool:
    """Whether a definition's path ends in these names before its own."""
    *path, own = [part for name in item.path for part in parts_of(name)]
    del own
    tail = path[len(path) - len(owners) :] if owners else []
    return [part.lower() for part in tail] == [part.lower() for part in owners]
