"""Fetches one file from an ordinary web server: resumed by ranges, never mixed from two versions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from indexers.errors import DownloadError

if TYPE_CHECKING:
    import httpx2

_TIMEOUT_SECONDS = 30.0
_RETRIES = 4
_PARTIAL, _OK, _NOT_SATISFIABLE = 206, 200, 416
_REMEDY = "Check the address, the connection and proxy settings, then run the same command again: it goes on."


def file_name(url: str) -> str:
    """The name of the file at an address.

    :raises DownloadError: it is no web address of a GGUF file.
    """
    parts = urlsplit(url)
    name = unquote(parts.path.rpartition("/")[2])
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DownloadError(f"{url} is no web address.", "It begins with https://.")
    if not name.lower().endswith(".gguf") or name in (".gguf", "..") or "/" in name or "\0" in name:
        raise DownloadError(f"{url} does not name a GGUF file.", "The address ends in .gguf.")
    return name


def fetch_url(url: str, partial: Path, need: Callable[[int], None], tick: Callable[[int, int], None]) -> None:
    """Bring what is at `url` into `partial`, going on where an earlier attempt was cut off.

    :param need: is told how many bytes are still to come, before the first of them; may refuse.
    :param tick: is told how many bytes are there, of how many.
    :raises DownloadError: the server does not give the file, or gives less than it announced.
    """
    import httpx2

    note = partial.with_name(f"{partial.name}.etag.json")
    failure = ""
    with httpx2.Client(follow_redirects=True, timeout=_TIMEOUT_SECONDS) as client:
        for _ in range(_RETRIES):
            try:
                if _attempt(client, url, partial, note, need, tick):
                    note.unlink(missing_ok=True)
                    return
                failure = "the connection ended early"
            except (httpx2.TransportError, httpx2.TooManyRedirects) as error:
                failure = str(error) or type(error).__name__
    raise DownloadError(f"{url} could not be fetched: {failure}.", _REMEDY)


def _attempt(
    client: httpx2.Client,
    url: str,
    partial: Path,
    note: Path,
    need: Callable[[int], None],
    tick: Callable[[int, int], None],
) -> bool:
    """One request; whether all of the file is there then."""
    have, validator = _begun(partial, note)
    headers = {"Accept-Encoding": "identity"}
    if have:
        # With If-Range a server sends everything anew when the file changed meanwhile.
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    with _answered(client, url, headers) as answer:
        if answer.status_code == _NOT_SATISFIABLE:
            partial.unlink(missing_ok=True)
            return False
        if answer.status_code not in (_OK, _PARTIAL):
            raise DownloadError(
                f"{url} could not be fetched: the server answers {answer.status_code} {answer.reason_phrase}.",
                _REMEDY,
            )
        start = have if answer.status_code == _PARTIAL else 0
        rest = int(answer.headers.get("Content-Length") or 0)
        need(rest)
        validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        note.write_text(json.dumps({"validator": "" if validator.startswith("W/") else validator}), "utf-8")
        with partial.open("r+b" if start else "wb") as out:
            out.truncate(start)
            out.seek(start)
            # As they come: a block waited for would be lost with the connection.
            for block in answer.iter_bytes():
                out.write(block)
                tick(out.tell(), start + rest)
            return not rest or out.tell() == start + rest


@contextmanager
def _answered(client: httpx2.Client, url: str, headers: dict[str, str]) -> Iterator[Any]:
    with client.stream("GET", url, headers=headers) as answer:
        yield answer


def _begun(partial: Path, note: Path) -> tuple[int, str]:
    """How much is there of a file that can be told to be the same one, and by what."""
    try:
        validator = str(json.loads(note.read_text("utf-8"))["validator"])
        return (partial.stat().st_size, validator) if validator else (0, "")
    except (OSError, ValueError, KeyError, TypeError):
        return 0, ""
