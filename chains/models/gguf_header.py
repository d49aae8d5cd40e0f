"""Parses the header of a GGUF file from bytes in memory: every length is checked before it is believed."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

from chains.models.ggml_types import REMOVED_TYPES, TENSOR_TYPES, TensorType
from indexers.errors import ModelError

# What no real file comes near; llama.cpp's own limits are of the same order.
_MAX_KEYS = 65_536
_MAX_TENSORS = 65_536
_MAX_KEY_BYTES = 65_535
_MAX_TEXT_BYTES = 8 << 20
_MAX_NUMBERS = 4_096
_MAX_DIMENSIONS = 4
_MAX_ELEMENTS = 1 << 50

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9
_SIZES = {kind: struct.calcsize(code) for kind, code in _SCALARS.items()}

DOWNLOAD_AGAIN = "Download the file again (agent models pull NAME), or name another: agent models list"
Value = int | float | bool | str | list[int]
# Repacked layouts lead back to what they were made of.
_SUCCESSOR = {36: "IQ4_NL", 37: "IQ4_NL", 38: "IQ4_NL"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file: `shape` as the file has it (the row length first), `type` a storage type's name."""

    name: str
    shape: tuple[int, ...]
    type: str
    bytes: int

    @property
    def values(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """Key/values and tensors, before they are given names. `data_end` is where the last tensor ends in the file."""

    version: int
    values: dict[str, Value]
    lengths: dict[str, int]
    tensors: tuple[Tensor, ...]
    data_end: int


class NeedMore(Exception):
    """The header goes on behind what was read."""


def damaged(path: Path, what: str) -> ModelError:
    """The error for a file that contradicts itself."""
    return ModelError(f"{path} is damaged: {what}.", DOWNLOAD_AGAIN)


class Parser:
    """A cursor over the bytes of a header. Every length is checked before it is believed."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._data = data
        self._at = 4

    def header(self) -> Header:
        """The whole header, from the version to the last tensor's description."""
        version = self._number("<I")
        tensors, keys = self._number("<Q"), self._number("<Q")
        if keys > _MAX_KEYS or tensors > _MAX_TENSORS:
            raise damaged(self._path, f"it claims {keys:,} keys and {tensors:,} tensors")
        values: dict[str, Value] = {}
        lengths: dict[str, int] = {}
        for _ in range(keys):
            key = self._text(_MAX_KEY_BYTES)
            self._value(key, self._number("<I"), values, lengths)
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
            raise damaged(self._path, f"it claims an alignment of {alignment!r}")
        described, ends = self._tensors(tensors)
        start = -(-self._at // alignment) * alignment
        # A header without tensors (a vocabulary) ends where it ends: no padding is owed.
        end = start + ends if tensors else self._at
        return Header(version, values, lengths, described, end)

    def _tensors(self, count: int) -> tuple[tuple[Tensor, ...], int]:
        """The tensors, and where the last one ends in the data."""
        found: list[Tensor] = []
        end = 0
        for _ in range(count):
            name = self._text(_MAX_KEY_BYTES)
            dimensions = self._number("<I")
            if not 1 <= dimensions <= _MAX_DIMENSIONS:
                raise damaged(self._path, f"a tensor claims {dimensions:,} dimensions")
            shape = tuple(self._number("<Q") for _ in range(dimensions))
            elements = math.prod(shape)
            if not 0 < elements <= _MAX_ELEMENTS:
                raise damaged(self._path, f"a tensor claims {elements:,} values")
            kind, offset = self._number("<I"), self._number("<Q")
            if kind in REMOVED_TYPES:
                raise self._removed(name, kind)
            # A type newer than our table cannot be measured; llama.cpp knows it, or says that it does not.
            known = TENSOR_TYPES.get(kind, TensorType(f"type {kind}", 1, 0))
            size = known.size(elements)
            found.append(Tensor(name, shape, known.name, size))
            end = max(end, offset + size)
        return tuple(found), end

    def _removed(self, tensor: str, kind: int) -> ModelError:
        """A type that llama.cpp gave up: it would end the whole process over it."""
        return ModelError(
            f"{self._path} stores {tensor} as {REMOVED_TYPES[kind]}, which llama.cpp no longer reads.",
            f"Get the same model in another quantisation: {_SUCCESSOR.get(kind, 'Q4_0 or Q4_K_M')}.",
        )

    def _value(
        self,
        key: str,
        kind: int,
        values: dict[str, Value],
        lengths: dict[str, int],
    ) -> None:
        if kind in _SCALARS:
            values[key] = self._number(_SCALARS[kind])
        elif kind == _STRING:
            values[key] = self._text(_MAX_TEXT_BYTES)
        elif kind == _ARRAY:
            lengths[key] = self._array(key, values)
        else:
            raise damaged(self._path, f"{key!r} has the unknown type {kind}")

    def _array(self, key: str, values: dict[str, Value]) -> int:
        """Step over an array (vocabularies are long and not needed), keeping short lists of whole numbers."""
        kind, count = self._number("<I"), self._number("<Q")
        if kind == _STRING:
            self._skip_texts(count)
        elif kind in _SIZES:
            start = self._at
            self._skip(count * _SIZES[kind])
            if count <= _MAX_NUMBERS and kind not in (6, 7, 12):
                values[key] = list(struct.unpack_from(f"<{count}{_SCALARS[kind][1]}", self._data, start))
        else:
            raise damaged(self._path, f"{key!r} is an array of the unknown type {kind}")
        return count

    def _skip_texts(self, count: int) -> None:
        # The only loop over a whole vocabulary: hundreds of thousands of steps, so it looks nothing up.
        data, at, total = self._data, self._at, len(self._data)
        unpack = struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at + 8 > total:
                raise NeedMore
            at += 8 + unpack(data, at)[0]
        if at > total:
            raise NeedMore
        self._at = at

    def _number(self, code: str) -> int:
        size = struct.calcsize(code)
        start = self._at
        self._skip(size)
        (value,) = struct.unpack_from(code, self._data, start)
        return value  # type: ignore[no-any-return]

    def _text(self, limit: int) -> str:
        length = self._number("<Q")
        if length > limit:
            raise damaged(self._path, f"it claims a text of {length:,} bytes")
        start = self._at
        self._skip(length)
        return self._data[start : start + length].decode("utf-8", "replace")

    def _skip(self, length: int) -> None:
        if self._at + length > len(self._data):
            raise NeedMore
        self._at += length
