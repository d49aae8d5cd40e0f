"""What people do wrong and machines do to them: one clear message, the right exit code, the index as usable as before.

`tests/test_cli.py` covers how errors are told; here each cause of the first release's list is tried for itself.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.cli import main
from tests.repos import git, make_repo
from tests.tiny_gguf import LLAMA_VOCAB, build

FINE, KNOWN, BUSY, INTERRUPTED = 0, 2, 75, 130
AGENT = [sys.executable, "-c", "import sys; from agent.cli import main; sys.exit(main())"]
SOURCE = {
    "src/retry.py": "def retry_call(fn, attempts=5):\n    for attempt in range(attempts):\n        try:\n"
    '            return fn()\n        except OSError:\n            pass\n    raise RuntimeError("gave up")\n',
    "src/config.py": "def load_config(path):\n    return open(path).read()\n",
}
QUESTION = "How does retry_call work?"


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    def told(self, *words: str) -> None:
        """One message with these words in it and a remedy, no traceback."""
        assert "Traceback" not in self.err + self.out
        assert self.err.count("error: ") == 1 and self.err.count("try: ") == 1, self.err
        for word in words:
            assert word in self.err, self.err


Run = Callable[..., Ended]


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """No embedding model, and no network to fetch one or anything else over."""
    for name, value in {
        "AGENT_EMBEDDER": "hash",
        "HF_HUB_OFFLINE": "1",
        "PIP_NO_INDEX": "1",
        "PIP_INDEX_URL": "http://127.0.0.1:9",
        "PIP_CONFIG_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return Ended(code, shown.out, shown.err)

    return run


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", SOURCE)


def process(*arguments: str | Path, cwd: Path | None = None, **variables: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).parent.parent)
    return subprocess.Popen(
        [*AGENT, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": root, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(child: subprocess.Popen[str]) -> Ended:
    out, err = child.communicate(timeout=60)
    return Ended(child.returncode, out, err)


# -- the repository ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["index"], ["search", "x"], ["ask", "x"], ["chat"], ["status"]])
def test_no_repository(command: list[str], run: Run, tmp_path: Path) -> None:
    found = run(*command, "--repo", tmp_path)
    assert found.code == KNOWN
    found.told(f"{tmp_path} is not in a git repository", "git init")


def test_a_file_a_bare_repository_and_nothing_at_all(run: Run, repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    for place, words in (
        (repo / "src" / "retry.py", "is a file"),
        (tmp_path / "bare.git", "bare repository"),
        (tmp_path / "missing", "does not exist"),
    ):
        found = run("index", "--repo", place)
        assert found.code == KNOWN
        found.told(words)


def test_a_directory_deleted_underneath(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = "import os, sys; os.rmdir(os.getcwd()); from agent.cli import main; sys.exit(main(['index']))"
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=gone,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == KNOWN
    Ended(done.returncode, done.stdout, done.stderr).told("current directory no longer exists", "--repo")


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "the repository has no files"),
        ({"a.bin": b"\x00\x01\x02", "b.png": b"\x89PNG\x00"}, "every file was skipped (2 binary)"),
    ],
)
def test_nothing_to_index_is_no_error_but_is_told(
    files: dict[str, bytes | str], why: str, run: Run, tmp_path: Path
) -> None:
    place = make_repo(tmp_path / "bare", files)
    for command in (["index"], ["search", "retry"], ["status"]):
        found = run(*command, "--repo", place)
        assert found.code == FINE
        if command != ["status"]:
            assert f"Nothing is indexed: {why}" in found.err


def test_no_commit_yet(run: Run, tmp_path: Path) -> None:
    place = make_repo(tmp_path / "new")
    (place / "a.py").write_text("def first_words():\n    return 1\n")
    assert run("index", "--repo", place).code == FINE
    assert "a.py:1-2" in run("search", "first_words", "--repo", place).out
    assert "no commit yet" in run("status", "--repo", place).out


def test_odd_files_are_skipped_with_their_reasons(run: Run, tmp_path: Path) -> None:
    place = make_repo(
        tmp_path / "odd",
        {
            **SOURCE,
            "huge.py": "x = 1\n" * 200_000,
            "data.bin": bytes(range(256)) * 8,
            "latin.py": "# caf\xe9\ndef cafe_latin():\n    return 1\n".encode("latin-1"),
            "wide.py": "def wide_text():\n    return 1\n".encode("utf-16"),
        },
    )
    os.mkfifo(place / "pipe.py")
    found = run("index", "-v", "--repo", place)
    assert found.code == FINE and "too large" in found.out and "binary" in found.out
    for name in ("cafe_latin", "wide_text", "retry_call"):
        assert f"def {name}" in run("search", name, "-k", "1", "--repo", place).out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_skipped(run: Run, repo: Path) -> None:
    (repo / "src" / "config.py").chmod(0)
    found = run("index", "-v", "--repo", repo)
    assert found.code == FINE and "unreadable" in found.out and "src/config.py" in found.out


# -- the command line -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], "frobnicate"),
        (["search", "x", "-k", "0"], "-k"),
        (["search", "x", "-k", "many"], "-k"),
        (["search", ""], "The query is empty"),
        (["search", " \t\n "], "The query is empty"),
        (["search", "x", "--lang", "pyhton"], "Did you mean python?"),
        (["search", "x", "--path", "src/[ab"], "[ without its ]"),
        (["ask", " \n "], "The question is empty"),
        (["ask", "x" * 50_000], "50,000 characters"),
        (["ask", "x", "--context-tokens", "255"], "--context-tokens"),
        (["ask", "x", "--bogus"], "--bogus"),
        (["ask"], "QUESTION"),
    ],
)
def test_wrong_arguments(arguments: list[str], words: str, run: Run, repo: Path) -> None:
    found = run(*arguments, *(["--repo", str(repo)] if len(arguments) > 1 else []))
    assert found.code == KNOWN
    found.told(words)


LONG = 50_000
QUERIES = {
    "one character": "x",
    "one digit": "7",
    "punctuation": "?!()[]{}",
    "quotes": "\"retry' `call",
    "operators of the keyword index": 'NEAR("retry" call, 2) AND (path:src* OR NOT ^body) -x +y {a b} : "',
    "SQL": "'; DROP TABLE chunks; --",
    "German": "Wo werden Wiederholungen eingestellt und geprüft?",
    "Chinese": "如何配置重试次数",
    "Arabic": "أين يتم ضبط إعادة المحاولة",
    "emoji": "🎉🎉",
    "terminal escapes": "\x1b[2J\x1b]0;x\x07 retry_call",
    "an odd byte": "retry_call \udce9",
    "a symbol that is not there": "NoSuchSymbolAnywhere",
    "a path that is not there": "src/nowhere/none.py:12",
    "a stack trace": '  File "src/retry.py", line 4, in retry_call\n    return fn()\n' * 40,
    "50 KB of one letter": "x" * LONG,
    "50 KB of one word": "retry " * (LONG // 6),
    "50 KB of names": " ".join(f"someName{n}" for n in range(LONG // 12)),
    "50 KB of one name": "camelCase" * (LONG // 9),
    "50 KB of code": SOURCE["src/retry.py"] * (LONG // len(SOURCE["src/retry.py"])),
    "50 KB of Chinese": "配置" * (LONG // 6),
    "50 KB of quotes": '"' * LONG,
}


@pytest.mark.parametrize("name", QUERIES)
def test_no_query_is_too_odd(name: str, run: Run, repo: Path) -> None:
    assert run("index", "--repo", repo).code == FINE
    started = time.process_time()
    for more in ([], ["--explain"], ["--json"]):
        found = run("search", *more, "--repo", repo, "--", QUERIES[name])
        assert found.code == FINE and "Traceback" not in found.out + found.err, found.err
        assert not set("\x1b\x07") & set(found.out + found.err)
        if more == ["--json"]:
            assert isinstance(json.loads(found.out)["hits"], list)
        else:
            assert ("nothing found" in found.err) != bool(re.search(r"^src/\w+\.py:\d+-\d+", found.out, re.M))
    assert time.process_time() - started < 10
    assert "src/retry.py" in run("search", "retry_call", "--repo", repo).out


@pytest.mark.parametrize(
    "name", ["terminal escapes", "an odd byte", "a stack trace", "50 KB of one word", "50 KB of code"]
)
def test_what_is_known_is_found_in_whatever_it_is_wrapped(name: str, run: Run, repo: Path) -> None:
    found = run("search", "-k", "1", "--repo", repo, "--", QUERIES[name])
    assert found.out.startswith("src/retry.py:1-")


@pytest.mark.parametrize(
    "name", ["one character", "punctuation", "emoji", "50 KB of one letter", "50 KB of quotes"]
)
def test_what_says_nothing_finds_nothing_by_keywords(
    name: str, run: Run, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_EMBEDDER", "none")
    found = run("search", "--repo", repo, "--", QUERIES[name])
    assert (found.code, found.out, found.err) == (FINE, "", "nothing found\n")


def test_a_repository_of_one_file(run: Run, tmp_path: Path) -> None:
    place = make_repo(tmp_path / "one", {"only.py": "def only_one():\n    return 1\n"})
    assert run("search", "only_one", "--repo", place).out.startswith("only.py:1-2")
    assert run("search", "only", "-k", "1000", "--path", "*.py", "--repo", place).out.startswith(
        "only.py:1-2"
    )
    found = run("search", "only_one", "--path", "!only.py", "--repo", place)
    assert (found.code, found.out) == (FINE, "") and "nothing found" in found.err


# -- the model --------------------------------------------------------------------------------------


def _cut(path: Path) -> None:
    build(path, layers=1)
    os.truncate(path, 1_000_000)


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("cut.gguf", _cut, "is cut short"),
        ("head.gguf", lambda path: path.write_bytes(b"GGUF\x03\x00\x00\x00\x05"), "inside its header"),
        ("text.gguf", lambda path: path.write_text("I am a shopping list.\n"), "is not a GGUF file"),
        ("empty.gguf", lambda path: path.touch(), "is empty"),
        ("old.gguf", lambda path: path.write_bytes(b"lmgg" + bytes(64)), "old GGML format"),
        ("older.bin", lambda path: path.write_bytes(b"tjgg\x03" + bytes(64)), "old GGJT format"),
        ("dir.gguf", lambda path: path.mkdir(), "is a directory"),
        ("pipe.gguf", os.mkfifo, "is not a regular file"),
        ("link.gguf", lambda path: path.symlink_to("nowhere"), "There is no model file"),
        ("vocabulary.gguf", lambda path: path.symlink_to(LLAMA_VOCAB), "no weights"),
    ],
)
def test_what_is_no_model(
    name: str, make: Callable[[Path], object], words: str, run: Run, repo: Path, tmp_path: Path
) -> None:
    make(tmp_path / name)
    found = run("ask", QUESTION, "--repo", repo, "--model", tmp_path / name)
    assert found.code == KNOWN and found.out == ""
    found.told(words, "agent models list")
    assert "src/retry.py" in run("search", "retry_call", "--repo", repo).out


def test_doctor_and_chat_tell_of_a_broken_model_too(
    run: Run, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_text("I am a shopping list.\n")
    monkeypatch.setenv("AGENT_MODEL", str(broken))
    found = run("doctor", "--repo", repo)
    assert found.code == KNOWN and f"{broken} is not a GGUF file" in found.out
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{QUESTION}\n/quit\n"))
    found = run("chat", "--repo", repo)
    assert found.code == KNOWN
    found.told("is not a GGUF file")


def test_no_model_and_no_network(run: Run, repo: Path) -> None:
    found = run("ask", QUESTION, "--repo", repo)
    assert found.code == KNOWN
    found.told("Neither the model hub", "--model FILE")
    assert "src/retry.py" in run("search", "retry_call", "--repo", repo).out


def test_search_goes_on_without_embedder_and_network(
    run: Run, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENT_EMBEDDER")
    found = run("index", "--repo", repo)
    assert found.code == FINE and "searching by keywords only" in found.err
    assert "src/retry.py" in run("search", "retry_call", "--repo", repo).out


def test_no_model_at_all_may_be_downloaded(run: Run, repo: Path) -> None:
    found = run("ask", QUESTION, "--repo", repo, "--no-download")
    assert found.code == KNOWN
    found.told("is not installed", "agent models pull")


@pytest.mark.model
def test_budgets_larger_than_the_window(run: Run, repo: Path, tiny_codellama: Path) -> None:
    asked = ("ask", QUESTION, "--repo", repo, "--model", tiny_codellama)
    found = run(*asked, "--context-tokens", "1000000", "--max-tokens", "3")
    assert found.code == FINE and "src/retry.py" in found.out
    found = run(*asked, "--max-tokens", "1000000")
    assert found.code == KNOWN
    found.told("context window", "lower --max-tokens")


@pytest.mark.model
def test_a_window_too_small_for_any_question(run: Run, repo: Path, tmp_path: Path) -> None:
    small = build(tmp_path / "small.gguf", context_length=256)
    found = run("ask", QUESTION, "--repo", repo, "--model", small, "--max-tokens", "5")
    assert found.code == KNOWN
    found.told("context window has 256", "a model with a larger context")


@pytest.mark.model
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to know what is used already")
def test_too_little_memory_to_load(repo: Path, tmp_path: Path) -> None:
    large = build(tmp_path / "large.gguf", width=1_024, heads=16, kv_heads=16)
    root = str(Path(__file__).parent.parent)
    # What Python and its libraries map, and less than the weights on top of it.
    script = (
        "import resource, sys, llama_cpp, langchain_core.language_models, chains.llm\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (150 << 20), used + (150 << 20)))\n"
        "from agent.cli import main; sys.exit(main())"
    )
    assert large.stat().st_size > 200 << 20
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", script, "ask", QUESTION, "--repo", str(repo), "--model", str(large)],
            env={**os.environ, "PYTHONPATH": root, "AGENT_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        # glibc itself aborts where a thread begins at the very moment when nothing is left; no program can catch that.
        if "thread-local data" not in done.stderr:
            break
    assert done.returncode == KNOWN, done.stderr
    Ended(done.returncode, done.stdout, done.stderr).told("memory", "smaller model")


# -- where state is kept ----------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "deep/er"])
def test_a_file_where_the_home_should_be(
    below: str, run: Run, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "occupied").write_text("mine\n")
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "occupied" / below))
    for command in (["search", "x"], ["index"]):
        found = run(*command, "--repo", repo)
        assert found.code == KNOWN
        found.told("cannot be used", str(tmp_path / "occupied"), "AGENT_HOME")
    assert (tmp_path / "occupied").read_text() == "mine\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written(run: Run, repo: Path, agent_home: Path) -> None:
    assert run("index", "--repo", repo).code == FINE
    for directory in [agent_home, *agent_home.rglob("*")]:
        directory.chmod(directory.stat().st_mode & ~0o222)
    (repo / "src" / "new.py").write_text("def brand_new():\n    return 1\n")
    try:
        found = run("search", "brand_new", "--repo", repo)
    finally:
        for directory in [agent_home, *sorted(agent_home.rglob("*"))]:
            directory.chmod(directory.stat().st_mode | 0o200)
    assert found.code == KNOWN
    found.told("AGENT_HOME")
    assert "src/new.py" in run("search", "brand_new", "--repo", repo).out


# -- streams and signals ----------------------------------------------------------------------------


def shell(line: str, variables: Mapping[str, str] | None = None) -> Ended:
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root, "PY": sys.executable, **(variables or {})}
    agent = 'agent() { "$PY" -c "import sys; from agent.cli import main; sys.exit(main())" "$@"; }\n'
    done = subprocess.run(
        ["bash", "-c", agent + line], env=environment, capture_output=True, text=True, timeout=60
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def test_a_reader_that_leaves(run: Run, repo: Path) -> None:
    assert run("index", "--repo", repo).code == FINE
    found = shell(f"agent search retry_call --repo '{repo}' | head -n 1; exit ${{PIPESTATUS[0]}}")
    assert (found.code, found.err) == (FINE, "") and "src/retry.py" in found.out


@pytest.mark.parametrize(
    ("redirection", "arguments", "code"),
    [
        (">&-", "search retry_call", FINE),
        ("2>&-", "search retry_call", FINE),
        (">&- 2>&- <&-", "search retry_call", FINE),
        ("<&-", "ask -", KNOWN),
        ("2>&-", "search ''", KNOWN),
    ],
)
def test_started_without_streams(redirection: str, arguments: str, code: int, repo: Path) -> None:
    found = shell(f"cd '{repo}' && agent {arguments} {redirection}")
    assert found.code == code and "Traceback" not in found.err and "bug" not in found.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_streams_that_lead_to_a_full_disk(repo: Path) -> None:
    found = shell(f"agent search retry_call --repo '{repo}' >/dev/full")
    assert found.code == KNOWN
    found.told("No space left")
    assert shell(f"agent search '' --repo '{repo}' 2>/dev/full").code == KNOWN


def test_ctrl_c_while_indexing_counts_only_what_was_kept(run: Run, tmp_path: Path) -> None:
    files = 400
    body = "\n".join(f"def f_{n}(value):\n    return value * {n}\n" for n in range(30))
    place = make_repo(tmp_path / "many", {f"m{n}.py": f"# {n}\n{body}" for n in range(files)})
    child = process("index", "--repo", place)
    ledgers = Path(os.environ["AGENT_HOME"]) / "cache" / "index"
    deadline = time.monotonic() + 30
    while not list(ledgers.glob("*/ledger.sqlite-wal")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.4)
    child.send_signal(signal.SIGINT)
    found = ended(child)
    assert found.code == INTERRUPTED and "interrupted" in found.err and "Traceback" not in found.err
    if "files" in found.out:
        kept = int(found.out.split("indexed")[0].split()[-1].replace(",", ""))
        assert kept % 64 == 0 or kept == files, "a batch that was rolled back is not reported as kept"
    again = run("index", "--repo", place)
    assert again.code == FINE and "interrupted" not in again.err
    assert "f_7" in run("search", "f_7", "-k", "1", "--repo", place).out


@pytest.mark.model
def test_ctrl_c_while_the_prompt_is_read(run: Run, repo: Path, smollm_gguf: Path) -> None:
    assert run("index", "--repo", repo).code == FINE
    long = " ".join(["How does retry_call work?"] * 550)
    child = process("ask", long, "--repo", repo, "--model", smollm_gguf, AGENT_THREADS="1")
    time.sleep(4)
    assert child.poll() is None, "the prompt takes longer to read than that"
    asked = time.monotonic()
    child.send_signal(signal.SIGINT)
    found = ended(child)
    assert (found.code, found.out) == (INTERRUPTED, "") and "interrupted" in found.err
    assert "Traceback" not in found.err and time.monotonic() - asked < 10
    assert "src/retry.py" in run("search", "retry_call", "--repo", repo).out


def test_two_at_once(run: Run, tmp_path: Path) -> None:
    place = make_repo(tmp_path / "many", {f"m{n}.py": f"def f_{n}():\n    return {n}\n" for n in range(150)})
    children = [process("index", "--repo", place), process("index", "--rebuild", "--repo", place)]
    for found in [ended(child) for child in children]:
        assert found.code in (FINE, BUSY) and "Traceback" not in found.err
    again = run("index", "--repo", place)
    assert again.code == FINE and "150 kept" in again.out
    assert "m77.py" in run("search", "f_77", "-k", "1", "--repo", place).out
