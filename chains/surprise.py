"""How surprising a model finds each line of a text, given what stands before and behind it, from its logits alone."""

# Faulty lines are less natural than others to a model of code (B. Ray et al., "On the naturalness of buggy code").
# A model too small to say what is wrong can still tell that something is: it was trained on nothing else.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chains.runtime import Runtime

_FIM = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


@dataclass(frozen=True, slots=True)
class LineSurprise:
    """`nats` is minus the log-likelihood of all `tokens` that begin in the line, `most` that of the worst of them."""

    nats: float
    tokens: int
    most: float


def infill_prompt(runtime: Runtime, before: str, behind: str) -> list[int] | None:
    """The tokens after which a model writes what stands between two texts; None for one that was not trained to."""
    marks = [runtime.vocabulary.token_id(mark) for mark in _FIM]
    if None in marks:
        return None
    encode = runtime.vocabulary.encode
    first, second, third = (mark for mark in marks if mark is not None)
    return [first, *encode(before, joined=True), second, *encode(behind, joined=True), third]


def line_surprises(
    runtime: Runtime, prompt: Sequence[int], text: str, stopped: Callable[[], bool]
) -> list[LineSurprise]:
    """The surprise of every line of `text` behind a prompt of at least one token, in order.

    :raises Interrupted: `stopped` became true.
    """
    tokens = runtime.vocabulary.encode(text, joined=True)
    runtime.prefill(prompt, None, stopped)
    surprises: list[float] = []
    logits = runtime.logits()
    for start in range(0, len(tokens), runtime.n_batch):
        batch = tokens[start : start + runtime.n_batch]
        surprises.append(_surprise(logits, batch[0]))
        if len(batch) > 1 or start + len(batch) < len(tokens):
            runtime.extend(batch)
            surprises += [_surprise(runtime.logits(at), token) for at, token in enumerate(batch[1:])]
            logits = runtime.logits(len(batch) - 1)
    lines: list[list[float]] = [[] for _ in text.split("\n")]
    line = 0
    for token, nats in zip(tokens, surprises, strict=True):
        lines[line].append(nats)
        line = min(line + runtime.vocabulary.piece(token).count(b"\n"), len(lines) - 1)
    return [LineSurprise(sum(found), len(found), max(found, default=0.0)) for found in lines]


def _surprise(logits: object, token: int) -> float:
    """Minus the logarithm of the share of one token among all, in nats."""
    import numpy as np

    values = np.asarray(logits, dtype=np.float64)
    most = values.max()
    return float(most + np.log(np.exp(values - most).sum()) - values[token])
