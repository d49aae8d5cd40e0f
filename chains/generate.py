"""Code asked for as such: grounded in the repository's own helpers, each one that it reuses cited."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chains.context import pack
from chains.engine.streams import closed_after, cost_so_far
from chains.prompts import prompt_text
from chains.types import REPEATED, Answer, Citation, Context, Usage
from chains.writing.replies import Fence
from chains.writing.speaking import goes_on_inventing, loops
from indexers.references import read_text
from indexers.resolve import last_part
from indexers.tokens import whole_word

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from chains.types import Source
    from indexers.types import Hit, Place

_NAME = re.compile(r"[A-Za-z_]\w{2,}")
_FROM = re.compile(r"^\s*from\s+([.\w]+)\s+import\s+\(?([^()#]+?)\)?\s*$", re.MULTILINE)
NOTHING_WRITTEN = "The model wrote no code.\n"
_MOST_CITED, _SHORTEST = 12, 2


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
    texts = "\n".join((request, *(hit.text for hit in hits)))
    fence = Fence.around(texts, language if language.isalnum() and language != "text" else "")
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
    written, pieces, shown, first, finish = "", 0, 0, 0.0, ""
    usage: dict[str, Any] = {}
    opening = fence.opening if fenced else ""
    with closed_after(model.stream(wanted.said, grammar=fence.grammar(), max_tokens=max_tokens)) as writing:
        for chunk in writing:
            if chunk.text:
                first = first or time.monotonic() - started
                written, pieces = written + chunk.text, pieces + 1
                # Whole lines: the last one may be the beginning of the closing marks.
                body = fence.body(written)
                ready = len(body) if fence.closes(written) else body.rfind("\n") + 1
                if body[:ready].strip() and ready > shown:
                    yield (opening if not shown else "") + body[shown:ready]
                    shown = ready
            usage = dict(chunk.usage_metadata or usage)
            finish = str(chunk.response_metadata.get("finish_reason", finish) or finish)
            if "\n" in chunk.text and (loops(written) or goes_on_inventing(written)):
                finish = REPEATED
                usage = usage or cost_so_far(model, wanted.said, pieces)
                break
    code = fence.body(written)
    text = (fence.block(code) if code.strip() else NOTHING_WRITTEN) if fenced else code
    if rest := text[len(opening) + shown if shown else 0 :]:
        yield rest
    cached = int((usage.get("input_token_details") or {}).get("cache_read", 0) or 0)
    tokens = int(usage.get("input_tokens", 0)), cached, int(usage.get("output_tokens", 0))
    yield Answer(
        text,
        citations=reused(code, sources, definitions_of, language),
        sources=sources,
        dropped=wanted.context.dropped,
        usage=Usage(*tokens, round(first, 3), round(time.monotonic() - started, 3), finish),
    )


def reused(
    code: str, sources: Sequence[Source], definitions_of: Callable[[str], Sequence[Place]], language: str = ""
) -> tuple[Citation, ...]:
    """The definitions of the repository whose names code uses, of those that it was shown; each verified by the index.

    A name that several places define is cited where a source shows it, and not at all where none or several do; nor is
    one that the code imports from elsewhere.
    """
    text = "\n".join(source.text for source in sources)
    own, used = _names(code, language)
    modules = {name: module for module, names in _FROM.findall(code) for name in _NAME.findall(names)}
    found: dict[str, Citation] = {}
    for name in used:
        if name in own or name in found or not whole_word(name).search(text) or len(found) >= _MOST_CITED:
            continue
        places = [place for place in definitions_of(name) if place.kind != "section" and place.name == name]
        if name in modules:
            last = modules[name].rstrip(".").rpartition(".")[2]
            places = [place for place in places if not last or last in re.split(r"[/.]", place.path)]
        shown = [place for place in places if any(_shows(source, place) for source in sources)]
        place = shown[0] if len(shown) == 1 else places[0] if len(places) == 1 else None
        if place is not None:
            reason = f"{name} is defined there"
            found[name] = Citation(place.path, place.start_line, place.end_line, True, reason, name)
    return tuple(found.values())


def _names(code: str, language: str) -> tuple[set[str], list[str]]:
    """What code defines, and what it uses: by its grammar, which knows strings and comments, else all words."""
    facts = read_text(code, language)
    own = {last_part(item.name) for item in facts.defined}
    if facts.references:
        lines: dict[str, int] = {}
        for item in facts.references:
            lines[item.name] = min(item.lines[0], lines.get(item.name, item.lines[0]))
        return own, sorted(
            (name for name in lines if len(name) > _SHORTEST), key=lambda name: (lines[name], name)
        )
    own |= set(re.findall(r"(?:def|class|function|func|fn|type|struct)\s+(\w+)", code))
    return own, list(dict.fromkeys(_NAME.findall(code)))


def _shows(source: Source, place: Place) -> bool:
    return source.path == place.path and source.start_line <= place.line <= source.end_line
