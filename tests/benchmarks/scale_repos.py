"""Makes repositories of any number of files, the same for everybody: functions, classes and prose in four languages."""

from __future__ import annotations

import bisect
import itertools
import random
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.repos import git

# Names follow Zipf's law, as those of real code do: a few stand everywhere, most in one or two files.
_VOCABULARY = 20_000
_BITS = [a + b for a in ("re", "con", "pa", "ses", "tok", "sto", "fet", "que", "mar", "bu") for b in "aeiou"]
# Files in one directory, and directories in one of those.
_FILES, _FOLDERS = 12, 20
# Definitions in a file: most are small, some large, about 4 KB on average.
_MEAN_PARTS, _MOST_PARTS = 2.2, 60
_VERBS = ("get", "set", "load", "save", "parse", "build", "check", "send", "open", "close", "merge", "find")


class _Words:
    """Names drawn by Zipf's law."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        names = random.Random(7)
        self._names = [
            "".join(names.choice(_BITS) for _ in range(names.randrange(2, 5))) for _ in range(_VOCABULARY)
        ]
        self._sums = list(itertools.accumulate(1 / (rank + 3) for rank in range(_VOCABULARY)))

    def name(self) -> str:
        return self._names[bisect.bisect_left(self._sums, self._chance.random() * self._sums[-1])]

    def joined(self) -> str:
        return f"{self._chance.choice(_VERBS)}_{self.name()}_{self.name()}"

    def camel(self) -> str:
        return "".join(part.title() for part in (self.name(), self.name()))

    def sentence(self) -> str:
        return " ".join(self.name() for _ in range(self._chance.randrange(6, 14))).capitalize() + "."


def _python(w: _Words, parts: int) -> str:
    lines = [f'"""{w.sentence()}"""', "", f"import {w.name()}", f"from {w.name()} import {w.camel()}", ""]
    for _ in range(parts):
        lines += ["", f"class {w.camel()}({w.camel()}):", f'    """{w.sentence()}"""', ""]
        for _ in range(2):
            a, b = w.name(), w.name()
            lines += [
                f"    def {w.joined()}(self, {a}: int, {b}: str = {w.name()!r}) -> {w.camel()}:",
                f"        # {w.sentence()}",
                f"        if not {a}:",
                f'            raise ValueError(f"{w.sentence()} {{{b}}}")',
                f"        for {w.name()} in self.{w.name()}({a}, {b}):",
                f"            {w.joined()}({a}, key={b})",
                f"        return {w.camel()}({a}, {b})",
                "",
            ]
    return "\n".join(lines) + "\n"


def _go(w: _Words, parts: int) -> str:
    lines = [f"package {w.name()}", "", f'import "{w.name()}/{w.name()}"', ""]
    for _ in range(parts):
        kind = w.camel()
        lines += [f"// {kind}: {w.sentence()}", f"type {kind} struct {{", f"\t{w.camel()} string", "}", ""]
        for _ in range(2):
            a = w.name()
            lines += [
                f"// {w.sentence()}",
                f"func (s *{kind}) {w.camel()}({a} int) ({w.camel()}, error) {{",
                f"\tif {a} < 0 {{",
                f'\t\treturn nil, errors.New("{w.sentence()}")',
                "\t}",
                f"\t{w.name()} := s.{w.camel()}({a})",
                f"\treturn {w.name()}, nil",
                "}",
                "",
            ]
    return "\n".join(lines) + "\n"


def _typescript(w: _Words, parts: int) -> str:
    lines = [f'import {{ {w.camel()} }} from "./{w.name()}";', ""]
    for _ in range(parts):
        lines += [f"/** {w.sentence()} */", f"export class {w.camel()} implements {w.camel()} {{"]
        for _ in range(2):
            a = w.name()
            lines += [
                f"  // {w.sentence()}",
                f"  async {w.joined()}({a}: {w.camel()}): Promise<{w.camel()}> {{",
                f"    if ({a} === undefined) throw new Error(`{w.sentence()}`);",
                f"    const {w.name()} = await this.{w.joined()}({a});",
                f"    return new {w.camel()}({a});",
                "  }",
                "",
            ]
        lines += ["}", ""]
    return "\n".join(lines) + "\n"


def _prose(w: _Words, parts: int) -> str:
    lines = [f"# {w.sentence()}", ""]
    for _ in range(parts):
        lines += [f"## {w.sentence()}", "", *(w.sentence() for _ in range(5)), "", f"    {w.joined()}()", ""]
    return "\n".join(lines) + "\n"


_KINDS: list[tuple[str, Callable[[_Words, int], str]]] = [
    *[("py", _python)] * 5,
    *[("go", _go)] * 2,
    *[("ts", _typescript)] * 2,
    ("md", _prose),
]


def path_of(number: int) -> str:
    """Where file `number` lies; the same in every repository that has so many files."""
    folder = number // _FILES
    suffix, _ = _KINDS[number % len(_KINDS)]
    return f"p{folder // _FOLDERS:03}/d{folder % _FOLDERS:02}/f{number:05}.{suffix}"


def content_of(number: int, words: _Words, chance: random.Random) -> str:
    """The text of file `number`."""
    parts = min(_MOST_PARTS, 1 + int(chance.expovariate(1 / _MEAN_PARTS)))
    return _KINDS[number % len(_KINDS)][1](words, parts)


def make(root: Path, files: int) -> int:
    """A repository of that many files in one commit; its bytes. A smaller one is the beginning of a larger one."""
    chance = random.Random(20_261)
    words = _Words(chance)
    size = 0
    for number in range(files):
        path = root / path_of(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content_of(number, words, chance)
        path.write_text(text)
        size += len(text)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "generated")
    return size
