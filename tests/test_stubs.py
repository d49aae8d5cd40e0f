"""Functions that are still to be written, and what is asked of a model for them."""

from __future__ import annotations

import pytest

from chains.writing.stubs import Stub, stub_of, wants_body

STUBS = [
    ("python", '@dec\ndef f(a):\n    """Doc."""\n    raise NotImplementedError\n', 3),
    ("python", 'async def f(self):\n    """Doc."""\n    ...\n', 2),
    ("python", "def f():\n    raise ValueError('todo')\n", 1),
    ("javascript", 'export function f(a) {\n  throw new Error("Not implemented");\n}\n', 1),
    ("typescript", "const f = (a: X) => {\n  throw new Error('TODO')\n}\n", 1),
    ("go", 'func F(a int) int {\n\tpanic("not implemented")\n}\n', 1),
    ("rust", "pub fn f(a: u8) -> u8 {\n    todo!()\n}\n", 1),
    ("java", "public int f(int a) {\n  throw new UnsupportedOperationException();\n}\n", 1),
    ("ruby", "def f(a)\n  raise NotImplementedError\nend\n", 1),
]
OTHERS = [
    ("python", "def f(a): pass\n"),
    ("python", "def f(a):\n    return 1\n"),
    ("python", "def f(a):\n    # TODO: faster\n    return 1\n"),
    ("python", "def todo(a):\n    todo_list.append(a)\n"),
    ("python", "def f():\n    raise NotImplementedError('x')\n    return 1\n"),
    ("python", "def f():\n    raise ValueError('x')\n"),
    ("javascript", "function f() {}\n"),
    ("python", "class A:\n    pass\n"),
    ("text", "pass\n"),
]


@pytest.mark.parametrize(("language", "text", "lines"), STUBS)
def test_a_body_that_only_says_that_it_is_missing(language: str, text: str, lines: int) -> None:
    head = "".join(text.splitlines(keepends=True)[:lines])
    assert stub_of(text, language) == Stub(head, head)


@pytest.mark.parametrize(("language", "text"), OTHERS)
def test_other_bodies_are_left_as_they_are(language: str, text: str) -> None:
    assert stub_of(text, language) is None


def test_comments_in_place_of_a_body_are_shown_and_written_anew() -> None:
    text = 'def f(a):\n    """Doc."""\n    # TODO: split at commas\n    pass\n'
    head = 'def f(a):\n    """Doc."""\n'
    assert stub_of(text, "python") == Stub(f"{head}    # TODO: split at commas\n", head)


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        ("Implement `f` in a.py", True),
        ("f raises NotImplementedError: write it", True),
        ("fill in the body of f", True),
        ("Add a parameter `b` to f", False),
        ("Rename f to g", False),
    ],
)
def test_what_asks_for_a_body(request_: str, wanted: bool) -> None:
    assert wants_body(request_) is wanted
