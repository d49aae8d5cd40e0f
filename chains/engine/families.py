"""How each model family frames a conversation, as token ids: pure functions over a tokenizer.

What people, files and models wrote is *text*: it is tokenised so that no control token can come out of it.
Only the framing, which is written here or in the model's own template, may hold control tokens. Where a
family marks turns with plain text (`[INST]`), those marks are broken by a space when they stand in a text:
`[ INST]`. Everything else of a text reaches the model byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from chains.models.gguf import GgufInfo
from indexers.errors import ModelError, UsageError


class Tokenizer(Protocol):
    """What framing needs of a vocabulary."""

    bos: int | None
    eos: int | None
    adds_bos: bool

    def encode(self, text: str, *, control: bool = False, joined: bool = False) -> list[int]:
        """Tokens of a piece of text.

        :param control: control tokens written in the text become such; never for text we did not write.
        :param joined: the piece continues another: SentencePiece puts no space before it.
        """

    def token_id(self, text: str) -> int | None:
        """The id of the control token with exactly this text, if the vocabulary has it."""

    def is_control(self, token: int) -> bool:
        """Whether this id frames instead of saying something."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: who speaks (system, user or assistant) and what, in blocks tokenised one by one."""

    role: str
    blocks: tuple[str, ...]

    @property
    def text(self) -> str:
        """All blocks together."""
        return "".join(self.blocks)


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of a prompt that is tokenised on its own. `token` is "bos", "eos", or empty for text.

    `control` allows control tokens. `spaced` asks SentencePiece for its leading space.
    `border` says that what stands before and behind this piece's end may be cached apart, `answer` that an answer
    begins there.
    """

    text: str = ""
    control: bool = False
    spaced: bool = False
    token: str = ""
    border: bool = False
    answer: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """A framed conversation. `boundaries` are offsets into `ids`, rising, at which a prefix is worth keeping.

    The first is the end of the head (begin token and system message) where there is one, then come the ends
    of each block and message; the last is `len(ids)`. `answers` are those at which an answer begins. `sources` are
    spans of `ids` that say the same whatever stands before them.
    """

    ids: tuple[int, ...]
    boundaries: tuple[int, ...]
    answers: tuple[int, ...] = ()
    sources: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """A way of framing conversations.

    `stop_tokens` are texts of control tokens that end an answer, beside the vocabulary's own end token.
    `drops_space` is set where the first token of an answer carries the space between framing and answer.
    """

    name: str
    pieces: Callable[[Sequence[Message], Tokenizer], list[Piece]]
    stop_tokens: tuple[str, ...] = ()
    drops_space: bool = False


def frame(family: Family, messages: Sequence[Message], tokenizer: Tokenizer) -> Prompt:
    """Token ids of a conversation, ready for the answer, or to continue the assistant's last message.

    :raises UsageError: roles in an order the family cannot express.
    """
    ids: list[int] = []
    boundaries: set[int] = set()
    answers: set[int] = set()
    for piece in family.pieces(alternating(messages), tokenizer):
        ids += _encode(piece, tokenizer, opens=not ids or tokenizer.is_control(ids[-1]))
        if (piece.border or piece.answer) and ids:
            boundaries.add(len(ids))
        if piece.answer:
            answers.add(len(ids))
    boundaries.add(len(ids))
    return Prompt(tuple(ids), tuple(sorted(boundaries)), tuple(sorted(answers)))


def _encode(piece: Piece, tokenizer: Tokenizer, *, opens: bool = True) -> list[int]:
    """`opens`: nothing or a control token stands before; SentencePiece then begins with its space."""
    if piece.token:
        token = tokenizer.bos if piece.token == "bos" else tokenizer.eos
        return [] if token is None else [token]
    if not piece.text:
        return []
    return tokenizer.encode(piece.text, control=piece.control, joined=not (piece.spaced or opens))


def stop_ids(family: Family, tokenizer: Tokenizer) -> frozenset[int]:
    """Ids that end an answer."""
    found = {tokenizer.token_id(text) for text in family.stop_tokens} | {tokenizer.eos}
    return frozenset(token for token in found if token is not None)


def alternating(messages: Sequence[Message]) -> list[Message]:
    """The messages with neighbours of one role made one, so that roles alternate.

    :raises UsageError: an unknown role, a system message behind others, no user message, or not the user's first.
    """
    merged: list[Message] = []
    for message in messages:
        if message.role not in ("system", "user", "assistant"):
            raise UsageError(f"A message has the unknown role {message.role!r}.")
        if merged and merged[-1].role == message.role:
            merged[-1] = Message(message.role, (*merged[-1].blocks, "\n\n", *message.blocks))
        elif message.role == "system" and merged:
            raise UsageError("A system message stands behind other messages; it must come first.")
        else:
            merged.append(message)
    if not any(message.role == "user" for message in merged):
        raise UsageError("The conversation has no user message.")
    if next(message.role for message in merged if message.role != "system") != "user":
        raise UsageError("The first message behind the system message must be the user's.")
    return merged


# -- texts ---------------------------------------------------------------------------------------


def _strip(blocks: Sequence[str], *, left: bool = True) -> list[str]:
    """Blocks whose joined text is `str.strip`ped."""
    kept = list(blocks)
    while left and kept and not (kept[0].lstrip()):
        kept.pop(0)
    while kept and not kept[-1].rstrip():
        kept.pop()
    if kept and left:
        kept[0] = kept[0].lstrip()
    if kept:
        kept[-1] = kept[-1].rstrip()
    return kept


def _broken(blocks: Sequence[str], marks: re.Pattern[str]) -> list[str]:
    """Blocks without the family's text marks: a space behind the first character breaks each."""

    def break_marks(text: str) -> str:
        return marks.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)

    done = [break_marks(block) for block in blocks]
    # A mark cut in two by a block border is still read as a mark.
    joined = "".join(done)
    return [break_marks(joined)] if len(done) > 1 and marks.search(joined) else done


def _texts(blocks: Sequence[str], *, spaced: bool = False, border: bool = True) -> list[Piece]:
    """Pieces of text, each with a border behind it; only the first may carry the leading space."""
    return [Piece(block, spaced=spaced and not index, border=border) for index, block in enumerate(blocks)]


# -- CodeLlama and Llama 2 -----------------------------------------------------------------------

_INST_MARKS = re.compile(r"\[/?INST\]|<</?SYS>>|<step>")


def _llama2_pieces(messages: Sequence[Message], tokenizer: Tokenizer) -> list[Piece]:
    """Meta's reference for the 7B, 13B and 34B: each finished turn between its own begin and end tokens.

    Meta encodes a turn as one string. SentencePiece never joins a line end or a closing bracket with what
    follows, so the pieces here have the same ids, and a block's ids do not depend on what stands before it.
    """
    pieces: list[Piece] = []
    rest = list(messages)
    system = _broken(rest.pop(0).blocks, _INST_MARKS) if rest[0].role == "system" else None
    while rest:
        pieces += [Piece(token="bos"), Piece("[INST]", spaced=True)]
        user = _broken(rest.pop(0).blocks, _INST_MARKS)
        if system is None:
            pieces += _texts(_strip(user), spaced=True) or [Piece(" ")]
        else:
            user = _strip(user, left=False)
            pieces += [Piece("<<SYS>>\n", spaced=True), *_texts(system, border=False)]
            pieces.append(Piece("\n<</SYS>>\n\n" if user else "\n<</SYS>>", border=True))
            pieces += _texts(user)
            system = None
        pieces.append(Piece(" [/INST]", answer=True))
        if not rest:
            break
        answer = _broken(rest.pop(0).blocks, _INST_MARKS)
        if not rest:  # the answer to continue
            pieces += _texts(answer, spaced=True)
            break
        said = _strip(answer)
        pieces += [*_texts(said, spaced=True), Piece(" " if said else "  "), Piece(token="eos", border=True)]
    return pieces


# "Source: user" alone on a line is how this family begins a message.
_STEP_MARKS = re.compile(
    r"<step>|(?<=\n)Source: *(?:system|user|assistant)(?=\s|$)|^Source: *(?:system|user|assistant)(?=\s|$)"
)


def _llama70_pieces(messages: Sequence[Message], tokenizer: Tokenizer) -> list[Piece]:
    """Meta's reference for the 70B: `Source:` headers, steps behind messages, always a system one."""
    rest = list(messages)
    if rest[0].role != "system":
        rest.insert(0, Message("system", ()))
    prefill = rest.pop() if rest[-1].role == "assistant" else None
    pieces = [Piece(token="bos")]
    for message in rest:
        pieces.append(Piece(f" Source: {message.role}", spaced=True))
        if message.text:
            blocks = _strip(_broken(message.blocks, _STEP_MARKS))
            pieces += [Piece("\n\n", spaced=True), *_first_spaced(blocks)]
        pieces.append(Piece("<step>", control=True, border=True))
    pieces += [Piece(" Source: assistant\nDestination: user", spaced=True), Piece("\n\n", spaced=True)]
    # The answer follows a space: its own when there is something to continue.
    return pieces + _first_spaced(_broken(prefill.blocks, _STEP_MARKS) if prefill is not None else ())


def _first_spaced(blocks: Sequence[str]) -> list[Piece]:
    return _texts(blocks, spaced=True) or [Piece(" ")]


# -- families whose turns are marked by control tokens ---------------------------------------------


@dataclass(frozen=True, slots=True)
class _Turns:
    """A framing that is the same for every message: `opening` with `{role}`, the text, `closing`."""

    opening: str
    closing: str
    roles: tuple[str, str, str] = ("system", "user", "assistant")
    strips: bool = False
    always_bos: bool = False

    def __call__(self, messages: Sequence[Message], tokenizer: Tokenizer) -> list[Piece]:
        pieces = [Piece(token="bos")] if self.always_bos or tokenizer.adds_bos else []
        named = dict(zip(("system", "user", "assistant"), self.roles, strict=True))
        for index, message in enumerate(messages):
            answer = message.role == "assistant"
            pieces.append(Piece(self.opening.format(role=named[message.role]), control=True, answer=answer))
            if message.role == "assistant" and index == len(messages) - 1:
                return pieces + _texts(message.blocks)
            blocks = _strip(message.blocks) if self.strips else message.blocks
            pieces += _texts(blocks, border=message.role != "system")
            pieces.append(Piece(self.closing, control=True, border=True))
        pieces.append(Piece(self.opening.format(role=named["assistant"]), control=True, answer=True))
        return pieces


def _gemma_pieces(messages: Sequence[Message], tokenizer: Tokenizer) -> list[Piece]:
    """Gemma knows no system role: the system message begins the first user turn."""
    turns = _Turns(
        "<start_of_turn>{role}\n", "<end_of_turn>\n", ("", "user", "model"), strips=True, always_bos=True
    )
    return turns(_system_in_user(messages), tokenizer)


def _mistral_pieces(messages: Sequence[Message], tokenizer: Tokenizer) -> list[Piece]:
    """Mistral Instruct without a template of its own: one begin token, an end token behind each answer."""
    pieces = [Piece(token="bos")]
    listed = _system_in_user(messages)
    for index, message in enumerate(listed):
        blocks = _strip(_broken(message.blocks, _INST_MARKS))
        if message.role == "user":
            pieces.append(Piece("[INST]", control=True, spaced=True))
            pieces += [*_first_spaced(blocks), Piece(" [/INST]", control=True, answer=True)]
        elif index == len(listed) - 1:
            pieces += _texts(message.blocks, spaced=True)
        else:
            pieces += [*_first_spaced(blocks), Piece(token="eos", border=True)]
    return pieces


def _system_in_user(messages: Sequence[Message]) -> list[Message]:
    if messages[0].role != "system":
        return list(messages)
    system, user = messages[0], messages[1]
    return [Message("user", (*system.blocks, "\n\n", *user.blocks)), *messages[2:]]


# Ends of an answer that models with a template of their own use; a vocabulary has one or two of them.
_COMMON_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>")

CODELLAMA = Family("codellama-instruct", _llama2_pieces, ("▁<EOT>",), drops_space=True)
CODELLAMA_70B = Family("codellama-70b-instruct", _llama70_pieces, ("<step>",))
CHATML = Family("chatml", _Turns("<|im_start|>{role}\n", "<|im_end|>\n"), ("<|im_end|>", "<|endoftext|>"))
LLAMA3 = Family(
    "llama-3",
    _Turns("<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>", strips=True, always_bos=True),
    ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
)
MISTRAL = Family("mistral-instruct", _mistral_pieces, drops_space=True)
GEMMA = Family("gemma", _gemma_pieces, ("<end_of_turn>",))
PHI3 = Family("phi-3", _Turns("<|{role}|>\n", "<|end|>\n"), ("<|end|>", "<|endoftext|>"))
ZEPHYR = Family("zephyr", _Turns("<|{role}|>\n", "</s>\n"), ("</s>",))

FAMILIES = {
    family.name: family for family in (CODELLAMA, CODELLAMA_70B, CHATML, LLAMA3, MISTRAL, GEMMA, PHI3, ZEPHYR)
}


def detect(info: GgufInfo) -> Family:
    """The family of a model; its own template decides where it differs from what it looks like."""
    label, template = info.label, info.chat_template
    if "codellama" in label.replace("-", "").replace("_", "").replace(" ", ""):
        # Meta's reference is exact; the templates that later conversions carry are not.
        return CODELLAMA_70B if "70b" in label or "<step>" in template else CODELLAMA
    if not template:
        return _by_name(label, info)
    looks_like = _by_template(template)
    if looks_like in (CODELLAMA, CODELLAMA_70B):
        return looks_like
    if looks_like is not None and _agrees(looks_like, template):
        return looks_like
    return template_family(template)


def _by_template(template: str) -> Family | None:
    marks = (
        ("<|im_start|>", CHATML),
        ("<|start_header_id|>", LLAMA3),
        ("<start_of_turn>", GEMMA),
        ("<step>", CODELLAMA_70B),
        ("<<SYS>>", CODELLAMA),
        ("<|end|>", PHI3),
        ("<|user|>", ZEPHYR),
    )
    return next((family for mark, family in marks if mark in template), None)


def _by_name(label: str, info: GgufInfo) -> Family:
    names = (
        (r"qwen|smollm|hermes|chatml|dolphin|yi-|internlm", CHATML),
        (r"llama-?_? ?3", LLAMA3),
        (r"mi[sx]tral|codestral", MISTRAL),
        (r"gemma", GEMMA),
        (r"phi-?3", PHI3),
        (r"zephyr|tinyllama", ZEPHYR),
    )
    for pattern, family in names:
        if re.search(pattern, label):
            return family
    # Instruct models without a template date from before templates: Llama 2 and its like.
    return CODELLAMA if info.tokenizer_model == "llama" else CHATML


# -- the model's own template --------------------------------------------------------------------

# Private-use characters stand for what a template inserts; a template cannot tell them from text.
_SENTINEL = re.compile("\ue000(\\d+)\ue001|\ue002|\ue003")
_BOS, _EOS = "\ue002", "\ue003"


def template_family(template: str) -> Family:
    """The family that the GGUF's own template describes.

    :raises ModelError: when used, if the template cannot be rendered.
    """

    def pieces(messages: Sequence[Message], tokenizer: Tokenizer) -> list[Piece]:
        prefill = messages[-1] if messages[-1].role == "assistant" else None
        listed = list(messages[:-1] if prefill else messages)
        found = _template_pieces(_rendered(template, listed), listed)
        if tokenizer.adds_bos and not _starts_with_bos(found, tokenizer):
            found.insert(0, Piece(token="bos"))
        return found + (_texts(prefill.blocks) if prefill else [])

    return Family("template", pieces, _COMMON_ENDS)


def _starts_with_bos(pieces: Sequence[Piece], tokenizer: Tokenizer) -> bool:
    first = next(iter(pieces), None)
    return first is not None and _encode(first, tokenizer)[:1] == [tokenizer.bos]


def _template_pieces(rendered: str, messages: Sequence[Message]) -> list[Piece]:
    """Split what a template made of sentinels into framing and texts."""
    pieces: list[Piece] = []
    at = 0
    for match in _SENTINEL.finditer(rendered):
        pieces += _framing(rendered[at : match.start()], opens=not at)
        at = match.end()
        if match[1] is None:
            pieces.append(Piece(token="bos" if match[0] == _BOS else "eos", border=match[0] == _EOS))
        else:
            message = messages[int(match[1])]
            if message.role == "assistant" and pieces:
                pieces[-1] = replace(pieces[-1], answer=True)
            pieces += _texts(message.blocks)
    return pieces + _framing(rendered[at:], opens=not at)


def _framing(text: str, *, opens: bool) -> list[Piece]:
    return [Piece(text, control=True, spaced=opens)] if text else []


def _rendered(template: str, messages: Sequence[Message]) -> str:
    """The template's framing around sentinels; without a system role, the user's message begins with it."""
    from jinja2 import TemplateError

    numbered = [{"role": m.role, "content": f"\ue000{index}\ue001"} for index, m in enumerate(messages)]
    attempts = [numbered]
    if messages[0].role == "system":
        both = f"{numbered[0]['content']}\n\n{numbered[1]['content']}"
        attempts.append([{"role": "user", "content": both}, *numbered[2:]])
    problem = "it leaves messages out"
    for attempt in attempts:
        try:
            rendered = render(template, attempt)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
            problem = str(error) or type(error).__name__
            continue
        if all(message["content"] in rendered for message in numbered):
            return rendered
    raise ModelError(
        f"The model's own chat template cannot frame this conversation: {problem}.",
        f"Say which framing the model was trained with: family = one of {', '.join(FAMILIES)}.",
    )


def render(template: str, messages: Sequence[dict[str, str]]) -> str:
    """Run a chat template in jinja2's sandbox as publishers do: blocks trimmed, answer opened."""
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    rendered: str = environment.from_string(template).render(
        messages=messages,
        bos_token=_BOS,
        eos_token=_EOS,
        add_generation_prompt=True,
        raise_exception=raise_exception,
        tools=None,
    )
    return rendered


_PROBE = (
    Message("system", ("Be brief.",)),
    Message("user", ("One?",)),
    Message("assistant", ("Two.",)),
    Message("user", ("Three?",)),
)


class _ProbeTokenizer:
    """No vocabulary: only says which tokens a template would be compared with."""

    bos: int | None = None
    eos: int | None = None
    adds_bos = False

    def encode(self, text: str, *, control: bool = False, joined: bool = False) -> list[int]:
        return []

    def token_id(self, text: str) -> int | None:
        return None

    def is_control(self, token: int) -> bool:
        return False


def _agrees(family: Family, template: str) -> bool:
    """Whether the family frames a plain conversation as the template does, but for the begin token."""
    try:
        rendered = _rendered(template, _PROBE)
    except ModelError:
        return True
    ours = "".join(piece.text for piece in family.pieces(_PROBE, _ProbeTokenizer()))
    theirs = _SENTINEL.sub(lambda match: _PROBE[int(match[1])].text if match[1] else "", rendered)
    return ours == theirs
