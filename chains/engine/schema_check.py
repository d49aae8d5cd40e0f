"""Whether a text is JSON of a schema, for models that nothing holds to it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from chains.engine.tools import CHOICES, Offer

_MOST_CHARS = 200


def extracted(text: str) -> str:
    """The JSON in an answer: models like to put a fence around it."""
    bare = text.strip()
    if bare.startswith("```"):
        bare = bare.partition("\n")[2].rpartition("```")[0].strip() or bare
    return bare


def problem(text: str, schema: Mapping[str, Any]) -> str:
    """What is wrong with a text as an object of the schema; empty when nothing is."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError, best_match

    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"it is no JSON: {error}"
    try:
        found = best_match(Draft202012Validator(schema).iter_errors(value))
    except (SchemaError, RecursionError):
        return ""  # a schema that nothing can be checked against forbids nothing
    if found is None:
        return ""
    place = "/".join(map(str, found.absolute_path))
    return f"{place or 'it'}: {found.message}"[:_MOST_CHARS]


def schema_of_calls(offered: Offer) -> dict[str, Any]:
    """The schema of a call of any of the tools that may be called."""
    calls = [
        {
            "type": "object",
            "properties": {
                "tool": {"const": tool.name},
                "arguments": with_choices({"type": "object", **tool.parameters}),
            },
            "required": ["tool", "arguments"],
            "additionalProperties": False,
        }
        for tool in offered.tools
        if tool.name in offered.callable
    ]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


def with_choices(schema: Any) -> Any:
    """A schema in which what only grammars know is said in words that every validator knows."""
    if isinstance(schema, Mapping):
        changed = {key: with_choices(value) for key, value in schema.items() if key != CHOICES}
        return {**changed, "enum": list(schema[CHOICES])} if schema.get(CHOICES) else changed
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return [with_choices(item) for item in schema]
    return schema
