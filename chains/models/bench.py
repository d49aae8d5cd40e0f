"""How fast a model loads, reads and writes on this machine, what bounds it, and what other settings would do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from chains.engine.runtime import LoadOptions, Runtime
from chains.engine.sampler import Sampling
from chains.models.bandwidth import memory_bandwidth
from chains.models.footprint import of_file
from chains.models.gguf import GgufInfo, read_gguf
from indexers.errors import ModelError, UsageError

# Tokens read and written by each trial at most, and seconds that reading may take: a large model reads fewer.
READ_TOKENS, WRITTEN_TOKENS, READ_SECONDS = 512, 32, 6.0
_LEAST_READ, _LEAST_WRITTEN, _WRITE_SECONDS, _PILOT = 64, 8, 6.0, 16
BATCHES = (64, 128, 256, 512)
# Two trials differ when one is this much faster, and by twice as much as the same settings differ from themselves.
WORTH = 1.05
_ROUNDS = 2
_TEXT = (
    "def area(width, height):\n    return width * height\n\n\nclass Shape:\n    sides = [1, 2, 3]\n\n"
    "    def scale(self, factor):\n        self.sides = [side * factor for side in self.sides]\n\n"
)


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens a second: reading a prompt, and writing."""

    reading: float
    writing: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting that differs from the machine's choice, and what came of it."""

    setting: str
    value: str
    rates: Rates


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured. Sizes are bytes, times seconds, rates tokens a second.

    `limit` is what writing could reach if a token's weights were read at the memory's full speed and nothing else had
    to be done; `share` is how much of that it reached. `trials` are other settings, `advice` those that were faster by
    more than `noise`: the share by which the chosen settings differ from themselves, measured first and last.
    """

    model: str
    quantization: str
    file_bytes: int
    parameters: int
    load_seconds: float
    threads: int
    n_batch: int
    flash_attn: bool
    kv: str
    gpu_layers: int
    read_tokens: int
    written_tokens: int
    rates: Rates
    bandwidth: float
    limit: float
    share: float
    noise: float = 0.0
    trials: tuple[Trial, ...] = ()
    advice: tuple[str, ...] = ()


def bench(
    path: Path,
    options: LoadOptions,
    *,
    trials: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> Bench:
    """Measure a model with the settings chosen for it, then with others, one changed at a time.

    :raises ModelError: it cannot be loaded.
    """
    tell = progress or (lambda done, total, detail: None)
    info = read_gguf(path)
    planned = list(_variants(info, options)) if trials else []
    total = len(planned) + 2 + bool(planned)
    tell(0, total, "loading")
    started = time.perf_counter()
    runtime = Runtime(info, options)
    load_seconds = time.perf_counter() - started
    try:
        tell(1, total, "as chosen")
        ids = _prompt(runtime, options)
        rates, written = measured(runtime, ids)
        done = list(_tried(runtime, info, planned, ids, written, lambda at, what: tell(2 + at, total, what)))
        again = rates
        if len(done) == len(planned) > 0:
            tell(total - 1, total, "as chosen, again")
            runtime.remake(info, options)
            again = measured(runtime, ids, written)[0]
    finally:
        runtime.close()
    tell(total, total, "")
    found = _concluded(info, options, rates, again, done)
    return replace(found, load_seconds=round(load_seconds, 2), read_tokens=len(ids), written_tokens=written)


def _tried(
    runtime: Runtime,
    info: GgufInfo,
    planned: Sequence[tuple[str, str, LoadOptions]],
    ids: Sequence[int],
    written: int,
    tell: Callable[[int, str], None],
) -> Iterator[Trial]:
    """Each setting in turn, as far as there is memory: where there is none, the weights go with it."""
    for number, (setting, value, changed) in enumerate(planned):
        tell(number, f"{setting} {value}")
        try:
            runtime.remake(info, changed)
        except (ModelError, UsageError):
            return
        yield Trial(setting, value, measured(runtime, ids, written)[0])


def _concluded(
    info: GgufInfo, options: LoadOptions, rates: Rates, again: Rates, done: Sequence[Trial]
) -> Bench:
    """What the measurements come to; the caller knows how much was read and written."""
    noise = _differ(rates, again)
    best = Rates(max(rates.reading, again.reading), max(rates.writing, again.writing))
    bandwidth = memory_bandwidth(options.n_threads)
    limit = bandwidth / max(1, bytes_of_token(info))
    return Bench(
        model=info.path.name,
        quantization=info.quantization,
        file_bytes=info.file_bytes,
        parameters=info.parameter_count,
        load_seconds=0.0,
        threads=options.n_threads,
        n_batch=options.n_batch,
        flash_attn=options.flash_attn,
        kv=options.type_k,
        gpu_layers=options.n_gpu_layers,
        read_tokens=0,
        written_tokens=0,
        rates=best,
        bandwidth=round(bandwidth),
        limit=round(limit, 2),
        share=round(best.writing / limit, 3),
        noise=round(noise, 3),
        trials=tuple(done),
        advice=tuple(advice(best, done, noise)),
    )


def _differ(one: Rates, other: Rates) -> float:
    pairs = ((one.reading, other.reading), (one.writing, other.writing))
    return max(max(pair) / min(pair) - 1 for pair in pairs)


def bytes_of_token(info: GgufInfo) -> int:
    """Weights that writing one token reads: all but the embedding, of which a row is looked up.

    Where the output shares the embedding's weights (no `output.weight`), they are read as the output. Of a mixture of
    experts a token reads some only, so that this is more than it reads.
    """
    weights = of_file(info).weights
    tied = not any(tensor.name == "output.weight" for tensor in info.tensors)
    return weights.total - (0 if tied else weights.embeddings)


def advice(chosen: Rates, trials: Sequence[Trial], noise: float = 0.0) -> Iterator[str]:
    """The settings that were faster than the machine's choice, by more than noise."""
    worth = max(WORTH, 1 + 2 * noise)
    for trial in trials:
        faster = []
        if trial.rates.reading > chosen.reading * worth:
            faster.append(f"reads {trial.rates.reading / chosen.reading:.2f} times as fast")
        if trial.rates.writing > chosen.writing * worth:
            faster.append(f"writes {trial.rates.writing / chosen.writing:.2f} times as fast")
        if faster:
            yield f"{trial.setting} {trial.value} {' and '.join(faster)}"


def _variants(info: GgufInfo, chosen: LoadOptions) -> Iterator[tuple[str, str, LoadOptions]]:
    for threads in dict.fromkeys((1, max(1, chosen.n_threads // 2))):
        if threads != chosen.n_threads:
            yield "threads", str(threads), replace(chosen, n_threads=threads)
    for batch in BATCHES:
        if batch != chosen.n_batch:
            yield "batch", str(batch), replace(chosen, n_batch=batch)
    if chosen.type_v == "f16":
        flash = not chosen.flash_attn
        yield "flash attention", "on" if flash else "off", replace(chosen, flash_attn=flash)
    other = "q8_0" if chosen.type_k == "f16" else "f16"
    if of_file(info).kv_blocks:
        yield "KV type", other, replace(chosen, type_k=other, type_v=other, flash_attn=True)


def _prompt(runtime: Runtime, options: LoadOptions) -> list[int]:
    """As many tokens of code as the model reads in a few seconds, at most a batch of the usual size."""
    ids = runtime.vocabulary.encode(_TEXT * 40)
    most = min(READ_TOKENS, runtime.n_ctx - WRITTEN_TOKENS - 1)
    runtime.prefill(ids[:_PILOT], None, lambda: False)  # the first call pays for what is set up once
    runtime.forget(0)
    started = time.perf_counter()
    runtime.prefill(ids[: 2 * _PILOT], None, lambda: False)
    rate = 2 * _PILOT / (time.perf_counter() - started)
    return ids[: max(_LEAST_READ, min(most, int(rate * READ_SECONDS)))]


def measured(runtime: Runtime, ids: Sequence[int], written: int = 0) -> tuple[Rates, int]:
    """The best rates of two rounds with these tokens, and how many were written: `written`, or what seconds allow.

    Other work on a machine can only slow a round down.
    """
    rates, count = _round(runtime, ids, written)
    for _ in range(_ROUNDS - 1):
        again, _ = _round(runtime, ids, count)
        rates = Rates(max(rates.reading, again.reading), max(rates.writing, again.writing))
    return rates, count


def _round(runtime: Runtime, ids: Sequence[int], written: int) -> tuple[Rates, int]:
    runtime.forget(0)
    runtime.prefill(ids[:8], None, lambda: False)
    runtime.forget(0)
    started = time.perf_counter()
    runtime.prefill(ids, None, lambda: False)
    reading = len(ids) / (time.perf_counter() - started)
    sampler = runtime.sampler(Sampling())
    token, count, started = sampler.next(), 0, time.perf_counter()
    while count < (written or WRITTEN_TOKENS):
        runtime.append(token)
        token, count = sampler.next(), count + 1
        if not written and count >= _LEAST_WRITTEN and time.perf_counter() - started > _WRITE_SECONDS:
            break
    seconds = time.perf_counter() - started
    sampler.close()
    return Rates(round(reading, 2), round(count / seconds, 2)), count
