"""`agent models`: what is installed, what can be fetched, and where files lie."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands import Job, JsonOption
from agent.output import Output
from agent.safe_text import show_path
from agent.wording import size_text
from indexers.errors import ModelError

if TYPE_CHECKING:
    from agent.models import InstalledModel
    from agent.planning import Row

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME|REPO/FILE|URL",
        help="A name from agent models list, with :QUANT or not; OWNER/REPO/FILE.gguf or OWNER/REPO:QUANT of a "
        "model hub; or an address.",
    ),
]


def list_command(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Only models whose names begin so, every file.")
    ] = "",
    all_: Annotated[bool, typer.Option("--all", help="Every file, not only the best of each model.")] = False,
    fits: Annotated[bool, typer.Option("--fits", help="Only what fits this machine.")] = False,
    context: Annotated[
        int, typer.Option("--context", metavar="N", min=256, help="The window to count memory for.")
    ] = 4096,
    json: JsonOption = False,
) -> Job:
    """List what is installed and can be fetched, and what fits.

    What each takes is computed for this machine and a window.

    ">" marks what fits best of all, "*" the best file of each model; "~" stands before sizes computed from a shape.

    Example: agent models list codellama-34b --context 16384
    """
    return Job(partial(run_list, name=name, all_=all_, fits=fits, n_ctx=context, json=json), json=json)


def pull_command(
    name: NameArgument,
    sha256: Annotated[
        str, typer.Option("--sha256", metavar="HEX", help="What the file must have.", show_default=False)
    ] = "",
    accept_changed: Annotated[
        bool, typer.Option("--accept-changed", help="Take a file that is no longer what came the first time.")
    ] = False,
    json: JsonOption = False,
) -> Job:
    """Fetch a model and verify it; what was interrupted goes on.

    Verified against the catalogue's SHA-256, else the hub's own record, else what came the first time.

    Example: agent models pull codellama-34b-instruct:Q4_K_M
    """
    job = partial(run_pull, name=name, sha256=sha256, accept_changed=accept_changed, json=json)
    return Job(job, json=json)


def path_command(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A model's name; none: the directory.")] = "",
    json: JsonOption = False,
) -> Job:
    """Print the directory of models, or the file of one.

    Example: agent models path
    """
    return Job(partial(run_path, name=name, json=json), json=json)


def run_list(output: Output, *, name: str, all_: bool, fits: bool, n_ctx: int, json: bool) -> int:
    """Show installed models first, then the catalogue, and which of it fits."""
    from agent import hardware, models, planning

    machine = planning.machine_of(None, None, whole=True)
    installed = models.installed(more_directories())
    rows = [
        row
        for row in planning.rows(machine, n_ctx, installed)
        if (row.fits or not fits) and row.entry.label.startswith(models.normal(name))
    ]
    if name and not rows and not any(model.name.startswith(models.normal(name)) for model in installed):
        raise models.unknown(name, models=installed)
    if json:
        output.json(_listed(installed, rows, n_ctx))
        return 0
    output.line(("Installed", "bold"), f" in {show_path(models_directory())}")
    for model in installed:
        output.line(f"  {model.name:<40} {size_text(model.bytes):>8}")
    if not installed:
        output.line(f"  none yet: the first agent ask fetches {models.DEFAULT_MODEL}")
    state = "installed" if models.embedder_installed() else "not installed yet: agent models pull minilm"
    output.line(f"  {models.EMBEDDER} (for search by meaning): {state}")
    output.line()
    gpus = "".join(f" and {gpu.name} with {size_text(gpu.free)}" for gpu in machine.gpus)
    room = f"{_gb(hardware.memory()[0])} of memory{gpus}"
    output.line(
        ("Can be fetched", "bold"), f" with agent models pull NAME (this machine: {room}; window {n_ctx:,})"
    )
    shown = rows if all_ or name else _best_of_each(rows)
    for row in shown:
        _show_row(output, row)
    if len(shown) < len(rows):
        output.note(
            (
                f"{len(rows) - len(shown)} more files: agent models list --all, or agent models list NAME",
                "dim",
            )
        )
    return 0


def _best_of_each(rows: Sequence[Row]) -> list[Row]:
    """One file of each model (what fits best, else the recommended one, else the first), and all that are installed."""
    from agent.catalogue import RECOMMENDED

    chosen: dict[str, Row] = {}
    for row in rows:
        old = chosen.get(row.entry.name)
        if old is None or row.best_of_model or (row.entry.quant == RECOMMENDED and not old.best_of_model):
            chosen[row.entry.name] = row
    best = list(chosen.values())
    return [row for row in rows if row.installed or row in best]


def _show_row(output: Output, row: Row) -> None:
    entry = row.entry
    mark = ">" if row.best else "*" if row.best_of_model else " "
    about = "~" if entry.bytes is None and entry.gigabytes is None else ""
    needs = _gb(row.memory) + (f" + {_gb(row.vram)} GPU" if row.vram else "")
    state = "installed" if row.installed else "" if row.fits else "does not fit"
    infill = "infill" if entry.infill else ""
    output.line(
        (f"{mark} {entry.label:<36}", "bold" if row.best else ""),
        f" {entry.bits_per_weight:>4.1f} bits {about + _gb(entry.approximate_bytes):>9}",
        (f"  needs {needs:>8}", "" if row.fits else "yellow"),
        (f"  {state:<12}", "green" if row.installed else "yellow"),
        f" {infill:<6}  {entry.licence:<17}  {entry.use_case}",
    )


def _gb(count: int) -> str:
    """Bytes as model cards state them."""
    return f"{count / 1e9:.2f} GB"


def _listed(installed: Sequence[InstalledModel], rows: Sequence[Row], n_ctx: int) -> dict[str, Any]:
    from agent import models

    return {
        "directory": models_directory(),
        "context": n_ctx,
        "embedder": {"name": models.EMBEDDER, "installed": models.embedder_installed()},
        "installed": [{"name": model.name, "path": model.path, "bytes": model.bytes} for model in installed],
        "available": [
            {
                "name": row.entry.name,
                "label": row.entry.label,
                "quant": row.entry.quant,
                "bits_per_weight": round(row.entry.bits_per_weight, 2),
                "bytes": row.entry.approximate_bytes,
                "bytes_known": row.entry.bytes is not None,
                "sha256": row.entry.sha256,
                "ram_bytes": row.memory,
                "vram_bytes": row.vram,
                "fits": row.fits,
                "best": row.best,
                "best_of_model": row.best_of_model,
                "use_case": row.entry.use_case,
                "licence": row.entry.licence,
                "infill": row.entry.infill,
                "family": row.entry.family,
                "repository": row.entry.hf_repo,
                "file": row.entry.file,
                "installed": row.installed,
            }
            for row in rows
        ],
    }


def run_pull(output: Output, *, name: str, sha256: str, accept_changed: bool, json: bool) -> int:
    """Fetch `name`, showing how far it is; print where it lies."""
    from agent import models
    from agent.pins import pin_of

    with output.progress() as progress:
        path = models.pull(name, progress, sha256=sha256, accept_changed=accept_changed)
    known = pin_of(path) if path.is_file() else None
    if known is not None and known.verified_by == "nothing":
        output.warn(
            f"nobody told what {path.name} should be: its SHA-256 is {known.sha256}; it is noted, and a change noticed"
        )
    return show_file(output, path, json=json)


def run_path(output: Output, *, name: str, json: bool) -> int:
    """Print a place on disk, fit for command substitution."""
    return show_file(output, file_of(name) if name else models_directory(), json=json)


def file_of(name: str) -> Path:
    """The file of an installed model.

    :raises ModelError: it is not installed, or nothing is called so.
    """
    from agent import models

    path: Path | None = models.find(name, more_directories())
    if path is None:
        raise ModelError(f"The model {name} is not installed.", f"Fetch it: agent models pull {name}")
    return path


def more_directories() -> list[Path]:
    """Where the user keeps models of other programs."""
    from agent.config import load_settings

    return [Path(directory) for directory in load_settings().models_dirs]


def models_directory() -> Path:
    """Where our own models lie."""
    from agent.paths import models_dir

    return models_dir()


def show_file(output: Output, path: Path, *, json: bool) -> int:
    """Print a path, which may hold anything."""
    if json:
        output.json({"path": path})
    else:
        output.line(show_path(path))
    return 0
