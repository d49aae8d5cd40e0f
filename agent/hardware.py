"""What this machine offers a model: cores, memory, CPU features, disk, a compiler, llama.cpp's devices."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from indexers.cores import usable_cores

# What llama.cpp's CPU kernels are chosen by; a prebuilt wheel needs avx2, fma and f16c on x86.
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "f16c", "fma", "neon")
# Kernels name two of them otherwise on ARM.
_FLAG_NAMES = {"asimd": "neon", "avx512vnni": "avx512_vnni"}
COMPILERS = ("c++", "g++", "clang++", "cc", "gcc", "clang")


@dataclass(frozen=True, slots=True)
class Hardware:
    """A snapshot: memory and disk are as they were when it was taken. Sizes are bytes."""

    cpus: int
    memory_total: int
    memory_available: int
    cpu_flags: tuple[str, ...]
    compiler: str | None
    disk_free: int
    gpus: tuple[str, ...] = ()


def detect(directory: Path | None = None, *, ask_llama: bool = False) -> Hardware:
    """Look at this machine.

    :param directory: whose file system is asked for free space, by default the models'; need not exist yet.
    :param ask_llama: import llama.cpp to learn its devices, which takes a third of a second.
    """
    if directory is None:
        from agent.paths import models_dir

        directory = models_dir()
    total, available = memory()
    return Hardware(
        cpus=usable_cpus(),
        memory_total=total,
        memory_available=available,
        cpu_flags=cpu_flags(),
        compiler=find_compiler(),
        disk_free=disk_free(directory),
        gpus=llama_devices() if ask_llama else (),
    )


def on_battery() -> bool:
    """Whether this machine runs on a battery; false where that cannot be known."""
    return _battery_percent() is not None


def on_low_battery() -> bool:
    """Whether this machine runs on a battery that is less than half full; false where that cannot be known."""
    percent = _battery_percent()
    return percent is not None and percent < 50


def _battery_percent() -> float | None:
    """How full the battery is that this machine runs on; None where it runs on none, or nobody knows."""
    import psutil

    try:
        battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    except (OSError, RuntimeError):
        return None
    return battery.percent if battery is not None and battery.power_plugged is False else None


def usable_cpus(cgroup: Path | None = None) -> int:
    """Cores this process may keep busy: its affinity mask, cut by the container's quota."""
    cores = usable_cores()
    quotas = [parse_cpu_quota(level / "cpu.max") for level in _levels(cgroup)]
    limit = min((quota for quota in quotas if quota is not None), default=float(cores))
    # Half a core is still one thread.
    return max(1, min(cores, int(limit)))


def memory(cgroup: Path | None = None) -> tuple[int, int]:
    """Total and available bytes, as the machine has them or the container may use them, whichever is less."""
    import psutil

    machine = psutil.virtual_memory()
    total, available = int(machine.total), int(machine.available)
    for level in _levels(cgroup):
        limit = parse_cgroup_memory(level / "memory.max")
        if limit is None:
            continue
        total = min(total, limit)
        available = min(available, max(0, limit - _cgroup_used(level)))
    return total, available


def parse_cgroup_memory(path: Path) -> int | None:
    """The bytes a cgroup v2 memory file states; None for `max`, a missing or an unreadable file."""
    try:
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() else None


def parse_cpu_quota(path: Path) -> float | None:
    """Cores a cgroup v2 `cpu.max` file grants ("150000 100000" is 1.5); None for no limit."""
    try:
        quota, period = path.read_text("ascii").split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def parse_cpu_flags(cpuinfo: str) -> tuple[str, ...]:
    """The flags of interest that `/proc/cpuinfo` names for its first core."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            names = {_FLAG_NAMES.get(name, name) for name in value.split()}
            return tuple(flag for flag in CPU_FLAGS if flag in names)
    return ()


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """The CPU features of interest; empty where the system does not tell."""
    try:
        found = parse_cpu_flags(cpuinfo.read_text("utf-8", "replace"))
    except OSError:
        found = ()
    if not found and platform.machine().lower() in ("arm64", "aarch64"):
        return ("neon",)  # Part of the architecture.
    return found


def find_compiler() -> str | None:
    """Path of a C++ compiler, or at least a C compiler: building llama-cpp-python needs one."""
    return next((path for name in COMPILERS if (path := shutil.which(name))), None)


def disk_free(directory: Path) -> int:
    """Bytes a user may still write where `directory` is or will be."""
    for place in (directory, *directory.parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            break
    return 0


def llama_devices() -> tuple[str, ...]:
    """What llama.cpp was built to offload to; empty for a CPU build or when it is not installed."""
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError):
        return ()  # Not installed, or its shared library does not load: `agent doctor` says which.
    if not llama_cpp.llama_supports_gpu_offload():
        return ()
    info = llama_cpp.llama_print_system_info()
    text = info.decode("utf-8", "replace") if isinstance(info, bytes) else str(info)
    named = [name for name in ("CUDA", "Metal", "MTL", "Vulkan", "ROCm", "HIP", "SYCL") if name in text]
    return tuple(named) or ("GPU",)


def _cgroup_used(level: Path) -> int:
    """What counts against the limit and cannot be dropped, as file cache can when memory gets short."""
    used = parse_cgroup_memory(level / "memory.current") or 0
    try:
        lines = (level / "memory.stat").read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return used
    pairs = (line.split() for line in lines)
    cache = {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
    return max(0, used - cache.get("inactive_file", 0) - cache.get("active_file", 0))


def _levels(cgroup: Path | None) -> list[Path]:
    """This process's cgroup v2 directory and those above it: the tightest of them binds."""
    root = Path("/sys/fs/cgroup")
    if cgroup is not None:
        return [cgroup]
    try:
        text = Path("/proc/self/cgroup").read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return []
    inside = next((line[3:] for line in text.splitlines() if line.startswith("0::")), None)
    if inside is None:
        return []
    leaf = root / inside.lstrip("/")
    return [level for level in (leaf, *leaf.parents) if level == root or root in level.parents]
