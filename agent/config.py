"""Settings: defaults < user file < repository file (may only tighten) < environment < flags."""

from __future__ import annotations

import difflib
import errno
import math
import os
import stat
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from agent import paths
from chains.kv.policy import READINGS
from chains.kv.store import DEFAULT_BYTES
from chains.models import ggml_types
from chains.server.endpoints import endpoint
from indexers.config import IndexConfig
from indexers.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY_FILE = ".agent.toml"
# A settings file is a page or two; more than this is not one, and a repository's is not trusted to be small.
MAX_FILE_BYTES = 64 * 1024
# What a KV cache may be kept in, as llama.cpp calls it.
KV_TYPES = tuple(sorted(ggml_types.KV_TYPES))
COLORS = ("auto", "always", "never")
# auto: where somebody watches; always: on stderr whatever it is, and with `--json`.
PREVIEWS = ("auto", "always", "never")
# One set variable would send prompts, and with them code, to somebody's server.
TRACING = ("LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2", "LANGSMITH_TRACING", "LANGSMITH_TRACING_V2")
TRACING_SECRETS = ("LANGCHAIN_", "LANGSMITH_")


_INDEX = IndexConfig()


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user chose, resolved. None means: choose for this machine and model.

    `engine` is "llama.cpp", or "openai" for the server at `base_url`, which may be silent for `server_timeout` seconds.
    `context_tokens` is what sources may cost and `max_tokens` what an answer may; `context` is the model's whole
    window, `kv` how its keys and values are kept, `gpu_layers` how many layers go to a GPU, `tensor_split` the shares
    of several, `lora` an adapter. `exclude` are path patterns left out of the index, `models_dirs` are searched for
    GGUF files besides our own, `download` allows fetching a missing model, `background` lets search, ask and chat
    leave the vectors that are still to come to a worker process. `review_block_at` is the severity from which a
    finding stops a commit, `review_deadline` is seconds, `review_fail_mode` says whether what was not reviewed passes
    (`open`) or not (`closed`). `kv_bytes` bounds the states of what models read (0 keeps none), `reading` says how
    sources are read, one of `chains.kv.policy.READINGS`, `preview` whether something is said before they are, one of
    `PREVIEWS`. `follow_up_seconds` is how long a worker may
    read after an answer what is likely to be asked next (0: not at all). `linter` and `formatter` are commands for what
    `write` drafts, with the paths behind them. `warnings` are sentences for people.
    """

    model: str | None = None
    engine: str = "llama.cpp"
    base_url: str | None = None
    server_timeout: int = 600
    context_tokens: int | None = None
    max_tokens: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    context: int | None = None
    kv: str | None = None
    tensor_split: tuple[float, ...] = ()
    lora: str | None = None
    temperature: float = 0.0
    seed: int | None = None
    embedder: str = _INDEX.embedder
    models_dirs: tuple[str, ...] = ()
    download: bool = True
    background: bool = True
    exclude: tuple[str, ...] = ()
    max_file_bytes: int = _INDEX.max_file_bytes
    include_untracked: bool = _INDEX.include_untracked
    color: str = "auto"
    review_block_at: str = "high"
    review_deadline: float = 20.0
    review_fail_mode: str = "open"
    review_model: str | None = None
    kv_bytes: int = DEFAULT_BYTES
    reading: str = "auto"
    preview: str = "auto"
    follow_up_seconds: float = 0.0
    linter: str | None = None
    formatter: str | None = None
    warnings: tuple[str, ...] = ()

    def index_config(self) -> IndexConfig:
        """The part of the settings that the index is built with."""
        return IndexConfig(
            max_file_bytes=self.max_file_bytes,
            exclude=self.exclude,
            embedder=self.embedder,
            include_untracked=self.include_untracked,
        )


class _WrongValue(ValueError):
    """A value that does not fit its key; the text says what would."""


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise _WrongValue("a non-empty text")
    return value


def _truth(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("1", "true", "yes", "on"):
        return True
    if isinstance(value, str) and value.lower() in ("0", "false", "no", "off"):
        return False
    raise _WrongValue("true or false")


def _whole(least: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        wanted = f"a whole number of at least {least}"
        if isinstance(value, bool) or not isinstance(value, int):
            raise _WrongValue(wanted)
        if not least <= value < 2**63:
            raise _WrongValue(wanted)
        return value

    return parse


def _temperature(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _WrongValue("a number from 0 to 2")
    if not (math.isfinite(value) and 0 <= value <= 2):
        raise _WrongValue("a number from 0 to 2")
    return float(value)


def _base_url(value: object) -> str:
    try:
        return endpoint(_text(value)).base_url
    except UsageError as error:
        raise _WrongValue("the http:// or https:// address of a model server, without a password") from error


def _kv(value: object) -> str:
    if value not in KV_TYPES:
        raise _WrongValue("one of " + ", ".join(KV_TYPES))
    return str(value)


def _shares(value: object) -> tuple[float, ...]:
    """Shares of GPUs: a list of numbers, or a text of them with commas between."""
    wanted = "numbers of at least 0, one for each GPU, as 3,1"
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        raise _WrongValue(wanted)
    try:
        shares = tuple(float(item) for item in items)
    except (TypeError, ValueError):
        raise _WrongValue(wanted) from None
    if not shares or not all(math.isfinite(share) and share >= 0 for share in shares) or not any(shares):
        raise _WrongValue(wanted)
    return shares


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item for item in value):
        raise _WrongValue("a list of texts")
    return tuple(value)


def _directories(value: object) -> tuple[str, ...]:
    found = tuple(str(Path(item).expanduser()) for item in _texts(value))
    if not all(Path(item).is_absolute() for item in found):
        raise _WrongValue("a list of absolute paths")
    return found


def _color(value: object) -> str:
    if value not in COLORS:
        raise _WrongValue("one of " + ", ".join(COLORS))
    return str(value)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= 86_400:
        raise _WrongValue("a number of seconds from 1 to 86400")
    return float(value)


def _idle_seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 86_400:
        raise _WrongValue("a number of seconds from 0 to 86400")
    return float(value)


def _one_of(*choices: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in choices:
            raise _WrongValue("one of " + ", ".join(choices))
        return str(value)

    return parse


# From the least to the gravest, and what passes from the mildest to the strictest.
SEVERITIES = ("low", "medium", "high", "critical")
FAIL_MODES = ("open", "closed")
# What runs the model: this process, or any server that speaks OpenAI's protocol.
ENGINES = ("llama.cpp", "openai")

# Every key of the user file, of the environment (AGENT_ and the key in capitals) and of the flags.
KEYS: Mapping[str, Callable[[object], object]] = {
    "model": _text,
    "engine": _one_of(*ENGINES),
    "base_url": _base_url,
    "server_timeout": _whole(1),
    "context_tokens": _whole(256),
    "max_tokens": _whole(1),
    "threads": _whole(1),
    "gpu_layers": _whole(-1),
    "context": _whole(256),
    "kv": _kv,
    "tensor_split": _shares,
    "lora": _text,
    "temperature": _temperature,
    "seed": _whole(0),
    "embedder": _text,
    "models_dirs": _directories,
    "download": _truth,
    "background": _truth,
    "exclude": _texts,
    "max_file_bytes": _whole(1),
    "include_untracked": _truth,
    "color": _color,
    "linter": _text,
    "formatter": _text,
    "review_block_at": _one_of(*SEVERITIES),
    "review_deadline": _seconds,
    "review_fail_mode": _one_of(*FAIL_MODES),
    "review_model": _text,
    "kv_bytes": _whole(0),
    "reading": _one_of(*READINGS),
    "preview": _one_of(*PREVIEWS),
    "follow_up_seconds": _idle_seconds,
}
COLOR_VARIABLES = ("NO_COLOR", "FORCE_COLOR", "AGENT_COLOR")
TIGHTENING = ("exclude", "max_file_bytes")
# What a repository may say of its reviews; it counts as committed, not as it lies in the work tree.
REVIEW_TIGHTENING = ("review_block_at", "review_fail_mode")
LISTS = ("models_dirs", "exclude")
NUMBERS = (
    "server_timeout",
    "context_tokens",
    "max_tokens",
    "threads",
    "gpu_layers",
    "context",
    "seed",
    "max_file_bytes",
    "kv_bytes",
)
assert set(KEYS) == {field.name for field in fields(Settings)} - {"warnings"}


def load_settings(
    root: Path | None = None,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings for a repository at `root` (None: no repository), with `flags` over everything.

    A flag whose value is None was not given.

    :raises UsageError: an unknown key, a value of the wrong type, or a file that cannot be read.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = dict(_user_values(paths.config_file()))
    warnings: list[str] = []
    limits = {} if root is None else _repository_limits(root / REPOSITORY_FILE, warnings)
    if "max_file_bytes" in limits:
        values["max_file_bytes"] = min(
            limits["max_file_bytes"], values.get("max_file_bytes", _INDEX.max_file_bytes)
        )
    values.update(_environment_values(environ))
    for key, value in (flags or {}).items():
        if value is not None:
            values[key] = _checked(key, value, "the command line")
    # Additions, so they stay whatever the user excludes.
    values["exclude"] = tuple(dict.fromkeys((*values.get("exclude", ()), *limits.get("exclude", ()))))
    return Settings(**values, warnings=tuple(warnings))


def color_choice(flag: str | None, environ: Mapping[str, str] | None = None) -> str:
    """Whether to colour, before any file is read: the flag, else the environment, else auto."""
    environ = os.environ if environ is None else environ
    if flag is not None:
        return str(_checked("color", flag, "the command line"))
    relevant = {name: environ[name] for name in COLOR_VARIABLES if name in environ}
    return str(_environment_values(relevant).get("color", "auto"))


def api_key(environ: Mapping[str, str] | None = None) -> str:
    """The key for a model server: from AGENT_API_KEY alone, since a key in a file or a flag is soon somebody else's.

    Those of other programs (OPENAI_API_KEY) are left alone: they are not for whatever server is named here.
    """
    return (os.environ if environ is None else environ).get("AGENT_API_KEY", "")


def user_environment() -> Mapping[str, str]:
    """The environment as it is, for commands that are the user's own."""
    return dict(os.environ)


def silence_tracing(environ: MutableMapping[str, str] | None = None) -> list[str]:
    """Turn off what would send prompts or usage off the machine; call before LangChain or Chroma is imported.

    :returns: the names of variables that had asked for it.
    """
    environ = os.environ if environ is None else environ
    asked = [name for name in TRACING if environ.get(name, "").lower() not in ("", "0", "false")]
    for name in [name for name in environ if name.startswith(TRACING_SECRETS)]:
        del environ[name]
    for name in TRACING:
        environ[name] = "false"
    environ["ANONYMIZED_TELEMETRY"] = "False"
    environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    return asked


def _user_values(path: Path) -> dict[str, object]:
    """The user's own file: every key is known and of the right type, or it is an error."""
    try:
        data = _read_bounded(path, follow=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise _unreadable(path, error) from error
    return {key: _checked(key, value, str(path)) for key, value in _parse(data, path).items()}


def _repository_limits(path: Path, warnings: list[str]) -> dict[str, Any]:
    """What a repository may decide: to show us less. Whoever wrote its file need not be the user."""
    try:
        data = _read_bounded(path, follow=False)
    except FileNotFoundError:
        return {}
    except OSError as error:
        if error.errno == errno.ELOOP:
            warnings.append(f"{path} is a symbolic link and was not read.")
            return {}
        raise _unreadable(path, error) from error
    limits: dict[str, Any] = {}
    for key, value in _parse(data, path).items():
        if key in TIGHTENING:
            limits[key] = _checked(key, value, str(path))
        elif key not in REVIEW_TIGHTENING:
            warnings.append(
                f"{path}: {key!r} was ignored; "
                "a repository may only add to 'exclude' and lower 'max_file_bytes'."
            )
    return limits


def review_limits(data: bytes, where: str) -> dict[str, str]:
    """What a repository's settings file, as committed, asks of its reviews: only what can make them stricter.

    :raises UsageError: it is no TOML, or a value does not fit.
    """
    values = _parse(data, Path(where))
    return {key: _checked(key, values[key], where) for key in REVIEW_TIGHTENING if key in values}


def _environment_values(environ: Mapping[str, str]) -> dict[str, object]:
    """AGENT_MODEL and its like; an empty variable counts as unset, other AGENT_* names are not ours."""
    values: dict[str, object] = {}
    if environ.get("FORCE_COLOR", "") not in ("", "0"):
        values["color"] = "always"
    if environ.get("NO_COLOR"):
        values["color"] = "never"
    for key in KEYS:
        name = f"AGENT_{key.upper()}"
        typed = environ.get(name, "")
        if typed:
            values[key] = _checked(key, _typed(key, typed), f"the environment variable {name}")
    return values


def _typed(key: str, text: str) -> object:
    """A variable's text as the type a settings file would hold; a misfit stays text and is refused later."""
    if key in LISTS:
        return [item for item in text.split(os.pathsep) if item]
    try:
        if key in NUMBERS:
            return int(text)
        if key in ("temperature", "review_deadline", "follow_up_seconds"):
            return float(text)
    except ValueError:
        pass
    return text


def _checked(key: str, value: object, where: str) -> Any:
    """The value of `key` in the type it needs, or an error naming the place, the key and what would do."""
    parse = KEYS.get(key)
    if parse is None:
        near = difflib.get_close_matches(key.replace("-", "_"), KEYS, n=1)
        remedy = f"Did you mean {near[0]!r}?" if near else "Known keys: " + ", ".join(KEYS)
        raise UsageError(f"Unknown setting {key!r} in {where}.", remedy)
    try:
        return parse(value)
    except _WrongValue as wanted:
        raise UsageError(f"The setting {key!r} in {where} is {value!r}; it must be {wanted}.") from None


def _parse(data: bytes, path: Path) -> dict[str, Any]:
    try:
        return dict(tomllib.loads(data.decode("utf-8-sig")))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"The settings file {path} is not valid TOML: {error}.", f"Mend or remove it: {path}"
        ) from error


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"The settings file {path} cannot be read: {error.strerror or error}.", f"Mend or remove it: {path}"
    )


def _read_bounded(path: Path, *, follow: bool) -> bytes:
    """A regular file of bounded size; a pipe or device in its place must neither block us nor be read."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {MAX_FILE_BYTES} bytes")
    return data
