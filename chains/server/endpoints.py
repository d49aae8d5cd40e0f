"""The address of a model server: what was typed, checked, and whether it is this machine. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from indexers.errors import UsageError

_EXAMPLE = "Give it as in: --base-url http://127.0.0.1:8080/v1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible server. `base_url` ends where `/chat/completions` begins, without a slash."""

    scheme: str
    host: str
    """Name or address with its port, as it is shown."""
    path: str
    loopback: bool
    """Whether it is this machine, so that nothing leaves it."""

    @property
    def base_url(self) -> str:
        """Where the OpenAI-compatible part is."""
        return f"{self.root}{self.path}"

    @property
    def root(self) -> str:
        """Where servers have what is their own, beside the compatible part."""
        return f"{self.scheme}://{self.host}"

    @property
    def encrypted(self) -> bool:
        """Whether nobody on the way can read along."""
        return self.scheme == "https"


def endpoint(url: str) -> Endpoint:
    """Check an address; without a path it gets `/v1`, where all known servers have theirs.

    :raises UsageError: it is no address of a web server, or carries a password.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise UsageError(f"The base URL {url!r} is no address: {error}.", _EXAMPLE) from error
    name = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not name:
        raise UsageError(f"The base URL {url!r} is no http:// or https:// address.", _EXAMPLE)
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "The base URL carries a name or password.", "Put the key into AGENT_API_KEY instead."
        )
    if parts.query or parts.fragment:
        raise UsageError(f"The base URL {url!r} has a part behind ? or #.", _EXAMPLE)
    shown = f"[{name}]" if ":" in name else name
    path = parts.path.rstrip("/").removesuffix("/chat/completions").removesuffix("/completions")
    return Endpoint(
        parts.scheme, f"{shown}:{port}" if port is not None else shown, path or "/v1", _is_loopback(name)
    )


def _is_loopback(name: str) -> bool:
    """Only what cannot be anything else: any other name may resolve to wherever its owner likes."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
