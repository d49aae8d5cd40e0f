"""Conversations: the next prompt begins with the one before, answer and all, and shows no source twice."""

from __future__ import annotations

from typing import Any

from fakes import ScriptedChat
from langchain_core.messages import BaseMessage

from chains.ask import AskSettings, fitting, messages, prepare
from chains.context import pack
from chains.kv.turns import fitting_turns, new_sources, repeated
from chains.types import Question, Retrieved, Source, Turn
from indexers.types import Hit


def hit(name: str, score: float = 1.0) -> Hit:
    return Hit(f"src/{name}.py", 1, 3, f"def {name}(): pass", score)


def source(name: str) -> Source:
    return pack([hit(name)], 1_000, len).sources[0]


def text(message: BaseMessage) -> str:
    assert isinstance(message.content, list)
    return "".join(block["text"] for block in message.content if isinstance(block, dict))


def asked(question: str, hits: list[Hit], history: tuple[Turn, ...] = (), window: int = 4_096) -> Any:
    retrieved = Retrieved(Question(question, history), question, tuple(hits))
    return prepare(retrieved.question, retrieved, ScriptedChat(window=window), AskSettings(100, 50), 0.0)


def test_the_next_prompt_begins_with_the_one_before() -> None:
    first = asked("how?", [hit("a"), hit("b")])
    turn = Turn("how?", "So.", first.context.sources)
    second = asked("why?", [hit("b"), hit("c")], (turn,))
    assert list(second.messages[: len(first.messages)]) == list(first.messages)
    assert second.messages[len(first.messages)].content == "So."
    # What was shown stays a source of the answer, is not shown again, and costs nothing.
    assert "def b" not in text(second.messages[-1]) and "def c" in text(second.messages[-1])
    assert [found.path for found in second.context.sources] == ["src/b.py", "src/c.py"]
    assert all(found.tokens > 3 for found in second.context.sources)
    third = asked("when?", [hit("c")], (turn, Turn("why?", "For that.", second.context.sources)))
    assert list(third.messages[: len(second.messages)]) == list(second.messages)


def test_what_was_shown_leaves_room_for_more() -> None:
    names = [chr(97 + number) * 8 for number in range(26)]
    first = asked("how?", [hit(name) for name in names])
    assert 0 < len(first.context.dropped) < 26
    again = asked("how?", [hit(name) for name in names], (Turn("how?", "So.", first.context.sources),))
    assert len(again.context.sources) > len(first.context.sources)


def test_a_conversation_that_does_not_fit_begins_anew_and_then_stays() -> None:
    turns = tuple(Turn(f"q{number}", "word " * 30, (source(f"s{number}"),)) for number in range(9))
    kept = [fitting_turns(turns[:count], 100, lambda turn: 31) for count in range(1, 10)]
    assert [len(found) for found in kept] == [1, 2, 3, 1, 2, 3, 1, 2, 3]
    assert all(b[: len(a)] == a for a, b in zip(kept, kept[1:], strict=False) if len(b) > len(a))
    assert fitting_turns(turns, 20, lambda turn: 31) == ()


def test_turns_whose_sources_are_unknown_are_repeated_as_before() -> None:
    bare = tuple(Turn(f"q{number}", "a") for number in range(5))
    assert [turn.question for turn in repeated(bare)] == ["q2", "q3", "q4"]
    assert [found.text for found in messages(Question("how?", bare), pack((), 0, len))[1:3]] == ["q2", "a"]


def test_sources_of_earlier_turns_can_be_cited() -> None:
    from chains.ask import finished

    turn = Turn("how?", "So.", (source("load_config"),))
    prepared = asked("why?", [hit("b")], (turn,))
    told = "The function `load_config` does it [src/load_config.py:1-3]."
    answer = finished(prepared, told, {}, "stop", 0.0, "scripted")
    assert [(found.path, found.verified) for found in answer.citations] == [("src/load_config.py", True)]
    assert [found.path for found in answer.sources] == ["src/b.py"]


def test_old_sources_count_when_the_window_is_divided() -> None:
    model, settings = ScriptedChat(window=1_000), AskSettings(400, 100)
    alone = fitting(model, Question("how?"), settings)[1]
    kept, left = fitting(model, Question("how?", (Turn("q", "a", (source("a"),)),)), settings)
    assert len(kept.history) == 1 and left <= alone
    assert new_sources([source("a"), source("b")], kept.history) == [source("b")]
