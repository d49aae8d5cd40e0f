"""Every byte a person sees: stdout is the answer, stderr the rest; nothing hostile reaches a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NoReturn, TextIO

from agent.progress_view import ProgressView, bars
from agent.safe_text import Sanitiser, sanitise, to_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.text import Text

Styled = str | tuple[str, str]


# Text between the two is shown faint.
_DIM = "\x1b[2m{}\x1b[22m"


class AnswerStream:
    """Text that arrives in pieces, shown as it comes."""

    def __init__(self, file: TextIO, *, dim: bool = False) -> None:
        self._file = file
        self._frame = _DIM if dim else "{}"
        self._cleaner = Sanitiser()
        self._at_line_start = True

    def feed(self, piece: str) -> None:
        """Show the next piece."""
        self._write(self._cleaner.feed(piece))

    def finish(self) -> None:
        """Show what was held back, and end the line."""
        self._write(self._cleaner.finish())
        if not self._at_line_start:
            self._write("\n")

    def _write(self, text: str) -> None:
        if text:
            self._file.write(self._frame.format(text))
            self._file.flush()
            self._at_line_start = text.endswith("\n")


class Output:
    """The program's two streams. Nothing is ever read as markup; every text is sanitised on its way out."""

    def __init__(
        self,
        color: str = "auto",
        *,
        quiet: bool = False,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self.quiet = quiet
        self._out = stdout if stdout is not None else sys.stdout
        self._err = stderr if stderr is not None else sys.stderr
        for stream in (self._out, self._err):
            # A terminal that cannot show a character gets its escape; the program does not end over it.
            _lenient(stream, "backslashreplace")
        self.recolor(color)

    def recolor(self, color: str) -> None:
        """Choose again whether to colour (auto, always, never), once the settings are known."""
        self._color = color
        self._consoles: dict[bool, Console] = {}

    # Made when first written to: help does without Rich, which takes longer to import than it does.

    @property
    def _stdout(self) -> Console:
        if False not in self._consoles:
            self._consoles[False] = _console(self._out, self._color)
        return self._consoles[False]

    @property
    def _stderr(self) -> Console:
        if True not in self._consoles:
            self._consoles[True] = _console(self._err, self._color)
        return self._consoles[True]

    @property
    def colored(self) -> bool:
        """Whether the answer may carry colour, so that highlighting is worth its time."""
        return self._stdout.color_system is not None

    @property
    def interactive(self) -> bool:
        """Whether a person sees stderr as it is written."""
        return _is_terminal(self._err) and not self._stderr.is_dumb_terminal

    @property
    def watched(self) -> bool:
        """Whether a person sees the answer as it is written, and wants to see what goes with it."""
        return self.interactive and _is_terminal(self._out) and not self.quiet

    @property
    def typed(self) -> bool:
        """Whether questions are typed at a terminal."""
        return _is_terminal(sys.stdin) and _is_terminal(self._out)

    def line(self, *parts: Styled) -> None:
        """One line of the answer."""
        self._stdout.print(_text(parts), soft_wrap=True)

    def text(self, text: Text) -> None:
        """One line of the answer that was styled from sanitised text."""
        self._stdout.print(text, soft_wrap=True)

    def note(self, *parts: Styled) -> None:
        """One line beside the answer, silenced by --quiet."""
        if not self.quiet:
            self._stderr.print(_text(parts), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Something the user should know, on stderr."""
        self._stderr.print(_text([("warning: ", "yellow"), text]), soft_wrap=True)

    def error(self, message: str, remedy: str = "") -> None:
        """Why the program stops, and what to do about it."""
        self._stderr.print(_text([("error: ", "bold red"), message]), soft_wrap=True)
        if remedy:
            self._stderr.print(_text([("  try: ", "bold"), remedy]), soft_wrap=True)

    def trace(self, text: str) -> None:
        """A traceback, for --debug."""
        self._stderr.print(_text([(text, "dim")]), soft_wrap=True)

    def json(self, value: object) -> None:
        """The answer as exactly one JSON object, in UTF-8 whatever the locale."""
        text = to_json(value) + "\n"
        self._out.flush()
        binary = getattr(self._out, "buffer", None)
        if binary is None:
            self._out.write(text)
        else:
            binary.write(text.encode())
            binary.flush()
        self._out.flush()

    def stream(self) -> AnswerStream:
        """The answer in pieces, on stdout."""
        return AnswerStream(self._out)

    def aside(self) -> AnswerStream:
        """Text beside the answer in pieces, on stderr, dim where colour is shown."""
        return AnswerStream(self._err, dim=self._stderr.color_system is not None)

    def code(self, text: str, language: str) -> list[Text]:
        """The lines of source text, coloured where colour is shown. `text` need not be safe."""
        from rich.text import Text

        safe = sanitise(text)
        lines = [Text(line) for line in safe.split("\n")]
        if not self.colored:
            return lines
        from rich.syntax import Syntax

        styled = Syntax(safe, LEXERS.get(language, language or "text"), theme="ansi_dark").highlight(safe)
        found = styled.split("\n", allow_blank=True)
        # A lexer that drops or adds lines would put line numbers at the wrong text.
        same = [line.plain for line in found[: len(lines)]] == [line.plain for line in lines]
        return list(found[: len(lines)]) if same else lines

    def read_all(self) -> str:
        """Everything piped in; what is not UTF-8 in it is replaced."""
        _lenient(sys.stdin, "replace")
        return sys.stdin.read()

    def read_bytes(self, most: int) -> bytes:
        """What is piped in, byte for byte; at most one byte more than `most`, by which too much is told."""
        return sys.stdin.buffer.read(most + 1)

    def read_line(self, prompt: str) -> str | None:
        """One line typed or piped in, without its line end; None when there is no more."""
        if self.typed:
            self._out.flush()
            try:
                return input(prompt)
            except EOFError:
                return None
        _lenient(sys.stdin, "replace")
        line = sys.stdin.readline()
        return line.rstrip("\n") if line else None

    @contextmanager
    def progress(self) -> Iterator[ProgressView]:
        """A view of long work on stderr, gone when the block ends."""
        view = ProgressView(self)
        try:
            yield view
        finally:
            view.hide()

    def live(self) -> RichProgress | None:
        """An empty progress display, or None where nobody watches."""
        if self.quiet or not self.interactive:
            return None
        return bars(self._stderr)

    def close(self) -> None:
        """Flush, so that a reader who has gone is noticed here and not while the interpreter shuts down."""
        self._err.flush()
        self._out.flush()


# Names of our languages that Pygments calls something else.
LEXERS: Mapping[str, str] = {
    "notebook": "python",
    "cpp": "c++",
    "markdown": "text",
    "text": "text",
    "shell": "bash",
}


def _text(parts: Iterable[Styled]) -> Text:
    """Styled pieces as one text; a closing line feed is the printer's business."""
    from rich.text import Text

    text = Text()
    for part in parts:
        content, style = part if isinstance(part, tuple) else (part, "")
        text.append(sanitise(content), style=style)
    return text


def _lenient(stream: TextIO, errors: str) -> None:
    """Let a stream stand bytes or characters that its encoding lacks."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        try:
            reconfigure(errors=errors)
        except io.UnsupportedOperation:  # input that has been read from already
            pass


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _console(file: TextIO, color: str) -> Console:
    """Rich on one stream, with nothing of it that guesses at content."""
    from rich.console import Console

    class Terminal(Console):
        """A closed reader is reported to the caller: the one error boundary ends the program, quietly."""

        def on_broken_pipe(self) -> NoReturn:
            raise BrokenPipeError

    terminal = _is_terminal(file)
    colored = color == "always" or (color == "auto" and terminal)

    def make(system: Literal["auto", "standard"] | None) -> Console:
        return Terminal(
            file=file,
            force_terminal=terminal or colored,
            color_system=system,
            no_color=not colored,
            highlight=False,
            markup=False,
            emoji=False,
        )

    console = make("auto" if colored else None)
    # Asked for, on something that does not say what it can show: the eight colours that everything can.
    return make("standard") if color == "always" and console.color_system is None else console
