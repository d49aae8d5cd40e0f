"""Writes a BERT encoder as an ONNX graph whose weights stay where they are, in `model.safetensors`."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from indexers.errors import ModelError

WEIGHTS = "model.safetensors"
# Raised when the same weights would give another graph: the one kept on disk is then written again.
GRAPH_VERSION = 1
# A header of 103 tensors is 11 KB; the limit only keeps a damaged length from reading the whole file as JSON.
MAX_HEADER_BYTES = 4 << 20
# Everything used here is in every ONNX Runtime we accept (>= 1.21).
OPSET, IR_VERSION, CONTRIB = 17, 8, "com.microsoft"


@dataclass(frozen=True, slots=True)
class BertShape:
    """What of `config.json` decides the graph."""

    layers: int
    heads: int
    hidden: int
    positions: int
    epsilon: float

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: Path) -> BertShape:
        """Read `config.json`, refusing every encoder that is not the plain BERT written here."""
        plain = (
            config.get("model_type") == "bert"
            and config.get("hidden_act") == "gelu"
            and config.get("position_embedding_type", "absolute") == "absolute"
        )
        if not plain:
            raise ModelError(f"The encoder in {where} is not a plain BERT model.", _REMEDY)
        try:
            return cls(
                layers=int(config["num_hidden_layers"]),
                heads=int(config["num_attention_heads"]),
                hidden=int(config["hidden_size"]),
                positions=int(config["max_position_embeddings"]),
                epsilon=float(config["layer_norm_eps"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{where / 'config.json'} lacks a usable {error}.", _REMEDY) from error


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies in the weights file."""

    shape: tuple[int, ...]
    offset: int
    length: int


_REMEDY = "Fetch it again with: agent models pull minilm"


def read_layout(weights: Path) -> dict[str, Tensor]:
    """Name, shape and place of every float32 tensor of a safetensors file; the data itself is not read."""
    try:
        size = weights.stat().st_size
        with weights.open("rb") as file:
            (header_bytes,) = struct.unpack("<Q", file.read(8))
            if header_bytes > MAX_HEADER_BYTES:
                raise ValueError(f"a header of {header_bytes} bytes")
            header = json.loads(file.read(header_bytes))
        layout = {}
        for name, entry in header.items():
            if name == "__metadata__" or entry["dtype"] != "F32":
                continue
            begin, end = entry["data_offsets"]
            layout[name] = Tensor(tuple(entry["shape"]), 8 + header_bytes + begin, end - begin)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ModelError(f"{weights} is not a readable safetensors file: {error}.", _REMEDY) from error
    if any(tensor.offset + tensor.length > size for tensor in layout.values()):
        raise ModelError(f"{weights} is cut short.", _REMEDY)
    return layout


def build_graph(weights: Path, shape: BertShape) -> bytes:
    """The encoder as a serialised ONNX model of some 20 KB.

    Inputs `input_ids` and `attention_mask` (int32, padding on the right); output `pooled`: the token vectors
    of each text added up over its mask. Their mean has the same direction: the caller only normalises.
    """
    layout = read_layout(weights)
    table = layout.get("embeddings.position_embeddings.weight")
    if table is not None and table.shape != (shape.positions, shape.hidden):
        raise ModelError(f"{weights} and its config.json do not belong together.", _REMEDY)
    graph = _Graph(layout, weights.resolve().name)
    mask = graph.op("Cast", "attention_mask", to=1)
    one = graph.ints("one", [1])
    dims = graph.op("Shape", "input_ids")
    # Linear layers run on (tokens, hidden), attention on (texts, tokens, hidden); the reshapes copy nothing.
    by_text = graph.op("Concat", dims, graph.ints("hidden", [shape.hidden]), axis=0)
    by_token = graph.ints("by_token", [-1, shape.hidden])
    x = graph.op("Reshape", _embeddings(graph, shape, dims), by_token)
    for layer in range(shape.layers):
        x = _layer(graph, shape, x, f"encoder.layer.{layer}.", by_text, by_token)
    x = graph.op("Reshape", x, by_text)
    total = graph.op("MatMul", graph.op("Unsqueeze", mask, one), x)
    graph.op("Squeeze", total, one, output="pooled")
    return graph.serialise(shape.hidden)


def _embeddings(graph: _Graph, shape: BertShape, dims: str) -> str:
    """Word, position and type vectors added up and normalised."""
    prefix = "embeddings."
    zero = graph.ints("zero", [0])
    length = graph.op("Gather", dims, graph.ints("axis_tokens", [1]), axis=0)
    position = graph.op("Slice", graph.weight(prefix + "position_embeddings.weight"), zero, length, zero)
    # Every token is of the first type: texts are embedded one by one, never as pairs.
    kind = graph.op("Gather", graph.weight(prefix + "token_type_embeddings.weight"), zero, axis=0)
    word = graph.op("Gather", graph.weight(prefix + "word_embeddings.weight"), "input_ids", axis=0)
    total = graph.op("Add", word, graph.op("Add", position, kind))
    return graph.op(
        "LayerNormalization",
        total,
        graph.weight(prefix + "LayerNorm.weight"),
        graph.weight(prefix + "LayerNorm.bias"),
        axis=-1,
        epsilon=shape.epsilon,
    )


def _layer(graph: _Graph, shape: BertShape, x: str, prefix: str, by_text: str, by_token: str) -> str:
    """Self-attention and feed-forward, each with its residual and normalisation."""
    heads = [
        graph.op("Reshape", graph.linear(x, f"{prefix}attention.self.{part}"), by_text)
        for part in ("query", "key", "value")
    ]
    attended = graph.contrib("MultiHeadAttention", *heads, "", "attention_mask", num_heads=shape.heads)
    x = _residual(graph, shape, graph.op("Reshape", attended, by_token), x, prefix + "attention.output.")
    wide = graph.contrib("Gelu", graph.linear(x, prefix + "intermediate.dense"))
    return _residual(graph, shape, wide, x, prefix + "output.")


def _residual(graph: _Graph, shape: BertShape, value: str, x: str, prefix: str) -> str:
    return graph.contrib(
        "SkipLayerNormalization",
        graph.linear(value, prefix + "dense"),
        x,
        graph.weight(prefix + "LayerNorm.weight"),
        graph.weight(prefix + "LayerNorm.bias"),
        epsilon=shape.epsilon,
    )


@dataclass(slots=True)
class _Graph:
    """Collects nodes and tensors; every method returns the name of what it added."""

    layout: Mapping[str, Tensor]
    location: str
    nodes: list[Any] = field(default_factory=list)
    tensors: dict[str, Any] = field(default_factory=dict)

    def op(self, kind: str, *inputs: str, output: str = "", domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], domain=domain, **attributes))
        return output

    def contrib(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.op(kind, *inputs, domain=CONTRIB, **attributes)

    def linear(self, x: str, prefix: str) -> str:
        # transB: PyTorch stores (out, in), and turning that around would mean a second copy of the weights.
        return self.op("Gemm", x, self.weight(prefix + ".weight"), self.weight(prefix + ".bias"), transB=1)

    def ints(self, name: str, values: list[int]) -> str:
        from onnx import TensorProto, helper

        self.tensors[name] = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        return name

    def weight(self, name: str) -> str:
        from onnx import TensorProto

        place = self.layout.get(name)
        if place is None:
            raise ModelError(f"The embedding model has no tensor {name!r} in float32.", _REMEDY)
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=place.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.location), ("offset", place.offset), ("length", place.length)):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
        self.tensors[name] = tensor
        return name

    def serialise(self, hidden: int) -> bytes:
        from onnx import TensorProto, helper

        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT32, ["texts", "tokens"])
            for name in ("input_ids", "attention_mask")
        ]
        outputs = [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["texts", hidden])]
        graph = helper.make_graph(self.nodes, "bert", inputs, outputs, list(self.tensors.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model: bytes = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION
        ).SerializeToString()
        return model
