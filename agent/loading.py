"""Work that goes on in a thread while something else is done, and whose failure is told where it is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from indexers.errors import AgentError, ModelError


class Background:
    """One call in a thread; `wait` raises what it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        # Both sides need it, and extension modules that meet it half imported by the other thread take it for broken:
        # seen once as "import numpy failed", of ONNX Runtime beside llama.cpp.
        import numpy  # noqa: F401

        self._error: BaseException | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._call()
        except (AgentError, OSError, MemoryError, ValueError, RuntimeError) as error:
            self._error = error

    def wait(self) -> None:
        """Wait for its end.

        :raises ModelError: it failed; other errors of ours as they are.
        """
        # In short waits, so that Ctrl-C is heard while a large model loads.
        while self._thread.is_alive():
            self._thread.join(0.1)
        if isinstance(self._error, AgentError):
            raise self._error
        if self._error is not None:
            raise ModelError(
                f"The model could not be loaded: {self._error}", "Check it: agent doctor"
            ) from self._error
