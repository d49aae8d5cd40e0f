"""Tool calls as text: offers, what a model is told, grammars proven on llama.cpp's own parser, and reading turns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.engine.library import native
from chains.engine.sampler import _Candidates
from chains.engine.tools import Call, TurnReader, call_text, grammar, instructions, offer, result_head
from chains.llm import LlamaCpp
from indexers.errors import UsageError

Accepts = Callable[[str, str], bool]


def tool(name: str = "search", parameters: Any = None, **properties: Any) -> dict[str, Any]:
    schema = parameters or {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": name, "description": "Finds things.", "parameters": schema},
    }


SEARCH = tool(query={"type": "string"})
READ = tool("read", path={"type": "string", "maxLength": 8}, start={"type": "integer", "minimum": 1})


@pytest.fixture(scope="module")
def accepts(tiny_codellama: Path) -> Iterator[Accepts]:
    """Whether llama.cpp's grammar, fed token by token, takes a text from its first character to its end."""
    llm = LlamaCpp(model_path=str(tiny_codellama), n_threads=1, n_ctx=2048)
    vocabulary, library = llm._vocabulary(), native()
    candidates = _Candidates(library, vocabulary.size)

    def check(rules: str, text: str) -> bool:
        sampler = library.llama_sampler_init_grammar(vocabulary._vocab, rules.encode(), b"root")
        assert sampler, "llama.cpp refuses the grammar"
        try:
            for token in [*vocabulary.encode(text, joined=True), vocabulary.eos]:
                assert token is not None
                if not candidates.allowed(token, sampler):
                    return False
                library.llama_sampler_accept(sampler, token)
            return True
        finally:
            library.llama_sampler_free(sampler)

    yield check
    llm.close()


# -- offers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "callable_", "answer"),
    [
        (None, ("search", "read"), True),
        ("auto", ("search", "read"), True),
        (False, ("search", "read"), True),
        ("any", ("search", "read"), False),
        ("required", ("search", "read"), False),
        (True, ("search", "read"), False),
        ("none", (), True),
        ("read", ("read",), False),
        ({"type": "function", "function": {"name": "read"}}, ("read",), False),
        ({"type": "tool", "name": "search"}, ("search",), False),
        ({"type": "any"}, ("search", "read"), False),
    ],
)
def test_every_way_to_say_which_tools_may_be_called(choice: object, callable_: object, answer: bool) -> None:
    found = offer([SEARCH, READ], choice)
    assert (found.callable, found.answer) == (callable_, answer)
    # What the model is told does not depend on it: the beginning of the prompt stays what it was.
    assert [item.name for item in found.tools] == ["search", "read"]


def test_a_tool_may_be_called_like_a_choice() -> None:
    assert offer([tool("any"), SEARCH], "any").callable == ("any",)


@pytest.mark.parametrize("choice", ["write", {"type": "function", "function": {"name": "x"}}, 3])
def test_a_choice_that_is_no_tool_is_an_error(choice: object) -> None:
    with pytest.raises(UsageError, match=r"none of the tools offered \(search, read\)"):
        offer([SEARCH, READ], choice)


def test_tools_need_different_names() -> None:
    with pytest.raises(UsageError, match="same name"):
        offer([SEARCH, SEARCH])
    with pytest.raises(UsageError, match="no name"):
        offer([{"type": "web_search"}])


# -- text ------------------------------------------------------------------------------------------


def test_what_the_model_is_told() -> None:
    read = tool(
        "read",
        {
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "a  file\n of it"},
                "mode": {"enum": ["text", 1]},
                "lines": {"type": ["integer", "null"]},
                "spans": {"type": "array", "items": {"type": "integer"}},
            },
            "required": ["path"],
        },
    )
    *head, search_line, read_line = instructions(offer([SEARCH, read]).tools).split("\n")
    assert '{"tool":"NAME","arguments":{"ARGUMENT":"VALUE"}}' in head
    assert search_line == "- search(query: string): Finds things."
    assert read_line == (
        '- read(path: string (a file of it), mode?: "text"|1, lines?: integer|null, '
        'spans?: {"type":"array","items":{"type":"integer"}}): Finds things.'
    )


def test_results_say_whose_they_are_and_whether_they_failed() -> None:
    assert result_head("read") == "Result of read:\n"
    assert result_head("read", failed=True) == "read failed:\n"


# -- grammar ---------------------------------------------------------------------------------------


def test_a_turn_is_a_call_or_an_answer_as_offered(accepts: Accepts) -> None:
    call, other = call_text("search", {"query": "x"}), call_text("read", {"path": "a.py", "start": 3})
    answers = ("It is so.", "`x` is so.\n\n```\n{}\n```", "é", "[a.py:1-2] {}")
    for choice, takes_calls, takes_answers in (
        (None, True, True),
        ("any", True, False),
        ("none", False, True),
    ):
        rules = grammar(offer([SEARCH, READ], choice))
        assert accepts(rules, call) == accepts(rules, other) == takes_calls
        assert {accepts(rules, answer) for answer in answers} == {takes_answers}
    only = grammar(offer([SEARCH, READ], "read"))
    assert accepts(only, other) and not accepts(only, call)


@pytest.mark.parametrize("text", ["{}", '{"tool"', "```json\n{}", "", " x", "\nx", "```"])
def test_no_answer_looks_like_a_call(accepts: Accepts, text: str) -> None:
    assert not accepts(grammar(offer([SEARCH])), text)


def test_families_that_begin_with_a_space_may(accepts: Accepts) -> None:
    call = call_text("search", {"query": "x"})
    assert accepts(grammar(offer([SEARCH]), spaced=True), " " + call)
    assert accepts(grammar(offer([SEARCH]), spaced=True), call)
    assert not accepts(grammar(offer([SEARCH])), " " + call)


def arguments(schema: dict[str, Any]) -> str:
    return grammar(offer([tool("t", schema)], "any"))


GOOD_AND_BAD: list[tuple[dict[str, Any], list[Any], list[str]]] = [
    (
        {"type": "string"},
        ["", "a", 'a"b\\c\nd', "é😀", "x" * 400],
        ["1", '"' + "x" * 401 + '"', '"\t"', r'"\ud800"'],
    ),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "abc"], ['"a"', '"abcd"']),
    ({"type": "integer"}, [0, -3, 999_999_999], ["1.0", "01", '"1"', "1000000000"]),
    ({"type": "integer", "minimum": 0}, [0, 7], ["-1"]),
    ({"type": "integer", "minimum": 1}, [1, 70], ["0", "-1"]),
    ({"type": "number"}, [0, -1.5, 3], [".5", "1e9", "NaN"]),
    ({"type": "boolean"}, [True, False], ["null", '"true"']),
    ({"type": ["integer", "null"]}, [4, None], ['""']),
    ({"enum": ["a b", 3, None, 'q"']}, ["a b", 3, None, 'q"'], ['"a"', "4"]),
    ({"const": "x"}, ["x"], ['"y"']),
    ({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 2}]}, [1, "ab"], ['"abc"', "true"]),
    ({"allOf": [{"type": "integer"}]}, [1], ['"a"']),
    (
        {"type": "array", "items": {"type": "integer"}},
        [[], [1], list(range(8))],
        ["[1,]", "[1,2,3,4,5,6,7,8,9]"],
    ),
    (
        {"type": "array", "items": {"enum": [1]}, "minItems": 2, "maxItems": 3},
        [[1, 1], [1, 1, 1]],
        ["[1]", "[]"],
    ),
    ({"type": "object"}, [{}, {"a": 1, "b": "x"}], ['{"":1}', "[]"]),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, [{}, {"k": 1}], ['{"k":"v"}']),
    ({"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}, [{"x": 1}], ["{}"]),
    ({}, [1, "x", None, True], ["[]"]),
]


@pytest.mark.parametrize(("schema", "good", "bad"), GOOD_AND_BAD, ids=[str(case[0]) for case in GOOD_AND_BAD])
def test_arguments_keep_to_their_schema(
    accepts: Accepts, schema: dict[str, Any], good: list[Any], bad: list[str]
) -> None:
    rules = arguments({"type": "object", "properties": {"v": schema}, "required": ["v"]})
    for value in good:
        assert accepts(rules, call_text("t", {"v": value})), value
    for text in bad:
        assert not accepts(rules, f'{{"tool":"t","arguments":{{"v":{text}}}}}'), text


def test_required_arguments_come_and_optional_ones_may(accepts: Accepts) -> None:
    number = {"type": "integer"}
    rules = arguments({"properties": {"a": number, "b": number, "c": number}, "required": ["b"]})
    for good in ({"b": 1}, {"b": 1, "a": 2}, {"b": 1, "c": 2}, {"b": 1, "a": 2, "c": 3}):
        assert accepts(rules, call_text("t", good)), good
    for bad in ({}, {"a": 1}, {"b": 1, "d": 2}):
        assert not accepts(rules, call_text("t", bad)), bad
    free = arguments({"properties": {"a": number, "b": number}})
    for good in ({}, {"a": 1}, {"b": 1}, {"a": 1, "b": 2}):
        assert accepts(free, call_text("t", good)), good
    assert not accepts(free, '{"tool":"t","arguments":{,"b":2}}')


def test_texts_that_are_none_do_not_break_the_grammar(accepts: Accepts) -> None:
    rules = arguments({"properties": {"v": {"enum": ["\udcff", "a\nb", "\x00"]}}, "required": ["v"]})
    assert accepts(rules, call_text("t", {"v": "?"})) and accepts(rules, call_text("t", {"v": "a\nb"}))


def test_a_tool_without_arguments_takes_none(accepts: Accepts) -> None:
    for schema in ({"type": "object", "properties": {}}, {"type": "object"}):
        rules = arguments(schema)
        assert accepts(rules, call_text("t", {})) and not accepts(rules, call_text("t", {"a": 1}))


def test_schemas_may_refer_to_themselves(accepts: Accepts) -> None:
    tree = {
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/node"}},
        "required": ["root"],
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "child": {"$ref": "#/$defs/node"}},
                "required": ["name"],
            }
        },
    }
    rules = arguments(tree)
    assert accepts(
        rules, call_text("t", {"root": {"name": "a", "child": {"name": "b", "child": {"name": "c"}}}})
    )
    assert not accepts(rules, call_text("t", {"root": {"child": {"name": "b"}}}))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "date"},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"$ref": "#/$defs/missing"},
        {"$ref": "https://example.org/schema"},
        {"not": {"type": "string"}},
        "string",
    ],
)
def test_what_cannot_be_made_a_grammar_is_said(schema: object) -> None:
    with pytest.raises(UsageError, match="schema"):
        arguments({"type": "object", "properties": {"v": schema}, "required": ["v"]})


def test_huge_schemas_are_refused_and_not_worked_on() -> None:
    properties = {f"p{number}": {"type": "string"} for number in range(2_000)}
    with pytest.raises(UsageError, match="too large"):
        arguments({"type": "object", "properties": properties})


# -- reading turns ---------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-999, 999)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=3),
    max_leaves=6,
)


def fed(text: str, cuts: list[int]) -> tuple[TurnReader, str]:
    reader, shown, at = TurnReader(), "", 0
    for cut in [*sorted(cut % (len(text) + 1) for cut in cuts), len(text)]:
        shown += reader.feed(text[at:cut])
        at = cut
    return reader, shown


@given(
    st.dictionaries(st.text("abc", max_size=3), VALUES, max_size=3), st.lists(st.integers(0, 500), max_size=6)
)
def test_a_call_is_read_back_as_it_was_written(values: dict[str, Any], cuts: list[int]) -> None:
    reader, shown = fed(call_text("tool", values), cuts)
    assert reader.call == Call("tool", values) and (shown, reader.rest(), reader.answering) == ("", "", False)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.lists(st.integers(0, 500), max_size=6)
)
def test_an_answer_is_shown_whole_however_it_comes(text: str, cuts: list[int]) -> None:
    reader, shown = fed(text, cuts)
    if text.lstrip().startswith("{"):
        assert shown == "" and reader.rest() == text and not reader.answering
    else:
        assert shown + reader.rest() == text and reader.call is None
        assert reader.answering == bool(text.strip())


def test_an_answer_is_not_held_back() -> None:
    reader = TurnReader()
    assert [reader.feed(piece) for piece in ("", " ", "It", " is {")] == ["", "", " It", " is {"]


@pytest.mark.parametrize(
    "text", ['{"tool":"x","argum', '{"tool":1,"arguments":{}}', "{}", '{"tool":"x","arguments":3}']
)
def test_what_is_no_whole_call_is_shown_as_it_was_written(text: str) -> None:
    reader, shown = fed(text, [])
    assert shown == "" and reader.call is None and reader.rest() == text


def test_calls_are_json_of_one_form() -> None:
    text = call_text("read", {"path": "é.py", "start": 1})
    assert text == '{"tool":"read","arguments":{"path":"é.py","start":1}}'
    assert json.loads(text) == {"tool": "read", "arguments": {"path": "é.py", "start": 1}}
