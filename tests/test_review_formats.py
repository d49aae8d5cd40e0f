"""What other programs are given: JSON by the published schema, SARIF 2.1.0, GitHub's commands; and what people read."""

from __future__ import annotations

import io
import json
from importlib.resources import files

import jsonschema
import pytest
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as SarifLog
from test_checks import KEY, diff
from test_review import NEW, OLD, Judge, run, said

from agent import review_formats
from agent.commands import review_text
from agent.output import Output
from agent.safe_text import plain
from chains.reviewing.checks.lines import finding
from chains.reviewing.types import Exempt, Reason, ReviewReport, Severity, Suggestion, Unreviewed

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
