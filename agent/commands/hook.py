"""`agent hook`: puts the review before every commit, takes it away again, and is what git then runs."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands import Job, JsonOption, RepoOption
from agent.output import Output
from agent.safe_text import show_path
from agent.wording import count_text
from indexers.errors import AgentError, UsageError

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.review import Request
    from chains.reviewing.types import ReviewReport
    from indexers.git import Repository

# What the script in the hooks directory takes for our answers: a Python that cannot start ends with 1.
_AS_SCRIPT = {1: 11, 3: 13}
_NOTHING_PUSHED = "0"
# So many reports of earlier commits are told in full.
_MOST_TOLD = 5


def install_command(
    pre_push: Annotated[bool, typer.Option("--pre-push", help="Also review what is pushed.")] = False,
    background: Annotated[
        bool,
        typer.Option(
            "--background",
            help="Only checks before a commit; the model reads after it and reports at the next.",
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="What could not be reviewed is not committed.")
    ] = False,
    shared: Annotated[
        bool, typer.Option("--shared", help="Also where core.hooksPath serves others, or is committed.")
    ] = False,
    repo: RepoOption = Path(),
) -> Job:
    """Review every commit of this repository before it is made.

    An existing hook stays and runs first. core.hooksPath is respected. Git skips hooks for --no-verify, rebase,
    cherry-pick and revert: agent review --range in CI catches what went past.
    """
    return Job(
        partial(install, pre_push=pre_push, background=background, strict=strict, shared=shared, repo=repo)
    )


def uninstall_command(repo: RepoOption = Path()) -> Job:
    """Take the review out of this repository's hooks and put back what was there."""
    return Job(partial(uninstall, repo=repo))


def status_command(repo: RepoOption = Path(), json: JsonOption = False) -> Job:
    """Which hooks run the review."""
    return Job(partial(status, repo=repo, json=json), json=json)


def run_command(
    stage: Annotated[str, typer.Argument(metavar="STAGE")] = "pre-commit",
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGUMENTS")] = None,
    as_script: Annotated[bool, typer.Option("--as-script", hidden=True)] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="What could not be reviewed does not pass.")
    ] = False,
    background: Annotated[bool, typer.Option("--background", hidden=True)] = False,
) -> Job:
    """What git, or the pre-commit framework, runs: reviews what the stage is about.

    Exit code: 0 go on, 1 a finding blocks, 3 with --strict: not reviewed in full.
    """
    del arguments  # a remote's name and address: nothing depends on them
    return Job(partial(run, stage=stage, as_script=as_script, strict=strict, background=background))


def install(
    output: Output, *, pre_push: bool, background: bool, strict: bool, shared: bool, repo: Path
) -> int:
    """Write the hooks."""
    from agent import hooks
    from indexers.git import Repository

    repository = Repository.discover(repo)
    stages = [hooks.PRE_COMMIT, hooks.PRE_MERGE, *([hooks.PRE_PUSH] if pre_push else [])]
    stages += [hooks.POST_COMMIT] if background else []
    options = [*(["--strict"] if strict else []), *(["--background"] if background else [])]
    closed = _closed() or _committed_closed(repository)
    for path in hooks.install(repository, stages, options, shared=shared, closed=closed):
        output.line(f"installed {show_path(path)}")
    for state in hooks.states(repository):
        if state.framework:
            output.note(f"{state.stage}: the pre-commit framework's script stands there and runs it")
    output.note("skip it once: git commit --no-verify; take it out: agent hook uninstall")
    return 0


def _committed_closed(repository: Repository) -> bool:
    """Whether the repository's own file, as committed, wants nothing to pass that was not reviewed."""
    from agent.config import MAX_FILE_BYTES, REPOSITORY_FILE, review_limits
    from indexers.blobs import file_at

    head = repository.head()
    data = file_at(repository, head, REPOSITORY_FILE, MAX_FILE_BYTES) if head else None
    try:
        return data is not None and review_limits(data, REPOSITORY_FILE).get("review_fail_mode") == "closed"
    except UsageError:  # a review says what is wrong with it
        return False


def uninstall(output: Output, *, repo: Path) -> int:
    """Remove the hooks."""
    from agent import hooks
    from indexers.git import Repository

    removed = hooks.uninstall(Repository.discover(repo))
    for path in removed:
        output.line(f"removed {show_path(path)}")
    if not removed:
        output.note("no hook of ours is installed here")
    return 0


def status(output: Output, *, repo: Path, json: bool) -> int:
    """Show the hooks."""
    from agent import hooks
    from indexers.git import Repository

    found = hooks.states(Repository.discover(repo))
    if json:
        output.json({"hooks": found})
        return 0
    for state in found:
        word = "installed" if state.installed else "not installed"
        if state.installed and not state.current:
            word += ", but by another installation: agent hook install"
        if state.installed and not state.executable:
            word += ", but not executable, so git ignores it: agent hook install"
        if state.framework:
            word += ", run by the pre-commit framework"
        if state.other:
            word += "; another hook runs before it" if state.installed else "; another hook is there"
        output.line((f"{state.stage:<17}", "bold"), word)
    return 0


def run(output: Output, *, stage: str, as_script: bool, strict: bool, background: bool) -> int:
    """Review; whatever goes wrong with that itself stops a commit only where the user wants it to."""
    from agent.guard import began

    started = began()
    try:
        code = _run(output, stage, strict, background, started)
    except KeyboardInterrupt:
        raise
    except Exception as error:  # noqa: BLE001 (the boundary of the hook: our bugs are no reason to lose a commit)
        code = _failed(output, error, strict)
    return _AS_SCRIPT.get(code, code) if as_script else code


def _failed(output: Output, error: Exception, strict: bool) -> int:
    if isinstance(error, AgentError):
        output.error(f"NOT REVIEWED: {error.message}", error.remedy)
    else:
        output.error(
            f"NOT REVIEWED: this is a bug in agent review: {type(error).__name__}: {str(error)[:300]}"
        )
        output.trace(traceback.format_exc())
    return 3 if strict or _closed() else 0


def _closed() -> bool:
    """Whether the user wants nothing to pass that was not reviewed, as far as that can be told now."""
    from agent.config import load_settings

    try:
        return load_settings(None, {}).review_fail_mode == "closed"
    except AgentError:
        return False


def _run(output: Output, stage: str, strict: bool, background: bool, started: float) -> int:
    from agent import after_commit
    from agent.config import load_settings
    from agent.hooks import POST_COMMIT, PRE_PUSH
    from indexers.git import Repository

    repository = Repository.discover(Path())
    settings = load_settings(None, {})
    output.recolor(settings.color)
    if stage == POST_COMMIT:
        after_commit.start(repository)
        return 0
    if background:
        _tell_waiting(output, repository)
    code = 0
    # With --background the model reads after the commit; what is pushed has nobody behind it.
    use_model = not background or stage == PRE_PUSH
    for request in _requests(output, repository, stage):
        wanted = replace(request, strict=strict, use_model=use_model)
        code = max(code, _reviewed(output, repository, settings, wanted, started), key=_gravity)
    return code


def _tell_waiting(output: Output, repository: Repository) -> None:
    """What was found in earlier commits after they were made: the gravest in full, of each other one a line."""
    from agent import after_commit
    from agent.commands import review_text

    reports = after_commit.waiting(repository)
    gravest = sorted(reports, key=_told_first)[:_MOST_TOLD]
    for report in reports:
        if any(report is item for item in gravest):
            output.note((f"Of {report.title}, made before:", "bold"))
            review_text.show(output, report)
            output.note()
        elif report.findings or report.unreviewed:
            output.line(
                f"{review_text.in_a_line(report)} See: agent review --commit {report.title.split()[-1]}"
            )
    quiet = sum(not (item.findings or item.unreviewed) and item not in gravest for item in reports)
    if quiet:
        output.line(f"Nothing found in {count_text(quiet, 'commit')} more, made before.")


def _told_first(report: ReviewReport) -> tuple[bool, bool, bool]:
    return not report.blocking, not report.findings, not report.unreviewed


def _gravity(code: int) -> int:
    return (0, 3, 1).index(code) if code in (0, 3, 1) else 3


def _reviewed(
    output: Output, repository: Repository, settings: Settings, request: Request, started: float
) -> int:
    from agent.commands import review as command
    from agent.commands import review_text

    report = command.reviewed(repository, settings, request, started)
    review_text.show(output, report)
    if report.blocking:
        output.note(
            "Mend it; or accept it: agent review --accept; or commit all the same: git commit --no-verify"
        )
    return report.exit_code


def _requests(output: Output, repository: Repository, stage: str) -> Sequence[Request]:
    """What the stage is about: the index, or each range that is pushed.

    :raises UsageError: there is no such stage, or nothing that could be reviewed.
    """
    from agent.hook_environment import index_file, pushed_range, pushed_tip, without_commit
    from agent.hooks import PRE_COMMIT, PRE_MERGE, PRE_PUSH
    from agent.review import Request

    if stage not in (PRE_COMMIT, PRE_MERGE, PRE_PUSH):
        raise UsageError(
            f"There is no stage {stage!r} to review at.", f"Use {PRE_COMMIT}, {PRE_MERGE} or {PRE_PUSH}."
        )
    # The framework runs us in the same way at every stage: only what it says of a push tells that it is one.
    if pushed := pushed_range():
        return [Request(range=pushed)]
    if tip := pushed_tip():
        return [Request(range=item) for item in _unknown_to_remotes(output, repository, tip)]
    if stage == PRE_PUSH:
        lines = output.read_bytes(1_000_000)
        if without_commit() and not lines.strip():
            raise _nothing_named()
        return [Request(range=item) for item in _pushed(repository, lines)]
    if without_commit() and not _anything_staged(repository):
        raise _nothing_named()
    return [Request(index_file=index_file(repository))]


def _nothing_named() -> UsageError:
    """Why `pre-commit run --all-files` and its like review nothing, which must not look as if all was well."""
    return UsageError(
        "Nothing is staged and no range is named; a review reads changes, not files.",
        "Name the range: pre-commit run --from-ref A --to-ref B; or: agent review --range A..B",
    )


def _anything_staged(repository: Repository) -> bool:
    from indexers.revisions import changes, staged

    return bool(changes(repository, staged(repository)))


def _unknown_to_remotes(output: Output, repository: Repository, tip: str) -> list[str]:
    """The range of what no remote has yet; said where there is nothing of that kind."""
    from indexers.revisions import commit_id, new_since

    end = commit_id(repository, tip)
    start = new_since(repository, end)
    if not start:
        output.note(f"Nothing to review: a remote has every commit of {end[:10]} already.")
    return [f"{start}..{end}"] if start else []


def _pushed(repository: Repository, lines: bytes) -> list[str]:
    """The ranges of a push, from the lines git writes to its hook; deletions and what is known remotely left out."""
    from indexers.revisions import new_since

    found: list[str] = []
    for line in lines.decode("utf-8", "replace").splitlines():
        words = line.split(" ")
        if len(words) != 4 or not words[1].strip(_NOTHING_PUSHED):
            continue
        start = words[3] if words[3].strip(_NOTHING_PUSHED) else new_since(repository, words[1])
        if start:
            found.append(f"{start}..{words[1]}")
    return list(dict.fromkeys(found))
