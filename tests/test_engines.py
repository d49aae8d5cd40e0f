"""Models behind servers: what is asked and sent, what is believed, and every way in which servers fail."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fake_server import FakeServer, Misbehaviour, Wire, refused, said, texts
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from chains.engine import estimates
from chains.engines import ServerModel
from chains.server.about import Server, named_parameters
from chains.server.endpoints import endpoint
from indexers.errors import AgentError, BusyError, ContextTooSmall, ModelError, UsageError

LONG = "def area(width, height):\n    return width * height\n" * 60


def model(server: FakeServer, **options: Any) -> ServerModel:
    return ServerModel(**({"base_url": server.url, "max_tokens": 50, "timeout": 5.0} | options))


# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "base", "loopback"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1", True),
        ("http://localhost:11434/v1/", "http://localhost:11434/v1", True),
        ("http://[::1]:5000/v1", "http://[::1]:5000/v1", True),
        ("https://api.example.com/openai/v1/chat/completions", "https://api.example.com/openai/v1", False),
        ("http://localhost.example.com/v1", "http://localhost.example.com/v1", False),
        ("http://127.0.0.1.example.com", "http://127.0.0.1.example.com/v1", False),
        ("http://10.0.0.5:8000", "http://10.0.0.5:8000/v1", False),
    ],
)
def test_addresses(url: str, base: str, loopback: bool) -> None:
    found = endpoint(url)
    assert (found.base_url, found.loopback) == (base, loopback)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8080", "ftp://x/v1", "http://", "http://u:p@x/v1", "http://x/v1?k=1", "http://x:99999", "http://[::1"],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        endpoint(url)
    assert "p@x" not in caught.value.message and caught.value.remedy


# -- asking ----------------------------------------------------------------------------------------


def test_an_answer_streams_with_its_cost() -> None:
    with FakeServer([said("Four score and seven", read=31)], window=8_000) as server:
        llm = model(server)
        chunks = list(llm.stream([SystemMessage("Be brief."), HumanMessage("How many?")]))
        assert "".join(chunk.text for chunk in chunks) == "Four score and seven" and len(chunks) > 4
        last = chunks[-1]
        assert last.usage_metadata and last.usage_metadata["input_tokens"] == 31
        assert last.response_metadata["finish_reason"] == "stop"
        assert llm.context_window == 8_000 and llm.notes == ()
    sent = server.requests[0]
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert sent["model"] == "small-model" and sent["max_tokens"] == 50 and sent["temperature"] == 0.0


def test_parts_of_a_message_are_sent_as_one_text_and_neighbours_of_a_role_as_one_message() -> None:
    with FakeServer() as server:
        parts: list[str | dict[str, Any]] = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
        model(server).invoke([HumanMessage(parts), HumanMessage("three")])
    assert server.requests[0]["messages"] == [{"role": "user", "content": "onetwo\n\nthree"}]


def test_stop_strings_are_kept_whatever_the_server_does_with_them() -> None:
    with FakeServer([said("one two three four")]) as server:
        stops = ["seven", "a", "b", "c", "three", "d"]
        answer = model(server).invoke("Count.", stop=stops)
    assert answer.content == "one two " and answer.response_metadata["finish_reason"] == "stop"
    assert server.requests[0]["stop"] == stops[:4]


def test_sampling_is_sent_only_where_it_was_chosen() -> None:
    with FakeServer() as server:
        model(server).invoke("Hi", top_k=7, seed=3)
        model(server, temperature=0.5).invoke("Hi")
    assert server.requests[0]["top_k"] == 7 and server.requests[0]["seed"] == 3
    assert server.requests[1]["temperature"] == 0.5 and "top_k" not in server.requests[1]
    with FakeServer() as server, pytest.raises(UsageError, match="'loudness'"):
        model(server).invoke("Hi", loudness=1)


def test_the_only_model_needs_no_name_and_names_are_matched_kindly() -> None:
    with FakeServer(models=["/models/qwen2.5-coder-7b.Q4_K_M.gguf"], owner="llamacpp") as server:
        for name in ("", "qwen2.5-coder-7b.Q4_K_M", "anything"):
            model(server, model=name).invoke("Hi")
    assert {request["model"] for request in server.requests} == {"/models/qwen2.5-coder-7b.Q4_K_M.gguf"}
    assert (
        named_parameters("qwen2.5-coder:7b") == 7_000_000_000
        and named_parameters("llama-3.2-1.5B-Instruct") == 1.5e9
    )
    assert named_parameters("gpt-4") == named_parameters("a7bc") == 0


def test_several_models_need_a_name() -> None:
    with FakeServer(models=["small-model", "large-model"], owner="library") as server:
        with pytest.raises(ModelError, match="has 2 models, and none was named"):
            model(server).load()
        with pytest.raises(ModelError, match="has no model 'larg-model'") as caught:
            model(server, model="larg-model").load()
        assert "Did you mean --model large-model" in caught.value.remedy
        model(server, model="large-model").load()


# -- the window and the tokens ---------------------------------------------------------------------


KINDS: dict[str, dict[str, Any]] = {
    "llama.cpp": {"owner": "llamacpp", "gets": {"/props": (200, {"default_generation_settings": {"n_ctx": 6_000}})}},
    "vLLM": {"owner": "vllm", "window": 6_000},
    "Ollama": {
        "owner": "library",
        "gets": {"/api/ps": (200, {"models": [{"name": "small-model", "context_length": 6_000}]})},
    },
    "LM Studio": {
        "owner": "organization_owner",
        "gets": {"/api/v0/models/small-model": (200, {"max_context_length": 99_000, "loaded_context_length": 6_000})},
    },
    "KoboldCpp": {"owner": "koboldcpp", "gets": {"/api/extra/true_max_context_length": (200, {"value": 6_000})}},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_window_is_asked_of_each_kind_of_server(kind: str) -> None:
    with FakeServer(**KINDS[kind]) as server:
        assert model(server).context_window == 6_000
        assert model(server, n_ctx=3_000).context_window == 3_000


@pytest.mark.parametrize("window", [None, "many", -1, True, 10**30, {"n": 1}])
def test_a_window_that_is_none_is_assumed_and_said_so(window: object) -> None:
    gets = {"/props": (200, {"default_generation_settings": {"n_ctx": window}})}
    with FakeServer(owner="llamacpp", gets=gets) as server:
        llm = model(server)
        assert llm.context_window == 4_096
        assert any("does not say how large its context window is" in note for note in llm.notes)


def test_tokens_are_counted_by_the_servers_own_tokenizer_where_it_has_one() -> None:
    posts = {"/tokenize": lambda body: {"tokens": [0] * len(body["content"].split())}}
    with FakeServer(owner="llamacpp", posts=posts) as server:
        llm = model(server)
        assert [llm.count_tokens("one two three"), llm.count_tokens("")] == [3, 0] and llm.counts_exactly
        asked = server.paths.count("/tokenize")
        llm.count_tokens("one two three")
        assert server.paths.count("/tokenize") == asked


@pytest.mark.parametrize("answer", [{}, {"tokens": "many"}, {"tokens": [0] * 99_999}, "<html>", []])
def test_a_tokenizer_that_talks_nonsense_is_not_believed(answer: object) -> None:
    with FakeServer(owner="llamacpp", posts={"/tokenize": lambda _: answer}) as server:
        assert model(server).count_tokens(LONG) == estimates.at_most(LONG)


def test_estimates_bound_what_vocabularies_make_of_code(tiny_llama_count: Any) -> None:
    for text in (
        LONG,
        "x = {'a': [1, 22, 333]}\n" * 9,
        "Prose has longer words, and fewer marks.\n" * 9,
        "größer ≥ 世界\n" * 9,
    ):
        assert estimates.at_least(text) < tiny_llama_count(text) <= estimates.at_most(text)


@pytest.fixture(scope="module")
def tiny_llama_count(tiny_codellama: Any) -> Iterator[Any]:
    from chains.llm import LlamaCpp

    llm = LlamaCpp(model_path=str(tiny_codellama), n_ctx=512, n_threads=1)
    yield llm.count_tokens
    llm.close()


def test_what_cannot_fit_is_not_sent() -> None:
    with FakeServer(window=300) as server, pytest.raises(ContextTooSmall, match="has 300"):
        model(server).invoke(LONG)
    assert server.requests == []


def test_a_prompt_that_the_server_cut_is_an_error_and_its_window_is_remembered() -> None:
    with FakeServer([said("Sure.", read=300)], window=32_000) as server:
        llm = model(server)
        with pytest.raises(ContextTooSmall, match="read only 300 of at least") as caught:
            llm.invoke(LONG)
        assert "--context 300" in caught.value.remedy and llm.context_window == 301
        pieces = []
        with pytest.raises(ContextTooSmall):
            for chunk in model(server).stream(LONG):
                pieces.append(chunk.text)
        assert "".join(pieces) == "Sure."


def test_with_an_exact_tokenizer_a_small_cut_is_seen() -> None:
    posts = {"/tokenize": lambda body: {"tokens": [0] * len(body["content"].split())}}
    words = len(LONG.split())
    for read, cut in ((words + 12, False), (int(words * 0.8), True)):
        with FakeServer([said("Sure.", read=read)], owner="llamacpp", posts=posts) as server:
            if cut:
                with pytest.raises(
                    ContextTooSmall, match=f"read only {read:,} of {words:,}|read only {read:,}"
                ):
                    model(server).invoke(LONG)
            else:
                model(server).invoke(LONG)


def test_a_window_that_ends_before_what_was_said_is_measured() -> None:
    with FakeServer([said("one two", read=1_000, finish="length")], window=32_000) as server:
        llm = model(server)
        answer = llm.invoke("Count.")
        assert answer.response_metadata["finish_reason"] == "length" and llm.context_window == 1_002
        assert any("ended after 1,002 tokens" in note for note in llm.notes)


def test_no_usage_is_counted_by_us_and_said_so() -> None:
    with FakeServer([said("one two", read=None)]) as server:
        llm = model(server)
        answer = llm.invoke("Count.")
    assert answer.usage_metadata and answer.usage_metadata["input_tokens"] > 1
    assert answer.response_metadata["usage_counted_by"] == "us"
    assert any("does not say how many tokens it reads" in note for note in llm.notes)


# -- forms -----------------------------------------------------------------------------------------


class Verdict(BaseModel):
    bad: bool
    reason: str


GOOD, FENCED = '{"bad": true, "reason": "no"}', '```json\n{"bad": true, "reason": "no"}\n```'


@pytest.mark.parametrize("text", [GOOD, FENCED])
def test_structured_output(text: str) -> None:
    with FakeServer([said(text)]) as server:
        assert model(server).with_structured_output(Verdict).invoke("?") == Verdict(bad=True, reason="no")
    form = server.requests[0]["response_format"]
    assert form["type"] == "json_schema" and form["json_schema"]["schema"]["required"] == ["bad", "reason"]


def test_an_answer_in_another_form_is_asked_for_again_with_what_was_wrong() -> None:
    with FakeServer([said("I think so."), said('{"bad": "yes"}'), said(GOOD)]) as server:
        llm = model(server)
        assert llm.with_structured_output(Verdict).invoke("?") == Verdict(bad=True, reason="no")
    assert (
        "it is no JSON" in texts(server.requests)[1]
        and "'reason' is a required" in texts(server.requests)[2]
        or ("not of type 'boolean'" in texts(server.requests)[2])
    )
    assert any("does not hold its model to a form" in note for note in llm.notes)
    with FakeServer([said("I think so.")]) as server, pytest.raises(ModelError, match="3 attempts"):
        model(server).with_structured_output(Verdict).invoke("?")


def test_a_server_that_knows_no_schemas_is_asked_for_objects_then_for_text() -> None:
    def behave(wire: Wire, body: dict[str, Any]) -> None:
        if "response_format" in body:
            wire.send(400, {"error": {"message": f"unknown type {body['response_format']['type']}"}})
        else:
            said(GOOD)(wire, body)

    with FakeServer([behave]) as server:
        llm = model(server)
        for _ in range(2):
            assert llm.with_structured_output(Verdict).invoke("?") == Verdict(bad=True, reason="no")
    kinds = [(request.get("response_format") or {}).get("type") for request in server.requests]
    assert kinds == ["json_schema", "json_object", None, None]
    assert any("cannot hold its model to a form" in note for note in llm.notes)


def test_grammars_go_to_servers_that_take_them() -> None:
    with FakeServer([said("yes")], owner="llamacpp") as server:
        assert model(server).invoke("?", grammar='root ::= "yes"').content == "yes"
    assert server.requests[0]["grammar"] == 'root ::= "yes"'
    with FakeServer([said("yes")], owner="vllm") as server:
        llm = model(server)
        llm.invoke("?", grammar='root ::= "yes"')
        assert any("cannot hold its model to a form" in note for note in llm.notes)
    assert "grammar" not in server.requests[0]


@tool
def search(query: str) -> str:
    """Find code."""
    return query


def test_tools_need_nothing_of_the_server() -> None:
    call = '{"tool":"search","arguments":{"query":"area"}}'
    with FakeServer([said("What?"), said(call)], owner="vllm") as server:
        answer = model(server).bind_tools([search], tool_choice="any").invoke("Find area.")
    assert [(found["name"], found["args"]) for found in answer.tool_calls] == [("search", {"query": "area"})]
    assert "search(query: string)" in server.requests[0]["messages"][0]["content"]
    assert "tools" not in server.requests[0]
    for text, calls in ((call, 1), ("It is in geometry.py.", 0)):
        with FakeServer([said(text)], owner="llamacpp") as server:
            answer = model(server).bind_tools([search]).invoke("Find area.")
        assert len(answer.tool_calls) == calls and (calls or answer.content == text)


# -- failures --------------------------------------------------------------------------------------


def closes_in_the_middle(wire: Wire, body: dict[str, Any]) -> None:
    wire.begin()
    wire.piece("It is")
    wire.connection.shutdown(socket.SHUT_RDWR)


def ends_without_an_end(wire: Wire, body: dict[str, Any]) -> None:
    wire.begin()
    wire.piece("It is")


def stalls(wire: Wire, body: dict[str, Any]) -> None:
    wire.begin()
    wire.piece("It is")
    time.sleep(3)


def says_nothing(wire: Wire, body: dict[str, Any]) -> None:
    time.sleep(3)


def sends(text: str) -> Misbehaviour:
    def behave(wire: Wire, body: dict[str, Any]) -> None:
        wire.begin()
        wire.event(text)

    return behave


FAILURES: dict[str, tuple[Misbehaviour, type[AgentError], str]] = {
    "refused key": (refused(401, "bad key"), ModelError, "refused our key"),
    "forbidden": (refused(403, "no"), ModelError, "refused our key"),
    "no such model": (refused(404, "model not found"), ModelError, "knows no model 'small-model'"),
    "too long": (refused(400, "exceeds the available context size (512 tokens)"), ContextTooSmall, "512"),
    "out of order": (refused(500, "CUDA error"), ModelError, "HTTP 500.*CUDA error"),
    "elsewhere": (refused(307, "", {"Location": "http://example.com/v1"}), ModelError, "send us elsewhere"),
    "closes in the middle": (closes_in_the_middle, ModelError, "in the middle of the answer"),
    "ends without an end": (ends_without_an_end, ModelError, "ended in the middle"),
    "stalls": (stalls, ModelError, "sent nothing for 1 s"),
    "says nothing": (says_nothing, ModelError, "sent nothing for 1 s"),
    "half JSON": (sends('{"choices": [{"delta"'), ModelError, "no answer of an OpenAI-compatible server"),
    "other JSON": (sends('{"choices": [{"index": 0}]}'), ModelError, "no answer of an OpenAI-compatible"),
    "a number": (sends("7"), ModelError, "no answer of an OpenAI-compatible"),
    "an error event": (sends('{"error": {"message": "out of memory"}}'), ModelError, "gave up.*out of memory"),
    "a page": (lambda wire, _: wire.send(200, "<html>Welcome</html>"), ModelError, "127.0.0.1"),
    "nothing": (lambda wire, _: wire.connection.shutdown(socket.SHUT_RDWR), ModelError, "127.0.0.1"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_failures_are_told_with_a_remedy(name: str) -> None:
    behave, kind, message = FAILURES[name]
    with FakeServer([behave]) as server, pytest.raises(kind, match=message) as caught:
        model(server, timeout=1.0).invoke("Is it?")
    assert caught.value.remedy and "Traceback" not in caught.value.message
    assert "example.com" not in " ".join(server.paths)


def test_a_busy_server_is_waited_for() -> None:
    with FakeServer([refused(503, "Loading model", {"Retry-After": "0"}), said("Yes.")]) as server:
        assert model(server).invoke("?").content == "Yes."
    with FakeServer([refused(503, "Loading model", {"Retry-After": "9999"})]) as server:
        stop = threading.Event()
        threading.Timer(0.3, stop.set).start()
        started = time.monotonic()
        answer = model(server).invoke("?", cancel=stop)
        assert answer.response_metadata["finish_reason"] == "cancelled" and time.monotonic() - started < 20


def test_a_server_that_stays_busy_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chains.server.connection.PATIENCE_SECONDS", 0.5)
    with FakeServer([refused(503, "Loading model")]) as server, pytest.raises(BusyError, match="is busy"):
        model(server).invoke("?")


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ModelError, match=f"No model server answers at http://127.0.0.1:{port}/v1") as caught:
        ServerModel(base_url=f"http://127.0.0.1:{port}").load()
    assert "Start it" in caught.value.remedy


def test_a_server_that_is_busy_when_asked_about_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chains.server.about.TELL_SECONDS", 0.3)
    with FakeServer() as server:
        server.get = lambda path: (time.sleep(1.5), (200, {}))[1]  # type: ignore[method-assign]
        with pytest.raises(BusyError, match="may be busy"):
            Server(endpoint(server.url)).told()


@pytest.mark.parametrize(
    ("listing", "message"),
    [((401, {}), "refused our key"), ((200, "<html>"), "sent no JSON"), ((302, {}), "send us elsewhere")],
)
def test_servers_that_are_none(listing: tuple[int, object], message: str) -> None:
    with FakeServer(gets={"/v1/models": listing}) as server, pytest.raises(ModelError, match=message):
        model(server, model="m").load()


def test_a_server_without_a_list_of_models_takes_the_name_given() -> None:
    with FakeServer(gets={"/v1/models": (404, {})}) as server:
        model(server, model="mine").invoke("?")
        with pytest.raises(ModelError, match="none was named"):
            model(server).load()
    assert server.requests[0]["model"] == "mine"


def test_cancelling_while_the_server_thinks() -> None:
    with FakeServer([says_nothing]) as server:
        stop = threading.Event()
        threading.Timer(0.3, stop.set).start()
        started = time.monotonic()
        answer = model(server).invoke("?", cancel=stop)
        assert answer.response_metadata["finish_reason"] == "cancelled" and time.monotonic() - started < 2


def test_a_server_that_writes_without_end_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    def endless(wire: Wire, body: dict[str, Any]) -> None:
        wire.begin()
        try:
            while True:
                wire.piece("and on " * 100)
        except OSError:
            pass

    with FakeServer([endless]) as server:
        answer = model(server).invoke("?", max_tokens=10)
    assert answer.response_metadata["finish_reason"] == "length" and len(str(answer.content)) < 5_000


def test_leaving_a_stream_closes_the_connection() -> None:
    broken = threading.Event()

    def endless(wire: Wire, body: dict[str, Any]) -> None:
        wire.begin()
        try:
            while True:
                wire.piece("and ")
                time.sleep(0.01)
        except OSError:
            broken.set()

    with FakeServer([endless]) as server:
        stream = model(server).stream("?")
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert broken.wait(5)


# -- what leaves the machine -----------------------------------------------------------------------


def test_nothing_of_the_environment_leads_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer() as elsewhere, FakeServer() as server:
        for name in (
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "OPENAI_PROXY",
            "OPENAI_BASE_URL",
            "OPENAI_API_BASE",
        ):
            monkeypatch.setenv(name, elsewhere.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
        model(server).invoke("?")
        model(server, api_key="mine").invoke("?")
    assert elsewhere.paths == [] and len(server.requests) == 2
    keys = [headers.get("authorization", "") for headers in server.headers]
    assert "Bearer mine" in keys and not [key for key in keys if "somebody" in key]


def test_other_machines_are_told_of_each_time_and_get_no_text_to_count() -> None:
    """By the address of a name that is this machine and that nobody can know to be."""
    sent: list[tuple[str, int]] = []
    with FakeServer(owner="llamacpp", posts={"/tokenize": lambda _: {"tokens": [1]}}) as server:
        port = server.host.rpartition(":")[2]

        def tell(host: str, tokens: int) -> None:
            sent.append((host, tokens))

        llm = model(server, base_url=f"http://0.0.0.0:{port}/v1", on_send=tell)
        llm.invoke("Is it?")
        llm.invoke("Is it?")
        assert llm.count_tokens("one two three") > 1
        assert [host for host, _ in sent] == [f"0.0.0.0:{port}"] * 2 and "/tokenize" not in server.paths
        assert any("not encrypted" in note for note in llm.notes)
        model(server, on_send=tell).invoke("?")
        assert len(sent) == 2
