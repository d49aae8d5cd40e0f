"""Fences, margins and choices: what a grammar lets a model say, read back; with random weights on a real engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.llm import LlamaCpp
from chains.writing.choosing import Menu, Target, paths_in
from chains.writing.edits import Kind
from chains.writing.fitting import fitted
from chains.writing.regions import named, near, regions_of, scope_of
from chains.writing.replies import Fence, fenced_code, margin_of, with_margin, without_margin
from chains.writing.speaking import goes_on_inventing, loops


@pytest.mark.parametrize(
    ("text", "marks"),
    [("plain", "```"), ("a ``` b", "````"), ("`````\n", "``````"), ("", "```"), ("`x`", "```")],
)
def test_a_fence_is_longer_than_any_in_the_text(text: str, marks: str) -> None:
    fence = Fence.around(text, "python")
    assert fence.marks == marks and fence.opening == f"{marks}python\n"
    assert fence.body(fence.block(text).removeprefix(fence.opening)).rstrip("\n") == text.rstrip("\n")


def test_the_body_ends_at_the_first_line_that_begins_with_the_marks() -> None:
    fence = Fence()
    assert fence.body("a = '```'\nb\n```\nc\n```") == "a = '```'\nb\n" and fence.closes("b\n```")
    assert fence.body("cut short\n``") == "cut short\n``" and not fence.closes("a = '```'\n  ```")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("Here:\n```python\nx = 1\n```\nThere.", "x = 1\n"),
        ("```\nx\n", "x\n"),
        ("x = 1", "x = 1"),
        ("````md\n```\nin\n```\n````\n", "```\nin\n```\n"),
        ("  ```py\n  x\n  ```", "  x\n"),
    ],
)
def test_code_in_free_answers(answer: str, code: str) -> None:
    assert fenced_code(answer) == code


@given(
    st.lists(st.text("ab \t", max_size=6), max_size=6).map("\n".join),
    st.sampled_from(["", "  ", "\t", "    "]),
)
def test_margins_come_off_and_on(text: str, margin: str) -> None:
    shifted = with_margin(text, margin)
    assert margin_of(shifted).startswith(margin) or not text.strip()
    lines = zip(without_margin(shifted, margin).split("\n"), text.split("\n"), strict=True)
    assert all(a == b for a, b in lines if b.strip())


MENU = Menu(
    tuple(regions_of("a.py", "def f():\n    pass\n\n\nclass A:\n    def g(self):\n        pass\n", "python")),
    folders=("", "src/"),
    whole=("a.py", 'odd "name".py'),
    deletes=True,
    renames=True,
)


def test_what_may_be_chosen_is_read_back() -> None:
    label = MENU.regions[0].label
    written = f'change {label}\nadd after {label}\ndelete odd "name".py\ndone'
    assert [target.kind for target in MENU.read(written)] == [
        Kind.REPLACE,
        Kind.DELETE,
    ]  # the same lines once
    assert [target.kind for target in MENU.read(written.split("\n", 1)[1])] == [Kind.INSERT, Kind.DELETE]
    assert MENU.read("create src/new.py\ndone") == [Target(Kind.CREATE, "src/new.py")]
    assert MENU.read("rename a.py to b/c.py\ndone") == [Target(Kind.RENAME, "a.py", to="b/c.py")]


@pytest.mark.parametrize(
    "line",
    [
        *(
            "create /etc/x",
            "create ../x",
            "create other/x.py",
            "create src/a/b.py",
            "create .git/hooks/x",
            "create ",
        ),
        *(
            "delete b.py",
            "rename a.py to ../b.py",
            "rename a.py to /b",
            "rename b.py to c.py",
            "change nothing",
            "done",
        ),
    ],
)
def test_what_no_grammar_allowed_is_left_out(line: str) -> None:
    assert MENU.read(line) == []


def test_deleting_is_offered_only_where_it_was_asked_for() -> None:
    menu = Menu(MENU.regions, whole=("a.py",))
    assert "delete" not in menu.grammar() and menu.read("delete a.py") == []


def test_random_weights_say_only_what_the_grammars_allow(tiny_codellama: Path) -> None:
    llm = LlamaCpp(
        model_path=str(tiny_codellama), n_threads=1, n_ctx=2048, temperature=1.5, top_k=0, min_p=0.0
    )
    for seed in range(6):
        reply = llm.invoke("x", grammar=MENU.grammar(), max_tokens=400, seed=seed)
        targets = MENU.read(reply.text)
        if reply.response_metadata["finish_reason"] == "stop":
            assert reply.text.endswith("\ndone")
            # Each line alone is a choice; together, one that shares lines with one before it is left out.
            lines = list(dict.fromkeys(reply.text.split("\n")[:-1]))
            alone = [target for line in lines for target in MENU.read(line)]
            assert len(alone) == len(lines) and targets[0] == alone[0]
            assert all(one in targets or any(one.meets(other) for other in targets) for one in alone)
        code = llm.invoke("x", grammar=Fence("`" * 4).grammar(), max_tokens=60, seed=seed)
        if code.response_metadata["finish_reason"] == "stop":
            assert code.text.rstrip("\n").endswith("````") and Fence("`" * 4).closes(code.text)
    llm.close()


# -- regions ---------------------------------------------------------------------------------------


SOURCE = """import os

X = 1


# About f.
@deco(
    1,
)
@other
def f(x):
    def inner():
        pass
    return x


class A:
    y = 2

    @property
    def g(self):
        return 1
"""


def test_definitions_with_decorators_and_comments() -> None:
    regions = regions_of("a.py", SOURCE, "python")
    found = {
        region.name: (region.start_line, region.end_line) for region in regions if region.kind != "lines"
    }
    assert found == {"f": (6, 14), "A": (17, 22), "A.g": (20, 22)}
    method = named(regions, ["A.g"])[0]
    assert scope_of(regions, method) == named(regions, ["A"])[0]
    assert named(regions, ["g", "nothing"]) == [method] and method.first == "def g(self):"
    assert near(regions, [(21, 21)])[0] == method


def test_files_without_definitions_are_runs_of_lines() -> None:
    regions = regions_of("a.md", "# One\n\ntext\n\n# Two\n\nmore\n", "markdown")
    assert regions and all(region.kind == "lines" for region in regions)


# -- fitting ---------------------------------------------------------------------------------------


def test_code_gets_the_margin_and_the_tabs_of_its_place() -> None:
    assert (
        fitted("def f():\n    return 1", "\tdef f():\n\t\treturn 0", None, "python").code
        == "\tdef f():\n\t\treturn 1"
    )
    assert (
        fitted("\tif x:\n\t\ty()", "    if x:\n        z()", None, "python").code == "    if x:\n        y()"
    )


def test_blank_lines_get_no_margin() -> None:
    assert fitted("a\n\nb\n\n", "    x", None, "python").code == "    a\n\n    b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x\n" * 8, True),
        ("x\n" * 7, False),
        ("a\nb\n" * 8, True),
        ("a\nb\nc\n" * 9, True),
        ("", False),
        ("x\ny\n" * 3, False),
    ],
)
def test_loops(text: str, expected: bool) -> None:
    assert loops(text) is expected


def series(count: int, form: str) -> str:
    return "".join(form.format(n=f"n{number}") for number in range(count))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (series(10, "@app.route('/{n} of all')\ndef {n}():\n    return '{n}'\n\n"), True),
        (series(9, "@app.route('/{n}')\ndef {n}():\n    return '{n}'\n\n"), False),
        (series(12, "func {n}() int {{\n\treturn 1\n}}\n"), True),
        (series(60, '    "{n}": 1,\n'), False),
        (series(30, '  {{\n    "name": "{n}",\n    "age": 3\n  }},\n'), False),
        (series(30, "case {n}:\n    return 1\n"), False),
        ("def f():\n    return 1\n" + series(30, "assert f({n})\nprint({n})\n"), False),
    ],
)
def test_definitions_without_end_are_told_from_tables(text: str, expected: bool) -> None:
    assert goes_on_inventing(text) is expected


@pytest.mark.parametrize(
    ("request_", "paths"),
    [
        ("Fix src/a.py and b.py.", ["src/a.py", "b.py"]),
        ("see `pkg/x/y.go`, not e.g. this", ["pkg/x/y.go", "e.g"]),
        ("no paths here", []),
    ],
)
def test_paths_in_requests(request_: str, paths: list[str]) -> None:
    assert paths_in(request_) == paths


QUERY = (
    'def q(self):\n    """Doc.\n\n    More.\n    """\n    sql = """\nselect *\n  from t\n"""\n    return sql'
)


def shifted(code: str, margin: str) -> str:
    """Code with a margin, its strings as they are."""
    own = ("select *", "  from t", '"""')
    return "\n".join(line if line in own or not line else margin + line for line in code.split("\n"))


@pytest.mark.parametrize("margin", ["", "    "])
def test_what_stands_inside_a_string_is_not_moved(margin: str) -> None:
    original = shifted(QUERY, "    ")
    new = QUERY.replace("self", "self, n")
    # Whether the model wrote the margin or not.
    assert fitted(shifted(new, margin), original, None, "python").code == shifted(new, "    ")
    tabbed = "\tdef q(self):\n\t\treturn 1"
    assert "\n  from t\n" in fitted(new, tabbed, None, "python").code
    script = "function f() {\n  return `\na\n    ${x}\n`\n}"
    found = fitted(script, "  function f() {\n    return 1\n  }", None, "javascript").code
    assert found == "  function f() {\n    return `\na\n    ${x}\n`\n  }"


def test_a_string_that_the_model_moved_with_its_code_is_moved_back() -> None:
    original = '    def q(self):\n        return """\n        a\n        """'
    written = 'def q(self, n):\n    return """\n    a\n    """'
    assert fitted(written, original, None, "python").code == original.replace("self", "self, n")
