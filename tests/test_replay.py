"""History as a test of the reviewer: which commits count, what a threshold lets through, how sure figures are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from repos import commit, git, make_repo, write

from agent.calibration import Calibration, calibration_of, keep
from agent.cli import main
from agent.review_model import options_of
from chains.reviewing.replay import Judged, cases, interval, judged, threshold_for
from chains.reviewing.types import Finding, Severity
from indexers.git import Repository
from indexers.history import commits


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    root = make_repo(tmp_path / "r", {"a.py": "x = 1\ny = 1\n", "test_a.py": "t = 1\n", "README.md": "x\n"})
    for message, files in (
        ("Fix the sign", {"a.py": "x = 2\ny = 1\n"}),
        ("Fix typo in docs", {"a.py": "x = 2\ny = 1\n# word\n"}),
        ("Add z", {"a.py": "x = 2\ny = 1\n# word\nz = 1\n"}),
        ("Fix a test", {"test_a.py": "t = 2\n"}),
        ("Fixes #3: crash on zero", {"a.py": "x = 3\ny = 1\n# word\nz = 1\n"}),
        ("Rework everything", {"a.py": "".join(f"v{n} = {n}\n" for n in range(90))}),
    ):
        write(root, files)
        commit(root, message)
    return Repository.discover(root)


def test_fixes_are_taken_back_and_others_are_harmless(repository: Repository) -> None:
    found = list(cases(repository, repository.head() or "", 10, 10))
    faults = [case for case in found if case.is_fault]
    assert [case.commit.subject for case in faults] == ["Fixes #3: crash on zero", "Fix the sign"]
    assert [case.commit.subject for case in found if not case.is_fault] == ["Add z"]
    [file] = faults[0].files
    assert file.before is not None and file.before.startswith("x = 3") and file.hunks[0].added == ("x = 2",)
    assert len(list(cases(repository, repository.head() or "", 1, 0))) == 1


def test_messages_are_read_as_they_were_written(repository: Repository) -> None:
    subjects = [item.subject for item in commits(repository, "HEAD", 3)]
    assert subjects == ["Rework everything", "Fixes #3: crash on zero", "Fix a test"]
    git(repository.root, "commit", "-q", "--allow-empty", "-F", "-", check=False)


def test_a_finding_near_the_fault_hits(repository: Repository) -> None:
    case = next(case for case in cases(repository, repository.head() or "", 1, 0))

    def at(line: int, probability: float | None = 0.7) -> Finding:
        return Finding("a.py", line, Severity.LOW, "logic", "x", probability=probability)

    assert judged(case, [at(4)]) == Judged(True, 0.7, True)
    assert judged(case, [at(9)]) == Judged(True, 0.7, False)
    assert judged(case, []) == Judged(True, 0.0, False)
    assert judged(case, [at(1, None)]).probability == 1.0


def test_the_threshold_lets_one_harmless_commit_in_twenty_through() -> None:
    harmless = [Judged(False, n / 100, False) for n in range(40)]
    threshold = threshold_for(harmless)
    assert sum(item.probability >= threshold for item in harmless) == 2
    assert threshold_for([Judged(False, 0.0, False)] * 20) == 0.0
    assert threshold_for([Judged(False, 0.9, False)] * 3) > 0.9
    assert threshold_for([Judged(False, 1.0, False)] * 3) > 1.0


def test_intervals_say_how_little_a_few_trials_tell() -> None:
    assert interval(0, 0) == (0.0, 1.0)
    low, high = interval(8, 10)
    assert low == pytest.approx(0.490, abs=1e-3) and high == pytest.approx(0.943, abs=1e-3)
    assert interval(0, 20)[0] == 0.0 and interval(0, 20)[1] == pytest.approx(0.161, abs=1e-3)


def test_only_a_model_that_was_mostly_right_may_stop_a_commit(repository: Repository) -> None:
    right = Calibration(0.7, faults=20, found=5, harmless=20, alarmed=1)
    keep(repository, "some/model", right)
    assert calibration_of(repository, "some/model") == right and calibration_of(repository, "other") is None
    assert options_of(right).most is Severity.HIGH and options_of(right).verify == 0.7
    silent = Calibration(0.0, faults=20, found=0, harmless=20, alarmed=0)
    hardly_tried = Calibration(0.0, faults=2, found=2, harmless=2, alarmed=0)
    for found in (silent, hardly_tried, None):
        assert options_of(found).most is Severity.MEDIUM


def test_a_small_model_reads_a_hunk_alone_and_is_asked_twice_only_after_a_calibration() -> None:
    calibrated = Calibration(0.7, faults=20, found=5, harmless=20, alarmed=1)
    large, small = options_of(None), options_of(None, small=True)
    assert (large.verify, large.context_chars) == (0.5, 1_600)
    assert (small.verify, small.context_chars) == (None, 0)
    after = options_of(calibrated, small=True)
    assert (after.verify, after.context_chars, after.most) == (0.7, 0, Severity.HIGH)


@pytest.mark.model
def test_calibrating_replays_history_and_keeps_what_it_found(
    repository: Repository,
    smollm_gguf: Path,
    install_models: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    install_models(smollm_gguf)
    asked = ["review", "--calibrate", "--last", "4", "--repo", str(repository.root)]
    assert main([*asked, "--model", "smollm2-135m-instruct", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["calibration"]["faults"] == 2 and told["calibration"]["harmless"] == 1
    kept = calibration_of(repository, told["model"])
    assert kept is not None and json.loads(Path(told["kept_in"]).read_text()) == told["calibration"]
    assert main([*asked, "--model", "smollm2-135m-instruct"]) == 0
    said = capsys.readouterr().out
    assert "recall: " in said and "95 % interval" in said and "threshold: " in said and "stay advice" in said
