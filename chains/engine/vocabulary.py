"""The tokenizer of a loaded model: text to tokens and back, where text never becomes a control token."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

# Attributes of tokens, as llama.cpp numbers them.
_ATTR_NORMAL, _ATTR_CONTROL, _ATTR_USER_DEFINED = 4, 8, 16


class Vocabulary:
    """The model's tokenizer. Text never becomes a control token unless `control` is set. Thread-safe."""

    def __init__(self, library: Any, vocab: Any) -> None:
        self._lib = library
        self._vocab = vocab
        self.size = int(library.llama_vocab_n_tokens(vocab))
        self.bos = self._known(library.llama_vocab_bos(vocab))
        self.eos = self._known(library.llama_vocab_eos(vocab))
        self.adds_bos = bool(library.llama_vocab_get_add_bos(vocab))
        named = ("bos", "eos", "eot", "fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep")
        ids = (self._known(getattr(library, f"llama_vocab_{name}")(vocab)) for name in named)
        self._named = frozenset(token for token in ids if token is not None)
        self._controls: dict[int, bool] = {}
        self._marker = self._tokenize("☺".encode(), control=False)
        # SentencePiece begins each text with a space; most other vocabularies do not.
        self.adds_space = self.piece(self._tokenize(b"x", control=False)[0])[:1] == b" "

    def _known(self, token: int) -> int | None:
        return int(token) if 0 <= token < self.size else None

    def encode(self, text: str, *, control: bool = False, joined: bool = False) -> list[int]:
        """Tokens of a piece of text; see `families.Tokenizer`."""
        data = text.encode("utf-8", "replace")
        ids = self._joined(data, control=control) if joined else self._tokenize(data, control=control)
        if control or not any(self.is_control(token) for token in set(ids)):
            return ids
        return self._without_controls(text, ids, joined=joined)

    def _without_controls(self, text: str, ids: Sequence[int], *, joined: bool) -> list[int]:
        """Vocabularies hold marks (`<tool_call>`) that are always recognised: cut those marks in two."""
        marks = {self.text(token) for token in ids if self.is_control(token)}
        marks |= {mark.replace("▁", " ") for mark in marks}
        cuts = {0, len(text)}
        for mark in marks:
            at = text.find(mark)
            while at >= 0:
                cuts.add(at + max(1, len(mark) // 2))
                at = text.find(mark, at + 1)
        borders = sorted(cuts)
        found: list[int] = []
        for start, end in zip(borders, borders[1:], strict=False):
            data = text[start:end].encode("utf-8", "replace")
            found += self._tokenize(data) if start == 0 and not joined else self._joined(data)
        # Nothing known gets here; a vocabulary that defeats the cut loses the token rather than the frame.
        return [token for token in found if not self.is_control(token)]

    def _joined(self, data: bytes, *, control: bool = False) -> list[int]:
        if not self.adds_space or not data:
            return self._tokenize(data, control=control)
        # Tokenised behind a character that joins with nothing, so that no space is put before it.
        ids = self._tokenize("☺".encode() + data, control=control)
        if ids[: len(self._marker)] == self._marker:
            return ids[len(self._marker) :]
        return self._tokenize(data, control=control)

    def _tokenize(self, data: bytes, *, control: bool = False) -> list[int]:
        room = len(data) + 8
        buffer = (ctypes.c_int32 * room)()
        count = self._lib.llama_tokenize(self._vocab, data, len(data), buffer, room, False, control)
        if count < 0:
            room = -count
            buffer = (ctypes.c_int32 * room)()
            count = self._lib.llama_tokenize(self._vocab, data, len(data), buffer, room, False, control)
        return list(buffer[:count])

    def token_id(self, text: str) -> int | None:
        """The id of the control token with exactly this text."""
        ids = self._tokenize(text.encode(), control=True)
        if len(ids) == 1 and self.is_control(ids[0]) and self.text(ids[0]) == text:
            return ids[0]
        # Some (CodeLlama's ▁<EOT>) cannot be written as text; such tokens stand at the end of a vocabulary.
        return next((i for i in range(max(0, self.size - 1_024), self.size) if self.text(i) == text), None)

    def is_control(self, token: int) -> bool:
        """Whether the id frames instead of saying something."""
        known = self._controls.get(token)
        if known is None:
            attributes = self._lib.llama_vocab_get_attr(self._vocab, token)
            known = bool(attributes & _ATTR_CONTROL) or token in self._named
            known = known or (bool(attributes & _ATTR_USER_DEFINED) and _frames(self.text(token)))
            self._controls[token] = known
        return known

    def ends(self, token: int) -> bool:
        """Whether llama.cpp takes the id for the end of a text, as its grammars do."""
        return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def text(self, token: int) -> str:
        """The vocabulary's own text of an id."""
        found = self._lib.llama_vocab_get_text(self._vocab, token)
        return (found or b"").decode("utf-8", "replace")

    def piece(self, token: int, *, control: bool = False) -> bytes:
        """The bytes an id stands for; none for a control token unless `control` is set."""
        # llama.cpp takes ordinary tokens with telling texts (Qwen's "</s>") for control tokens.
        shown = control or bool(self._lib.llama_vocab_get_attr(self._vocab, token) & _ATTR_NORMAL)
        room = 64
        buffer = ctypes.create_string_buffer(room)
        length = self._lib.llama_token_to_piece(self._vocab, token, buffer, room, 0, shown)
        if length < 0:
            room = -length
            buffer = ctypes.create_string_buffer(room)
            length = self._lib.llama_token_to_piece(self._vocab, token, buffer, room, 0, shown)
        return bytes(buffer.raw[:length])

    def decode(self, ids: Sequence[int], *, control: bool = False) -> str:
        """The text of ids, control tokens shown when `control` is set."""
        return b"".join(self.piece(token, control=control) for token in ids).decode("utf-8", "replace")


def _frames(text: str) -> bool:
    """Whether a token that makers added frames (`<tool_call>`) or is mere text (`<table>`, spaces)."""
    name = text.lstrip("▁").strip("<>[]/")
    if not name or text.lstrip("▁")[:1] not in ("<", "["):
        return False
    return name == "think" or not (name.isascii() and name.isalnum() and name == name.lower())
