"""Search as a tutorial builds it: LangChain's recursive splitter, MiniLM, Chroma's similarity search."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from scores import Place

from agent.models import embedder_dir
from agent.paths import cache_dir
from indexers.bert_embedder import BertEmbedder
from indexers.embedding import Embedder

# What LangChain's own guides take.
CHUNK_SIZE, CHUNK_OVERLAP = 1_000, 200
# What sentence-transformers lets all-MiniLM-L6-v2 read; our own chunks give it less.
TOKENS = 256
# Chunks embedded and stored at once: an interrupted run says how far it was.
BATCH = 1_000

# LangChain names languages; files have endings.
LANGUAGES = {
    ending: language
    for language, endings in {
        "python": "py pyi",
        "js": "js jsx mjs cjs",
        "ts": "ts tsx mts cts",
        "go": "go",
        "rust": "rs",
        "java": "java",
        "c": "c",
        "cpp": "cc cpp cxx h hpp inc",
        "csharp": "cs",
        "php": "php",
        "ruby": "rb",
        "elixir": "ex exs",
        "lua": "lua",
        "kotlin": "kt kts",
        "scala": "scala",
        "swift": "swift",
        "haskell": "hs",
        "proto": "proto",
        "markdown": "md",
        "rst": "rst",
        "html": "html",
    }.items()
    for ending in endings.split()
}


def has_tutorial() -> bool:
    """Whether the tutorial's packages are installed."""
    try:
        import langchain_chroma  # noqa: F401
        import langchain_text_splitters  # noqa: F401
    except ImportError as error:
        print(
            f"The tutorial is left out: {error}. pip install langchain-text-splitters langchain-chroma",
            file=sys.stderr,
        )
        return False
    return True


def reader(embedder: Embedder) -> Embedder:
    """The same model as sentence-transformers would run it for a tutorial."""
    if isinstance(embedder, BertEmbedder):
        return BertEmbedder(embedder_dir(), max_tokens=TOKENS)
    return embedder


def tutorial(root: Path, paths: Sequence[str], embedder: Embedder, k: int) -> Callable[[str], list[Place]]:
    """What a tutorial builds over the same files: split, embed, ask Chroma. The collection is kept in AGENT_HOME."""
    import chromadb
    from langchain_chroma import Chroma
    from langchain_core.embeddings import Embeddings

    class Vectors(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [list(map(float, row)) for row in embedder.embed_documents(texts)]

        def embed_query(self, text: str) -> list[float]:
            return list(map(float, embedder.embed_query(text)))

    documents = list(split(root, paths))
    settled = json.dumps([embedder.fingerprint(), [(d.page_content, d.metadata) for d in documents]])
    name = hashlib.sha256(settled.encode("utf-8", "replace")).hexdigest()[:32]
    directory = cache_dir() / "benchmarks" / name
    store = Chroma(
        "tutorial",
        Vectors(),
        client_settings=chromadb.Settings(
            anonymized_telemetry=False, is_persistent=True, persist_directory=str(directory)
        ),
    )
    present = len(store.get(include=[])["ids"])
    # Batches are stored in order: what an interrupted run has done is its beginning.
    for start in range(present, len(documents), BATCH):
        print(f"  tutorial: {start:,} of {len(documents):,} chunks", file=sys.stderr, flush=True)
        store.add_documents(documents[start : start + BATCH])

    def find(text: str) -> list[Place]:
        found = store.similarity_search(text, k=k)
        return [
            Place(d.metadata["path"], d.metadata["first"], d.metadata["last"], len(d.page_content))
            for d in found
        ]

    return find


def split(root: Path, paths: Sequence[str]) -> Iterator[Any]:
    """The files as LangChain documents with their path and lines in the metadata."""
    from langchain_core.documents import Document
    from langchain_text_splitters import Language, RecursiveCharacterTextSplitter

    for path in paths:
        text = (root / path).read_bytes().decode("utf-8", "replace")
        language = LANGUAGES.get(Path(path).suffix.removeprefix(".").lower())
        options: dict[str, Any] = {
            "chunk_size": CHUNK_SIZE,
            "chunk_overlap": CHUNK_OVERLAP,
            "add_start_index": True,
        }
        splitter = (
            RecursiveCharacterTextSplitter.from_language(Language(language), **options)
            if language
            else RecursiveCharacterTextSplitter(**options)
        )
        for document in splitter.create_documents([text]):
            first = text.count("\n", 0, max(document.metadata["start_index"], 0)) + 1
            last = first + document.page_content.count("\n")
            yield Document(document.page_content, metadata={"path": path, "first": first, "last": last})
