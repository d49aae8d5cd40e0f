"""The search as an ordinary LangChain retriever: documents with complete metadata."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import run_in_executor

from indexers.filters import EVERYTHING, Filter
from indexers.types import Hit


class CodeRetriever(BaseRetriever):
    """Turns a question into `Document`s, best first.

    `page_content` is the chunk's text and `id` its label. The metadata, all of it JSON:

    - `path` (relative to the repository, with `/`), `start_line`, `end_line` (1-based, inclusive);
      `label`, also as `source`: `path:start-end`;
    - `language`, `scope` (the names that enclose the first line, outermost first), `symbols` (the names defined in it);
    - `score`, `signals` (what each ranking signal added to it), `similarity` (cosine to the question; None without a
      vector);
    - `blob`: the git blob id of the file as it was read.

    `k` and `only` may also be given with a call: `retriever.invoke(question, k=3, only=Filter(paths=["src/**"]))`.

    :param search: called as `search(question, k)`, with `only=` where that leaves anything out.
    :param only: the files to look in.
    """

    search: Callable[..., Sequence[Hit]]
    k: int = 10
    only: Filter = EVERYTHING

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        only: Filter | None = None,
    ) -> list[Document]:
        limited = self.only if only is None else only
        hits = self.search(query, self.k if k is None else k, **({"only": limited} if limited else {}))
        return [document_of(hit) for hit in hits]

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        only: Filter | None = None,
    ) -> list[Document]:
        sync = run_manager.get_sync()
        call = partial(self._get_relevant_documents, query, run_manager=sync, k=k, only=only)
        return await run_in_executor(None, call)


def document_of(hit: Hit) -> Document:
    """One hit as a document."""
    metadata: dict[str, Any] = {
        "source": hit.label,
        "label": hit.label,
        "path": hit.path,
        "start_line": hit.start_line,
        "end_line": hit.end_line,
        "language": hit.language,
        "scope": list(hit.scope),
        "symbols": list(hit.symbols),
        "score": hit.score,
        "signals": dict(hit.signals),
        "similarity": hit.similarity,
        "blob": hit.blob,
    }
    return Document(page_content=hit.text, metadata=metadata, id=hit.label)
