"""Tool calls as plain text: what a model is told, the grammar that binds it, how its words are read back. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chains.prompts import prompt_text
from indexers.errors import UsageError

# What a schema leaves open is closed here: no argument may be so long that a model loops inside it.
MAX_STRING, MAX_ITEMS, MAX_PAIRS, MAX_KEY, MAX_DIGITS = 400, 8, 8, 60, 9
# llama.cpp refuses grammars that repeat something oftener than this.
_MOST_REPEATS = 2_000
_MOST_RULES = 500
# Every other character can stand as itself. `\u` is left out: it can spell halves of characters, which are no text.
_CHARACTER = r'char ::= [^"\\\x00-\x1F\x7F] | "\\" ["\\/bfnrt]'
_DIGITS = f'digits ::= "0" | positive\npositive ::= [1-9] [0-9]{{0,{MAX_DIGITS - 1}}}'
# An answer begins with neither a brace nor a code fence, so that its first character tells it from a call.
_ANSWER = r"""answer ::= [^{`\x00-\x20\x7F] any | "`" [^`] any"""
_ANYTHING = r"any ::= [^\x00]*"
_SPACE = '" "? '
_SIMPLE = {
    "number": '"-"? digits ("." [0-9]{1,6})?',
    "integer": '"-"? digits',
    "boolean": '"true" | "false"',
    "null": '"null"',
}
_NAMED = ("string", *_SIMPLE)
# A schema's key for the only strings that a call may hold now. Unlike an `enum` it is kept from the prompt, whose
# beginning must stay the same while what can be asked for changes.
CHOICES = "x-choices"
_ANY_TYPE = ("string", "number", "boolean", "null")


@dataclass(frozen=True, slots=True)
class Tool:
    """What a model may call. `parameters` is the JSON schema of its arguments, an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools a prompt tells of, which of them may be called in this turn, and whether it may be an answer."""

    tools: tuple[Tool, ...]
    callable: tuple[str, ...]
    answer: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call that a model wrote."""

    name: str
    arguments: Mapping[str, Any]


def offer(tools: Sequence[Mapping[str, Any]], choice: object = None) -> Offer:
    """Tools in OpenAI's format and LangChain's `tool_choice` as an offer.

    :param choice: None or "auto": a call or an answer; "any", "required" or True: a call; "none": an answer;
        a tool's name, or a dict with one: a call of that tool.
    :raises UsageError: a tool without a name, two of one name, or a choice that none of them is.
    """
    listed = tuple(_tool(tool) for tool in tools)
    names = tuple(tool.name for tool in listed)
    if len(set(names)) < len(names):
        raise UsageError(f"Two tools have the same name: {', '.join(sorted(names))}.")
    if isinstance(choice, Mapping):
        choice = choice.get("name") or (choice.get("function") or {}).get("name") or choice.get("type")
    if choice in names:
        return Offer(listed, (str(choice),), answer=False)
    if choice in (None, False, "auto"):
        return Offer(listed, names, answer=True)
    if choice in (True, "any", "required"):
        return Offer(listed, names, answer=False)
    if choice == "none":
        return Offer(listed, (), answer=True)
    raise UsageError(f"tool_choice {choice!r} is none of the tools offered ({', '.join(names)}).")


def _tool(tool: Mapping[str, Any]) -> Tool:
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name:
        raise UsageError("A tool has no name.")
    return Tool(name, str(function.get("description") or ""), function.get("parameters") or {})


# -- text ----------------------------------------------------------------------------------------


def instructions(tools: Sequence[Tool]) -> str:
    """What the system message says about the tools: the form of a call, then a line for each."""
    lines = [f"- {tool.name}({_parameters(tool)}): {' '.join(tool.description.split())}" for tool in tools]
    return "\n".join([prompt_text("tools"), *lines])


def _parameters(tool: Tool) -> str:
    required = tool.parameters.get("required", ())
    properties: Mapping[str, Any] = tool.parameters.get("properties", {})
    return ", ".join(
        f"{name}{'' if name in required else '?'}: {_type(schema)}{_about(schema)}"
        for name, schema in properties.items()
    )


def _type(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "any"
    if "enum" in schema:
        return "|".join(_json(value) for value in schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, list):
        return "|".join(map(str, kind))
    # Anything with a structure of its own is shown as it is written.
    return str(kind) if kind in _NAMED else _json(dict(schema))


def _about(schema: Any) -> str:
    text = schema.get("description") if isinstance(schema, Mapping) and schema.get("type") in _NAMED else None
    return f" ({' '.join(str(text).split())})" if text else ""


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """A call as the model writes it, so that what it wrote is read again without a difference."""
    return _json({"tool": name, "arguments": dict(arguments)})


def result_head(name: str, *, failed: bool = False) -> str:
    """What stands before a tool's result in the conversation."""
    return f"{name} failed:\n" if failed else f"Result of {name}:\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# -- grammar -------------------------------------------------------------------------------------


def grammar(offered: Offer, *, spaced: bool = False) -> str:
    """GBNF of a turn: one call of a tool that may be called, or an answer, as the offer says.

    :param spaced: the family begins an answer with a space.
    :raises UsageError: a tool's schema has a part that cannot be made a grammar.
    """
    rules = _Rules()
    starts = [rules.call(tool) for tool in offered.tools if tool.name in offered.callable]
    extra = []
    if offered.answer:
        starts.append("answer")
        extra = [_ANSWER, _ANYTHING]
    root = f"root ::= {_SPACE if spaced else ''}({' | '.join(starts)})"
    return "\n".join([root, *rules.lines(), *extra, _CHARACTER, _DIGITS]) + "\n"


class _Rules:
    """GBNF rules made from JSON schemas; a schema that refers to itself becomes a rule that does."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}
        self._references: dict[tuple[int, str], str] = {}

    def lines(self) -> Iterator[str]:
        """Every rule, in the order in which they were made."""
        yield from (f"{name} ::= {body}" for name, body in self._rules.items())

    def call(self, tool: Tool) -> str:
        """The rule for a call of this tool."""
        arguments = self._of({"type": "object", "properties": {}, **tool.parameters}, tool.parameters)
        opening = _json({"tool": tool.name, "arguments": None}).removesuffix("null}")
        return self._rule(f'{_literal(opening)} {arguments} "}}"')

    def _rule(self, body: str) -> str:
        name = f"r{len(self._rules)}"
        if len(self._rules) >= _MOST_RULES:
            raise UsageError("The tools' schemas are too large to be made a grammar.")
        self._rules[name] = body
        return name

    def _of(self, schema: Any, root: Mapping[str, Any]) -> str:
        """The name of the rule for one schema. What `pattern` and the like forbid is left to the tool to refuse."""
        if schema is True or schema == {}:
            return self._any([{"type": kind} for kind in _ANY_TYPE], root)
        if not isinstance(schema, Mapping):
            raise UsageError(f"A tool's schema has a part that is no schema: {schema!r}")
        if "$ref" in schema:
            return self._reference(str(schema["$ref"]), root)
        if "const" in schema or "enum" in schema:
            values = schema["enum"] if "enum" in schema else [schema["const"]]
            return self._rule(" | ".join(_literal(_json(value)) for value in values))
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self._any(schema[key], root)
        if "allOf" in schema and len(schema["allOf"]) == 1:
            return self._of(schema["allOf"][0], root)
        kind = schema.get("type", "object" if "properties" in schema else None)
        if isinstance(kind, list):
            return self._any([{**schema, "type": one} for one in kind], root)
        return self._typed(kind, schema, root)

    def _typed(self, kind: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
        if kind == "object":
            return self._object(schema, root)
        if kind == "array":
            return self._array(schema, root)
        if kind == "string":
            return self._string(schema)
        if kind in _SIMPLE:
            least = schema.get("minimum", -1)
            if kind == "integer" and least >= 1:
                return self._rule("positive")
            return self._rule(_SIMPLE[kind].removeprefix('"-"? ') if least >= 0 else _SIMPLE[kind])
        raise UsageError(
            f"A tool's schema has a part that cannot be made a grammar: {_json(dict(schema))[:200]}"
        )

    def _any(self, schemas: Sequence[Any], root: Mapping[str, Any]) -> str:
        return self._rule(" | ".join([self._of(schema, root) for schema in schemas]))

    def _reference(self, target: str, root: Mapping[str, Any]) -> str:
        known = self._references.get((id(root), target))
        if known:
            return known
        found: Any = root
        for part in target.removeprefix("#/").split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
        if not target.startswith("#/") or found is None:
            raise UsageError(f"A tool's schema refers to {target!r}, which it does not hold.")
        name = self._rule("")
        self._references[id(root), target] = name
        self._rules[name] = self._of(found, root)
        return name

    def _string(self, schema: Mapping[str, Any]) -> str:
        if schema.get(CHOICES):
            return self._rule(" | ".join(_literal(_json(str(value))) for value in schema[CHOICES]))
        least = min(int(schema.get("minLength", 0)), _MOST_REPEATS)
        most = max(least, min(int(schema.get("maxLength", MAX_STRING)), _MOST_REPEATS))
        return self._rule(f'"\\"" char{{{least},{most}}} "\\""')

    def _array(self, schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
        item = self._of(schema.get("items", {}), root)
        least = int(schema.get("minItems", 0))
        most = max(least, 1, min(int(schema.get("maxItems", MAX_ITEMS)), _MOST_REPEATS))
        more = f'"[" {item} ("," {item}){{{max(least - 1, 0)},{most - 1}}} "]"'
        return self._rule(more if least else f'"[]" | {more}')

    def _object(self, schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
        properties: Mapping[str, Any] = schema.get("properties", {})
        required = set(schema.get("required", ()))
        if not properties:
            return self._map(schema.get("additionalProperties", "properties" not in schema), root)
        pairs = {
            name: f"{_literal(_json(name) + ':')} {self._of(sub, root)}" for name, sub in properties.items()
        }
        always = ' "," '.join(pair for name, pair in pairs.items() if name in required)
        optional = [self._rule(pair) for name, pair in pairs.items() if name not in required]
        if always:
            return self._rule(" ".join(['"{"', always, *(f'("," {rule})?' for rule in optional), '"}"']))
        # Whichever comes first has no comma before it.
        firsts = [
            " ".join([rule, *(f'("," {later})?' for later in optional[place + 1 :])])
            for place, rule in enumerate(optional)
        ]
        return self._rule(f'"{{" ({" | ".join(firsts)})? "}}"')

    def _map(self, values: Any, root: Mapping[str, Any]) -> str:
        if values is False:
            return self._rule('"{}"')
        pair = self._rule(f'"\\"" char{{1,{MAX_KEY}}} "\\":" {self._of(values, root)}')
        return self._rule(f'"{{}}" | "{{" {pair} ("," {pair}){{0,{MAX_PAIRS - 1}}} "}}"')


def _literal(text: str) -> str:
    """GBNF that matches exactly this text."""
    text = text.encode("utf-8", "replace").decode()
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


# -- reading what the model writes -----------------------------------------------------------------


class TurnReader:
    """Tells, while a turn is being written, whether it is a call or an answer.

    `call` is the finished call, `answering` is true as soon as the turn can only be an answer.
    """

    def __init__(self) -> None:
        self.answering = False
        self.call: Call | None = None
        self._held = ""

    def feed(self, text: str) -> str:
        """What of the turn can be shown now: an answer as it comes, nothing of a call."""
        if self.answering:
            return text
        self._held += text
        start = self._held.lstrip()
        if start.startswith("{"):
            self.call = _call(start) if start.endswith("}") else None
            return ""
        self.answering = bool(start)
        return self.rest() if self.answering else ""

    def rest(self) -> str:
        """What was held back, once nothing follows: a call that was cut short is shown as it was written."""
        held, self._held = self._held, ""
        return "" if self.call else held


def _call(text: str) -> Call | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("tool"), str):
        return None
    arguments = found.get("arguments")
    return Call(found["tool"], arguments) if isinstance(arguments, dict) else None
