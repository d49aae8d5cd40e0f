"""Chooses context, KV type, batch and GPU layers so that a model fits a machine, and says what it chose. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from chains.models.footprint import CTX_STEP, Footprint, padded

# More context than this is not taken unasked: its memory would be spent on what a question rarely needs.
DEFAULT_CTX = 8_192
# Below this, keys and values in eight bits are the lesser evil.
PLENTY_CTX = 4_096
MIN_CTX = 2_048
SMALL_BATCH = 128
# CUDA's own context (about half a GiB) and what other programs may take meanwhile: llama.cpp leaves as much.
GPU_MARGIN = 1 << 30
# Samplers, batches, logits and the interpreter's own growth while it answers.
RAM_MARGIN = 128 << 20
SAVING_KV = "q8_0"

# (context, batch, KV type) -> bytes.
Compute = Callable[[int, int, str], int]


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU and its memory in bytes."""

    name: str
    free: int
    total: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """What may be taken: bytes of RAM, and the GPUs that this build of llama.cpp can use.

    `unified`: the GPU takes its memory from the same RAM (Apple silicon, integrated GPUs).
    """

    memory: int
    gpus: tuple[Gpu, ...] = ()
    unified: bool = False


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user decided; zero, None and an empty text leave it to us."""

    n_ctx: int = 0
    n_batch: int = 512
    gpu_layers: int | None = None
    kv: str = ""
    flash_attn: bool = True


@dataclass(frozen=True, slots=True)
class Use:
    """Bytes taken in one kind of memory."""

    weights: int = 0
    kv: int = 0
    compute: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv + self.compute


@dataclass(frozen=True, slots=True)
class Fit:
    """A whole choice and what it takes. `gpu_layers` is llama.cpp's number: the output counts as one more layer.

    `fits` is false when not even the smallest choice does; `notes` say what was given up.
    """

    n_ctx: int
    n_batch: int
    kv: str
    gpu_layers: int
    layers: int
    ram: Use
    vram: Use
    fits: bool
    notes: tuple[str, ...] = ()

    @property
    def layers_text(self) -> str:
        """Where the layers are, for people."""
        if self.gpu_layers <= 0:
            return f"all {self.layers} layers in RAM"
        if self.gpu_layers > self.layers:
            return f"all {self.layers} layers on the GPU"
        return f"{self.gpu_layers - 1} of {self.layers} layers and the output on the GPU"


def fit(model: Footprint, machine: Machine, wishes: Wishes, compute: Compute | None = None) -> Fit:
    """The best choice that fits: everything on the GPU before a long context, a long context before full KV precision.

    :param compute: the compute buffer of a choice; by default the arithmetic of `Footprint`.
    """
    plan = _Planner(model, machine, wishes, compute)
    choices = list(plan.choices())
    chosen = next((choice for choice in choices if choice.fits), None)
    if chosen is None:
        # The smallest thing tried: what is told as needed.
        return min(choices, key=lambda choice: choice.ram.total + choice.vram.total)
    return replace(chosen, notes=plan.notes(chosen))


@dataclass(frozen=True, slots=True)
class _Planner:
    model: Footprint
    machine: Machine
    wishes: Wishes
    compute: Compute | None

    @property
    def target(self) -> int:
        """The context wanted."""
        trained = self.model.trained_context or DEFAULT_CTX
        return self.wishes.n_ctx or min(trained, DEFAULT_CTX)

    def choices(self) -> Iterator[Fit]:
        """Choices in the order of preference, the last of them with the least demands."""
        if self._may_use_gpu():
            yield from self._on_gpu()
        if self.wishes.gpu_layers is None or self.wishes.gpu_layers == 0:
            yield from self._in_ram()

    def _may_use_gpu(self) -> bool:
        return bool(self.machine.gpus) and self.wishes.gpu_layers != 0

    def _on_gpu(self) -> Iterator[Fit]:
        everything = self.model.layers + 1
        wished = self.wishes.gpu_layers
        if wished is not None and wished > 0:
            for n_ctx, kind, batch in self._shapes():
                yield self._at(n_ctx, kind, batch, wished)
            return
        # Layers in RAM cost more time than eight bits for keys and values, or the second half of the context.
        for kind in self._kinds():
            yield from (
                self._at(n, kind, self.wishes.n_batch, everything) for n in self._contexts(PLENTY_CTX)
            )
        for n_ctx, kind, batch in self._shapes():
            for layers in range(self.model.layers, 0, -1):
                choice = self._at(n_ctx, kind, batch, layers)
                if choice.fits:
                    yield choice
                    break

    def _in_ram(self) -> Iterator[Fit]:
        for n_ctx, kind, batch in self._shapes():
            yield self._at(n_ctx, kind, batch, 0)

    def _shapes(self) -> Iterator[tuple[int, str, int]]:
        """Contexts, KV types and batches from the one wanted to the least that is of use."""
        kinds = self._kinds()
        for batch in self._batches():
            for kind in kinds:
                # Half the context is given up before half the precision is, and no more.
                floor = PLENTY_CTX if kind != kinds[-1] else MIN_CTX
                yield from ((n_ctx, kind, batch) for n_ctx in self._contexts(floor))

    def _batches(self) -> tuple[int, ...]:
        batch = self.wishes.n_batch
        return (batch, SMALL_BATCH) if batch > SMALL_BATCH else (batch,)

    def _kinds(self) -> tuple[str, ...]:
        if self.wishes.kv:
            return (self.wishes.kv,)
        if self.model.kv_blocks and self.wishes.flash_attn:
            return ("f16", SAVING_KV)
        return ("f16",)

    def _contexts(self, floor: int) -> Iterator[int]:
        """From the context wanted downwards in llama.cpp's steps; one the user named stays as it is."""
        yield self.target
        if not self.wishes.n_ctx:
            yield from range((self.target - 1) // CTX_STEP * CTX_STEP, floor - 1, -CTX_STEP)

    def _at(self, n_ctx: int, kind: str, batch: int, gpu_layers: int) -> Fit:
        model, layers = self.model, self.model.layers
        repeating = max(0, min(gpu_layers - 1, layers))
        kv = model.kv_bytes(n_ctx, kind)
        kv_gpu = kv * repeating // max(1, layers)
        buffer = self._compute(n_ctx, batch, kind)
        weights_gpu = model.weights.on_gpu(gpu_layers)
        vram = Use(weights_gpu, kv_gpu, buffer * len(self.machine.gpus)) if gpu_layers > 0 else Use()
        # With every layer on the GPU the CPU keeps the embeddings and works on nothing large.
        host = 0 if repeating == layers and gpu_layers > layers else buffer
        ram = Use(model.weights.total - weights_gpu, kv - kv_gpu, host)
        taken = ram.total + (vram.total if self.machine.unified else 0) + RAM_MARGIN
        fits = taken <= self.machine.memory and vram.total <= self._room()
        return Fit(n_ctx, batch, kind, gpu_layers, layers, ram, vram, fits)

    def _room(self) -> int:
        return sum(max(0, gpu.free - GPU_MARGIN) for gpu in self.machine.gpus)

    def _compute(self, n_ctx: int, batch: int, kind: str) -> int:
        if self.compute is not None:
            return self.compute(n_ctx, batch, kind)
        return self.model.compute_bytes(n_ctx, batch, kind, flash_attn=self.wishes.flash_attn)

    def notes(self, chosen: Fit) -> tuple[str, ...]:
        """What was given up against what was wanted."""
        found = []
        free = f"{gib(self.machine.memory)} of free memory"
        if self.machine.gpus and chosen.gpu_layers > 0:
            free = f"{gib(sum(gpu.free for gpu in self.machine.gpus))} of free GPU memory"
        if chosen.n_ctx < self.target:
            found.append(f"context lowered from {self.target:,} to {chosen.n_ctx:,} tokens to fit {free}")
        if chosen.kv != "f16" and not self.wishes.kv:
            found.append(f"KV cache kept as {chosen.kv} instead of f16 to fit {free}")
        if chosen.n_batch < self.wishes.n_batch:
            found.append(f"batches of {chosen.n_batch} tokens instead of {self.wishes.n_batch} to fit {free}")
        if (
            self._may_use_gpu()
            and self.wishes.gpu_layers in (None, -1)
            and chosen.gpu_layers <= chosen.layers
        ):
            found.append(
                f"{chosen.layers_text}: more do not fit {gib(sum(g.free for g in self.machine.gpus))} of VRAM"
            )
        return tuple(found)


def largest_context(model: Footprint, machine: Machine, wishes: Wishes) -> int:
    """The longest context that fits, at most what the model was trained on; 0 for none."""
    low, high = 0, max(CTX_STEP, padded(model.trained_context or DEFAULT_CTX))
    while low < high:
        middle = (low + high + CTX_STEP) // 2 // CTX_STEP * CTX_STEP
        if fit(model, machine, replace(wishes, n_ctx=middle, kv=wishes.kv or "f16")).fits:
            low = middle
        else:
            high = middle - CTX_STEP
    return min(low, model.trained_context or low)


def gib(count: int) -> str:
    """Bytes for people, as memory is counted."""
    return f"{count / 2**30:.1f} GiB"
