"""What goes wrong on the way to a model server, as errors that say what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chains.server.about import refused_key, transport_errors, window_in
from indexers.errors import AgentError, BusyError, ContextTooSmall, ModelError

if TYPE_CHECKING:
    from chains.server.endpoints import Endpoint

_TOO_LONG = re.compile(
    r"context[ _](?:length|size|window)|exceeds? the (?:available|maximum) context|prompt is too long|too many tokens",
    re.IGNORECASE,
)
# What a wrong request is answered with; llama-cpp-python says 500 where it means 422.
_REFUSED = frozenset({400, 415, 422, 500, 501})
BUSY = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a server said no with: the HTTP status (0 where it was cut off), its words, seconds it asks us to wait."""

    status: int
    words: str
    wait: float = 0.0

    @property
    def too_long(self) -> bool:
        """Whether it refuses the prompt for its length."""
        return self.status in _REFUSED | {413} and bool(_TOO_LONG.search(self.words))

    @property
    def window(self) -> int:
        """The window it names, 0 where it names none."""
        return window_in(self.words)

    @property
    def of_the_form(self) -> bool:
        """Whether something about the request may be unknown to it."""
        return self.status in _REFUSED and not self.too_long


def errors() -> tuple[type[Exception], ...]:
    """What LangChain's client for OpenAI raises, for answers that are no such answers too."""
    import openai

    # The SDK reads a page of HTML as text and an event without choices as one with: what follows fails anyhow.
    shapes = (ValueError, KeyError, IndexError, AttributeError, TypeError)
    return (openai.OpenAIError, *transport_errors(), *shapes)


def refusal(error: Exception) -> Refusal | None:
    """The server's no; None for what is no answer at all."""
    import openai

    if isinstance(error, openai.APIStatusError):
        return Refusal(error.status_code, _words(error), _wait(error.response.headers))
    if isinstance(error, openai.APIError) and not isinstance(error, openai.APIConnectionError):
        return Refusal(0, _words(error))
    return None


def translated(error: Exception, where: Endpoint, model: str, *, began: bool, seconds: float) -> AgentError:
    """An error of ours for whatever the client raised.

    :param began: some of the answer had come.
    :param seconds: how long nothing may come.
    """
    import openai

    no = refusal(error)
    if no is not None:
        return _refused(no, where, model, began)
    timed_out = isinstance(error, openai.APITimeoutError) or "timeout" in type(error).__name__.lower()
    if timed_out:
        return ModelError(
            f"{where.host} sent nothing for {seconds:.0f} s.",
            "See what the server does; --server-timeout waits longer, fewer --context-tokens give it less to read.",
        )
    if isinstance(error, (openai.APIConnectionError, *transport_errors())):
        if began:
            return ModelError(
                f"{where.host} closed the connection in the middle of the answer.",
                "Look into the server's log.",
            )
        return ModelError(
            f"No model server answers at {where.base_url}: {_cause(error)}",
            "Start it, or name the right address: --base-url http://127.0.0.1:8080/v1",
        )
    return ModelError(
        f"{where.host} sent what is no answer of an OpenAI-compatible server ({_cause(error)}).",
        "Check the address (most have /v1 at its end) and the server's log.",
    )


def _refused(no: Refusal, where: Endpoint, model: str, began: bool) -> AgentError:
    host, said = where.host, f": {no.words}" if no.words else ""
    if no.status in (401, 403):
        return refused_key(host, no.status)
    if no.too_long:
        told = f" of {no.window:,} tokens" if no.window else ""
        return ContextTooSmall(
            f"The prompt does not fit the context window{told} at {host}{said}",
            f"Lower --context-tokens, or tell its window: --context {no.window or 4096}",
        )
    if no.status == 404:
        return ModelError(
            f"{host} knows no model {model!r} there{said}",
            "Name another with --model, and check the --base-url.",
        )
    if 300 <= no.status < 400:
        return ModelError(
            f"{host} wants to send us elsewhere (HTTP {no.status}); nothing is sent where you did not say.",
            "Give the address it points to as --base-url, if you trust it.",
        )
    if no.status in BUSY:
        return BusyError(f"{host} is busy (HTTP {no.status}){said}", "Try again in a while.")
    if began or not no.status:
        return ModelError(f"{host} gave up in the middle of the answer{said}", "Look into the server's log.")
    return ModelError(f"{host} refused the request (HTTP {no.status}){said}", "Look into the server's log.")


def _words(error: Any) -> str:
    """What the server says, on one line."""
    body = error.body
    inner = body.get("error", body) if isinstance(body, Mapping) else body
    said = inner.get("message") or inner.get("detail") if isinstance(inner, Mapping) else inner
    text = str(said) if said else str(error.message)
    if text.lstrip().startswith("<"):
        return "a page of HTML"
    return " ".join(text.split())[:300]


def _wait(headers: Mapping[str, str]) -> float:
    try:
        return min(30.0, max(0.0, float(headers.get("retry-after", ""))))
    except ValueError:
        return 0.0


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:200] or type(error).__name__
