"""What every chat model here gives LangChain beside text: objects of a schema, and calls of tools.

Both are asked of the model by a call option of its own (`json_schema`, `tools`), however it keeps to it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.runnables import Runnable
from pydantic import BaseModel

from chains.engine import tools as calling
from indexers.errors import UsageError

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool


class BoundChat(BaseChatModel):
    """A chat model whose calls take `json_schema`, `tools` and `tool_choice`."""

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """A runnable whose answers are objects of `schema` (a pydantic class, a TypedDict or a JSON schema).

        The model is held to the schema by the call option `json_schema`; nothing in the prompt tells it what the
        fields mean.
        """
        from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
        from langchain_core.runnables import RunnableLambda, RunnableMap, RunnablePassthrough
        from langchain_core.utils.function_calling import convert_to_json_schema

        if (
            kwargs.pop("method", "json_schema") not in ("json_schema", "json_mode")
            or kwargs.pop("strict", None) is False
        ):
            raise UsageError("Structured output is made by a grammar (method='json_schema') only.")
        parser: Any = JsonOutputParser()
        if isinstance(schema, dict):
            json_schema = schema
        elif issubclass(schema, BaseModel):
            json_schema, parser = schema.model_json_schema(), PydanticOutputParser(pydantic_object=schema)
        else:
            json_schema = convert_to_json_schema(schema)
        model = self.bind(json_schema=json_schema, **kwargs)
        if not include_raw:
            structured: Runnable[LanguageModelInput, dict[str, Any] | BaseModel] = model | parser
            return structured

        def parse(raw: AIMessage) -> dict[str, Any]:
            try:
                return {"raw": raw, "parsed": parser.invoke(raw), "parsing_error": None}
            except ValueError as error:
                return {"raw": raw, "parsed": None, "parsing_error": error}

        return (
            RunnableMap(raw=model) | RunnablePassthrough() | RunnableLambda(lambda found: parse(found["raw"]))
        )

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """A runnable that may call these tools, one call in a turn, whatever model it is.

        A grammar holds calls to the tools' names and schemas, strings to a bounded length; `pattern` and the
        like are left to the tools. An answer cannot begin with a brace or a code fence, which tell a call.

        :param tool_choice: None or "auto": a call or an answer; "any", "required" or True: a call; "none": an
            answer; a tool's name: a call of that tool.
        :raises UsageError: a schema that cannot be made a grammar, or a choice that is no tool.
        """
        from langchain_core.utils.function_calling import convert_to_openai_tool

        listed = [convert_to_openai_tool(tool) for tool in tools]
        calling.grammar(calling.offer(listed, tool_choice))
        return self.bind(tools=listed, tool_choice=tool_choice, **kwargs)


def call_chunk(call: calling.Call) -> ToolCallChunk:
    """A tool call as LangChain streams it."""
    # LangChain joins calls to results by an id that no other call of the conversation has.
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    return tool_call_chunk(name=call.name, args=arguments, id=f"call_{secrets.token_hex(8)}", index=0)
