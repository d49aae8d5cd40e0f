"""`agent doctor`: checks this machine and this repository; each failing line says which command mends it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.commands import Job, JsonOption, RepoOption
from agent.output import Output
from agent.safe_text import show_path
from agent.wording import size_text
from indexers.errors import AgentError, RepositoryError

if TYPE_CHECKING:
    from chains.models.fit import Fit

LEAST_GIT = (2, 25)
# The first with all known fixes for reading strangers' repositories; distributions fix older ones too.
SAFE_GIT = (2, 50, 1)
LLAMA_INSTALL = "pip install llama-cpp-python  (needs a C++ compiler, and minutes)"
WHEELS = "the README names the wheel indexes for CPU, CUDA and Metal"
OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report: what was looked at, how it is, and what mends it."""

    name: str
    state: str
    text: str
    remedy: str = ""


def command(repo: RepoOption = Path(), json: JsonOption = False) -> Job:
    """Check this machine and the index, and say what mends them.

    Looks at git, SQLite, the cache, llama.cpp, GPU, memory, models, and whether stored chunks are found.

    Exits with 0 when nothing is broken, else with 2.

    Example: agent doctor
    """
    return Job(partial(run, repo=repo, json=json), json=json)


def run(output: Output, *, repo: Path, json: bool) -> int:
    """Run every check and report."""
    checks = []
    for check in diagnose(repo):
        checks.append(check)
        if not json:
            _show(output, check)
    ok = all(check.state != FAIL for check in checks)
    if json:
        output.json({"ok": ok, "checks": [asdict(check) for check in checks]})
    elif not ok:
        output.note(f"{sum(check.state == FAIL for check in checks)} of {len(checks)} checks failed")
    return 0 if ok else 2


def diagnose(repo: Path) -> Iterator[Check]:
    """All checks, cheapest first; what one of them raises becomes its own line."""
    looks: dict[str, Callable[[], Check]] = {
        "python": _python,
        "git": _git,
        "sqlite": _sqlite,
        "cache": _cache,
        "compiler": _compiler,
        "llama.cpp": _llama,
        "gpu": _gpu,
        "language model": _language_model,
        "model server": _server,
        "embedding model": _embedding_model,
        "repository": partial(_repository, repo),
        "index": partial(_index, repo),
    }
    for name, look in looks.items():
        try:
            found = look()
            if found.text:
                yield found
        except AgentError as error:
            yield Check(name, FAIL, error.message, error.remedy)
        except (ImportError, OSError, sqlite3.Error) as error:
            yield Check(
                name,
                FAIL,
                f"{type(error).__name__}: {error}",
                "pip install --force-reinstall local-code-agent",
            )


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Check("python", OK, f"{version} in {show_path(sys.prefix)}")


def _git() -> Check:
    from indexers.git import git_version

    version = git_version()
    text = ".".join(str(part) for part in version)
    if version < LEAST_GIT:
        return Check("git", FAIL, f"{text} is too old", f"install git {_dotted(LEAST_GIT)} or later")
    if version < SAFE_GIT:
        known = (
            f"{text}; before {_dotted(SAFE_GIT)} there are known holes unless your distribution mended them"
        )
        return Check("git", WARN, known, "update git before reading repositories of people you do not trust")
    return Check("git", OK, text)


def _server() -> Check:
    """The server that the user's settings name; without text where they name none."""
    from agent.chosen_model import ChosenModel
    from agent.config import load_settings, silence_tracing

    model = ChosenModel(load_settings(), lambda event: None)
    if model.is_local:
        return Check("model server", OK, "")
    silence_tracing()
    model.llm.load()
    notes = model.take_notes()
    return Check("model server", WARN if notes else OK, " ".join((model.choice, *notes)))


def _sqlite() -> Check:
    with closing(sqlite3.connect(":memory:")) as database:
        try:
            database.execute("CREATE VIRTUAL TABLE probe USING fts5(text)")
        except sqlite3.OperationalError as error:
            why = f"SQLite {sqlite3.sqlite_version} lacks FTS5 ({error})"
            return Check("sqlite", FAIL, why, "use a Python from python.org, your distribution or conda")
    return Check("sqlite", OK, f"{sqlite3.sqlite_version} with FTS5")


def _cache() -> Check:
    from agent.paths import cache_dir

    path = cache_dir()
    mode = stat.S_IMODE(path.stat().st_mode)
    if not os.access(path, os.W_OK | os.X_OK):
        return Check(
            "cache", FAIL, f"{show_path(path)} cannot be written to", f"chmod u+rwx {show_path(path)}"
        )
    if mode & 0o077:
        return Check(
            "cache",
            WARN,
            f"others may read {show_path(path)} (mode {mode:04o})",
            f"chmod 700 {show_path(path)}",
        )
    free = size_text(shutil.disk_usage(path).free)
    return Check("cache", OK, f"{show_path(path)}, private, {free} free")


def _compiler() -> Check:
    from agent.hardware import find_compiler

    found = find_compiler()
    if found is None:
        remedy = (
            "xcode-select --install"
            if sys.platform == "darwin"
            else "install g++ and make, or use a wheel index"
        )
        return Check("compiler", WARN, "none; only building llama-cpp-python needs one", remedy)
    return Check("compiler", OK, found)


def _llama() -> Check:
    try:
        import llama_cpp
    except ImportError as error:
        return Check(
            "llama.cpp", FAIL, f"llama-cpp-python is not installed ({error})", f"{LLAMA_INSTALL}; {WHEELS}"
        )
    except (OSError, RuntimeError) as error:
        # A wheel for another processor or system library loads no further than this.
        return Check(
            "llama.cpp", FAIL, f"its library cannot be loaded: {error}", f"build it here: {LLAMA_INSTALL}"
        )
    flags = llama_cpp.llama_print_system_info().decode("utf-8", "replace")
    return Check("llama.cpp", OK, f"llama-cpp-python {llama_cpp.__version__}; {' '.join(flags.split())}")


def _gpu() -> Check:
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError):
        return Check("gpu", WARN, "unknown without llama.cpp", LLAMA_INSTALL)
    from chains.models.builds import gpu_build, wheel_command
    from chains.models.measure import gpus

    if llama_cpp.llama_supports_gpu_offload():
        found, unified = gpus()
        cards = ", ".join(f"{gpu.name} with {size_text(gpu.free)} free" for gpu in found)
        shared = ", shared with the CPU" if unified else ""
        if not found:
            return Check(
                "gpu", WARN, "this llama.cpp can use one, but finds none", "look at the GPU's driver"
            )
        return Check("gpu", OK, f"layers can be offloaded: {cards}{shared}")
    kind, seen = gpu_build()
    if kind:
        return Check(
            "gpu", WARN, f"there is {seen}, but llama.cpp was built for the CPU only", wheel_command(kind)
        )
    return Check("gpu", OK, "no offload: a CPU build, and no NVIDIA, AMD or Apple GPU was found")


def _language_model() -> Check:
    from agent import hardware, models, planning
    from agent.config import load_settings
    from chains.models.fit import Wishes, fit

    settings = load_settings()
    directories = [Path(directory) for directory in settings.models_dirs]
    total, available = hardware.memory()
    room = f"memory {size_text(total)}, {size_text(available)} available"
    if settings.model:
        path = models.find(settings.model, directories)
        if path is None:
            text = f"{settings.model!r} is in your settings, but not installed; {room}"
            return Check("language model", FAIL, text, f"agent models pull {settings.model}")
        name, size = settings.model, path.stat().st_size
    else:
        best = models.choose_default(available, directories)
        if best is None:
            text = f"none installed that fits; {room}; the first ask fetches {models.DEFAULT_MODEL}"
            return Check("language model", WARN, text, f"agent models pull {models.DEFAULT_MODEL}")
        path, name, size = best.path, best.name, best.bytes
    planned = planning.subject(
        str(path)
    )  # cut short or no model at all: better told here than by the first question
    machine = planning.machine_of(None, None, whole=False)
    choice = fit(planned.footprint, machine, Wishes(settings.context or 0, kv=settings.kv or ""))
    choice = fit(planned.footprint, machine, Wishes(choice.n_ctx, kv=choice.kv), planning.exactly(planned))
    text = f"{name}, {size_text(size)}; {_use(choice)}; {room}"
    if not choice.fits:
        remedy = "close other programs, or choose a smaller one: agent models list --fits"
        return Check(
            "language model", FAIL if choice.ram.total > total else WARN, f"{text}: it does not fit", remedy
        )
    return Check("language model", OK, "; ".join([text, *choice.notes]))


def _use(choice: Fit) -> str:
    """What the model takes, as llama.cpp counts it."""
    kept, buffer = choice.ram.kv + choice.vram.kv, max(choice.ram.compute, choice.vram.compute)
    return (
        f"window {choice.n_ctx:,}, KV {choice.kv} {size_text(kept)}, compute {size_text(buffer)}, "
        f"{choice.layers_text}, in all {size_text(choice.ram.total + choice.vram.total)}"
    )


def _embedding_model() -> Check:
    from agent import models
    from agent.config import load_settings

    name = load_settings().embedder
    if name != "minilm":
        return Check("embedding model", OK, f"{name}, by your settings")
    if not models.embedder_installed():
        text = "not installed; until it is fetched, search goes by words alone"
        return Check("embedding model", WARN, text, "agent models pull minilm")
    return Check("embedding model", OK, "minilm")


def _repository(repo: Path) -> Check:
    from indexers.git import Repository

    try:
        found = Repository.discover(repo)
    except RepositoryError as error:
        return Check("repository", WARN, error.message, error.remedy)
    return Check("repository", OK, f"{show_path(found.root)}, {found.branch() or 'no branch'}")


def _index(repo: Path) -> Check:
    from agent.api import Agent
    from indexers.git import Repository

    try:
        Repository.discover(repo)
    except RepositoryError:
        return Check("index", OK, "not looked at: no repository here")
    with Agent.open(repo) as agent:
        status = agent.status()
        if not status.chunks:
            return Check("index", WARN, "empty so far", f"agent index --repo {show_path(agent.root)}")
        ok, text = agent.self_test()
    if not ok:
        return Check("index", FAIL, text, f"agent index --rebuild --repo {show_path(status.root)}")
    return Check("index", OK, f"{text}; {status.files:,} files, {status.chunks:,} chunks")


def _show(output: Output, check: Check) -> None:
    styles = {OK: "green", WARN: "yellow", FAIL: "bold red"}
    output.line((f"{check.state:<5}", styles[check.state]), (f"{check.name:<16} ", "bold"), check.text)
    if check.remedy and check.state != OK:
        output.line(f"{'':<22}try: {check.remedy}")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
