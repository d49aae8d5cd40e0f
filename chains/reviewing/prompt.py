"""A hunk as a model reads it: numbered lines, no secrets, nothing invisible; and the schema of its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chains.prompts import prompt_text
from chains.reviewing.context import Around
from chains.reviewing.types import FileDiff, Hunk
from chains.reviewing.visible import visible
from indexers.redact import redact

# Part of every key under which a verdict is kept: raised when the prompt or the reading of its answer changes.
VERSION = 2
CATEGORIES = ("logic", "error-handling", "security", "resource", "concurrency", "api")
SEVERITIES = ("low", "medium", "high")
# A line beyond this is data; it is not shown in part.
LONGEST_LINE = 1_000
MOST_CHARS = 8_000
_KEY = b"review"
_MESSAGE, _QUOTE, _SUGGESTION = 160, 120, 160
_MOST_FINDINGS = 2


@dataclass(frozen=True, slots=True)
class HunkPrompt:
    """`text` is what the model reads; `lines` are the real numbers of the lines it may name, by the number it sees.

    Lines are numbered from the first one shown, so that the same code at another place is the same prompt. Other code
    stands before the change, in the first `around` characters: they are as they were when the change is made again.
    """

    text: str
    lines: Mapping[int, int]
    around: int = 0


def hunk_prompt(file: FileDiff, hunk: Hunk, around: Around) -> HunkPrompt | None:
    """The prompt of one hunk; None where it is too large to be shown whole."""
    lines = file.lines()
    shown = range(around.start, around.end + 1)
    touched = set(hunk.touched) if hunk.added else set()
    texts = [lines[number - 1] for number in shown]
    if max(map(len, (*texts, *hunk.removed)), default=0) > LONGEST_LINE:
        return None
    body: list[str] = []
    numbers: dict[int, int] = {}
    for at, (number, text) in enumerate(zip(shown, texts, strict=True), start=1):
        if number == hunk.start:
            body += [f"     - {line}" for line in hunk.removed]
        mark = "+" if number in touched else " "
        body.append(f"{at:4} {mark} {text}")
        if number in touched or (not hunk.added and number in hunk.touched):
            numbers[at] = number
    where = f", inside {around.scope}" if around.scope else ""
    path = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in file.path)
    before = f"Change to {path} ({file.language}){where}.\n\n"
    if around.blocks:
        before += "Other code, not changed:\n" + "\n".join(around.blocks) + "\n\n"
    change = "The change. + marks new lines, - removed ones, the rest is as it was:\n" + "\n".join(body)
    before, change = _safe(before), _safe(change)
    if len(before) + len(change) > MOST_CHARS or not numbers:
        return None
    return HunkPrompt(before + change, numbers, len(before) if around.blocks else 0)


def _safe(text: str) -> str:
    """Without secrets and lone surrogates, which are no text; what nobody sees is shown."""
    return visible(redact(text, _KEY).text.encode("utf-8", "replace").decode())


def answer_schema(prompt: HunkPrompt, *, suggest: bool, least: int = 0) -> dict[str, Any]:
    """A flat JSON schema: at most two findings, whose lines can only be those that the change touches.

    :param least: 1 to have the likeliest fault named in any case, for a second question to judge it.
    """
    properties: dict[str, Any] = {
        "line": {"enum": list(prompt.lines)},
        "quote": {"type": "string", "maxLength": _QUOTE},
        "message": {"type": "string", "minLength": 1, "maxLength": _MESSAGE},
        "category": {"enum": list(CATEGORIES)},
        "severity": {"enum": list(SEVERITIES)},
    }
    if suggest:
        properties["suggestion"] = {"type": "string", "maxLength": _SUGGESTION}
    item = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    listed = {
        "type": "array",
        "items": item,
        "minItems": least,
        "maxItems": max(least, _MOST_FINDINGS - least),
    }
    return {
        "type": "object",
        "properties": {"findings": listed},
        "required": ["findings"],
        "additionalProperties": False,
    }


def claim(number: int, quote: str, message: str) -> str:
    """A finding as the second pass is asked about it."""
    return f"A reviewer claims of line {number}, `{quote}`: {message}\n\n{prompt_text('review_verify')}"


def texts_of(system: str, *rest: str) -> Sequence[str]:
    """All texts of a prompt, for its key."""
    return (str(VERSION), system, *rest)
