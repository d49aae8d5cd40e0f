"""What is said before an answer: from what is quickly read, never where the answer is near, and at no price to it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.messages import BaseMessage
from repos import make_repo

from agent import Agent
from agent.cli import main
from agent.config import Settings
from agent.output import Output
from agent.preview_view import PreviewView, preview_view
from chains.ask import AskSettings, Prepared, messages, prepare
from chains.preview import PREVIEW_ANSWER, PREVIEW_TOKENS, preview
from chains.types import Answer, Preview, Question, Retrieved, Source, Turn
from indexers.types import Hit
from tests.fakes import ScriptedChat

SAID = "`retry_9` waits seven seconds [src/retry_9.py:1-9]."


class Reading(ScriptedChat):
    """A scripted model that has read a prompt that begins with the words `before`, and reads `rate` tokens a second."""

    before: Sequence[str] = ()
    rate: float = 20.0

    def reach(self, messages: Sequence[BaseMessage]) -> tuple[int, tuple[tuple[int, int], ...]]:
        words, spans = laid_out(messages)
        pairs = enumerate(zip(words, self.before, strict=False))
        same = next((at for at, (a, b) in pairs if a != b), min(len(words), len(self.before)))
        return same, tuple(spans)

    @property
    def cost(self) -> Mapping[str, Any]:
        return {"tokens_read": 100, "prefill_seconds": 100 / self.rate}


def laid_out(messages: Sequence[BaseMessage]) -> tuple[list[str], list[tuple[int, int]]]:
    """A prompt as words, and where its sources stand in it."""
    words: list[str] = []
    spans = []
    for message in messages:
        blocks = message.content if isinstance(message.content, list) else [{"text": message.content}]
        for block in blocks:
            assert isinstance(block, dict)
            start = len(words)
            words += block["text"].split()
            if block.get("source"):
                spans.append((start, len(words)))
    return words, spans


def until(prepared: Prepared, sources: float) -> list[str]:
    """The words of a prompt up to the end of so many sources."""
    words, spans = laid_out(prepared.messages)
    start, end = spans[int(sources)] if sources < len(spans) else (len(words), len(words))
    return words[: start + int((sources % 1) * (end - start))]


def shown(messages: Sequence[BaseMessage]) -> list[str]:
    """The texts of the sources in a prompt, in its order."""
    blocks = [block for message in messages if isinstance(message.content, list) for block in message.content]
    return [block["text"] for block in blocks if isinstance(block, dict) and block.get("source")]


def hits(count: int = 10, words: int = 100) -> tuple[Hit, ...]:
    """The best is the last that is named: `retry_9` of ten."""
    lines = [f"word_{n} " * (words // 10) for n in range(9)]
    return tuple(
        Hit(f"src/retry_{n}.py", 1, 9, "\n".join([f"def retry_{n}():", *lines[1:]]), 1.0 + n / 100)
        for n in reversed(range(count))
    )


def ready(model: Reading, found: Sequence[Hit] | None = None, history: tuple[Turn, ...] = ()) -> Prepared:
    asked = Question("how long does it wait?", history)
    retrieved = Retrieved(asked, asked.text, tuple(hits() if found is None else found))
    return prepare(asked, retrieved, model, AskSettings(1_000), time.monotonic())


def text_of(pieces: Sequence[Preview]) -> str:
    return "".join(piece.piece for piece in pieces)


def labels(sources: Sequence[Source]) -> list[str]:
    return [source.label for source in sources]


def test_the_best_source_alone_where_nothing_was_read() -> None:
    model = Reading(script=[SAID])
    prepared = ready(model)
    pieces = list(preview(prepared, model))
    assert text_of(pieces) == SAID and pieces[-1].piece == "" and len(pieces) > 3
    assert labels(pieces[0].sources) == [prepared.context.sources[0].label] == ["src/retry_9.py:1-9"]
    assert pieces[0].total == len(prepared.context.sources) == 10
    assert pieces[0].seconds == pytest.approx(prepared.context.tokens / model.rate, rel=0.1)
    assert shown(model.seen[0]) == [prepared.context.sources[0].text + "\n"]


def test_it_begins_with_what_the_prompt_begins_with_and_was_read() -> None:
    prepared = ready(Reading())
    whole = shown(prepared.messages)
    # What is not kept whole is not known.
    model = Reading(script=[SAID], before=until(prepared, 3.5))
    pieces = list(preview(prepared, model))
    assert shown(model.seen[0]) == [*whole[:3], whole[-1]]
    # The best comes first in what is told, as in an answer.
    assert labels(pieces[0].sources)[0] == "src/retry_9.py:1-9" and len(pieces[0].sources) == 4


def test_small_sources_are_read_together_the_best_last() -> None:
    model = Reading(script=[SAID])
    prepared = ready(model, hits(12, words=50))
    pieces = list(preview(prepared, model))
    whole = shown(prepared.messages)
    assert shown(model.seen[0]) == whole[-len(pieces[0].sources) :] and len(pieces[0].sources) > 1
    assert sum(source.tokens for source in pieces[0].sources) <= PREVIEW_TOKENS


def test_the_best_source_is_cut_to_its_first_lines_under_a_label_that_says_so() -> None:
    model = Reading(script=[SAID])
    prepared = ready(model, hits(4, words=230))
    (source,) = next(preview(prepared, model)).sources
    assert 3 <= source.end_line < 9 and source.tokens <= PREVIEW_TOKENS
    assert source.text.startswith(f"Source [src/retry_3.py:1-{source.end_line}]")
    assert source.text.count("\n") == source.end_line + 3
    # One more line would be too many.
    assert source.tokens + 23 > PREVIEW_TOKENS


@pytest.mark.parametrize(
    "best",
    [
        {"text": "x " * 240, "end_line": 1},  # one line
        {
            "text": "\n".join(["x " * 24] * 10),
            "end_line": 90,
        },  # a cell of a notebook: its lines are not the file's
    ],
)
def test_a_best_source_that_cannot_be_cut_has_no_other_speak_for_it(best: dict[str, Any]) -> None:
    model = Reading(script=[SAID])
    first, *others = hits(8)
    assert list(preview(ready(model, [first, *others]), model))
    asked = len(model.seen)
    assert list(preview(ready(model, [replace(first, **best), *others]), model)) == []
    assert len(model.seen) == asked


@pytest.mark.parametrize("known", [0, 1, 2])
def test_a_best_source_that_stands_twice_is_read_and_told_once(known: int) -> None:
    prepared = ready(Reading(), hits(14, words=50))
    best, *others = prepared.context.sources
    context = replace(prepared.context, sources=(*others, best), again=best)
    prepared = replace(prepared, context=context, messages=messages(prepared.question, context))
    model = Reading(script=[SAID], before=until(prepared, known))
    pieces = list(preview(prepared, model))
    texts = shown(model.seen[0])
    assert texts[-1] == best.text + "\n" and texts.count(texts[-1]) == 1 + (known > 0)
    assert len(pieces[0].sources) == len(set(texts)) <= pieces[0].total == 14


def test_where_little_is_left_to_read_the_model_is_not_asked() -> None:
    prepared = ready(Reading())
    model = Reading(script=[SAID], before=until(prepared, 7))
    assert list(preview(prepared, model)) == [] and not model.seen
    assert list(preview(ready(model, hits(2)), Reading(script=[SAID]))) == []
    assert list(preview(prepared, Reading(script=[SAID], before=until(prepared, 5))))


@pytest.mark.parametrize("rate", [2_000.0, 100.0])
def test_where_the_answer_is_near_nothing_is_shown_and_the_model_is_stopped(rate: float) -> None:
    model = Reading(script=[SAID], rate=rate)
    assert list(preview(ready(model), model)) == []
    assert model.stopped and len(model.written) == 1


def test_nothing_relevant_has_no_preview() -> None:
    model = Reading(script=[SAID])
    prepared = ready(model)
    prepared = replace(prepared, retrieved=replace(prepared.retrieved, relevant=False))
    assert list(preview(prepared, model)) == [] and not model.seen


@pytest.mark.parametrize(
    "unknown",
    [
        "The sources do not show this.",
        "The sources do not show this: nothing.",
        '"The sources do not show this."',
        "**The sources do not show this.**",
    ],
)
def test_that_it_does_not_know_is_no_preview(unknown: str) -> None:
    model = Reading(script=[unknown])
    assert list(preview(ready(model), model)) == []


def test_where_the_best_do_not_show_it_the_next_best_are_asked_once() -> None:
    model = Reading(script=["The sources do not show this.", SAID])
    pieces = list(preview(ready(model), model))
    assert text_of(pieces) == SAID
    first, second = (shown(messages) for messages in model.seen)
    assert "retry_9.py" in first[-1] and "retry_8.py" in second[-1] and not set(first) & set(second)
    assert labels(pieces[0].sources) == ["src/retry_8.py:1-9"] and pieces[0].tokens == 200
    model = Reading(script=["The sources do not show this."])
    assert list(preview(ready(model), model)) == [] and len(model.seen) == 2


def test_the_best_of_a_body_shown_in_pieces_is_read_last_not_the_last_of_them() -> None:
    pieces = tuple(
        Hit("src/long.py", 1 + 9 * n, 9 + 9 * n, hit.text, score, scope=("long",))
        for n, (hit, score) in enumerate(zip(hits(3), (1.0, 3.0, 2.0), strict=True))
    )
    found = sorted((*pieces, *hits(7)), key=lambda hit: -hit.score)
    model = Reading(script=[SAID])
    prepared = ready(model, found)
    assert "long.py:19-27" in shown(prepared.messages)[-1]
    assert labels(next(preview(prepared, model)).sources)[0] == "src/long.py:10-18"


@pytest.mark.parametrize(
    "said", ["The sources do what they can.", "The wait is one second.", " \n `The sources` say so."]
)
def test_what_begins_like_that_is_shown_whole(said: str) -> None:
    model = Reading(script=[said])
    assert text_of(list(preview(ready(model), model))) == said
    model = Reading(script=["The sources do not"])
    assert list(preview(ready(model), model)) == []


def test_it_ends_where_it_goes_round_in_circles() -> None:
    model = Reading(script=["It waits for seven seconds and then it goes on with it. " * 6])
    pieces = list(preview(ready(model), model))
    assert text_of(pieces).count("seven") == 2 and pieces[-1].piece == "" and model.stopped


def test_what_is_too_long_says_that_it_goes_on() -> None:
    said = " ".join("abcdefghij"[n // 10] + "abcdefghij"[n % 10] for n in range(PREVIEW_ANSWER + 5))
    model = Reading(script=[said])
    told = text_of(list(preview(ready(model), model, 512)))
    assert told == said[: 3 * PREVIEW_ANSWER] + " …" and model.options[0]["max_tokens"] == PREVIEW_ANSWER
    assert text_of(list(preview(ready(model), model, 4))) == said[: 3 * 4] + " …"


def test_who_stops_listening_stops_the_model() -> None:
    model = Reading(script=[SAID])
    pieces = preview(ready(model), model)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert model.stopped


def test_a_later_turn_shows_nothing_twice() -> None:
    first = ready(Reading())
    turn = Turn("what is it?", "A retry.", first.context.sources[:3])
    prepared = ready(Reading(), history=(turn,))
    model = Reading(script=[SAID], before=until(prepared, 3))
    pieces = list(preview(prepared, model))
    texts = shown(model.seen[0])
    assert len(texts) == len(set(texts)) == 4 and texts[:3] == shown(first.messages)[-3:]
    assert len(pieces[0].sources) == 1 and pieces[0].total == len(shown(prepared.messages)) - 3 == 7
    assert pieces[0].seconds == pytest.approx((prepared.context.tokens - 3 * 90) / model.rate, rel=0.1)
    # A conversation that is not kept, as one is that begins anew, would have to be read first.
    assert list(preview(prepared, model := Reading(script=[SAID]))) == []
    assert not model.seen


# -- with a real engine -------------------------------------------------------------------------------

FILES = {
    f"src/{name}.py": "\n\n\n".join(
        f"def {name}_{part}(thing, limit={number}):\n"
        f'    """{name.title()} the {part} of a thing, as often as the limit says."""\n'
        f"    for _ in range(limit):\n        {name}_backend(thing, '{part}', limit)\n    return {name}_{part}"
        for number, part in enumerate(("head", "tail", "middle", "border", "end", "rest", "top"))
    )
    + "\n"
    for name in ("retry", "parse", "render", "write", "fetch", "store", "check", "merge")
}
QUESTION = "how often does retry_head retry?"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", FILES)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny model reads everything at once: here an answer is never near."""
    monkeypatch.setattr("chains.preview.WORTH_WAITING", 0.0)


def settings(model: Path, **more: object) -> Settings:
    return Settings(model=str(model), embedder="none", background=False, max_tokens=8, **more)  # type: ignore[arg-type]


def asked(repo: Path, chosen: Settings, question: str = QUESTION) -> tuple[Answer, list[Preview]]:
    pieces: list[Preview] = []
    with Agent.open(repo, settings=chosen) as agent:
        *_, answer = agent.stream(question, on_preview=pieces.append)
    assert isinstance(answer, Answer)
    return answer, pieces


def same(one: Answer, other: Answer) -> bool:
    return (one.text, one.sources, one.citations) == (other.text, other.sources, other.citations)


@pytest.mark.usefixtures("patient")
def test_not_a_letter_of_the_answer_depends_on_it(repo: Path, tiny_codellama: Path) -> None:
    chosen = settings(tiny_codellama)
    # Where nothing is kept nobody knows how near an answer is.
    plain, pieces = asked(repo, replace(chosen, kv_bytes=0))
    assert not pieces
    answer, pieces = asked(repo, chosen)
    assert same(answer, plain) and plain.preview == "" and plain.usage.preview_seconds == 0
    assert answer.preview == text_of(pieces).strip() != ""
    assert 0 < answer.usage.preview_seconds < answer.usage.first_token_seconds
    assert answer.usage.preview_tokens == pieces[0].tokens > 100
    # Asked once more it is near.
    again, pieces = asked(repo, chosen)
    assert same(again, plain) and not pieces


@pytest.mark.usefixtures("patient")
def test_a_later_turn_reads_nothing_again_for_it(repo: Path, tiny_codellama: Path, tmp_path: Path) -> None:
    turns = {}
    for name in ("plain", "previewed"):
        pieces: list[Preview] = []
        with Agent.open(repo, settings=settings(tiny_codellama)) as agent:
            agent.llm.kv_dir = str(tmp_path / name)  # type: ignore[union-attr]
            chat = agent.chat()
            first = chat.ask(QUESTION)
            *_, second = chat.stream(
                "what do fetch_tail and merge_top do?", pieces.append if name == "previewed" else None
            )
        assert isinstance(second, Answer) and bool(pieces) == (name == "previewed")
        turns[name] = (second, first.usage.prompt_tokens)
    (plain, before), (previewed, _) = turns["plain"], turns["previewed"]
    assert same(plain, previewed)
    assert previewed.usage.cached_tokens >= plain.usage.cached_tokens >= before
    # Each of its sources is new, the first one too, before which SentencePiece puts a space.
    assert all(cost.fresh >= cost.tokens for cost in (*plain.costs, *previewed.costs)) and plain.costs
    assert 0 < previewed.usage.preview_tokens < 400


@pytest.mark.usefixtures("patient")
def test_what_is_joined_has_no_preview(repo: Path, tiny_codellama: Path) -> None:
    answer, pieces = asked(repo, settings(tiny_codellama, reading="fast"))
    assert not pieces and answer.preview == ""


@pytest.mark.usefixtures("patient")
def test_a_preview_that_is_interrupted_leaves_the_model_free(repo: Path, tiny_codellama: Path) -> None:
    def interrupt(_: Preview) -> None:
        raise KeyboardInterrupt

    with Agent.open(repo, settings=settings(tiny_codellama)) as agent:
        with pytest.raises(KeyboardInterrupt):
            list(agent.stream(QUESTION, on_preview=interrupt))
        assert agent.ask(QUESTION).text


@pytest.mark.usefixtures("patient")
def test_the_command_line_shows_it_where_somebody_watches_or_asks(
    repo: Path, tiny_codellama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["ask", QUESTION, "--repo", str(repo), "--model", str(tiny_codellama), "--max-tokens", "8"]
    assert main([*command, "--preview"]) == 0
    told = capsys.readouterr()
    assert "preview from src/retry.py:" in told.err and ", unchecked; the answer follows in about" in told.err
    assert "preview" not in told.out and " for the preview, " in told.err
    # All of it is kept now, so the answer is near.
    assert main([*command, "--preview"]) == 0
    assert "preview" not in capsys.readouterr().err
    other = ["ask", "what does fetch_tail give back, and merge_top?", *command[2:]]
    assert main([*other, "--json", "--preview"]) == 0
    told = capsys.readouterr()
    assert '"preview": ""' not in told.out and '"preview_seconds": 0.0' not in told.out
    assert "preview from" not in told.err
    # Nobody watches here.
    assert main(["ask", "who calls render_backend in render_top?", *command[2:]]) == 0
    assert "preview" not in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--deep", "--show-prompt"])
def test_it_goes_before_an_answer_only(repo: Path, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", QUESTION, "--repo", str(repo), "--preview", flag]) == 2
    assert "--preview" in capsys.readouterr().err


class Watched(StringIO):
    """A terminal of somebody who watches."""

    def isatty(self) -> bool:
        return True


class Progress:
    """Whether progress is shown."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def hide(self) -> None:
        self.calls.append("hide")

    def show(self) -> None:
        self.calls.append("show")


def view(
    monkeypatch: pytest.MonkeyPatch, pieces: Sequence[Preview], color: str
) -> tuple[str, str, list[str]]:
    monkeypatch.setenv("TERM", "xterm-256color")
    out, err, progress = Watched(), Watched(), Progress()
    shows = PreviewView(Output(color, stdout=out, stderr=err), progress)  # type: ignore[arg-type]
    for piece in pieces:
        shows(piece)
    return out.getvalue(), err.getvalue(), progress.calls


def test_control_characters_are_shown_and_progress_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source("a.py", 1, 2, "", 5)
    pieces = [Preview(piece, (source,), 3, seconds=75.0) for piece in ("It \x1b[31mis", " {so}.", "")]
    out, err, calls = view(monkeypatch, pieces, "never")
    assert out == "" and "\x1b" not in err and "{so}." in err
    assert (
        "preview from a.py:1-2, one of 3 sources, unchecked; the answer follows in about 1 min 15 s\n" in err
    )
    assert err.rstrip().endswith("answer from 3 sources") and calls == ["hide", "show"]


def test_colour_makes_it_faint(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source("a\x1b.py", 1, 2, "", 5)
    _, err, _ = view(
        monkeypatch,
        [
            Preview(
                piece,
                (
                    source,
                    source,
                    source,
                ),
                9,
                seconds=30.0,
            )
            for piece in ("so", "")
        ],
        "always",
    )
    assert "\x1b[2mso\x1b[22m" in err and "in about 30 s" in err
    assert "and 2 more of 9 sources, unchecked" in err and "a\x1b" not in err


def test_one_that_is_interrupted_ends_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    output = Output("never", stdout=Watched(), stderr=(err := Watched()))
    work: Any = SimpleNamespace(settings=Settings(), progress=Progress())
    with pytest.raises(KeyboardInterrupt), preview_view(output, work) as on_preview:
        assert on_preview is not None
        on_preview(Preview("It is", (Source("a.py", 1, 2, "", 5),), 3, seconds=75.0))
        raise KeyboardInterrupt
    assert err.getvalue().endswith("\nIt is\n")


@pytest.mark.parametrize(
    ("wanted", "quiet", "json", "watched", "shown"),
    [
        ("auto", False, False, True, True),
        ("auto", False, False, False, False),
        ("auto", False, True, True, False),
        ("auto", True, False, True, False),
        ("always", False, False, False, True),
        ("always", False, True, False, True),
        ("always", True, False, True, False),
        ("never", False, False, True, False),
        ("never", False, True, True, False),
    ],
)
def test_who_gets_to_see_one(
    monkeypatch: pytest.MonkeyPatch, wanted: str, quiet: bool, json: bool, watched: bool, shown: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    make = Watched if watched else StringIO
    output = Output("never", quiet=quiet, stdout=make(), stderr=make())
    work: Any = SimpleNamespace(settings=Settings(preview=wanted), progress=Progress())
    with preview_view(output, work, json=json) as on_preview:
        assert (on_preview is not None) == shown


def test_later_previews_of_a_chat_have_a_line_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source("a.py", 1, 2, "", 5)
    pieces = [Preview(piece, (source,), 1, seconds=30.0) for piece in ("one", "", "two", "")]
    _, err, calls = view(monkeypatch, pieces, "never")
    assert (
        err.count("preview from a.py:1-2, the only source, unchecked") == 2 and calls == ["hide", "show"] * 2
    )
