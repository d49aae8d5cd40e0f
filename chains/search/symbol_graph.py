"""The symbol graph as whoever looks things up asks it: uses of a name, the most telling first, and an overview."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from chains.search.repo_map import LEAST_TOKENS, repo_map
from indexers.facts import CALL, NAME, TYPE
from indexers.filters import EVERYTHING, Filter, is_test

if TYPE_CHECKING:
    from indexers.relations import Relations
    from indexers.types import Use

_TELLING = (CALL, TYPE, NAME)


class SymbolGraph:
    """What `Relations` knows, cut to what a filter lets through."""

    def __init__(self, relations: Relations, only: Filter = EVERYTHING) -> None:
        self._relations = relations
        self._only = only

    def callers_of(self, name: str, limit: int) -> list[Use]:
        """Lines that use a name: calls first, code before tests, then by path and line; never its definition."""
        languages = {known.path: known.language for known in self._relations.ledger.files()}
        uses = [
            use
            for use in self._relations.uses_of(name, _TELLING)
            if self._only.admits(use.path, languages.get(use.path, ""))
        ]
        return sorted(uses, key=lambda use: (use.kind != CALL, is_test(use.path), use.path, use.line))[:limit]

    def overview(self, tokens: int, count: Callable[[str], int]) -> str:
        """An outline of the repository that costs at most so many tokens; empty where they are too few for one."""
        if tokens < LEAST_TOKENS:
            return ""
        return str(repo_map(self._relations, tokens, only=self._only, count=count))
