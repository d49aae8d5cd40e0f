"""Hardware: control groups, CPU flags, compilers and disks, from files made for the purpose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent import hardware
from agent.hardware import (
    cpu_flags,
    detect,
    disk_free,
    find_compiler,
    memory,
    parse_cgroup_memory,
    parse_cpu_flags,
    parse_cpu_quota,
    usable_cpus,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2147483648\n", 2 << 30), ("max\n", None), ("", None), ("-1", None), ("ä", None), ("1e9", None)],
)
def test_memory_limits_are_read_or_ignored(tmp_path: Path, text: str, expected: int | None) -> None:
    file = tmp_path / "memory.max"
    file.write_text(text, "utf-8")
    assert parse_cgroup_memory(file) == expected


def test_a_missing_limit_is_no_limit(tmp_path: Path) -> None:
    assert parse_cgroup_memory(tmp_path / "none") is None
    assert parse_cpu_quota(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("150000 100000\n", 1.5),
        ("max 100000\n", None),
        ("100000\n", None),
        ("1 0", None),
        ("50000 100000", 0.5),
    ],
)
def test_cpu_quotas_are_cores(tmp_path: Path, text: str, expected: float | None) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(text)
    assert parse_cpu_quota(file) == expected


def test_a_quota_cuts_the_cores_down_to_one_at_least(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000")
    everything = usable_cpus(tmp_path)
    assert everything >= 1
    (tmp_path / "cpu.max").write_text("50000 100000")
    assert usable_cpus(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("99900000 100000")
    assert usable_cpus(tmp_path) == everything


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_affinity_counts() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_containers_memory_is_its_limit_less_what_it_cannot_drop(tmp_path: Path) -> None:
    mib = 1 << 20
    (tmp_path / "memory.max").write_text(str(64 * mib))
    (tmp_path / "memory.current").write_text(str(40 * mib))
    assert memory(tmp_path) == (64 * mib, 24 * mib)
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {20 * mib}\nactive_file {4 * mib}\nodd\n")
    assert memory(tmp_path) == (64 * mib, 48 * mib)
    (tmp_path / "memory.current").write_text(str(900 * mib))
    assert memory(tmp_path)[1] == 0


def test_without_a_limit_memory_is_the_machines(tmp_path: Path) -> None:
    import psutil

    total, available = memory(tmp_path)
    assert total == psutil.virtual_memory().total
    assert 0 < available <= total
    (tmp_path / "memory.max").write_text(str(1 << 60))
    assert memory(tmp_path)[0] == total


def test_cpu_flags_are_read_from_intel_and_arm_listings(tmp_path: Path) -> None:
    intel = "processor\t: 0\nflags\t\t: fpu sse2 fma avx2 f16c avx512_vnni avx512f\nbugs\t:\n\nflags\t: none"
    assert parse_cpu_flags(intel) == ("avx2", "avx512f", "avx512_vnni", "f16c", "fma")
    assert parse_cpu_flags("Features\t: fp asimd evtstrm\n") == ("neon",)
    assert parse_cpu_flags("flags : avx2xx notfma") == ()
    assert parse_cpu_flags("") == ()
    (tmp_path / "cpuinfo").write_bytes(b"model name : \xff\nflags : avx2\n")
    assert cpu_flags(tmp_path / "cpuinfo") == ("avx2",)


def test_a_system_that_lists_no_flags_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert cpu_flags(tmp_path / "none") == ()
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert cpu_flags(tmp_path / "none") == ("neon",)


def test_a_cpp_compiler_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_compiler() is None
    for name in ("cc", "clang++"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    assert find_compiler() == str(tmp_path / "clang++")


def test_free_space_is_told_for_directories_that_are_not_there_yet(tmp_path: Path) -> None:
    free = disk_free(tmp_path / "not" / "there")
    assert free == pytest.approx(disk_free(tmp_path), rel=0.05)
    assert free > 0


def test_a_snapshot_of_this_machine_is_plausible(tmp_path: Path) -> None:
    found = detect(tmp_path)
    assert found.cpus >= 1
    assert 0 < found.memory_available <= found.memory_total
    assert set(found.cpu_flags) <= set(hardware.CPU_FLAGS)
    assert found.gpus == ()
    assert detect().disk_free > 0


def test_llama_cpp_is_only_asked_when_wanted(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    assert isinstance(detect(tmp_path, ask_llama=True).gpus, tuple)
