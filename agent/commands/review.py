"""`agent review`: a second reader for what is about to be committed, for a commit, a range or a patch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands import Job, ModelOption, RepoOption
from agent.commands.engine import Engine, with_engine
from agent.output import Output
from indexers.errors import UsageError

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.review import Request
    from chains.reviewing.types import ReviewReport
    from indexers.git import Repository

FORMATS = ("text", "json", "sarif", "github")
_MOST_DIFF_BYTES = 64_000_000


@with_engine
def command(
    staged: Annotated[bool, typer.Option("--staged", help="What is staged; the default.")] = False,
    range_: Annotated[
        str | None,
        typer.Option("--range", metavar="A..B", help="What B has since it left A.", show_default=False),
    ] = None,
    commit: Annotated[
        str | None,
        typer.Option("--commit", metavar="REV", help="What one commit changed.", show_default=False),
    ] = None,
    diff: Annotated[
        str | None,
        typer.Option(
            "--diff", metavar="FILE|-", help="A unified diff, from a file or stdin.", show_default=False
        ),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="text|json|sarif|github", help="How to report.")
    ] = "text",
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    block_at: Annotated[
        str | None,
        typer.Option(
            "--block-at",
            metavar="low|medium|high|critical",
            help="Fail from this severity on. [default: high]",
            show_default=False,
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail (3) where something was not reviewed; for CI.")
    ] = False,
    deadline: Annotated[
        float | None,
        typer.Option(
            "--deadline",
            metavar="SECONDS",
            min=1,
            max=86_400,
            help="Stop after so long. [default: 20]",
            show_default=False,
        ),
    ] = None,
    model: ModelOption = None,
    no_model: Annotated[bool, typer.Option("--no-model", help="Only the checks that need no model.")] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline",
            metavar="FILE",
            help="Accepted findings, instead of your own list.",
            show_default=False,
        ),
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Accept what is found now: it is not reported again.")
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate", help="Measure the model on this repository's history, and set its threshold."
        ),
    ] = False,
    last: Annotated[
        int, typer.Option("--last", metavar="N", min=4, max=1000, help="With --calibrate: how many commits.")
    ] = 40,
    repo: RepoOption = Path(),
    *,
    engine: Engine,
) -> Job:
    """Review a change: checks that always run, then a model.

    Checks: secrets, merge markers, hidden Unicode, broken syntax, debugging leftovers, changes to what runs by itself,
    callers of what was removed. What could not be reviewed in time is listed, and never called fine.

    Exit code: 0 nothing blocks, 1 a finding blocks, 2 an error, 3 with --strict: not reviewed in full.

    A line with "agent: ignore[CATEGORY]" in it switches that category off for itself.

    Example: agent review --range main..HEAD --format sarif --strict > review.sarif
    """
    if staged and (commit, range_, diff) != (None, None, None):
        raise UsageError("--staged is one thing to review, and another is named too.", "Name one of them.")
    chosen = "json" if json else format_
    if chosen not in FORMATS:
        raise UsageError(f"There is no format {format_!r}.", f"Choose one of {', '.join(FORMATS)}.")

    if accept and chosen in ("sarif", "github"):
        raise UsageError(f"What is accepted is not told as {chosen}.", "Use --format text or json.")
    if calibrate:
        return Job(
            partial(run_calibration, model=model, last=last, repo=repo, json=chosen == "json", flags=engine),
            json=chosen == "json",
        )

    def request(output: Output, repository: Repository) -> Request:
        from agent.hook_environment import index_file
        from agent.review import Request

        return Request(
            commit=commit,
            range=range_,
            diff=_patch(output, diff) if diff is not None else None,
            index_file=index_file(repository),
            block_at=_severity(block_at),
            strict=strict,
            deadline=deadline,
            use_model=not no_model,
            model=model,
            baseline=baseline,
        )

    job = partial(run, request=request, form=chosen, accept=accept, repo=repo, flags=engine)
    return Job(job, json=chosen != "text")


def run(
    output: Output,
    *,
    request: Callable[[Output, Repository], Request],
    form: str,
    accept: bool,
    repo: Path,
    flags: Mapping[str, object],
) -> int:
    """Review, report, and say by the exit code whether it may pass."""
    from agent.config import load_settings
    from agent.guard import began
    from indexers.git import Repository

    started = began()
    repository = Repository.discover(repo)
    # Not with the repository's file: what counts of it is what is committed, and only for a review's own keys.
    settings = load_settings(None, flags)
    output.recolor(settings.color)
    wanted = request(output, repository)
    report = reviewed(repository, settings, wanted, started)
    if accept:
        return _accept(output, repository, wanted, report, json=form == "json")
    show(output, report, form)
    return report.exit_code


def reviewed(repository: Repository, settings: Settings, request: Request, started: float) -> ReviewReport:
    """The review, in a process that ends with its time."""
    from agent.guard import guarded
    from agent.review import reports, seconds_allowed

    def work() -> Iterator[ReviewReport]:
        return reports(repository, settings, request, started)

    return guarded(work, started=started, deadline=seconds_allowed(settings, request))


def show(output: Output, report: ReviewReport, form: str) -> None:
    """The report on stdout in one of the formats."""
    from agent import __version__, review_formats
    from agent.commands import review_text

    if form == "json":
        output.json(review_formats.as_object(report))
    elif form == "sarif":
        output.json(review_formats.as_sarif(report, __version__))
    elif form == "github":
        for line in review_formats.github_lines(report):
            output.line(line)
        # The runner reads both streams, and obeys whatever looks like a command to it.
        for parts in review_text.summary(report):
            output.line(review_formats.no_command(review_text.as_text(parts)))
        for note in report.notes:
            output.note(review_formats.no_command(note))
    else:
        review_text.show(output, report)


def run_calibration(
    output: Output, *, model: str | None, last: int, repo: Path, json: bool, flags: Mapping[str, object]
) -> int:
    """Replay history, say how often the model was right, and keep the threshold. Interrupted, it keeps nothing."""
    from agent import calibrate, calibration
    from agent.config import load_settings
    from indexers.git import Repository
    from indexers.types import Progress

    repository = Repository.discover(repo)
    measured: list[calibrate.Measured] = []
    with output.progress() as progress:
        for item in calibrate.replayed(repository, load_settings(None, flags), model, last):
            measured.append(item)
            progress(Progress("replay", len(measured), last, item.case.commit.subject))
    if not measured:
        raise UsageError("There is no commit in this history that could be replayed.")
    found = calibrate.concluded(measured)
    place = calibration.keep(repository, measured[-1].model, found)
    if json:
        output.json({"model": measured[-1].model, "calibration": found, "kept_in": place})
        return 0
    for sentence in calibrate.sentences(found):
        output.line(sentence)
    output.line(f"threshold: {found.threshold:.3f}, for {measured[-1].model} in this repository")
    if not found.may_block:
        output.line(
            "Its findings stay advice and stop no commit: that takes more faults found than false alarms, over "
            f"{calibration.LEAST_HARMLESS} harmless commits or more."
        )
    output.note(f"kept in {place}")
    return 0


def _accept(
    output: Output, repository: Repository, request: Request, report: ReviewReport, *, json: bool
) -> int:
    from agent.baseline import accept
    from agent.review_formats import as_object

    place = accept(repository, request.baseline, report.findings) if report.findings else None
    if json:
        output.json({"accepted": as_object(report)["findings"], "kept_in": place})
        return 0
    if place is None:
        output.note("nothing was found, so nothing was accepted")
        return 0
    for item in report.findings:
        output.line(f"accepted {item.label} [{item.category}] {item.message}")
    output.note(f"kept in {place}")
    return 0


def _patch(output: Output, name: str) -> bytes:
    if name == "-":
        return output.read_bytes(_MOST_DIFF_BYTES)
    try:
        with Path(name).open("rb") as file:
            return file.read(_MOST_DIFF_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}.") from error


def _severity(name: str | None) -> str | None:
    from agent.config import SEVERITIES

    if name is not None and name not in SEVERITIES:
        raise UsageError(f"There is no severity {name!r}.", f"Choose one of {', '.join(SEVERITIES)}.")
    return name
