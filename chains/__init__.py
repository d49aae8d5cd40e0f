"""A question -> context -> prompt -> local model -> checked result, as LangChain parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chains.ask import AskSettings, ask_chain
    from chains.llm import LlamaCpp
    from chains.search.retriever import CodeRetriever
    from chains.types import Answer, Citation, Question, Source
    from indexers.filters import Filter

# Name -> module: LangChain and llama.cpp are imported when a name is first used, not with the package.
_HOMES = {
    "Answer": "chains.types",
    "AskSettings": "chains.ask",
    "Citation": "chains.types",
    "CodeRetriever": "chains.search.retriever",
    "Filter": "indexers.filters",
    "LlamaCpp": "chains.llm",
    "Question": "chains.types",
    "Source": "chains.types",
    "ask_chain": "chains.ask",
}

__all__ = [
    "Answer",
    "AskSettings",
    "Citation",
    "CodeRetriever",
    "Filter",
    "LlamaCpp",
    "Question",
    "Source",
    "ask_chain",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
