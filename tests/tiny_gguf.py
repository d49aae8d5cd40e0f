"""Builds a tiny CodeLlama-shaped GGUF: real tokenizer, CodeLlama's metadata, seeded random weights."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(__file__).parent / "fixtures"
LLAMA_VOCAB = FIXTURES / "ggml-vocab-llama-spm.gguf"
INFILL = {32007: "▁<PRE>", 32008: "▁<SUF>", 32009: "▁<MID>", 32010: "▁<EOT>"}
STEP = {32015: "<step>"}
_NORMAL, _CONTROL = 1, 3


def build(
    path: Path,
    *,
    name: str = "codellama_codellama-7b-instruct-hf",
    rope_freq_base: float | None = 1e6,
    context_length: int = 16_384,
    infill: bool = True,
    step: bool = False,
    chat_template: str = "",
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    seed: int = 7,
    architecture: str = "llama",
    weights: bool = True,
) -> Path:
    """Write the file; the same arguments give the same bytes."""
    from gguf import GGUFWriter

    tokens, scores, kinds = _vocabulary(infill=infill, step=step)
    writer = GGUFWriter(str(path), architecture)
    writer.add_name(name)
    writer.add_context_length(context_length)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_rope_dimension_count(width // heads)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    if rope_freq_base is not None:
        writer.add_rope_freq_base(rope_freq_base)
    writer.add_file_type(0)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    if chat_template:
        writer.add_chat_template(chat_template)
    if weights:
        _add_weights(writer, len(tokens), layers, width, width // heads * kv_heads, seed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@functools.cache
def _vocabulary(*, infill: bool, step: bool) -> tuple[list[bytes], list[float], list[int]]:
    from gguf import GGUFReader

    fields = GGUFReader(LLAMA_VOCAB).fields
    tokens = [str(text).encode() for text in fields["tokenizer.ggml.tokens"].contents()]
    scores = [float(score) for score in fields["tokenizer.ggml.scores"].contents()]
    kinds = [int(kind) for kind in fields["tokenizer.ggml.token_type"].contents()]
    if infill or step:  # 32,016 entries, as CodeLlama 7B and 13B have
        added = (INFILL if infill else {}) | (STEP if step else {})
        for token in range(32_000, 32_016):
            tokens.append(added.get(token, f"<added{token}>").encode())
            scores.append(0.0)
            kinds.append(_CONTROL if token in added else _NORMAL)
    return tokens, scores, kinds


def _add_weights(writer: Any, vocab: int, layers: int, width: int, width_kv: int, seed: int) -> None:
    import numpy as np

    random = np.random.default_rng(seed)

    def add(name: str, *shape: int, scale: float = 0.6) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * scale).astype(np.float32))

    def norm(name: str) -> None:
        writer.add_tensor(name, np.ones(width, dtype=np.float32))

    add("token_embd.weight", vocab, width, scale=1.0)
    for layer in range(layers):
        prefix = f"blk.{layer}."
        norm(prefix + "attn_norm.weight")
        add(prefix + "attn_q.weight", width, width)
        add(prefix + "attn_k.weight", width_kv, width)
        add(prefix + "attn_v.weight", width_kv, width)
        add(prefix + "attn_output.weight", width, width)
        norm(prefix + "ffn_norm.weight")
        add(prefix + "ffn_gate.weight", 2 * width, width)
        add(prefix + "ffn_up.weight", 2 * width, width)
        add(prefix + "ffn_down.weight", width, 2 * width)
    norm("output_norm.weight")
    add("output.weight", vocab, width, scale=0.3)


@pytest.fixture(scope="session")
def tiny_codellama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CodeLlama 7B Instruct in small: infill tokens, RoPE base 1e6, no chat template. About 17 MB."""
    return build(tmp_path_factory.mktemp("models") / "codellama-7b-instruct.F32.gguf")
