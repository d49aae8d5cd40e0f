"""The form an answer must have, as each kind of server is told of it, and how an answer is checked for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chains.engine import tools as calling
from chains.engine.schema_check import extracted, problem, schema_of_calls, with_choices
from chains.server.about import KOBOLD, LLAMA_CPP, LLAMA_CPP_PYTHON, TEXTGEN
from indexers.errors import UsageError

# The field that takes GBNF, where a server takes it.
_GRAMMAR_FIELDS = {
    LLAMA_CPP: "grammar",
    LLAMA_CPP_PYTHON: "grammar",
    KOBOLD: "grammar",
    TEXTGEN: "grammar_string",
}
GRAMMAR, SCHEMA, OBJECT = "grammar", "json_schema", "json_object"


@dataclass(frozen=True, slots=True)
class Form:
    """Free text, text of a grammar, an object of a schema, or a turn with tools.

    `checked` says that an answer can be told from one of another form, and is.
    """

    grammar: str = ""
    schema: Mapping[str, Any] | None = None
    offer: calling.Offer | None = None

    @property
    def tools(self) -> tuple[calling.Tool, ...]:
        """The tools that the conversation is to tell of."""
        return self.offer.tools if self.offer is not None else ()

    @property
    def checked(self) -> bool:
        """Whether the answer is read to its end and checked before anything of it is shown."""
        return self.schema is not None

    @property
    def words(self) -> str:
        """What to ask for, in words."""
        return (
            "a call of a tool as one JSON object"
            if self.offer is not None
            else "one JSON object of that form"
        )

    def features(self, kind: str, without: frozenset[str]) -> tuple[str, ...]:
        """What a request to this kind of server holds that not every server knows."""
        body = self.body(kind, without)
        if "response_format" in body:
            return (str(body["response_format"]["type"]),)
        return (GRAMMAR,) if body else ()

    def body(self, kind: str, without: frozenset[str]) -> dict[str, Any]:
        """What to add to a request, so that the server holds its model to the form; empty where it cannot."""
        field = _GRAMMAR_FIELDS.get(kind, "")
        if self.grammar and field and GRAMMAR not in without:
            return {field: self.grammar}
        if self.schema is None:
            return {}
        if SCHEMA not in without and kind != LLAMA_CPP_PYTHON:
            named = {"name": "answer", "schema": dict(self.schema)}
            return {"response_format": {"type": SCHEMA, "json_schema": named}}
        if OBJECT not in without:
            return {"response_format": {"type": OBJECT, "schema": dict(self.schema)}}
        return {}

    def held(self, kind: str, without: frozenset[str]) -> bool:
        """Whether the server is told of the form."""
        return bool(self.body(kind, without)) or not (self.grammar or self.schema)

    def bare(self, text: str) -> str:
        """The answer without what models like to put around it."""
        return extracted(text) if self.schema is not None else text

    def problem(self, text: str) -> str:
        """What is wrong with a finished answer; empty when nothing is."""
        return problem(text, self.schema) if self.schema is not None else ""

    def reader(self) -> calling.TurnReader | None:
        """What tells a call from an answer, where both may come."""
        return calling.TurnReader() if self.offer is not None else None

    def call(self, text: str) -> calling.Call | None:
        """The call that a checked answer is."""
        reader = self.reader()
        if reader is None:
            return None
        reader.feed(text)
        return reader.call


def form_of(options: Mapping[str, Any]) -> Form:
    """The form that a call's options ask for.

    :raises UsageError: they ask for two, or for tools that cannot be offered.
    """
    grammar, schema = options.get("grammar") or "", options.get("json_schema")
    offered = calling.offer(options["tools"], options.get("tool_choice")) if options.get("tools") else None
    if sum((bool(grammar), bool(schema), offered is not None)) > 1:
        raise UsageError("A call takes either tools, or a grammar, or json_schema.")
    if offered is None:
        return Form(grammar, schema or None)
    must_call = not offered.answer and bool(offered.callable)
    return Form(
        # The space that some families begin with is allowed: which family it is, the server knows.
        calling.grammar(offered, spaced=True),
        with_choices(schema_of_calls(offered)) if must_call else None,
        offered,
    )
