"""The deep question chain: LangChain's agent looks things up in bounded steps; the answer is from what it found."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse, hook_config
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.tools import BaseTool, StructuredTool

from chains.ask import AskSettings, Prepared, answer_stream, fitting, is_large, messages, retrieval_query
from chains.lookups import ANSWER, LEAST_TOKENS, SPECS, DeepSettings, Lookups
from chains.prompts import prompt_text
from chains.types import Answer, Context, Question, Retrieved, Step, Usage
from indexers.errors import ContextTooSmall

if TYPE_CHECKING:
    from langgraph.runtime import Runtime

    from chains.search.retrieval import Search
    from indexers.relations import Relations

# The longest call that the grammar allows is about this long.
_CALL_TOKENS = 160
# A call and what frames it and its result.
_STEP_TOKENS = 48


def deep_ask(
    question: Question,
    search: Search,
    model: Any,
    settings: DeepSettings,
    model_name: str = "",
    relations: Relations | None = None,
    started: float | None = None,
) -> Iterator[Step | str | Answer]:
    """Each lookup as it is done, then pieces of the answer, then the checked answer.

    The first lookup is the search that a one-shot answer begins with. The answer is written from all that was found,
    framed as in a one-shot answer: small models do better with that than at the end of a long conversation. Closing
    the iterator stops the model.

    :param model: a chat model that calls tools and counts tokens, such as `LlamaCpp`.
    :param relations: who uses what; otherwise what exact words tell.
    :param started: when the question was put, by `time.monotonic`; now otherwise.
    :raises ContextTooSmall: the instructions leave no room for results in the model's window.
    """
    started = time.monotonic() if started is None else started
    question, tokens = _room(model, question, settings)
    lookups = Lookups(search, model.count_tokens, tokens=tokens, steps=settings.steps, relations=relations)
    query = retrieval_query(question)
    talk = _opening(question, lookups.first(query))
    yield from lookups.steps
    told, costs = len(lookups.steps), list[dict[str, Any]]()
    for message in _look_up(model, lookups, talk, time.monotonic() + settings.seconds):
        if isinstance(message, AIMessage):
            costs.append(dict(message.usage_metadata or {}))
        yield from lookups.steps[told:]
        told = len(lookups.steps)
    context = Context(tuple(lookups.sources), lookups.dropped, tokens)
    retrieved = Retrieved(question, query, (), relevant=bool(lookups.sources))
    prepared = Prepared(
        question, retrieved, context, messages(question, context, large=is_large(model)), started
    )
    for item in answer_stream(prepared, model, AskSettings(tokens, settings.max_tokens), model_name):
        if isinstance(item, Answer):
            yield replace(item, steps=tuple(lookups.steps), usage=_all_usage(item.usage, costs))
        else:
            yield item


def _room(model: Any, question: Question, settings: DeepSettings) -> tuple[Question, int]:
    """The question with as much of its history as fits, and the tokens that results may cost in all."""
    about = (prompt_text("deep"), prompt_text("deep_last"), prompt_text("tools"), json.dumps(SPECS))
    extra = sum(map(model.count_tokens, about)) + settings.steps * _STEP_TOKENS + _CALL_TOKENS
    question, room = fitting(model, question, AskSettings(settings.tokens + extra, settings.max_tokens))
    if room - extra < LEAST_TOKENS:
        raise ContextTooSmall(
            f"Looking things up takes {extra:,} tokens of instructions and calls; the question and its answer leave "
            f"{room:,} of the model's context window of {model.context_window:,}.",
            "Ask without --deep, lower --max-tokens or --max-steps, or choose a model with a larger context.",
        )
    return question, room - extra


def _opening(question: Question, found: str) -> list[BaseMessage]:
    """What was said before, what the first search found, and the question."""
    talk: list[BaseMessage] = []
    for turn in question.history:
        talk += [HumanMessage(turn.question), AIMessage(turn.answer)]
    last = f"Question: {question.text}\n\n{prompt_text('deep_last')}"
    return [*talk, HumanMessage([{"type": "text", "text": f"{found}\n"}, {"type": "text", "text": last}])]


def _look_up(
    model: Any, lookups: Lookups, talk: Sequence[BaseMessage], deadline: float
) -> Iterator[BaseMessage]:
    """The calls that the model makes and their results, until it wants to answer or a bound is reached."""
    agent = create_agent(
        model, _tools(lookups), system_prompt=prompt_text("deep"), middleware=[_Bounds(lookups, deadline)]
    )
    # Updates, and not tokens: those would run the model in a thread of the graph's, where Ctrl-C does not reach it.
    start: Any = {"messages": list(talk)}
    for update in agent.stream(start, stream_mode="updates"):
        for change in update.values():
            yield from (change or {}).get("messages", ())


def _tools(lookups: Lookups) -> list[BaseTool]:
    """The lookups as LangChain tools. `answer` only ends the agent's loop."""

    def tool(name: str, description: str, parameters: dict[str, Any]) -> BaseTool:
        def look_up(**arguments: Any) -> str:
            return "" if name == ANSWER else lookups.call(name, arguments)

        return StructuredTool(
            name=name,
            description=description,
            args_schema=parameters,
            func=look_up,
            return_direct=name == ANSWER,
        )

    return [tool(**spec["function"]) for spec in lookups.specs()]


class _Bounds(AgentMiddleware):
    """Ends the loop when a bound is reached; until then every turn of the model is a call."""

    def __init__(self, lookups: Lookups, deadline: float) -> None:
        super().__init__()
        self._lookups = lookups
        self._deadline = deadline

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: Any, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Whether another step may begin."""
        over = self._lookups.exhausted or time.monotonic() >= self._deadline
        return {"jump_to": "end"} if over else None

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Ask for a call, a short one, and of something that can be looked up now."""
        limits = {"max_tokens": _CALL_TOKENS}
        tools = cast("list[BaseTool | dict[str, Any]]", _tools(self._lookups))
        return handler(request.override(tools=tools, tool_choice="any", model_settings=limits))


def _all_usage(answer: Usage, calls: Sequence[dict[str, Any]]) -> Usage:
    """The cost of the answer with that of the calls before it."""

    def cached(usage: dict[str, Any]) -> int:
        return int((usage.get("input_token_details") or {}).get("cache_read", 0) or 0)

    return replace(
        answer,
        prompt_tokens=answer.prompt_tokens + sum(int(usage.get("input_tokens", 0)) for usage in calls),
        cached_tokens=answer.cached_tokens + sum(map(cached, calls)),
        completion_tokens=answer.completion_tokens
        + sum(int(usage.get("output_tokens", 0)) for usage in calls),
    )
