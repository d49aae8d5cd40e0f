"""`agent bench`: how fast a model is on this machine, and what bounds it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands import Job, JsonOption, NoDownloadOption, answer_flags
from agent.commands.engine import Engine, with_engine
from agent.output import Output
from agent.wording import size_text
from indexers.types import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chains.models.bench import Bench

# The same settings differ by a few per cent on a machine that does nothing else.
_NOISY = 0.15


@with_engine
def command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="A model's name or a GGUF file; none: the one in use."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only the settings that would be used.")] = False,
    no_download: NoDownloadOption = False,
    json: JsonOption = False,
    *,
    engine: Engine,
) -> Job:
    """Measure how fast a model loads, reads and writes here.

    And what other settings would do.

    The share of the memory's speed says whether a faster setting could help: near 100% only a smaller model or faster
    memory does. The result is kept, and agent models plan tells from it how long a question takes.

    Example: agent bench qwen2.5-coder-1.5b-instruct
    """
    flags = answer_flags(model, None, None, no_download, engine)
    return Job(partial(run, flags=flags, quick=quick, json=json), json=json)


def run(output: Output, *, flags: Mapping[str, object], quick: bool, json: bool) -> int:
    """Measure the model that the flags and settings choose."""
    from agent import bench
    from agent.chosen_model import ChosenModel
    from agent.config import load_settings

    with output.progress() as progress:
        model = ChosenModel(load_settings(None, flags), progress)

        def tell(done: int, total: int, detail: str) -> None:
            progress(Progress("measuring", done, total, detail))

        found = bench.run(model, trials=not quick, progress=tell)
    if json:
        output.json(found)
        return 0
    _show(output, found)
    return 0


def _show(output: Output, found: Bench) -> None:
    rates = found.rates
    output.line((found.model, "bold"), f"  {found.quantization}, {size_text(found.file_bytes)}")
    output.line(f"  loads in   {found.load_seconds:.1f} s")
    output.line(f"  reads      {rates.reading:.1f} tokens a second ({found.read_tokens} tokens)")
    output.line(f"  writes     {rates.writing:.1f} tokens a second ({found.written_tokens} tokens)")
    where = "" if not found.gpu_layers else " (weights on a GPU do not count against it)"
    output.line(
        f"  memory     {found.bandwidth / 1e9:.1f} GB/s with {found.threads} threads: at most {found.limit:.1f} tokens "
        f"a second, {found.share:.0%} of that reached{where}"
    )
    output.line()
    flash = "on" if found.flash_attn else "off"
    output.line(
        ("Settings", "bold"),
        f"  threads {found.threads}, batch {found.n_batch}, flash attention {flash}, KV {found.kv}",
    )
    for trial in found.trials:
        reads, writes = f"reads {trial.rates.reading:>8.1f}", f"writes {trial.rates.writing:>7.1f}"
        output.line(f"  {trial.setting + ' ' + trial.value:<22} {reads}   {writes}")
    for line in found.advice:
        output.line(("  faster: ", "green"), line)
    if found.trials and not found.advice:
        output.line("  none of these is faster than what is chosen, by more than noise")
    if found.noise > _NOISY:
        output.warn(
            f"the machine was busy: the same settings differed by {found.noise:.0%}. Measure again when it is quiet."
        )
