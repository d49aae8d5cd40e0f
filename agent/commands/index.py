"""`agent index`: bring the index up to date and report what was done."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands import Job, JsonOption, RepoOption, work_on
from agent.output import Output, count_text, seconds_text, show_path

if TYPE_CHECKING:
    from indexers.types import IndexReport

INTERRUPTED = 130


def command(
    repo: RepoOption = Path(),
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Drop the index and build it anew.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="List the files that were skipped.")
    ] = False,
    json: JsonOption = False,
) -> Job:
    """Index a repository: its text, its keywords and its meaning.

    Tracked and untracked files count, ignored ones do not. What has not changed is kept; interrupted with
    Ctrl-C, what is done stays done. search and ask refresh the index themselves.

    Example: agent index --repo ~/src/click --verbose
    """
    return Job(partial(run, repo=repo, rebuild=rebuild, verbose=verbose, json=json), json=json)


def run(output: Output, *, repo: Path, rebuild: bool, verbose: bool, json: bool) -> int:
    """Index the repository at `repo` and show the report."""
    with work_on(output, repo) as work:
        report = work.agent.index(rebuild=rebuild)
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
