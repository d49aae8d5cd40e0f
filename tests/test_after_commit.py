"""Reviews after the commit: begun by the hook, told once before the next commit, and over by themselves."""

from __future__ import annotations

import io
import subprocess
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from repos import commit, git, make_repo, write
from test_checks import KEY as SECRET
from test_checks import diff
from test_hook import KEY, agent, environment, no_process_is_left, run_git  # noqa: F401 - fixtures
from test_review import NEW, OLD, Judge, run, said

from agent import after_commit, hooks
from agent.commands import hook
from agent.output import Output
from chains.reviewing.types import Outcome
from indexers.git import Repository
from indexers.locks import locked


def test_a_report_is_told_once(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    repository = Repository.discover(root)
    report = run(diff("a.py", OLD, NEW), judge=Judge(said()))
    after_commit.keep(repository, "1" * 40, report)
    (root / "other").mkdir()
    [told] = after_commit.waiting(repository)
    assert told.findings == report.findings
    assert after_commit.waiting(repository) == []


def test_no_report_is_lost_and_the_gravest_are_told_in_full(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    repository = Repository.discover(root)
    found = run(diff("a.py", OLD, NEW), judge=Judge(said()))
    for number in range(8):
        after_commit.keep(repository, f"{number}" * 40, replace(found, title=f"commit {number}"))
    blocking = run(diff("k.py", "", f'key = "{SECRET}"\n'))
    after_commit.keep(repository, "8" * 40, replace(blocking, title="commit 8"))
    for number in (9, 10):
        after_commit.keep(repository, f"{number}", replace(found, findings=(), title=f"commit {number}"))
    (after_commit._directory(repository) / "damaged.json").write_text("{")
    out = io.StringIO()
    hook._tell_waiting(Output(stdout=out, stderr=out), repository)
    text = out.getvalue()
    assert text.count(", made before:") == 5 and "Of commit 8, made before:" in text
    for number in range(4, 8):
        assert f"See: agent review --commit {number}\n" in text
    assert "See: agent review --commit damaged" in text
    assert "Nothing found in 2 commits more, made before." in text
    assert not list(after_commit._directory(repository).glob("*.json"))


def test_one_worker_reviews_what_waits_and_a_rebase_starts_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    repository = Repository.discover(root)
    started: list[object] = []

    def begin(command: object, **_: object) -> subprocess.CompletedProcess[bytes]:
        started.append(command)
        return subprocess.CompletedProcess([], 0)

    monkeypatch.setattr(
        after_commit, "subprocess", SimpleNamespace(run=begin, DEVNULL=None, TimeoutExpired=OSError)
    )
    monkeypatch.setenv("AGENT_REVIEW_MODEL", "none")
    made = []
    for number in range(3):
        write(root, {"a.py": f"x = 1{number}\n"})
        made.append(commit(root))
        if number == 2:
            (repository.git_dir / "rebase-merge").mkdir()
        with locked(after_commit._lock(repository)) if number else nullcontext():
            assert after_commit.start(repository)
    assert len(started) == 1
    gone = git(root, "commit-tree", "-m", "amended", "HEAD^{tree}").decode().strip()
    after_commit.enqueue(repository, gone)
    broken = made.pop(0)
    path = after_commit._queue(repository) / f"{broken}.waits"
    path.rename(path.with_suffix(".begun"))
    with locked(after_commit._lock(repository)):
        monkeypatch.setattr(after_commit, "_LOCK_SECONDS", 0.1)
        after_commit.main([bytes(root).hex()])
        assert len(after_commit._waiting_commits(repository)) == 4
    after_commit.main([bytes(root).hex()])
    reports = after_commit.waiting(repository)
    assert [report.title for report in reports] == [f"commit {item[:10]}" for item in (broken, *made)]
    assert "broken off" in reports[0].unreviewed[0].detail and not reports[1].unreviewed
    assert not after_commit._waiting_commits(repository)


@pytest.mark.parametrize("own_process", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_is_found_after_a_commit_is_told_at_the_next_one(
    tmp_path: Path,
    environment: dict[str, str],  # noqa: F811
    own_process: bool,
) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    repository = Repository.discover(root)
    stages = [hooks.PRE_COMMIT, *([hooks.POST_COMMIT] if own_process else [])]
    hooks.install(repository, stages, ["--background"], shared=False)
    write(root, {"a.py": "x = 2\n"})
    assert run_git(root, environment, "commit", "-q", "-a", "-m", "one").returncode == 0
    made = git(root, "rev-parse", "HEAD").decode().strip()
    if not own_process:
        after_commit.enqueue(repository, made)
        after_commit.main([bytes(root).hex()])
    for _ in range(1_000):
        # A process that gives way to every other may take long on a busy machine.
        if list(after_commit._directory(repository).glob("*.json")):
            break
        time.sleep(0.1)
    write(root, {"a.py": KEY})
    done = run_git(root, environment, "commit", "-a", "-m", "two")
    assert done.returncode == 1 and f"commit {made[:10]}, made before" in done.stderr
    assert "[secret]" in done.stderr
    assert "made before" not in run_git(root, environment, "commit", "-a", "-m", "two").stderr


@pytest.mark.model
def test_a_real_model_keeps_the_deadline_and_the_form(smollm_gguf: Path, tmp_path: Path) -> None:
    """SmolLM2 reviews badly; what is under test is everything around it."""
    from agent.config import Settings
    from agent.review import Request, reports

    root = make_repo(tmp_path / "r", {"a.py": OLD})
    write(root, {"a.py": NEW})
    git(root, "add", "-A")
    repository = Repository.discover(root)
    # One thread: two that wait for each other stand still on a busy machine.
    settings = Settings(review_model=str(smollm_gguf), threads=1)
    *_, report = reports(repository, settings, Request(deadline=200.0))
    assert report.outcome in (Outcome.CLEAN, Outcome.FINDINGS), report
    assert report.model and all(item.by_model for item in report.reviewed)
    assert all(item.line in (2, 6) for item in report.findings)
    *_, again = reports(repository, settings, Request(deadline=200.0))
    assert again.cached == 2 and again.findings == report.findings
    commit(root, "done")
    started = time.monotonic()
    write(root, {f"f{n}.py": OLD.replace("first", f"first{n}") for n in range(40)})
    git(root, "add", "-A")
    *_, late = reports(repository, settings, Request(deadline=3.0))
    assert time.monotonic() - started < 30 and late.outcome is Outcome.NOT_REVIEWED


@pytest.mark.model
def test_the_likelihood_of_words_is_a_share(smollm_gguf: Path) -> None:
    import threading

    from langchain_core.messages import HumanMessage

    from chains.engine.likelihood import odds
    from chains.llm import LlamaCpp

    model = LlamaCpp(model_path=str(smollm_gguf), n_ctx=2_048)
    asked = [HumanMessage("Say yes.")]
    found = model.next_probabilities(asked, ("Yes", "No", "yes", "no"))
    assert found is not None and all(0.0 <= share <= 1.0 for share in found.values())
    assert sum(found.values()) <= 1.0 + 1e-6
    assert model.next_probabilities(asked, ("Yes", "No", "yes", "no")) == pytest.approx(found, abs=1e-3)
    cancel = threading.Event()
    cancel.set()
    assert model.next_probabilities([HumanMessage("Another one. " * 300)], ("yes",), cancel) is None
    assert odds({"yes": 0.2, "no": 0.6}, ("yes",), ("no",)) == pytest.approx(0.25)
    assert odds({}, ("yes",), ("no",)) is None
    model.close()


@pytest.mark.model
def test_a_model_too_small_to_review_is_taken_only_where_it_is_named(
    smollm_gguf: Path, tmp_path: Path, install_models: Callable[..., None]
) -> None:
    from agent.config import Settings
    from agent.review_model import ReviewModelFile, installed
    from chains.review import Verdict

    install_models(smollm_gguf)
    unasked = installed(Settings(), None)
    assert isinstance(unasked, Verdict) and "too small to review" in unasked.detail
    for named in (
        installed(Settings(), "smollm2-135m-instruct"),
        installed(Settings(model=str(smollm_gguf)), None),
    ):
        assert isinstance(named, ReviewModelFile) and named.path.samefile(smollm_gguf)
        assert named.small
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"no GGUF at all")
    assert not ReviewModelFile(damaged, Settings()).small


def test_with_background_only_checks_run_before_the_commit(
    tmp_path: Path,
    environment: dict[str, str],  # noqa: F811
) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    repository = Repository.discover(root)
    named = {**environment, "AGENT_REVIEW_MODEL": "no-such-model"}
    hooks.install(repository, [hooks.PRE_COMMIT], [], shared=False)
    write(root, {"a.py": "x = 2\n"})
    assert "no-such-model" in run_git(root, named, "commit", "-a", "-m", "one").stderr
    hooks.uninstall(repository)
    hooks.install(repository, [hooks.PRE_COMMIT], ["--background"], shared=False)
    write(root, {"a.py": "x = 3\n"})
    done = run_git(root, named, "commit", "-a", "-m", "two")
    assert done.returncode == 0 and "no-such-model" not in done.stderr, done.stderr
