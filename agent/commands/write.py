"""`agent write`: edits drafted by the model, checked, shown as a diff, and made when told; `agent undo`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from agent.commands import (
    AnswerOption,
    ContextOption,
    Job,
    JsonOption,
    ModelOption,
    NoDownloadOption,
    RepoOption,
    answer_flags,
    filter_of,
    work_on,
)
from agent.commands.ask import read_question
from agent.commands.engine import Engine, with_engine
from agent.output import Output
from agent.progress_view import ProgressView
from agent.safe_text import show_path
from agent.wording import count_text, seconds_text
from indexers.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

    from agent.writing import Proposal
    from chains.writing.journal import Record
    from chains.writing.types import Check, Stage
    from indexers.filters import Filter

FAILED = 1
_STYLES = {"+": "green", "-": "red", "@": "cyan"}
_HEADS = ("diff ", "--- ", "+++ ", "new file", "deleted file", "rename ", "old mode", "new mode")


@with_engine
def command(
    request: Annotated[
        str, typer.Argument(metavar="REQUEST", help="What to do, in words; - reads it from stdin.")
    ],
    repo: RepoOption = Path(),
    apply: Annotated[
        bool, typer.Option("--apply", help="Make the edits if they pass the checks, without asking.")
    ] = False,
    files: Annotated[
        list[str] | None,
        typer.Option(
            "--files",
            metavar="GLOB",
            help="Only files it covers may change, as in a .gitignore; '!GLOB' leaves out. Repeatable.",
            show_default=False,
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            "--test",
            metavar="CMD",
            help="A command that has to pass, run in a copy first.",
            show_default=False,
        ),
    ] = None,
    test_seconds: Annotated[
        float | None,
        typer.Option(
            "--test-seconds",
            metavar="N",
            min=1,
            help="The longest run of a command. [default: 120]",
            show_default=False,
        ),
    ] = None,
    max_rounds: Annotated[
        int | None,
        typer.Option(
            "--max-rounds",
            metavar="N",
            min=1,
            max=10,
            help="Drafts at most. [default: 3]",
            show_default=False,
        ),
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Print new code, made of what the repository has; edit nothing.")
    ] = False,
    allow_sensitive: Annotated[
        bool,
        typer.Option(
            "--allow-sensitive", help="Also files that run later (hooks, CI, build scripts) and new modes."
        ),
    ] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Show every prompt and reply on stderr.")] = False,
    model: ModelOption = None,
    context_tokens: ContextOption = None,
    max_tokens: AnswerOption = None,
    no_download: NoDownloadOption = False,
    json: JsonOption = False,
    *,
    engine: Engine,
) -> Job:
    """Write an edit: drafted, checked, shown as a diff. Nothing changes until you say so.

    The model chooses among lines that exist, so its edits always apply; what does not parse or uses names that
    nothing defines goes back to it. On a terminal you are asked; elsewhere --apply makes the edit. agent undo takes it
    back.

    Example: agent write "add a --json flag to the list command" --test "python -m pytest -q tests/test_list.py"
    """
    if new and (apply or files or test):
        raise UsageError("--new prints code and edits nothing: it takes no --apply, --files or --test.")
    flags = answer_flags(model, context_tokens, max_tokens, no_download, engine)
    limits = {"test": test, "seconds": test_seconds, "rounds": max_rounds}
    only = filter_of(files, None, False)
    job = partial(
        run,
        request=request,
        repo=repo,
        only=only,
        flags=flags,
        limits=limits,
        apply=apply,
        new=new,
        allow_sensitive=allow_sensitive,
        trace=trace,
        json=json,
    )
    return Job(job, json=json)


def run(
    output: Output,
    *,
    request: str,
    repo: Path,
    only: Filter,
    flags: Mapping[str, object],
    limits: Mapping[str, Any],
    apply: bool,
    new: bool,
    allow_sensitive: bool,
    trace: bool,
    json: bool,
) -> int:
    """Draft the edit, show it, and make it when told."""
    asked = read_question(output, request)
    with work_on(output, repo, flags) as work:
        if new:
            from agent.commands.write_new import print_new

            return print_new(output, work, asked, json=json)
        items = work.agent.writing(asked, only=only, **limits)
        proposal = show_stages(output, work.progress, items)
        work.progress.hide()
        if trace:
            show_trace(output, proposal)
        if not json:
            show_proposal(output, proposal)
        yes = apply and proposal.passed
        sensitive = allow_sensitive
        if not json and not apply and output.typed and proposal.edits:
            yes, sensitive = confirmed(output, proposal, allow_sensitive)
        applied = yes and bool(proposal.apply(allow_sensitive=sensitive, unchecked=not apply))
    if json:
        output.json(_object(proposal, applied))
    elif applied:
        output.note(("applied; agent undo takes it back", "green"))
    return 0 if proposal.passed or applied else FAILED


def show_stages(output: Output, progress: ProgressView, items: Iterator[Stage | Proposal]) -> Proposal:
    """Show each state on stderr as it ends; give back the proposal that ends them."""
    from chains.writing.types import Stage

    proposal: Proposal | None = None
    # Closing the iterator is what stops the model, also when Ctrl-C was pressed.
    with closing(cast("Generator[Stage | Proposal, Any, Any]", items)) as states:
        for item in states:
            if isinstance(item, Stage):
                progress.hide()
                first = " ".join(item.detail.split("\n", 1)[0].split())[:160]
                output.note((f"{item.name:<8} {first} ({seconds_text(item.seconds)})", "dim"))
                progress.show()
            else:
                proposal = item
    assert proposal is not None, "the states end with a proposal"
    return proposal


def show_proposal(output: Output, proposal: Proposal) -> None:
    """The diff on stdout; what was checked, what needs a yes, and what it cost, on stderr."""
    for line in proposal.diff.split("\n")[:-1]:
        style = "bold" if line.startswith(_HEADS) else _STYLES.get(line[:1], "")
        output.line((line, style))
    if not proposal.edits:
        output.warn(proposal.reason or "There is nothing to change.")
    for check in proposal.checks:
        output.note(*_check_line(check))
    for concern in proposal.concerns:
        output.warn(f"{show_path(concern.path)} needs a yes of its own: {concern.reason}")
    usage = proposal.usage
    output.note(
        (
            f"{proposal.model}: {count_text(proposal.rounds, 'round')}, {usage.prompt_tokens:,} tokens read "
            f"({usage.cached_tokens:,} from cache), {usage.completion_tokens:,} written, {seconds_text(usage.seconds)}",
            "dim",
        )
    )


def _check_line(check: Check) -> list[tuple[str, str]]:
    mark, style = {True: ("+", "green"), False: ("!", "red" if check.required else "yellow")}.get(
        cast("bool", check.ok), ("?", "yellow")
    )
    return [(f"  {mark} {check.name}", style), (f"  {check.detail}" if check.detail else "", "")]


def confirmed(output: Output, proposal: Proposal, allow_sensitive: bool) -> tuple[bool, bool]:
    """Whether the person wants the edit, and that of files that run later: a question of its own."""
    warning = "" if proposal.passed else "although checks fail "
    if not _yes(output, f"Apply {warning}[y/N] "):
        return False, allow_sensitive
    for concern in () if allow_sensitive else proposal.concerns:
        if not _yes(output, f"{show_path(concern.path)}: {concern.reason}. Really? [y/N] "):
            return False, False
    return True, True


def _yes(output: Output, question: str) -> bool:
    return (output.read_line(question) or "").strip().lower() in ("y", "yes")


def show_trace(output: Output, proposal: Proposal) -> None:
    """Every prompt and reply, in order."""
    for exchange in proposal.exchanges:
        output.trace(
            f"=== {exchange.stage}: prompt\n{exchange.prompt}\n=== {exchange.stage}: reply\n{exchange.reply}\n"
        )


def _object(proposal: Proposal, applied: bool) -> dict[str, object]:
    return {
        "request": proposal.request,
        "edits": [_edit(edit) for edit in proposal.edits],
        "diff": proposal.diff,
        "checks": proposal.checks,
        "passed": proposal.passed,
        "applied": applied,
        "rounds": proposal.rounds,
        "reason": proposal.reason,
        "concerns": proposal.concerns,
        "sources": [source.label for source in proposal.sources],
        "usage": proposal.usage,
        "model": proposal.model,
    }


def _edit(edit: Any) -> dict[str, object]:
    names = ("path", "start_line", "end_line", "text", "blob", "to", "mode")
    return {"kind": edit.kind.value, **{name: getattr(edit, name) for name in names}}


# -- undo ------------------------------------------------------------------------------------------


def undo_command(repo: RepoOption = Path(), json: JsonOption = False) -> Job:
    """Take back the last edit of agent write, bytes and modes.

    Refused where one of its files was changed since. Again, it takes back the edit before that one.

    Example: agent undo
    """
    return Job(partial(undo_run, repo=repo, json=json), json=json)


def undo_run(output: Output, *, repo: Path, json: bool) -> int:
    """Undo, and say what was undone."""
    from agent.writing import recovered, undo_last
    from indexers.git import Repository

    repository = Repository.discover(repo)
    for told in recovered(repository):
        output.warn(told)
    record: Record = undo_last(repository)
    paths = [entry.path for entry in record.entries]
    if json:
        output.json({"undone": paths, "request": record.request})
        return 0
    output.line(f"undone: {record.request}" if record.request else "undone")
    for path in paths:
        output.line("  ", (show_path(path), "cyan"))
    return 0
