"""The benchmarks of writing on cases worked out by hand: what is blanked, what is run, and what a run may not do."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import edits
import humaneval
import pytest
from sandbox import run_python

TEXT = '''import os


class A:
    def f(self, x: int) -> int:
        """Doc.

        More.
        """
        y = x
        return y

    async def g(self):
        return 1


def h():
    pass
'''


def test_a_blanked_function_keeps_its_signature_and_docstring() -> None:
    assert edits.blanked(TEXT, "A.f") == TEXT.replace(
        "        y = x\n        return y\n", "        raise NotImplementedError\n"
    )
    assert edits.blanked(TEXT, "A.g") == TEXT.replace("return 1", "raise NotImplementedError")
    assert edits.blanked(TEXT, "B.f") is None
    overloaded = "@overload\ndef h(): ...\n\n\n"
    assert edits.blanked(overloaded + "def h():\n    pass\n", "h") == (
        overloaded + "def h():\n    raise NotImplementedError\n"
    )
    assert [name for name, _ in edits.functions(TEXT)] == ["A.f", "A.g", "h"]


def test_cases_are_interleaved_so_that_a_short_run_has_some_of_all() -> None:
    cases = [edits.Case(repository, "c", "p", str(at), "t") for repository in "ab" for at in range(2)]
    assert [case.repository for case in edits.interleaved(cases)] == ["a", "b", "a", "b"]


def test_the_cases_that_are_kept_can_be_read() -> None:
    cases = [edits.Case(**row) for row in json.loads(edits.CASES.read_text())]
    assert len(cases) == len({case.key for case in cases}) and {case.repository for case in cases} <= set(
        edits.REPOSITORIES
    )


def test_shares_are_of_what_was_answered(tmp_path: Path) -> None:
    case = edits.Case("a/b", "c", "p.py", "f", "t")
    row = {"case": case.key, "arm": "ours", "model": "m", "passed": True, "first": False, "applies": True}
    row |= {"parses": True, "seconds": 2.0, "tokens": 4, "read": 6, "rounds": 2, "failed": ["finished"]}
    answers = tmp_path / "a.jsonl"
    answers.write_text(json.dumps(row) + "\n" + json.dumps({**row, "model": "other"}) + "\n")
    found = edits.report([case], Namespace(answers=answers, model="m", arms=["ours", "blind"]))
    assert found["arms"] == {
        "ours": {
            **{"cases": 1, "passed": 100.0, "first": 0.0, "applies": 100.0, "parses": 100.0},
            **{"seconds": 2.0, "tokens": 4.0, "read": 6.0, "rounds": 2.0, "unfinished": 1},
        }
    }
    with answers.open("a") as lines:
        lines.write(json.dumps({**row, "arm": "blind", "passed": False}) + "\n")
    found = edits.report([case], Namespace(answers=answers, model="m", arms=["ours", "blind"]))
    assert found["arms"]["blind"]["ours_more"] == "+100 [100, 100]"


def test_blocks_are_read_as_they_are_asked_for() -> None:
    found = edits._BLOCK.search("Sure:\n<<<<<<< SEARCH\na\n\nb\n=======\nc\n>>>>>>> REPLACE\nbye")
    assert found is not None and found.groups() == ("a\n\nb", "c")


PROBLEM = {
    "task_id": "T/0",
    "prompt": 'import math\n\n\ndef f(x):\n    """Twice."""\n',
    "entry_point": "f",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
}


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        ("def f(x):\n    return 2 * x\n", True),
        ("    return 2 * x\n", True),
        ("def f(x):\n    return int(math.pow(x, 2))\n", True),
        ("def f(x):\n    return x\n", False),
        ("", False),
    ],
)
def test_programs_are_put_together_and_judged(code: str, passes: bool) -> None:
    assert run_python(humaneval.program(PROBLEM, code), 30.0).passed is passes


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "x = bytearray(3 << 30)",
        "open('big', 'wb').write(b'x' * (64 << 20))",
        "input()",
    ],
)
def test_what_a_program_may_not_do(program: str) -> None:
    assert not run_python(program, 3.0).passed
