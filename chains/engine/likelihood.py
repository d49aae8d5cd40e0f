"""How likely a model thinks each of a few words to come next, read from its logits instead of its text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chains.engine.runtime import Runtime


def next_probabilities(
    runtime: Runtime, prompt: Sequence[int], words: Sequence[str], stopped: Callable[[], bool]
) -> Mapping[str, float]:
    """The share of each word among all tokens that could follow the prompt: a softmax over the whole vocabulary.

    A word counts as its first token, with a space before it and without. Shares need not add up to 1.

    :raises Interrupted: `stopped` became true while the prompt was read.
    """
    runtime.prefill(prompt, None, stopped)
    logits = runtime.logits().tolist()
    most = max(logits)
    total = math.fsum(math.exp(value - most) for value in logits)
    found: dict[str, float] = {}
    for word in words:
        encoded = (runtime.vocabulary.encode(text, joined=True) for text in (word, f" {word}"))
        first = {tokens[0] for tokens in encoded if tokens}
        found[word] = math.fsum(math.exp(logits[token] - most) for token in first) / total
    return found


def odds(probabilities: Mapping[str, float], for_it: Sequence[str], against: Sequence[str]) -> float | None:
    """The share of some words among these and those, from 0 to 1; None where the model would say neither."""
    yes, no = (math.fsum(probabilities.get(word, 0.0) for word in words) for words in (for_it, against))
    return yes / (yes + no) if yes + no > 0 else None
