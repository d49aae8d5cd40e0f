"""`agent search`: places that match, each with the lines that show why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands import (
    Job,
    JsonOption,
    LangOption,
    NoTestsOption,
    PathOption,
    RepoOption,
    explain,
    filter_of,
    work_on,
)
from agent.output import Output
from agent.safe_text import show_label, valid_text

if TYPE_CHECKING:
    from rich.text import Text

    from indexers.filters import Filter
    from indexers.types import Hit

EXCERPT_LINES = 6
# Definitions named beside a hit: a chunk of constants has dozens.
NAMES = 3
# Words of a query that are pointed at: a whole file pasted as a query has thousands, and each is looked for.
MOST_TERMS = 100
# A longer line is data, not code: it is cut for display around what matched.
EXCERPT_COLUMNS = 160
COMMON = frozenset(
    "a an and are as at be by can do does for from has have how i if in into is it its of on or that the "
    "their then there this to use used was what when where which who why will with".split()
)


def command(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Words, an identifier, or a sentence.")],
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, max=1000, help="The most hits to show.")] = 10,
    repo: RepoOption = Path(),
    path: PathOption = None,
    lang: LangOption = None,
    no_tests: NoTestsOption = False,
    explained: Annotated[
        bool,
        typer.Option("--explain", help="Show how the query was read and what each signal gave to a score."),
    ] = False,
    json: JsonOption = False,
) -> Job:
    """Search a repository by words and by meaning.

    Each hit is path:start-end, its score, the names that enclose it, and the lines that match best.

    Example: agent search "where are retries configured" -k 5
    """
    only = filter_of(path, lang, no_tests)
    job = partial(run, query=query, k=k, repo=repo, only=only, explained=explained, json=json)
    return Job(job, json=json)


def run(output: Output, *, query: str, k: int, repo: Path, only: Filter, explained: bool, json: bool) -> int:
    """Search and show the hits, best first."""
    query = valid_text(query)
    with work_on(output, repo) as work:
        hits = work.agent.search(query, k, only=only)
        read = work.agent.understood(query) if explained else None
        work.progress.hide()
        if json:
            more = {} if read is None else {"explain": explain.as_json(read, only)}
            found = [_as_json(hit) for hit in hits]
            # As of the answer: a worker may have read on since.
            status = replace(work.agent.status(), files_pending=work.agent.workspace.unread)
            output.json({"query": query, **more, "hits": found, "absent": hits.absent, "index": status})
            return 0
    if read is not None:
        explain.show_query(output, read, only)
    if not hits:
        output.note("nothing found")
    elif hits.absent:
        output.note(
            (f"{', '.join(hits.absent)}: nowhere in the index; shown is what comes nearest", "yellow")
        )
    terms = query_terms(query)
    for number, hit in enumerate(hits):
        if number:
            output.line()
        _show_head(output, hit)
        if explained:
            explain.show_signals(output, hit, hits)
        _show_excerpt(output, hit, terms)
    return 0


def query_terms(query: str) -> tuple[str, ...]:
    """The words of a query worth pointing at in source text, and the parts of its identifiers; the first hundred."""
    terms: dict[str, None] = {}
    for found in re.finditer(r"\w+", query):
        if len(terms) >= MOST_TERMS:
            break
        word = found[0]
        parts = [word, *re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", word), *word.split("_")]
        for part in parts:
            lowered = part.lower()
            if len(lowered) > 1 and lowered not in COMMON:
                terms[lowered] = None
                if len(lowered) > 4 and lowered.endswith("s"):
                    terms[lowered[:-1]] = None
    return tuple(terms)[:MOST_TERMS]


def best_window(lines: Sequence[str], terms: Iterable[str], size: int = EXCERPT_LINES) -> tuple[int, int]:
    """The `size` neighbouring lines (start, end: half-open) that hold most of the terms; the first such."""
    lowered = [line.lower() for line in lines]
    wanted = tuple(terms)

    def worth(start: int) -> tuple[int, int]:
        window = lowered[start : start + size]
        distinct = sum(any(term in line for line in window) for term in wanted)
        return distinct, sum(term in line for line in window for term in wanted)

    last = max(0, len(lines) - size)
    start = max(range(last + 1), key=lambda at: (worth(at), -at))
    # A match on the window's last line reads better with what follows it.
    return start, min(len(lines), start + size)


def _as_json(hit: Hit) -> dict[str, object]:
    return {
        "path": hit.path,
        "start_line": hit.start_line,
        "end_line": hit.end_line,
        "score": hit.score,
        "language": hit.language,
        "scope": hit.scope,
        "symbols": hit.symbols,
        "text": hit.text,
        "signals": hit.signals,
        "similarity": hit.similarity,
    }


def _show_head(output: Output, hit: Hit) -> None:
    label = show_label(hit.path, hit.start_line, hit.end_line)
    names = " > ".join([*hit.scope, *([", ".join(hit.symbols[:NAMES])] if hit.symbols else [])])
    output.line((label, "bold cyan"), (f"  {hit.score:.3f}", "dim"), f"  {names}" if names else "")


def _show_excerpt(output: Output, hit: Hit, terms: Sequence[str]) -> None:
    # Line feeds at the end would be empty lines of an excerpt, and are no lines of the file.
    text = hit.text.rstrip("\n")
    start, end = best_window(text.split("\n"), terms)
    styled = output.code(text, hit.language)
    width = len(str(hit.start_line + end))
    for offset in range(start, min(end, len(styled))):
        line = _marked(styled[offset], terms)
        number = f"  {hit.start_line + offset:>{width}} "
        output.text(_numbered(number, line))


def _marked(line: Text, terms: Sequence[str]) -> Text:
    """The line cut to a readable width around its first match, with the matched words marked."""
    lowered = line.plain.lower()
    first = min((at for at in (lowered.find(term) for term in terms) if at >= 0), default=0)
    if len(line.plain) > EXCERPT_COLUMNS:
        start = max(0, min(first - EXCERPT_COLUMNS // 3, len(line.plain) - EXCERPT_COLUMNS))
        line = line[start : start + EXCERPT_COLUMNS]
    if terms:
        pattern = "|".join(re.escape(term) for term in sorted(terms, key=len, reverse=True))
        line.highlight_regex(re.compile(pattern, re.IGNORECASE), style="bold reverse")
    return line


def _numbered(number: str, line: Text) -> Text:
    from rich.text import Text

    return Text.assemble((number, "dim"), line)
