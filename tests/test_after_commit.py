"""Reviews after the commit: begun by the hook, told once before the next commit, and over by themselves."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from repos import commit, git, make_repo, write
from test_checks import diff
from test_hook import KEY, agent, environment, no_process_is_left, run_git  # noqa: F401 - fixtures
from test_review import NEW, OLD, Judge, run, said

from agent import after_commit, hooks
from chains.reviewing.types import Outcome
from indexers.git import Repository


def test_a_report_is_told_once(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    repository = Repository.discover(root)
    report = run(diff("a.py", OLD, NEW), judge=Judge(said()))
    after_commit.keep(repository, "1" * 40, report)
    (root / "other").mkdir()
    [told] = after_commit.waiting(repository)
    assert told.findings == report.findings
    assert after_commit.waiting(repository) == []


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
        after_commit.main([bytes(root).hex(), made])
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
