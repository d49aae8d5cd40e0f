"""`agent cache`: what models have read and keep on disk, so that it is not read again."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands import Job, JsonOption
from agent.output import Output
from agent.safe_text import show_path
from agent.wording import count_text, size_text
from indexers.errors import UsageError

if TYPE_CHECKING:
    from chains.kv.store import KvStore, Listed, Totals

_SHOWN = 20
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_DAY = 86_400.0


def list_command(
    most: Annotated[
        int, typer.Option("--most", metavar="N", min=0, help="Entries shown, last used first; 0 shows all.")
    ] = _SHOWN,
    json: JsonOption = False,
) -> Job:
    """Show the states that are kept: of which model, what they are of, and when they were last used.

    Example: agent cache list
    """
    return Job(partial(run_list, most=most, json=json), json=json)


def prune_command(
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="SIZE", help="Bytes to keep: 500M, 2G. None: the limit in the settings."
        ),
    ] = None,
    days: Annotated[
        float | None,
        typer.Option("--unused-days", metavar="N", min=0, help="Also remove what was not used for so long."),
    ] = None,
    json: JsonOption = False,
) -> Job:
    """Remove what was used least recently, down to a size.

    Example: agent cache prune --to 1G --unused-days 30
    """
    limit = None if to is None else bytes_of(to)
    return Job(partial(run_prune, limit=limit, days=days, json=json), json=json)


def clear_command(json: JsonOption = False) -> Job:
    """Remove every state. Answers stay the same; what they need is read again.

    Example: agent cache clear
    """
    return Job(partial(run_clear, json=json), json=json)


def run_list(output: Output, *, most: int, json: bool) -> int:
    """Show the entries and their sum."""
    store = _store()
    listed = store.entries()
    if json:
        entries = [_told(one) for one in listed]
        total = sum(one.bytes for one in listed)
        output.json({"directory": store.directory, "limit": store.limit, "bytes": total, "entries": entries})
        return 0
    for one in listed[: most or None]:
        what = one.entry.label[:70]
        output.line(
            f"{size_text(one.bytes):>9}  {_age(one.used):>8}  {one.entry.kind:<6} {one.entry.length:>6,} tokens  ",
            (what, "cyan"),
        )
    total = sum(one.bytes for one in listed)
    models = sorted({one.entry.model for one in listed})
    output.note(
        f"{count_text(len(listed), 'state')}, {size_text(total)} of {size_text(store.limit)} in"
        f" {show_path(str(store.directory))}" + (f", of {', '.join(models)}" if models else "")
    )
    return 0


def run_prune(output: Output, *, limit: int | None, days: float | None, json: bool) -> int:
    """Remove what is over the limit or too old."""
    store = _store()
    older = None if days is None else time.time() - days * _DAY
    removed = store.prune(store.limit if limit is None else limit, older)
    return _tell(output, removed, store, json=json)


def run_clear(output: Output, *, json: bool) -> int:
    """Remove everything."""
    store = _store()
    return _tell(output, store.clear(), store, json=json)


def bytes_of(text: str) -> int:
    """A size as people write it: 500M, 2G, 1.5 GiB, 2GB.

    :raises UsageError: it is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if found is None:
        raise UsageError(f"{text!r} is not a size.", "Write it as 500M or 2G.")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _store() -> KvStore:
    from agent.config import load_settings
    from agent.kv_cache import open_store

    return open_store(load_settings())


def _told(one: Listed) -> dict[str, object]:
    told = {name: value for name, value in asdict(one.entry).items() if name != "tokens"}
    return {**told, "bytes": one.bytes, "used": int(one.used)}


def _tell(output: Output, removed: Totals, store: KvStore, *, json: bool) -> int:
    left = store.totals()
    if json:
        output.json({"removed": asdict(removed), "left": asdict(left)})
    else:
        output.note(
            f"removed {count_text(removed.entries, 'state')} of {size_text(removed.bytes)};"
            f" {size_text(left.bytes)} are left"
        )
    return 0


def _age(used: float) -> str:
    seconds = max(0, int(time.time() - used))
    for size, noun in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {noun}"
    return f"{seconds} s"
