"""The retriever is an ordinary LangChain part with complete metadata."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from chains import Filter
from chains.ask import hits_of
from chains.search.retriever import CodeRetriever, document_of
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
    "78981922613b2afb6025042ff6bd878ac1994e85",
)


def test_documents_carry_all_that_is_known() -> None:
    asked: list[tuple[str, int]] = []

    def search(query: str, k: int) -> list[Hit]:
        asked.append((query, k))
        return [HIT] * k

    documents = CodeRetriever(search=search, k=2).invoke("where is f?")
    assert asked == [("where is f?", 2)] and len(documents) == 2
    assert (documents[0].page_content, documents[0].id) == (HIT.text, "src/a.py:3-9")
    assert documents[0].metadata == {
        "source": "src/a.py:3-9",
        "label": "src/a.py:3-9",
        "path": "src/a.py",
        "start_line": 3,
        "end_line": 9,
        "score": 0.75,
        "language": "python",
        "scope": ["A", "B"],
        "symbols": ["f"],
        "signals": {"fused": 0.5, "definition": 0.25},
        "similarity": 0.4,
        "blob": "78981922613b2afb6025042ff6bd878ac1994e85",
    }


def test_what_is_documented_is_there() -> None:
    documented = CodeRetriever.__doc__ or ""
    assert [name for name in document_of(HIT).metadata if f"`{name}`" not in documented] == []
    assert json.loads(json.dumps(document_of(HIT).metadata)) == document_of(HIT).metadata


def test_a_filter_and_a_number_of_hits_belong_to_the_retriever_or_to_a_call() -> None:
    asked: list[tuple[int, Filter | None]] = []

    def search(query: str, k: int, only: Filter | None = None) -> list[Hit]:
        asked.append((k, only))
        return []

    source, tests = Filter(paths=["src/**"]), Filter(paths="tests/")
    retriever = CodeRetriever(search=search, k=4, only=source)
    retriever.invoke("q")
    retriever.invoke("q", k=2, only=tests)
    retriever.bind(only=Filter()).invoke("q")
    asyncio.run(retriever.ainvoke("q", k=1))
    assert asked == [(4, source), (2, tests), (4, None), (1, source)]


def test_a_filter_may_be_given_as_its_parts() -> None:
    given = {"paths": ["src/**"], "languages": ["py"]}
    retriever = CodeRetriever(search=lambda query, k: [], only=given)  # type: ignore[arg-type]
    assert retriever.only == Filter(paths=["src/**"], languages=["python"])
    with pytest.raises(UsageError):
        CodeRetriever(search=lambda query, k: [], only={"languages": ["qqqq"]})  # type: ignore[arg-type]


def test_it_joins_and_awaits() -> None:
    chain = CodeRetriever(search=lambda query, k: [HIT]) | (lambda documents: documents[0].metadata["source"])
    assert chain.invoke("q") == "src/a.py:3-9"
    assert asyncio.run(chain.ainvoke("q")) == "src/a.py:3-9"
    assert chain.batch(["a", "b"]) == ["src/a.py:3-9"] * 2


def test_a_document_becomes_the_same_hit_again() -> None:
    (back,) = hits_of([document_of(HIT)])
    assert replace(back, chunk_id=HIT.chunk_id) == HIT, "all but the row in our own index"


def test_errors_of_the_search_come_through() -> None:
    def search(query: str, k: int) -> list[Hit]:
        raise UsageError("The query is empty.")

    with pytest.raises(UsageError):
        CodeRetriever(search=search).invoke("")
