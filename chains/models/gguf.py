"""Reads what a GGUF file says of itself, bounded and in plain Python: what a model is, before it is loaded."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chains.models.ggml_types import FILE_TYPES
from chains.models.gguf_formats import OTHER_MODEL, check_magic
from chains.models.gguf_header import DOWNLOAD_AGAIN, Header, NeedMore, Parser, Tensor, damaged
from indexers.errors import ModelError

# How much is read at first, then up to: a header is a few megabytes (its vocabulary), at most about 20.
_READS = (16 << 20, 64 << 20, 256 << 20)
_MAX_LAYERS = 512
_SPLIT_NAME = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf$")


@dataclass(frozen=True, slots=True)
class GgufInfo:
    """What the header of a GGUF file says. Zero or an empty text where the file says nothing.

    `file_bytes` counts all parts of a split file, `split` names the parts behind the first. `kv_heads` is the sum
    over layers of key/value heads.
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
    tensors: tuple[Tensor, ...] = field(default=(), repr=False)
    split: tuple[Path, ...] = ()

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.bytes for tensor in self.tensors)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that one token takes in a KV cache of 16-bit floats."""
        return 2 * self.kv_heads * (self.key_length + self.value_length)

    @property
    def label(self) -> str:
        """The model's name and its file's name, lower case: what tells fine-tunes apart."""
        return f"{self.name} {self.path.name}".lower()


def read_gguf(path: str | Path) -> GgufInfo:
    """The header of the GGUF file at `path`.

    :raises ModelError: there is no such file, it is not a GGUF of version 2 or 3, or a part of it is missing.
    """
    path = Path(path)
    header, size = _header(path)
    others = _other_parts(path, header)
    tensors = list(header.tensors)
    for other in others:
        more, more_size = _header(other)
        tensors += more.tensors
        size += more_size
    return _info(path, header, tensors, size, others)


def _header(path: Path) -> tuple[Header, int]:
    """The parsed header of one file, and the file's size."""
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
            DOWNLOAD_AGAIN,
        )
    return header, size


def _file_size(path: Path) -> int:
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise ModelError(f"There is no model file at {path}.", OTHER_MODEL) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}.", OTHER_MODEL) from error
    if stat.S_ISDIR(found.st_mode):
        raise ModelError(f"{path} is a directory, not a GGUF file.", "Name the .gguf file in it.")
    if not stat.S_ISREG(found.st_mode):
        raise ModelError(f"{path} is not a regular file.", OTHER_MODEL)
    if found.st_size == 0:
        raise ModelError(f"{path} is empty.", DOWNLOAD_AGAIN)
    return found.st_size


def _parse_growing(descriptor: int, path: Path, size: int) -> Header:
    """Parse what the first read brought; read more when the header is longer than that."""
    for limit in _READS:
        # os.read and not mmap: a file cut short under a mapping kills the process.
        data = _read(descriptor, min(limit, size))
        check_magic(path, data)
        try:
            return Parser(path, data).header()
        except NeedMore:
            if len(data) >= size:
                raise ModelError(
                    f"{path} is cut short: it ends after {size:,} bytes, inside its header.", DOWNLOAD_AGAIN
                ) from None
    raise damaged(path, f"its header is larger than {_READS[-1]:,} bytes")


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


def _other_parts(path: Path, header: Header) -> tuple[Path, ...]:
    """The other parts of a split file.

    :raises ModelError: this is not the first part, or others are missing.
    """
    parts = header.values.get("split.count", 0)
    if not isinstance(parts, int) or parts <= 1:
        return ()
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
    return tuple(path.with_name(name) for name in names[1:])


def _info(
    path: Path, header: Header, tensors: Sequence[Tensor], file_bytes: int, others: tuple[Path, ...]
) -> GgufInfo:
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
    if layers > _MAX_LAYERS:
        # llama.cpp keeps a fixed table of them.
        raise damaged(path, f"it claims {layers:,} layers")
    heads_kv = number(f"{arch}.attention.head_count_kv") or heads
    per_layer = values.get(f"{arch}.attention.head_count_kv")
    width = number(f"{arch}.embedding_length")
    base = values.get(f"{arch}.rope.freq_base", 0.0)
    file_type = values.get("general.file_type")
    known = isinstance(file_type, int) and FILE_TYPES.get(file_type)
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
        quantization=known or _most_used(tensors),
        tensor_count=len(tensors),
        parameter_count=sum(tensor.values for tensor in tensors),
        file_bytes=file_bytes,
        tensors=tuple(tensors),
        split=others,
    )


def _most_used(tensors: Sequence[Tensor]) -> str:
    """The type that holds most bytes."""
    held: dict[str, int] = {}
    for tensor in tensors:
        held[tensor.type] = held.get(tensor.type, 0) + tensor.bytes
    return max(held, key=lambda name: held[name], default="")
