"""What is shown: nothing a terminal would obey, nothing hidden, and the two streams kept apart."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.output import Output
from agent.safe_text import Sanitiser, plain, sanitise, show_label, show_path, to_json, valid_text
from agent.wording import count_text, seconds_text, size_text
from indexers.types import Progress, Skipped, SkipReason

# Any code point, lone surrogates too, with what matters here made frequent.
HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("\x1b\x07\x9b\x9d\r\n\t\u200d\ufe0f\ufe0e\u202e\u2066\U000e0041👩💻☺1#*\u20e3a[]"),
        st.characters(categories=["Cs"]),
    )
)
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def test_escape_sequences_are_shown_and_swallow_nothing() -> None:
    assert sanitise("a\x1b[31mred\x1b]0;title\x07 after") == "a⟦U+001B⟧[31mred⟦U+001B⟧]0;title⟦U+0007⟧ after"
    assert sanitise("\x9b31m") == "⟦U+009B⟧31m"


@pytest.mark.parametrize(
    "char",
    [
        "\u202e",
        "\u2066",
        "\u200b",
        "\u200c",
        "\u200e",
        "\ufeff",
        "\u2028",
        "\U000e0041",
        "\ufe00",
        "\U000e0100",
        "\u00ad",
    ],
)
def test_invisible_characters_become_visible(char: str) -> None:
    assert sanitise(f"a{char}b") == f"a⟦U+{ord(char):04X}⟧b"


@pytest.mark.parametrize(
    "text", ["☺️", "👩‍💻", "1️⃣ first", "👩🏽‍🔬", "❤️‍🔥", "日本語 naïve Ελληνικά עברית", "tab\tline\n"]
)
def test_ordinary_text_and_emoji_stay(text: str) -> None:
    assert sanitise(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\ufe0f", "a⟦U+FE0F⟧"),
        ("☺\ufe0f\ufe0f", "☺\ufe0f⟦U+FE0F⟧"),
        ("1\ufe0f.", "1⟦U+FE0F⟧."),
        ("a\u200db", "a⟦U+200D⟧b"),
        ("👩\u200d", "👩⟦U+200D⟧"),
        ("a\r\nb", "a\nb"),
        ("over\rwritten", "over⟦U+000D⟧written"),
        ("caf\udce9", "caf\\xe9"),
        ("\ud800", "⟦U+D800⟧"),
    ],
)
def test_context_decides(text: str, shown: str) -> None:
    assert sanitise(text) == shown


@given(HOSTILE)
def test_nothing_a_terminal_obeys_is_left(text: str) -> None:
    shown = sanitise(text)
    for char in shown:
        assert char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs"), repr(char)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\u200c\u200e\u200f\U000e0000-\U000e0fff]", shown)
    assert sanitise(shown) == shown
    shown.encode()


@given(st.lists(HOSTILE))
def test_pieces_give_what_the_whole_gives(pieces: list[str]) -> None:
    cleaner = Sanitiser()
    streamed = "".join([*(cleaner.feed(piece) for piece in pieces), cleaner.finish()])
    assert streamed == sanitise("".join(pieces))


def test_an_escape_sequence_cut_in_two_is_harmless() -> None:
    cleaner = Sanitiser()
    assert cleaner.feed("\x1b") + cleaner.feed("[2J") + cleaner.finish() == "⟦U+001B⟧[2J"


def test_paths_stay_on_one_line() -> None:
    name = os.fsdecode(b"a\nb\tc\xe9\x1b.py")
    assert show_path(name) == "a\\nb\\tc\\xe9⟦U+001B⟧.py"
    assert show_label("src/x.py", 3, 9) == "src/x.py:3-9"


@given(HOSTILE)
def test_paths_have_no_line_feed(text: str) -> None:
    assert not re.search(r"[\n\t\r\x1b]", show_path(text))


@given(st.dictionaries(HOSTILE, st.one_of(HOSTILE, st.integers(), st.floats(), st.none())))
def test_json_is_valid_utf8_without_anything_a_terminal_obeys(value: dict[str, object]) -> None:
    text = to_json(value)
    assert json.loads(text.encode()) == plain(value)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)


def test_json_keeps_what_is_hidden_and_escapes_what_is_no_text() -> None:
    value = {
        "path": os.fsdecode(b"caf\xe9.py"),
        "text": "a\u202eb\x1b",
        "high": "\ud800",
        "nan": float("nan"),
    }
    text = to_json(value)
    assert json.loads(text) == {"path": "caf\\xe9.py", "text": "a\u202eb\x1b", "high": "\\ud800", "nan": None}
    assert "\\u202e" in text


def test_json_of_values() -> None:
    skipped = Skipped("a.png", SkipReason.BINARY)
    assert plain({"file": skipped, "at": Path("a"), "set": {2, 1}, "some": ({"k": 0.5},)}) == {
        "file": {"path": "a.png", "reason": "binary", "detail": ""},
        "at": "a",
        "set": [1, 2],
        "some": [{"k": 0.5}],
    }
    with pytest.raises(TypeError, match="object has no JSON form"):
        plain(object())


def test_json_is_one_object_in_utf8_whatever_the_locale(tmp_path: Path) -> None:
    code = "from agent.output import Output; Output().json({'a': 'é'})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={"PYTHONIOENCODING": "ascii"}, check=True
    )
    assert json.loads(done.stdout.decode("utf-8")) == {"a": "é"}
    assert done.stdout.endswith(b"}\n")


def test_a_stream_that_cannot_show_a_character_gets_an_escape() -> None:
    code = "from agent.output import Output; Output().line('é⟦')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={"PYTHONIOENCODING": "ascii"}, check=True
    )
    assert done.stdout == b"\\xe9\\u27e6\n"


def captured(color: str = "never", *, quiet: bool = False) -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Output(color, quiet=quiet, stdout=out, stderr=err), out, err


def test_markup_in_content_is_text() -> None:
    output, out, err = captured()
    output.line("[bold]x[/bold] :smile: [link=http://a]b[/link]")
    output.warn("[/]")
    assert out.getvalue() == "[bold]x[/bold] :smile: [link=http://a]b[/link]\n"
    assert err.getvalue() == "warning: [/]\n"


def test_long_lines_are_not_wrapped() -> None:
    output, out, _ = captured()
    output.line("x" * 500)
    assert out.getvalue() == "x" * 500 + "\n"


def test_answer_and_remarks_go_different_ways() -> None:
    output, out, err = captured()
    output.line("answer")
    output.note("remark")
    output.error("broken", "mend it")
    assert out.getvalue() == "answer\n"
    assert err.getvalue() == "remark\nerror: broken\n  try: mend it\n"


def test_quiet_keeps_warnings_and_errors() -> None:
    output, _, err = captured(quiet=True)
    output.note("remark")
    output.warn("careful")
    output.error("broken")
    assert err.getvalue() == "warning: careful\nerror: broken\n"


def test_color_only_where_wanted() -> None:
    for color, expected in (("always", True), ("auto", False), ("never", False)):
        output, out, _ = captured(color)
        output.line(("x", "red"))
        assert bool(ANSI.search(out.getvalue())) is expected
        assert output.colored is expected


@pytest.mark.parametrize("language", ["python", "rust", "cpp", "notebook", "no such language", ""])
def test_highlighting_keeps_every_line(language: str) -> None:
    source = "\n\ndef f():\n\tx = '[red]'  # \x1b[31m\n\n"
    output, _, _ = captured("always")
    assert [line.plain for line in output.code(source, language)] == sanitise(source).split("\n")


def test_highlighting_colours_code() -> None:
    output, _, _ = captured("always")
    assert any(line.spans for line in output.code("def f(): pass", "python"))


def test_a_streamed_answer_ends_its_line() -> None:
    output, out, _ = captured()
    stream = output.stream()
    for piece in ("one ", "two\r", "\nthree\x1b"):
        stream.feed(piece)
    stream.finish()
    assert out.getvalue() == "one two\nthree⟦U+001B⟧\n"


def test_without_a_terminal_only_downloads_are_announced() -> None:
    output, out, err = captured()
    with output.progress() as progress:
        for done in range(3):
            progress(Progress("read", done, 3))
            progress(Progress("download tiny", done, 491_400_064))
    assert (out.getvalue(), err.getvalue()) == ("", "download tiny (491 MB) ...\n")


def test_amounts_read_well() -> None:
    assert [size_text(n) for n in (0, 999, 1500, 491_400_064, 3_900_000_000, 48_000_000_000)] == [
        "0 bytes", "999 bytes", "1.5 kB", "491 MB", "3.9 GB", "48 GB",
    ]  # fmt: skip
    assert [seconds_text(n) for n in (0.04, 59.9, 61, 3600)] == ["0.0 s", "59.9 s", "1 min 1 s", "60 min 0 s"]
    assert [count_text(n, "file") for n in (1, 2, 1234)] == ["1 file", "2 files", "1,234 files"]
    assert valid_text("a\udce9é") == "a?é"


ON_A_TERMINAL = """
import os
from agent.output import Output
from indexers.types import Progress
output = Output("auto")
output.line((os.fsdecode(b"evil\\x1b]52;c;aGk=\\x07\\xe9.py"), "bold"))
for line in output.code("x = 1  # \\x1b[2J\\u202e\\x9b31m", "python"):
    output.text(line)
output.note("\\x1b]0;owned\\x07")
output.error("\\x1bc", "\\x1b[5n")
stream = output.stream()
for piece in ("\\x1b", "]8;;http://evil\\x1b", "\\\\click"):
    stream.feed(piece)
stream.finish()
with output.progress() as progress:
    for done in range(5):
        progress(Progress("read\\x1b]0;owned\\x07", done, 5, "a\\nb\\x1b]0;owned\\x07.py"))
output.json({"text": "\\x9b31m\\x1b\\u202e"})
"""


def on_terminal(command: list[str], env: dict[str, str] | None = None) -> bytes:
    """What a terminal receives from a command."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", **(env or {})},
    )
    os.close(theirs)
    received = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # how Linux reports that the other end has closed
            break
        if not piece:
            break
        received += piece
    os.close(ours)
    assert process.wait(timeout=30) == 0, received.decode(errors="replace")
    return received


def test_a_terminal_receives_nothing_hostile() -> None:
    received = on_terminal([sys.executable, "-c", ON_A_TERMINAL]).decode("utf-8")
    ours = ANSI.sub("", received)  # colours and the progress bar's own cursor movements
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", ours), repr(ours)
    # Of what may come from us, nothing clears the screen, asks the terminal back, or is an OSC.
    assert not re.search(r"\x1b\[(2J|5n|\d*c)|\x1b[^\[]", received)
    assert "⟦U+001B⟧]52;c;aGk=⟦U+0007⟧\\xe9.py" in ours
    assert "⟦U+202E⟧" in ours
    assert "\\n" in ours
