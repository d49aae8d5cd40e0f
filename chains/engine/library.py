"""The door to llama.cpp: its C interface, what its build can do, and its log.

It is llama-cpp-python's C interface and not its `Llama` class, which redirects the whole process's stdout and stderr to
nothing while it loads (here loading overlaps with other work) and reloads the weights to try another context size.
"""

from __future__ import annotations

import ctypes
import json
import threading
from collections import deque
from importlib.metadata import version
from pathlib import Path
from typing import Any

from indexers.errors import ModelError, UsageError

# How a schema's strings come out of the converter, and how they should.
_ANY_CHARACTER, _JSON_CHARACTER = r'char ::= [^"\\] |', r'char ::= [^"\\\x00-\x1F\x7F] |'
# Log levels of llama.cpp.
_LOG_ERROR, _LOG_CONTINUES = 4, 5

INSTALL = (
    'Install it: pip install ".[llama]" where this program lies (needs a C++ compiler and minutes), '
    "or take the makers' ready builds: pip install llama-cpp-python --only-binary llama-cpp-python "
    "--extra-index-url https://abetlen.github.io/llama-cpp-python/whl/cpu (or /cu124, /metal for /cpu)."
)


def native() -> Any:
    """llama.cpp's C interface.

    :raises ModelError: llama-cpp-python is not installed, or its library does not load.
    """
    try:
        import llama_cpp.llama_cpp as library
    except ImportError as error:
        raise ModelError("llama-cpp-python, which runs the model, is not installed.", INSTALL) from error
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"llama-cpp-python is installed, but its library does not load: {error}", INSTALL
        ) from error
    _start(library)
    return library


def build() -> dict[str, object]:
    """What tells this build of llama.cpp from others: its version, its file, and the instructions it uses."""
    library = native()
    file = Path(library._lib._name)
    status = file.stat() if file.exists() else None
    return {
        "version": version("llama-cpp-python"),
        "file": (status.st_size, status.st_mtime_ns) if status is not None else str(file),
        "system": library.llama_print_system_info().decode("utf-8", "replace"),
    }


def supports_gpu() -> bool:
    """Whether this build of llama.cpp can put layers on a GPU."""
    return bool(native().llama_supports_gpu_offload())


def grammar_of(schema: dict[str, Any]) -> str:
    """A JSON schema as GBNF.

    :raises UsageError: llama-cpp-python's converter cannot express the schema.
    """
    native()
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        rules = str(json_schema_to_gbnf(json.dumps(schema)))
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        raise UsageError(f"The JSON schema cannot be made a grammar: {error!r}") from error
    # The converter lets line ends and other control characters stand raw in strings; JSON does not.
    return rules.replace(_ANY_CHARACTER, _JSON_CHARACTER)


class Log:
    """The last lines of llama.cpp's log: it goes to stderr otherwise, and reasons stand nowhere else."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=20_000)
        self._level = 0
        self.callback: Any = None

    def write(self, level: int, text: bytes | None, _: object) -> None:
        """Keep a line; level 5 continues the one before."""
        if level != _LOG_CONTINUES:
            self._level = level
        if text:
            self._lines.append((self._level, text.decode("utf-8", "replace")))

    def clear(self) -> None:
        """Forget what earlier loads wrote."""
        self._lines.clear()

    def text(self) -> str:
        """Everything, as it was written."""
        return "".join(text for _, text in list(self._lines))

    def errors(self) -> list[str]:
        """The lines that are errors."""
        found = "".join(text for level, text in list(self._lines) if level == _LOG_ERROR)
        return [line.strip()[:300] for line in found.splitlines() if line.strip()]


log = Log()


def new_load_log() -> None:
    """Forget what llama.cpp wrote so far."""
    log.clear()


def load_log() -> str:
    """What llama.cpp wrote since."""
    return log.text()


_start_lock = threading.Lock()


def _start(library: Any) -> None:
    with _start_lock:
        if log.callback is None:
            # Kept for the life of the process: llama.cpp calls it from its own threads.
            log.callback = library.llama_log_callback(log.write)
            library.llama_log_set(log.callback, ctypes.c_void_p(0))
            library.llama_backend_init()
