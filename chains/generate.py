"""Code asked for as such: grounded in the repository's own helpers, each one that it reuses cited."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chains.context import pack
from chains.prompts import prompt_text
from chains.types import Answer, Citation, Context, Usage
from chains.writing.replies import Fence

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from chains.types import Source
    from indexers.types import Hit, Place

_NAME = re.compile(r"[A-Za-z_]\w{2,}")
_MOST_CITED = 12


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


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model is asked for new code with: the messages, the sources in them, and the fence it answers in."""

    said: Sequence[BaseMessage]
    context: Context
    fence: Fence


def asked(request: str, hits: Sequence[Hit], model: Any, language: str, context_tokens: int) -> Asked:
    """The sources that fit, and the conversation about them."""
    context = pack(hits, context_tokens, model.count_tokens)
    fence = Fence(language=language if language.isalnum() and language != "text" else "")
    return Asked(new_code_messages(request, context.sources, fence), context, fence)


def new_code(
    request: str,
    hits: Sequence[Hit],
    model: Any,
    *,
    language: str,
    context_tokens: int,
    max_tokens: int,
    definitions_of: Callable[[str], Sequence[Place]],
    fenced: bool = False,
) -> Iterator[str | Answer]:
    """Pieces of code as they are written, then the answer that cites each definition of the repository it reuses.

    A grammar holds the model to one block, so that all of the text is code. Closing the iterator stops the model.

    :param fenced: the text is Markdown: the code between the lines of its block.
    """
    started = time.monotonic()
    wanted = asked(request, hits, model, language, context_tokens)
    fence, sources = wanted.fence, wanted.context.sources
    written, shown, first, finish = "", 0, 0.0, ""
    usage: dict[str, Any] = {}
    if fenced:
        yield fence.opening
    for chunk in model.stream(wanted.said, grammar=fence.grammar(), max_tokens=max_tokens):
        if chunk.text:
            first = first or time.monotonic() - started
            written += chunk.text
            # Whole lines: the last one may be the beginning of the closing marks.
            body = fence.body(written)
            ready = len(body) if fence.closes(written) else body.rfind("\n") + 1
            if ready > shown:
                yield body[shown:ready]
                shown = ready
        usage = dict(chunk.usage_metadata or usage)
        finish = str(chunk.response_metadata.get("finish_reason", finish) or finish)
    code = fence.body(written)
    closing = fence.block(code)[len(fence.opening) + len(code) :] if fenced else ""
    if code[shown:] + closing:
        yield code[shown:] + closing
    cached = int((usage.get("input_token_details") or {}).get("cache_read", 0) or 0)
    tokens = int(usage.get("input_tokens", 0)), cached, int(usage.get("output_tokens", 0))
    yield Answer(
        fence.block(code) if fenced else code,
        citations=reused(code, sources, definitions_of),
        sources=sources,
        dropped=wanted.context.dropped,
        usage=Usage(*tokens, round(first, 3), round(time.monotonic() - started, 3), finish),
    )


def reused(
    code: str, sources: Sequence[Source], definitions_of: Callable[[str], Sequence[Place]]
) -> tuple[Citation, ...]:
    """The definitions of the repository whose names code uses, of those that it was shown; each verified by the index.

    A name that several places define is cited where a source shows it, and not at all where none or several do.
    """
    text = "\n".join(source.text for source in sources)
    own = set(re.findall(r"(?:def|class|function|func|fn|type|struct)\s+(\w+)", code))
    found: dict[str, Citation] = {}
    for name in dict.fromkeys(_NAME.findall(code)):
        if name in own or name in found or not re.search(rf"\b{name}\b", text) or len(found) >= _MOST_CITED:
            continue
        places = [place for place in definitions_of(name) if place.kind != "section" and place.name == name]
        shown = [place for place in places if any(_shows(source, place) for source in sources)]
        place = shown[0] if len(shown) == 1 else places[0] if len(places) == 1 else None
        if place is not None:
            reason = f"{name} is defined there"
            found[name] = Citation(place.path, place.start_line, place.end_line, True, reason)
    return tuple(found.values())


def _shows(source: Source, place: Place) -> bool:
    return source.path == place.path and source.start_line <= place.line <= source.end_line
