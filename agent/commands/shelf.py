"""`agent models add | rm | verify | info`: what happens to files that are here."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands import Job, JsonOption
from agent.commands.models import file_of, models_directory, more_directories, show_file
from agent.output import Output
from agent.safe_text import plain, show_path
from agent.wording import size_text
from indexers.errors import UsageError

if TYPE_CHECKING:
    from chains.models.gguf import GgufInfo

# What people look for in a GGUF header; chat templates are too long to read.
_INFO_CHARS = 200


def add_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A GGUF file; of a split model, the first part.")
    ],
    json: JsonOption = False,
) -> Job:
    """Take in a GGUF file that you have, under its own name.

    Where the disk allows it becomes a second name of the same file, and takes no room; else a copy.

    Example: agent models add ~/Downloads/codellama-34b-instruct.Q4_K_M.gguf
    """
    return Job(partial(run_add, file=file, json=json), json=json)


def rm_command(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="An installed model.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Forget its SHA-256 too.")] = False,
    json: JsonOption = False,
) -> Job:
    """Delete a model from the directory of models, and only there.

    Example: agent models rm codellama-34b-instruct:Q2_K
    """
    return Job(partial(run_rm, name=name, yes=yes, forget=forget, json=json), json=json)


def verify_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME|FILE]...", help="Installed models; none: all of them."),
    ] = None,
    json: JsonOption = False,
) -> Job:
    """Read model files whole and compare them with what they were.

    With the catalogue's hash where there is one, else with the one they had when they came.

    Exits with 2 when one of them has changed.

    Example: agent models verify
    """
    return Job(partial(run_verify, names=names or [], json=json), json=json)


def info_command(
    file: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A GGUF file, or a model's name.")],
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    json: JsonOption = False,
) -> Job:
    """Show what a GGUF file says about itself, without loading it.

    Example: agent models info ./codellama-7b-instruct.Q4_K_M.gguf
    """
    return Job(partial(run_info, name=file, tensors=tensors, json=json), json=json)


def run_add(output: Output, *, file: Path, json: bool) -> int:
    """Take a file in; print where it lies now."""
    from agent import shelf

    with output.progress() as progress:
        path = shelf.add(file.expanduser(), progress)
    return show_file(output, path, json=json)


def run_rm(output: Output, *, name: str, yes: bool, forget: bool, json: bool) -> int:
    """Delete a model, after asking where somebody can answer."""
    from agent import shelf

    path = file_of(name)
    if not yes and output.typed:
        answer = output.read_line(f"Delete {show_path(path)}, {size_text(path.stat().st_size)}? [y/N] ")
        if (answer or "").strip().lower() not in ("y", "yes"):
            output.note("left as it is")
            return 0
    elif not yes:
        raise UsageError(f"{name} is not deleted without being asked for.", f"agent models rm {name} --yes")
    freed = shelf.remove(path, forget=forget)
    if json:
        output.json({"path": path, "bytes_freed": freed})
    else:
        output.line(f"deleted {show_path(path)}, {size_text(freed)} freed")
    return 0


def run_verify(output: Output, *, names: list[str], json: bool) -> int:
    """Hash files and say how they compare."""
    from agent import models, shelf

    paths = [file_of(name) for name in names] or [
        model.path for model in models.installed(more_directories())
    ]
    verdicts = []
    for path in paths:
        with output.progress() as progress:
            found = list(shelf.verify(path, progress))
        verdicts += found
        for verdict in found if not json else ():
            style = {"ok": "green", "changed": "bold red"}.get(verdict.state, "yellow")
            output.line((f"{verdict.state:<8}", style), f"{verdict.path.name}  {verdict.detail}")
    changed = [verdict for verdict in verdicts if verdict.state == "changed"]
    if json:
        output.json({"ok": not changed, "files": [plain(verdict) for verdict in verdicts]})
    elif not verdicts:
        output.note(f"no models in {show_path(models_directory())}")
    if changed and not json:
        output.note("a changed file: agent models rm NAME --yes, then agent models pull NAME")
    return 2 if changed else 0


def run_info(output: Output, *, name: str, tensors: bool, json: bool) -> int:
    """Show the header of a GGUF file."""
    from chains.models.gguf import read_gguf

    info = read_gguf(file_of(name))
    if json:
        output.json(_described(info, tensors=tensors))
        return 0
    for key, value in _described(info, tensors=False).items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        shown = text if len(text) <= _INFO_CHARS else f"{text[:_INFO_CHARS]} ... ({len(text):,} characters)"
        output.line((f"{key.replace('_', ' '):<20} ", "bold"), shown.replace("\n", "\\n"))
    for tensor in info.tensors if tensors else ():
        shape = " x ".join(f"{length:,}" for length in tensor.shape)
        output.line(f"{tensor.name:<32} {tensor.type:<8} {size_text(tensor.bytes):>8}  {shape}")
    return 0


def _described(info: GgufInfo, *, tensors: bool) -> dict[str, Any]:
    """The header with what follows from it: bits per weight, bytes of a token, how many tensors of which type."""
    described: dict[str, Any] = {
        key: value for key, value in plain(info).items() if key not in ("tensors", "split")
    }
    described["format"] = f"GGUF version {info.version}"
    described["bits_per_weight"] = round(8 * info.weight_bytes / max(1, info.parameter_count), 2)
    described["kv_bytes_per_token"] = info.kv_bytes_per_token
    described["tensor_types"] = dict(Counter(tensor.type for tensor in info.tensors).most_common())
    if info.split:
        described["parts"] = 1 + len(info.split)
    if tensors:
        described["tensors"] = [plain(tensor) for tensor in info.tensors]
    return described
