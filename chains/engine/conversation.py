"""LangChain messages as the plain ones that model families frame; calls of tools and their results become text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from chains.engine.families import Message
from chains.engine.tools import Tool, call_text, instructions, result_head
from indexers.errors import UsageError

# Parts of other models' answers that `tool_calls` says as well.
_CALL_BLOCKS = frozenset({"tool_call", "tool_use", "function_call"})


def conversation(messages: Sequence[BaseMessage], tools: Sequence[Tool] = ()) -> list[Message]:
    """LangChain messages as plain ones; the parts of a message's content stay apart.

    Calls are text that the model said, their results text that it was told; the system message ends with
    what there is to know about the tools.

    :raises UsageError: something that is not text.
    """
    found = []
    called: dict[str | None, str] = {}
    for message in messages:
        blocks = tuple(block for block in _blocks(message) if block)
        if isinstance(message, AIMessage):
            called |= {call["id"]: call["name"] for call in message.tool_calls}
            for call in message.tool_calls:
                text = call_text(call["name"], call["args"])
                blocks = (*blocks, "\n", text) if blocks else (text,)
        elif isinstance(message, ToolMessage):
            name = message.name or called.get(message.tool_call_id) or "the tool"
            blocks = (result_head(name, failed=message.status == "error"), *blocks)
        role = _role(message)
        if blocks or role != "system":
            found.append(Message(role, blocks))
    if not tools:
        return found
    about = instructions(tools)
    if found and found[0].role == "system":
        return [Message("system", (*found[0].blocks, "\n\n", about)), *found[1:]]
    return [Message("system", (about,)), *found]


def source_texts(messages: Sequence[BaseMessage]) -> frozenset[str]:
    """The texts of blocks marked as sources: `{"type": "text", "text": ..., "source": True}`.

    A source says the same whatever stands before it, so that it need not be read again elsewhere.
    """
    blocks = (block for message in messages if isinstance(message.content, list) for block in message.content)
    return frozenset(
        str(block["text"]) for block in blocks if isinstance(block, dict) and block.get("source")
    )


def _role(message: BaseMessage) -> str:
    if isinstance(message, SystemMessage):
        return "system"
    if isinstance(message, HumanMessage | ToolMessage):
        return "user"
    if isinstance(message, AIMessage):
        return "assistant"
    if isinstance(message, ChatMessage):
        return {"human": "user", "ai": "assistant"}.get(message.role, message.role)
    raise UsageError(f"LlamaCpp takes system, human, AI and tool messages, not {message.type} messages.")


def _blocks(message: BaseMessage) -> Iterator[str]:
    if isinstance(message.content, str):
        yield message.content
        return
    for block in message.content:
        if isinstance(block, str):
            yield block
        elif block.get("type") == "text" and isinstance(block.get("text"), str):
            yield block["text"]
        elif not (isinstance(message, AIMessage) and block.get("type") in _CALL_BLOCKS):
            raise UsageError(
                f"LlamaCpp reads text only, not content of type {block.get('type', 'unknown')!r}."
            )
