"""One model loaded in llama.cpp: tokens in, tokens out."""

from __future__ import annotations

import ctypes
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chains.engine.library import log, native
from chains.engine.sampler import Sampler, Sampling
from chains.engine.vocabulary import Vocabulary
from chains.kv.cells import SEQUENCES, Cells, turns
from chains.models.ggml_types import KV_TYPES, PLAIN_KV, TENSOR_TYPES
from chains.models.gguf import GgufInfo
from indexers.errors import ModelError, UsageError

MIN_CTX = 2_048
# llama.cpp rounds context sizes up to this.
_CTX_STEP = 256


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load a model; every number already chosen."""

    n_ctx: int
    n_batch: int = 512
    n_threads: int = 1
    n_gpu_layers: int = 0
    flash_attn: bool = True
    rope_freq_base: float = 0.0
    type_k: str = "f16"
    """How keys are kept, a name of `KV_TYPES`."""
    type_v: str = "f16"
    """How values are kept; anything but f16, bf16 and f32 needs flash attention."""
    tensor_split: tuple[float, ...] = ()
    """The share of each GPU; none lets llama.cpp go by their free memory."""
    lora: str = ""
    """A LoRA adapter (GGUF) applied over the model."""


class Interrupted(Exception):
    """Reading the prompt was stopped because the caller asked for it."""


def check_kv(info: GgufInfo, options: LoadOptions) -> None:
    """See that a KV cache can be kept as asked: llama.cpp only says that it has no context.

    :raises UsageError: no such type, rows that do not divide into its blocks, or values without flash attention.
    """
    for kind, rows in ((options.type_k, info.key_length), (options.type_v, info.value_length)):
        if kind not in KV_TYPES:
            raise UsageError(
                f"A KV cache cannot be kept as {kind!r}.", f"Choose one of {', '.join(KV_TYPES)}."
            )
        if rows % TENSOR_TYPES[KV_TYPES[kind]].block:
            raise UsageError(
                f"The KV cache of {info.path.name} cannot be kept as {kind}: its heads have {rows} values each.",
                "Keep it as f16.",
            )
    if options.type_v not in PLAIN_KV and not options.flash_attn:
        raise UsageError(f"Values are kept as {options.type_v} with flash attention only.", "Turn it on.")


class Runtime:
    """A loaded model and its context. Not thread-safe: one caller at a time."""

    def __init__(self, info: GgufInfo, options: LoadOptions) -> None:
        """Load the weights and make a context.

        :raises ModelError: llama.cpp refuses the file, or there is no memory even for the smallest context.
        :raises UsageError: a KV type that is none, or that this model cannot have.
        """
        self._lib = native()
        self.notes: list[str] = []
        check_kv(info, options)
        log.clear()
        self._model = self._load_model(info, options)
        self._vocab = self._lib.llama_model_get_vocab(self._model)
        self.vocabulary = Vocabulary(self._lib, self._vocab)
        self._open(info, options)

    def _open(self, info: GgufInfo, options: LoadOptions) -> None:
        """Make the context; where it cannot be made, the weights go too."""
        try:
            adapter = self._adapter(options.lora)
            self._ctx, self.n_ctx = self._make_context(info, options)
        except ModelError:
            self._lib.llama_model_free(self._model)
            raise
        if adapter:
            pointers = (self._lib.llama_adapter_lora_p_ctypes * 1)(adapter)
            self._lib.llama_set_adapters_lora(self._ctx, pointers, 1, (ctypes.c_float * 1)(1.0))
        self.load_log = log.text()
        self._memory = self._lib.llama_get_memory(self._ctx)
        shifts = turns(options.type_k, info.key_length)
        self.cells = Cells(self._lib, self._ctx, self._model, shifts=shifts)
        self.n_batch = min(options.n_batch, self.n_ctx)
        self._batch = self._lib.llama_batch_init(self.n_batch, 0, 1)
        self._closing = weakref.finalize(self, _free, self._lib, self._ctx, self._model, self._batch)
        self.tokens: list[int] = []
        # Where sources begin that were joined; and the least of what a look in between left of a reader's prompt.
        self.joined_from: int | None = None
        self.touched: int | None = None

    def remake(self, info: GgufInfo, options: LoadOptions) -> None:
        """Another context, empty, for the weights that are loaded: to see what other settings make of them.

        :raises ModelError: there is no memory for it; the runtime is of no use then.
        """
        self._closing.detach()
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_free(self._ctx)
        self._open(info, options)

    def _load_model(self, info: GgufInfo, options: LoadOptions) -> Any:
        params = self._lib.llama_model_default_params()
        params.n_gpu_layers = 0x7FFFFFFF if options.n_gpu_layers < 0 else options.n_gpu_layers
        # Held here: llama.cpp reads it while it loads.
        shares = self._shares(options.tensor_split)
        params.tensor_split = shares
        model = self._lib.llama_model_load_from_file(
            str(info.path).encode("utf-8", "surrogateescape"), params
        )
        if not model:
            raise _load_error(info, log.errors())
        return model

    def _shares(self, split: Sequence[float]) -> Any:
        """The share of each GPU as llama.cpp takes it: one number for every device it could know."""
        if not split:
            return None
        most = int(self._lib.llama_max_devices())
        if len(split) > most:
            raise UsageError(f"tensor_split names {len(split)} GPUs; this llama.cpp handles {most}.")
        return (ctypes.c_float * most)(*split)

    def _adapter(self, lora: str) -> Any:
        """A LoRA adapter for the model, which lives and dies with it; None for none.

        :raises ModelError: the file is no adapter, or one for another model.
        """
        if not lora:
            return None
        adapter = self._lib.llama_adapter_lora_init(self._model, lora.encode("utf-8", "surrogateescape"))
        if not adapter:
            reason = next(iter(log.errors()), "llama.cpp gave no reason")
            raise ModelError(
                f"The LoRA adapter {lora} cannot be used with this model: {reason}",
                "It must be a GGUF adapter (llama.cpp's convert_lora_to_gguf.py) made for the same model.",
            )
        return adapter

    def _make_context(self, info: GgufInfo, options: LoadOptions) -> tuple[Any, int]:
        """A context, smaller than wished for when memory does not reach."""
        n_ctx = options.n_ctx
        while True:
            params = self._lib.llama_context_default_params()
            params.n_ctx = n_ctx
            params.n_batch = params.n_ubatch = min(options.n_batch, n_ctx)
            params.n_threads = params.n_threads_batch = options.n_threads
            params.rope_freq_base = options.rope_freq_base
            params.rope_freq_scale = 0.0
            params.flash_attn_type = 1 if options.flash_attn else 0
            params.type_k, params.type_v = KV_TYPES[options.type_k], KV_TYPES[options.type_v]
            # Spans of the prompt are copied through sequences of their own; all share one memory.
            params.n_seq_max, params.kv_unified = SEQUENCES, True
            context = self._lib.llama_init_from_model(self._model, params)
            if context:
                if n_ctx < options.n_ctx:
                    self.notes.append(
                        f"context lowered from {options.n_ctx:,} to {n_ctx:,} tokens: no memory for more"
                    )
                return context, int(self._lib.llama_n_ctx(context))
            if n_ctx // 2 < MIN_CTX:
                raise ModelError(
                    f"There is no memory for {info.path.name} with a context of even {n_ctx:,} tokens "
                    f"({next(iter(log.errors()), 'llama.cpp gave no reason')}).",
                    "Close other programs, or choose a smaller model: agent models list",
                )
            n_ctx = max(MIN_CTX, n_ctx // 2 // _CTX_STEP * _CTX_STEP)

    def prefill(
        self, ids: Sequence[int], progress: Callable[[int, int], None] | None, stopped: Callable[[], bool]
    ) -> int:
        """Bring the context to exactly `ids`, reusing the tokens it shares with what was there: a look in between.

        What is written goes through a `Reader`, which keeps more; it sees by `touched` what is left of its own.

        :returns: how many tokens were reused.
        :raises Interrupted: `stopped` became true; what was read so far stays valid.
        """
        kept = 0
        plain = self.tokens if self.joined_from is None else self.tokens[: self.joined_from]
        for old, new in zip(plain, ids[:-1], strict=False):  # the last is read again: its logits are needed
            if old != new:
                break
            kept += 1
        kept = self.cut(kept)
        self.joined_from = None
        self.touched = kept if self.touched is None else min(kept, self.touched)
        if progress is not None:
            progress(kept, len(ids))
        self.read(
            ids[kept:],
            (lambda: progress(len(self.tokens), len(ids))) if progress is not None else None,
            stopped,
        )
        return kept

    def read(
        self, ids: Sequence[int], progress: Callable[[], None] | None, stopped: Callable[[], bool]
    ) -> None:
        """Read tokens behind those that are there, in batches.

        :raises Interrupted: `stopped` became true; what was read so far stays valid.
        """
        for start in range(0, len(ids), self.n_batch):
            if stopped():
                raise Interrupted
            self._decode(ids[start : start + self.n_batch], stopped)
            if progress is not None:
                progress()

    def append(self, token: int) -> None:
        """Read one token more."""
        self._decode([token], None)

    def extend(self, ids: Sequence[int]) -> None:
        """Read several tokens more, at most a batch, and keep the logits behind each of them."""
        self._decode(ids, None, every=True)

    def forget(self, length: int) -> None:
        """Forget everything behind `length`; see `forgets_parts`."""
        self.cut(length)

    @property
    def forgets_parts(self) -> bool:
        """Whether the last tokens can be taken back: recurrent models keep no state for each token."""
        return not (
            self._lib.llama_model_is_recurrent(self._model) or self._lib.llama_model_is_hybrid(self._model)
        )

    def cut(self, length: int) -> int:
        """Forget everything behind `length`, also what an interrupted call left there; how many tokens are left.

        Models that cannot forget a part forget all.
        """
        if not self._lib.llama_memory_seq_rm(self._memory, 0, length, -1):
            self._lib.llama_memory_clear(self._memory, True)
            length = 0
        del self.tokens[length:]
        return length

    def _decode(self, ids: Sequence[int], stopped: Callable[[], bool] | None, *, every: bool = False) -> None:
        batch, past = self._batch, len(self.tokens)
        batch.n_tokens = len(ids)
        for index, token in enumerate(ids):
            batch.token[index] = token
            batch.pos[index] = past + index
            batch.seq_id[index][0] = 0
            batch.n_seq_id[index] = 1
            batch.logits[index] = every
        batch.logits[len(ids) - 1] = 1
        code = self._call_decode(stopped)
        if code != 0:
            raise ModelError(
                f"llama.cpp could not read {len(ids)} tokens at position {past:,} (code {code}; "
                f"{next(reversed(log.errors()), 'no reason given')}).",
                "Try a smaller context or a smaller model: agent models list",
            )
        self.tokens += ids

    def _call_decode(self, stopped: Callable[[], bool] | None) -> int:
        """`llama_decode`, abandoned within milliseconds on Ctrl-C or `stopped`: a batch may take minutes."""
        if stopped is None:
            return int(self._lib.llama_decode(self._ctx, self._batch))
        with _deferred_interrupt() as interrupted:
            callback = self._lib.ggml_abort_callback(lambda _: bool(interrupted) or stopped())
            self._lib.llama_set_abort_callback(self._ctx, callback, None)
            try:
                code = int(self._lib.llama_decode(self._ctx, self._batch))
            finally:
                self._lib.llama_set_abort_callback(self._ctx, self._lib.ggml_abort_callback(0), None)
        if code != 0 and stopped():
            raise Interrupted
        return code

    def logits(self, at: int = -1) -> Any:
        """What a token read last says of every token that could follow it: an array of unnormalised 32-bit floats.

        :param at: its place among those of the last `extend`; -1 is the last.
        """
        import numpy as np

        pointer = self._lib.llama_get_logits_ith(self._ctx, at)
        return np.ctypeslib.as_array(pointer, shape=(self.vocabulary.size,)).copy()

    def sampler(self, sampling: Sampling) -> Sampler:
        """A fresh sampler over this context's logits."""
        return Sampler(self._lib, self._ctx, self._vocab, sampling)

    def close(self) -> None:
        """Free the memory. The runtime is of no use afterwards."""
        self._closing()


@contextmanager
def _deferred_interrupt() -> Iterator[list[int]]:
    """Note Ctrl-C in the list, and do what it does when the block ends.

    A callback from C is no place for it: an exception there is printed and lost.
    """
    noted: list[int] = []
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield noted
        return
    signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, usual)
    if noted:
        usual(signal.SIGINT, None)


def _free(library: Any, context: Any, model: Any, batch: Any) -> None:
    library.llama_batch_free(batch)
    library.llama_free(context)
    library.llama_model_free(model)


def _load_error(info: GgufInfo, errors: Sequence[str]) -> ModelError:
    # The first names the cause, the rest only that it failed.
    reason, lower = next(iter(errors), ""), " ".join(errors).lower()
    if "unknown model architecture" in lower:
        return ModelError(
            f"{info.path} is a {info.architecture!r} model, which this llama.cpp does not know.",
            "Update it: pip install -U llama-cpp-python; or choose another model: agent models list",
        )
    if "invalid ggml type" in lower:
        return ModelError(
            f"{info.path} is stored in a quantisation that this llama.cpp does not know: {reason}",
            "Update it: pip install -U llama-cpp-python; or get another quantisation, such as Q4_K_M.",
        )
    if "allocate" in lower or "out of memory" in lower or "bad_alloc" in lower:
        return ModelError(
            f"There is not enough memory to load {info.path} ({info.file_bytes / 2**30:.1f} GiB): {reason}",
            "Close other programs, or choose a smaller model: agent models list",
        )
    return ModelError(
        f"llama.cpp cannot load {info.path}: {reason or 'it gave no reason'}",
        "The file may be damaged or unfinished: download it again (agent models pull NAME).",
    )
