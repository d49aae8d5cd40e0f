"""What a model takes: weights by layer, KV cache and compute buffer, by arithmetic over the header. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from chains.models.ggml_types import kv_bits
from chains.models.gguf import GgufInfo
from chains.models.gguf_header import Tensor
from chains.models.shapes import Shape

# llama.cpp rounds context sizes up to this.
CTX_STEP = 256
_LAYER = re.compile(r"^blk\.(\d+)\.")
_INPUT = ("token_embd", "token_types", "position_embd", "per_layer_token_embd")


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of tensors by where they can lie: embeddings stay in RAM, layers and output may go to a GPU."""

    embeddings: int
    layers: tuple[int, ...]
    output: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.embeddings + sum(self.layers) + self.output

    def on_gpu(self, gpu_layers: int) -> int:
        """Bytes that llama.cpp puts on GPUs for this `n_gpu_layers`: the output first, then layers from the last."""
        if gpu_layers <= 0:
            return 0
        count = min(gpu_layers - 1, len(self.layers))
        return self.output + (sum(self.layers[-count:]) if count else 0)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What memory a model takes, as far as its header tells. `kv_values` are those a token keeps in all layers."""

    weights: Weights
    kv_values: int
    width: int
    ffn: int
    heads: int
    vocab: int
    trained_context: int
    kv_blocks: bool = True
    """Whether the heads divide into the blocks of quantised KV types."""

    @property
    def layers(self) -> int:
        """How many there are."""
        return len(self.weights.layers)

    def kv_bytes(self, n_ctx: int, kind: str) -> int:
        """The KV cache of so many tokens."""
        return round(padded(n_ctx) * self.kv_values * kv_bits(kind) / 8)

    def compute_bytes(self, n_ctx: int, n_batch: int, kind: str = "f16", *, flash_attn: bool = True) -> int:
        """The buffer for intermediate results of a batch.

        The larger of a feed-forward layer, with the mask, and the logits. For Llama-like models it is what llama.cpp
        0c1e570 reserves, to 0.1% with an f16 cache, and with a quantised one up to 8% more.
        """
        batch = min(n_batch, padded(n_ctx))
        layer = 3 * self.ffn + 4 * self.width + padded(n_ctx) // 2
        if not flash_attn:
            layer += self.heads * padded(n_ctx)
        logits = self.vocab + (2 if kind == "f16" else 3) * self.width
        return 4 * batch * max(layer, logits)


def padded(n_ctx: int) -> int:
    """A context size as llama.cpp rounds it."""
    return -(-n_ctx // CTX_STEP) * CTX_STEP


def of_file(info: GgufInfo) -> Footprint:
    """The footprint of a file whose header was read."""
    ffn = max((tensor.shape[-1] for tensor in info.tensors if ".ffn_up" in tensor.name), default=0)
    # Mixtures of experts keep theirs in three dimensions; one token uses a few of them.
    ffn = max(
        (t.shape[1] for t in info.tensors if ".ffn_up_exps" in t.name and len(t.shape) > 1), default=ffn
    )
    vocab = next((t.shape[-1] for t in info.tensors if t.name == "output.weight"), info.vocab_size)
    return Footprint(
        weights=weights_of(info.tensors, info.block_count),
        kv_values=info.kv_heads * (info.key_length + info.value_length),
        width=info.embedding_length,
        ffn=ffn or 4 * info.embedding_length,
        heads=info.head_count,
        vocab=vocab,
        trained_context=info.context_length,
        kv_blocks=info.key_length % 32 == 0 and info.value_length % 32 == 0,
    )


def of_shape(shape: Shape, tensors: Iterable[Tensor]) -> Footprint:
    """The footprint of a published model that is not here."""
    return Footprint(
        weights=weights_of(tensors, shape.layers),
        kv_values=2 * shape.layers * shape.kv_width,
        width=shape.width,
        ffn=shape.ffn,
        heads=shape.heads,
        vocab=shape.vocab,
        trained_context=shape.context,
        kv_blocks=shape.head_size % 32 == 0,
    )


def weights_of(tensors: Iterable[Tensor], layers: int) -> Weights:
    """Sort tensors by where they can lie."""
    by_layer = [0] * layers
    embeddings = output = 0
    for tensor in tensors:
        match = _LAYER.match(tensor.name)
        if match and int(match[1]) < layers:
            by_layer[int(match[1])] += tensor.bytes
        elif tensor.name.startswith(_INPUT):
            embeddings += tensor.bytes
        else:
            output += tensor.bytes
    return Weights(embeddings, tuple(by_layer), output)
