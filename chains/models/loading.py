"""Chooses every number of a load for a model and this machine, and says in words what was chosen and why."""

from __future__ import annotations

from dataclasses import dataclass, replace

from chains.engine.library import supports_gpu
from chains.engine.runtime import LoadOptions, check_kv
from chains.models.builds import gpu_build, wheel_command
from chains.models.fit import Fit, Machine, Wishes, fit, gib, largest_context
from chains.models.footprint import Footprint, of_file
from chains.models.gguf import GgufInfo
from chains.models.measure import gpus, measure
from indexers.cores import usable_cores
from indexers.errors import ModelError

# Arithmetic is exact for Llama-like models; where others come this near to what is free, llama.cpp is asked.
_NEAR = 0.8
_CODELLAMA_ROPE_BASE = 1e6


@dataclass(frozen=True, slots=True)
class Choice:
    """How a model will be loaded. `notes` are worth telling unasked, `text` is the whole choice on one line."""

    options: LoadOptions
    fit: Fit
    notes: tuple[str, ...]
    text: str


def choose(
    info: GgufInfo,
    wishes: Wishes,
    *,
    memory: int | None = None,
    threads: int | None = None,
    tensor_split: tuple[float, ...] = (),
    lora: str = "",
) -> Choice:
    """The load that is best for this machine within what the user wished.

    :param memory: bytes that may be taken; None asks the system.
    :raises ModelError: memory does not reach, or layers are wanted on a GPU that this build cannot use.
    :raises UsageError: a KV type that does not exist, or that this model cannot have.
    """
    machine = this_machine(memory, wishes)
    model = of_file(info)
    check_kv(info, _options(wishes, wishes.kv or "f16"))
    chosen = _checked(info, model, machine, wishes)
    if not chosen.fits:
        raise _too_big(info, model, machine, wishes, chosen)
    notes = list(chosen.notes)
    if info.context_length and chosen.n_ctx > info.context_length:
        notes.append(f"context of {chosen.n_ctx:,} tokens: the model was trained on {info.context_length:,}")
    rope = _rope_base(info, notes)
    options = LoadOptions(
        n_ctx=chosen.n_ctx,
        n_batch=chosen.n_batch,
        n_threads=threads or usable_cores(),
        n_gpu_layers=-1 if chosen.gpu_layers > chosen.layers else chosen.gpu_layers,
        flash_attn=wishes.flash_attn,
        rope_freq_base=rope,
        type_k=chosen.kv,
        type_v=chosen.kv,
        tensor_split=tensor_split,
        lora=lora,
    )
    return Choice(options, chosen, tuple(notes), _in_words(options, chosen, machine))


def this_machine(memory: int | None, wishes: Wishes) -> Machine:
    """What may be taken here.

    :raises ModelError: layers are wanted on a GPU, and this llama.cpp was built without.
    """
    available = memory if memory is not None else available_memory()
    if wishes.gpu_layers == 0:
        return Machine(available)
    if not supports_gpu():
        if wishes.gpu_layers is not None:
            raise no_gpu_build()
        return Machine(available)
    found, unified = gpus()
    return Machine(available, found, unified)


def no_gpu_build() -> ModelError:
    """The error for layers on a GPU where llama.cpp was built for the CPU only: it names the build to get."""
    kind, found = gpu_build()
    if kind:
        return ModelError(
            f"Layers were asked for on the GPU, but llama.cpp was built for the CPU only; this machine has {found}.",
            f"Take the build for it: {wheel_command(kind)}",
        )
    return ModelError(
        "Layers were asked for on the GPU, but llama.cpp was built for the CPU only, and no GPU driver was found here.",
        f"Leave --gpu-layers out, or install the driver and then the build for it: {wheel_command('cu124')}",
    )


def _checked(info: GgufInfo, model: Footprint, machine: Machine, wishes: Wishes) -> Fit:
    """The choice by arithmetic, corrected by llama.cpp's own numbers where it is a close thing."""
    chosen = fit(model, machine, wishes)
    if chosen.ram.total < _NEAR * machine.memory and not machine.gpus:
        return chosen
    real = measure(info.path, chosen.n_ctx, chosen.n_batch, chosen.kv, flash_attn=wishes.flash_attn)
    guessed = model.compute_bytes(chosen.n_ctx, chosen.n_batch, chosen.kv, flash_attn=wishes.flash_attn)
    more = max(1.0, real.largest_compute / max(1, guessed))

    def compute(n_ctx: int, n_batch: int, kind: str) -> int:
        return round(more * model.compute_bytes(n_ctx, n_batch, kind, flash_attn=wishes.flash_attn))

    return fit(model, machine, wishes, compute)


def _too_big(info: GgufInfo, model: Footprint, machine: Machine, wishes: Wishes, least: Fit) -> ModelError:
    window = wishes.n_ctx or least.n_ctx
    possible = largest_context(model, machine, replace(wishes, kv=wishes.kv or "f16"))
    lower = f"lower the context to {possible:,} tokens, or " if wishes.n_ctx and possible else ""
    where = f"{gib(machine.memory)} are available"
    if least.vram.total:
        where += f", and {gib(sum(gpu.free for gpu in machine.gpus))} on the GPU"
    return ModelError(
        f"{info.path.name} needs {gib(least.ram.total + least.vram.total)} of memory "
        f"with a context of {window:,} tokens ({gib(info.weight_bytes)} of weights); {where}.",
        f"Close other programs, {lower}choose a smaller model: agent models list --fits",
    )


def _rope_base(info: GgufInfo, notes: list[str]) -> float:
    named = "codellama" in info.label.replace("-", "") and info.architecture == "llama"
    if info.rope_freq_base or not named:
        return 0.0
    # The first conversions of CodeLlama left the key out; llama.cpp would take Llama 2's 10,000.
    notes.append("RoPE base set to 1,000,000: this CodeLlama file does not say")
    return _CODELLAMA_ROPE_BASE


def _options(wishes: Wishes, kind: str) -> LoadOptions:
    return LoadOptions(n_ctx=wishes.n_ctx, flash_attn=wishes.flash_attn, type_k=kind, type_v=kind)


def _in_words(options: LoadOptions, chosen: Fit, machine: Machine) -> str:
    text = (
        f"window {chosen.n_ctx:,} tokens, KV {chosen.kv}, batch {chosen.n_batch}, {options.n_threads} threads, "
        f"{chosen.layers_text}; takes {gib(chosen.ram.total)} of {gib(machine.memory)} free memory"
    )
    if chosen.gpu_layers > 0:
        free = sum(gpu.free for gpu in machine.gpus)
        text += f" and {gib(chosen.vram.total)} of {gib(free)} on the GPU"
    return text


def available_memory() -> int:
    """Bytes that the system says a program may still take."""
    import psutil

    return int(psutil.virtual_memory().available)
