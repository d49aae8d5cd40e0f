"""`Agent.write` and the commands: proposals are shown, applied when told and allowed, undone; a killed one is ended."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import chains.writing.apply
from agent import Agent
from agent.cli import main
from agent.commands.write import confirmed, show_proposal, show_stages, show_trace
from agent.config import load_settings
from agent.output import Output
from agent.paths import edits_dir
from agent.writing import ChecksFailed, Proposal
from chains.search.query import asks_for_code
from chains.types import REPEATED, Answer
from chains.writing.apply import ChangedError
from chains.writing.edits import Edit, Kind
from chains.writing.journal import Journal
from chains.writing.policy import Concern, PolicyError
from chains.writing.types import Check, Stage
from indexers.errors import AgentError, UsageError
from indexers.git import Repository
from tests.repos import git, make_repo, write
from tests.test_api import ScriptedModel


class NamedModel(ScriptedModel):
    """The scripted model under the name that a facade tells."""

    label: str = "scripted"


FILES = {
    "src/pause.py": "import time\n\n\ndef pause(seconds):\n    time.sleep(seconds)\n",
    "src/retry.py": "from .pause import pause\n\n\ndef retry(call):\n    pause(1)\n    return call()\n",
    "notes.md": "# Notes\n\nAbout pauses and retries.\n",
    "conftest.py": "collect_ignore = []\n",
}
LONGER = "def pause(seconds):\n    time.sleep(2 * seconds)\n```"
BROKEN = "def pause(seconds:\n```"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "r", FILES)


def opened(root: Path, *script: str) -> Agent:
    agent = Agent.open(root, settings=replace(load_settings(root, {}), embedder="hash"))
    agent.model._llm = NamedModel(script=script)  # type: ignore[assignment]
    return agent


def read(root: Path, path: str = "src/pause.py") -> str:
    return (root / path).read_text()


def test_a_proposal_is_applied_and_undone(root: Path) -> None:
    with opened(root, LONGER) as agent:
        index = (root / ".git/index").read_bytes()
        proposal = agent.write("Make `pause` twice as long")
        assert proposal.passed and "+    time.sleep(2 * seconds)\n" in proposal.diff and proposal.rounds == 1
        assert read(root) == FILES["src/pause.py"]
        proposal.apply()
        assert "2 * seconds" in read(root)
        assert (root / ".git/index").read_bytes() == index
        with pytest.raises(ChangedError):
            proposal.apply()
        assert agent.undo().request == "Make `pause` twice as long"
        assert read(root) == FILES["src/pause.py"] and git(root, "status", "--porcelain") == b""


def test_what_is_found_by_searching_is_edited_and_read_as_a_source(root: Path) -> None:
    choice = "change retry in src/retry.py:4-6\ndone"
    twice = "def retry(call):\n    pause(1)\n    pause(1)\n    return call()\n```"
    with opened(root, choice, twice) as agent:
        proposal = agent.write("pause once more before the call is made again")
        assert [edit.path for edit in proposal.edits] == ["src/retry.py"]
        assert "src/pause.py" in {source.path for source in proposal.sources}


def test_stages_come_one_by_one(root: Path) -> None:
    with opened(root, BROKEN, LONGER) as agent:
        *stages, proposal = agent.writing("Make `pause` twice as long", rounds=2)
        assert isinstance(proposal, Proposal) and proposal.rounds == 2
        names = [stage.name for stage in stages if isinstance(stage, Stage)]
        assert names == ["retrieve", "choose", "draft", "check", "repair", "check", "propose"]


def test_what_fails_its_checks_is_not_applied_unless_told(root: Path) -> None:
    with opened(root, BROKEN) as agent:
        proposal = agent.write("Make `pause` twice as long", rounds=1)
        with pytest.raises(ChecksFailed, match="parses"):
            proposal.apply()
        assert read(root) == FILES["src/pause.py"]
        proposal.apply(unchecked=True)
        assert read(root) != FILES["src/pause.py"]
        proposal.undo()


def test_a_file_that_runs_later_needs_its_own_yes(root: Path) -> None:
    with opened(root, 'collect_ignore = ["x"]\n```') as agent:
        proposal = agent.write("Change conftest.py so that x is ignored")
        assert proposal.passed and [concern.path for concern in proposal.concerns] == ["conftest.py"]
        with pytest.raises(PolicyError, match="yes of its own") as refused:
            proposal.apply()
        assert (
            "--allow-sensitive" in refused.value.remedy and read(root, "conftest.py") == FILES["conftest.py"]
        )
        proposal.apply(allow_sensitive=True)
        assert '["x"]' in read(root, "conftest.py")


def test_a_file_that_changed_meanwhile_is_left_alone(root: Path) -> None:
    with opened(root, LONGER) as agent:
        proposal = agent.write("Make `pause` twice as long")
        write(root, {"src/pause.py": "mine\n"})
        with pytest.raises(ChangedError):
            proposal.apply()
        assert read(root) == "mine\n"


def test_a_request_about_nothing_here(root: Path) -> None:
    with opened(root, LONGER) as agent:
        proposal = agent.write("kubernetes ingress for grafana dashboards")
        assert (
            proposal.edits == () and "Nothing in this repository" in proposal.reason and not proposal.passed
        )
        with pytest.raises(UsageError, match="nothing to apply"):
            proposal.apply()


@pytest.mark.parametrize("request_", ["", "  \n ", "\0"])
def test_a_request_for_nothing(root: Path, request_: str) -> None:
    with opened(root, LONGER) as agent, pytest.raises(UsageError, match="empty"):
        agent.write(request_)


def test_a_command_that_cannot_be_started_stops_before_anything_else(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[object] = []
    monkeypatch.setattr(NamedModel, "load", loaded.append)
    with opened(root, LONGER) as agent, pytest.raises(UsageError, match="pytset"):
        agent.write("Make `pause` twice as long", test="pytset -q")
    assert loaded == []


def test_what_cannot_be_applied_is_not_proposed(root: Path) -> None:
    write(root, {".gitignore": "ignored.py\n", "ignored.py": "mine\n"})
    with opened(root, LONGER) as agent, pytest.raises(PolicyError, match="a file at ignored.py already"):
        agent.write("Create ignored.py with a greeting", test="true")
    with opened(root, "change pause in src/pause.py:4-5\ndone", LONGER) as agent:
        proposal = agent.write("Remove the unused imports from src/pause.py")
        assert [edit.kind for edit in proposal.edits] == [Kind.REPLACE] and "deleted" not in proposal.diff


def test_a_merge_that_is_under_way_is_named(root: Path) -> None:
    git(root, "checkout", "-q", "-b", "other")
    write(root, {"src/pause.py": FILES["src/pause.py"].replace("seconds", "secs")})
    git(root, "commit", "-qam", "theirs")
    git(root, "checkout", "-q", "main")
    write(root, {"src/pause.py": FILES["src/pause.py"].replace("seconds", "time_")})
    git(root, "commit", "-qam", "ours")
    git(root, "merge", "-q", "other", check=False)
    assert "<<<<<<<" in read(root)
    with opened(root, LONGER) as agent:
        with pytest.raises(UsageError, match=r"src/pause\.py is in conflict"):
            agent.write("Make `pause` in src/pause.py twice as long")
        assert any("a merge is under way" in note for note in agent.notes)


def test_a_bare_repository_is_refused(tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    bare.mkdir()
    git(bare, "init", "-q", "--bare")
    with pytest.raises(AgentError, match="bare"):
        Agent.open(bare)


def test_new_code_cites_what_it_reuses(root: Path) -> None:
    code = "from src.pause import pause\n\n\ndef nap():\n    pause(60)\n```"
    with opened(root, code) as agent:
        *pieces, answer = agent.new_code("a function nap that does pause for a minute")
        assert isinstance(answer, Answer) and "".join(map(str, pieces)) == answer.text == code.removesuffix(
            "```"
        )
        assert [(place.label, place.verified) for place in answer.citations] == [("src/pause.py:4-5", True)]


def test_what_new_code_takes_from_elsewhere_or_only_speaks_of_is_not_cited(root: Path) -> None:
    code = 'from time import pause\n\n\ndef nap():\n    """No pause of ours."""\n    pause(60)\n```'
    with opened(root, code) as agent:
        *_, answer = agent.new_code("a function nap that does pause for a minute")
        assert isinstance(answer, Answer) and answer.citations == ()


def test_a_question_that_wants_code_is_answered_with_a_block_of_it(root: Path) -> None:
    code = "from src.pause import pause\n\n\ndef nap():\n    pause(60)\n"
    with opened(root, f"{code}```") as agent:
        question = "Write a function nap that does pause for a minute"
        *pieces, answer = agent.stream(question)
        assert isinstance(answer, Answer)
        assert "".join(map(str, pieces)) == answer.text == f"```python\n{code}```\n"
        assert [(place.label, place.verified) for place in answer.citations] == [("src/pause.py:4-5", True)]
        assert agent.ask("What does pause do?").text != answer.text


@pytest.mark.parametrize(
    "code",
    [
        "".join(f"def nap_{n}():\n    pause({n})\n\n\n" for n in range(40)),
        "def nap():\n" + "    pause(60)\n" * 40,
    ],
)
def test_new_code_that_goes_round_in_circles_is_stopped_and_shown(root: Path, code: str) -> None:
    with opened(root, f"{code}```") as agent:
        *pieces, answer = agent.new_code("a function nap that does pause for a minute")
        assert isinstance(answer, Answer) and answer.usage.finish_reason == REPEATED
        assert agent.llm.stopped and code.startswith(answer.text.rstrip("\n"))  # type: ignore[attr-defined]
        assert "".join(map(str, pieces)) == answer.text and 8 <= answer.text.count("pause") <= 10
        assert answer.usage.completion_tokens > 0 and answer.citations


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("I need a function that retries", True),
        ("In Python, write a small, fast function to hash a file", True),
        ("implement an LRU cache", True),
        ("Write a @property decorator", True),
        ("write a summary of the test command", False),
        ("Write a docstring for the parse function", False),
        ("Write a test plan", False),
        ("Write tests: where do they live?", False),
        ("write a commit message for this code", False),
        ("I want to understand a method that sends", False),
        ("Write a function that parses dates", True),
        ("please write me a small helper script for backups", True),
        ("can you implement an async context manager for sessions?", True),
        ("Generate unit tests for `Session.send`", True),
        ("Write tests for Session.send", True),
        ("create a pytest fixture", True),
        ("Where is the function that parses dates?", False),
        ("Write the function `load` in a.py anew", False),
        ("How do I write a plugin class?", False),
        ("Write a summary of the session module", False),
        ("create a class diagram", False),
        ("What functions write a file?", False),
    ],
)
def test_which_questions_want_code(question: str, wanted: bool) -> None:
    assert asks_for_code(question) is wanted


def test_a_notebook_shows_the_diff_fenced(root: Path) -> None:
    with opened(root, LONGER) as agent:
        shown = agent.write("Make `pause` twice as long")._repr_markdown_()
        assert shown.startswith("```diff\ndiff --git") and "- parses: yes" in shown


# -- killed ----------------------------------------------------------------------------------------


def test_the_next_command_ends_what_a_killed_one_began(root: Path) -> None:
    with opened(root, LONGER) as agent:
        proposal = agent.write("Make `pause` twice as long")

    def killed(*_: Any) -> None:
        raise SystemExit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chains.writing.apply, "put", killed)
        with pytest.raises(SystemExit):
            proposal.apply()
    assert Journal(edits_dir(Repository.discover(root))).has_pending() and read(root) == FILES["src/pause.py"]
    assert main(["status", "--repo", str(root)]) == 0
    assert "2 * seconds" in read(root)
    assert main(["undo", "--repo", str(root)]) == 0
    assert read(root) == FILES["src/pause.py"]


# -- commands --------------------------------------------------------------------------------------


def proposal_of(**given: Any) -> Proposal:
    edits = (Edit(Kind.REPLACE, "a.py", 1, 1, "x\n", "0" * 40),)
    diff = "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-old\x1b[2J\n+x\n"
    return replace(Proposal("do it", edits, diff, (Check("parses", True),), 1), **given)


def output() -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Output("never", stdout=out, stderr=err), out, err


def test_the_diff_goes_to_stdout_without_what_a_terminal_would_obey() -> None:
    shown, out, err = output()
    checks = (
        Check("parses", True),
        Check("tests", False, "pytest ended with status 1"),
        Check("linter", None),
    )
    show_proposal(shown, proposal_of(checks=checks, concerns=(Concern("conftest.py", "tests run it"),)))
    assert out.getvalue().startswith("diff --git a/a.py") and "\x1b" not in out.getvalue()
    assert "! tests" in err.getvalue() and "conftest.py needs a yes of its own" in err.getvalue()


@pytest.mark.parametrize(
    ("answers", "concerns", "expected"),
    [
        (["y"], (), (True, True)),
        (["n"], (), (False, False)),
        ([""], (), (False, False)),
        (["y", "n"], (Concern("conftest.py", "x"),), (False, False)),
        (["y", "y"], (Concern("conftest.py", "x"),), (True, True)),
        (["y", "y", "n"], (Concern("a", "x"), Concern("b", "x")), (False, False)),
    ],
)
def test_questions_and_answers(
    monkeypatch: pytest.MonkeyPatch,
    answers: list[str],
    concerns: tuple[Concern, ...],
    expected: tuple[bool, bool],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(answers) + "\n"))
    assert confirmed(output()[0], proposal_of(concerns=concerns), False) == expected


def test_stages_are_shown_and_closed_when_interrupted() -> None:
    closed = []

    def stages() -> Iterator[Stage | Proposal]:
        try:
            yield Stage("draft", "change f", 1.0, 3)
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    shown, _, err = output()
    with shown.progress() as progress, pytest.raises(KeyboardInterrupt):
        show_stages(shown, progress, stages())
    assert closed and "draft    change f (1.0 s)" in err.getvalue()


def test_the_trace_has_prompts_and_replies(root: Path) -> None:
    with opened(root, LONGER) as agent:
        proposal = agent.write("Make `pause` twice as long")
    shown, _, err = output()
    show_trace(shown, proposal)
    assert "=== draft: prompt" in err.getvalue() and "time.sleep(2 * seconds)" in err.getvalue()


def test_nothing_to_undo(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["undo", "--repo", str(root)]) == 2
    assert "nothing to undo" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--apply"], ["--files", "*.py"], ["--test", "true"]])
def test_new_takes_no_flags_of_edits(root: Path, flags: list[str]) -> None:
    assert main(["write", "--new", "x", "--repo", str(root), *flags]) == 2


@pytest.mark.model
def test_the_command_line_end_to_end(
    root: Path, smollm_gguf: Path, install_models: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """With a real, tiny model: what needs no thought is done, what may not be done is refused, nothing else changes."""
    install_models(smollm_gguf)
    common = ["--repo", str(root), "--model", "smollm2-135m-instruct"]
    os.environ["AGENT_EMBEDDER"] = "hash"
    before = git(root, "status", "--porcelain")
    assert main(["write", "Delete notes.md", *common]) == 0
    assert "deleted file mode" in capsys.readouterr().out and (root / "notes.md").exists()
    assert main(["write", "Delete notes.md", "--apply", "--json", *common]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["applied"] and told["edits"][0]["kind"] == "delete" and not (root / "notes.md").exists()
    assert main(["undo", "--repo", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["undone"] == ["notes.md"]
    assert (root / "notes.md").read_text() == FILES["notes.md"]
    assert main(["write", "Create ../outside.py", "--apply", *common]) == 2
    assert "not in the repository" in capsys.readouterr().err
    assert main(["write", "Delete conftest.py", "--apply", *common]) == 2
    assert "--allow-sensitive" in capsys.readouterr().err and (root / "conftest.py").exists()
    code = main(["write", "Make `pause` twice as long", "--max-rounds", "1", "--max-tokens", "60", *common])
    assert code in (0, 1) and git(root, "status", "--porcelain") == before


def test_the_help_of_the_new_commands_imports_nothing_heavy() -> None:
    program = "import sys; from agent.cli import main; main(['write', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"langgraph", "langchain_core", "pyflakes", "llama_cpp"} & set(done.stdout.split())
