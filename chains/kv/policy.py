"""How a model's sources are read unless somebody says otherwise: what was measured decides, model by model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chains.kv.layout import Repair

if TYPE_CHECKING:
    from chains.models.gguf import GgufInfo

AUTO, EXACT, FAST = "auto", "exact", "fast"
# auto: as measured for the model; exact: every source in its place; fast: joined as they are.
READINGS = (AUTO, EXACT, FAST)


NOT_SHIFTED = "what this model reads cannot be moved to another position"


@dataclass(frozen=True, slots=True)
class Measured:
    """A class of models that was measured (`tests/benchmarks/needles.py`, `answers.py`) and what passed there."""

    architecture: str
    least: int
    most: int
    repair: Repair | None
    name: str


@dataclass(frozen=True, slots=True)
class Decision:
    """How sources are read: `repair` is None where they are not joined; why, in words."""

    repair: Repair | None
    name: str
    reason: str


# Architectures whose positions llama.cpp cannot shift: states of all that was read, and positions of several parts.
_FIXED = re.compile(
    r"mamba|rwkv|jamba|hybrid|falcon-h1|lfm2|plamo2|nemotron_h|qwen[23].?vl|qwen3next|kimi-linear"
)

# Models that lose more than 3 points of 100 against a full prompt stay with what is lossless.
MEASURED: tuple[Measured, ...] = (
    Measured("qwen2", 300_000_000, 1_000_000_000, None, "Qwen2.5-Coder 0.5B, which loses answers by joining"),
    Measured(
        "qwen2", 1_000_000_000, 2_500_000_000, None, "Qwen2.5-Coder 1.5B, which loses answers by joining"
    ),
)


def decided(reading: str, info: GgufInfo) -> Decision:
    """How a model reads sources. Models that were not measured restore exact prefixes and join nothing.

    :param reading: one of `READINGS`.
    """
    if reading == EXACT:
        return Decision(None, EXACT, "asked for")
    if _FIXED.search(info.architecture):
        return Decision(None, EXACT, NOT_SHIFTED)
    if reading == FAST:
        return Decision(Repair(), "joined", "asked for, without repair")
    for one in MEASURED:
        if one.architecture == info.architecture and one.least <= info.parameter_count <= one.most:
            name = EXACT if one.repair is None else "joined"
            return Decision(one.repair, name, f"measured on {one.name}")
    return Decision(None, EXACT, "joining was not measured on models like this")
