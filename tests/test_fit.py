"""What a model takes and how it is fitted: against llama.cpp's own numbers, the published card, and given machines."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from tiny_gguf import build

from chains.engine.library import supports_gpu
from chains.llm import LlamaCpp
from chains.models.builds import choose_build
from chains.models.fit import GPU_MARGIN, RAM_MARGIN, Fit, Gpu, Machine, Wishes, fit, largest_context
from chains.models.footprint import Footprint, of_file, of_shape
from chains.models.gguf import read_gguf
from chains.models.measure import gpus, measure
from chains.models.shapes import Shape, quantisations, tensors, write_empty
from indexers.errors import ModelError

GIB, MIB, GB = 1 << 30, 1 << 20, 10**9
CODELLAMA = {
    "7b": Shape("llama", 32, 4096, 32, 32, 11008, 32016, 16384, 1e6),
    "34b": Shape("llama", 48, 8192, 64, 8, 22016, 32000, 16384, 1e6),
    "70b": Shape("llama", 80, 8192, 64, 8, 28672, 32016, 16384, 1e6),
}
QWEN = Shape("qwen2", 28, 1536, 12, 2, 8960, 151936, 32768, 1e6, bias=True)


@cache
def footprint(size: str = "34b", quantisation: str = "Q4_K_M") -> Footprint:
    shape = CODELLAMA[size]
    return of_shape(shape, tensors(shape, quantisation, first_k_quants=True))


def on(vram: float, ram: float = 64 * GIB, **wishes: object) -> Fit:
    machine = Machine(int(ram), (Gpu("CUDA0", int(vram)),) if vram else ())
    return fit(footprint(), machine, Wishes(**wishes))  # type: ignore[arg-type]


# --- what it takes


def test_the_numbers_of_34b_are_those_that_were_measured() -> None:
    """Weights, KV cache and compute buffer at 4k and 16k, as a no_alloc load of this llama.cpp gave them."""
    model = footprint()
    assert model.weights.total == pytest.approx(18.83 * GIB, rel=0.001)
    assert model.kv_bytes(4096, "f16") == 0.75 * GIB
    assert model.kv_bytes(16384, "f16") == 3 * GIB
    assert model.kv_bytes(16384, "q8_0") == pytest.approx(1.59 * GIB, rel=0.003)
    assert model.compute_bytes(4096, 512) == pytest.approx(197 * MIB, rel=0.001)
    assert model.compute_bytes(16384, 512) == pytest.approx(209 * MIB, rel=0.001)
    assert model.compute_bytes(16384, 128) == pytest.approx(52.25 * MIB, rel=0.001)


@pytest.mark.parametrize("size", ["7b", "34b", "70b", "qwen"])
@pytest.mark.parametrize("choice", [(4096, 512, "f16"), (16384, 512, "q8_0"), (16384, 128, "f16")])
def test_arithmetic_agrees_with_llama_cpp(tmp_path: Path, size: str, choice: tuple[int, int, str]) -> None:
    shape = QWEN if size == "qwen" else CODELLAMA[size]
    path = write_empty(tmp_path / "shape.gguf", shape, "Q4_K_M")
    real, ours = measure(path, *choice), of_shape(shape, tensors(shape, "Q4_K_M"))
    assert ours.kv_bytes(choice[0], choice[2]) == real.kv
    allowed = 0.001 if choice[2] == "f16" else 0.09
    assert real.largest_compute <= ours.compute_bytes(*choice) * 1.001
    assert ours.compute_bytes(*choice) == pytest.approx(real.largest_compute, rel=allowed)
    # Planning with it takes neither disk nor memory.
    assert path.stat().st_size > ours.weights.total
    assert path.stat().st_blocks * 512 < MIB


def test_a_file_and_its_shape_have_the_same_footprint(tmp_path: Path) -> None:
    shape = CODELLAMA["34b"]
    info = read_gguf(write_empty(tmp_path / "shape.gguf", shape, "Q4_K_M"))
    assert of_file(info) == of_shape(shape, tensors(shape, "Q4_K_M"))
    assert info.kv_bytes_per_token == 192 * 1024
    assert info.parameter_count == 33_743_970_304


# The card's table: size of the file and memory it is said to need at 4k without a GPU, in GB.
CARD = {
    "Q2_K": (14.21, 16.71), "Q3_K_S": (14.61, 17.11), "Q3_K_M": (16.28, 18.78), "Q3_K_L": (17.77, 20.27),
    "Q4_0": (19.05, 21.55), "Q4_K_S": (19.15, 21.65), "Q4_K_M": (20.22, 22.72), "Q5_0": (23.24, 25.74),
    "Q5_K_S": (23.24, 25.74), "Q5_K_M": (23.84, 26.34), "Q6_K": (27.68, 30.18), "Q8_0": (35.86, 38.36),
}  # fmt: skip


@pytest.mark.parametrize("quantisation", CARD)
def test_the_card_of_34b_agrees_with_the_shape(quantisation: str) -> None:
    size, memory = CARD[quantisation]
    model = footprint("34b", quantisation)
    assert model.weights.total == pytest.approx(size * GB, rel=0.005)
    need = fit(model, Machine(64 * GIB), Wishes(4096)).ram.total
    # The card adds 2.5 GB to every file; cache and buffers are 1.0 GB of it, with flash attention.
    assert size * GB + 0.9 * GB < need < memory * GB
    assert need > 0.89 * memory * GB


def test_every_quantisation_has_a_mix(tmp_path: Path) -> None:
    sizes = [sum(tensor.bytes for tensor in tensors(QWEN, name)) for name in quantisations()]
    assert all(size > 4 * 10**8 for size in sizes)
    with pytest.raises(KeyError):
        tensors(QWEN, "Q9_X")


# --- fitting


def test_all_of_34b_fits_24_gb_at_4k() -> None:
    choice = on(24 * GB, n_ctx=4096)
    assert (choice.gpu_layers, choice.kv, choice.n_ctx, choice.notes) == (49, "f16", 4096, ())
    assert choice.layers_text == "all 48 layers on the GPU"
    assert choice.vram.total == pytest.approx(19.6 * GIB, rel=0.01)
    assert choice.ram.total < 0.2 * GIB


@pytest.mark.parametrize(
    ("vram", "layers"), [(20 * GB, 43), (16 * GB, 33), (12 * GB, 23), (8 * GB, 13), (2 * GB, 0)]
)
def test_below_that_part_of_it_goes_to_the_gpu(vram: int, layers: int) -> None:
    choice = on(vram, n_ctx=4096)
    assert choice.fits
    assert abs(max(0, choice.gpu_layers - 1) - layers) <= 2
    assert choice.vram.total + GPU_MARGIN <= vram or choice.gpu_layers == 0
    # One layer more would not have fitted, and nothing is counted twice or lost.
    assert choice.vram.total + GPU_MARGIN + footprint().weights.layers[-1] + 20 * MIB > vram or vram == 2 * GB
    whole = footprint().weights.total + footprint().kv_bytes(4096, "f16")
    assert choice.ram.weights + choice.vram.weights + choice.ram.kv + choice.vram.kv == whole
    assert "VRAM" in choice.notes[-1]


def test_a_long_context_is_bought_with_eight_bit_keys_and_values() -> None:
    choice = on(24 * GB, n_ctx=16384)
    assert (choice.kv, choice.gpu_layers) == ("q8_0", 49)
    assert "q8_0 instead of f16" in choice.notes[0]
    assert on(24 * GIB, n_ctx=16384).kv == "f16"
    assert on(24 * GB, n_ctx=16384, kv="f16").gpu_layers < 49


def test_memory_is_given_up_in_steps_and_each_is_told() -> None:
    weights = footprint().weights.total + RAM_MARGIN
    steps = [on(0, weights + extra * MIB) for extra in (1800, 1300, 900, 600, 460, 100)]
    assert [(step.n_ctx, step.kv, step.n_batch, step.fits) for step in steps] == [
        (8192, "f16", 512, True),
        (5632, "f16", 512, True),
        (6912, "q8_0", 512, True),
        (3840, "q8_0", 512, True),
        (2560, "q8_0", 512, True),
        (2048, "q8_0", 128, False),
    ]
    assert not steps[0].notes
    assert "context lowered from 8,192 to 5,632" in steps[1].notes[0]
    assert [note.split()[0] for note in steps[3].notes] == ["context", "KV"]


def test_what_the_user_chose_is_kept() -> None:
    chosen = on(24 * GB, n_ctx=4096, gpu_layers=20)
    assert chosen.gpu_layers == 20
    assert on(24 * GB, gpu_layers=0).vram.total == 0
    assert not on(12 * GB, n_ctx=4096, gpu_layers=49).fits
    assert not on(0, footprint().weights.total + 800 * MIB, n_ctx=8192, kv="f16").fits


def test_unified_memory_is_counted_once() -> None:
    machine = Machine(24 * GIB, (Gpu("Metal", 18 * GIB),), unified=True)
    assert not fit(footprint(), Machine(16 * GIB, machine.gpus, unified=True), Wishes(4096)).fits
    assert fit(footprint(), machine, Wishes(4096)).fits


def test_several_gpus_add_up() -> None:
    two = fit(footprint(), Machine(64 * GIB, (Gpu("CUDA0", 12 * GB), Gpu("CUDA1", 14 * GB))), Wishes(4096))
    assert two.gpu_layers == 49


def test_the_longest_context_that_fits() -> None:
    machine = Machine(footprint().weights.total + RAM_MARGIN + 2000 * MIB)
    longest = largest_context(footprint(), machine, Wishes())
    assert longest == 10240
    assert fit(footprint(), machine, Wishes(longest, kv="f16")).fits
    assert not fit(footprint(), machine, Wishes(longest + 256, kv="f16")).fits
    assert largest_context(footprint(), Machine(100 * GIB), Wishes()) == 16384
    assert largest_context(footprint(), Machine(GIB), Wishes()) == 0


# --- at load


def test_a_load_takes_what_was_planned_for(tmp_path: Path) -> None:
    """llama.cpp's own account of a real load: nothing more than the plan said."""
    llm = LlamaCpp(model_path=str(build(tmp_path / "codellama-7b-instruct.F32.gguf", width=128)), n_threads=1)
    llm.load()
    model = of_file(llm.info)
    line = next(line for line in llm.load_log.splitlines() if "compute buffer size" in line)
    assert float(line.split("=")[1].split()[0]) * MIB == pytest.approx(
        model.compute_bytes(8192, 512), rel=0.001
    )
    assert (
        "window 8,192 tokens, KV f16, batch 512, 1 threads, all 2 layers in RAM; takes 0.1 GiB" in llm.choice
    )
    llm.close()


def test_eight_bit_keys_and_values_are_taken_when_memory_is_short(tmp_path: Path) -> None:
    path = build(tmp_path / "codellama-7b-instruct.F32.gguf", width=128, layers=4, kv_heads=4)
    model = of_file(read_gguf(path))
    memory = model.weights.total + model.compute_bytes(4096, 512) + RAM_MARGIN + model.kv_bytes(3800, "f16")
    llm = LlamaCpp(model_path=str(path), n_threads=1, memory_bytes=memory)
    llm.load()
    assert "K (q8_0)" in llm.load_log
    assert any("KV cache kept as q8_0" in note for note in llm.notes)
    assert llm.invoke("hello", max_tokens=3).content is not None
    llm.close()


def test_layers_on_a_gpu_that_the_build_cannot_use(tiny_codellama: Path) -> None:
    if supports_gpu():
        pytest.skip("this llama.cpp can use a GPU")
    assert gpus() == ((), False)
    with pytest.raises(ModelError, match="built for the CPU only") as caught:
        LlamaCpp(model_path=str(tiny_codellama), n_gpu_layers=20).load()
    assert "https://abetlen.github.io/llama-cpp-python/whl/" in caught.value.remedy


@pytest.mark.parametrize(
    ("system", "machine", "cuda", "amd", "vulkan", "kind"),
    [
        ("Darwin", "arm64", None, False, False, "metal"),
        ("Linux", "x86_64", (12, 4), False, True, "cu124"),
        ("Linux", "x86_64", (12, 9), False, False, "cu125"),
        ("Linux", "x86_64", (13, 1), False, False, "cu130"),
        ("Linux", "x86_64", (10, 2), False, True, "vulkan"),
        ("Linux", "x86_64", None, True, True, "rocm72"),
        ("Linux", "x86_64", None, False, False, ""),
    ],
)
def test_the_build_for_a_machine(
    system: str, machine: str, cuda: tuple[int, int] | None, amd: bool, vulkan: bool, kind: str
) -> None:
    assert choose_build(system, machine, cuda, amd=amd, vulkan=vulkan)[0] == kind


@pytest.mark.model
def test_a_real_model_takes_no_more_memory_than_was_planned(smollm_gguf: Path) -> None:
    """Resident memory of a process that loads and answers, the file's own pages included, against the plan."""
    code = (
        "import sys\n"
        "import langchain_core.messages, numpy\n"
        "from chains.llm import LlamaCpp\n"
        "def peak():\n"
        "    line = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "    return int(line.split()[1]) * 1024\n"
        "before = peak()\n"
        "llm = LlamaCpp(model_path=sys.argv[1], n_threads=2)\n"
        "llm.invoke('word ' * 600, max_tokens=2)\n"
        "print(peak() - before, llm._state.choice.fit.ram.total)\n"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell")
    done = subprocess.run(
        [sys.executable, "-c", code, str(smollm_gguf)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    taken, plan = map(int, done.stdout.split())
    assert 0.5 * plan < taken < plan + RAM_MARGIN
