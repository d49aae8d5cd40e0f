"""`agent map`: the most important definitions of a repository, within a budget of tokens."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands import (
    Job,
    JsonOption,
    LangOption,
    NoTestsOption,
    PathOption,
    RepoOption,
    filter_of,
    work_on,
)
from agent.output import Output
from chains.search.repo_map import DEFAULT_TOKENS, LEAST_TOKENS

if TYPE_CHECKING:
    from indexers.filters import Filter

_STYLES = {"file": "bold cyan", "entry": "dim", "more": "dim"}


def command(
    tokens: Annotated[
        int, typer.Option("--tokens", metavar="N", min=LEAST_TOKENS, help="What the map may cost, in tokens.")
    ] = DEFAULT_TOKENS,
    focus: Annotated[
        list[str] | None,
        typer.Option(
            "--focus",
            metavar="PATH|NAME",
            help="See importance from a file, a directory or a definition. Repeatable.",
            show_default=False,
        ),
    ] = None,
    path: PathOption = None,
    lang: LangOption = None,
    no_tests: NoTestsOption = False,
    repo: RepoOption = Path(),
    json: JsonOption = False,
) -> Job:
    """Outline a repository: its most important definitions.

    What is important is told by who uses whose names. Tokens are counted as about four characters each. The map is
    the same as long as the tree is.

    Example: agent map --tokens 500 --focus src/server.py
    """
    only = filter_of(path, lang, no_tests)
    job = partial(run, tokens=tokens, focus=tuple(focus or ()), only=only, repo=repo, json=json)
    return Job(job, json=json)


def run(output: Output, *, tokens: int, focus: tuple[str, ...], only: Filter, repo: Path, json: bool) -> int:
    """Show the map, the most important file first."""
    with work_on(output, repo) as work:
        found = work.agent.map(tokens, focus=focus, only=only)
        work.progress.hide()
        if json:
            output.json(found)
            return 0
    for line in found.lines():
        output.line((line.head, _STYLES[line.role]), line.text)
    output.note((f"{found.tokens:,} of {found.budget:,} tokens, {found.counted}", "dim"))
    return 0
