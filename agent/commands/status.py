"""`agent status`: what is indexed, how fresh it is, and which model would answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.commands import Job, JsonOption, RepoOption, work_on
from agent.commands.warm import warmed_text
from agent.output import Output
from agent.safe_text import show_path
from agent.wording import count_text, seconds_text, size_text

if TYPE_CHECKING:
    from agent.api import Status
    from agent.kv_cache import CacheState
    from indexers.claim import Embedding


def command(repo: RepoOption = Path(), json: JsonOption = False) -> Job:
    """Show what is indexed and how fresh it is.

    Example: agent status --json
    """
    return Job(partial(run, repo=repo, json=json), json=json)


def run(output: Output, *, repo: Path, json: bool) -> int:
    """Show the state of the repository's index."""
    with work_on(output, repo) as work:
        status = work.agent.status()
        work.progress.hide()
        if json:
            output.json(status)
        else:
            _show(output, status)
    return 0


def _show(output: Output, status: Status) -> None:
    commit = status.head[:12] if status.head else "no commit yet"
    branch = status.branch or ("detached" if status.head else "")
    unread = f", {status.files_pending:,} to read" if status.files_pending else ""
    pending = f", {status.vectors_pending:,} to embed" if status.vectors_pending else ""
    lines = {
        "repository": f"{show_path(status.root)}  {branch} {commit}",
        "index": _freshness(status),
        "files": f"{status.files:,} indexed, {status.skipped:,} skipped{unread}",
        "chunks": f"{status.chunks:,}",
        "vectors": f"{status.vectors:,}{pending}",
        "size": f"{size_text(status.bytes_on_disk)} in {show_path(status.index_dir)}",
        "model": status.model,
        "embedder": status.embedder,
        **({"read before": _cache(status.cache)} if status.cache else {}),
        **({"warmed": warmed_text(status.warmed)} if status.warmed else {}),
        **({"reading": _reading(status.reading_ahead, "step")} if status.reading_ahead else {}),
        **({"indexing": _reading(status.reading, "files")} if status.reading else {}),
        **({"embedding": _embedding(status.embedding)} if status.embedding else {}),
    }
    for name, text in lines.items():
        output.line((f"{name:<12}", "bold"), text)


def _cache(cache: CacheState) -> str:
    """How much of what models read is kept, and whether this one joins it."""
    kept = f"{count_text(cache.entries, 'state')}, {size_text(cache.bytes)} of {size_text(cache.limit)}"
    how = {"joined": "sources are joined", "exact": "sources are read in their place"}.get(cache.reading, "")
    return f"{kept}; {how} ({cache.reason})" if how else kept


def _reading(now: Embedding, what: str) -> str:
    """Who reads files or ahead, and how far it is."""
    begun = "the head of prompts" if what == "step" else "files"
    done = f"{now.done:,} of {count_text(now.total, what)}" if now.total else begun
    return f"{done}, by process {now.pid} ({now.command})"


def _embedding(now: Mapping[str, Any]) -> str:
    """Who makes vectors, how many are done, and how long the rest will take."""
    left = now["seconds_left"]
    rest = "" if left is None else f", {now['rate']:.0f} a second, about {seconds_text(left)} left"
    return f"{now['done']:,} of {now['total']:,} by process {now['pid']} ({now['command']}){rest}"


def _freshness(status: Status) -> str:
    if not status.last_indexed:
        return "none yet: agent index"
    age = max(0, int(time.time()) - status.last_indexed)
    state = "behind the tree (search and ask refresh it)" if status.stale else "fresh"
    return f"{state}, written {_age(age)} ago, generation {status.generation}"


def _age(seconds: int) -> str:
    for size, noun in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            return count_text(seconds // size, noun)
    return count_text(seconds, "second")
