"""`agent index`: bring the index up to date and report what was done."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands import Job, JsonOption, RepoOption, tell_stopped, work_on
from agent.commands.check import run_check, run_explain
from agent.output import Output
from agent.safe_text import show_path
from agent.wording import count_text, seconds_text
from indexers.errors import UsageError

if TYPE_CHECKING:
    from indexers.types import IndexReport

INTERRUPTED = 130
_NO_PATH = ("--explain needs a path.", "agent index --explain src/main.py")
_NO_FLAG = ("A path goes with --explain only.", "agent index --explain PATH; another repository: --repo PATH")


def command(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="With --explain: the paths to explain.")
    ] = None,
    repo: RepoOption = Path(),
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Drop the index and build it anew.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="List the files that were skipped.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Change nothing; say what is wrong with the index, and what mends it."),
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say of each PATH why it is in the index, or why not.")
    ] = False,
    background: Annotated[
        bool, typer.Option("--background", help="Leave the vectors to a worker process, and return.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Let a worker in the background finish instead of taking over.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", metavar="SECONDS", min=0, help="Give up after so long, with 75.", show_default=False
        ),
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop a worker in the background.")] = False,
    json: JsonOption = False,
) -> Job:
    """Index a repository: text, keywords and meaning.

    Tracked and untracked files count, ignored ones do not. What has not changed is kept; interrupted with
    Ctrl-C, what is done stays done. search and ask refresh the index themselves.

    search, ask and chat leave files and vectors that are still to come to a worker in the background, which ends by
    itself; agent status shows it. This command takes its work over, unless --wait is given: then it is waited for.
    Either way everything is embedded when it ends with 0.

    --check exits with 2 when something is wrong: the databases themselves, stored lines against the files, vectors,
    and Chroma against what is stored.

    Example: agent index --repo ~/src/click --verbose
    """
    if explain != bool(paths):
        raise UsageError(*(_NO_PATH if explain else _NO_FLAG))
    if check + explain + rebuild > 1:
        raise UsageError("--check, --explain and --rebuild do not go together.", "agent index --help")
    if check:
        return Job(partial(run_check, repo=repo, json=json), json=json)
    if paths:
        return Job(partial(run_explain, repo=repo, paths=paths, json=json), json=json)
    if background + stop + (wait or rebuild or timeout is not None) > 1:
        raise UsageError("--background and --stop go with no other flag but --verbose.", "agent index --help")
    if stop:
        return Job(partial(run_stop, repo=repo, json=json), json=json)
    how: dict[str, Any] = {"rebuild": rebuild, "wait": wait, "timeout": timeout}
    job = partial(run, repo=repo, how=None if background else how, verbose=verbose, json=json)
    return Job(job, json=json)


def run_stop(output: Output, *, repo: Path, json: bool) -> int:
    """Stop the worker of the repository at `repo`, where there is one."""
    with work_on(output, repo) as work:
        stopped = work.agent.stop_background()
    return tell_stopped(output, stopped, "what is done", json=json)


def run(output: Output, *, repo: Path, how: dict[str, Any] | None, verbose: bool, json: bool) -> int:
    """Index the repository at `repo` and show the report; without `how`, leave the vectors to a worker."""
    with work_on(output, repo) as work:
        report = work.agent.index_in_background() if how is None else work.agent.index(**how)
        work.progress.hide()
        if json:
            output.json(_as_json(report))
        else:
            _show(output, report, verbose)
    return INTERRUPTED if report.interrupted else 0


def _as_json(report: IndexReport) -> dict[str, object]:
    return {
        "indexed": report.indexed,
        "kept": report.kept,
        "removed": report.removed,
        "skipped": [
            {"path": item.path, "reason": item.reason, "detail": item.detail} for item in report.skipped
        ],
        "skipped_by_reason": report.skipped_by_reason(),
        "chunks": report.chunks,
        "vectors_embedded": report.vectors_embedded,
        "vectors_pending": report.vectors_pending,
        "redactions": report.redactions,
        "seconds": round(report.seconds, 3),
        "interrupted": report.interrupted,
        "notes": report.notes,
    }


def _show(output: Output, report: IndexReport, verbose: bool) -> None:
    if report.interrupted:
        output.note(("interrupted", "yellow"), ": what is done is kept; agent index goes on from here")
    files = [f"{report.indexed:,} indexed", f"{report.kept:,} kept", f"{report.removed:,} removed"]
    output.line(("files    ", "bold"), ", ".join([*files, f"{len(report.skipped):,} skipped"]))
    for reason, count in report.skipped_by_reason().items():
        output.line(f"           {count:>6,}  {reason}")
        if verbose:
            for item in report.skipped:
                if item.reason.value == reason:
                    output.line("                   ", show_path(item.path), (f"  {item.detail}", "dim"))
    output.line(("chunks   ", "bold"), f"{report.chunks:,}")
    pending = f", {report.vectors_pending:,} still to embed" if report.vectors_pending else ""
    output.line(("vectors  ", "bold"), f"{report.vectors_embedded:,} embedded{pending}")
    if report.redactions:
        output.line(
            ("secrets  ", "bold"), f"{count_text(report.redactions, 'secret')} blacked out before storing"
        )
    output.line(("time     ", "bold"), seconds_text(report.seconds))
    for note in report.notes:
        output.warn(note)
