"""Two real servers on loopback, with a real small model: llama-cpp-python's, and llama.cpp's own out of xllamacpp.

Both come with the extra `servers`; without it these tests say so.
"""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from repos import make_repo

from agent import Agent
from agent.config import Settings
from chains.engines import ServerModel
from indexers.errors import ContextTooSmall, ModelError

WINDOW = 1_536
XLLAMACPP = """
import sys, time, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.port, p.n_ctx, p.n_parallel = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), 1
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
p.endpoint_props = True
server = xllamacpp.Server(p)
time.sleep(3600)
"""
COMMANDS = {
    "llama-cpp-python": [
        sys.executable,
        "-m",
        "llama_cpp.server",
        "--n_threads",
        "1",
        "--n_ctx",
        str(WINDOW),
    ],
    "llama.cpp": [sys.executable, "-c", XLLAMACPP],
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module", params=COMMANDS)
def server(
    request: pytest.FixtureRequest, smollm_gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    kind = request.param
    needed = "fastapi" if kind == "llama-cpp-python" else "xllamacpp"
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed: pip install '.[llama,servers]'")
    port = free_port()
    command = [*COMMANDS[kind]]
    command += ["--model", str(smollm_gguf), "--port", str(port)] if kind == "llama-cpp-python" else [
        str(smollm_gguf), str(port), str(WINDOW)
    ]  # fmt: skip
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(1_200):
            try:
                ServerModel(base_url=url).load()
                break
            except ModelError:
                assert process.poll() is None, log.read_text()[-2_000:]
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def llm(server: str) -> ServerModel:
    return ServerModel(base_url=server, max_tokens=16, timeout=120)


ASK = [SystemMessage("Be brief."), HumanMessage("Count: one, two, three.")]


def test_it_says_what_it_is(llm: ServerModel) -> None:
    kind = llm._told.kind
    assert kind in COMMANDS and llm.counts_exactly and llm.count_tokens("def area(x):") == 5
    # llama-cpp-python's does not say how large its window is.
    assert llm.context_window == (WINDOW if kind == "llama.cpp" else 4_096)
    assert bool(llm.notes) == (kind != "llama.cpp")


def test_streaming_stop_words_and_cost(llm: ServerModel) -> None:
    chunks = list(llm.stream(ASK))
    whole = "".join(chunk.text for chunk in chunks)
    assert len(chunks) > 5 and chunks[-1].response_metadata["finish_reason"] in ("stop", "length")
    assert chunks[-1].usage_metadata and chunks[-1].usage_metadata["input_tokens"] > 10
    again = llm.invoke(ASK)
    assert again.content == whole
    middle = whole[len(whole) // 2 :][:4]
    cut = llm.invoke(ASK, stop=[middle])
    assert cut.content == whole[: whole.index(middle)] and cut.response_metadata["finish_reason"] == "stop"


SCHEMA: dict[str, Any] = {
    "title": "verdict",
    "type": "object",
    "properties": {"good": {"type": "boolean"}, "why": {"type": "string", "maxLength": 8}},
    "required": ["good", "why"],
}


@tool
def search(query: str) -> str:
    """Find code."""
    return query


def test_forms_are_kept_at_the_first_attempt(llm: ServerModel) -> None:
    found: Any = llm.with_structured_output(SCHEMA).bind(max_tokens=80).invoke("Is water wet?")
    assert set(found) == {"good", "why"} and isinstance(found["good"], bool)
    assert llm.invoke("Is water wet?", grammar='root ::= "yes" | "no"').content in ("yes", "no")
    answer = llm.bind_tools([search], tool_choice="any").bind(max_tokens=80).invoke("Find the area.")
    assert [call["name"] for call in answer.tool_calls] == ["search"]
    assert not [note for note in llm.notes if "form" in note]


def test_how_likely_a_word_is(llm: ServerModel) -> None:
    found = llm.next_probabilities([HumanMessage("Say hello.")], ("Hello", "Tractor"))
    if llm._told.kind == "llama.cpp":
        assert found is not None and 0 <= found["Tractor"] <= found["Hello"] <= 1


def test_a_prompt_too_long_is_refused_by_us_or_by_the_server(server: str, llm: ServerModel) -> None:
    """llama-cpp-python's server hangs up on it when it is to stream; asked without, it says why."""
    for told in (0, 32_000):
        model = ServerModel(base_url=server, n_ctx=told, max_tokens=8)
        with pytest.raises(ContextTooSmall) as caught:
            model.invoke("word " * 3_000)
        assert f"{WINDOW:,}" in caught.value.message or "3,0" in caught.value.message
        assert model.context_window == WINDOW
    assert llm.invoke("Hi", max_tokens=2).content


def test_ask_end_to_end(server: str, tmp_path: Path) -> None:
    code = 'def area(width, height):\n    """The area of a rectangle."""\n    return width * height\n'
    root = make_repo(tmp_path / "repo", {"geometry.py": code})
    settings = Settings(engine="openai", base_url=server, embedder="none", max_tokens=24, context=WINDOW)
    with Agent.open(root, settings=settings) as agent:
        answer = agent.ask("What does area return for width and height?")
        assert answer.text and answer.usage.prompt_tokens > 100 and "127.0.0.1" in answer.model
        completed = agent.complete(str(root / "geometry.py"), 3, 12, max_tokens=6)
    # SmolLM2 was not trained to fill: the server says so, and its chat model is asked.
    assert completed.method == "asked"


def test_a_slow_server_is_given_up(server: str) -> None:
    """The last one: llama-cpp-python's goes on writing what nobody waits for, and hears nothing meanwhile."""
    slow = ServerModel(base_url=server, timeout=0.05, max_tokens=400)
    with pytest.raises(ModelError, match="sent nothing for"):
        slow.invoke("Tell a long story. " * 60)
