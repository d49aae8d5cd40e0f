"""The search as an ordinary LangChain retriever: documents with complete metadata."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from indexers.types import Hit


class CodeRetriever(BaseRetriever):
    """Turns a question into `Document`s, best first.

    `page_content` is the chunk's text; metadata holds `path`, `start_line`, `end_line` (1-based, inclusive),
    `score`, `language`, `scope`, `symbols`, `signals`, and `source`, the label `path:start-end`.
    """

    search: Callable[[str, int], list[Hit]]
    k: int = 10

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [document_of(hit) for hit in self.search(query, self.k)]


def document_of(hit: Hit) -> Document:
    """One hit as a document."""
    metadata: dict[str, Any] = {
        "source": hit.label,
        "path": hit.path,
        "start_line": hit.start_line,
        "end_line": hit.end_line,
        "score": hit.score,
        "language": hit.language,
        "scope": list(hit.scope),
        "symbols": list(hit.symbols),
        "signals": dict(hit.signals),
    }
    return Document(page_content=hit.text, metadata=metadata)
