"""The measures that the benchmarks report, on cases worked out by hand, and the two scripts on small repositories."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from answer_scores import Repository, files_in, gold_names, names_in, paths_in, score
from answers import (
    Item,
    exactly,
    gaps,
    kept_rows,
    label,
    measures,
    points,
    read_questions,
    report,
    sampled,
    summary,
    verified,
)
from reporting import table
from repos import make_repo
from retrieval import ablations
from scores import Interval, Place, budget_recall, gap_closed, ndcg, overlaps, paired

BENCHMARKS = Path(__file__).parent / "benchmarks"
FIRST, SECOND, THIRD = (1 / math.log2(rank + 1) for rank in (1, 2, 3))


def place(path: str, start: int = 1, end: int = 10, chars: int = 400) -> Place:
    return Place(path, start, end, chars)


# -- order ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "target", "expected"),
    [
        (place("src/a.py"), Place("src/a.py"), True),
        (place("a.py"), Place("src/a.py"), True),
        (place("src/a.py"), Place("a.py"), True),
        (place("src\\a.py"), Place("src/a.py"), True),
        (place("src/aa.py"), Place("a.py"), False),
        (place("src/b.py"), Place("src/a.py"), False),
        (place("a.py", 5, 9), Place("a.py", 9, 20), True),
        (place("a.py", 5, 9), Place("a.py", 10, 20), False),
        (place("a.py", 21, 30), Place("a.py", 10, 20), False),
        (place("a.py", 1, 99), Place("a.py", 10, 20), True),
    ],
)
def test_a_result_shows_a_target(result: Place, target: Place, expected: bool) -> None:
    assert overlaps(result, target) is expected


def test_ndcg_of_one_target_falls_with_its_rank() -> None:
    results = [place("a.py"), place("b.py"), place("c.py")]
    assert [ndcg(results, [Place(name)]) for name in ("a.py", "b.py", "c.py", "d.py")] == pytest.approx(
        [FIRST, SECOND, THIRD, 0.0]
    )


def test_ndcg_counts_a_target_once_however_many_chunks_of_its_file_come() -> None:
    results = [place("a.py"), place("a.py", 11, 20), place("b.py")]
    assert ndcg(results, [Place("a.py"), Place("b.py")]) == pytest.approx((FIRST + THIRD) / (FIRST + SECOND))


def test_ndcg_counts_two_targets_of_one_chunk_once() -> None:
    targets = [Place("a.py", 1, 3), Place("a.py", 5, 6)]
    assert ndcg([place("a.py")], targets) == pytest.approx(FIRST / (FIRST + SECOND))


def test_ndcg_looks_at_the_first_ten_alone() -> None:
    results = [place(f"{number}.py") for number in range(11)]
    assert ndcg(results, [Place("9.py")]) > 0
    assert ndcg(results, [Place("10.py")]) == 0
    assert ndcg([], [Place("a.py")]) == ndcg(results, []) == 0


def test_ndcg_of_more_targets_than_places_can_be_perfect() -> None:
    results = [place(f"{number}.py") for number in range(10)]
    assert ndcg(results, [Place(f"{number}.py") for number in range(12)]) == pytest.approx(1.0)


def test_what_does_not_fit_the_budget_ends_the_reading() -> None:
    results = [place("a.py", chars=4_000), place("b.py", chars=4_004), place("c.py", chars=4)]
    targets = [Place("a.py"), Place("b.py"), Place("c.py"), Place("d.py")]
    assert budget_recall(results, targets, tokens=2_000) == 0.25
    assert budget_recall(results, targets, tokens=2_001) == 0.5
    assert budget_recall(results, targets, tokens=2_002) == 0.75


# -- differences ---------------------------------------------------------------------------------------------


def test_a_difference_that_every_repository_shows_has_no_width() -> None:
    found = paired({"a": [0.5, 0.7], "b": [0.9]}, {"a": [0.4, 0.6], "b": [0.8]})
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))


def test_a_difference_is_weighted_by_queries_and_drawn_by_repositories() -> None:
    ours = {"many": [1.0] * 9, "few": [0.0]}
    theirs = {"many": [0.0] * 9, "few": [1.0]}
    found = paired(ours, theirs)
    assert found.value == pytest.approx(0.8)
    # A quarter of the draws holds only the repository that lost: drawing queries would never show that.
    assert (found.low, found.high) == pytest.approx((-1.0, 1.0))


def test_runs_of_different_queries_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different queries"):
        paired({"a": [1.0]}, {"a": [1.0, 1.0]})
    with pytest.raises(ValueError, match="different queries"):
        paired({"a": [1.0]}, {"b": [1.0]})


def test_the_share_of_a_gap() -> None:
    found = gap_closed([0.2, 0.4], [0.5, 0.7], [0.6, 0.8])
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.75, 0.75, 0.75))
    assert gap_closed([0.5], [0.7], [0.5]) is None
    assert gap_closed([], [], []) is None


def test_the_share_of_a_gap_is_one_of_means_not_a_mean_of_shares() -> None:
    found = gap_closed([0.0, 0.0], [0.1, 0.0], [0.1, 0.9])
    assert found is not None and found.value == pytest.approx(0.1)
    assert found.low == pytest.approx(0.0) and found.high == pytest.approx(1.0)


def test_an_interval_is_written_with_signs() -> None:
    assert str(Interval(0.0123, -0.004, 0.03)) == "+0.0123 [-0.0040, +0.0300]"


def test_a_table_is_markdown_with_straight_columns() -> None:
    drawn = table(["", "x"], [["long name", "1"], ["b", "22.5"]]).split("\n")
    assert drawn == [
        "|           |    x |",
        "|-----------|-----:|",
        "| long name |    1 |",
        "| b         | 22.5 |",
    ]


# -- answers -------------------------------------------------------------------------------------------------

PATHS = ("src/pkg/utils.py", "src/pkg/sessions.py", "src/pkg/__init__.py", "tests/utils.py", "docs/index.rst")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("in `src/pkg/utils.py` (lines 3-5)", {"src/pkg/utils.py"}),
        ("see ./src/pkg/sessions.py:792.", {"src/pkg/sessions.py"}),
        ("(in sessions.py:792)", {"src/pkg/sessions.py"}),
        ("pkg/sessions.py and /home/me/pkg/src/pkg/sessions.py", {"src/pkg/sessions.py"}),
        ("utils.py means the one outside of tests", {"src/pkg/utils.py"}),
        ("tests/utils.py, where utils.py says", {"tests/utils.py"}),
        ("other.py, my_sessions.py, response.json, e.g. https://example.org/src/pkg/utils.py", set()),
        ("the guide (docs/index.rst)", {"docs/index.rst"}),
    ],
)
def test_files_that_a_text_names(text: str, expected: set[str]) -> None:
    assert files_in(text, PATHS) == expected


def test_a_name_that_two_files_of_the_package_have_means_neither() -> None:
    assert files_in("utils.py", ("a/utils.py", "b/utils.py")) == set()


def test_paths_are_told_from_attributes() -> None:
    assert paths_in("`response.text`, r.json, a.b(), data/set.json, setup.cfg, v1.2.3 and x.py.") == [
        "data/set.json",
        "setup.cfg",
        "x.py",
    ]


def test_names_of_code_in_an_answer() -> None:
    text = """The `prepare()` method of `Session.send` calls get_adapter, then proxies() and HTTPAdapter in `a/b_c.py`.
It raises `Bad("no such adapter")` and returns `None` or an honest word.
```python
mounted_adapter = adapters  # plain
```
"""
    assert names_in(text) == {
        *("prepare", "Session", "send", "get_adapter", "proxies", "HTTPAdapter", "Bad", "mounted_adapter")
    }


def test_names_of_the_gold_answer_are_those_of_the_repository_that_the_question_keeps_to_itself() -> None:
    known = {"get_adapter", "mount", "send"}
    assert gold_names(
        "How does send() work?", "`send` calls `get_adapter`; see `invented_name`, and mount.", known
    ) == {"get_adapter"}


REPOSITORY = Repository(PATHS, frozenset({"get_adapter", "mount", "send", "Session", "adapters", "read"}))
GOLD = "`Session.send` in src/pkg/sessions.py calls `get_adapter` and `mount`, not utils.py; it may `read`."


def judged(answer: str, cited: set[str] | None = None) -> tuple[float | None, ...]:
    found = score("What does send do?", GOLD, answer, cited or set(), REPOSITORY)
    return found.files, found.names, found.exists


def test_an_answer_is_judged_by_files_names_and_what_exists() -> None:
    # Two of four names; two of two files, one of them by a citation; three of four things exist.
    said = "The class Session finds it with `get_adapter` (pkg/sessions.py), then `invented_thing`. You may read on."
    assert judged(said, {"src/pkg/utils.py"}) == (1.0, 0.5, pytest.approx(2 / 3))


def test_an_answer_that_says_nothing_reaches_nothing() -> None:
    assert judged("") == (0.0, 0.0, None)


def test_a_plain_word_counts_only_where_it_is_written_as_code() -> None:
    assert judged("You may read on.")[1] == 0.0
    assert judged("Then `read` it.")[1] == 0.25


def test_there_is_no_share_of_nothing() -> None:
    found = score("q", "Nothing is named.", "x", set(), REPOSITORY)
    assert (found.files, found.names) == (None, None)


def test_the_gold_answer_itself_is_perfect() -> None:
    assert judged(GOLD) == (1.0, 1.0, 1.0)


# -- scripts -------------------------------------------------------------------------------------------------


def run(script: str, *arguments: object, agent_home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, BENCHMARKS / script, *map(str, arguments)],
        env=os.environ | {"AGENT_HOME": str(agent_home), "AGENT_EMBEDDER": "hash"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def retrieval_data(tmp_path: Path) -> Path:
    """Two small repositories beside their queries."""
    files = {
        "lib/retry.py": "def back_off(attempt):\n    '''Seconds before another attempt.'''\n    return 2 ** attempt\n",
        "lib/parse.py": "def parse_header(line):\n    '''Split a header line.'''\n    return line.split(':')\n",
    }
    data: list[dict[str, Any]] = []
    for name in ("one", "two"):
        make_repo(tmp_path / "repos" / name, files)
        queries = [
            {"query": "back_off", "category": "symbol", "relevant": [{"path": "lib/retry.py"}]},
            {
                "query": "how is a header line split",
                "category": "semantic",
                "relevant": [{"path": "lib/parse.py", "start_line": 1, "end_line": 3}],
            },
            {
                "query": "how is a header line split",
                "category": "semantic",
                "relevant": [{"path": "lib/no.py"}],
            },
        ]
        data.append({"name": name, "published_ndcg10": {"somebody": 0.5}, "queries": queries})
    file = tmp_path / "data.json"
    file.write_text(json.dumps(data), encoding="utf-8")
    return file


def test_retrieval_measures_every_pipeline_in_one_run(
    retrieval_data: Path, tmp_path: Path, agent_home: Path
) -> None:
    out = tmp_path / "out.json"
    given = ("--data", retrieval_data, "--repos", tmp_path / "repos", "--out", out)
    done = run("retrieval.py", *given, "--losses", 1, agent_home=agent_home)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    pipelines = found["pipelines"]
    assert {"raw keywords", "keywords", "raw dense", "dense", "hybrid", "tutorial"} <= pipelines.keys()
    # Two of three queries have an answer, and two files cannot be missed.
    for name in ("raw keywords", "keywords", "dense", "hybrid"):
        assert pipelines[name]["ndcg10"] == pytest.approx(2 / 3), name
        assert pipelines[name]["categories"] == pytest.approx({"semantic": 0.5, "symbol": 1.0}), name
    assert pipelines["tutorial"]["ndcg10"] > 0.4
    # The parts are parts of what is shipped: with nothing switched off the result is the same.
    assert pipelines["hybrid - nothing"]["difference"] == {"value": 0, "low": 0, "high": 0}
    assert any(name.startswith("hybrid - ") and name != "hybrid - nothing" for name in pipelines)
    assert found["scores"]["hybrid"] == {"one": [1.0, 1.0, 0.0], "two": [1.0, 1.0, 0.0]}
    assert "wanted lib/no.py at -" in done.stdout and "somebody" in done.stdout


def test_retrieval_compares_with_an_earlier_run(
    retrieval_data: Path, tmp_path: Path, agent_home: Path
) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_text(
        json.dumps({"commit": "abc1234", "scores": {"hybrid": {"one": [0.5, 1.0, 0.0]}}}), encoding="utf-8"
    )
    given = ("--data", retrieval_data, "--repos", tmp_path / "repos", "--only", "one", "--against", earlier)
    done = run("retrieval.py", *given, "--no-tutorial", "--no-ablations", agent_home=agent_home)
    assert done.returncode == 0, done.stderr
    assert "hybrid: +0.1667 [+0.1667, +0.1667] since abc1234" in done.stdout


@pytest.mark.parametrize("script", ["retrieval.py", "answers.py"])
def test_help_says_what_a_benchmark_needs(script: str, agent_home: Path) -> None:
    done = run(script, "--help", agent_home=agent_home)
    assert done.returncode == 0 and "not part of this project" in " ".join(done.stdout.split())


def test_every_signal_can_be_switched_off() -> None:
    @dataclass(frozen=True)
    class Weights:
        boost: float = 2.0
        some_penalty: float = 0.5
        same_file: float = 0.3
        idle: float = 0.0
        power: float = field(default=0.7, metadata={"off": -1.0})
        name: str = "not a number"

    assert ablations(Weights()) == {  # type: ignore[arg-type]
        "boost": Weights(boost=0.0),
        "some_penalty": Weights(some_penalty=1.0),
        "same_file": Weights(same_file=1.0),
        "power": Weights(power=-1.0),
    }


# -- answers, written down and summed up ---------------------------------------------------------------------


def item(number: int) -> Item:
    return Item(number, "What does send do?", GOLD, ("src/pkg/sessions.py", "src/pkg/utils.py"))


def row(mode: str, number: int, text: str, **others: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 100, "cached_tokens": 25, "first_token_seconds": 1.5, "seconds": 2.0}
    kept = {"setup": "m", "mode": mode, "number": number, "text": text, "found": True, "usage": usage}
    return kept | {"citations": [], "unverified": [], "sources": []} | others


def citation(verified: bool, reason: str = "it stands there") -> dict[str, Any]:
    return {"path": "src/pkg/utils.py", "verified": verified, "reason": reason}


def test_a_sample_is_fixed_by_its_seed_and_grows() -> None:
    items = [item(number) for number in range(48)]
    four, eight = sampled(items, 4, 1), sampled(items[::-1], 8, 1)
    assert len(four) == 4 and set(four) < set(eight)
    assert [one.number for one in eight] == sorted(one.number for one in eight)
    assert sampled(items, 8, 2) != eight
    assert len(sampled(items, 99, 1)) == 48


def test_a_mode_is_told_in_points_against_another() -> None:
    found = {
        "fast": {"files": [0.5, None, 1.0], "names": [None]},
        "exact": {"files": [1.0, 1.0, 1.0], "names": [0.1]},
    }
    told = points(found, "fast", "exact")
    assert set(told) == {"files"} and told["files"].value == pytest.approx(-25.0)
    assert told["files"].low == pytest.approx(-50.0) and told["files"].high == pytest.approx(0.0)


def test_questions_without_files_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    rows = [{"question": "a", "answer": "No file."}, {"question": "b", "answer": "In pkg/sessions.py."}]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert read_questions(file, REPOSITORY) == [Item(1, "b", "In pkg/sessions.py.", ("src/pkg/sessions.py",))]


def test_the_oracle_sees_the_files_it_is_given_and_no_others() -> None:
    only = exactly(["src/pkg/utils.py", "setup.py", "odd[1]*.py"])
    seen = ("src/pkg/utils.py", "setup.py", "odd[1]*.py")
    unseen = ("pkg/utils.py", "x/src/pkg/utils.py", "docs/setup.py", "odd1x.py", "src/pkg/sessions.py")
    assert all(only.admits(path, "python") for path in seen)
    assert not any(only.admits(path, "python") for path in unseen)


def test_answers_of_another_setup_and_cut_lines_are_no_answers(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    rows = [row("ours", 1, "old"), row("ours", 1, "new"), row("ours", 2, "x", setup="n"), row("deep", 3, "y")]
    file.write_text("\n".join(map(json.dumps, rows)) + '\n{"setup": "m", "mo', encoding="utf-8")
    assert {key: kept["text"] for key, kept in kept_rows(file, {"ours": "m"}).items()} == {("ours", 1): "new"}
    assert kept_rows(tmp_path / "none.jsonl", {"ours": "m"}) == {}


@pytest.mark.parametrize("model", ["qwen-1.5b-q4", "/models/qwen-1.5b-q4.gguf"])
def test_a_model_has_one_label_as_name_and_as_file(model: str) -> None:
    assert label(model) == "qwen-1.5b-q4"


def test_only_what_the_model_cited_counts_as_verified() -> None:
    ours = citation(True, "not cited by the model; `send` stands there")
    assert verified(row("ours", 1, "", citations=[ours])) is None
    assert verified(row("ours", 1, "", citations=[ours, citation(True), citation(False)])) == 0.5
    # A place that is no source is a citation too, and a name that is none is not.
    made_up = ["src/none.py:3-9", "invented_name"]
    assert verified(row("ours", 1, "", citations=[citation(True)], unverified=made_up)) == 0.5


def test_a_run_is_summed_up_by_mode() -> None:
    given = ["src/pkg/utils.py:1-9", "src/pkg/utils.py:10-20", "tests/utils.py:1-2"]
    rows = {
        ("closed", 1): row("closed", 1, "It sends."),
        ("ours", 1): row("ours", 1, "`get_adapter`.", citations=[citation(True)], sources=given),
        ("oracle", 1): row("oracle", 1, "`get_adapter` and `mount` in pkg/sessions.py.", sources=given),
    }
    found = {mode: measures([item(1)], rows, mode, REPOSITORY) for mode in ("closed", "ours", "oracle")}
    assert found["ours"] == {
        **{"files": [0.5], "names": [0.25], "exists": [1.0], "verified": [1.0]},
        **{"answered": [1.0], "given": [0.5], "read": [100]},
        **{"known": [0.25], "first": [1.5], "seconds": [2.0]},
    }
    assert found["closed"]["verified"] == [None] and found["closed"]["given"] == [0.0]
    shares = gaps(found, "ours")
    assert shares["names"] == Interval(0.5, 0.5, 0.5) and shares["files"] == Interval(1.0, 1.0, 1.0)
    result = summary(found)
    assert result["means"]["closed"]["verified"] is None and "deep" not in result["gap_closed"]
    assert "ours: share of the gap closed, names: 50% [50%, 50%]" in report(1, result)


def test_no_gap_is_said_to_be_none() -> None:
    rows = {(mode, 1): row(mode, 1, "`mount`") for mode in ("closed", "ours", "oracle")}
    found = {mode: measures([item(1)], rows, mode, REPOSITORY) for mode in ("closed", "ours", "oracle")}
    assert gaps(found, "ours") == {"names": None, "files": None}
    assert "names: none to close" in report(1, summary(found))
