"""Which ready build of llama-cpp-python uses this machine's GPU, and how to get it."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

VERSION = "0.3.36"
_INDEX = "https://abetlen.github.io/llama-cpp-python/whl"
# The CUDA versions that its makers build for; a driver runs programs for its own version and older ones.
_CUDA = ((13, 2), (13, 0), (12, 5), (12, 4), (12, 3), (12, 2), (12, 1), (11, 8))


def wheel_command(kind: str) -> str:
    """How to install a ready build: `cpu`, `cu124`, `metal`, `rocm72`, `vulkan`."""
    return (
        f"pip install llama-cpp-python=={VERSION} --force-reinstall --no-deps --only-binary llama-cpp-python "
        f"--extra-index-url {_INDEX}/{kind}"
    )


def gpu_build() -> tuple[str, str]:
    """The build for the GPU of this machine and what was found; empty texts where none was."""
    system, machine = platform.system(), platform.machine().lower()
    return choose_build(
        system, machine, cuda_driver(), amd=Path("/dev/kfd").exists(), vulkan=_has("libvulkan.so.1")
    )


def choose_build(
    system: str, machine: str, cuda: tuple[int, int] | None, *, amd: bool, vulkan: bool
) -> tuple[str, str]:
    """The same from what is known of a machine; `cuda` is the newest version its driver runs."""
    if system == "Darwin" and machine == "arm64":
        return "metal", "an Apple GPU"
    if cuda is not None:
        fitting = next((version for version in _CUDA if version <= cuda), None)
        if fitting is not None:
            return f"cu{fitting[0]}{fitting[1]}", f"an NVIDIA GPU, with a driver for CUDA {cuda[0]}.{cuda[1]}"
    if amd:
        return "rocm72", "an AMD GPU"
    if vulkan:
        return "vulkan", "a Vulkan driver"
    return "", ""


def cuda_driver() -> tuple[int, int] | None:
    """The newest CUDA version that the installed NVIDIA driver runs; None without one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        version = ctypes.c_int()
        if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return version.value // 1000, version.value % 1000 // 10


def _has(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
