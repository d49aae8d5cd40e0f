"""The header reader: what it finds in real and built files, and what it says about everything else."""

from __future__ import annotations

import random
import struct
import time
from pathlib import Path
from typing import Any

import pytest
import tiny_gguf
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.models.gguf import GgufInfo, read_gguf
from indexers.errors import ModelError

U32, F32, STRING, ARRAY, U64 = 4, 6, 8, 9, 10


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def typed(kind: int, value: Any) -> bytes:
    head = struct.pack("<I", kind)
    if kind == STRING:
        return head + text(value)
    if kind == ARRAY:
        element, items = value
        body = b"".join(typed(element, item)[4:] for item in items)
        return head + struct.pack("<IQ", element, len(items)) + body
    return head + struct.pack({U32: "<I", F32: "<f", U64: "<Q"}[kind], value)


KEYS = [
    ("general.architecture", STRING, "llama"),
    ("general.name", STRING, "Tiny"),
    ("general.file_type", U32, 15),
    ("llama.context_length", U32, 4096),
    ("llama.embedding_length", U32, 64),
    ("llama.block_count", U32, 2),
    ("llama.attention.head_count", U32, 8),
    ("llama.attention.head_count_kv", U32, 4),
    ("llama.rope.freq_base", F32, 1e6),
    ("tokenizer.ggml.tokens", ARRAY, (STRING, ["<unk>", "<s>", "</s>", "▁a"])),
    ("tokenizer.ggml.scores", ARRAY, (F32, [0.0, 0.0, 0.0, -1.0])),
    ("tokenizer.ggml.bos_token_id", U32, 1),
]


def built(
    keys: list[tuple[str, int, Any]] = KEYS,
    tensors: tuple[tuple[str, tuple[int, ...], int], ...] = (("w", (64, 4), 0), ("q", (256, 2), 12)),
    *,
    version: int = 3,
) -> bytes:
    """A GGUF written by the specification, without any library."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    head += b"".join(text(key) + typed(kind, value) for key, kind, value in keys)
    sizes = {0: (1, 4), 12: (256, 144)}
    offset, data = 0, b""
    for name, shape, kind in tensors:
        block, size = sizes[kind]
        elements = 1
        for length in shape:
            elements *= length
        head += (
            text(name)
            + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
            + struct.pack("<IQ", kind, offset)
        )
        length = elements // block * size
        data += b"\1" * length + b"\0" * (-length % 32)
        offset = len(data)
    return head + b"\0" * (-len(head) % 32) + data


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_reads_what_the_header_says(tmp_path: Path) -> None:
    info = read_gguf(put(tmp_path / "m.gguf", built()))
    assert (info.version, info.architecture, info.name, info.quantization) == (3, "llama", "Tiny", "Q4_K_M")
    assert (info.context_length, info.embedding_length, info.block_count) == (4096, 64, 2)
    assert (info.head_count, info.head_count_kv, info.key_length, info.value_length) == (8, 4, 8, 8)
    assert info.rope_freq_base == 1e6
    assert (info.bos_id, info.eos_id, info.vocab_size) == (1, None, 4)
    assert (info.tensor_count, info.parameter_count) == (2, 64 * 4 + 512)
    # 2 layers x 4 heads x (8 + 8) values x 2 bytes
    assert info.kv_bytes_per_token == 256
    assert info.chat_template == ""


def test_version_2_and_heads_by_layer(tmp_path: Path) -> None:
    keys = [key for key in KEYS if "head_count_kv" not in key[0]]
    keys.append(("llama.attention.head_count_kv", ARRAY, (U32, [4, 1])))
    info = read_gguf(put(tmp_path / "m.gguf", built(keys, version=2)))
    assert (info.version, info.head_count_kv, info.kv_heads) == (2, 4, 5)


def test_agrees_with_the_gguf_package(tiny_codellama: Path) -> None:
    from gguf import GGUFReader

    theirs, ours = GGUFReader(tiny_codellama), read_gguf(tiny_codellama)
    assert ours.tensor_count == len(theirs.tensors)
    assert ours.parameter_count == sum(int(tensor.n_elements) for tensor in theirs.tensors)
    assert ours.context_length == theirs.fields["llama.context_length"].contents() == 16_384
    assert ours.rope_freq_base == 1e6
    assert ours.vocab_size == 32_016
    assert "instruct" in ours.label


def test_a_vocabulary_without_tensors_is_whole() -> None:
    info = read_gguf(tiny_gguf.LLAMA_VOCAB)
    assert (info.vocab_size, info.tensor_count, info.tokenizer_model) == (32_000, 0, "llama")


def test_the_shape_of_codellama_34b_costs_192_kib_a_token(tmp_path: Path) -> None:
    shape = {
        "embedding_length": 8192,
        "block_count": 48,
        "attention.head_count": 64,
        "attention.head_count_kv": 8,
    }
    keys = [("general.architecture", STRING, "llama")]
    keys += [(f"llama.{name}", U32, value) for name, value in shape.items()]
    assert read_gguf(put(tmp_path / "m.gguf", built(keys))).kv_bytes_per_token == 192 * 1024


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"GGUF", "cut short"),
        (b"GGUF\1\0\0\0" + bytes(40), "version 1"),
        (b"GGUF\0\0\0\3" + bytes(40), "big-endian"),
        (b"GGUF\x63\0\0\0" + bytes(40), "version 99"),
        (b"lmgg" + bytes(60), "old GGML format"),
        (b"fmgg" + bytes(60), "old GGMF format"),
        (b"tjgg" + bytes(60), "old GGJT format"),
        (b"<!DOCTYPE html><html>404", "web page"),
        (b"\n <html><body>Sign in", "web page"),
        (b'{"error":"Repository not found"}', "JSON"),
        (b"PK\3\4" + bytes(60), "zip archive"),
        (b"\x80\2\x8a\n" + bytes(60), "pickle"),
        (struct.pack("<Q", 200) + b'{"weight":{"dtype":"F32"}}', "safetensors"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS pointer"),
        (bytes(4096), "filled with zeros"),
        (b"MZ nonsense of some other kind", "not a GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 40, 5) + bytes(60), "claims"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1 << 50) + bytes(60), "claims"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 60) + bytes(60), "claims a text"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<I", 77) + bytes(60),
            "unknown type",
        ),
        (built([*KEYS, ("general.alignment", U32, 0)]), "alignment"),
    ],
)
def test_names_what_a_file_is_instead(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        read_gguf(put(tmp_path / "m.gguf", data))
    assert "m.gguf" in caught.value.message
    assert caught.value.remedy


def test_missing_directory_and_special_files(tmp_path: Path) -> None:
    import os

    with pytest.raises(ModelError, match="no model file"):
        read_gguf(tmp_path / "absent.gguf")
    with pytest.raises(ModelError, match="is a directory"):
        read_gguf(tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelError, match="not a regular file"):
        read_gguf(tmp_path / "pipe.gguf")


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    data = built()
    # The last tensor's padding is not owed.
    for length in range(len(data) - 1):
        if length >= len(data) - 32 and not data[length:].strip(b"\0"):
            continue
        with pytest.raises(ModelError, match="cut short|empty|not a GGUF"):
            read_gguf(put(tmp_path / "m.gguf", data[:length]))


def test_a_real_file_cut_short_names_both_sizes(tmp_path: Path, tiny_codellama: Path) -> None:
    data = tiny_codellama.read_bytes()
    with pytest.raises(ModelError, match="cut short") as caught:
        read_gguf(put(tmp_path / "m.gguf", data[: len(data) // 2]))
    assert f"{len(data) // 2:,}" in caught.value.message


def test_split_models(tmp_path: Path) -> None:
    data = built([*KEYS, ("split.count", U32, 3)])
    first = put(tmp_path / "big-00001-of-00003.gguf", data)
    with pytest.raises(ModelError, match=r"big-00002-of-00003\.gguf, big-00003-of-00003\.gguf"):
        read_gguf(first)
    second = put(tmp_path / "big-00002-of-00003.gguf", data)
    put(tmp_path / "big-00003-of-00003.gguf", data)
    assert read_gguf(first).file_bytes == 3 * len(data)
    with pytest.raises(ModelError, match="part 2"):
        read_gguf(second)
    with pytest.raises(ModelError, match="does not say which"):
        read_gguf(put(tmp_path / "renamed.gguf", data))


def test_a_header_longer_than_the_first_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "m.gguf", built())
    whole = read_gguf(path)
    monkeypatch.setattr("chains.models.gguf._READS", (64, 256, 1 << 20))
    assert read_gguf(path) == whole
    monkeypatch.setattr("chains.models.gguf._READS", (64, 256))
    with pytest.raises(ModelError, match="larger than 256"):
        read_gguf(path)


def only_model_errors(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    started = time.monotonic()
    try:
        assert isinstance(read_gguf(path), GgufInfo)
    except ModelError:
        pass
    assert time.monotonic() - started < 5


@settings(max_examples=150, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=8))
def test_mutations_never_break_the_reader(tmp_path_factory: pytest.TempPathFactory, edits: Any) -> None:
    data = bytearray(built())
    for at, value in edits:
        data[4 + at % (len(data) - 4)] = value
    only_model_errors(tmp_path_factory.getbasetemp() / "mutated.gguf", bytes(data))


def test_every_byte_of_the_header_at_its_extremes(tmp_path: Path) -> None:
    data = built()
    for at in range(4, len(data) - 1_400):
        for value in (0x00, 0x7F, 0xFF):
            only_model_errors(tmp_path / "m.gguf", data[:at] + bytes([value]) + data[at + 1 :])


def test_mutations_of_a_real_header(tmp_path: Path) -> None:
    data = tiny_gguf.LLAMA_VOCAB.read_bytes()
    chosen = random.Random(5)
    for _ in range(25):
        broken = bytearray(data)
        for _ in range(chosen.randint(1, 20)):
            broken[chosen.randrange(8, len(data))] = chosen.randrange(256)
        only_model_errors(tmp_path / "m.gguf", bytes(broken[: chosen.randrange(8, len(data) + 1)]))


# --- quantisations and shapes that llama.cpp must not see


def typed_tensor(kind: int) -> bytes:
    """A whole file whose only tensor claims a storage type."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + text("general.architecture") + typed(STRING, "llama")
    head += text("w") + struct.pack("<IQQIQ", 2, 256, 4, kind, 0)
    return head + b"\0" * (-len(head) % 32 + 8192)


@pytest.mark.parametrize(
    ("kind", "name"), [(4, "Q4_2"), (31, "Q4_0_4_4"), (33, "Q4_0_8_8"), (36, "IQ4_NL_4_4")]
)
def test_a_quantisation_that_llama_cpp_gave_up_is_named(tmp_path: Path, kind: int, name: str) -> None:
    with pytest.raises(ModelError, match=f"stores w as {name}") as caught:
        read_gguf(put(tmp_path / "m.gguf", typed_tensor(kind)))
    assert "another quantisation" in caught.value.remedy


def test_a_quantisation_newer_than_this_llama_cpp_is_told_by_it(tmp_path: Path) -> None:
    from chains.engine.runtime import LoadOptions, Runtime

    info = read_gguf(put(tmp_path / "m.gguf", typed_tensor(250)))
    assert info.quantization == "type 250"
    with pytest.raises(ModelError, match="quantisation that this llama.cpp does not know") as caught:
        Runtime(info, LoadOptions(n_ctx=512))
    assert "pip install -U llama-cpp-python" in caught.value.remedy


def test_more_layers_than_llama_cpp_has_room_for(tmp_path: Path) -> None:
    keys = [key for key in KEYS if "block_count" not in key[0]]
    with pytest.raises(ModelError, match="claims 513 layers"):
        read_gguf(put(tmp_path / "m.gguf", built([*keys, ("llama.block_count", U32, 513)])))


NUMBER = st.one_of(st.integers(0, 4), st.integers(0, 2**32 - 1))
SHAPE_KEYS = (
    "context_length", "embedding_length", "block_count", "attention.head_count",
    "attention.key_length", "attention.value_length",
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    numbers=st.fixed_dictionaries({}, optional=dict.fromkeys(SHAPE_KEYS, NUMBER)),
    heads=st.one_of(NUMBER, st.lists(NUMBER, max_size=4)),
    name=st.text(max_size=20),
    tensors=st.lists(
        st.tuples(
            st.sampled_from(
                ["token_embd.weight", "blk.0.ffn_up.weight", "blk.9.w", "blk.x", "output.weight", ""]
            ),
            st.sampled_from([(64, 4), (256, 2), (1,)]),
        ),
        max_size=4,
    ),
)
def test_any_shape_a_header_may_claim_is_read_and_planned(
    tmp_path_factory: pytest.TempPathFactory, numbers: Any, heads: Any, name: str, tensors: Any
) -> None:
    """Whatever a stranger's header says, planning ends with a choice or a sentence."""
    from chains.models.fit import Machine, Wishes, fit, largest_context
    from chains.models.footprint import of_file

    keys: list[tuple[str, int, Any]] = [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, name),
    ]
    keys += [(f"llama.{key}", U32, value) for key, value in numbers.items()]
    many = isinstance(heads, list)
    keys.append(("llama.attention.head_count_kv", ARRAY if many else U32, (U32, heads) if many else heads))
    path = put(
        tmp_path_factory.getbasetemp() / "claims.gguf",
        built(keys, tuple((n, shape, 0) for n, shape in tensors)),
    )
    try:
        info = read_gguf(path)
    except ModelError:
        return
    model, machine = of_file(info), Machine(8 << 30)
    assert fit(model, machine, Wishes()).n_ctx >= 0
    assert largest_context(model, machine, Wishes()) >= 0
