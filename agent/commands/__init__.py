"""What commands share: the job a parsed command line becomes, common options, opening a repository."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.output import Output
from agent.progress_view import ProgressView
from indexers.errors import UsageError
from indexers.filters import Filter

if TYPE_CHECKING:
    from agent.api import Agent
    from agent.config import Settings

RepoOption = Annotated[
    Path,
    typer.Option("--repo", metavar="PATH", help="The repository, or a directory in it.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME|FILE", help="A model's name, or a GGUF file.", show_default=False),
]
ContextOption = Annotated[
    int | None,
    typer.Option(
        "--context-tokens", metavar="N", min=256, help="Tokens of source text to read.", show_default=False
    ),
]
AnswerOption = Annotated[
    int | None,
    typer.Option(
        "--max-tokens", metavar="N", min=1, help="The longest answer, in tokens.", show_default=False
    ),
]
NoDownloadOption = Annotated[
    bool, typer.Option("--no-download", help="Fail rather than fetch a missing model.")
]
ExactOption = Annotated[
    bool, typer.Option("--exact", help="Read every source behind those before it, never join them.")
]
FastOption = Annotated[
    bool, typer.Option("--fast", help="Join sources that were read before as they are: quickest, less exact.")
]
PreviewOption = Annotated[
    bool | None,
    typer.Option(
        "--preview/--no-preview",
        help="Say something from what is quickly read while the sources are: on a terminal, unless set otherwise.",
        show_default=False,
    ),
]
PathOption = Annotated[
    list[str] | None,
    typer.Option(
        "--path",
        metavar="GLOB",
        help="Only files it covers, as in a .gitignore: 'src/**', '*.py', docs/; '!GLOB' leaves out. Repeatable.",
        show_default=False,
    ),
]
LangOption = Annotated[
    list[str] | None,
    typer.Option(
        "--lang",
        metavar="NAME",
        help="Only files in this language: python, js, c++. Repeatable.",
        show_default=False,
    ),
]
NoTestsOption = Annotated[bool, typer.Option("--no-tests", help="Leave out tests.")]


@dataclass(frozen=True, slots=True)
class Job:
    """A parsed command: `run` does it and returns the exit code; `json` says how its errors are told."""

    run: Callable[[Output], int]
    json: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """An open repository, the settings it was opened with, and the progress view its work reports to."""

    agent: Agent
    settings: Settings
    progress: ProgressView


@contextmanager
def work_on(output: Output, repo: Path, flags: Mapping[str, object] | None = None) -> Iterator[Work]:
    """Open the repository at `repo` with its settings; close it, and tell what was noted meanwhile."""
    from agent.api import Agent
    from agent.config import load_settings
    from agent.writing import recovered
    from indexers.git import Repository

    settings = load_settings(Repository.discover(repo).root, flags)
    output.recolor(settings.color)
    with output.progress() as progress:
        agent = Agent.open(repo, settings=settings, on_progress=progress, background=settings.background)
        agent.notes += recovered(agent.repository)
        try:
            yield Work(agent, settings, progress)
        finally:
            agent.close()
            progress.hide()
            tell_notes(output, agent)


def tell_notes(output: Output, agent: Agent) -> None:
    """Tell what the agent noted since the last time, and what was given up so that the model fits."""
    while agent.notes:
        output.warn(agent.notes.pop(0))
    for note in agent.model.take_notes():
        output.warn(note)


def filter_of(path: list[str] | None, lang: list[str] | None, no_tests: bool) -> Filter:
    """The flags that limit which files are searched, as one value.

    :raises UsageError: a pattern that can match nothing, or an unknown language.
    """
    return Filter(paths=path or (), languages=lang or (), tests=not no_tests)


def reading_of(exact: bool, fast: bool) -> str | None:
    """The flags that say how sources are read, as a setting; None is "not given".

    :raises UsageError: both.
    """
    if exact and fast:
        raise UsageError("--exact and --fast say the opposite of one another.", "Give one of them.")
    return "exact" if exact else "fast" if fast else None


def answer_flags(
    model: str | None,
    context_tokens: int | None,
    max_tokens: int | None,
    no_download: bool,
    engine: Mapping[str, object] | None = None,
    reading: str | None = None,
    preview: bool | None = None,
) -> dict[str, object]:
    """The flags of commands that answer, as settings; None is "not given". `engine` is what `with_engine` gives."""
    return {
        "reading": reading,
        "preview": None if preview is None else "always" if preview else "never",
        **(engine or {}),
        "model": model,
        "context_tokens": context_tokens,
        "max_tokens": max_tokens,
        "download": False if no_download else None,
    }


def tell_stopped(output: Output, stopped: bool, kept: str, *, json: bool) -> int:
    """Say whether there was a worker to stop, and what of its work is kept; the exit code."""
    if json:
        output.json({"stopped": stopped})
    else:
        output.line(f"the worker was stopped; {kept} is kept" if stopped else "no worker is running")
    return 0
