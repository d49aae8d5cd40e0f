"""`agent complete`: text for a place in a file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands import (
    Job,
    JsonOption,
    ModelOption,
    NoDownloadOption,
    RepoOption,
    answer_flags,
    work_on,
)
from agent.commands.engine import Engine, with_engine
from agent.output import Output
from agent.safe_text import show_label
from agent.wording import count_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chains.completing import Completion


@with_engine
def command(
    place: Annotated[
        str,
        typer.Argument(
            metavar="FILE:LINE[:COL]", help="Where, both from 1; without a column at the line's end."
        ),
    ],
    repo: RepoOption = Path(),
    suffix_lines: Annotated[
        int | None,
        typer.Option(
            "--suffix-lines",
            metavar="N",
            min=0,
            max=1000,
            help="Lines behind the place that the model reads (20).",
            show_default=False,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens", metavar="N", min=1, help="The longest text, in tokens (128).", show_default=False
        ),
    ] = None,
    model: ModelOption = None,
    no_download: NoDownloadOption = False,
    json: JsonOption = False,
    *,
    engine: Engine,
) -> Job:
    """Complete code at a place in a file; no file is changed.

    Models that were trained to (CodeLlama 7B, 13B and 70B, Qwen2.5-Coder, StarCoder, DeepSeek-Coder, CodeGemma) fill
    the hole between what stands before and behind it; others go on with what stands before, which is said. Definitions
    of the names in view are looked up and shown to them.

    Example: agent complete src/click/core.py:812 --suffix-lines 10
    """
    flags = answer_flags(model, None, None, no_download, engine)
    limits = {"suffix_lines": suffix_lines, "max_tokens": max_tokens}
    return Job(partial(run, place=place, repo=repo, limits=limits, flags=flags, json=json), json=json)


def run(
    output: Output,
    *,
    place: str,
    repo: Path,
    limits: Mapping[str, int | None],
    flags: Mapping[str, object],
    json: bool,
) -> int:
    """Complete at the place."""
    from agent.completing import parse_place

    path, line, column = parse_place(place)
    with work_on(output, repo, flags) as work:
        found = work.agent.complete(path, line, column, **limits)
        work.progress.hide()
    if json:
        output.json(found)
        return 0
    if found.text:
        stream = output.stream()
        stream.feed(found.text)
        stream.finish()
    _show_cost(output, found)
    return 0


def _show_cost(output: Output, found: Completion) -> None:
    """How it was made, what was read for it, and what that cost."""
    for note in found.notes:
        output.warn(note)
    if not found.text:
        output.note("nothing belongs there, says the model")
    if found.usage.finish_reason == "length":
        output.warn("the text reached its longest length; --max-tokens allows more")
    if found.sources:
        labels = ", ".join(show_label(s.path, s.start_line, s.end_line) for s in found.sources)
        output.note((f"{count_text(len(found.sources), 'definition')} read: {labels}", "dim"))
    usage = found.usage
    read = f"{usage.prompt_tokens:,} tokens read, " if usage.prompt_tokens else ""
    output.note(
        (f"{found.model}: {read}{usage.completion_tokens:,} written, {seconds_text(usage.seconds)}", "dim")
    )
