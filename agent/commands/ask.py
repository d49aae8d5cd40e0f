"""`agent ask`: a streamed answer, then the sources it stands on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from agent.commands import (
    AnswerOption,
    ContextOption,
    ExactOption,
    FastOption,
    Job,
    JsonOption,
    LangOption,
    ModelOption,
    NoDownloadOption,
    NoTestsOption,
    PathOption,
    PreviewOption,
    RepoOption,
    answer_flags,
    filter_of,
    reading_of,
    work_on,
)
from agent.commands.engine import Engine, with_engine
from agent.output import Output
from agent.preview_view import preview_view
from agent.progress_view import ProgressView
from agent.safe_text import show_label, show_path, to_json, valid_text
from agent.wording import count_text, seconds_text
from chains.types import REPEATED
from indexers.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from chains.types import Answer, Citation, Step
    from indexers.filters import Filter

# A question longer than this is a document; no model here reads it together with sources.
MAX_QUESTION_CHARS = 16_384
# What of a lookup's argument is shown.
_LONGEST = 100


@with_engine
def command(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question; - reads it from stdin.")],
    repo: RepoOption = Path(),
    path: PathOption = None,
    lang: LangOption = None,
    no_tests: NoTestsOption = False,
    model: ModelOption = None,
    context_tokens: ContextOption = None,
    max_tokens: AnswerOption = None,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help="Look things up in steps first: slower, and no better with small models."
        ),
    ] = False,
    max_steps: Annotated[
        int | None,
        typer.Option(
            "--max-steps", metavar="N", min=1, max=50, help="Lookups of --deep (6).", show_default=False
        ),
    ] = None,
    show_prompt: Annotated[
        bool, typer.Option("--show-prompt", help="Print what the model would read, and stop.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Say of each source what it cost: tokens, read before or now, seconds."
        ),
    ] = False,
    exact: ExactOption = False,
    fast: FastOption = False,
    preview: PreviewOption = None,
    no_download: NoDownloadOption = False,
    json: JsonOption = False,
    *,
    engine: Engine,
) -> Job:
    """Ask about a repository; the answer names its sources.

    Sources are cited as path:start-end, and every citation is checked against the file: what does not stand
    there is marked. The answer goes to stdout, everything else to stderr.

    Example: agent ask "How does a command find its options?" --repo ~/src/click
    """
    flags = answer_flags(
        model, context_tokens, max_tokens, no_download, engine, reading_of(exact, fast), preview
    )
    only = filter_of(path, lang, no_tests)
    if not deep and max_steps is not None:
        raise UsageError("--max-steps bounds the lookups of --deep.", "Add --deep, or leave it out.")
    if deep and show_prompt:
        raise UsageError("--show-prompt shows the prompt without --deep: with it there are several.")
    if preview and (deep or show_prompt):
        raise UsageError("--preview goes before an answer without --deep.", "Leave one of them out.")
    if explain and (deep or show_prompt):
        raise UsageError("--explain tells of an answer without --deep.", "Leave one of them out.")
    job = partial(
        run,
        question=question,
        repo=repo,
        only=only,
        flags=flags,
        deep=deep,
        max_steps=max_steps,
        show_prompt=show_prompt,
        explain=explain,
        json=json,
    )
    return Job(job, json=json)


def run(
    output: Output,
    *,
    question: str,
    repo: Path,
    only: Filter,
    flags: Mapping[str, object],
    deep: bool,
    max_steps: int | None,
    show_prompt: bool,
    explain: bool,
    json: bool,
) -> int:
    """Answer the question from the repository at `repo`."""
    asked = read_question(output, question)
    with work_on(output, repo, flags) as work:
        if show_prompt:
            prompt = work.agent.prompt(asked, only=only)
            work.progress.hide()
            if json:
                output.json({"prompt": prompt})
            else:
                show_text(output, prompt)
            return 0
        with preview_view(output, work, json=json) as on_preview:
            pieces = work.agent.stream(asked, only=only, on_preview=on_preview)
            if deep:
                looked_up = work.agent.deep(asked, only=only, max_steps=max_steps)
                pieces = show_steps(output, work.progress, looked_up)
            answer = show_answer(output, work.progress, pieces, silent=json)
        choice = work.agent.model.choice
        if json:
            output.json(answer)
        else:
            show_sources(output, answer)
            if explain:
                show_costs(output, answer)
        if not deep and not only:
            work.agent.warm_follow_ups()
    if json:
        return 0
    show_usage(output, answer, choice)
    return 0


def read_question(output: Output, question: str) -> str:
    """The question as text: from stdin for `-`, never empty, never a whole document."""
    text = output.read_all() if question == "-" else question
    if not text.strip():
        raise UsageError("The question is empty.", 'Ask something: agent ask "Where are retries configured?"')
    if len(text) > MAX_QUESTION_CHARS:
        raise UsageError(
            f"The question has {len(text):,} characters; at most {MAX_QUESTION_CHARS:,} can be read.",
            "Shorten it: files of the repository need not be pasted, they are found.",
        )
    return valid_text(text.strip())


def show_text(output: Output, text: str) -> None:
    """A text of many lines, as it is."""
    stream = output.stream()
    stream.feed(text)
    stream.finish()


def show_answer(
    output: Output, progress: ProgressView, pieces: Iterator[str | Answer], *, silent: bool = False
) -> Answer:
    """Show the pieces of an answer as they come; give back the checked answer that ends them."""
    stream = output.stream()
    answer: Answer | None = None
    shown = False
    # Closing the iterator is what stops the model, also when the reader has gone or Ctrl-C was pressed.
    with closing(cast("Generator[str | Answer, Any, Any]", pieces)) as items:
        try:
            for item in items:
                if not isinstance(item, str):
                    answer = item
                elif not silent:
                    progress.hide()
                    stream.feed(item)
                    shown = True
        finally:
            progress.hide()
            if shown:
                stream.finish()
    assert answer is not None, "a stream ends with its answer"
    if not shown and not silent:
        show_text(output, answer.text)
    return answer


def show_steps(
    output: Output, progress: ProgressView, items: Iterator[Step | str | Answer]
) -> Iterator[str | Answer]:
    """Show each lookup of a deep answer on stderr as it is done; hand on the rest."""
    from chains.types import Step

    with closing(cast("Generator[Step | str | Answer, Any, Any]", items)) as deep:
        for item in deep:
            if isinstance(item, Step):
                progress.hide()
                output.note((f"{item.tool}{_shown(item.arguments)} -> {item.outcome}", "dim"))
                progress.show()
            else:
                yield item


def _shown(arguments: Mapping[str, object]) -> str:
    """A lookup's arguments on one line. They may be words of the repository."""
    texts = [" ".join(to_json(value).split()) for value in arguments.values()]
    return "".join(" " + (text if len(text) <= _LONGEST else text[:_LONGEST] + "…") for text in texts)


def show_sources(output: Output, answer: Answer) -> None:
    """What the answer cites and whether it holds; then what else the model had read."""
    if not answer.found:
        return
    if answer.citations or answer.sources:
        output.line()
    if answer.citations:
        reuses = all(citation.symbol for citation in answer.citations)
        output.line(("Reuses" if reuses else "Citations", "bold"))
    cited = list(dict.fromkeys(answer.citations))
    for citation in cited:
        _show_citation(output, citation)
    others = [source for source in answer.sources if not any(_overlaps(source, place) for place in cited)]
    if others:
        output.line(("Also read" if cited else "Read, but cited by nothing in the answer", "bold"))
    for source in others:
        output.line("  - ", (show_label(source.path, source.start_line, source.end_line), "cyan"))
    if answer.unverified:
        output.line(("In no source: ", "yellow"), ", ".join(answer.unverified))


def show_costs(output: Output, answer: Answer) -> None:
    """What each source cost, in the order in which the model saw it."""
    if not answer.costs:
        return
    output.line(("Cost", "bold"))
    for cost in answer.costs:
        how = "read before" if cost.read_before else f"read in about {seconds_text(cost.seconds)}"
        output.line(f"  {cost.tokens:>6,} tokens  {how:<22}  ", (show_path(cost.label), "cyan"))


def show_usage(output: Output, answer: Answer, choice: str = "") -> None:
    """What the answer cost, what limits cut, and how the engine was set up."""
    usage = answer.usage
    if usage.finish_reason == "length":
        output.warn("the answer reached its longest length and was cut; --max-tokens allows more")
    elif usage.finish_reason == REPEATED:
        output.warn(
            "the model went round in circles and was stopped; a larger one does so less: agent models"
        )
    if answer.dropped:
        output.note(
            (f"{count_text(len(answer.dropped), 'source')} did not fit; --context-tokens allows more", "dim")
        )
    if not usage.prompt_tokens:
        return  # nothing was read, so no model was run
    cached = f" ({usage.cached_tokens:,} from cache)" if usage.cached_tokens else ""
    cached += f" and {usage.preview_tokens:,} for the preview" if usage.preview_tokens else ""
    output.note(
        (
            f"{answer.model}: {usage.prompt_tokens:,} tokens read{cached}, "
            f"{usage.completion_tokens:,} written, "
            f"{seconds_text(usage.seconds)}, first token after {seconds_text(usage.first_token_seconds)}",
            "dim",
        )
    )
    if choice:
        output.note((choice, "dim"))


def _show_citation(output: Output, citation: Citation) -> None:
    label = (show_label(citation.path, citation.start_line, citation.end_line), "cyan")
    if citation.verified:
        output.line(("  + ", "green"), label, ("  verified", "green"), f"  {citation.symbol}".rstrip())
    else:
        output.line(
            ("  ! ", "yellow"), label, (f"  not verified: {citation.reason or 'no reason given'}", "yellow")
        )


def _overlaps(source: Any, citation: Citation) -> bool:
    return bool(
        source.path == citation.path
        and source.start_line <= citation.end_line
        and citation.start_line <= source.end_line
    )
