"""Asks llama.cpp itself what a model would take, without loading it: a load that allocates nothing (`no_alloc`)."""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chains.engine.library import load_log, native, new_load_log
from chains.models.fit import Gpu
from chains.models.ggml_types import KV_TYPES
from indexers.errors import ModelError

_KV_LINE = re.compile(r"size = +([\d.]+) MiB \( *\d+ cells")
_STATE_LINE = re.compile(r"RS buffer size = +([\d.]+) MiB")
_COMPUTE_LINE = re.compile(r"^\S+ +(\S+) compute buffer size = +([\d.]+) MiB", re.MULTILINE)
_LOAD_MODE_NONE = 0
# The log is the process's; two measurements at once would read each other's lines.
_one_at_a_time = threading.Lock()
# ggml_backend_dev_type: discrete GPUs are taken before integrated ones, which share the RAM.
_GPU, _INTEGRATED = 1, 2


@dataclass(frozen=True, slots=True)
class Measured:
    """What llama.cpp would reserve, in bytes: keys and values of the whole context, buffers by device."""

    kv: int
    compute: tuple[tuple[str, int], ...]

    @property
    def largest_compute(self) -> int:
        """The compute buffer of the device that needs most."""
        return max((size for _, size in self.compute), default=0)


def measure(path: Path, n_ctx: int, n_batch: int, kind: str = "f16", *, flash_attn: bool = True) -> Measured:
    """What the model at `path` takes with these settings, on the CPU; a tenth of a second and no memory to speak of.

    :raises ModelError: llama.cpp refuses the file, or a context with these settings.
    """
    with _one_at_a_time, _simulated(path) as (library, model):
        params = library.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, min(n_batch, n_ctx), min(n_batch, n_ctx)
        params.type_k = params.type_v = KV_TYPES[kind]
        params.flash_attn_type = 1 if flash_attn else 0
        new_load_log()
        context = library.llama_init_from_model(model, params)
        if not context:
            raise ModelError(f"llama.cpp makes no context of {n_ctx:,} tokens for {path.name}.")
        library.llama_free(context)
        return _read(load_log())


@contextmanager
def _simulated(path: Path) -> Iterator[tuple[Any, Any]]:
    library = native()
    params = library.llama_model_default_params()
    params.no_alloc, params.load_mode, params.n_gpu_layers = True, _LOAD_MODE_NONE, 0
    model = library.llama_model_load_from_file(str(path).encode("utf-8", "surrogateescape"), params)
    if not model:
        raise ModelError(
            f"llama.cpp cannot read {path}.", f"See what the file says: agent models info {path.name}"
        )
    try:
        yield library, model
    finally:
        library.llama_model_free(model)


def _read(log: str) -> Measured:
    kept = [*_KV_LINE.findall(log), *_STATE_LINE.findall(log)]
    compute = {name: round(float(size) * 2**20) for name, size in _COMPUTE_LINE.findall(log)}
    return Measured(sum(round(float(size) * 2**20) for size in kept), tuple(compute.items()))


def gpus() -> tuple[tuple[Gpu, ...], bool]:
    """The GPUs that this build of llama.cpp can use, and whether they share the RAM."""
    library = native()
    if not library.llama_supports_gpu_offload():
        return (), False
    found = {kind: list(_devices(library._lib, kind)) for kind in (_GPU, _INTEGRATED)}
    if found[_GPU]:
        return tuple(found[_GPU]), all(gpu.name.startswith(("Metal", "MTL")) for gpu in found[_GPU])
    return tuple(found[_INTEGRATED][:1]), True


def _devices(ggml: Any, wanted: int) -> Iterator[Gpu]:
    """ggml's devices of one type; llama-cpp-python has no names for these functions, its library has."""
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    ggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    ggml.ggml_backend_dev_name.argtypes = [ctypes.c_void_p]
    ggml.ggml_backend_dev_name.restype = ctypes.c_char_p
    size_p = ctypes.POINTER(ctypes.c_size_t)
    ggml.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, size_p, size_p]
    for index in range(ggml.ggml_backend_dev_count()):
        device = ggml.ggml_backend_dev_get(index)
        if ggml.ggml_backend_dev_type(device) != wanted:
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        ggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        name = (ggml.ggml_backend_dev_name(device) or b"GPU").decode("utf-8", "replace")
        yield Gpu(name, free.value, total.value)
