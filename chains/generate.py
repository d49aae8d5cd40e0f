"""Code asked for as such: grounded in the repository's own helpers, each one that it reuses cited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chains.prompts import prompt_text
from chains.replies import Fence

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from chains.types import Source


def new_code_messages(request: str, sources: Sequence[Source], fence: Fence) -> list[BaseMessage]:
    """The conversation that asks for new code; the answer is made to begin with the fence's opening line.

    The best source stands last, nearest to the request.
    """
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

    blocks: list[str | dict[str, str]] = [
        {"type": "text", "text": source.text + "\n"} for source in reversed(sources)
    ]
    blocks.append({"type": "text", "text": request})
    return [SystemMessage(prompt_text("write_new")), HumanMessage(content=blocks), AIMessage(fence.opening)]
