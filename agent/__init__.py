"""A local-first code agent: ask, search, write and review with a local model over your own repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.api import Agent, Chat
    from chains.reviewing.types import ReviewReport
    from chains.search.repo_map import RepoMap
    from chains.types import Answer, Citation
    from indexers.errors import AgentError
    from indexers.filters import Filter
    from indexers.types import Hit, IndexReport

__version__ = "0.1.0"

# Name -> module, imported on first use: `agent --help` must not pay for what it does not use.
_HOMES = {
    "Agent": "agent.api",
    "AgentError": "indexers.errors",
    "Answer": "chains.types",
    "Chat": "agent.api",
    "Citation": "chains.types",
    "Filter": "indexers.filters",
    "Hit": "indexers.types",
    "IndexReport": "indexers.types",
    "RepoMap": "chains.search.repo_map",
    "ReviewReport": "chains.reviewing.types",
}

__all__ = [
    "Agent",
    "AgentError",
    "Answer",
    "Chat",
    "Citation",
    "Filter",
    "Hit",
    "IndexReport",
    "RepoMap",
    "ReviewReport",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
