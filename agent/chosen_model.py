"""Which language model an agent works with: named, else the best one installed, else the small default, fetched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import kv_cache
from agent.config import api_key
from indexers.errors import ModelError, UsageError
from indexers.types import Progress

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.models import InstalledModel
    from agent.workspace import OnProgress
    from chains.engines import ServerModel
    from chains.llm import LlamaCpp


def engine_arguments(settings: Settings) -> dict[str, Any]:
    """What the settings say of how any model is run here, as arguments of `LlamaCpp`."""
    from agent.hardware import memory

    return {
        "n_gpu_layers": settings.gpu_layers,
        "n_threads": settings.threads,
        "kv_type": settings.kv or "",
        "tensor_split": settings.tensor_split,
        "lora_path": str(Path(settings.lora).expanduser()) if settings.lora else "",
        # As the container has it, which the system's own figure knows nothing of.
        "memory_bytes": memory()[1],
    }


class ChosenModel:
    """The model of some settings, made on first use."""

    def __init__(self, settings: Settings, on_progress: OnProgress) -> None:
        self._settings = settings
        self._progress = on_progress
        self._llm: LlamaCpp | ServerModel | None = None
        self._told: set[str] = set()
        self._sent: list[str] = []

    def take_notes(self) -> tuple[str, ...]:
        """What was decided while the model was loaded that a person may want to know, told once."""
        notes = () if self._llm is None else self._llm.notes
        new = tuple(note for note in notes if note not in self._told)
        self._told.update(new)
        # Each time anew: nobody has to remember where the last answer's code went.
        sent, self._sent = tuple(self._sent), []
        return (*new, *sent)

    @property
    def choice(self) -> str:
        """How the model was loaded, on one line; empty before."""
        return self._llm.choice if self._llm is not None else ""

    def close(self) -> None:
        """Free the model's memory; safe to call twice."""
        if self._llm is not None:
            self._llm.close()
            self._llm = None

    @property
    def llm(self) -> LlamaCpp | ServerModel:
        """The model, chosen and made on first use; the first call that needs its weights loads them."""
        if self._llm is None:
            self._llm = self._make(self.path()) if self.is_local else self._at_server()
        return self._llm

    @property
    def is_local(self) -> bool:
        """Whether the model runs in this process, so that nothing it reads leaves it."""
        return self._settings.engine != "openai"

    @property
    def local(self) -> LlamaCpp:
        """The model of this process.

        :raises UsageError: the settings name a server.
        """
        if not self.is_local:
            raise UsageError(
                "That is about a model in this process, not behind a server.", "Leave out --engine openai"
            )
        from chains.llm import LlamaCpp

        llm = self.llm
        assert isinstance(llm, LlamaCpp)
        return llm

    def _at_server(self) -> ServerModel:
        from pydantic import SecretStr

        from chains.engines import ServerModel

        chosen = self._settings
        if not chosen.base_url:
            raise UsageError(
                "The engine openai needs a server.", "Name one: --base-url http://127.0.0.1:8080/v1"
            )
        return ServerModel(
            base_url=chosen.base_url,
            model=chosen.model or "",
            api_key=SecretStr(key) if (key := api_key()) else None,
            n_ctx=chosen.context or 0,
            timeout=float(chosen.server_timeout),
            temperature=chosen.temperature,
            seed=chosen.seed,
            on_send=self._sending,
        )

    def _sending(self, host: str, tokens: int) -> None:
        self._sent.append(
            f"sent to {host}: about {tokens:,} tokens, your question and code of this repository"
        )

    def path(self) -> Path:
        """The GGUF file to use; the small default is downloaded when none is installed.

        :raises ModelError: the model named in the settings is not installed.
        :raises DownloadError: no model is installed and none can be fetched.
        """
        from agent import models

        path = self.installed_path()
        if path is not None:
            return path
        name = self._settings.model or models.DEFAULT_MODEL
        if not self._settings.download:
            raise ModelError(f"The model {name} is not installed.", f"Fetch it: agent models pull {name}")
        return models.pull(name, self._progress)

    def installed_path(self) -> Path | None:
        """The GGUF file to use if it is here; nothing is fetched."""
        from agent import models

        if not self.is_local:
            return None
        if self._settings.model:
            return models.find(self._settings.model, self._models_dirs())
        best = self._best_installed()
        return best.path if best is not None else None

    def _make(self, path: Path) -> LlamaCpp:
        from chains.llm import LlamaCpp

        chosen = self._settings
        llm = LlamaCpp(
            model_path=str(path),
            n_ctx=chosen.context or 0,
            **engine_arguments(chosen),
            temperature=chosen.temperature,
            seed=chosen.seed,
            kv_dir=str(kv_cache.directory()) if chosen.kv_bytes else "",
            kv_bytes=chosen.kv_bytes,
            reading=chosen.reading,
        )
        llm.on_prefill = lambda done, total: self._progress(Progress("prefill", done, total))
        return llm

    def label(self) -> str:
        """What to call it, without loading anything."""
        from agent import models

        if self._llm is not None:
            return self._llm.label
        if not self.is_local:
            return f"{self._settings.model or 'a model'} at {self._settings.base_url or 'no server'}"
        if self._settings.model:
            return self._settings.model
        best = self._best_installed()
        return best.name if best is not None else f"{models.DEFAULT_MODEL} (not downloaded)"

    def _best_installed(self) -> InstalledModel | None:
        from agent import models
        from agent.hardware import detect

        return models.choose_default(detect().memory_available, self._models_dirs())

    def _models_dirs(self) -> list[Path]:
        return [Path(directory) for directory in self._settings.models_dirs]
