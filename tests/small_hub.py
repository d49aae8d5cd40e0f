"""A model hub on loopback that speaks the real protocol, and misbehaves when told to."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class SmallHub:
    """Files by repository and name. What is asked is noted in `requests`, as method, path and range."""

    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    cut_after: int | None = None
    """Bytes of contents after which the next answer breaks off."""
    corrupt: bool = False
    """Serve other bytes than those announced."""
    down: bool = False
    token: str = ""
    commit: str = "c" * 40
    endpoint: str = ""

    def put(self, repo: str, name: str, data: bytes) -> None:
        """Publish a file."""
        self.files[repo, name] = data

    @property
    def ranges(self) -> list[str]:
        """The ranges asked for."""
        return [line.split()[2] for line in self.requests if len(line.split()) > 2]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: SmallHub, *rest: object) -> None:
        self.hub = hub
        super().__init__(*rest)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.hub, urlsplit(self.path).path
        hub.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        if hub.down:
            self._say(503)
        elif (
            hub.token
            and not path.startswith("/lfs/")
            and self.headers.get("Authorization") != f"Bearer {hub.token}"
        ):
            self._say(
                401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted."}
            )
        elif path.startswith("/api/models/"):
            self._listing(path)
        elif "/resolve/" in path:
            self._resolve(path)
        elif path.startswith("/lfs/"):
            self._contents(path)
        else:
            self._say(404)

    def _listing(self, path: str) -> None:
        repo = "/".join(path.split("/")[3:5])
        names = [name for owner, name in self.hub.files if owner == repo]
        if not names:
            self._say(404, {"X-Error-Code": "RepoNotFound"})
            return
        tree = [
            {"type": "file", "oid": "0" * 40, "path": name, "size": len(self.hub.files[repo, name])}
            for name in names
        ]
        self._say(200, {"Content-Type": "application/json"}, json.dumps(tree).encode())

    def _resolve(self, path: str) -> None:
        """What the hub knows of a file, and the way to where its contents lie."""
        repo, _, rest = path[1:].partition("/resolve/")
        name = rest.partition("/")[2]
        data = self.hub.files.get((repo, name))
        if data is None:
            known = any(owner == repo for owner, _ in self.hub.files)
            self._say(404, {"X-Error-Code": "EntryNotFound" if known else "RepoNotFound"})
            return
        digest = hashlib.sha256(data).hexdigest()
        about = {
            "X-Repo-Commit": self.hub.commit,
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(data)),
            "ETag": '"pointer"',
            # As of the real hub, on another host: its client follows no redirect to the same one for what it asks.
            "Location": f"{self.hub.endpoint.replace('127.0.0.1', 'localhost')}/lfs/{repo}/{name}",
        }
        self._say(302, about)

    def _contents(self, path: str) -> None:
        owner, repo, name = path[len("/lfs/") :].split("/", 2)
        data = self.hub.files.get((f"{owner}/{repo}", name), b"")
        if self.hub.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        begin = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        if begin and self.headers.get("If-Range") not in (None, etag):
            begin = 0
        about = {"ETag": etag, "Accept-Ranges": "bytes"}
        if begin:
            about["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        self._say(206 if begin else 200, about, data[begin:])

    def _say(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut, is_file = self.hub.cut_after, self.path.startswith("/lfs/")
        if cut is not None and is_file:
            self.hub.cut_after = None
            self.wfile.write(body[:cut])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(body)


@contextmanager
def serving(hub: SmallHub) -> Iterator[SmallHub]:
    """The hub, answering at `hub.endpoint` until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
