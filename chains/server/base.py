"""A connection to a model server as a model's settings: the server is asked about itself, tokens are counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import BaseMessage
from pydantic import Field, PrivateAttr, SecretStr

from chains.engine import estimates
from chains.engine.bound import BoundChat
from chains.engine.conversation import conversation
from chains.engine.families import Message, alternating
from chains.server.about import ASSUMED_WINDOW, Server, Told, http_client
from chains.server.connection import Connection
from chains.server.endpoints import Endpoint, endpoint

DEFAULT_MAX_TOKENS = 1_024
DEFAULT_SECONDS = 600.0
# Framing of one message that is not counted: roles and separators.
_FRAME_TOKENS = 8


@dataclass(slots=True)
class ServerState:
    """What copies of a `ServerModel` share: the connection, and what was learnt of the server."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    server: Server | None = None
    connection: Connection | None = None
    said: list[str] = field(default_factory=list)
    lacks: set[str] = field(default_factory=set)


class ConnectedModel(BoundChat):
    """Where the model is, how it is sampled, and what its server tells; see `engines.ServerModel` for what it says."""

    base_url: str
    model: str = ""
    """The server's name for the model; empty takes its only one."""
    api_key: SecretStr | None = None
    n_ctx: int = 0
    """Context window in tokens; 0 asks the server."""
    timeout: float = DEFAULT_SECONDS
    """Seconds that may pass without a byte: reading a prompt is silent."""
    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    stop: list[str] | None = None
    on_send: Callable[[str, int], None] | None = Field(default=None, exclude=True)
    """Called with the host and the tokens sent, each time that anything goes to another machine."""
    on_note: Callable[[str], None] | None = Field(default=None, exclude=True)
    """Called with what a person should know of the server, once for each."""

    _state: ServerState = PrivateAttr(default_factory=ServerState)

    def model_post_init(self, context: Any) -> None:
        """Import what connects now: two threads that import LangChain's packages at once can get half a module."""
        super().model_post_init(context)
        import langchain_openai.chat_models.base  # noqa: F401

    # -- the server --------------------------------------------------------------------------------

    @property
    def where(self) -> Endpoint:
        """The server's address."""
        return endpoint(self.base_url)

    def load(self) -> None:
        """Ask the server about itself, once; safe to call from several threads.

        :raises ModelError: nobody answers, the key is refused, or the server has no such model.
        """
        with self._state.lock:
            if self._state.connection is not None:
                return
            key = self.api_key.get_secret_value() if self.api_key else ""
            server = Server(self.where, key)
            told = server.told(self.model)
            client = self._connected(told.model, key)
            self._state.server = server
            self._state.connection = Connection(self.where, told, client, self.timeout, self._note)
        if not self.where.loopback and not self.where.encrypted:
            self._note(f"What goes to {self.where.host} is not encrypted: anybody on the way can read it.")
        if not (self.n_ctx or told.window):
            self._note(
                f"{self.where.host} does not say how large its context window is; {ASSUMED_WINDOW:,} tokens are "
                "assumed. Tell the real one: --context N"
            )

    def _connected(self, model: str, key: str) -> Any:
        from langchain_openai.chat_models.base import BaseChatOpenAI

        # Everything that the SDK would look up in the environment is given, so that nothing goes elsewhere.
        return BaseChatOpenAI(
            model=model,
            base_url=self.where.base_url,
            api_key=SecretStr(key or "none"),
            http_client=http_client(self.where, self.timeout),
            timeout=self.timeout,
            max_retries=0,
            openai_proxy=None,
        )

    def close(self) -> None:
        """Forget the server; the next call asks it again."""
        with self._state.lock:
            self._state.connection = self._state.server = None

    @property
    def _connection(self) -> Connection:
        while True:
            self.load()
            connection = self._state.connection
            if connection is not None:
                return connection

    @property
    def _told(self) -> Told:
        return self._connection.told

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the server."""
        return tuple(self._state.said)

    def _note(self, note: str) -> None:
        if note not in self._state.said:
            self._state.said.append(note)
            if self.on_note is not None:
                self.on_note(note)

    @property
    def label(self) -> str:
        """The model's name, and its server."""
        name = self._state.connection.told.model if self._state.connection else self.model or "model"
        short = name.replace("\\", "/").rpartition("/")[2] if name.lower().endswith(".gguf") else name
        return f"{short} at {self.where.host}"

    @property
    def choice(self) -> str:
        """Which server it is and what is known of its window, on one line; empty before it was asked."""
        connection = self._state.connection
        if connection is None:
            return ""
        counted = "counted by the server" if self.counts_exactly else "estimated"
        kind = connection.told.kind or "a server"
        return f"{kind} at {self.where.host}, window {self.context_window:,} tokens, tokens {counted}"

    @property
    def model_name(self) -> str:
        """LangChain's name for `label`."""
        return self.label

    @property
    def parameter_count(self) -> int:
        """How many weights the model has, as its server or its name says; 0 where neither does."""
        return self._told.parameters

    @property
    def context_window(self) -> int:
        """Tokens that prompt and answer may have together: given, measured, told by the server, or assumed."""
        known = self.n_ctx or self._told.window or ASSUMED_WINDOW
        return min(known, self._connection.measured or known)

    # -- tokens ------------------------------------------------------------------------------------

    def count_tokens(self, text: str) -> int:
        """Tokens of a text by the server's tokenizer where it may be asked, else at most so many.

        Servers on other machines are not asked: what is only considered for a prompt does not leave this one.
        """
        told, server = self._told, self._state.server
        if server is not None and server.counts(told.kind):
            found = server.count(told.kind, told.model, text)
            if found is not None:
                return found
        return estimates.at_most(text)

    @property
    def counts_exactly(self) -> bool:
        """Whether `count_tokens` asks the server's tokenizer."""
        kind, server = self._told.kind, self._state.server
        return server is not None and server.counts(kind)

    def get_num_tokens(self, text: str) -> int:
        """LangChain's name for `count_tokens`."""
        return self.count_tokens(text)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Tokens of a conversation, with something for its framing, which the server does."""
        return self._counted(conversation(messages))

    def _counted(self, messages: Sequence[Message]) -> int:
        return sum(self.count_tokens(block) for m in messages for block in m.blocks) + _FRAME_TOKENS * len(
            messages
        )

    def prompt_text(self, messages: Sequence[BaseMessage]) -> str:
        """What is sent, message by message; how it is framed is the server's business."""
        return "\n".join(f"--- {m.role}\n{m.text}" for m in alternating(conversation(messages)))
