"""The model layer of a review where the user's own settings name a server for the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.config import Settings, silence_tracing
from agent.verdicts import StoredVerdicts
from chains.review import Reader, Verdict
from chains.reviewing.context import ContextFinder
from chains.reviewing.reader import ModelReader, ReaderOptions
from chains.reviewing.types import Reason
from indexers.errors import AgentError

if TYPE_CHECKING:
    from chains.engines import ServerModel
    from chains.reviewing.checks.uses import Tree
    from indexers.git import Repository


def server_reader(
    repository: Repository, settings: Settings, name: str | None, tree: Tree | None
) -> Callable[[], Reader | Verdict]:
    """What makes the reader when there is something to read; or says that the server cannot be used.

    No calibration: what a server's model is may change without a word.
    """

    def make() -> Reader | Verdict:
        silence_tracing()
        try:
            llm = _model(settings, name)
            llm.load()
        except AgentError as error:
            return Verdict(unreviewed=Reason.MODEL_FAILED, detail=error.message)
        options = ReaderOptions()
        context = ContextFinder(tree, options.context_chars)
        identity = f"{llm.base_url} {llm.label}"
        return ModelReader(llm.label, identity, lambda: llm, context, options, StoredVerdicts.of(repository))

    return make


def _model(settings: Settings, name: str | None) -> ServerModel:
    from agent.chosen_model import ChosenModel
    from chains.engines import ServerModel

    wanted = replace(settings, model=name or settings.review_model or settings.model, temperature=0.0, seed=0)
    llm = ChosenModel(wanted, lambda event: None).llm
    assert isinstance(llm, ServerModel)
    return llm


def sent_to(settings: Settings) -> str:
    """A sentence about where the change goes to be read; empty where it stays on this machine."""
    from chains.server.endpoints import endpoint

    if settings.engine != "openai" or not settings.base_url:
        return ""
    where = endpoint(settings.base_url)
    return (
        ""
        if where.loopback
        else f"sent to {where.host}: the hunks that its model reads, with code around them"
    )
