"""The retriever is an ordinary LangChain part with complete metadata."""

from __future__ import annotations

import asyncio

import pytest

from chains.ask import hits_of
from chains.retriever import CodeRetriever, document_of
from indexers.errors import UsageError
from indexers.types import Hit

HIT = Hit(
    "src/a.py",
    3,
    9,
    "def f(): ...",
    0.75,
    "python",
    ("A", "B"),
    ("f",),
    12,
    {"fused": 0.5, "definition": 0.25},
    0.4,
)


def test_documents_carry_all_that_is_known() -> None:
    asked: list[tuple[str, int]] = []

    def search(query: str, k: int) -> list[Hit]:
        asked.append((query, k))
        return [HIT] * k

    documents = CodeRetriever(search=search, k=2).invoke("where is f?")
    assert asked == [("where is f?", 2)] and len(documents) == 2
    assert documents[0].page_content == HIT.text
    assert documents[0].metadata == {
        "source": "src/a.py:3-9",
        "path": "src/a.py",
        "start_line": 3,
        "end_line": 9,
        "score": 0.75,
        "language": "python",
        "scope": ["A", "B"],
        "symbols": ["f"],
        "signals": {"fused": 0.5, "definition": 0.25},
    }


def test_it_joins_and_awaits() -> None:
    chain = CodeRetriever(search=lambda query, k: [HIT]) | (lambda documents: documents[0].metadata["source"])
    assert chain.invoke("q") == "src/a.py:3-9"
    assert asyncio.run(chain.ainvoke("q")) == "src/a.py:3-9"
    assert chain.batch(["a", "b"]) == ["src/a.py:3-9"] * 2


def test_a_document_becomes_the_same_hit_again() -> None:
    (back,) = hits_of([document_of(HIT)])
    assert (back.label, back.text, back.score, back.scope) == (HIT.label, HIT.text, HIT.score, HIT.scope)


def test_errors_of_the_search_come_through() -> None:
    def search(query: str, k: int) -> list[Hit]:
        raise UsageError("The query is empty.")

    with pytest.raises(UsageError):
        CodeRetriever(search=search).invoke("")
