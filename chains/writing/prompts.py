"""The conversations of writing: sources first, the same in every stage, then what is asked for now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chains.prompts import prompt_text
from chains.writing.choosing import Menu, Target
from chains.writing.edits import Kind
from chains.writing.replies import Fence

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from chains.types import Source
    from chains.writing.stubs import Stub

_CHANGE = (
    "Write these lines anew so that the task is done. Keep what need not change, names and comments too. Answer with "
    "one fenced block that holds all of these lines, changed, and nothing else."
)
_FILL = (
    "The body of this function is missing. Write it so that the task is done. Answer with one fenced block that holds "
    "the whole function, and nothing else."
)
_ADD = (
    "Write the new code that comes right after these lines. Answer with one fenced block that holds only the new code, "
    "complete: without these lines, without examples of use."
)
_CREATE = "Write the whole new file {path}. Answer with one fenced block that holds it, and nothing else."


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was written for a target before, empty where it was what there had been, and what was wrong with it."""

    code: str
    problems: tuple[str, ...]


def choice_messages(
    request: str, sources: Sequence[Source], menu: Menu, refused: Sequence[str] = ()
) -> list[BaseMessage]:
    """Asks which places to change.

    :param refused: what was chosen before and cannot be done, and why.
    """
    forms = "\n".join(menu.forms())
    text = (
        f"Task: {request}\n\nPlaces:\n{menu.text()}\n\nWhat has to be done for the task? Answer with one line for each "
        f"place that must change, as few as possible, the most important first, then the line done. Forms:\n{forms}"
    )
    if refused:
        told = "\n".join(f"- {line}" for line in refused)
        text += f"\n\nThis cannot be done:\n{told}\nChoose something else."
    return _messages(sources, text, "")


def draft_messages(
    request: str,
    sources: Sequence[Source],
    target: Target,
    shown: str,
    fence: Fence,
    *,
    scope: str = "",
    stub: Stub | None = None,
    attempt: Attempt | None = None,
) -> list[BaseMessage]:
    """Asks for the code of one target; the answer is made to begin with the fence's opening line.

    :param shown: the lines that are to change, or that the new code follows, without their margin.
    :param scope: the first line of what they lie in.
    :param stub: they are a function without a body, whose head the answer is made to begin with.
    """
    parts = [f"Task: {request}\n"]
    if target.region is not None:
        inside = f", inside `{scope}`" if scope else ""
        region = target.region
        parts.append(f"These are lines {region.start_line}-{region.end_line} of {region.path}{inside}:")
        parts.append(fence.block(stub.known if stub else shown))
    wanted = {Kind.REPLACE: _FILL if stub else _CHANGE, Kind.INSERT: _ADD}
    parts.append(wanted.get(target.kind, _CREATE.format(path=target.path)))
    if attempt is not None:
        problems = "\n".join(f"- {problem}" for problem in attempt.problems)
        # What came back as it was is not shown again: it would be copied again.
        tried = f"You tried this before:\n{fence.block(attempt.code)}\n" if attempt.code else ""
        parts.append(f"\n{tried}It is wrong:\n{problems}\n")
        parts.append("Write it again, and right.")
    return _messages(sources, "\n".join(parts), fence.opening + (stub.head if stub else ""))


def _messages(sources: Sequence[Source], text: str, opening: str) -> list[BaseMessage]:
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

    blocks: list[str | dict[str, str]] = [
        {"type": "text", "text": source.text + "\n"} for source in reversed(sources)
    ]
    blocks.append({"type": "text", "text": text})
    found: list[BaseMessage] = [SystemMessage(prompt_text("write")), HumanMessage(content=blocks)]
    return [*found, AIMessage(opening)] if opening else found
