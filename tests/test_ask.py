"""The question chain with a scripted model: budgets, messages, streaming, and what is checked at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableLambda

from chains.ask import (
    NOT_FOUND,
    AskSettings,
    Prepared,
    answer_stream,
    ask_chain,
    fitting,
    hits_of,
    messages,
    prepare,
    repeats,
    retrieval_query,
)
from chains.context import pack
from chains.prompts import prompt_text
from chains.types import Answer, Question, Retrieved, Turn
from indexers.errors import ContextTooSmall, UsageError
from indexers.types import Hit
from tests.fakes import ScriptedChat

HITS = (
    Hit(
        "src/retry.py", 10, 12, "def retry_call(fn):\n    time.sleep(1)\n    return fn()", 1.0, scope=("Net",)
    ),
    Hit("src/config.py", 1, 1, "MAX_DELAY = 30", 0.5),
)
ANSWER = "`retry_call` sleeps a second [src/retry.py:10-12]. `MAX_DELAY` is 30 [src/config.py:1-1]."


def prepared(
    model: ScriptedChat, hits: Sequence[Hit] = HITS, question: str = "how?", **more: Any
) -> Prepared:
    asked = Question(question, more.pop("history", ()))
    retrieved = Retrieved(asked, question, tuple(hits), more.pop("relevant", bool(hits)))
    return prepare(asked, retrieved, model, AskSettings(**more), time.monotonic())


def answered(model: ScriptedChat, **more: Any) -> tuple[list[str], Answer]:
    ready = prepared(model, **more)
    *pieces, answer = answer_stream(
        ready, model, AskSettings(max_tokens=more.get("max_tokens", 512)), "scripted"
    )
    assert isinstance(answer, Answer)
    return [str(piece) for piece in pieces], answer


def test_the_best_source_may_stand_twice_in_the_prompt_and_is_listed_once() -> None:
    context = replace(pack(HITS, 500, len), again=None)
    best, other = context.sources
    asked = messages(Question("how?"), replace(context, sources=(other, best), again=best))
    shown = [block["text"] for block in asked[-1].content if block.get("source")]  # type: ignore[union-attr]
    assert shown == [f"{best.text}\n", f"{other.text}\n", f"{best.text}\n"]
    ready = prepared(ScriptedChat(script=[ANSWER]))
    ready = replace(ready, context=replace(ready.context, again=ready.context.sources[0]))
    *_, answer = answer_stream(ready, ScriptedChat(script=[ANSWER]), AskSettings(), "scripted")
    assert isinstance(answer, Answer)
    assert len({source.label for source in answer.sources}) == len(answer.sources) == 2


def test_pieces_then_the_checked_answer() -> None:
    model = ScriptedChat(script=[ANSWER])
    pieces, answer = answered(model)
    assert "".join(pieces) == answer.text == ANSWER and len(pieces) > 5
    assert [(c.label, c.verified) for c in answer.citations] == [
        ("src/retry.py:10-12", True),
        ("src/config.py:1-1", True),
    ]
    assert [s.label for s in answer.sources] == ["src/retry.py:10-12", "src/config.py:1-1"]
    assert answer.found and answer.unverified == () and answer.model == "scripted"


def test_usage_and_finish_reason_are_kept() -> None:
    _, answer = answered(ScriptedChat(script=[ANSWER]))
    usage = answer.usage
    assert usage.prompt_tokens > 20 and usage.cached_tokens == 7
    assert usage.completion_tokens == len(ANSWER.split()) and usage.finish_reason == "stop"
    assert 0 <= usage.first_token_seconds <= usage.seconds < 60


def test_the_length_limit_reaches_the_model_and_is_told() -> None:
    model = ScriptedChat(script=[ANSWER])
    _, answer = answered(model, max_tokens=3)
    assert [options["max_tokens"] for options in model.options] == [3]
    assert answer.usage.finish_reason == "length" and answer.text == "`retry_call` sleeps a"


def test_closing_the_stream_stops_the_model() -> None:
    model = ScriptedChat(script=[ANSWER])
    stream = answer_stream(prepared(model), model, AskSettings(), "scripted")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert model.stopped and len(model.written) < 4


@pytest.mark.parametrize("text", ["", " ", "\n\n", "```", "[", "x" * 3_000, "\x00", "[[[]]]((("])
def test_whatever_the_model_says_is_an_answer(text: str) -> None:
    _, answer = answered(ScriptedChat(script=[text]))
    assert answer.text == text.strip() and answer.citations == ()


def test_nothing_relevant_is_said_without_the_model() -> None:
    model = ScriptedChat()
    for more in ({"hits": ()}, {"relevant": False}):
        pieces, answer = answered(model, **more)
        assert pieces == [NOT_FOUND] and answer.text == NOT_FOUND
        assert not answer.found and answer.citations == () and answer.usage.finish_reason == "not_found"
    assert model.seen == []


# -- messages and budgets ---------------------------------------------------------------------------


def test_the_best_source_stands_nearest_to_the_question() -> None:
    found = messages(Question("how?"), pack(HITS, 1_000, lambda text: len(text.split())))
    system, human = found
    assert isinstance(system, SystemMessage) and system.text == prompt_text("ask")
    assert isinstance(human, HumanMessage) and isinstance(human.content, list)
    texts = [block["text"] for block in human.content if isinstance(block, dict)]
    assert texts[0].startswith("Source [src/config.py:1-1]:") and texts[1].startswith(
        "Source [src/retry.py:10-12], inside Net:"
    )
    assert len(texts) == 3 and texts[2].startswith("Question: how?\n")


def test_only_the_last_turns_are_taken_along_oldest_first() -> None:
    history = tuple(Turn(f"q{i}", f"a{i}") for i in range(5))
    found = messages(Question("how?", history), pack((), 0, len))
    assert [type(m) for m in found] == [SystemMessage, *[HumanMessage, AIMessage] * 3, HumanMessage]
    assert [m.text for m in found[1:-1]] == ["q2", "a2", "q3", "a3", "q4", "a4"]


def test_sources_read_the_same_in_every_question() -> None:
    context = pack(HITS, 1_000, lambda text: len(text.split()))
    one, two = messages(Question("how?"), context)[-1], messages(Question("why, then?"), context)[-1]
    assert one.content[:-1] == two.content[:-1]


def test_the_budget_is_what_the_window_leaves() -> None:
    model = ScriptedChat(window=1_000)
    settings = AskSettings(context_tokens=5_000, max_tokens=100)
    _, left = fitting(model, Question("how?"), settings)
    assert 128 <= left < 900
    _, longer = fitting(model, Question("how? " * 50), settings)
    assert longer == left - 49
    kept, remembered = fitting(model, Question("how?", (Turn("a b c", "d e"),)), settings)
    assert remembered < left - 5 and len(kept.history) == 1
    assert fitting(model, Question("how?"), AskSettings(200, 100))[1] == 200


def test_old_turns_give_way_to_sources() -> None:
    turns = (Turn("first", "word " * 400), Turn("second", "word " * 50), Turn("third", "word " * 50))
    kept, left = fitting(ScriptedChat(window=1_000), Question("and then?", turns), AskSettings(400, 100))
    assert [turn.question for turn in kept.history] == ["second", "third"]
    assert left == 400


def test_a_question_too_long_for_the_window_says_so() -> None:
    with pytest.raises(ContextTooSmall, match="context window has 1,000") as caught:
        fitting(ScriptedChat(window=1_000), Question("word " * 2_000), AskSettings())
    assert caught.value.remedy


def test_when_no_source_fits_the_remedy_would_help() -> None:
    model = ScriptedChat()
    with pytest.raises(ContextTooSmall) as caught:
        prepared(model, context_tokens=3)
    wanted = int(caught.value.remedy.rsplit(" ", 1)[1])
    assert len(prepared(model, context_tokens=wanted).context.sources) >= 1
    big = (Hit("a.py", 1, 9_000, "w " * 9_000, 1.0), Hit("b.py", 1, 1, "w", 0.01))
    with pytest.raises(ContextTooSmall) as caught:
        prepared(ScriptedChat(), big, context_tokens=50_000)
    assert "larger context" in caught.value.remedy and "9,0" in caught.value.message


def test_the_budget_holds_for_the_whole_prompt() -> None:
    many = [Hit(f"f{i}.py", 1, 9, "word " * 90, 1.0) for i in range(40)]
    model = ScriptedChat(script=["ok"], window=1_200)
    ready = prepared(model, many, max_tokens=200, context_tokens=9_999)
    assert sum(model.count_tokens(m.text) for m in ready.messages) + 200 <= 1_200
    assert len(ready.context.sources) + len(ready.context.dropped) == 40


@pytest.mark.parametrize(
    ("text", "history", "wanted"),
    [
        ("how does retry work?", (), "how does retry work?"),
        (
            "where is the delay of failing requests computed?",
            (Turn("q", "a"),),
            "where is the delay of failing requests computed?",
        ),
        (
            "why?",
            (Turn("how does retry work?", "by `retry_call` and `x`"),),
            "why? how does retry work? retry_call",
        ),
        ("and what calls it?", (Turn("first", "a"), Turn("second", "b")), "and what calls it? second"),
    ],
)
def test_a_follow_up_is_searched_with_what_it_leans_on(
    text: str, history: tuple[Turn, ...], wanted: str
) -> None:
    assert retrieval_query(Question(text, history)) == wanted


# -- as a LangChain part ----------------------------------------------------------------------------


def retriever(hits: Sequence[Hit] = HITS) -> Any:
    from chains.search.retriever import document_of

    return RunnableLambda(lambda query: [document_of(hit) for hit in hits])


def test_the_chain_answers_text_and_questions() -> None:
    chain = ask_chain(retriever(), ScriptedChat(script=[ANSWER]))
    for question in ("how?", Question("how?", (Turn("q", "a"),))):
        answer = chain.invoke(question)
        assert [c.verified for c in answer.citations] == [True, True] and answer.model == "scripted"


def test_the_chain_joins_batches_and_calls_back() -> None:
    class Watch(BaseCallbackHandler):
        def __init__(self) -> None:
            self.tokens: list[str] = []

        def on_llm_new_token(self, token: Any, **_: Any) -> None:
            self.tokens.append(str(token))

    watch = Watch()
    chain = ask_chain(retriever(), ScriptedChat(script=[ANSWER])) | (lambda answer: answer.text.upper())
    assert chain.invoke("how?", {"callbacks": [watch]}) == ANSWER.upper()
    assert "".join(watch.tokens) == ANSWER
    assert chain.batch(["one?", "two?"], {"max_concurrency": 1}) == [ANSWER.upper()] * 2


async def _ainvoke(chain: Any) -> Any:
    return await chain.ainvoke("how?")


def test_the_chain_is_awaited() -> None:
    import asyncio

    chain = ask_chain(retriever(), ScriptedChat(script=[ANSWER]))
    assert asyncio.run(_ainvoke(chain)).text == ANSWER


def test_the_chain_without_hits_invents_nothing() -> None:
    model = ScriptedChat()
    assert not ask_chain(retriever(()), model).invoke("how?").found and model.seen == []


def test_documents_of_other_retrievers() -> None:
    place = {"path": "a.py", "start_line": "3", "end_line": 4}
    (hit,) = hits_of([Document("text", metadata={**place, "scope": ["A"]})])
    assert (hit.label, hit.text, hit.scope) == ("a.py:3-4", "text", ("A",))
    with pytest.raises(UsageError, match="end_line"):
        hits_of([Document("text", metadata={"path": "a.py", "start_line": 1})])


def test_documents_without_scores_are_all_worth_reading() -> None:
    documents = [
        Document("w", metadata={"path": f"{i}.py", "start_line": 1, "end_line": 1}) for i in range(20)
    ]
    assert pack(hits_of(documents), 10_000, len).dropped == ()


def test_the_prompt_is_one_text_without_its_last_newline() -> None:
    text = prompt_text("ask")
    assert text and not text.endswith("\n") and "sources" in text and prompt_text("ask") is text


def test_a_model_that_counts_up_or_stutters_goes_in_circles() -> None:
    counting = "The answer cites [answer/path1], " + " ".join(f"[answer/path{n}]," for n in range(2, 20))
    stutter = "It is the truth " + "because the ledger is the truth " * 10
    table = "\n".join(f"- `--flag-{n}` sets the value of {name}." for n, name in enumerate("abcd"))
    kinds = ("JSON", "XML", "YAML", "TOML", "a form", "MsgPack", "ProtoBuf")
    cases = " ".join(f"If the content type is {kind}, the {kind} binding is used." for kind in kinds)
    assert repeats(counting) and repeats(stutter) and not repeats(cases)
    assert not repeats("It is the truth because the ledger is the truth because it says so") and not repeats(
        table
    )
