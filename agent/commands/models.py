"""`agent models`: what is installed, what can be fetched, and where files lie."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.commands import Job, JsonOption
from agent.output import Output, plain, show_path, size_text
from indexers.errors import ModelError

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A name from agent models list.")]
# What people look for in a GGUF header; chat templates and token lists are too long to read.
INFO_CHARS = 200


def list_command(json: JsonOption = False) -> Job:
    """List installed models and those that can be fetched.

    Example: agent models list
    """
    return Job(partial(run_list, json=json), json=json)


def pull_command(name: NameArgument, json: JsonOption = False) -> Job:
    """Fetch a model and verify it; an interrupted download goes on where it stopped.

    Example: agent models pull qwen2.5-coder-1.5b-instruct
    """
    return Job(partial(run_pull, name=name, json=json), json=json)


def path_command(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A model's name; none: the directory.")] = "",
    json: JsonOption = False,
) -> Job:
    """Print the directory of models, or the file of one.

    Example: agent models path
    """
    return Job(partial(run_path, name=name, json=json), json=json)


def info_command(
    file: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A GGUF file, or a model's name.")],
    json: JsonOption = False,
) -> Job:
    """Show what a GGUF file says about itself, without loading it.

    Example: agent models info ./codellama-7b-instruct.Q4_K_M.gguf
    """
    return Job(partial(run_info, name=file, json=json), json=json)


def run_list(output: Output, *, json: bool) -> int:
    """Show installed models first, then the rest of the catalogue, and which fit into memory."""
    from agent import hardware, models

    total, _ = hardware.memory()
    installed = models.installed(_more_directories())
    files = {model.path.name for model in installed}
    available = [entry for entry in models.catalogue() if entry.file not in files]
    if json:
        output.json(
            {
                "directory": _directory(),
                "embedder": {"name": models.EMBEDDER, "installed": models.embedder_installed()},
                "installed": [
                    {"name": model.name, "path": model.path, "bytes": model.bytes} for model in installed
                ],
                "available": [
                    {
                        "name": entry.name,
                        "quant": entry.quant,
                        "bytes": entry.approximate_bytes,
                        "ram_bytes": entry.ram_bytes,
                        "licence": entry.licence,
                        "family": entry.family,
                    }
                    for entry in available
                ],
            }
        )
        return 0
    output.line(("Installed", "bold"), f" in {show_path(_directory())}")
    for model in installed:
        _row(output, model.name, model.bytes, models.needed_memory(model.bytes), total, "")
    if not installed:
        output.line(f"  none yet: the first agent ask fetches {models.DEFAULT_MODEL}")
    state = "installed" if models.embedder_installed() else "not installed yet: agent models pull minilm"
    output.line(f"  {models.EMBEDDER} (for search by meaning): {state}")
    output.line()
    output.line(("Can be fetched", "bold"), " with agent models pull NAME")
    for entry in available:
        _row(output, entry.label, entry.approximate_bytes, entry.ram_bytes, total, entry.licence)
    return 0


def _row(output: Output, name: str, size: int, memory: int, total: int, rest: str) -> None:
    fits = (f"  needs {size_text(memory):>7} memory", "" if memory <= total else "yellow")
    too_big = ("  too big for this machine", "yellow") if memory > total else f"  {rest}" if rest else ""
    output.line(f"  {name:<40} {size_text(size):>8}", fits, too_big)


def run_pull(output: Output, *, name: str, json: bool) -> int:
    """Fetch `name`, showing how far it is; print where it lies."""
    from agent import models

    with output.progress() as progress:
        path = models.pull(name, progress)
    return _show_file(output, path, json=json)


def run_path(output: Output, *, name: str, json: bool) -> int:
    """Print a place on disk, fit for command substitution."""
    return _show_file(output, _file_of(name) if name else _directory(), json=json)


def run_info(output: Output, *, name: str, json: bool) -> int:
    """Show the header of a GGUF file."""
    from chains.gguf import read_gguf

    header: dict[str, Any] = plain(read_gguf(_file_of(name)))
    if json:
        output.json(header)
        return 0
    for key, value in header.items():
        text = str(value)
        shown = text if len(text) <= INFO_CHARS else f"{text[:INFO_CHARS]} ... ({len(text):,} characters)"
        output.line((f"{key.replace('_', ' '):<20} ", "bold"), shown.replace("\n", "\\n"))
    return 0


def _file_of(name: str) -> Path:
    from agent import models

    path: Path | None = models.find(name, _more_directories())
    if path is None:
        raise ModelError(f"The model {name} is not installed.", f"Fetch it: agent models pull {name}")
    return path


def _more_directories() -> list[Path]:
    """Where the user keeps models of other programs."""
    from agent.config import load_settings

    return [Path(directory) for directory in load_settings().models_dirs]


def _directory() -> Path:
    from agent.paths import models_dir

    return models_dir()


def _show_file(output: Output, path: Path, *, json: bool) -> int:
    if json:
        output.json({"path": path})
    else:
        output.line(show_path(path))
    return 0
