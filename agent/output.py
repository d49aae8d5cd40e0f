"""Every byte a person sees: stdout is the answer, stderr the rest; nothing hostile reaches a terminal."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TextIO

from indexers.types import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import Task
    from rich.text import Text

# What is not meant to be seen can move the cursor, write the clipboard, or make text read other than it is.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
_SURROGATES = "\ud800-\udfff"
_UNSAFE = re.compile(f"[{_CONTROLS}{_INVISIBLE}{_SURROGATES}]")
_EMOJI = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
_JOINER, _TEXT_STYLE, _EMOJI_STYLE, _KEYCAP = "\u200d", "\ufe0e", "\ufe0f", "\u20e3"
# Whether these are harmless depends on what follows, which may not have arrived yet.
_UNDECIDED = ("\r", _JOINER, _EMOJI_STYLE)

Styled = str | tuple[str, str]


class Sanitiser:
    """Makes text safe to show, piece by piece: all pieces together give what the whole would give.

    Controls and invisible characters become visible (`⟦U+202E⟧`), each on its own: an escape sequence cut in
    two is as harmless as a whole one, and none can swallow what follows. Emoji keep selectors and joiners.
    """

    def __init__(self) -> None:
        self._held = ""
        self._last = ""

    def feed(self, piece: str) -> str:
        """What can be shown now."""
        text = self._held + piece
        self._held = text[-1] if text.endswith(_UNDECIDED) else ""
        return self._clean(text[: len(text) - len(self._held)], self._held)

    def finish(self) -> str:
        """What was held back until the end was known."""
        text, self._held = self._held, ""
        return self._clean(text, "")

    def _clean(self, text: str, after: str) -> str:
        shown: list[str] = []
        start = 0
        for match in _UNSAFE.finditer(text):
            if match.start() > start:
                shown.append(text[start : match.start()])
                self._last = text[match.start() - 1]
            start = match.end()
            following = text[start] if start < len(text) else after
            replacement = _visible(match.group(), self._last, following)
            if replacement:
                shown.append(replacement)
                self._last = replacement[-1]
        if start < len(text):
            shown.append(text[start:])
            self._last = text[-1]
        return "".join(shown)


def _visible(char: str, before: str, after: str) -> str:
    """One unsafe character as it may be shown between two others (each one character or none)."""
    if char == "\r" and after == "\n":
        return ""
    if char in (_TEXT_STYLE, _EMOJI_STYLE) and before and _EMOJI.match(before):
        return char
    if char == _EMOJI_STYLE and before in tuple("0123456789#*") and after == _KEYCAP:
        return char
    between_emoji = (
        before and after and (before == _EMOJI_STYLE or _EMOJI.match(before)) and _EMOJI.match(after)
    )
    if char == _JOINER and between_emoji:
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8, as os.fsdecode keeps it
        return f"\\x{code - 0xDC00:02x}"
    return f"⟦U+{code:04X}⟧"


def sanitise(text: str) -> str:
    """`text` without anything a terminal would obey or hide; line feeds and tabs stay."""
    cleaner = Sanitiser()
    return cleaner.feed(text) + cleaner.finish()


def valid_text(text: str) -> str:
    """Text as typed, fit for UTF-8: bytes of the command line that are not become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def show_path(path: str | PurePath) -> str:
    """A file name on one line: line feeds and tabs escaped, odd bytes as `\\xNN`."""
    text = str(path).replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return sanitise(text)


def show_label(path: str, start_line: int, end_line: int) -> str:
    """Path and lines as people and editors read them."""
    return f"{show_path(path)}:{start_line}-{end_line}"


def to_json(value: object) -> str:
    """`value` as one JSON text: valid UTF-8, and with nothing raw in it that a terminal would obey."""
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=2)
    # Unsafe characters can only stand inside JSON strings, where an escape means the same.
    return _UNSAFE.sub(lambda match: json.dumps(match.group())[1:-1], text)


def plain(value: object) -> Any:
    """`value` in JSON's own types: dataclasses as objects, paths and enums as text, odd bytes as `\\xNN`."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return _valid_text(value.value if isinstance(value, Enum) else value)
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, PurePath):
        return _valid_text(str(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_valid_text(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    if hasattr(value, "item"):  # a number of an array library
        return plain(value.item())
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _valid_text(text: str) -> str:
    """Lone surrogates as backslash escapes; everything else is kept."""
    if not re.search(f"[{_SURROGATES}]", text):
        return text
    return text.encode("utf-8", "surrogateescape" if _only_bytes(text) else "backslashreplace").decode(
        "utf-8", "backslashreplace"
    )


def _only_bytes(text: str) -> bool:
    """Whether every lone surrogate stands for a byte of a file name."""
    return not re.search("[\ud800-\udc7f\udd00-\udfff]", text)


class AnswerStream:
    """Text that arrives in pieces, shown as it comes."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
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
            self._file.write(text)
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
        return _bars(self._stderr)

    def close(self) -> None:
        """Flush, so that a reader who has gone is noticed here and not while the interpreter shuts down."""
        self._err.flush()
        self._out.flush()


class ProgressView:
    """Shows progress events of long work: bars on a terminal, elsewhere nearly nothing."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._bars: RichProgress | None = None
        self._tasks: dict[str, Any] = {}
        self._announced: set[str] = set()
        self._hidden = False
        self._lock = threading.RLock()

    def __call__(self, event: Progress) -> None:
        """Show one event; events may come from any thread, and those that come while hidden are dropped."""
        with self._lock:
            if self._hidden:
                return
            self._announce(event)
            if self._bars is None:
                self._bars = self._output.live()
                if self._bars is None:
                    return
                self._bars.start()
            total = event.total or None
            if event.stage not in self._tasks:
                self._tasks[event.stage] = self._bars.add_task(
                    sanitise(event.stage), total=total, unit=_unit(event.stage), detail=""
                )
            detail = show_path(event.detail)[:60]
            self._bars.update(self._tasks[event.stage], completed=event.done, total=total, detail=detail)

    def hide(self) -> None:
        """Take the display away, so that the answer can be written where it was."""
        with self._lock:
            self._hidden = True
            if self._bars is not None:
                self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def show(self) -> None:
        """Follow events again, for the next piece of work."""
        with self._lock:
            self._hidden = False

    def _announce(self, event: Progress) -> None:
        """Say what is fetched and how big it is, in a line that stays: it takes long and uses the network."""
        if event.stage.startswith("download") and event.stage not in self._announced:
            self._announced.add(event.stage)
            size = f" ({size_text(event.total)})" if event.total else ""
            self._output.note(f"{event.stage}{size} ...")


def size_text(count: float) -> str:
    """A number of bytes as people read it: 491 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"


def seconds_text(seconds: float) -> str:
    """A duration as people read it: 0.8 s, 3 min 20 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def count_text(count: int, noun: str) -> str:
    """A counted noun: 1 file, 2 files."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


# Names of our languages that Pygments calls something else.
LEXERS: Mapping[str, str] = {
    "notebook": "python",
    "cpp": "c++",
    "markdown": "text",
    "text": "text",
    "shell": "bash",
}
_UNITS = {
    "read": "files",
    "parse": "files",
    "embed": "chunks",
    "store": "vectors",
    "prefill": "tokens",
    "warm": "steps",
}


def _unit(stage: str) -> str:
    return "bytes" if stage.startswith("download") else _UNITS.get(stage, "")


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


def _bars(console: Console) -> RichProgress:
    """Stage, bar, count, rate and time left."""
    from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Amount(ProgressColumn):
        """Done of total and the rate, in the stage's own unit."""

        def render(self, task: Task) -> Text:
            return Text(_amount(task), style="progress.data.speed")

    return RichProgress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        Amount(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[detail]}", style="dim", markup=False),
        console=console,
        refresh_per_second=6,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _amount(task: Task) -> str:
    unit = task.fields.get("unit", "")
    if unit == "bytes":
        show = size_text
    elif not unit:
        return ""
    else:

        def show(count: float) -> str:
            return f"{count:,.0f}"

    done = show(task.completed) + (f"/{show(task.total)}" if task.total else "")
    rate = f", {show(task.speed)}/s" if task.speed else ""
    return f"{done}{'' if unit == 'bytes' else ' ' + unit}{rate}"
