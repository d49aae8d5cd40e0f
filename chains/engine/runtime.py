"""One model loaded in llama.cpp: tokens in, tokens out. The door to llama.cpp; `measure` asks it without loading.

It uses llama-cpp-python's C interface and not its `Llama` class, which redirects the whole process's stdout
and stderr to nothing while it loads (here loading overlaps with other work) and reloads the weights to try
another context size.
"""

from __future__ import annotations

import ctypes
import json
import signal
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chains.kv.cells import SEQUENCES, Cells, turns
from chains.models.ggml_types import KV_TYPES, PLAIN_KV, TENSOR_TYPES
from chains.models.gguf import GgufInfo
from indexers.errors import ModelError, UsageError

MIN_CTX = 2_048
# llama.cpp rounds context sizes up to this.
_CTX_STEP = 256
_GREEDY_CANDIDATE = 1.0
_PENALTY_LAST = 64
# How a schema's strings come out of the converter, and how they should.
_ANY_CHARACTER, _JSON_CHARACTER = r'char ::= [^"\\] |', r'char ::= [^"\\\x00-\x1F\x7F] |'
# Log levels and vocabulary attributes of llama.cpp.
_LOG_ERROR, _LOG_CONTINUES = 4, 5
_ATTR_NORMAL, _ATTR_CONTROL, _ATTR_USER_DEFINED = 4, 8, 16

INSTALL = (
    'Install it: pip install ".[llama]" where this program lies (needs a C++ compiler and minutes), '
    "or take the makers' ready builds: pip install llama-cpp-python --only-binary llama-cpp-python "
    "--extra-index-url https://abetlen.github.io/llama-cpp-python/whl/cpu (or /cu124, /metal for /cpu)."
)


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


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. Temperature 0 takes the likeliest. `grammar` is GBNF."""

    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    seed: int = 0
    grammar: str = ""


class Interrupted(Exception):
    """Reading the prompt was stopped because the caller asked for it."""


def native() -> Any:
    """llama.cpp's C interface.

    :raises ModelError: llama-cpp-python is not installed, or its library does not load.
    """
    try:
        import llama_cpp.llama_cpp as library
    except ImportError as error:
        raise ModelError("llama-cpp-python, which runs the model, is not installed.", INSTALL) from error
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"llama-cpp-python is installed, but its library does not load: {error}", INSTALL
        ) from error
    _start(library)
    return library


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


def build() -> dict[str, object]:
    """What tells this build of llama.cpp from others: its version, its file, and the instructions it uses."""
    library = native()
    file = Path(library._lib._name)
    status = file.stat() if file.exists() else None
    return {
        "version": version("llama-cpp-python"),
        "file": (status.st_size, status.st_mtime_ns) if status is not None else str(file),
        "system": library.llama_print_system_info().decode("utf-8", "replace"),
    }


def supports_gpu() -> bool:
    """Whether this build of llama.cpp can put layers on a GPU."""
    return bool(native().llama_supports_gpu_offload())


def grammar_of(schema: dict[str, Any]) -> str:
    """A JSON schema as GBNF.

    :raises UsageError: llama-cpp-python's converter cannot express the schema.
    """
    native()
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        rules = str(json_schema_to_gbnf(json.dumps(schema)))
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        raise UsageError(f"The JSON schema cannot be made a grammar: {error!r}") from error
    # The converter lets line ends and other control characters stand raw in strings; JSON does not.
    return rules.replace(_ANY_CHARACTER, _JSON_CHARACTER)


class _Log:
    """The last lines of llama.cpp's log: it goes to stderr otherwise, and reasons stand nowhere else."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=20_000)
        self._level = 0
        self.callback: Any = None

    def write(self, level: int, text: bytes | None, _: object) -> None:
        """Keep a line; level 5 continues the one before."""
        if level != _LOG_CONTINUES:
            self._level = level
        if text:
            self._lines.append((self._level, text.decode("utf-8", "replace")))

    def clear(self) -> None:
        """Forget what earlier loads wrote."""
        self._lines.clear()

    def text(self) -> str:
        """Everything, as it was written."""
        return "".join(text for _, text in list(self._lines))

    def errors(self) -> list[str]:
        """The lines that are errors."""
        found = "".join(text for level, text in list(self._lines) if level == _LOG_ERROR)
        return [line.strip()[:300] for line in found.splitlines() if line.strip()]


_log = _Log()


def new_load_log() -> None:
    """Forget what llama.cpp wrote so far."""
    _log.clear()


def load_log() -> str:
    """What llama.cpp wrote since."""
    return _log.text()


_start_lock = threading.Lock()


def _start(library: Any) -> None:
    with _start_lock:
        if _log.callback is None:
            # Kept for the life of the process: llama.cpp calls it from its own threads.
            _log.callback = library.llama_log_callback(_log.write)
            library.llama_log_set(_log.callback, ctypes.c_void_p(0))
            library.llama_backend_init()


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
        _log.clear()
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
        self.load_log = _log.text()
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
            raise _load_error(info, _log.errors())
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
            reason = next(iter(_log.errors()), "llama.cpp gave no reason")
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
                    f"({next(iter(_log.errors()), 'llama.cpp gave no reason')}).",
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
                f"{next(reversed(_log.errors()), 'no reason given')}).",
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


class Vocabulary:
    """The model's tokenizer. Text never becomes a control token unless `control` is set. Thread-safe."""

    def __init__(self, library: Any, vocab: Any) -> None:
        self._lib = library
        self._vocab = vocab
        self.size = int(library.llama_vocab_n_tokens(vocab))
        self.bos = self._known(library.llama_vocab_bos(vocab))
        self.eos = self._known(library.llama_vocab_eos(vocab))
        self.adds_bos = bool(library.llama_vocab_get_add_bos(vocab))
        named = ("bos", "eos", "eot", "fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep")
        ids = (self._known(getattr(library, f"llama_vocab_{name}")(vocab)) for name in named)
        self._named = frozenset(token for token in ids if token is not None)
        self._controls: dict[int, bool] = {}
        self._marker = self._tokenize("☺".encode(), control=False)
        # SentencePiece begins each text with a space; most other vocabularies do not.
        self._adds_space = self.piece(self._tokenize(b"x", control=False)[0])[:1] == b" "

    def _known(self, token: int) -> int | None:
        return int(token) if 0 <= token < self.size else None

    def encode(self, text: str, *, control: bool = False, joined: bool = False) -> list[int]:
        """Tokens of a piece of text; see `families.Tokenizer`."""
        data = text.encode("utf-8", "replace")
        ids = self._joined(data, control=control) if joined else self._tokenize(data, control=control)
        if control or not any(self.is_control(token) for token in set(ids)):
            return ids
        return self._without_controls(text, ids, joined=joined)

    def _without_controls(self, text: str, ids: Sequence[int], *, joined: bool) -> list[int]:
        """Vocabularies hold marks (`<tool_call>`) that are always recognised: cut those marks in two."""
        marks = {self.text(token) for token in ids if self.is_control(token)}
        marks |= {mark.replace("▁", " ") for mark in marks}
        cuts = {0, len(text)}
        for mark in marks:
            at = text.find(mark)
            while at >= 0:
                cuts.add(at + max(1, len(mark) // 2))
                at = text.find(mark, at + 1)
        borders = sorted(cuts)
        found: list[int] = []
        for start, end in zip(borders, borders[1:], strict=False):
            data = text[start:end].encode("utf-8", "replace")
            found += self._tokenize(data) if start == 0 and not joined else self._joined(data)
        # Nothing known gets here; a vocabulary that defeats the cut loses the token rather than the frame.
        return [token for token in found if not self.is_control(token)]

    def _joined(self, data: bytes, *, control: bool = False) -> list[int]:
        if not self._adds_space or not data:
            return self._tokenize(data, control=control)
        # Tokenised behind a character that joins with nothing, so that no space is put before it.
        ids = self._tokenize("☺".encode() + data, control=control)
        if ids[: len(self._marker)] == self._marker:
            return ids[len(self._marker) :]
        return self._tokenize(data, control=control)

    def _tokenize(self, data: bytes, *, control: bool = False) -> list[int]:
        room = len(data) + 8
        buffer = (ctypes.c_int32 * room)()
        count = self._lib.llama_tokenize(self._vocab, data, len(data), buffer, room, False, control)
        if count < 0:
            room = -count
            buffer = (ctypes.c_int32 * room)()
            count = self._lib.llama_tokenize(self._vocab, data, len(data), buffer, room, False, control)
        return list(buffer[:count])

    def token_id(self, text: str) -> int | None:
        """The id of the control token with exactly this text."""
        ids = self._tokenize(text.encode(), control=True)
        if len(ids) == 1 and self.is_control(ids[0]) and self.text(ids[0]) == text:
            return ids[0]
        # Some (CodeLlama's ▁<EOT>) cannot be written as text; such tokens stand at the end of a vocabulary.
        return next((i for i in range(max(0, self.size - 1_024), self.size) if self.text(i) == text), None)

    def is_control(self, token: int) -> bool:
        """Whether the id frames instead of saying something."""
        known = self._controls.get(token)
        if known is None:
            attributes = self._lib.llama_vocab_get_attr(self._vocab, token)
            known = bool(attributes & _ATTR_CONTROL) or token in self._named
            known = known or (bool(attributes & _ATTR_USER_DEFINED) and _frames(self.text(token)))
            self._controls[token] = known
        return known

    def ends(self, token: int) -> bool:
        """Whether llama.cpp takes the id for the end of a text, as its grammars do."""
        return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def text(self, token: int) -> str:
        """The vocabulary's own text of an id."""
        found = self._lib.llama_vocab_get_text(self._vocab, token)
        return (found or b"").decode("utf-8", "replace")

    def piece(self, token: int, *, control: bool = False) -> bytes:
        """The bytes an id stands for; none for a control token unless `control` is set."""
        # llama.cpp takes ordinary tokens with telling texts (Qwen's "</s>") for control tokens.
        shown = control or bool(self._lib.llama_vocab_get_attr(self._vocab, token) & _ATTR_NORMAL)
        room = 64
        buffer = ctypes.create_string_buffer(room)
        length = self._lib.llama_token_to_piece(self._vocab, token, buffer, room, 0, shown)
        if length < 0:
            room = -length
            buffer = ctypes.create_string_buffer(room)
            length = self._lib.llama_token_to_piece(self._vocab, token, buffer, room, 0, shown)
        return bytes(buffer.raw[:length])

    def decode(self, ids: Sequence[int], *, control: bool = False) -> str:
        """The text of ids, control tokens shown when `control` is set."""
        return b"".join(self.piece(token, control=control) for token in ids).decode("utf-8", "replace")


def _frames(text: str) -> bool:
    """Whether a token that makers added frames (`<tool_call>`) or is mere text (`<table>`, spaces)."""
    name = text.lstrip("▁").strip("<>[]/")
    if not name or text.lstrip("▁")[:1] not in ("<", "["):
        return False
    return name == "think" or not (name.isascii() and name.isalnum() and name == name.lower())


class Sampler:
    """Chooses tokens by a context's last logits. Fresh for each generation, so that a seed means the same."""

    def __init__(self, library: Any, context: Any, vocab: Any, sampling: Sampling) -> None:
        """Build the chain.

        :raises UsageError: the grammar cannot be parsed.
        """
        self._lib = library
        self._ctx = context
        self._chain = library.llama_sampler_chain_init(library.llama_sampler_chain_default_params())
        self._freeing = [weakref.finalize(self, library.llama_sampler_free, self._chain)]
        for part in self._parts(sampling):
            library.llama_sampler_chain_add(self._chain, part)
        self._grammar: Any = None
        if sampling.grammar:
            self._grammar = library.llama_sampler_init_grammar(vocab, sampling.grammar.encode(), b"root")
            if not self._grammar:
                raise UsageError(
                    f"The grammar cannot be parsed: {next(reversed(_log.errors()), sampling.grammar[:80])}"
                )
            self._freeing.append(weakref.finalize(self, library.llama_sampler_free, self._grammar))
            self._candidates = _Candidates(library, int(library.llama_vocab_n_tokens(vocab)))

    def _parts(self, sampling: Sampling) -> list[Any]:
        lib, parts = self._lib, []
        if sampling.repeat_penalty != 1.0:
            size = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(lib.llama_get_model(self._ctx))))
            parts.append(
                lib.llama_sampler_init_penalties(size, _PENALTY_LAST, sampling.repeat_penalty, 0.0, 0.0)
            )
        if sampling.temperature <= 0:
            return [*parts, lib.llama_sampler_init_greedy()]
        return [
            *parts,
            lib.llama_sampler_init_top_k(sampling.top_k),
            lib.llama_sampler_init_top_p(sampling.top_p, 1),
            lib.llama_sampler_init_min_p(sampling.min_p, 1),
            lib.llama_sampler_init_temp(sampling.temperature),
            lib.llama_sampler_init_dist(sampling.seed),
        ]

    def next(self, at: int = -1) -> int:
        """The next token, by the logits behind the token `at` of the last batch: the last one."""
        if self._grammar is None:
            return int(self._lib.llama_sampler_sample(self._chain, self._ctx, at))
        return self._next_by_grammar(at)

    def _next_by_grammar(self, at: int) -> int:
        """Try the likeliest first: asking a grammar about one token is cheap, about all it is not."""
        logits = self._lib.llama_get_logits_ith(self._ctx, at)
        chosen = self._candidates.choose(logits, self._chain, None)
        if not self._candidates.allowed(chosen, self._grammar):
            chosen = self._candidates.choose(logits, self._chain, self._grammar)
        self._lib.llama_sampler_accept(self._grammar, chosen)
        self._lib.llama_sampler_accept(self._chain, chosen)
        return chosen

    def release(self) -> None:
        """Go on without the grammar: what has to keep to it is written."""
        self._grammar = None

    def close(self) -> None:
        """Free the chain."""
        for free in self._freeing:
            free()


class _Candidates:
    """The whole vocabulary as llama.cpp's samplers take it."""

    def __init__(self, library: Any, size: int) -> None:
        import numpy as np

        self._lib = library
        self._size = size
        self._np = np
        self._rows = np.zeros(size, dtype=np.dtype([("id", np.intc), ("logit", np.single), ("p", np.single)]))
        self._one = np.zeros(1, dtype=self._rows.dtype)

    def choose(self, logits: Any, chain: Any, grammar: Any) -> int:
        """What the chain takes of these logits, of what the grammar allows where one is given."""
        self._rows["id"] = self._np.arange(self._size, dtype=self._np.intc)
        self._rows["logit"] = self._np.ctypeslib.as_array(logits, shape=(self._size,))
        array = self._array(self._rows)
        if grammar is not None:
            self._lib.llama_sampler_apply(grammar, ctypes.byref(array))
        self._lib.llama_sampler_apply(chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def allowed(self, token: int, grammar: Any) -> bool:
        """Whether the grammar lets this token come next."""
        self._one["id"], self._one["logit"] = token, _GREEDY_CANDIDATE
        array = self._array(self._one)
        self._lib.llama_sampler_apply(grammar, ctypes.byref(array))
        return bool(self._one["logit"][0] > -self._np.inf)

    def _array(self, rows: Any) -> Any:
        lib = self._lib
        pointer = rows.ctypes.data_as(lib.llama_token_data_p)
        return lib.llama_token_data_array(data=pointer, size=len(rows), selected=-1, sorted=False)
