"""What a reader of one hunk needs besides it: the function around it, what it calls, who calls that, and its tests."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chains.reviewing.checks.uses import Tree
from chains.reviewing.types import FileDiff, Hunk
from indexers.facts import CALL, Defined, FileFacts
from indexers.filters import is_test
from indexers.languages import language_of
from indexers.references import read_text
from indexers.resolve import last_part

# Lines around a hunk, lines of the function it stands in, of that one's beginning where it is longer, and of a
# definition that it calls.
_AROUND, _MOST_ENCLOSING, _MOST_HEAD, _MOST_CALLED = 6, 40, 6, 14
_DEFINITIONS, _CALLERS, _TESTS = 3, 3, 2
# A name in more files than this is a word of the language.
_MOST_FILES = 25
_MOST_NAMES = 8
_SHORTEST_NAME = 3
_LONGEST_LINE = 160


@dataclass(frozen=True, slots=True)
class Around:
    """The lines of the new text shown with a hunk, 1-based and inclusive, and other code as labelled blocks."""

    start: int
    end: int
    scope: str
    blocks: tuple[str, ...] = ()


class ContextFinder:
    """Finds it for one change, reading every file once."""

    def __init__(self, tree: Tree | None, budget: int) -> None:
        """:param budget: characters of other code."""
        self._tree = tree
        self._budget = budget
        self._facts: dict[str, FileFacts] = {}

    def around(self, file: FileDiff, hunk: Hunk) -> Around:
        """The context of one hunk."""
        facts = self._facts_of(file.path, file.after or "", file.language)
        lines = file.lines()
        enclosing = facts.enclosing([hunk.start]).get(hunk.start)
        start, end = _stretch(hunk, enclosing, len(lines))
        scope = ".".join(enclosing.path) if enclosing is not None else ""
        blocks: list[str] = []
        left = self._budget
        for block in self._blocks(file, hunk, facts, enclosing, (start, end)) if self._budget > 0 else ():
            if len(block) <= left:
                blocks.append(block)
                left -= len(block)
        return Around(start, end, scope, tuple(blocks))

    def _blocks(
        self, file: FileDiff, hunk: Hunk, facts: FileFacts, enclosing: Defined | None, shown: tuple[int, int]
    ) -> Iterator[str]:
        if enclosing is not None and enclosing.start_line < shown[0]:
            end = min(enclosing.start_line + _MOST_HEAD, shown[0])
            yield _block(
                f"{file.path}:{enclosing.start_line}", file.lines()[enclosing.start_line - 1 : end - 1]
            )
        yield from self._called(file, hunk, facts, shown)
        if enclosing is not None:
            yield from self._users(file, last_part(enclosing.name), shown)

    def _called(self, file: FileDiff, hunk: Hunk, facts: FileFacts, shown: tuple[int, int]) -> Iterator[str]:
        """The definitions of what the lines shown call: first what touched lines do, and those of the same file."""
        touched = set(hunk.touched)
        lines_of: dict[str, set[int]] = {}
        for reference in facts.references:
            here = {line for line in reference.lines if shown[0] <= line <= shown[1]}
            if here and reference.kind == CALL and len(reference.name) >= _SHORTEST_NAME:
                lines_of[reference.name] = lines_of.get(reference.name, set()) | here
        count = 0
        for name in sorted(lines_of, key=lambda name: not touched & lines_of[name])[:_MOST_NAMES]:
            if count >= _DEFINITIONS:
                return
            own = [item for item in facts.defined if last_part(item.name) == name and not item.is_hidden]
            if any(shown[0] <= item.line <= shown[1] for item in own):
                continue
            places = [(file.path, item, file.lines()) for item in own] or list(self._elsewhere(file, name))
            if len(places) == 1:
                path, item, lines = places[0]
                count += 1
                yield _block(
                    f"{path}:{item.start_line}", lines[item.start_line - 1 : item.end_line][:_MOST_CALLED]
                )

    def _elsewhere(self, file: FileDiff, name: str) -> Iterator[tuple[str, Defined, list[str]]]:
        for path, text in self._files_with(name, file).items():
            for item in self._facts_of(path, text, language_of(path)).defined:
                if last_part(item.name) == name and not item.is_hidden:
                    yield path, item, text.split("\n")

    def _users(self, file: FileDiff, name: str, shown: tuple[int, int]) -> Iterator[str]:
        """Lines that call the function around the hunk: some of code, some of tests, those of the same file first."""
        left = {False: _CALLERS, True: _TESTS}
        found: list[str] = []
        for path, text in {file.path: file.after or "", **self._files_with(name, file)}.items():
            room = left[is_test(path)]
            if not room:
                continue
            lines = text.split("\n")
            calls = [
                line
                for line in _calls(self._facts_of(path, text, file.language), name)
                if path != file.path or not shown[0] <= line <= shown[1]
            ][:room]
            left[is_test(path)] -= len(calls)
            found += [f"{path}:{line}: {lines[line - 1].strip()[:_LONGEST_LINE]}" for line in calls]
        if found:
            yield f"Uses of {name}:\n" + "\n".join(found) + "\n"

    def _files_with(self, name: str, file: FileDiff) -> dict[str, str]:
        if self._tree is None or len(name) < _SHORTEST_NAME or not re.fullmatch(r"\w+", name):
            return {}
        paths = [path for path in self._tree.holding(name) if language_of(path) == file.language]
        if len(paths) > _MOST_FILES:
            return {}
        return dict(self._tree.texts([path for path in paths if path != file.path]))

    def _facts_of(self, path: str, text: str, language: str) -> FileFacts:
        if path not in self._facts:
            self._facts[path] = read_text(text, language) if text else FileFacts()
        return self._facts[path]


def _calls(facts: FileFacts, name: str) -> list[int]:
    """The lines that call a name."""
    found = (r.lines for r in facts.references if r.name == name and r.kind == CALL)
    return [line for lines in found for line in lines]


def _stretch(hunk: Hunk, enclosing: Defined | None, count: int) -> tuple[int, int]:
    """The function around the hunk where that is short enough, else a few lines on both sides."""
    start, end = hunk.touched[0], hunk.touched[-1]
    if enclosing is not None and enclosing.end_line - enclosing.start_line < _MOST_ENCLOSING:
        start, end = min(start, enclosing.start_line), max(end, enclosing.end_line)
    else:
        start, end = start - _AROUND, end + _AROUND
    return max(1, start), min(end, max(1, count))


def _block(label: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{label}:", *(line[:_LONGEST_LINE] for line in lines)]) + "\n"
