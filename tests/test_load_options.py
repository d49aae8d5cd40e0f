"""How a model is loaded: KV types, adapters, shares of GPUs; what cannot be is said before llama.cpp fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_gguf import build

from chains.engine.runtime import LoadOptions, Runtime
from chains.models.gguf import GgufInfo, read_gguf
from indexers.errors import AgentError


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> GgufInfo:
    """Heads of 32 values, as quantised KV caches need them."""
    return read_gguf(build(tmp_path_factory.mktemp("wide") / "codellama-7b-instruct.F32.gguf", width=128))


def kv_line(info: GgufInfo, **options: object) -> str:
    runtime = Runtime(info, LoadOptions(n_ctx=2048, **options))  # type: ignore[arg-type]
    try:
        return next(line for line in runtime.load_log.splitlines() if "llama_kv_cache: size" in line)
    finally:
        runtime.close()


@pytest.mark.parametrize(
    ("type_k", "type_v", "said"),
    [("f16", "f16", "K (f16):    0.50 MiB, V (f16):    0.50 MiB"), ("q8_0", "q8_0", "K (q8_0):    0.27 MiB")],
)
def test_the_kv_cache_is_kept_as_asked(wide: GgufInfo, type_k: str, type_v: str, said: str) -> None:
    assert said in kv_line(wide, type_k=type_k, type_v=type_v)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"type_k": "q9"}, "cannot be kept as 'q9'"),
        ({"type_v": "q8_0", "flash_attn": False}, "with flash attention only"),
        ({"lora": "/nowhere/adapter.gguf"}, "LoRA adapter /nowhere/adapter.gguf"),
        ({"tensor_split": (1.0,) * 1000}, "names 1000 GPUs"),
    ],
)
def test_what_cannot_be_is_said(wide: GgufInfo, options: dict[str, object], said: str) -> None:
    with pytest.raises(AgentError, match=said) as caught:
        kv_line(wide, **options)
    assert caught.value.remedy or "GPUs" in said


def test_heads_that_do_not_divide_into_blocks_are_named(tiny_codellama: Path) -> None:
    with pytest.raises(AgentError, match="its heads have 16 values"):
        kv_line(read_gguf(tiny_codellama), type_k="q8_0")


def test_a_model_is_no_adapter(wide: GgufInfo) -> None:
    with pytest.raises(AgentError, match="cannot be used with this model"):
        kv_line(wide, lora=str(wide.path))
