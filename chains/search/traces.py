"""The places in code that a stack trace or an error message names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# A trace repeats itself; what matters stands among its first and last frames.
MOST_FRAMES = 40
_LONGEST_PATH = 300
# Python: File "a b.py", line 3. .NET: a.cs:line 3. PHP and MSVC: a.php(3). Most others: a.go:3, and often a column.
_LINE = re.compile(r'(?:(?P<quoted>", line )|:line |:|\()(?P<line>\d{1,7})\b')
# Read backwards from the line number, so that no text takes more than one pass.
_HTAP = re.compile(r"""[^\s"'`<>|*?:;,=()]+""")
_FILE_NAME = re.compile(r"[\w@+~$.\-\[\]]+\.[A-Za-z]\w{0,9}")


class Frame(NamedTuple):
    """A place named by a path as the message has it (absolute, relative or a bare name), and a 1-based line."""

    path: str
    line: int


def frames(text: str) -> list[Frame]:
    """The places named in a text, in order of appearance, without repeats."""
    found: dict[Frame, None] = {}
    for match in _LINE.finditer(text):
        before = text[max(0, match.start() - _LONGEST_PATH) : match.start()]
        if match["quoted"]:
            path = before.rpartition('"')[2]
        else:
            backwards = _HTAP.match(before[::-1])
            path = backwards[0][::-1] if backwards else ""
        path = path.replace("\\", "/")
        if _FILE_NAME.fullmatch(path.rpartition("/")[2]):
            found[Frame(path, int(match["line"]))] = None
            if len(found) == MOST_FRAMES:
                break
    return list(found)


def resolve(frame: Frame, paths: Iterable[str]) -> Sequence[str]:
    """The indexed paths that a frame may mean: those that share the most last components with it, at least the name."""
    wanted = [part for part in frame.path.split("/") if part not in ("", ".", "..")]
    best: list[str] = []
    longest = 0
    for path in paths:
        if not path.endswith(wanted[-1]):
            continue
        shared = 0
        for mine, theirs in zip(reversed(wanted), reversed(path.split("/")), strict=False):
            if mine != theirs:
                break
            shared += 1
        if shared > longest:
            best, longest = [path], shared
        elif shared and shared == longest:
            best.append(path)
    return best
