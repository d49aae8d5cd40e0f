"""The KV cells of a llama.cpp context: spans of them copied out, put back, and shifted to other positions."""

from __future__ import annotations

import ctypes
from typing import Any

from chains.models.ggml_types import PLAIN_KV

# Sequences of a context: the prompt, spans that wait to be joined to it, and one to copy through.
MAIN, WAITING, WORK = 0, 1, 2
SEQUENCES = 3
_QUANTISED_HEADS = 64


class CellsError(Exception):
    """llama.cpp does not take a state: it is of another model or build, or there is no room for it."""


def turns(type_k: str, key_length: int) -> bool:
    """Whether llama.cpp turns keys kept so: 0.3.36 crashes over quantised ones of heads that 64 does not divide."""
    return type_k in PLAIN_KV or key_length % _QUANTISED_HEADS == 0


class Cells:
    """What one cell holds (a token's key and value in every layer) does not depend on what is read afterwards.

    Positions are those of the prompt. The caller sees to it that the spans it names are there.
    """

    def __init__(self, library: Any, context: Any, model: Any, *, shifts: bool = True) -> None:
        """:param shifts: whether keys may be turned at all; see `turns`."""
        self._lib = library
        self._ctx = context
        self._memory = library.llama_get_memory(context)
        # Sliding windows forget cells, and recurrent models have one state for all that was read.
        self.spans = not (
            library.llama_model_is_recurrent(model)
            or library.llama_model_is_hybrid(model)
            or library.llama_model_n_swa(model) > 0
        )
        self.shifts = shifts and self.spans and bool(library.llama_memory_can_shift(self._memory))

    def save(self, start: int, end: int) -> memoryview:
        """The state of the prompt's cells from `start` to `end`. Nothing may wait to be shifted.

        :raises CellsError: llama.cpp gives no state.
        """
        self._lib.llama_memory_seq_cp(self._memory, MAIN, WORK, start, end)
        try:
            size = int(self._lib.llama_state_seq_get_size(self._ctx, WORK))
            data = (ctypes.c_uint8 * size)()
            if int(self._lib.llama_state_seq_get_data(self._ctx, data, size, WORK)) != size or not size:
                raise CellsError("llama.cpp gives no state")
        finally:
            self._forget(WORK)
        return memoryview(data).cast("B")

    def restore(self, data: bytearray, start: int, keep: int) -> None:
        """Put the first `keep` cells of a state that begins at `start` behind the prompt's.

        :raises CellsError: the state is of another kind of context, or there is no room.
        """
        self._load(data)
        self._lib.llama_memory_seq_cp(self._memory, WORK, MAIN, start, start + keep)
        self._forget(WORK)

    def wait(self, data: bytearray, start: int, length: int, skip: int, target: int) -> None:
        """Shift a state of `length` cells that begins at `start` to `target`, all but its first `skip` cells.

        The cells wait there until `join` takes them; the keys are turned when something is read next.

        :raises CellsError: the state is of another kind of context, or there is no room.
        """
        self._load(data)
        first, end = start + skip, start + length
        if target != start:
            self._lib.llama_memory_seq_rm(self._memory, WORK, start, first)
            self._lib.llama_memory_seq_add(self._memory, WORK, first, end, target - start)
        self._lib.llama_memory_seq_cp(self._memory, WORK, WAITING, target + skip, target + length)
        self._forget(WORK)

    def join(self, start: int, end: int) -> None:
        """Make the waiting cells from `start` to `end` the prompt's."""
        self._lib.llama_memory_seq_cp(self._memory, WAITING, MAIN, start, end)

    def forget_waiting(self) -> None:
        """Let go of cells that wait."""
        self._forget(WAITING)

    def _load(self, data: bytearray) -> None:
        source = (ctypes.c_uint8 * len(data)).from_buffer(data)
        if int(self._lib.llama_state_seq_set_data(self._ctx, source, len(data), WORK)) != len(data):
            self._forget(WORK)
            raise CellsError("llama.cpp does not take the state")

    def _forget(self, sequence: int) -> None:
        self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)
