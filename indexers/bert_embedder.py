"""MiniLM and its like, run by ONNX Runtime without torch."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexers.atomic import write_whole
from indexers.cores import usable_cores
from indexers.errors import ModelError
from indexers.onnx_bert import GRAPH_VERSION, WEIGHTS, BertShape, build_graph
from indexers.unit_vectors import REFETCH, WINDOW_TEXTS, cleaned, fingerprint_of, unit_rows

if TYPE_CHECKING:
    from indexers.unit_vectors import FloatArray

# A chunk's path, signature and first lines say what it is about; what stands behind them costs time in
# proportion: 256 tokens embed half as many chunks a second as 128, 64 tokens twice as many.
DOCUMENT_TOKENS = 128
# What the model was trained on at most; a query is one text, so its length costs nothing worth saving.
QUERY_TOKENS = 256
# A batch of 16 full chunks: larger ones are no faster on a CPU, and Ctrl-C waits for the batch in hand.
BATCH_TOKENS = 2_048
# Longer texts are cut before the tokenizer sees them: tokens of ordinary text are far shorter than this.
CHARS_PER_TOKEN = 64


class BertEmbedder:
    """A sentence-transformers BERT run by ONNX Runtime: mean pooling, unit length, no torch.

    Bulk and query take the same session, so their vectors agree by construction. Nothing is loaded before
    the first text; calls from several threads are safe.
    """

    name = "minilm"

    def __init__(
        self, directory: Path, *, threads: int | None = None, max_tokens: int = DOCUMENT_TOKENS
    ) -> None:
        self.directory = directory
        self.max_tokens = max_tokens
        self._threads = threads or usable_cores()
        self._lock = threading.Lock()
        self._engine: _Engine | None = None
        self._last: tuple[str, FloatArray] | None = None
        self._fingerprint = ""
        for file in (WEIGHTS, "tokenizer.json", "config.json"):
            if not (directory / file).is_file():
                raise ModelError(f"The embedding model in {directory} lacks {file}.", REFETCH)
        self._shape = BertShape.from_config(_read_json(directory / "config.json"), directory)
        if max_tokens > self._shape.positions:
            raise ModelError(f"max_tokens is {max_tokens}, the model reads {self._shape.positions} at most.")

    @property
    def dimensions(self) -> int:
        """384 for MiniLM."""
        return self._shape.hidden

    def fingerprint(self) -> str:
        """A hash of the weights, the tokenizer, and how texts are cut and pooled."""
        # Every search asks several times; the files are those that were here when it was asked first.
        if not self._fingerprint:
            self._fingerprint = self._hash_of_all()
        return self._fingerprint

    def _hash_of_all(self) -> str:
        values = {
            "format": 1,
            "weights": Prepared.of(self.directory, self._shape).weights,
            "tokenizer": _sha256(self.directory / "tokenizer.json"),
            "config": _sha256(self.directory / "config.json"),
            "max_tokens": self.max_tokens,
            "query_tokens": QUERY_TOKENS,
            "pooling": "mean",
            "normalise": "l2",
        }
        return fingerprint_of(values)

    def embed_documents(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> FloatArray:
        """One row a text, cut to `max_tokens`. KeyboardInterrupt gets through between batches."""
        import numpy as np

        engine = self._load()
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        done = 0
        for start in range(0, len(texts), WINDOW_TEXTS):
            window = texts[start : start + WINDOW_TEXTS]
            ids = engine.encode(window, self.max_tokens)
            for batch in _batches([len(row) for row in ids], BATCH_TOKENS):
                pooled = engine.pool([ids[row] for row in batch])
                vectors[[start + row for row in batch]] = unit_rows(pooled, self.name)
                done += len(batch)
                if progress is not None:
                    progress(done)
        return vectors

    def embed_query(self, text: str) -> FloatArray:
        """One vector; some 4 ms once loaded."""
        # One search asks for it several times: for its chunks, and for whole files.
        if self._last is not None and self._last[0] == text:
            return self._last[1]
        engine = self._load()
        vector: FloatArray = unit_rows(engine.pool(engine.encode([text], QUERY_TOKENS)), self.name)[0]
        self._last = (text, vector)
        return vector

    def _load(self) -> _Engine:
        with self._lock:
            if self._engine is None:
                self._engine = _Engine.open(self.directory, self._shape, self._threads)
            return self._engine


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was worked out once about a weights file: its hash, and the graph written for it.

    Kept in `prepared.json` and `graph.onnx` beside the weights, and made anew when the weights' size or
    time, the graph's version or its bytes are not what they were.
    """

    size: int
    mtime_ns: int
    weights: str
    graph: str
    version: int

    @classmethod
    def of(cls, directory: Path, shape: BertShape) -> Prepared:
        """The kept facts where they still hold, else new ones."""
        kept = cls._read(directory)
        return kept if kept is not None else cls._make(directory, shape)[0]

    @classmethod
    def graph_of(cls, directory: Path, shape: BertShape) -> bytes:
        """The serialised graph, written on first use."""
        kept = cls._read(directory)
        if kept is not None:
            try:
                graph = (directory / "graph.onnx").read_bytes()
            except OSError:
                graph = b""
            if hashlib.sha256(graph).hexdigest() == kept.graph:
                return graph
        return cls._make(directory, shape)[1]

    @classmethod
    def _read(cls, directory: Path) -> Prepared | None:
        """A damaged or outdated file is the same as none."""
        try:
            values = json.loads((directory / "prepared.json").read_text("utf-8"))
            kept = cls(**values)
            state = (directory / WEIGHTS).stat()
        except (OSError, ValueError, TypeError):
            return None
        now = (state.st_size, state.st_mtime_ns, GRAPH_VERSION)
        return kept if (kept.size, kept.mtime_ns, kept.version) == now else None

    @classmethod
    def _make(cls, directory: Path, shape: BertShape) -> tuple[Prepared, bytes]:
        weights = directory / WEIGHTS
        state = weights.stat()
        graph = build_graph(weights, shape)
        made = cls(
            size=state.st_size,
            mtime_ns=state.st_mtime_ns,
            weights=_sha256(weights),
            graph=hashlib.sha256(graph).hexdigest(),
            version=GRAPH_VERSION,
        )
        try:
            write_whole(directory / "graph.onnx", graph)
            write_whole(directory / "prepared.json", json.dumps(asdict(made)).encode())
        except OSError:
            pass  # A read-only or full model directory costs 0.6 s at each start, nothing else.
        return made, graph


@dataclass(frozen=True, slots=True)
class _Engine:
    """A tokenizer and an ONNX Runtime session."""

    tokenizer: Any
    session: Any

    @classmethod
    def open(cls, directory: Path, shape: BertShape, threads: int) -> _Engine:
        import onnxruntime
        import tokenizers
        from onnxruntime.capi import onnxruntime_pybind11_state as failures

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # The graph is written in fused operators already: optimising it again only makes the start slower.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Errors reach us as exceptions; its own log lines would land between ours.
        options.log_severity_level = 4
        # Spinning threads gain nothing measurable alone, and double the time of a query beside other work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The graph comes as bytes (the directory may be read-only): it has to be told where its weights are.
        # Resolved, because in the hub's cache the file is a link, and ONNX Runtime follows none out of there.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path",
            str((directory / WEIGHTS).resolve().parent),
        )
        try:
            session = onnxruntime.InferenceSession(
                Prepared.graph_of(directory, shape), options, providers=["CPUExecutionProvider"]
            )
        except (
            failures.Fail,
            failures.InvalidArgument,
            failures.InvalidGraph,
            failures.NotImplemented,
            failures.RuntimeException,
        ) as error:
            raise ModelError(f"ONNX Runtime cannot load {directory}: {error}", REFETCH) from error
        try:
            tokenizer = tokenizers.Tokenizer.from_str((directory / "tokenizer.json").read_text("utf-8"))
        # tokenizers raises bare Exception for a file it cannot parse.
        except Exception as error:  # noqa: BLE001
            raise ModelError(f"{directory / 'tokenizer.json'} is damaged: {error}", REFETCH) from error
        tokenizer.no_padding()
        tokenizer.enable_truncation(shape.positions)
        return cls(tokenizer, session)

    def encode(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        """Token ids with the closing token kept when cut."""
        clean = [cleaned(text[: max_tokens * CHARS_PER_TOKEN]) for text in texts]
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(clean)]
        return [row if len(row) <= max_tokens else [*row[: max_tokens - 1], row[-1]] for row in rows]

    def pool(self, rows: Sequence[Sequence[int]]) -> FloatArray:
        """Token vectors added up, one row a text."""
        import numpy as np

        longest = max(len(row) for row in rows)
        ids = np.zeros((len(rows), longest), np.int32)
        mask = np.zeros((len(rows), longest), np.int32)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        pooled: FloatArray = self.session.run(["pooled"], {"input_ids": ids, "attention_mask": mask})[0]
        return pooled


def _batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices, longest first so that a batch needs little padding, as many as fit `budget` tokens."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    start = 0
    while start < len(order):
        size = max(1, budget // lengths[order[start]])
        yield order[start : start + size]
        start += size


def _sha256(path: Path) -> str:
    hashed = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                hashed.update(block)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.", REFETCH) from error
    return hashed.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
        if not isinstance(values, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is not readable JSON: {error}.", REFETCH) from error
    return values
