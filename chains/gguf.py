"""Reads the header of a GGUF file, bounded and in plain Python: what a model is, before it is loaded."""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from indexers.errors import ModelError

# How much is read at first, then up to: a header is a few megabytes (its vocabulary), at most about 20.
_READS = (16 << 20, 64 << 20, 256 << 20)
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

# ggml tensor type -> (name, values in a block, bytes of a block).
_TENSOR_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
# general.file_type -> what people call the quantisation.
_FILE_TYPES: Mapping[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
    37: "TQ2_0", 38: "MXFP4", 39: "NVFP4", 40: "Q1_0",
}  # fmt: skip
_SPLIT_NAME = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf$")
_DOWNLOAD_AGAIN = "Download the file again (agent models pull NAME), or name another: agent models list"
_OTHER_MODEL = "Name a GGUF file, or see what is installed: agent models list"


@dataclass(frozen=True, slots=True)
class GgufInfo:
    """What the header of a GGUF file says. Zero or an empty text where the file says nothing.

    `file_bytes` counts all parts of a split file. `kv_heads` is the sum over layers of key/value heads.
    """

    path: Path
    version: int
    architecture: str
    name: str
    context_length: int
    embedding_length: int
    block_count: int
    head_count: int
    head_count_kv: int
    kv_heads: int
    key_length: int
    value_length: int
    rope_freq_base: float
    chat_template: str
    tokenizer_model: str
    tokenizer_pre: str
    bos_id: int | None
    eos_id: int | None
    vocab_size: int
    file_type: int | None
    quantization: str
    tensor_count: int
    parameter_count: int
    file_bytes: int

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that one token takes in a KV cache of 16-bit floats."""
        return 2 * self.kv_heads * (self.key_length + self.value_length)

    @property
    def label(self) -> str:
        """The model's name and its file's name, lower case: what tells fine-tunes apart."""
        return f"{self.name} {self.path.name}".lower()


@dataclass(frozen=True, slots=True)
class _Header:
    """Key/values and tensors, before they are given names."""

    version: int
    values: dict[str, int | float | bool | str | list[int]]
    lengths: dict[str, int]
    tensor_count: int
    parameters: int
    quantization: str
    data_end: int


class _NeedMore(Exception):
    """The header goes on behind what was read."""


def read_gguf(path: str | Path) -> GgufInfo:
    """The header of the GGUF file at `path`.

    :raises ModelError: there is no such file, it is not a GGUF of version 2 or 3, or a part of it is missing.
    """
    path = Path(path)
    size = _file_size(path)
    try:
        with path.open("rb") as file:
            header = _parse_growing(file.fileno(), path, size)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror or error}.", "Check its permissions."
        ) from error
    if header.data_end > size:
        raise ModelError(
            f"{path} is cut short: it has {size:,} bytes, its header promises {header.data_end:,}.",
            _DOWNLOAD_AGAIN,
        )
    return _info(path, header, size + _other_parts(path, header))


def _file_size(path: Path) -> int:
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise ModelError(f"There is no model file at {path}.", _OTHER_MODEL) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}.", _OTHER_MODEL) from error
    if stat.S_ISDIR(found.st_mode):
        raise ModelError(f"{path} is a directory, not a GGUF file.", "Name the .gguf file in it.")
    if not stat.S_ISREG(found.st_mode):
        raise ModelError(f"{path} is not a regular file.", _OTHER_MODEL)
    if found.st_size == 0:
        raise ModelError(f"{path} is empty.", _DOWNLOAD_AGAIN)
    return found.st_size


def _parse_growing(descriptor: int, path: Path, size: int) -> _Header:
    """Parse what the first read brought; read more when the header is longer than that."""
    for limit in _READS:
        # os.read and not mmap: a file cut short under a mapping kills the process.
        data = _read(descriptor, min(limit, size))
        _check_magic(path, data)
        try:
            return _Parser(path, data).header()
        except _NeedMore:
            if len(data) >= size:
                raise ModelError(
                    f"{path} is cut short: it ends after {size:,} bytes, inside its header.", _DOWNLOAD_AGAIN
                ) from None
    raise _damaged(path, f"its header is larger than {_READS[-1]:,} bytes")


def _read(descriptor: int, wanted: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    parts: list[bytes] = []
    while wanted > 0:
        part = os.read(descriptor, wanted)
        if not part:
            break
        parts.append(part)
        wanted -= len(part)
    return b"".join(parts)


def _damaged(path: Path, what: str) -> ModelError:
    return ModelError(f"{path} is damaged: {what}.", _DOWNLOAD_AGAIN)


_OLD_MAGIC = {b"lmgg": "GGML", b"fmgg": "GGMF", b"tjgg": "GGJT", b"algg": "GGLA (a LoRA adapter)"}


def _check_magic(path: Path, data: bytes) -> None:
    """Name the format when it is another one: people pass what they downloaded.

    :raises ModelError: anything but little-endian GGUF of version 2 or 3.
    """
    magic = data[:4]
    if magic != b"GGUF":
        raise _other_format(path, data)
    if len(data) < 8:
        raise ModelError(f"{path} is cut short: it has only {len(data)} bytes.", _DOWNLOAD_AGAIN)
    (version,) = struct.unpack_from("<I", data, 4)
    if version in (2, 3):
        return
    if version and version & 0xFFFF == 0:
        raise ModelError(
            f"{path} is a big-endian GGUF file.", "Get the little-endian file: nearly all published ones are."
        )
    if version == 1:
        raise ModelError(
            f"{path} is a GGUF file of version 1, from August 2023, which llama.cpp no longer reads.",
            "Get a newer conversion of the same model, or another one: agent models list",
        )
    raise ModelError(
        f"{path} is a GGUF file of version {version}; versions 2 and 3 are known.",
        "Update this program, or get another file: agent models list",
    )


def _other_format(path: Path, data: bytes) -> ModelError:
    start = data[:4096]
    if start[:4] in _OLD_MAGIC:
        return ModelError(
            f"{path} is in the old {_OLD_MAGIC[start[:4]]} format, which llama.cpp gave up in August 2023.",
            "Get the same model as GGUF (agent models list), or convert it with llama.cpp's own script.",
        )
    if start.startswith(b"version https://git-lfs"):
        return ModelError(
            f"{path} is a Git LFS pointer, not the model itself.", "Fetch what it points to: git lfs pull"
        )
    found, remedy = "not a GGUF file", _OTHER_MODEL
    text = start.lstrip()[:16].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        found, remedy = "a web page, not a model: the download was answered with one", _DOWNLOAD_AGAIN
    elif start.startswith(b"PK\x03\x04"):
        found = "a zip archive (PyTorch weights are such), not a GGUF file"
    elif start.startswith(b"\x80"):
        found = "a Python pickle (old PyTorch weights), not a GGUF file"
    elif len(start) > 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 32:
        found = "a safetensors file, not a GGUF file"
    elif text.startswith((b"{", b"[")):
        found, remedy = "JSON text, not a model", _DOWNLOAD_AGAIN
    elif not start.strip(b"\0"):
        found, remedy = "filled with zeros: the download did not finish", _DOWNLOAD_AGAIN
    return ModelError(f"{path} is {found}.", remedy)


class _Parser:
    """A cursor over the bytes of a header. Every length is checked before it is believed."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._data = data
        self._at = 4

    def header(self) -> _Header:
        """The whole header, from the version to the last tensor's description."""
        version = self._number("<I")
        tensors, keys = self._number("<Q"), self._number("<Q")
        if keys > _MAX_KEYS or tensors > _MAX_TENSORS:
            raise _damaged(self._path, f"it claims {keys:,} keys and {tensors:,} tensors")
        values: dict[str, int | float | bool | str | list[int]] = {}
        lengths: dict[str, int] = {}
        for _ in range(keys):
            key = self._text(_MAX_KEY_BYTES)
            self._value(key, self._number("<I"), values, lengths)
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
            raise _damaged(self._path, f"it claims an alignment of {alignment!r}")
        parameters, quantization, ends = self._tensors(tensors)
        start = -(-self._at // alignment) * alignment
        # A header without tensors (a vocabulary) ends where it ends: no padding is owed.
        end = start + ends if tensors else self._at
        return _Header(version, values, lengths, tensors, parameters, quantization, end)

    def _tensors(self, count: int) -> tuple[int, str, int]:
        """Parameters, the type that holds most bytes, and where the last tensor ends in the data."""
        parameters = end = 0
        held: dict[str, int] = {}
        for _ in range(count):
            self._text(_MAX_KEY_BYTES)
            dimensions = self._number("<I")
            if not 1 <= dimensions <= _MAX_DIMENSIONS:
                raise _damaged(self._path, f"a tensor claims {dimensions:,} dimensions")
            elements = 1
            for _ in range(dimensions):
                elements *= self._number("<Q")
            if not 0 < elements <= _MAX_ELEMENTS:
                raise _damaged(self._path, f"a tensor claims {elements:,} values")
            kind, offset = self._number("<I"), self._number("<Q")
            # A type newer than this table cannot be measured; llama.cpp decides about it.
            name, block, block_bytes = _TENSOR_TYPES.get(kind, (f"type {kind}", 1, 0))
            size = -(-elements // block) * block_bytes
            parameters += elements
            held[name] = held.get(name, 0) + size
            end = max(end, offset + size)
        return parameters, max(held, key=lambda name: held[name], default=""), end

    def _value(
        self,
        key: str,
        kind: int,
        values: dict[str, int | float | bool | str | list[int]],
        lengths: dict[str, int],
    ) -> None:
        if kind in _SCALARS:
            values[key] = self._number(_SCALARS[kind])
        elif kind == _STRING:
            values[key] = self._text(_MAX_TEXT_BYTES)
        elif kind == _ARRAY:
            lengths[key] = self._array(key, values)
        else:
            raise _damaged(self._path, f"{key!r} has the unknown type {kind}")

    def _array(self, key: str, values: dict[str, int | float | bool | str | list[int]]) -> int:
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
            raise _damaged(self._path, f"{key!r} is an array of the unknown type {kind}")
        return count

    def _skip_texts(self, count: int) -> None:
        # The only loop over a whole vocabulary: hundreds of thousands of steps, so it looks nothing up.
        data, at, total = self._data, self._at, len(self._data)
        unpack = struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at + 8 > total:
                raise _NeedMore
            at += 8 + unpack(data, at)[0]
        if at > total:
            raise _NeedMore
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
            raise _damaged(self._path, f"it claims a text of {length:,} bytes")
        start = self._at
        self._skip(length)
        return self._data[start : start + length].decode("utf-8", "replace")

    def _skip(self, length: int) -> None:
        if self._at + length > len(self._data):
            raise _NeedMore
        self._at += length


def _other_parts(path: Path, header: _Header) -> int:
    """Bytes of the other parts of a split file.

    :raises ModelError: this is not the first part, or others are missing.
    """
    parts = header.values.get("split.count", 0)
    if not isinstance(parts, int) or parts <= 1:
        return 0
    match = _SPLIT_NAME.match(path.name)
    if match is None:
        raise ModelError(
            f"{path} is one of {parts} parts of a split model, but its name does not say which.",
            f"Give the parts their names back: NAME-00001-of-{parts:05}.gguf and so on.",
        )
    names = [
        f"{match['stem']}-{part:05}-of-{match['parts']}.gguf" for part in range(1, int(match["parts"]) + 1)
    ]
    missing = [name for name in names if not path.with_name(name).is_file()]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise ModelError(
            f"Parts of the split model {path} are missing: {shown}.", "Put all parts into one directory."
        )
    if int(match["part"]) != 1:
        raise ModelError(
            f"{path} is part {int(match['part'])} of a split model.", f"Name the first part: {names[0]}"
        )
    return sum(path.with_name(name).stat().st_size for name in names[1:])


def _info(path: Path, header: _Header, file_bytes: int) -> GgufInfo:
    values = header.values

    def text(key: str) -> str:
        value = values.get(key, "")
        return value if isinstance(value, str) else ""

    def number(key: str) -> int:
        value = values.get(key, 0)
        if isinstance(value, list):  # one entry a layer
            return max(value, default=0)
        return value if isinstance(value, int) and value >= 0 else 0

    def token(name: str) -> int | None:
        value = values.get(f"tokenizer.ggml.{name}_token_id")
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    arch = text("general.architecture")
    heads, layers = number(f"{arch}.attention.head_count"), number(f"{arch}.block_count")
    heads_kv = number(f"{arch}.attention.head_count_kv") or heads
    per_layer = values.get(f"{arch}.attention.head_count_kv")
    width = number(f"{arch}.embedding_length")
    base = values.get(f"{arch}.rope.freq_base", 0.0)
    file_type = values.get("general.file_type")
    known = isinstance(file_type, int) and _FILE_TYPES.get(file_type)
    return GgufInfo(
        path=path,
        version=header.version,
        architecture=arch,
        name=text("general.name"),
        context_length=number(f"{arch}.context_length"),
        embedding_length=width,
        block_count=layers,
        head_count=heads,
        head_count_kv=heads_kv,
        kv_heads=sum(max(heads, 0) for heads in per_layer)
        if isinstance(per_layer, list)
        else heads_kv * layers,
        key_length=number(f"{arch}.attention.key_length") or (width // heads if heads else 0),
        value_length=number(f"{arch}.attention.value_length") or (width // heads if heads else 0),
        rope_freq_base=float(base) if isinstance(base, (int, float)) else 0.0,
        chat_template=text("tokenizer.chat_template"),
        tokenizer_model=text("tokenizer.ggml.model"),
        tokenizer_pre=text("tokenizer.ggml.pre"),
        bos_id=token("bos"),
        eos_id=token("eos"),
        vocab_size=header.lengths.get("tokenizer.ggml.tokens", 0),
        file_type=file_type if isinstance(file_type, int) else None,
        quantization=known or header.quantization,
        tensor_count=header.tensor_count,
        parameter_count=header.parameters,
        file_bytes=file_bytes,
    )
