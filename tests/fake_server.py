"""A small OpenAI-compatible server on loopback that answers with a script, and misbehaves as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Misbehaviour = Callable[["Wire", dict[str, Any]], None]


class Wire(BaseHTTPRequestHandler):
    """One request; `server.owner` is the `FakeServer` it came to."""

    protocol_version = "HTTP/1.1"

    @property
    def owner(self) -> FakeServer:
        owner: FakeServer = self.server.owner  # type: ignore[attr-defined]
        return owner

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.owner.paths.append(self.path)
        self.owner.headers.append({name.lower(): value for name, value in self.headers.items()})
        status, body = self.owner.get(self.path)
        self.send(status, body)

    def do_POST(self) -> None:
        data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.owner.paths.append(self.path)
        self.owner.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self.path in self.owner.posts:
            self.send(200, self.owner.posts[self.path](data))
        elif self.path == "/v1/chat/completions":
            self.owner.requests.append(data)
            self.owner.behave(self, data)
        else:
            self.send(404, {"error": {"message": "no such path"}})

    def send(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def begin(self) -> None:
        """The head of a stream of events; it ends where the connection does."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def event(self, data: object) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        self.wfile.write(f"data: {text}\n\n".encode())
        self.wfile.flush()

    def piece(self, text: str, finish: str | None = None) -> None:
        delta = {"content": text} if text else {}
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self.event({"id": "1", "object": "chat.completion.chunk", "choices": [choice]})


def said(
    text: str, *, read: int | None = 400, written: int | None = None, finish: str = "stop"
) -> Misbehaviour:
    """Behave: the text word by word, then usage where it is wanted."""

    def behave(wire: Wire, body: dict[str, Any]) -> None:
        words = text.split(" ")
        usage = {"prompt_tokens": read, "completion_tokens": written or len(words), "total_tokens": 0}
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
            wire.send(200, {"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage})
            return
        wire.begin()
        for place, word in enumerate(words):
            wire.piece(word if not place else " " + word)
        wire.piece("", finish)
        if read is not None and body.get("stream_options", {}).get("include_usage"):
            wire.event({"id": "1", "object": "chat.completion.chunk", "choices": [], "usage": usage})
        wire.event("[DONE]")

    return behave


def refused(status: int, message: str, headers: Mapping[str, str] | None = None) -> Misbehaviour:
    """Say no."""
    return lambda wire, _: wire.send(status, {"error": {"message": message}}, headers)


class FakeServer:
    """Answers requests with `script`, the last entry again and again; `requests` and `paths` are what came."""

    def __init__(
        self,
        script: Sequence[Misbehaviour] = (said("It is so."),),
        *,
        models: Sequence[str] = ("small-model",),
        owner: str = "somebody",
        window: int | None = None,
        gets: Mapping[str, tuple[int, object]] | None = None,
        posts: Mapping[str, Callable[[dict[str, Any]], object]] | None = None,
    ) -> None:
        entry = {"object": "model", "owned_by": owner, **({"max_model_len": window} if window else {})}
        listing = {"object": "list", "data": [{"id": name, **entry} for name in models]}
        self._gets = {"/v1/models": (200, listing), **(gets or {})}
        self.posts = dict(posts or {})
        self._script = list(script)
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Wire)
        self._server.daemon_threads = True
        # Clients that hang up are what some tests are about.
        self._server.handle_error = lambda request, address: None  # type: ignore[method-assign, assignment]
        self._server.owner = self  # type: ignore[attr-defined]
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.host}/v1"

    def get(self, path: str) -> tuple[int, object]:
        return self._gets.get(path, (404, {"error": "no such path"}))

    def behave(self, wire: Wire, body: dict[str, Any]) -> None:
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        step(wire, body)

    def __enter__(self) -> FakeServer:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def texts(requests: Iterable[Mapping[str, Any]]) -> list[str]:
    """What each request said last."""
    return [str(request["messages"][-1]["content"]) for request in requests]
