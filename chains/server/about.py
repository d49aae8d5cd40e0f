"""What a model server tells of itself: which program it is, its models, its window, its tokenizer.

The one door to HTTP. No redirect is followed, and no proxy stands between us and a server on this machine: what is
sent goes where the user said. Only `Server.count` sends text, and only to a server on this machine.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chains.server.endpoints import Endpoint
from indexers.errors import BusyError, ModelError

# Seconds to connect, and for answers that need no model.
CONNECT_SECONDS, TELL_SECONDS = 10.0, 30.0
# A window that no server told of. Ollama's and LM Studio's own defaults.
ASSUMED_WINDOW = 4_096
_MOST_BYTES = 4 << 20
_MOST_WINDOW = 100_000_000
_WINDOW = re.compile(r"(?:context (?:length|size|window)[^\d]{0,20}|n_ctx\D{0,6})(\d{2,8})", re.IGNORECASE)
LLAMA_CPP, LLAMA_CPP_PYTHON, VLLM, OLLAMA = "llama.cpp", "llama-cpp-python", "vLLM", "Ollama"
LM_STUDIO, KOBOLD, TEXTGEN, UNKNOWN = "LM Studio", "KoboldCpp", "text-generation-webui", ""
_OWNERS = {
    "llamacpp": LLAMA_CPP,
    "me": LLAMA_CPP_PYTHON,
    "vllm": VLLM,
    "library": OLLAMA,
    "organization_owner": LM_STUDIO,
    "koboldcpp": KOBOLD,
}


@dataclass(frozen=True, slots=True)
class Told:
    """What a server says of itself: the model that will answer, the window in tokens, 0 where it does not tell."""

    kind: str
    model: str
    models: tuple[str, ...] = ()
    window: int = 0
    parameters: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: status 0 where there was none, and then why; `data` is None for what is no JSON."""

    status: int
    data: Any = None
    text: str = ""
    problem: str = ""

    def get(self, *keys: str | int) -> Any:
        """A value deep in the JSON, None where anything on the way is missing or of another shape."""
        found = self.data if self.status == 200 else None
        for key in keys:
            if isinstance(found, Mapping) and isinstance(key, str):
                found = found.get(key)
            elif isinstance(found, list) and isinstance(key, int) and key < len(found):
                found = found[key]
            else:
                return None
        return found


def http_client(where: Endpoint, seconds: float) -> Any:
    """An HTTP client for this server alone; `seconds` may pass without a byte."""
    import httpx2

    return httpx2.Client(
        follow_redirects=False,
        trust_env=not where.loopback,
        verify=where.encrypted,  # reading certificates takes a while, and without TLS they are for nothing
        timeout=httpx2.Timeout(seconds, connect=CONNECT_SECONDS),
    )


def broke_off(error: BaseException | None) -> bool:
    """Whether the server hung up, rather than not being there or being slow."""
    import httpx2

    hung_up = (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError)
    while error is not None and not isinstance(error, hung_up):
        error = error.__cause__
    return error is not None


def transport_errors() -> tuple[type[Exception], ...]:
    """What the client raises when there is no answer, or half of one."""
    import httpx2

    return (httpx2.TransportError, httpx2.InvalidURL, httpx2.DecodingError, httpx2.StreamError)


class Server:
    """One server, asked about itself."""

    def __init__(self, where: Endpoint, key: str = "", client: Any = None) -> None:
        self.where = where
        self._client = client or http_client(where, TELL_SECONDS)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._counts: dict[str, int] = {}

    def ask(self, url: str, body: Mapping[str, object] | None = None, seconds: float = 0.0) -> Reply:
        """GET, or POST a body, for at most `seconds` (by default `TELL_SECONDS`); never raises for what servers do."""
        import httpx2

        method, seconds = "GET" if body is None else "POST", seconds or TELL_SECONDS
        try:
            with self._client.stream(
                method, url, json=body, headers=self._headers, timeout=seconds
            ) as response:
                data, until = b"", time.monotonic() + seconds
                for piece in response.iter_bytes():
                    data += piece
                    if len(data) > _MOST_BYTES or time.monotonic() > until:
                        return Reply(0, problem="it sends without end")
                status = int(response.status_code)
        except transport_errors() as error:
            timed_out = isinstance(error, httpx2.TimeoutException)
            return Reply(0, problem="timed out" if timed_out else str(error) or type(error).__name__)
        text = data.decode("utf-8", "replace")
        try:
            return Reply(status, json.loads(text), text)
        except (ValueError, RecursionError):
            return Reply(status, None, text)

    def told(self, wanted: str = "") -> Told:
        """What it says of itself and of the model called `wanted`, or of its only one.

        :raises ModelError: nobody answers there, or no OpenAI-compatible server, or it wants another key, or the
            model is none of its.
        """
        listing = self.ask(f"{self.where.base_url}/models")
        self._check(listing)
        entries = [entry for entry in listing.get("data") or () if isinstance(entry, Mapping)]
        names = tuple(str(entry["id"]) for entry in entries if entry.get("id"))
        kind = self._kind(entries)
        model = chosen(
            wanted, names, self.where, takes_any=kind in (LLAMA_CPP, LLAMA_CPP_PYTHON, KOBOLD, TEXTGEN)
        )
        entry = next((entry for entry in entries if entry.get("id") == model), entries[0] if entries else {})
        window = _window(self._window_of(kind, model, entry))
        parameters = (
            _number((entry.get("meta") or {}).get("n_params"))
            if isinstance(entry.get("meta"), Mapping)
            else 0
        )
        return Told(kind, model, names, window, parameters or named_parameters(model))

    def _check(self, listing: Reply) -> None:
        host = self.where.host
        if "timed out" in listing.problem:
            raise BusyError(
                f"{host} did not say which models it has within {TELL_SECONDS:.0f} s; it may be busy with another "
                "request.",
                "Try again in a while, or look into its log.",
            )
        if listing.status == 0:
            raise ModelError(
                f"No model server answers at {self.where.base_url}: {_short(listing.problem)}",
                "Start it, or name the right address: --base-url http://127.0.0.1:8080/v1",
            )
        if listing.status in (401, 403):
            raise refused_key(host, listing.status)
        if 300 <= listing.status < 400:
            raise ModelError(
                f"{host} wants to send us elsewhere (HTTP {listing.status}); nothing is sent where you did not say.",
                "Give the address it points to as --base-url, if you trust it.",
            )
        # Some servers list no models; a page for people is no model server.
        if listing.data is None and listing.status == 200:
            raise ModelError(
                f"What answers at {self.where.base_url} is no OpenAI-compatible server: it sent no JSON.",
                "Most have theirs under /v1: --base-url http://127.0.0.1:8080/v1",
            )

    def _kind(self, entries: Sequence[Mapping[str, Any]]) -> str:
        owners = {str(entry.get("owned_by", "")).lower() for entry in entries}
        kind = next((kind for owner, kind in _OWNERS.items() if owner in owners), UNKNOWN)
        if kind:
            return kind
        root = self.where.root
        signs = (
            (LLAMA_CPP, f"{root}/props", "default_generation_settings"),
            (KOBOLD, f"{root}/api/extra/true_max_context_length", "value"),
            (TEXTGEN, f"{self.where.base_url}/internal/model/info", "model_name"),
        )
        return next((kind for kind, url, key in signs if self.ask(url).get(key) is not None), UNKNOWN)

    def _window_of(self, kind: str, model: str, entry: Mapping[str, Any]) -> Any:
        """What the server says of its window; servers that tell the model's own and not theirs are not asked."""
        root = self.where.root
        if kind == LLAMA_CPP:
            return self.ask(f"{root}/props").get("default_generation_settings", "n_ctx")
        if kind == KOBOLD:
            return self.ask(f"{root}/api/extra/true_max_context_length").get("value")
        if kind == OLLAMA:
            loaded = self.ask(f"{root}/api/ps").get("models") or ()
            sizes = [
                m.get("context_length") for m in loaded if isinstance(m, Mapping) and m.get("name") == model
            ]
            return sizes[0] if sizes else 0
        if kind == LM_STUDIO:
            return self.ask(f"{root}/api/v0/models/{model}").get("loaded_context_length")
        return entry.get("max_model_len") or entry.get("context_length") or entry.get("context_window")

    def counts(self, kind: str) -> bool:
        """Whether a server of this kind counts tokens for us: only on this machine, since it is sent the text."""
        return self.where.loopback and kind in _COUNTERS

    def count(self, kind: str, model: str, text: str) -> int | None:
        """Tokens of a text by the server's own tokenizer; None where it does not count."""
        if text in self._counts:
            return self._counts[text]
        counter = _COUNTERS.get(kind)
        if counter is None or not text:
            return None if text else 0
        path, field, answer = counter
        reply = self.ask(f"{self.where.root}{path}", {"model": model, field: text})
        found = reply.get(answer)
        count = len(found) if isinstance(found, list) else found
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= 8 * len(text) + 8:
            return None
        if len(self._counts) > 4_096:
            self._counts.clear()
        self._counts[text] = count
        return count


# Where servers count: path, the field that takes the text, the field that tells.
_COUNTERS: Mapping[str, tuple[str, str, str]] = {
    LLAMA_CPP: ("/tokenize", "content", "tokens"),
    LLAMA_CPP_PYTHON: ("/extras/tokenize/count", "input", "count"),
    VLLM: ("/tokenize", "prompt", "count"),
    KOBOLD: ("/api/extra/tokencount", "prompt", "value"),
    TEXTGEN: ("/v1/internal/token-count", "text", "length"),
}


def chosen(wanted: str, names: Sequence[str], where: Endpoint, *, takes_any: bool = False) -> str:
    """The server's name of the model that was asked for, or of its only one.

    :param takes_any: the server has one model, whatever it is called in a request.
    :raises ModelError: it has several and none was named, or none of that name.
    """
    alike = [name for name in names if wanted and _plain(name) == _plain(wanted)]
    if wanted in names or (wanted and not names):
        return wanted
    if len(alike) == 1:
        return alike[0]
    if len(names) == 1 and (not wanted or takes_any):
        return names[0]
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    if not wanted:
        problem = f"has {len(names)} models" if names else "does not say which models it has"
        raise ModelError(
            f"{where.host} {problem}, and none was named.", f"Name one with --model: {listed or 'NAME'}"
        )
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.4)
    raise ModelError(
        f"{where.host} has no model {wanted!r}.",
        f"Did you mean --model {near[0]}? It has: {listed}" if near else f"It has: {listed}",
    )


def named_parameters(name: str) -> int:
    """How many weights a model has by what it is called (`qwen2.5-coder:7b`); 0 where the name does not say."""
    found = re.search(r"(?<![\w.])(\d{1,4}(?:\.\d{1,2})?)b(?![a-z0-9])", name.lower().replace("_", "-"))
    return int(float(found[1]) * 1e9) if found else 0


def window_in(words: str) -> int:
    """The window that a server's refusal names, in tokens; 0 where it names none."""
    found = _WINDOW.search(words)
    return int(found[1]) if found else 0


def likeliest(told: Any) -> dict[str, float] | None:
    """Words and their probabilities from `top_logprobs`; None where there are none that make sense."""
    if not isinstance(told, list) or not told:
        return None
    shares: dict[str, float] = {}
    for item in told:
        token, value = (item.get("token"), item.get("logprob")) if isinstance(item, Mapping) else (None, None)
        if isinstance(token, str) and isinstance(value, (int, float)) and value <= 1e-6:
            shares[token] = shares.get(token, 0.0) + math.exp(value)
    return shares or None


def refused_key(host: str, status: int) -> ModelError:
    """A server that wants a key, or another one."""
    return ModelError(
        f"{host} refused our key (HTTP {status}).",
        "Put the right one into the environment: export AGENT_API_KEY=...",
    )


def _plain(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2].lower().removesuffix(".gguf").removesuffix(":latest")


def _window(value: Any) -> int:
    number = _number(value)
    return number if number <= _MOST_WINDOW else 0


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _short(text: str) -> str:
    return " ".join(text.split())[:200]
