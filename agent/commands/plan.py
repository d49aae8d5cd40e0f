"""`agent models plan`: what a model takes on this machine, or on one you think of buying."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands import Job, JsonOption
from agent.commands.models import more_directories
from agent.output import Output
from agent.wording import seconds_text
from indexers.errors import UsageError

if TYPE_CHECKING:
    from agent.bench import Expected
    from agent.planning import Subject
    from chains.models.fit import Compute, Fit, Machine

RamOption = Annotated[
    float | None,
    typer.Option("--ram", metavar="GB", min=0.1, help="Suppose so much memory.", show_default=False),
]
VramOption = Annotated[
    str | None,
    typer.Option(
        "--vram", metavar="GB[,GB]", help="Suppose GPUs with so much memory; 0 for none.", show_default=False
    ),
]
_GIB = 2**30
# What `agent.bench.expected` takes for a question.
TYPICAL = "2,400 tokens read and 160 written"


def command(
    name: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="A model, installed or not: codellama-34b:Q4_K_M")
    ],
    context: Annotated[
        int | None,
        typer.Option("--context", metavar="N", min=256, help="The window to plan for.", show_default=False),
    ] = None,
    kv: Annotated[
        str | None,
        typer.Option("--kv", metavar="TYPE", help="How keys and values are kept.", show_default=False),
    ] = None,
    gpu_layers: Annotated[
        int | None,
        typer.Option("--gpu-layers", metavar="N", min=-1, help="Layers on the GPU.", show_default=False),
    ] = None,
    ram: RamOption = None,
    vram: VramOption = None,
    json: JsonOption = False,
) -> Job:
    """Say what a model takes and how it would be loaded.

    Before it is loaded or even fetched; on this machine, or on one that you think of.

    Weights, KV cache and compute buffer are llama.cpp's own numbers, from a load that allocates nothing.

    Example: agent models plan codellama-34b-instruct:Q4_K_M --context 16384 --vram 24
    """
    return Job(
        partial(
            run, name=name, n_ctx=context, kv=kv, gpu_layers=gpu_layers, ram=ram, vram=cards(vram), json=json
        ),
        json=json,
    )


def cards(text: str | None) -> list[float] | None:
    """Gigabytes of each GPU from "24" or "24,24"; an empty list for "0"."""
    if text is None:
        return None
    try:
        sizes = [float(item) for item in text.split(",")]
    except ValueError:
        raise UsageError(f"--vram is {text!r}; it takes gigabytes, as 24 or 24,24.") from None
    if not all(0 <= size < 10_000 for size in sizes):
        raise UsageError(f"--vram is {text!r}; it takes gigabytes, as 24 or 24,24.")
    return [size for size in sizes if size]


def run(
    output: Output,
    *,
    name: str,
    n_ctx: int | None,
    kv: str | None,
    gpu_layers: int | None,
    ram: float | None,
    vram: list[float] | None,
    json: bool,
) -> int:
    """Plan the model and show what it takes at several windows, and what would be chosen."""
    from agent import planning
    from agent.config import load_settings
    from chains.models.fit import Wishes, fit, largest_context

    settings = load_settings(None, {"kv": kv})
    wanted = planning.subject(name, more_directories())
    machine = planning.machine_of(ram, vram, whole=False)
    compute = planning.exactly(wanted)
    wishes = Wishes(n_ctx or 0, gpu_layers=gpu_layers, kv=settings.kv or "")
    chosen = fit(wanted.footprint, machine, wishes)
    chosen = fit(wanted.footprint, machine, wishes, _corrected(wanted, chosen, compute))
    longest = largest_context(wanted.footprint, machine, replace(wishes, n_ctx=0, kv=chosen.kv))
    windows = sorted({*([n_ctx] if n_ctx else planning.LADDER), chosen.n_ctx})
    trained = wanted.footprint.trained_context
    table = [
        _window(wanted, size, kind, compute)
        for size in windows
        if not trained or size <= trained or size == n_ctx
        for kind in _kinds(wanted, settings.kv)
    ]
    if json:
        output.json(_object(wanted, machine, table, chosen, longest))
    else:
        _show(output, wanted, machine, table, chosen, longest)
    return 0 if chosen.fits else 2


def _corrected(wanted: Subject, chosen: Fit, compute: Compute) -> Compute:
    """The arithmetic, by llama.cpp's own number for the choice that it led to."""
    guessed = wanted.footprint.compute_bytes(chosen.n_ctx, chosen.n_batch, chosen.kv)
    factor = compute(chosen.n_ctx, chosen.n_batch, chosen.kv) / max(1, guessed)
    return lambda n_ctx, n_batch, kind: round(factor * wanted.footprint.compute_bytes(n_ctx, n_batch, kind))


def _kinds(wanted: Subject, kv: str | None) -> tuple[str, ...]:
    if kv:
        return (kv,)
    return ("f16", "q8_0") if wanted.footprint.kv_blocks else ("f16",)


def _window(wanted: Subject, n_ctx: int, kind: str, compute: Compute) -> dict[str, Any]:
    weights = wanted.footprint.weights.total
    kept, buffer = wanted.footprint.kv_bytes(n_ctx, kind), compute(n_ctx, min(512, n_ctx), kind)
    return {
        "context": n_ctx,
        "kv": kind,
        "weights_bytes": weights,
        "kv_bytes": kept,
        "compute_bytes": buffer,
        "total_bytes": weights + kept + buffer,
    }


def _object(
    wanted: Subject, machine: Machine, table: list[dict[str, Any]], chosen: Fit, longest: int
) -> dict[str, Any]:
    weights = wanted.footprint.weights
    return {
        "model": wanted.label,
        "installed": wanted.path,
        "weights": {
            "embeddings": weights.embeddings,
            "layers": list(weights.layers),
            "output": weights.output,
        },
        "kv_bytes_per_token": wanted.footprint.kv_bytes(256, "f16") // 256,
        "windows": table,
        "machine": {
            "memory_bytes": machine.memory,
            "gpus": [{"name": gpu.name, "free_bytes": gpu.free} for gpu in machine.gpus],
        },
        "choice": {
            "fits": chosen.fits,
            "context": chosen.n_ctx,
            "kv": chosen.kv,
            "batch": chosen.n_batch,
            "gpu_layers": chosen.gpu_layers,
            "layers": chosen.layers,
            "ram_bytes": chosen.ram.total,
            "vram_bytes": chosen.vram.total,
            "notes": list(chosen.notes),
        },
        "longest_context": longest,
        "expected": _expected(wanted),
    }


def _show(
    output: Output, wanted: Subject, machine: Machine, table: list[dict[str, Any]], chosen: Fit, longest: int
) -> None:
    weights = wanted.footprint.weights
    here = "installed" if wanted.path is not None else "not installed: planned by its published shape"
    output.line((wanted.label, "bold"), f"  {here}")
    layer = sum(weights.layers) / max(1, len(weights.layers))
    output.line(
        f"weights  {_gib(weights.total)}: {len(weights.layers)} layers of {_gib(layer)}, "
        f"output {_gib(weights.output)}, embeddings {_gib(weights.embeddings)}"
    )
    output.line()
    output.line((f"{'window':>8}  {'KV':<5} {'KV cache':>10} {'compute':>10} {'in all':>10}", "bold"))
    for row in table:
        sizes = (_gib(row["kv_bytes"]), f"{row['compute_bytes'] / 2**20:.0f} MiB", _gib(row["total_bytes"]))
        output.line(f"{row['context']:>8,}  {row['kv']:<5} {sizes[0]:>10} {sizes[1]:>10} {sizes[2]:>10}")
    output.line()
    gpus = "".join(f", {gpu.name} {_gib(gpu.free)}" for gpu in machine.gpus) or ", no GPU"
    output.line(("machine  ", "bold"), f"{_gib(machine.memory)} of memory{gpus}")
    if not chosen.fits:
        needed = chosen.ram.total + chosen.vram.total
        output.line(
            ("does not fit: ", "yellow"), f"it takes {_gib(needed)} with a window of {chosen.n_ctx:,} tokens"
        )
        return
    vram = f" and {_gib(chosen.vram.total)} on the GPU" if chosen.vram.total else ""
    output.line(
        ("choice   ", "bold"),
        f"window {chosen.n_ctx:,}, KV {chosen.kv}, batch {chosen.n_batch}, {chosen.layers_text}: "
        f"{_gib(chosen.ram.total)} of memory{vram}",
    )
    for note in chosen.notes:
        output.line(("         ", ""), (note, "yellow"))
    output.line(
        ("longest  ", "bold"), f"a window of {longest:,} tokens fits with {chosen.kv} keys and values"
    )
    _show_time(output, wanted)


def _expected(wanted: Subject) -> Expected | None:
    """How long a typical question takes, from what `agent bench` measured here."""
    from agent.bench import expected

    entry = wanted.entry
    if wanted.path is not None:
        return expected(wanted.path.name, wanted.path.stat().st_size)
    size = entry.bytes if entry is not None and entry.bytes else wanted.footprint.weights.total
    return expected(entry.file if entry is not None else wanted.label, size)


def _show_time(output: Output, wanted: Subject) -> None:
    told = _expected(wanted)
    if told is None:
        output.line(
            ("time     ", "bold"), "not known before agent bench has measured a model on this machine"
        )
        return
    basis = "measured" if told.measured else f"from {told.basis}, by size"
    output.line(
        ("time     ", "bold"),
        f"about {seconds_text(told.first_word)} to the first word of an answer and {seconds_text(told.whole)} to its "
        f"last, {TYPICAL} ({basis})",
    )


def _gib(count: float) -> str:
    return f"{count / _GIB:.2f} GiB"
