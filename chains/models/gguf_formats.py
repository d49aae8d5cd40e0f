"""Says what a file is that was given for a GGUF model and is none: people pass what they downloaded."""

from __future__ import annotations

import struct
from pathlib import Path

from chains.models.gguf_header import DOWNLOAD_AGAIN
from indexers.errors import ModelError

OTHER_MODEL = "Name a GGUF file, or see what is installed: agent models list"
_OLD_MAGIC = {b"lmgg": "GGML", b"fmgg": "GGMF", b"tjgg": "GGJT", b"algg": "GGLA (a LoRA adapter)"}


def check_magic(path: Path, data: bytes) -> None:
    """Name the format when it is another one: people pass what they downloaded.

    :raises ModelError: anything but little-endian GGUF of version 2 or 3.
    """
    magic = data[:4]
    if magic != b"GGUF":
        raise _other_format(path, data)
    if len(data) < 8:
        raise ModelError(f"{path} is cut short: it has only {len(data)} bytes.", DOWNLOAD_AGAIN)
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
    found, remedy = "not a GGUF file", OTHER_MODEL
    text = start.lstrip()[:16].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        found, remedy = "a web page, not a model: the download was answered with one", DOWNLOAD_AGAIN
    elif start.startswith(b"PK\x03\x04"):
        found = "a zip archive (PyTorch weights are such), not a GGUF file"
    elif start.startswith(b"\x80"):
        found = "a Python pickle (old PyTorch weights), not a GGUF file"
    elif len(start) > 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 32:
        found = "a safetensors file, not a GGUF file"
    elif text.startswith((b"{", b"[")):
        found, remedy = "JSON text, not a model", DOWNLOAD_AGAIN
    elif not start.strip(b"\0"):
        found, remedy = "filled with zeros: the download did not finish", DOWNLOAD_AGAIN
    return ModelError(f"{path} is {found}.", remedy)
