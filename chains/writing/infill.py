"""What belongs at a place in a file: how models are asked to fill it, and where what they write should end. Pure.

A prompt is token ids: marks of infilling are control tokens, everything of a file is text in which none can hide.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from chains.engine.families import Tokenizer
from chains.models.gguf import GgufInfo

# Texts of tokens that no fill goes beyond, whichever the vocabulary has.
_ENDS = (
    "▁<EOT>",
    "<|endoftext|>",
    "<|fim_pad|>",
    "<|file_sep|>",
    "<|file_separator|>",
    "<|repo_name|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<｜end▁of▁sentence｜>",
    "<step>",
)
_BLANK = re.compile(r"\s*\Z")


@dataclass(frozen=True, slots=True)
class Hole:
    """A place in a file: the text before and behind it."""

    path: str
    prefix: str
    suffix: str

    @property
    def in_line(self) -> bool:
        """Whether the rest of the line stands behind the hole already, so that it ends with the line."""
        return bool(self.suffix.partition("\n")[0].strip())

    @property
    def indent(self) -> int:
        """Columns before the first text of the hole: its line's own, else those of the last line with text."""
        line = self.prefix.rpartition("\n")[2]
        if line:
            return len(line) - len(line.lstrip()) if line.strip() else len(line)
        last = next((row for row in reversed(self.prefix.split("\n")) if row.strip()), "")
        return len(last) - len(last.lstrip())


@dataclass(frozen=True, slots=True)
class Marks:
    """The tokens that a model knows a hole by, as texts; they stand in this order, each before its part.

    `repository` and `file` frame other files, for models that were trained with some before the hole.
    """

    prefix: str
    suffix: str
    middle: str
    bos: bool = False
    repository: str = ""
    file: str = ""


CODELLAMA = Marks("▁<PRE>", "▁<SUF>", "▁<MID>", bos=True)
QWEN = Marks(
    "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", repository="<|repo_name|>", file="<|file_sep|>"
)
STARCODER = Marks("<fim_prefix>", "<fim_suffix>", "<fim_middle>", repository="<repo_name>", file="<file_sep>")
DEEPSEEK = Marks("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", bos=True)
CODEGEMMA = Marks("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", bos=True, file="<|file_separator|>")

# By what a model is called: vocabularies have these tokens in models too that never learnt them.
_KNOWN = (
    (r"code-?llama(?!.*python)", CODELLAMA),
    (r"codegemma", CODEGEMMA),
    (r"qwen.*coder|codeqwen", QWEN),
    (r"starcoder|granite.*code", STARCODER),
    (r"deepseek-?coder", DEEPSEEK),
)


def marks_of(info: GgufInfo, tokenizer: Tokenizer) -> Marks | None:
    """How this model is asked to fill a hole; None where it was not trained to.

    CodeLlama's 34B and its Python variants were not (the paper's section 2.3): the 34B's vocabulary lacks the tokens,
    the Python variants have them and do not know them.
    """
    label = info.label.replace("_", "-").replace(" ", "-")
    marks = next((marks for pattern, marks in _KNOWN if re.search(pattern, label)), None)
    if marks is None:
        return None
    needed = (marks.prefix, marks.suffix, marks.middle)
    return marks if all(tokenizer.token_id(text) is not None for text in needed) else None


def end_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Tokens behind which nothing belongs to the hole. CodeLlama's own is none of llama.cpp's end tokens."""
    found = {tokenizer.token_id(text) for text in _ENDS} | {tokenizer.eos}
    return frozenset(token for token in found if token is not None)


def infill_ids(
    marks: Marks,
    tokenizer: Tokenizer,
    hole: Hole,
    before: Sequence[tuple[str, str]] = (),
    repository: str = "repository",
) -> list[int]:
    """The prompt: what helps, then prefix, suffix and the mark of the middle.

    :param before: other files' paths and texts that help, the most telling last.
    """

    def token(text: str) -> list[int]:
        found = tokenizer.token_id(text) if text else None
        return [] if found is None else [found]

    # Meta encodes the prefix as a text of its own, which SentencePiece begins with a space, and the suffix without.
    ids = [tokenizer.bos] if (marks.bos or tokenizer.adds_bos) and tokenizer.bos is not None else []
    prefix = hole.prefix
    if before and token(marks.file):
        if token(marks.repository):
            ids += [*token(marks.repository), *tokenizer.encode(f"{repository}\n", joined=True)]
        for path, text in before:
            ids += [*token(marks.file), *tokenizer.encode(f"{path}\n{text}\n", joined=True)]
        ids += [*token(marks.file), *tokenizer.encode(f"{hole.path}\n", joined=True)]
    elif before:
        prefix = commented(before, hole.path) + prefix
    first = [*token(marks.prefix), *tokenizer.encode(prefix, joined=marks is not CODELLAMA)]
    last = [*token(marks.suffix), *tokenizer.encode(hole.suffix, joined=True)]
    return [*ids, *first, *last, *token(marks.middle)]


def continuing_ids(tokenizer: Tokenizer, hole: Hole, before: Sequence[tuple[str, str]] = ()) -> list[int]:
    """The prompt for a model that only goes on: what helps as a comment, then the prefix."""
    ids = [tokenizer.bos] if tokenizer.adds_bos and tokenizer.bos is not None else []
    return [*ids, *tokenizer.encode(commented(before, hole.path) + hole.prefix, joined=False)]


_LINE_COMMENT = {
    **dict.fromkeys(
        ("py", "pyi", "rb", "sh", "toml", "yaml", "yml", "r", "jl", "ex", "exs", "pl", "cmake"), "#"
    ),
    **dict.fromkeys(("lua", "sql", "hs", "elm"), "--"),
    **dict.fromkeys(("el", "clj", "lisp", "scm"), ";;"),
}


def commented(files: Sequence[tuple[str, str]], path: str) -> str:
    """Other files' texts as a comment in the language of `path`, so that they are read and not gone on with."""
    if not files:
        return ""
    mark = _LINE_COMMENT.get(path.rpartition(".")[2].lower(), "//")
    lines = [line for name, text in files for line in (name, *text.split("\n"))]
    return "".join(f"{mark} {line}".rstrip() + "\n" for line in lines) + "\n"


# -- where it ends ---------------------------------------------------------------------------------


def trimmed(text: str, hole: Hole, *, complete: bool = True) -> str:
    """What of a model's text belongs into the hole.

    In a line that goes on behind the hole, one line. Otherwise lines until the text behind the hole begins to be
    repeated, or until a line stands further left than the hole, which whatever stands behind it would not follow.
    Where the hole stands at an indentation already, one that the model writes once more is left out.

    :param complete: the text was not cut short: a last line that was is no line of code.
    """
    if hole.in_line:
        line = text.partition("\n")[0]
        return _without_overlap(line, hole.suffix.partition("\n")[0])
    lines = _without_indent(text, hole).split("\n")
    kept: list[str] = []
    following = _first_line(hole.suffix)
    for number, line in enumerate(lines):
        if not complete and number and number == len(lines) - 1 and line.strip():
            break  # cut in the middle of a line
        if number and line.strip():
            if following and line.strip() == following:
                break
            if len(line) - len(line.lstrip()) < hole.indent and not _closes(line):
                break
        kept.append(line)
    while len(kept) > 1 and _BLANK.match(kept[-1]):
        kept.pop()
    return _without_overlap("\n".join(kept).rstrip(), hole.suffix.lstrip("\n"))


def ended(text: str, hole: Hole) -> bool:
    """Whether what a model has written so far is beyond what belongs into the hole."""
    done, newline, _ = text.rpartition("\n")
    if not newline or not done.strip():
        return False
    return hole.in_line or trimmed(done, hole) != _without_indent(done, hole).rstrip()


def _without_indent(text: str, hole: Hole) -> str:
    line = hole.prefix.rpartition("\n")[2]
    return text.lstrip(" \t") if line and not line.strip() else text


def _first_line(suffix: str) -> str:
    """The first line behind a hole that says something: a bracket or an `else:` alone may well stand in it too."""
    line = next((line.strip() for line in suffix.split("\n") if line.strip()), "")
    return line if len(line) > 3 else ""


def _closes(line: str) -> bool:
    """Whether a line only closes what was opened before the hole."""
    return not line.strip().strip(")]}>,;")


def _without_overlap(text: str, suffix: str) -> str:
    """The text without an end that the suffix begins with: models like to write on over the seam."""
    longest = min(len(text), len(suffix), 200)
    for size in range(longest, 0, -1):
        if text.endswith(suffix[:size]) and (size > 3 or not suffix[:size].isalnum()):
            shared = suffix[:size]
            # A closing bracket that the text opened itself is its own.
            if size > 3 or not _balances(text):
                return text[: len(text) - len(shared)]
            return text
    return text


def _balances(text: str) -> bool:
    return all(text.count(opening) >= text.count(closing) for opening, closing in ("()", "[]", "{}"))
