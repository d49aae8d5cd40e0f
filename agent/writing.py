"""From a request to a proposal: read the tree, run the machine, and apply or take back what it proposes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import user_environment
from agent.loading import Background
from agent.paths import edits_dir, edits_place
from chains.search.query import STOP_WORDS
from chains.types import Source, Usage
from chains.writing.apply import apply, recover, undo
from chains.writing.diffs import unified_diff
from chains.writing.edits import Edit, FileChange
from chains.writing.jail import hook_places
from chains.writing.journal import Journal, Record
from chains.writing.policy import Concern, PolicyError, concerns
from chains.writing.types import Check, Draft, Exchange, Stage, WriteSettings
from indexers.errors import AgentError, UsageError
from indexers.filters import EVERYTHING, Filter
from indexers.tokens import tokenize

if TYPE_CHECKING:
    from agent.chosen_model import ChosenModel
    from agent.workspace import Workspace
    from chains.writing.material import Material
    from indexers.git import Repository
    from indexers.types import Hit

# What git leaves in its directory while something is under way.
_UNDER_WAY = {
    "MERGE_HEAD": "a merge",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "BISECT_LOG": "a bisection",
}
# What every request says, whatever it is about.
_WISHES = frozenset(
    tokenize("add make write create change implement fix function method class file code new return")
)
_LOOKED_AT, _SHARED = 5, 0.25


class ChecksFailed(AgentError):
    """A proposal that does not pass its checks was to be applied."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Edits that were drafted and checked; nothing is written until `apply`.

    `edits` are empty when there is nothing to do, `reason` says why. `concerns` are files that need a yes of their own.
    """

    request: str
    edits: tuple[Edit, ...]
    diff: str
    checks: tuple[Check, ...]
    rounds: int
    reason: str = ""
    concerns: tuple[Concern, ...] = ()
    sources: tuple[Source, ...] = ()
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    exchanges: tuple[Exchange, ...] = field(default=(), repr=False)
    changes: tuple[FileChange, ...] = field(default=(), repr=False)
    repository: Repository | None = field(default=None, repr=False)

    @property
    def passed(self) -> bool:
        """Whether there are edits, and every required check holds."""
        return bool(self.edits) and not any(check.failed for check in self.checks)

    def apply(self, *, allow_sensitive: bool = False, unchecked: bool = False) -> Record:
        """Make the edits: all of them or none. The index and history of git are not touched.

        :param allow_sensitive: the yes for `concerns`.
        :param unchecked: apply although checks fail.
        :raises PolicyError: something needs that yes, or is never written.
        :raises ChecksFailed: a required check fails.
        :raises ChangedError: a file changed since it was read.
        """
        if not self.edits or self.repository is None:
            raise UsageError(f"There is nothing to apply. {self.reason}".strip())
        failed = [check.name for check in self.checks if check.failed]
        if failed and not unchecked:
            raise ChecksFailed(
                f"The proposal was not applied: it fails {', '.join(failed)}.",
                "Look at it, and say more: agent write --trace",
            )
        if self.concerns and not allow_sensitive:
            raise PolicyError(_told(self.concerns), "Allow it for this one proposal: --allow-sensitive")
        journal = Journal(edits_dir(self.repository))
        gits = (self.repository.git_dir, self.repository.common_dir)
        return apply(self.repository.root, self.changes, journal, self.request, gits=gits)

    def undo(self) -> Record:
        """Take the last applied edit of this repository back."""
        assert self.repository is not None
        return undo_last(self.repository)

    def _repr_markdown_(self) -> str:
        """How a notebook shows a proposal: its diff, then its checks."""
        from chains.writing.replies import Fence

        if not self.edits:
            return self.reason
        lines = [Fence.around(self.diff, "diff").block(self.diff)]
        lines += [
            f"- {check.name}: {'yes' if check.ok else 'no' if check.ok is False else '?'}"
            for check in self.checks
        ]
        return "\n".join(lines)


def undo_last(repository: Repository) -> Record:
    """Take the last applied edit back: bytes and modes.

    :raises ChangedError: its files changed since.
    """
    return undo(repository.root, Journal(edits_dir(repository)))


def recovered(repository: Repository) -> list[str]:
    """End what a killed process began to write; sentences about it. Nothing is created where nothing was."""
    journal = Journal(edits_place(repository))
    return recover(repository.root, journal) if journal.has_pending() else []


def writing(
    workspace: Workspace,
    model: ChosenModel,
    request: str,
    settings: WriteSettings,
    *,
    only: Filter = EVERYTHING,
) -> Iterator[Stage | Proposal]:
    """Each state of the machine as it ends, then the proposal. Closing the iterator stops the model."""
    request = " ".join(request.split("\0")).strip()
    if not request:
        raise UsageError(
            "The request is empty.", 'Say what to do: agent write "add a --json flag to the list command"'
        )
    from chains.writing.trials import check_commands

    check_commands(settings, workspace.repository.root, user_environment())
    workspace.notes += recovered(workspace.repository)
    began = time.monotonic()
    workspace.refresh()
    _tell_what_is_under_way(workspace)
    # The weights load while LangGraph is imported and the tree is searched.
    loading = Background(model.llm.load)
    workspace.ready_embedder(download=True)
    from chains.write import write

    with workspace.guarded():
        material = replace(material_of(workspace, only), local=model.is_local)
        loading.wait()
        for item in write(request, material, model.llm, settings, workspace.progress):
            yield _proposal(item, workspace, model.label(), began) if isinstance(item, Draft) else item
    workspace.go_on_behind()


def material_of(workspace: Workspace, only: Filter) -> Material:
    """What the machine reads of this workspace."""
    from chains.writing.material import Material

    def search(query: str) -> tuple[Sequence[Hit], bool]:
        # From everywhere: what may not be changed may be used.
        return sought(workspace, query)

    return Material(workspace.repository, search, workspace.names(), only, user_environment())


def sought(workspace: Workspace, query: str, only: Filter = EVERYTHING) -> tuple[Sequence[Hit], bool]:
    """What a request is to be written with, whole, and whether it is about that at all."""
    from chains.search.reading import read_for

    reading = read_for(query, workspace.search(only), workspace.names(), briefs=False)
    return reading.hits, reading.relevant or shares_words(query, reading.hits)


def shares_words(request: str, hits: Sequence[Hit]) -> bool:
    """Whether what was found holds words of a request. A wish for something new is seldom about what is there."""
    wanted = set(tokenize(request)) - STOP_WORDS - _WISHES
    found = {word for hit in hits[:_LOOKED_AT] for word in tokenize(f"{hit.path} {hit.text}")}
    return len(wanted & found) >= max(1, len(wanted) * _SHARED)


def write_settings(workspace: Workspace, **given: object) -> WriteSettings:
    """Bounds and commands: what is given, else what the settings say, else the defaults. None is "not given"."""
    settings = workspace.settings
    chosen: dict[str, object] = {"linter": settings.linter, "formatter": settings.formatter}
    chosen |= {"context_tokens": settings.context_tokens, "max_tokens": settings.max_tokens}
    chosen |= {name: value for name, value in given.items() if value is not None}
    return WriteSettings(**{name: value for name, value in chosen.items() if value is not None})  # type: ignore[arg-type]


def _proposal(draft: Draft, workspace: Workspace, model: str, began: float) -> Proposal:
    return Proposal(
        draft.request,
        draft.edits,
        unified_diff(draft.changes),
        draft.checks,
        draft.rounds,
        draft.reason,
        tuple(concerns(draft.changes, hook_places(workspace.repository) if draft.changes else ())),
        draft.sources,
        draft.usage,
        model,
        draft.exchanges,
        draft.changes,
        workspace.repository,
    )


def _tell_what_is_under_way(workspace: Workspace) -> None:
    for name, what in _UNDER_WAY.items():
        if Path(workspace.repository.git_dir, name).exists():
            workspace.note(f"{what} is under way in this work tree; files with conflict marks are left alone")


def _told(found: Sequence[Concern]) -> str:
    listed = "; ".join(f"{concern.path} ({concern.reason})" for concern in found)
    return f"This needs a yes of its own, for what it does later: {listed}."
