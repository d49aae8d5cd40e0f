"""`agent bench`: every setting tried on a real engine, what is advised, and what is told from it later."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent import bench as kept
from agent.cli import main
from chains.engine.runtime import LoadOptions, Runtime
from chains.models.bandwidth import memory_bandwidth
from chains.models.bench import Bench, Rates, Trial, advice, bench, bytes_of_token
from chains.models.gguf import read_gguf

OPTIONS = LoadOptions(n_ctx=768, n_batch=256, n_threads=1)


def test_every_setting_is_tried_one_at_a_time(tiny_codellama: Path) -> None:
    told: list[tuple[int, int, str]] = []
    found = bench(tiny_codellama, OPTIONS, progress=lambda *step: told.append(step))
    tried = [(trial.setting, trial.value) for trial in found.trials]
    # Heads of 16 numbers do not fill the blocks of a quantised KV type: that one is not tried.
    assert tried == [("batch", "64"), ("batch", "128"), ("batch", "512"), ("flash attention", "off")]
    assert min(found.rates.reading, found.rates.writing, found.bandwidth, found.limit) > 0
    assert found.share == pytest.approx(found.rates.writing / found.limit, rel=0.01)
    assert told[0] == (0, 7, "loading") and told[-1] == (7, 7, "") and found.threads == 1


def test_a_token_reads_all_weights_but_the_embedding(tiny_codellama: Path, smollm_gguf: Path) -> None:
    info = read_gguf(tiny_codellama)
    embedding = next(tensor.bytes for tensor in info.tensors if tensor.name == "token_embd.weight")
    assert bytes_of_token(info) == sum(tensor.bytes for tensor in info.tensors) - embedding
    shared = read_gguf(smollm_gguf)  # its output is its embedding
    assert bytes_of_token(shared) == sum(tensor.bytes for tensor in shared.tensors)


def test_only_what_is_faster_by_more_than_noise_is_advised() -> None:
    trials = [
        Trial("batch", "128", Rates(104, 10)),
        Trial("batch", "256", Rates(150, 9)),
        Trial("threads", "1", Rates(50, 20)),
    ]
    assert list(advice(Rates(100, 10), trials)) == [
        "batch 256 reads 1.50 times as fast",
        "threads 1 writes 2.00 times as fast",
    ]
    assert list(advice(Rates(100, 10), trials, noise=0.3)) == ["threads 1 writes 2.00 times as fast"]


def test_another_context_says_the_same(tiny_codellama: Path) -> None:
    info = read_gguf(tiny_codellama)
    runtime = Runtime(info, OPTIONS)
    ids = runtime.vocabulary.encode("def area(width, height):")

    def first() -> int:
        runtime.prefill(ids, None, lambda: False)
        from chains.engine.sampler import Sampling

        sampler = runtime.sampler(Sampling())
        token = sampler.next()
        sampler.close()
        return token

    before = first()
    runtime.remake(info, LoadOptions(n_ctx=512, n_batch=64, n_threads=1, flash_attn=False))
    assert runtime.tokens == [] and runtime.n_ctx == 512 and runtime.n_batch == 64
    assert first() == before
    runtime.close()


def test_the_memory_is_read_at_a_speed_that_memories_have() -> None:
    assert 1e8 < memory_bandwidth(1) < 1e13


def test_the_command_shows_and_keeps(
    tiny_codellama: Path, agent_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", str(tiny_codellama), "--quick", "--threads", "1", "--context", "512"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trials"] == [] and found["threads"] == 1 and found["rates"]["reading"] > 0
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "tokens a second" in shown and "GB/s with 1 threads" in shown
    (file,) = (agent_home / "state" / "bench").glob("*.json")
    assert json.loads(file.read_text())["model"] == tiny_codellama.name
    told = kept.expected(tiny_codellama.name, found["file_bytes"])
    assert told is not None and told.measured and 0 < told.first_word < told.whole


def measurement(model: str, size: int, reading: float, writing: float) -> Bench:
    return Bench(
        model=model,
        quantization="Q4_K_M",
        file_bytes=size,
        parameters=size,
        load_seconds=1.0,
        threads=2,
        n_batch=512,
        flash_attn=True,
        kv="f16",
        gpu_layers=0,
        read_tokens=512,
        written_tokens=32,
        rates=Rates(reading, writing),
        bandwidth=1e10,
        limit=10.0,
        share=0.5,
    )


def test_a_model_that_was_not_measured_is_scaled_from_the_nearest(agent_home: Path) -> None:
    assert kept.expected("any.gguf", 10**9) is None
    kept.keep(measurement("small.gguf", 10**9, 100.0, 20.0))
    kept.keep(measurement("large.gguf", 10**10, 10.0, 2.0))
    told = kept.expected("small.gguf", 10**9)
    assert told is not None and told.measured and (told.first_word, told.whole) == (24.0, 32.0)
    told = kept.expected("huge.gguf", 2 * 10**10)
    assert told is not None and not told.measured and told.basis == "large.gguf"
    assert (told.first_word, told.whole) == (480.0, 640.0)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"model": 3}', '{"model": "m", "file_bytes": 0}', "x" * 100_000]
)
def test_a_measurement_that_cannot_be_read_is_none(agent_home: Path, text: str) -> None:
    path = kept.keep(measurement("small.gguf", 10**9, 100.0, 20.0))
    path.write_text(text)
    assert kept.expected("small.gguf", 10**9) is None


def test_a_server_is_not_measured_as_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--base-url", "http://127.0.0.1:9"]) == 2
    assert "not behind a server" in capsys.readouterr().err


def test_plan_tells_how_long_a_question_takes(agent_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["models", "plan", "codellama-34b-instruct:Q4_K_M", "--ram", "64", "--vram", "0"]
    assert main(command) == 0
    assert "not known before agent bench" in capsys.readouterr().out
    kept.keep(measurement("small.gguf", 10**9, 100.0, 20.0))
    assert main(command) == 0
    assert "from small.gguf, by size" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["expected"]
    assert told["basis"] == "small.gguf" and told["first_word"] == pytest.approx(24 * 20.2, rel=0.05)
