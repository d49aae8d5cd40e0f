"""`agent commit-message`: a subject for what is staged, in the style of the last commits."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.commands import (
    ContextOption,
    Job,
    JsonOption,
    ModelOption,
    NoDownloadOption,
    RepoOption,
    answer_flags,
)
from agent.commands.engine import Engine, with_engine
from agent.output import Output
from agent.safe_text import show_path
from agent.wording import seconds_text

if TYPE_CHECKING:
    from agent.chosen_model import ChosenModel
    from agent.config import Settings
    from chains.commit_message import CommitMessage


@with_engine
def command(
    repo: RepoOption = Path(),
    model: ModelOption = None,
    context_tokens: ContextOption = None,
    no_download: NoDownloadOption = False,
    json: JsonOption = False,
    *,
    engine: Engine,
) -> Job:
    """Write the subject of a commit message for what is staged.

    In the form of the repository's last commits (types, capitals, length), from the staged lines alone. Nothing is
    committed. In a hook (prepare-commit-msg) it reads the index that git is about to commit.

    Example: git commit -e -m "$(agent commit-message)"
    """
    flags = answer_flags(model, context_tokens, None, no_download, engine)
    return Job(partial(run, repo=repo, flags=flags, json=json), json=json)


def run(output: Output, *, repo: Path, flags: Mapping[str, object], json: bool) -> int:
    """Print the message on stdout, everything else on stderr."""
    from agent.chosen_model import ChosenModel
    from agent.config import load_settings, silence_tracing
    from indexers.git import Repository

    silence_tracing()
    repository = Repository.discover(repo)
    settings = load_settings(repository.root, flags)
    output.recolor(settings.color)
    # The index is not needed, and so not opened.
    with output.progress() as progress:
        model = ChosenModel(settings, progress)
        try:
            message = _message(repository, settings, model)
        finally:
            model.close()
    if json:
        output.json(message)
        return 0
    output.line(message.text)
    if message.unread:
        output.warn(f"not read, too long: {', '.join(map(show_path, message.unread))}")
    usage = message.usage
    output.note(
        (f"{model.label()}: {usage.prompt_tokens:,} tokens read, {seconds_text(usage.seconds)}", "dim")
    )
    return 0


def _message(repository: object, settings: Settings, model: ChosenModel) -> CommitMessage:
    from dataclasses import replace

    from agent.hook_environment import index_file
    from chains.commit_message import DEFAULT_CONTEXT_TOKENS, commit_message
    from indexers.git import Repository

    assert isinstance(repository, Repository)
    tokens = settings.context_tokens or DEFAULT_CONTEXT_TOKENS
    found = commit_message(repository, model.llm, context_tokens=tokens, index_file=index_file(repository))
    return replace(found, model=model.label())
