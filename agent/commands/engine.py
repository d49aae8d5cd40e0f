"""The options of the engine, the same for every command that runs a model: window, KV cache, GPU, threads, adapter."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

Engine = Mapping[str, object]
Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS: Mapping[str, Any] = {
    "engine": Annotated[
        str | None,
        typer.Option(
            "--engine",
            metavar="llama.cpp|openai",
            help="Run the model in this process, or behind an OpenAI-compatible server.",
            show_default=False,
        ),
    ],
    "base_url": Annotated[
        str | None,
        typer.Option(
            "--base-url",
            metavar="URL",
            help="The server, as http://127.0.0.1:8080/v1; implies --engine openai. Its key: AGENT_API_KEY.",
            show_default=False,
        ),
    ],
    "server_timeout": Annotated[
        int | None,
        typer.Option(
            "--server-timeout",
            metavar="SECONDS",
            min=1,
            help="How long a server may be silent (600).",
            show_default=False,
        ),
    ],
    "context": Annotated[
        int | None,
        typer.Option(
            "--context",
            metavar="N",
            min=256,
            help="The model's window in tokens, prompt and answer together; what fits, when left out.",
            show_default=False,
        ),
    ],
    "kv": Annotated[
        str | None,
        typer.Option(
            "--kv",
            metavar="TYPE",
            help="Keep keys and values as f16, q8_0 (half the memory), q4_0, ...",
            show_default=False,
        ),
    ],
    "gpu_layers": Annotated[
        int | None,
        typer.Option(
            "--gpu-layers",
            metavar="N",
            min=-1,
            help="Layers on the GPU; 0 none, -1 all, left out: what fits.",
            show_default=False,
        ),
    ],
    "tensor_split": Annotated[
        str | None,
        typer.Option(
            "--tensor-split", metavar="A,B,...", help="Shares of several GPUs, as 3,1.", show_default=False
        ),
    ],
    "threads": Annotated[
        int | None,
        typer.Option(
            "--threads", metavar="N", min=1, help="CPU threads; all cores when left out.", show_default=False
        ),
    ],
    "lora": Annotated[
        str | None,
        typer.Option(
            "--lora", metavar="FILE", help="A LoRA adapter (GGUF) over the model.", show_default=False
        ),
    ],
}


def with_engine(command: Command) -> Command:
    """Give a command the engine's options: it receives them as one mapping of settings, `engine`."""
    hints = get_type_hints(command, include_extras=True)
    own = [value for value in inspect.signature(command).parameters.values() if value.name != "engine"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in OPTIONS.items()
    ]

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        engine = {name: kwargs.pop(name, None) for name in OPTIONS}
        if engine["base_url"] is not None and engine["engine"] is None:
            # Who names a server means it: an answer from here instead would go unnoticed.
            engine["engine"] = "openai"
        return command(*args, engine=engine, **kwargs)

    parameters = [value.replace(annotation=hints.get(value.name, value.annotation)) for value in own]
    # Typer reads the signature for the order and the annotations for the types.
    wrapped.__signature__ = inspect.Signature([*parameters, *added])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {
        **{name: kind for name, kind in hints.items() if name != "engine"},
        **OPTIONS,
    }
    del wrapped.__wrapped__
    return wrapped  # type: ignore[return-value]
