"""Chooses the next token: temperature and its kin, and grammars, by llama.cpp's own samplers."""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from typing import Any

from chains.engine.library import log
from indexers.errors import UsageError

_GREEDY_CANDIDATE = 1.0
_PENALTY_LAST = 64


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. Temperature 0 takes the likeliest. `grammar` is GBNF."""

    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    seed: int = 0
    grammar: str = ""


class Sampler:
    """Chooses tokens by a context's last logits. Fresh for each generation, so that a seed means the same."""

    def __init__(self, library: Any, context: Any, vocab: Any, sampling: Sampling) -> None:
        """Build the chain.

        :raises UsageError: the grammar cannot be parsed.
        """
        self._lib = library
        self._ctx = context
        self._chain = library.llama_sampler_chain_init(library.llama_sampler_chain_default_params())
        self._freeing = [weakref.finalize(self, library.llama_sampler_free, self._chain)]
        for part in self._parts(sampling):
            library.llama_sampler_chain_add(self._chain, part)
        self._grammar: Any = None
        if sampling.grammar:
            self._grammar = library.llama_sampler_init_grammar(vocab, sampling.grammar.encode(), b"root")
            if not self._grammar:
                raise UsageError(
                    f"The grammar cannot be parsed: {next(reversed(log.errors()), sampling.grammar[:80])}"
                )
            self._freeing.append(weakref.finalize(self, library.llama_sampler_free, self._grammar))
            self._candidates = _Candidates(library, int(library.llama_vocab_n_tokens(vocab)))

    def _parts(self, sampling: Sampling) -> list[Any]:
        lib, parts = self._lib, []
        if sampling.repeat_penalty != 1.0:
            size = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(lib.llama_get_model(self._ctx))))
            parts.append(
                lib.llama_sampler_init_penalties(size, _PENALTY_LAST, sampling.repeat_penalty, 0.0, 0.0)
            )
        if sampling.temperature <= 0:
            return [*parts, lib.llama_sampler_init_greedy()]
        return [
            *parts,
            lib.llama_sampler_init_top_k(sampling.top_k),
            lib.llama_sampler_init_top_p(sampling.top_p, 1),
            lib.llama_sampler_init_min_p(sampling.min_p, 1),
            lib.llama_sampler_init_temp(sampling.temperature),
            lib.llama_sampler_init_dist(sampling.seed),
        ]

    def next(self, at: int = -1) -> int:
        """The next token, by the logits behind the token `at` of the last batch: the last one."""
        if self._grammar is None:
            return int(self._lib.llama_sampler_sample(self._chain, self._ctx, at))
        return self._next_by_grammar(at)

    def _next_by_grammar(self, at: int) -> int:
        """Try the likeliest first: asking a grammar about one token is cheap, about all it is not."""
        logits = self._lib.llama_get_logits_ith(self._ctx, at)
        chosen = self._candidates.choose(logits, self._chain, None)
        if not self._candidates.allowed(chosen, self._grammar):
            chosen = self._candidates.choose(logits, self._chain, self._grammar)
        self._lib.llama_sampler_accept(self._grammar, chosen)
        self._lib.llama_sampler_accept(self._chain, chosen)
        return chosen

    def release(self) -> None:
        """Go on without the grammar: what has to keep to it is written."""
        self._grammar = None

    def close(self) -> None:
        """Free the chain."""
        for free in self._freeing:
            free()


class _Candidates:
    """The whole vocabulary as llama.cpp's samplers take it."""

    def __init__(self, library: Any, size: int) -> None:
        import numpy as np

        self._lib = library
        self._size = size
        self._np = np
        self._rows = np.zeros(size, dtype=np.dtype([("id", np.intc), ("logit", np.single), ("p", np.single)]))
        self._one = np.zeros(1, dtype=self._rows.dtype)

    def choose(self, logits: Any, chain: Any, grammar: Any) -> int:
        """What the chain takes of these logits, of what the grammar allows where one is given."""
        self._rows["id"] = self._np.arange(self._size, dtype=self._np.intc)
        self._rows["logit"] = self._np.ctypeslib.as_array(logits, shape=(self._size,))
        array = self._array(self._rows)
        if grammar is not None:
            self._lib.llama_sampler_apply(grammar, ctypes.byref(array))
        self._lib.llama_sampler_apply(chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def allowed(self, token: int, grammar: Any) -> bool:
        """Whether the grammar lets this token come next."""
        self._one["id"], self._one["logit"] = token, _GREEDY_CANDIDATE
        array = self._array(self._one)
        self._lib.llama_sampler_apply(grammar, ctypes.byref(array))
        return bool(self._one["logit"][0] > -self._np.inf)

    def _array(self, rows: Any) -> Any:
        lib = self._lib
        pointer = rows.ctypes.data_as(lib.llama_token_data_p)
        return lib.llama_token_data_array(data=pointer, size=len(rows), selected=-1, sorted=False)
