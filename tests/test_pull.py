"""Pulling models: from a hub that speaks the real protocol and from a plain server, cut off, changed and wrong."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_gguf import build

from tests.small_hub import SmallHub, serving

ROOT = Path(__file__).parents[1]
REPO = "maker/Tiny-GGUF"
FILE = "tiny.Q4_K_M.gguf"


def payload(size: int = 3_000_000, seed: int = 7) -> bytes:
    return b"GGUF" + random.Random(seed).randbytes(size - 4)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    for variable in list(os.environ):
        if variable.startswith(("HF_", "HUGGING", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "PIP_")):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with serving(SmallHub()) as running:
        running.put(REPO, FILE, payload())
        running.put(REPO, "tiny.Q8_0.gguf", payload(2_000_000, 8))
        running.put(REPO, "README.md", b"# Tiny")
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


def agent(*words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: the hub's client reads its environment once."""
    code = f"import sys\n{before}\nfrom agent.cli import main\nsys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, "models", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def placed(agent_home: Path, *parts: str) -> Path:
    return agent_home.joinpath("models", *parts)


def test_a_file_of_any_repository(hub: SmallHub, agent_home: Path) -> None:
    done = agent("pull", f"{REPO}/{FILE}")
    assert done.returncode == 0, done.stderr
    path = placed(agent_home, REPO, FILE)
    assert done.stdout.strip() == str(path)
    assert path.read_bytes() == hub.files[REPO, FILE]
    assert "nobody told" not in done.stderr  # the hub's own record vouched for it
    # Head first, contents after; nothing else is asked, and a second time nothing at all.
    assert [line.split()[0] for line in hub.requests].count("GET") == 1
    asked = len(hub.requests)
    assert agent("pull", f"{REPO}/{FILE}").returncode == 0
    assert len(hub.requests) == asked
    assert "as it came on" in agent("verify").stdout


def test_a_quantisation_of_a_repository(hub: SmallHub, agent_home: Path) -> None:
    assert agent("pull", f"{REPO}:q8_0").returncode == 0
    assert placed(agent_home, REPO, "tiny.Q8_0.gguf").exists()
    assert agent("pull", f"hf.co/{REPO}").returncode == 0  # the recommended one
    assert placed(agent_home, REPO, FILE).exists()
    done = agent("pull", f"{REPO}:Q2_K")
    assert done.returncode == 2
    assert f"{REPO}/{FILE}" in done.stderr


def test_a_connection_that_breaks_is_gone_on_with(hub: SmallHub, agent_home: Path) -> None:
    hub.put(REPO, FILE, payload(24_000_000))
    hub.cut_after = 21_000_000  # the hub's client keeps whole blocks of 10 MB
    done = agent("pull", f"{REPO}/{FILE}")
    if done.returncode:  # the client gave up: the next run goes on
        done = agent("pull", f"{REPO}/{FILE}")
    assert done.returncode == 0, done.stderr
    assert placed(agent_home, REPO, FILE).read_bytes() == hub.files[REPO, FILE]
    assert any(asked.startswith("bytes=20") for asked in hub.ranges), hub.requests


def test_other_bytes_than_the_hub_promised_are_thrown_away(hub: SmallHub, agent_home: Path) -> None:
    hub.corrupt = True
    done = agent("pull", f"{REPO}/{FILE}")
    assert done.returncode == 2
    assert "is not the file that was published: its SHA-256 is" in done.stderr
    assert not placed(agent_home, REPO, FILE).exists()
    hub.corrupt = False
    assert agent("pull", f"{REPO}/{FILE}").returncode == 0


def test_a_file_that_changed_at_the_hub_since_it_was_pinned(hub: SmallHub, agent_home: Path) -> None:
    assert agent("pull", f"{REPO}/{FILE}").returncode == 0
    assert agent("rm", FILE, "--yes").returncode == 0
    assert not placed(agent_home, REPO, FILE).exists()
    hub.put(REPO, FILE, payload(seed=9))
    done = agent("pull", f"{REPO}/{FILE}")
    assert done.returncode == 2
    assert "has changed since it came here the first time" in done.stderr
    assert "--accept-changed" in done.stderr
    assert not placed(agent_home, REPO, FILE).exists()
    assert agent("pull", f"{REPO}/{FILE}", "--accept-changed").returncode == 0
    assert placed(agent_home, REPO, FILE).read_bytes() == payload(seed=9)


def test_a_file_that_changed_on_the_disk(hub: SmallHub, agent_home: Path) -> None:
    agent("pull", f"{REPO}/{FILE}")
    path = placed(agent_home, REPO, FILE)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    done = agent("verify", "--json")
    assert done.returncode == 2
    assert '"state": "changed"' in done.stdout or '"state":"changed"' in done.stdout


def test_a_hub_that_is_down_or_refuses(hub: SmallHub, agent_home: Path) -> None:
    hub.token = "secret"
    done = agent("pull", f"{REPO}/{FILE}")
    assert done.returncode == 2
    assert "HF_TOKEN" in done.stderr and "Traceback" not in done.stderr
    os.environ["HF_TOKEN"] = "secret"
    try:
        assert agent("pull", f"{REPO}/{FILE}").returncode == 0
    finally:
        del os.environ["HF_TOKEN"]
    hub.token, hub.down = "", True
    done = agent("pull", f"{REPO}/tiny.Q8_0.gguf")
    assert done.returncode == 2
    assert "503" in done.stderr


def test_a_file_the_repository_does_not_have(hub: SmallHub) -> None:
    done = agent("pull", f"{REPO}/tiny.Q4_KM.gguf")
    assert done.returncode == 2
    assert FILE in done.stderr
    assert agent("pull", "nobody/nothing/x.gguf").returncode == 2


def test_a_split_model_comes_with_all_its_parts(hub: SmallHub, agent_home: Path) -> None:
    names = [f"big-q4_k_m-0000{part}-of-00002.gguf" for part in (1, 2)]
    for part, name in enumerate(names):
        hub.put(REPO, name, payload(500_000, part))
    done = agent("pull", f"{REPO}/{names[0]}")
    assert done.stdout.strip() == str(placed(agent_home, REPO, names[0])), done.stderr
    assert all(placed(agent_home, REPO, name).read_bytes() == hub.files[REPO, name] for name in names)


def test_a_file_that_was_too_large_for_the_hub_is_joined(hub: SmallHub, agent_home: Path) -> None:
    repo, name = "TheBloke/CodeLlama-70B-Instruct-GGUF", "codellama-70b-instruct.Q6_K.gguf"
    whole = payload(900_000)
    hub.put(repo, f"{name}-split-a", whole[:500_000])
    hub.put(repo, f"{name}-split-b", whole[500_000:])
    done = agent("pull", "codellama-70b-instruct:q6_k")
    assert done.returncode == 0, done.stderr
    assert placed(agent_home, name).read_bytes() == whole
    assert not [path for path in placed(agent_home, ".partial").iterdir() if path.suffix != ".lock"]


def test_a_full_disk_is_told_before_anything_is_fetched(hub: SmallHub) -> None:
    small = "import agent.pull as p; p.pull.__kwdefaults__['free'] = lambda _: 1_000_000"
    done = agent("pull", f"{REPO}/{FILE}", before=small)
    assert done.returncode == 2
    assert "1 MB are free" in done.stderr
    assert not any("/lfs/" in line for line in hub.requests)


# --- from any server


def test_an_address(hub: SmallHub, agent_home: Path) -> None:
    url = f"{hub.endpoint}/lfs/{REPO}/{FILE}?download=true"
    done = agent("pull", url)
    assert done.returncode == 0, done.stderr
    path = placed(agent_home, "127.0.0.1", FILE)
    assert path.read_bytes() == hub.files[REPO, FILE]
    assert "nobody told what" in done.stderr
    hub.put(REPO, FILE, payload(seed=10))
    path.unlink()
    done = agent("pull", url)
    assert done.returncode == 2
    assert "has changed since" in done.stderr


def test_an_address_with_a_known_hash(hub: SmallHub, agent_home: Path) -> None:
    url, good = f"{hub.endpoint}/lfs/{REPO}/{FILE}", hashlib.sha256(payload()).hexdigest()
    done = agent("pull", url, "--sha256", "0" * 64)
    assert done.returncode == 2
    assert "its SHA-256 is" in done.stderr
    assert agent("pull", url, "--sha256", good).returncode == 0
    assert agent("pull", url, "--sha256", "xyz").returncode == 2


def test_an_address_that_is_cut_off_goes_on_and_is_never_mixed(hub: SmallHub, agent_home: Path) -> None:
    url = f"{hub.endpoint}/lfs/{REPO}/{FILE}"
    hub.cut_after = 1_000_000
    done = agent("pull", url)
    assert done.returncode == 0, done.stderr
    (asked,) = hub.ranges
    assert 500_000 < int(asked.removeprefix("bytes=").rstrip("-")) <= 1_000_000
    assert placed(agent_home, "127.0.0.1", FILE).read_bytes() == payload()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/x.gguf", "no web address"),
        ("https://host/x.bin", "does not name a GGUF file"),
        ("http://127.0.0.1:1/x.gguf", "could not be fetched"),
    ],
)
def test_addresses_of_nothing(hub: SmallHub, url: str, said: str) -> None:
    done = agent("pull", url)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr


# --- files that are here


def test_a_file_is_taken_in_under_a_second_name(tmp_path: Path, agent_home: Path) -> None:
    mine = build(tmp_path / "my-model.F32.gguf")
    done = agent("add", str(mine))
    path = placed(agent_home, "my-model.F32.gguf")
    assert done.stdout.strip() == str(path), done.stderr
    assert path.samefile(mine) or path.read_bytes() == mine.read_bytes()
    assert "my-model:F32" in agent("list").stdout
    assert agent("add", str(mine)).returncode == 0  # the same file again
    other = (
        build(tmp_path / "other" / "my-model.F32.gguf", seed=2)
        if (tmp_path / "other").mkdir() is None
        else mine
    )
    done = agent("add", str(other))
    assert done.returncode == 2
    assert "another file called" in done.stderr
    assert agent("rm", "my-model").returncode == 2  # asked for twice where nobody can answer
    assert agent("rm", "my-model", "--yes").returncode == 0
    assert mine.exists() and not path.exists()


def test_what_is_no_model_is_not_taken_in(tmp_path: Path, agent_home: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"<html>")
    done = agent("add", str(tmp_path / "x.gguf"))
    assert done.returncode == 2
    assert "web page" in done.stderr
    elsewhere = build(tmp_path / "elsewhere.gguf")
    done = agent("rm", str(elsewhere), "--yes")
    assert done.returncode == 2
    assert elsewhere.exists()
