"""What other programs are given: JSON by the published schema, SARIF 2.1.0, GitHub's commands; and what people read."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as SarifLog
from repos import git, make_repo, write
from test_checks import KEY, diff
from test_review import NEW, OLD, Judge, run, said

from agent import Agent, review_formats
from agent.cli import main
from agent.commands import review, review_text
from agent.output import Output
from agent.review import Request
from agent.safe_text import plain
from chains.reviewing.checks.lines import finding
from chains.reviewing.types import Exempt, Reason, ReviewReport, Severity, Suggestion, Unreviewed
from indexers.errors import UsageError

ODD = "caf\udce9 %:,\n.py"


def reports() -> dict[str, ReviewReport]:
    lost = tuple(Unreviewed("b.py", 3, 9, reason, "why") for reason in Reason)
    suggested = run(diff("a.py", OLD, NEW), judge=Judge(said(suggestion="return values[0]")))
    return {
        "nothing": run(),
        "clean": run(diff("a.py", OLD, NEW), judge=Judge()),
        "blocked": run(diff(ODD, "", f'key = "{KEY}"\n')),
        "model": suggested,
        "lost": ReviewReport("x", unreviewed=(*lost, Unreviewed("c", 0, 0, Reason.CONFLICT)), strict=True),
        "beside": ReviewReport(
            "x",
            exempt=(Exempt("a.png", "binary (NUL at byte 4)"),),
            rejected={"said twice": 2},
            notes=("a note",),
        ),
    }


def schema() -> dict[str, object]:
    found: dict[str, object] = json.loads(files("agent").joinpath(review_formats.SCHEMA_FILE).read_text())
    return found


@pytest.mark.parametrize("name", reports())
def test_json_keeps_to_the_published_schema(name: str) -> None:
    report = reports()[name]
    data = json.loads(json.dumps(plain(review_formats.as_object(report))))
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(data, schema())
    assert data["exit_code"] == report.exit_code and data["outcome"] == report.outcome.value


def test_the_schema_refuses_what_it_does_not_know() -> None:
    data = json.loads(json.dumps(plain(review_formats.as_object(run()))))
    for wrong in (
        {**data, "more": 1},
        {**data, "outcome": "passed"},
        {k: v for k, v in data.items() if k != "notes"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema())


@pytest.mark.parametrize("name", reports())
def test_sarif_is_sarif(name: str) -> None:
    report = reports()[name]
    text = json.dumps(plain(review_formats.as_sarif(report, "1.0")))
    log = SarifLog.model_validate_json(text)
    [found] = log.runs
    assert len(found.results or []) == len(report.findings)
    [invocation] = found.invocations or []
    assert invocation.executionSuccessful is (not report.unreviewed)
    rules = {rule.id for rule in found.tool.driver.rules or []}
    assert {result.ruleId for result in found.results or []} == rules
    assert KEY not in text


def test_sarif_names_files_as_uris_and_findings_by_content() -> None:
    one, two = (
        review_formats.as_sarif(run(diff("a b.py", "", f'{head}key = "{KEY}"\n')), "1")["runs"][0]["results"][
            0
        ]
        for head in ("", "\n\n")
    )
    assert one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a%20b.py"
    assert one["partialFingerprints"] == two["partialFingerprints"] and one["locations"] != two["locations"]
    assert review_formats.uri(ODD) == "caf%E9%20%25%3A%2C%0A.py"


def test_sarif_says_what_it_leaves_out() -> None:
    file = diff("a.py", "", "x = 1\n")
    many = (finding(file, 1, Severity.LOW, "debug", "x"),) * (review_formats.MOST_RESULTS + 5)
    log = review_formats.as_sarif(ReviewReport("x", findings=many), "1")["runs"][0]
    assert len(log["results"]) == review_formats.MOST_RESULTS
    assert "5 results more" in log["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"]


def test_githubs_commands_cannot_be_broken_out_of() -> None:
    file = diff(ODD, "", "x = 1\n")
    item = finding(file, 1, Severity.HIGH, "debug", "two\nlines %::error::")
    [line] = review_formats.github_lines(ReviewReport("x", findings=(item,)))
    assert "\n" not in line and "two%0Alines %25::error::" in line
    assert line.startswith("::error file=caf") and "%3A%2C%0A.py,line=1" in line


def test_githubs_runner_sees_no_command_that_is_not_ours() -> None:
    names = ("::stop-commands::tok", " ::error::x", "a##[error]x", "\u3000::add-mask::e")
    lost = tuple(Unreviewed(name, 0, 0, Reason.MISSING) for name in names)
    file = diff("::a.py", "", "x = 1\n")
    item = finding(file, 1, Severity.HIGH, "debug", "::error::x")
    report = ReviewReport("::x", findings=(item,), unreviewed=lost, notes=("a\n ::group::x",))
    out = io.StringIO()
    review.show(Output(stdout=out, stderr=out), report, "github")
    lines = out.getvalue().splitlines()
    assert len([line for line in lines if "stop-commands" in line]) == 2
    ours = [line for line in lines if line.lstrip().startswith("::")]
    assert len(ours) == 5 and all(line.startswith(("::error file=", "::warning file=")) for line in ours)
    assert "##[" not in "".join(line for line in lines if line not in ours)


def shown(report: ReviewReport) -> str:
    out = io.StringIO()
    review_text.show(Output(stdout=out, stderr=io.StringIO()), report)
    return out.getvalue()


def test_people_are_never_told_that_what_was_not_read_is_fine() -> None:
    for name, report in reports().items():
        text = shown(report)
        assert ("Nothing found in" in text) == (name == "clean"), name
        assert ("Not reviewed" in text) == bool(report.unreviewed), name
        assert KEY not in text
    assert "NOT REVIEWED in full" in shown(reports()["lost"])
    assert "Nothing to review" in shown(reports()["beside"]) and "1 binary" in shown(reports()["beside"])
    assert "(model, 90% sure)" in shown(reports()["model"]) and "+     return values[0]" in shown(
        reports()["model"]
    )


def test_a_suggestion_is_a_fix_in_sarif() -> None:
    [result] = review_formats.as_sarif(reports()["model"], "1")["runs"][0]["results"]
    [change] = result["fixes"][0]["artifactChanges"]
    assert change["replacements"][0]["insertedContent"]["text"] == "    return values[0]\n"
    assert isinstance(reports()["model"].findings[0].suggestion, Suggestion)


# --- the command around it ---------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path, agent_home: Path) -> Path:
    """A repository with a key staged; the checks alone read it."""
    agent_home.mkdir(parents=True, exist_ok=True, mode=0o700)
    (agent_home / "config.toml").write_text('review_model = "none"\nreview_deadline = 300\n')
    path = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    write(path, {"a.py": f'key = "{KEY}"\n'})
    git(path, "add", "a.py")
    return path


@pytest.mark.parametrize("form", [["--json"], ["--format", "json"], ["--format=json"], ["--format", "sarif"]])
def test_an_error_is_an_object_for_whoever_reads_objects(
    root: Path, capsys: pytest.CaptureFixture[str], form: list[str]
) -> None:
    assert main(["review", "--repo", str(root), "--commit", "nope", *form]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "UsageError"
    assert main(["review", "--repo", str(root), "--commit", "nope", "--format", "github"]) == 2
    assert not capsys.readouterr().out


@pytest.mark.parametrize("seconds", ["inf", "nan", "1e12", "0.5", "-inf"])
def test_a_deadline_that_is_none_is_a_wrong_argument(
    root: Path, capsys: pytest.CaptureFixture[str], seconds: str
) -> None:
    assert main(["review", "--repo", str(root), "--deadline", seconds]) == 2
    assert "bug" not in capsys.readouterr().err
    with pytest.raises(UsageError, match="deadline"):
        Request(deadline=float(seconds))


def test_what_contradicts_itself_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for other in (["--commit", "HEAD"], ["--range", "HEAD..HEAD"], ["--diff", "-"]):
        assert main(["review", "--repo", str(root), "--staged", *other]) == 2
    assert main(["review", "--repo", str(root), "--accept", "--format", "sarif"]) == 2
    capsys.readouterr()


def test_what_is_accepted_is_told_as_json_too(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = root / "accepted.json"
    for repo, paths in ((root, ["a.py"]), (make_repo(root.with_name("e"), {"b.py": "y = 1\n"}), [])):
        assert main(["review", "--repo", str(repo), "--accept", "--json", "--baseline", str(listed)]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [item["path"] for item in told["accepted"]] == paths
        assert told["kept_in"] == (str(listed) if paths else None)


def test_a_librarys_review_keeps_its_deadline_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: object) -> Iterator[ReviewReport]:
        time.sleep(60)
        yield ReviewReport("never")

    with Agent.open(root) as agent:
        assert agent.review().blocking
        with pytest.raises(UsageError, match="no commit"):
            agent.review(commit="nope")
        monkeypatch.setenv("AGENT_REVIEW_MODEL", "none")
        assert "no-such-model" in str(agent.review(model="no-such-model").unreviewed)
        # A thread of some test before this one would make it run here.
        monkeypatch.setattr("agent.guard.is_alone", lambda: True)
        monkeypatch.setattr("agent.review.reports", endless)
        started = time.monotonic()
        assert agent.review(deadline=1.0).unreviewed
        assert time.monotonic() - started < 30
