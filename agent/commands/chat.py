"""`agent chat`: questions in turn, the later ones understood with the earlier ones in mind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.commands import (
    AnswerOption,
    ContextOption,
    ExactOption,
    FastOption,
    Job,
    LangOption,
    ModelOption,
    NoDownloadOption,
    NoTestsOption,
    PathOption,
    PreviewOption,
    RepoOption,
    Work,
    answer_flags,
    filter_of,
    reading_of,
    tell_notes,
    work_on,
)
from agent.commands.ask import MAX_QUESTION_CHARS, show_answer, show_sources, show_usage
from agent.commands.engine import Engine, with_engine
from agent.output import Output
from agent.preview_view import preview_view
from agent.safe_text import sanitise, show_label
from indexers.errors import AgentError, UsageError

if TYPE_CHECKING:
    from agent.api import Chat
    from chains.types import Answer
    from indexers.filters import Filter

PROMPT = "> "
HELP = """\
/help        this list
/sources     what the last answer stands on
/reset       forget the conversation and start anew
/save FILE   write the conversation as Markdown
/quit        leave (Ctrl-D does too)
Ctrl-C stops an answer and keeps the chat."""


@with_engine
def command(
    repo: RepoOption = Path(),
    path: PathOption = None,
    lang: LangOption = None,
    no_tests: NoTestsOption = False,
    model: ModelOption = None,
    context_tokens: ContextOption = None,
    max_tokens: AnswerOption = None,
    exact: ExactOption = False,
    fast: FastOption = False,
    preview: PreviewOption = None,
    no_download: NoDownloadOption = False,
    *,
    engine: Engine,
) -> Job:
    """Talk about a repository over several turns.

    Follow-up questions are searched with the conversation in mind. /help lists the commands of a chat; Ctrl-C
    stops an answer, Ctrl-D leaves. With piped input, each line is a question.

    Example: agent chat --repo ~/src/click --model qwen2.5-coder-1.5b-instruct
    """
    flags = answer_flags(
        model, context_tokens, max_tokens, no_download, engine, reading_of(exact, fast), preview
    )
    return Job(partial(run, repo=repo, only=filter_of(path, lang, no_tests), flags=flags))


@dataclass
class Conversation:
    """A running chat and what it has shown, for /sources and /save."""

    output: Output
    work: Work
    chat: Chat
    turns: list[tuple[str, Answer]] = field(default_factory=list)

    def ask(self, question: str) -> None:
        """Answer one question; Ctrl-C stops the answer only."""
        if len(question) > MAX_QUESTION_CHARS:
            raise UsageError(
                f"The question has {len(question):,} characters; at most {MAX_QUESTION_CHARS:,} can be read."
            )
        self.work.progress.show()
        try:
            with preview_view(self.output, self.work) as on_preview:
                pieces = self.chat.stream(question, on_preview)
                answer = show_answer(self.output, self.work.progress, pieces)
        except KeyboardInterrupt:
            self.output.note(("stopped; this turn is not remembered", "yellow"))
            return
        self.turns.append((question, answer))
        show_sources(self.output, answer)
        show_usage(self.output, answer, "" if len(self.turns) > 1 else self.work.agent.model.choice)
        tell_notes(self.output, self.work.agent)
        self.output.line()

    def sources(self, _: str) -> None:
        """Show again what the last answer stands on."""
        if not self.turns:
            raise UsageError("There is no answer yet.", "Ask something first.")
        show_sources(self.output, self.turns[-1][1])

    def reset(self, _: str) -> None:
        """Forget every turn."""
        self.chat.reset()
        self.turns.clear()
        self.output.note("the conversation starts anew")

    def save(self, name: str) -> None:
        """Write the conversation as Markdown, into a file that does not exist yet."""
        if not name:
            raise UsageError("/save needs a file name.", "/save chat.md")
        path = Path(name).expanduser()
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(as_markdown(self.work.agent.root.name, self.turns))
        except FileExistsError as error:
            raise UsageError(
                f"{path} exists already and is left as it is.", "Choose another name."
            ) from error
        except OSError as error:
            raise UsageError(
                f"{path} cannot be written: {error.strerror}.", "Choose another place."
            ) from error
        self.output.note(f"saved to {path}")

    def help(self, _: str) -> None:
        """List the commands of a chat."""
        self.output.note(HELP)


def run(output: Output, *, repo: Path, only: Filter, flags: Mapping[str, object]) -> int:
    """Answer questions until the input ends."""
    with work_on(output, repo, flags) as work:
        conversation = Conversation(output, work, work.agent.chat(only=only))
        commands: dict[str, Callable[[str], None]] = {
            "/help": conversation.help,
            "/sources": conversation.sources,
            "/reset": conversation.reset,
            "/save": conversation.save,
        }
        if output.typed:
            _prepare_editing()
            output.note(f"Ask about {work.agent.root.name}; /help lists the commands, Ctrl-D leaves.")
        code = 0
        while (line := _next_line(output)) is not None:
            if line in ("/quit", "/exit"):
                return code
            if line and not output.typed:
                output.line((PROMPT + line, "bold"))  # a transcript without its questions says little
            try:
                if line.startswith("/"):
                    _obey(commands, line)
                elif line:
                    conversation.ask(line)
            except AgentError as error:
                # One question that cannot be answered does not end the conversation.
                output.error(error.message, error.remedy)
                if not output.typed and not line.startswith("/"):
                    code = error.exit_code  # a script learns of it nowhere else
        if output.typed:
            output.line()  # Ctrl-D leaves the cursor behind the prompt
    return code


def as_markdown(name: str, turns: list[tuple[str, Answer]]) -> str:
    """The conversation as a document."""
    parts = [f"# Chat about {sanitise(name)}\n"]
    for question, answer in turns:
        parts += [f"\n## {sanitise(' '.join(question.split()))}\n", f"\n{sanitise(answer.text.strip())}\n"]
        if answer.citations:
            parts.append("\nSources:\n\n")
        for citation in dict.fromkeys(answer.citations):
            label = show_label(citation.path, citation.start_line, citation.end_line)
            parts.append(f"- `{label}` ({'verified' if citation.verified else 'not verified'})\n")
    return "".join(parts)


def _obey(commands: Mapping[str, Callable[[str], None]], line: str) -> None:
    name, _, rest = line.partition(" ")
    action = commands.get(name)
    if action is None:
        raise UsageError(f"There is no command {name}.", "/help lists the commands.")
    action(rest.strip())


def _next_line(output: Output) -> str | None:
    """The next line without blanks around it; Ctrl-C at the prompt only clears what was typed."""
    while True:
        try:
            line = output.read_line(PROMPT)
        except KeyboardInterrupt:
            if not output.typed:
                raise
            output.note("", "(Ctrl-D or /quit leaves)")
            continue
        return None if line is None else line.strip()


def _prepare_editing() -> None:
    """Arrow keys and recall for `input`, where the platform has them: importing readline turns them on."""
    try:
        import readline
    except ImportError:
        return
    readline.set_history_length(200)
