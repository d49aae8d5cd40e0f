"""The command line: parses, runs one command, and is the one place where errors end."""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.commands import (
    Job,
    ask,
    bench,
    cache,
    chat,
    commit_message,
    complete,
    doctor,
    hook,
    index,
    map,
    models,
    plan,
    review,
    search,
    shelf,
    status,
    warm,
    write,
)
from agent.output import Output
from indexers.errors import AgentError, UsageError

NAME = "agent"
BUG, INTERRUPTED, USAGE = 70, 130, 2
# Typer brings its own copy of click in some releases and uses the package in others; this is the one in use.
PARSE_ERROR: type[Any] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
# Failures of the machine rather than of the program: a sentence helps, a traceback does not.
MACHINE = {
    errno.ENOSPC: "Free some space; indexes can be deleted at any time: agent status shows where they are.",
    errno.EDQUOT: "Free some space; indexes can be deleted at any time: agent status shows where they are.",
    errno.EROFS: "Set AGENT_HOME to a directory that can be written to.",
    errno.EACCES: "Set AGENT_HOME to a directory that can be written to, or mend the permissions.",
    errno.EMFILE: "Raise the limit of open files: ulimit -n 4096",
    errno.ENOMEM: "Close other programs, or choose a smaller model: agent models list",
    errno.EIO: "The disk reports an error; look at it before anything else.",
}
OUT_OF_MEMORY = (
    "Choose a smaller model (agent models list) or fewer --context-tokens, or close other programs."
)
# Values of --format that are one JSON object.
OBJECT_FORMATS = ("json", "sarif")
GLOBAL_FLAGS = ("-q", "--quiet", "--debug")


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole parsed command line: the command's job, and what holds for every command."""

    job: Job
    quiet: bool


def _plan(job: Job, *, quiet: bool, **_: object) -> Plan:
    return Plan(job, quiet)


app = typer.Typer(
    name=NAME,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    result_callback=_plan,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Start here: agent ask "How is this repository built?"',
)
models_app = typer.Typer(help="List, fetch and find models.", rich_markup_mode=None)
cache_app = typer.Typer(help="What models have read and need not read again.", rich_markup_mode=None)
hook_app = typer.Typer(help="Review every commit before it is made.", rich_markup_mode=None)
app.command("ask")(ask.command)
app.command("chat")(chat.command)
app.command("complete")(complete.command)
app.command("search")(search.command)
app.command("map")(map.command)
app.command("review")(review.command)
app.command("write")(write.command)
app.command("undo")(write.undo_command)
app.command("commit-message")(commit_message.command)
app.add_typer(hook_app, name="hook")
app.command("index")(index.command)
app.command("warm")(warm.command)
app.command("status")(status.command)
app.add_typer(models_app, name="models")
app.add_typer(cache_app, name="cache")
app.command("doctor")(doctor.command)
app.command("bench")(bench.command)
hook_app.command("install")(hook.install_command)
hook_app.command("uninstall")(hook.uninstall_command)
hook_app.command("status")(hook.status_command)
hook_app.command("run")(hook.run_command)
cache_app.command("list")(cache.list_command)
cache_app.command("prune")(cache.prune_command)
cache_app.command("clear")(cache.clear_command)
models_app.command("list")(models.list_command)
models_app.command("pull")(models.pull_command)
models_app.command("path")(models.path_command)
models_app.command("info")(shelf.info_command)
models_app.command("plan")(plan.command)
models_app.command("add")(shelf.add_command)
models_app.command("rm")(shelf.rm_command)
models_app.command("verify")(shelf.verify_command)


@app.callback()
def _globals(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    color: Annotated[
        str | None,
        typer.Option("--color", metavar="auto|always|never", help="Colour; auto is for terminals."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only the answer, warnings and errors.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """A local-first code agent: ask and search your own repository.

    No byte of code leaves this machine, unless you name a server on another one.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name) and return its exit code."""
    _open_missing_streams()
    shared, own = _sorted_out(list(sys.argv[1:] if argv is None else argv))
    # Before parsing nothing else is known about how errors are wanted.
    wants_json = _wants_json(own)
    debug = "--debug" in shared
    output = Output()
    try:
        return _run(shared, own, output)
    except KeyboardInterrupt:
        output.error("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _abandon_stdout()
        return 0
    except AgentError as error:
        return _report(output, error, error.exit_code, wants_json, debug)
    except MemoryError:
        return _report(
            output, AgentError("There is not enough memory.", OUT_OF_MEMORY), USAGE, wants_json, debug
        )
    except OSError as error:
        if error.errno not in MACHINE:
            return _bug(output, error, wants_json, debug)
        place = f": {error.filename}" if error.filename else ""
        known = AgentError(f"{error.strerror}{place}", MACHINE[error.errno])
        return _report(output, known, USAGE, wants_json, debug)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 (the one boundary; a panic of an extension module is no Exception)
        return _bug(output, error, wants_json, debug)


def _open_missing_streams() -> None:
    """Give a program started without some stream (`>&-`) one that leads nowhere.

    In the order of their numbers: a file opened later must not become number 1 and be written into.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _run(shared: list[str], own: list[str], output: Output) -> int:
    """Parse and run."""
    from agent.config import color_choice

    output.recolor(color_choice(_early_color(shared)))
    if own[:1] == ["--version"]:
        from agent import __version__

        output.line(f"{NAME} {__version__}")
        output.close()
        return 0
    # What typed nothing is shown the help.
    plan = _parse([*shared, *own, *(["--help"] if own in ([], ["models"], ["hook"], ["cache"]) else [])])
    if not isinstance(plan, Plan):
        return int(plan or 0)  # --help was answered while parsing
    output.quiet = plan.quiet
    code = plan.job.run(output)
    output.close()
    return code


def _parse(arguments: list[str]) -> Any:
    """The plan, or what parsing ended with. Nothing runs while parsing: Typer has its own idea of errors."""
    try:
        return typer.main.get_command(app).main(args=arguments, prog_name=NAME, standalone_mode=False)
    except PARSE_ERROR as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else NAME
        raise UsageError(str(error.format_message()), f"{path} --help") from error
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):
            raise BrokenPipeError from error
        raise


def _sorted_out(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Flags that hold for every command, which may stand anywhere before `--`; and all the rest."""
    shared: list[str] = []
    own: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            own += [word, *words]
        elif word in GLOBAL_FLAGS or word.startswith("--color="):
            shared.append(word)
        elif word == "--color":
            shared += [word, *[value for value in [next(words, None)] if value is not None]]
        else:
            own.append(word)
    return shared, own


def _wants_json(own: list[str]) -> bool:
    """Whether a program reads the answer, so that an error has to be an object too."""
    options = own[: own.index("--")] if "--" in own else own
    forms = [word.partition("=")[2] for word in options if word.startswith("--format=")]
    forms += [value for word, value in zip(options, options[1:], strict=False) if word == "--format"]
    return "--json" in options or any(form in OBJECT_FORMATS for form in forms)


def _early_color(shared: list[str]) -> str | None:
    """How to colour the errors of parsing itself."""
    flag = None
    for place, word in enumerate(shared):
        if word.startswith("--color="):
            flag = word.partition("=")[2]
        elif word == "--color" and place + 1 < len(shared):
            flag = shared[place + 1]
    return flag


def _report(output: Output, error: AgentError, code: int, wants_json: bool, debug: bool) -> int:
    """An expected failure: the sentence and its remedy on stderr, for a program also one object on stdout."""
    try:
        output.error(error.message, error.remedy)
        if debug:
            output.trace(traceback.format_exc())
        if wants_json:
            output.json({"error": _error_object(error, code)})
        output.close()
    except OSError:
        # Nobody can be told any more: the reader has gone, or the disk the streams go to is full.
        _abandon_stdout()
    return code


def _error_object(error: AgentError, code: int) -> dict[str, object]:
    return {"type": type(error).__name__, "message": error.message, "remedy": error.remedy, "exit_code": code}


def _bug(output: Output, error: BaseException, wants_json: bool, debug: bool) -> int:
    """A failure nobody expected: one line, and the traceback in a file to send along with a report."""
    log = _write_log(traceback.format_exc())
    message = f"This is a bug in {NAME}: {type(error).__name__}: {str(error)[:300]}"
    remedy = (
        f"Report it with the traceback in {log}" if log else "Run it again with --debug to see the traceback."
    )
    return _report(output, AgentError(message, remedy), BUG, wants_json, debug)


def _write_log(text: str) -> Path | None:
    """Keep a traceback, secrets blacked out, in a new private file; None where nothing can be written."""
    try:
        from agent.paths import secure_directory, state_dir
        from indexers.redact import redact

        directory = secure_directory(state_dir() / "errors")
        path = directory / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        with os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", errors="replace"
        ) as file:
            file.write(redact(text, os.urandom(32)).text)
    except Exception:  # noqa: BLE001 (whatever is wrong with the log, the error itself must still be told)
        return None
    return path


def _abandon_stdout() -> None:
    """Nobody reads any more: what is still buffered must not fail again while the interpreter shuts down."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            try:
                os.dup2(nowhere, stream.fileno())
            except (OSError, ValueError):
                pass
    os.close(nowhere)
