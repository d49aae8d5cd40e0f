"""The command line as people use it: help, errors and exit codes, and each command on a real repository."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import __version__, cli
from agent.cli import INTERRUPTED, main
from agent.commands import Job, explain
from agent.commands.ask import read_question, show_answer, show_sources, show_steps, show_usage
from agent.commands.chat import as_markdown
from agent.commands.search import MOST_TERMS, best_window, query_terms
from agent.output import Output
from chains.search.query import understand
from chains.types import Answer, Citation, Dropped, Source, Step, Usage
from indexers.errors import BusyError, ModelError, UsageError
from indexers.filters import Filter
from indexers.types import Hit
from tests.repos import git, make_repo, write

ROOT = Path(cli.__file__).parents[1]
HEAVY = set(
    "chromadb torch transformers sentence_transformers langchain langchain_core langgraph llama_cpp "
    "onnxruntime onnx tokenizers numpy huggingface_hub detect_secrets tree_sitter".split()
)
COMMANDS = [
    ["ask"], ["chat"], ["search"], ["map"], ["index"], ["warm"], ["status"], ["doctor"],
    ["models", "list"], ["models", "pull"], ["models", "path"], ["models", "info"],
]  # fmt: skip
PYTHON_FILE = '''"""Fetch pages."""

RETRIES = 3


def fetch_with_retries(url: str) -> bytes:
    """Fetch `url`, waiting longer after each failure."""
    for attempt in range(RETRIES):
        wait(2**attempt)
    raise TimeoutError(url)
'''
AGENT = (sys.executable, "-c", "import sys; from agent.cli import main; sys.exit(main())")
HELP_LIMIT_SECONDS = 0.4


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An own home, an embedder that needs no model, and no settings of the machine that runs the tests."""
    for name in [name for name in os.environ if name.startswith("AGENT_")] + ["NO_COLOR", "FORCE_COLOR"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AGENT_EMBEDDER", "hash")
    monkeypatch.setenv("AGENT_BACKGROUND", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path / "home"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    files = {
        "src/fetch.py": PYTHON_FILE,
        "README.md": "# Demo\n\nIt fetches pages.\n",
        "logo.png": b"\x89PNG\0\0",
    }
    return make_repo(tmp_path / "demo", files)


Ending = Callable[[BaseException], list[str]]


@pytest.fixture
def ending() -> Iterator[Ending]:
    """Gives the command line one more command, which ends with the given error."""
    before = list(cli.app.registered_commands)

    def add(error: BaseException) -> list[str]:
        def run(_: Output) -> int:
            raise error

        cli.app.command("end", hidden=True)(lambda: Job(run))
        return ["end"]

    yield add
    cli.app.registered_commands[:] = before


def spawn(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """`agent` as a process of its own."""
    return subprocess.run(
        [*AGENT, *arguments], input=stdin, capture_output=True, text=True, timeout=120, check=False
    )


# -- help ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_help_is_light(command: list[str]) -> None:
    code = f"""
import sys
from agent.cli import INTERRUPTED, main
code = main({[*command, "--help"]!r})
print("HEAVY", sorted({{name.partition(".")[0] for name in sys.modules}} & {HEAVY!r}))
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: agent")
    assert done.stdout.endswith("HEAVY []\n"), done.stdout
    assert done.stderr == ""


def test_help_is_fast() -> None:
    def seconds() -> float:
        # Processor time, so that what else the machine does is not measured.
        before = os.times()
        assert spawn("--help").returncode == 0
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    taken = [seconds() for _ in range(4)]
    assert min(taken) <= HELP_LIMIT_SECONDS, taken


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_teaches_by_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Example: agent {' '.join(command)}" in shown


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-h"]) == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command[0]} " in shown
    assert "..." not in shown.partition("Commands:")[2], "a command's first line is too long"


@pytest.mark.parametrize("arguments", [[], ["models"], ["--quiet"], ["-q", "models"]])
def test_nothing_typed_is_answered_with_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("Usage: agent")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"agent {__version__}\n"


def test_runs_as_a_module() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "agent", "--version"], capture_output=True, text=True, check=True
    )
    assert told.stdout == f"agent {__version__}\n" and not told.stderr


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said", "remedy"),
    [
        (["serch"], "No such command 'serch'", "agent --help"),
        (["search"], "Missing argument", "agent search --help"),
        (["search", "x", "--colour"], "No such option: --colour", "agent search --help"),
        (["search", "x", "-k", "many"], "'-k'", "agent search --help"),
        (["search", "x", "-k", "0"], "'-k'", "agent search --help"),
        (["ask", "x", "--context-tokens", "3"], "'--context-tokens'", "agent ask --help"),
        (["models", "fetch"], "No such command 'fetch'", "agent models --help"),
        (["--color", "blue", "status"], "'color' in the command line is 'blue'", ""),
        (["ask", " "], "The question is empty", "Ask something: agent ask"),
        (["ask", "x", "--max-steps", "3"], "--max-steps bounds the lookups of --deep", "Add --deep"),
        (["ask", "x", "--deep", "--max-steps", "0"], "'--max-steps'", "agent ask --help"),
        (["ask", "x", "--deep", "--show-prompt"], "--show-prompt shows the prompt without --deep", ""),
        (["ask", "x" * 20_000], "20,000 characters", "Shorten it"),
    ],
)
def test_usage_errors(
    arguments: list[str], said: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert said in shown.err
    assert remedy in shown.err
    assert "Traceback" not in shown.err


def test_no_repository_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["index"], ["search", "x"], ["ask", "x"], ["status"], ["chat"]):
        assert main([*command, "--repo", str(tmp_path)]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("error: ")
        assert "  try: " in shown.err


def test_json_errors_are_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "x", "--json", "--repo", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    told = json.loads(shown.out)["error"]
    assert told["type"] == "RepositoryError"
    assert told["exit_code"] == 2
    assert told["message"] in shown.err.replace("\n", " ")
    assert told["remedy"]
    assert main(["search", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "UsageError"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (BusyError("Busy.", "Wait."), 75, "error: Busy.\n  try: Wait.\n"),
        (ModelError("\x1b[2JNo [bold]model[/bold]."), 2, "error: ⟦U+001B⟧[2JNo [bold]model[/bold].\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (MemoryError(), 2, "error: There is not enough memory.\n  try: Choose a smaller model"),
        (OSError(errno.ENOSPC, "Disk full", "/x"), 2, "error: Disk full: /x\n  try: Free"),
    ],
)  # fmt: skip
def test_known_failures(
    ending: Ending, error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert main(ending(error)) == code
    shown = capsys.readouterr()
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert not home.exists(), "no log is written for what is expected"


class Panic(BaseException):
    """As extension modules raise it: no Exception."""


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), Panic("by zero"), OSError("by zero")])
def test_a_bug_is_told_in_a_line_and_logged(
    ending: Ending, error: BaseException, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(ending(error)) == 70
    shown = capsys.readouterr()
    logs = list((home / "state" / "errors").iterdir())
    assert shown.err == (
        f"error: This is a bug in agent: {type(error).__name__}: by zero\n"
        f"  try: Report it with the traceback in {logs[0]}\n"
    )
    assert len(logs) == 1
    assert stat.S_IMODE(logs[0].stat().st_mode) == 0o600
    assert "Traceback (most recent call last)" in logs[0].read_text()


def test_a_log_holds_no_secret(ending: Ending, home: Path) -> None:
    token = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3gH5"
    assert main(ending(ZeroDivisionError(f"token = '{token}'"))) == 70
    text = next((home / "state" / "errors").iterdir()).read_text()
    assert "ZeroDivisionError" in text
    assert token not in text


def test_a_log_that_cannot_be_written_hides_nothing(
    ending: Ending, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.write_text("in the way")
    assert main(ending(ZeroDivisionError("by zero"))) == 70
    assert "ZeroDivisionError: by zero\n  try: Run it again with --debug" in capsys.readouterr().err


@pytest.mark.parametrize("place", [0, 1])
def test_debug_shows_the_traceback_wherever_it_stands(
    ending: Ending, place: int, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ending(ModelError("No model."))
    arguments.insert(place, "--debug")
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: No model.\n")
    assert "Traceback (most recent call last)" in shown


def test_global_flags_may_stand_anywhere_before_two_dashes() -> None:
    sort = cli._sorted_out
    assert sort(["ask", "x", "-q", "--color", "never"]) == (["-q", "--color", "never"], ["ask", "x"])
    assert sort(["ask", "--color=always", "--", "-q"]) == (["--color=always"], ["ask", "--", "-q"])
    assert sort(["ask", "x", "--color"]) == (["--color"], ["ask", "x"])


@pytest.mark.parametrize("arguments", [["--help"], ["models", "path"], ["status", "--repo", "{repo}"]])
def test_a_reader_who_leaves_early_is_no_error(repo: Path, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = [word.format(repo=repo) for word in arguments]
    process = subprocess.run(
        [*AGENT, *words],
        stdout=writing, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (process.returncode, process.stderr) == (0, b"")


# -- commands --------------------------------------------------------------------------------------


def json_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main([*arguments, "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert isinstance(found, dict)
    return found


def test_index_reports_what_it_did(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "--repo", str(repo), "--verbose"]) == 0
    shown = capsys.readouterr()
    assert "2 indexed, 0 kept, 0 removed, 1 skipped" in shown.out
    assert "1  binary\n" in shown.out
    assert "logo.png" in shown.out
    report = json_of(["index", "--repo", str(repo)], capsys)
    assert (report["indexed"], report["vectors_embedded"]) == (0, 0)
    assert report["kept"] >= 2  # type: ignore[operator]
    assert report["skipped"] == [
        {"path": "logo.png", "reason": "binary", "detail": report["skipped"][0]["detail"]}
    ]  # type: ignore[index]
    git(repo, "rm", "-q", "README.md")
    assert json_of(["index", "--repo", str(repo)], capsys)["removed"] == 1
    assert json_of(["index", "--rebuild", "--repo", str(repo)], capsys)["indexed"] == 1


def test_search_points_at_lines(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "fetch retries", "--repo", str(repo), "-k", "1"]) == 0
    shown = capsys.readouterr()
    head, *excerpt = shown.out.splitlines()
    assert head.startswith("src/fetch.py:")
    lines = PYTHON_FILE.split("\n")
    numbered = [line.split(maxsplit=1) for line in excerpt if line.strip()]
    assert any("def fetch_with_retries" in line for line in excerpt)
    for number, text in (pair for pair in numbered if len(pair) == 2):
        assert lines[int(number) - 1].strip() == text.strip()


def test_search_as_json(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of(["search", "fetch_with_retries", "--repo", str(repo)], capsys)
    assert list(found) == ["query", "hits", "absent", "index"]
    first = found["hits"][0]  # type: ignore[index]
    assert set(first) == {
        "path", "start_line", "end_line", "score", "language", "scope", "symbols", "text", "signals", "similarity",
    }  # fmt: skip
    assert first["path"] == "src/fetch.py"
    assert "fetch_with_retries" in first["text"]


def test_search_explains_scores(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["search", "how does fetch_with_retries wait?", "--explain", "--no-tests", "--repo", str(repo)]
    assert main(asked) == 0
    query, tokens, names, only, empty, *rest = capsys.readouterr().out.split("\n")
    assert (query, names, only, empty) == (
        "query   sentence", "names   fetch_with_retries", "only    --no-tests", "",
    )  # fmt: skip
    assert tokens.startswith("tokens  fetch_with_retries fetch ")
    found = json_of(asked, capsys)
    assert found["explain"] == {
        "kind": "sentence",
        "tokens": tokens.split()[1:],
        "names": ["fetch_with_retries"],
        "filter": {"paths": [], "languages": [], "tests": False},
    }
    first = found["hits"][0]  # type: ignore[index]
    assert rest[0].startswith(f"src/fetch.py:{first['start_line']}-{first['end_line']}  {first['score']:.3f}")
    table = dict(line.split()[:2] for line in rest[1 : len(first["signals"]) + 3])
    assert table == {
        **{name: f"{value:+.3f}" for name, value in first["signals"].items()},
        "score": f"{first['score']:.3f}",
        "similarity": f"{first['similarity']:.3f}",
    }
    assert "explain" not in json_of(["search", "retries", "--repo", str(repo)], capsys)


def test_search_looks_only_where_it_is_told_to(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(repo, {"tests/test_fetch.py": "def test_fetch_pages():\n    assert fetch_with_retries('')\n"})

    def found(*flags: str) -> set[str]:
        told = json_of(["search", "fetch pages", "--repo", str(repo), *flags], capsys)
        return {hit["path"] for hit in told["hits"]}  # type: ignore[attr-defined]

    assert found() == {"src/fetch.py", "tests/test_fetch.py", "README.md"}
    assert found("--no-tests") == {"src/fetch.py", "README.md"}
    assert found("--path", "src/**", "--path", "*.md") == {"src/fetch.py", "README.md"}
    assert found("--path", "!src/", "--lang", "py") == {"tests/test_fetch.py"}
    assert found("--lang", "markdown", "--lang", "go") == {"README.md"}
    assert main(["search", "fetch pages", "--repo", str(repo), "--path", "nowhere/"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "warning: No indexed file passes --path 'nowhere/'\nnothing found\n"


@pytest.mark.parametrize("command", [["search", "x"], ["ask", "x"], ["chat"]], ids=" ".join)
def test_every_command_that_reads_takes_the_same_filters(
    command: list[str], repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flags, said, remedy in (
        (["--lang", "pyhton"], "There is no language 'pyhton'.", "Did you mean python?"),
        (["--path", "src/[ab"], "'src/[ab' has a [ without its ].", r"--path 'app/\[id\]/**'"),
        (
            ["--path", "../other"],
            "'../other' has a part that is no name",
            "relative to the top of the repository",
        ),
        (["--path", ""], "'' names no files", "relative to the top of the repository"),
    ):
        assert main([*command, "--repo", str(repo), *flags]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert said in shown.err
        assert remedy in shown.err


def test_names_that_stand_nowhere_are_told(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "fetch_without_retries", "--repo", str(repo)]) == 0
    shown = capsys.readouterr()
    assert shown.err == "fetch_without_retries: nowhere in the index; shown is what comes nearest\n"
    assert "src/fetch.py:" in shown.out


def test_finding_nothing_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = make_repo(tmp_path / "small", {"a.py": "x = 1\n"})
    assert main(["search", "anything", "--repo", str(small)]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "nothing found\n")


def test_status_tells_freshness(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--repo", str(repo)]) == 0
    assert "none yet: agent index" in capsys.readouterr().out
    # A file read in the tick it was written in counts as changed, as it may be written once more in it.
    time.sleep(2.1)
    assert main(["index", "--repo", str(repo)]) == 0
    capsys.readouterr()
    assert main(["status", "--repo", str(repo)]) == 0
    assert "fresh, written" in capsys.readouterr().out
    write(repo, {"new.py": "x = 1\n"})
    found = json_of(["status", "--repo", str(repo)], capsys)
    assert (found["files"], found["stale"], found["branch"]) == (2, True, "main")


def test_hostile_names_and_contents_reach_nobody_raw(tmp_path: Path) -> None:
    name = os.fsdecode(b"ev\x1b]0;owned\x07il\n\xe9.py")
    hostile = make_repo(tmp_path / "hostile", {name: "needle = 1  # \x1b[2J \u202e \x9b31m [bold]\n"})
    for command in (["search", "needle"], ["index", "--rebuild", "-v"], ["search", "needle", "--json"]):
        done = spawn(*command, "--repo", str(hostile), "--color", "never")
        assert done.returncode == 0, done.stderr
        for stream in (done.stdout, done.stderr):
            assert not any(char in stream for char in "\x1b\x07\x9b\u202e"), repr(stream)
    assert (
        "⟦U+001B⟧]0;owned⟦U+0007⟧il\\n\\xe9.py:1-1"
        in spawn("search", "needle", "--repo", str(hostile)).stdout
    )


def test_doctor_gives_a_remedy_for_what_fails(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--repo", str(repo), "--json"])
    found = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in found["checks"]}
    assert code == (0 if found["ok"] else 2)
    assert found["ok"] == all(check["state"] != "fail" for check in checks.values())
    assert {"git", "sqlite", "cache", "compiler", "llama.cpp", "gpu", "index"} <= set(checks)
    assert all(check["remedy"] for check in checks.values() if check["state"] != "ok")
    assert checks["index"]["state"] == "warn"
    assert main(["index", "--repo", str(repo), "-q"]) == 0
    capsys.readouterr()
    main(["doctor", "--repo", str(repo)])
    line = next(line for line in capsys.readouterr().out.splitlines() if " index " in line)
    assert line.startswith("ok")
    assert "found by their own text" in line


def test_doctor_sees_an_open_cache(repo: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["status", "--repo", str(repo)])
    (home / "cache").chmod(0o777)
    capsys.readouterr()
    assert main(["doctor", "--repo", str(repo)]) == 2
    shown = capsys.readouterr().out
    assert f"try: Close it: chmod go-w {home / 'cache'}" in shown


def test_models_without_any_installed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "path"]) == 0
    assert capsys.readouterr().out == f"{home / 'models'}\n"
    found = json_of(["models", "list"], capsys)
    assert found["installed"] == []
    assert any(entry["name"] == "qwen2.5-coder-0.5b-instruct" for entry in found["available"])  # type: ignore[attr-defined]
    assert main(["models", "path", "no-such-model"]) == 2
    assert "agent models list" in capsys.readouterr().err
    assert main(["models", "path", "qwen2.5-coder-0.5b-instruct"]) == 2
    assert "agent models pull qwen2.5-coder-0.5b-instruct" in capsys.readouterr().err


def test_models_info_reads_a_header(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    vocabulary = ROOT / "tests" / "fixtures" / "ggml-vocab-llama-spm.gguf"
    assert json_of(["models", "info", str(vocabulary)], capsys)["architecture"] == "llama"
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    assert main(["models", "info", str(tmp_path / "broken.gguf")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_no_model_and_no_download_is_explained(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "How are pages fetched?", "--no-download", "--repo", str(repo)]) == 2
    shown = capsys.readouterr()
    assert "agent models pull" in shown.err
    assert shown.out == ""


def test_ctrl_c_ends_a_deep_answer_between_its_steps(
    repo: Path, tiny_codellama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_MODEL", str(tiny_codellama))
    monkeypatch.setenv("AGENT_THREADS", "1")
    question = "How does fetch_with_retries fetch pages?"
    process = subprocess.Popen(
        [*AGENT, "ask", question, "--repo", str(repo), "--deep", "--max-tokens", "3000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == f'search "{question}" -> 2 sources\n'
    time.sleep(0.5)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("interrupted\n")
    assert "Traceback" not in err
    assert time.monotonic() - sent < 20


def test_ctrl_c_while_indexing_keeps_what_is_done(tmp_path: Path, home: Path) -> None:
    files = {
        f"m{n}.py": "".join(f"def f{n}_{i}(value):\n    return value + {i}\n\n\n" for i in range(120))
        for n in range(150)
    }
    large = make_repo(tmp_path / "large", files)
    process = subprocess.Popen(
        [*AGENT, "index", "--repo", str(large)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    # Something has been kept by now, and the whole work takes several seconds.
    while not any(log.stat().st_size > 100_000 for log in home.glob("cache/index/*/ledger.sqlite-wal")):
        assert process.poll() is None, "the work ended before it could be interrupted"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert spawn("index", "--repo", str(large)).returncode == 0
    assert "m149.py" in spawn("search", "f149_7", "--repo", str(large), "-k", "3").stdout


# -- with a model ----------------------------------------------------------------------------------


@pytest.fixture
def model(smollm_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A real engine with a bad answerer behind it, kept short."""
    monkeypatch.setenv("AGENT_MODEL", str(smollm_gguf))
    monkeypatch.setenv("AGENT_MAX_TOKENS", "12")
    monkeypatch.setenv("AGENT_CONTEXT_TOKENS", "300")
    return smollm_gguf


@pytest.mark.model
def test_ask_as_json_is_one_object(repo: Path, model: Path) -> None:
    done = spawn("ask", "How are pages fetched with retries?", "--repo", str(repo), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert set(answer) == {
        "text", "citations", "sources", "dropped", "usage", "model", "found", "unverified", "index", "steps", "costs",
        "preview",
    }  # fmt: skip
    assert answer["steps"] == []
    assert answer["found"]
    assert answer["text"]
    assert "src/fetch.py" in {source["path"] for source in answer["sources"]}
    assert all(source["tokens"] > 0 for source in answer["sources"])
    assert answer["usage"]["completion_tokens"] <= 12 < answer["usage"]["prompt_tokens"]
    assert answer["model"] == model.stem
    assert done.stderr == ""


@pytest.mark.model
def test_a_deep_answer_shows_its_steps(repo: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENT_CONTEXT_TOKENS")
    question = "How does fetch_with_retries fetch pages?"
    done = spawn("ask", question, "--repo", str(repo), "--deep", "--max-steps", "2", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["text"]
    assert answer["steps"][0]["tool"] == "search"
    assert answer["steps"][0]["arguments"] == {"query": question}
    assert 1 <= len(answer["steps"]) <= 2
    assert {label for step in answer["steps"] for label in step["sources"]} == {
        f"{s['path']}:{s['start_line']}-{s['end_line']}" for s in answer["sources"]
    }
    lines = done.stderr.splitlines()
    assert lines[0] == f'search "{question}" -> {answer["steps"][0]["outcome"]}'
    assert len(lines) == len(answer["steps"])


@pytest.mark.model
def test_ask_keeps_the_answer_and_the_rest_apart(repo: Path, model: Path) -> None:
    loud = spawn("ask", "-", "--repo", str(repo), stdin="How are pages fetched with retries?\n")
    assert loud.returncode == 0, loud.stderr
    assert "src/fetch.py:" in loud.stdout
    assert f"{model.stem}: " in loud.stderr
    assert "tokens read" not in loud.stdout
    quiet = spawn("ask", "How are pages fetched with retries?", "--repo", str(repo), "--quiet")
    assert quiet.stdout == loud.stdout
    assert "tokens read" not in quiet.stderr


@pytest.mark.model
def test_the_prompt_is_shown_without_running_the_model(repo: Path, model: Path) -> None:
    done = spawn("ask", "How are pages fetched with retries?", "--repo", str(repo), "--show-prompt")
    assert done.returncode == 0, done.stderr
    assert "def fetch_with_retries" in done.stdout
    assert "Question: How are pages fetched with retries?" in done.stdout


@pytest.mark.model
def test_what_is_not_there_is_not_invented(repo: Path, model: Path) -> None:
    done = spawn("ask", "zebra xylophone quantum", "--repo", str(repo), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["found"], answer["citations"], answer["sources"]) == (False, [], [])


@pytest.mark.model
def test_a_chat_from_a_pipe(repo: Path, model: Path, tmp_path: Path) -> None:
    saved = tmp_path / "chat.md"
    lines = [
        "How are pages fetched with retries?",
        "/sources",
        f"/save {saved}",
        "/nope",
        "/reset",
        "/sources",
        "/quit",
    ]
    done = spawn("chat", "--repo", str(repo), stdin="\n".join([*lines, "never asked"]))
    assert done.returncode == 0, done.stderr
    assert "> How are pages fetched with retries?\n" in done.stdout
    assert done.stdout.count("src/fetch.py:") >= 2
    assert saved.read_text().startswith("# Chat about demo\n\n## How are pages fetched with retries?\n")
    assert "There is no command /nope." in done.stderr
    assert "There is no answer yet." in done.stderr
    assert "never asked" not in done.stdout


# -- parts -----------------------------------------------------------------------------------------


def test_query_terms() -> None:
    assert query_terms("where are the HTTPRetries of max_retry?") == (
        "httpretries", "httpretrie", "http", "retries", "retrie", "max_retry", "max", "retry",
    )  # fmt: skip
    assert query_terms("") == ()


def test_best_window_holds_most_of_the_terms() -> None:
    lines = ["", "alpha", "", "", "", "", "", "", "alpha beta", "", ""]
    start, end = best_window(lines, ("alpha", "beta"), 3)
    assert start <= 8 < end
    assert end - start == 3
    assert best_window(lines, (), 3) == (0, 3)
    assert best_window(["one"], ("x",), 3) == (0, 1)


def test_query_terms_of_a_pasted_file_are_few() -> None:
    assert len(query_terms(" ".join(f"word{n}" for n in range(5_000)))) == MOST_TERMS
    assert len(query_terms("_".join(f"word{n}" for n in range(5_000)))) == MOST_TERMS


SIGNALS = {"fused": 0.75, "definition": 1.5, "path": -0.375, "brand_new_signal": 0.001}
HITS = (
    Hit("a.py", 1, 2, "", 1.876, signals=SIGNALS, similarity=0.25),
    Hit("b.py", 1, 2, "", 0.5, signals={"fused": 0.5}),
    Hit("c.py", 1, 2, "", 0.0),
)


def test_signals_are_a_table_of_whatever_there_is() -> None:
    out, _ = shown(lambda output: [explain.show_signals(output, hit, HITS) for hit in HITS])
    assert out.split("\n") == [
        "  fused              +0.750  ++++++++++++",
        "  definition         +1.500  ++++++++++++++++++++++++",
        "  path               -0.375  ------",
        "  brand_new_signal   +0.001  +",
        "  score               1.876",
        "  similarity          0.250  cosine to the query",
        "  fused              +0.500  ++++++++",
        "  score               0.500",
        "  score               0.000",
        "",
    ]


def test_signals_are_coloured_by_their_sign() -> None:
    out = io.StringIO()
    explain.show_signals(Output("always", stdout=out, stderr=io.StringIO()), HITS[0], HITS)
    gained, lost = out.getvalue().split("\n")[0], out.getvalue().split("\n")[2]
    assert "\x1b[32m+++" in gained
    assert "\x1b[31m---" in lost


def test_a_query_of_many_tokens_is_told_in_short() -> None:
    read = understand(" ".join(f"word{n}" for n in range(50)))
    out, _ = shown(lambda output: explain.show_query(output, read, Filter()))
    first, tokens, *rest = out.split("\n")
    assert first == "query   sentence" or first == "query   long"
    assert tokens.startswith("tokens  word0 ") and tokens.endswith(" others")
    assert rest == ["", ""]


def shown(call: Callable[[Output], object]) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call(Output("never", stdout=out, stderr=err))
    return out.getvalue(), err.getvalue()


ANSWER = Answer(
    text="It retries [src/fetch.py:6-10].",
    citations=(
        Citation("src/fetch.py", 6, 10, True),
        Citation("README.md", 1, 2, False, "`retry` is not there"),
        Citation("src/fetch.py", 6, 10, True),
    ),
    sources=(
        Source("src/fetch.py", 1, 10, "", 80),
        Source("README.md", 1, 3, "", 20),
        Source("a\nb.py", 1, 2, "", 9),
    ),
    dropped=(Dropped("x.py:1-2", 900),),
    usage=Usage(120, 100, 30, 0.5, 2.5, "length"),
    model="tiny",
    unverified=("back_off",),
)


def test_sources_are_marked_by_what_was_found() -> None:
    out, err = shown(lambda output: (show_sources(output, ANSWER), show_usage(output, ANSWER)))
    assert out == (
        "\nCitations\n  + src/fetch.py:6-10  verified\n"
        "  ! README.md:1-2  not verified: `retry` is not there\n"
        "Also read\n  - a\\nb.py:1-2\nIn no source: back_off\n"
    )
    assert "--max-tokens" in err
    assert "1 source did not fit" in err
    assert "tiny: 120 tokens read (100 from cache), 30 written, 2.5 s, first token after 0.5 s" in err


def test_an_answer_is_shown_as_it_comes_and_ends_the_stream() -> None:
    def pieces() -> Iterator[str | Answer]:
        yield "It \x1b"
        yield "[2Jretries."
        yield ANSWER

    def show(output: Output) -> None:
        with output.progress() as progress:
            assert show_answer(output, progress, pieces()) is ANSWER

    assert shown(show) == ("It ⟦U+001B⟧[2Jretries.\n", "")


def test_steps_are_shown_as_they_come_and_nothing_hostile_with_them() -> None:
    closed = []

    def items() -> Iterator[Step | str | Answer]:
        try:
            yield Step("search", {"query": 'say "\x1b[2J"\nso'}, "2 sources")
            yield Step("read", {"path": "x" * 300, "start": 3, "end": None}, "no such file")
            yield "It retries."
            yield ANSWER
        finally:
            closed.append(True)

    def show(output: Output) -> None:
        with output.progress() as progress:
            assert show_answer(output, progress, show_steps(output, progress, items())) is ANSWER

    out, err = shown(show)
    assert out == "It retries.\n"
    assert err == (
        'search "say \\"\\u001b[2J\\"\\nso" -> 2 sources\n' + f'read "{"x" * 99}… 3 null -> no such file\n'
    )
    assert closed == [True]


def test_a_stream_is_closed_when_its_reader_leaves() -> None:
    closed = []

    def pieces() -> Iterator[str | Answer]:
        try:
            yield "one"
            yield "two"
        finally:
            closed.append(True)

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    output = Output("never", stdout=Gone(), stderr=io.StringIO())
    with output.progress() as progress, pytest.raises(BrokenPipeError):
        show_answer(output, progress, pieces())
    assert closed == [True]


def test_a_question_may_be_piped_in(monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output("never", stdout=io.StringIO(), stderr=io.StringIO())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b" why \xff?\n"), encoding="utf-8"))
    assert read_question(output, "-") == "why \ufffd?"
    assert read_question(output, "caf\udce9") == "caf?"
    with pytest.raises(UsageError):
        read_question(output, "\n")


def test_a_conversation_as_markdown() -> None:
    assert as_markdown("demo", [("how\nso?", ANSWER)]) == (
        "# Chat about demo\n\n## how so?\n\nIt retries [src/fetch.py:6-10].\n\nSources:\n\n"
        "- `src/fetch.py:6-10` (verified)\n- `README.md:1-2` (not verified)\n"
    )


def test_ctrl_c_before_the_command_line_is_there() -> None:
    code = (
        "import builtins, sys\n"
        "usual = builtins.__import__\n"
        "def interrupted(name, *more):\n"
        "    if name == 'typer': raise KeyboardInterrupt\n"
        "    return usual(name, *more)\n"
        "builtins.__import__ = interrupted\n"
        "from agent.__main__ import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, "", "interrupted\n")
