"""Text that is safe to show: what a terminal would obey or hide is made visible, in lines, in labels and in JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

# What is not meant to be seen can move the cursor, write the clipboard, or make text read other than it is.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
_SURROGATES = "\ud800-\udfff"
_UNSAFE = re.compile(f"[{_CONTROLS}{_INVISIBLE}{_SURROGATES}]")
_EMOJI = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
_JOINER, _TEXT_STYLE, _EMOJI_STYLE, _KEYCAP = "\u200d", "\ufe0e", "\ufe0f", "\u20e3"
# Whether these are harmless depends on what follows, which may not have arrived yet.
_UNDECIDED = ("\r", _JOINER, _EMOJI_STYLE)


class Sanitiser:
    """Makes text safe to show, piece by piece: all pieces together give what the whole would give.

    Controls and invisible characters become visible (`⟦U+202E⟧`), each on its own: an escape sequence cut in
    two is as harmless as a whole one, and none can swallow what follows. Emoji keep selectors and joiners.
    """

    def __init__(self) -> None:
        self._held = ""
        self._last = ""

    def feed(self, piece: str) -> str:
        """What can be shown now."""
        text = self._held + piece
        self._held = text[-1] if text.endswith(_UNDECIDED) else ""
        return self._clean(text[: len(text) - len(self._held)], self._held)

    def finish(self) -> str:
        """What was held back until the end was known."""
        text, self._held = self._held, ""
        return self._clean(text, "")

    def _clean(self, text: str, after: str) -> str:
        shown: list[str] = []
        start = 0
        for match in _UNSAFE.finditer(text):
            if match.start() > start:
                shown.append(text[start : match.start()])
                self._last = text[match.start() - 1]
            start = match.end()
            following = text[start] if start < len(text) else after
            replacement = _visible(match.group(), self._last, following)
            if replacement:
                shown.append(replacement)
                self._last = replacement[-1]
        if start < len(text):
            shown.append(text[start:])
            self._last = text[-1]
        return "".join(shown)


def _visible(char: str, before: str, after: str) -> str:
    """One unsafe character as it may be shown between two others (each one character or none)."""
    if char == "\r" and after == "\n":
        return ""
    if char in (_TEXT_STYLE, _EMOJI_STYLE) and before and _EMOJI.match(before):
        return char
    if char == _EMOJI_STYLE and before in tuple("0123456789#*") and after == _KEYCAP:
        return char
    between_emoji = (
        before and after and (before == _EMOJI_STYLE or _EMOJI.match(before)) and _EMOJI.match(after)
    )
    if char == _JOINER and between_emoji:
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8, as os.fsdecode keeps it
        return f"\\x{code - 0xDC00:02x}"
    return f"⟦U+{code:04X}⟧"


def sanitise(text: str) -> str:
    """`text` without anything a terminal would obey or hide; line feeds and tabs stay."""
    cleaner = Sanitiser()
    return cleaner.feed(text) + cleaner.finish()


def valid_text(text: str) -> str:
    """Text as typed, fit for UTF-8: bytes of the command line that are not become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def show_path(path: str | PurePath) -> str:
    """A file name on one line: line feeds and tabs escaped, odd bytes as `\\xNN`."""
    text = str(path).replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return sanitise(text)


def show_label(path: str, start_line: int, end_line: int) -> str:
    """Path and lines as people and editors read them."""
    return f"{show_path(path)}:{start_line}-{end_line}"


def to_json(value: object) -> str:
    """`value` as one JSON text: valid UTF-8, and with nothing raw in it that a terminal would obey."""
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=2)
    # Unsafe characters can only stand inside JSON strings, where an escape means the same.
    return _UNSAFE.sub(lambda match: json.dumps(match.group())[1:-1], text)


def plain(value: object) -> Any:
    """`value` in JSON's own types: dataclasses as objects, paths and enums as text, odd bytes as `\\xNN`."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return _valid_text(value.value if isinstance(value, Enum) else value)
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, PurePath):
        return _valid_text(str(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_valid_text(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    if hasattr(value, "item"):  # a number of an array library
        return plain(value.item())
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _valid_text(text: str) -> str:
    """Lone surrogates as backslash escapes; everything else is kept."""
    if not re.search(f"[{_SURROGATES}]", text):
        return text
    return text.encode("utf-8", "surrogateescape" if _only_bytes(text) else "backslashreplace").decode(
        "utf-8", "backslashreplace"
    )


def _only_bytes(text: str) -> bool:
    """Whether every lone surrogate stands for a byte of a file name."""
    return not re.search("[\ud800-\udc7f\udd00-\udfff]", text)
