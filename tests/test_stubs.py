"""Functions that are still to be written, and what is asked of a model for them."""

from __future__ import annotations

import pytest

from chains.writing.stubs import Stub, stub_of, wants_body

# A stub, and how many of its lines are the head.
STUBS = [
    ("python", '@dec\ndef f(a):\n    """Doc."""\n    raise NotImplementedError\n', 3),
    ("python", 'async def f(self):\n    """Doc."""\n    ...\n', 2),
    ("python", "def f():\n    raise ValueError('todo')\n", 1),
    ("javascript", 'export function f(a) {\n  throw new Error("Not implemented");\n}\n', 1),
    ("javascript", "const f = a => {\n  throw new Error('TODO');\n};\n", 1),
    ("typescript", "const f = (a: X) => {\n  throw new Error('TODO')\n}\n", 1),
    ("typescript", "async f(a: X): Promise<void> {\n  throw new Error('not implemented');\n}\n", 1),
    ("go", 'func F(a int) int {\n\tpanic("implement me")\n}\n', 1),
    ("go", 'func F() (int, error) {\n\treturn 0, errors.New("not implemented")\n}\n', 1),
    ("rust", "pub fn f(&self) -> u8 {\n    todo!()\n}\n", 1),
    ("java", "public int f(int a) {\n  throw new UnsupportedOperationException();\n}\n", 1),
    ("ruby", "def f\n  raise NotImplementedError\nend\n", 1),
    ("php", "function f($a) {\n  throw new \\Exception('not implemented');\n}\n", 1),
    ("cpp", 'int A::f(int a) {\n  throw std::logic_error("not implemented");\n}\n', 1),
]
OTHERS = [
    ("python", "def f(a): pass\n"),
    ("python", "def f(a):\n    return 1\n"),
    ("python", "def f(a):\n    # TODO: faster\n    return 1\n"),
    ("python", "def todo(a):\n    todo_list.append(a)\n"),
    ("python", "def f():\n    raise NotImplementedError('x')\n    return 1\n"),
    ("python", "def f():\n    raise TodoNotFound(x)\n"),
    ("python", "def f():\n    raise ValueError('unsupported operation: ' + x)\n"),
    ("python", "@abstractmethod\ndef f(self):\n    raise NotImplementedError\n"),
    (
        "python",
        "class A:\n    x = 1\n\n    def g(self):\n        pass\n\n    def f(self):\n        return 1\n",
    ),
    ("python", "if x:\n    def f():\n        pass\n"),
    ("python", "X = 1\ndef f():\n    pass\n"),
    ("python", "class A:\n    pass\n"),
    ("rust", "impl A {\n    fn f(&self) {\n        todo!()\n    }\n}\n"),
    ("javascript", "function f() {}\n"),
    ("javascript", "function f(id) {\n  throw new Error(`todo ${id} not found`);\n}\n"),
    ("text", "pass\n"),
]


@pytest.mark.parametrize(("language", "text", "lines"), STUBS)
def test_a_body_that_only_says_that_it_is_missing(language: str, text: str, lines: int) -> None:
    stub = stub_of(text, language)
    assert stub is not None
    assert stub.head == stub.known == "".join(text.splitlines(keepends=True)[:lines])


@pytest.mark.parametrize(("language", "text"), OTHERS)
def test_other_bodies_are_left_as_they_are(language: str, text: str) -> None:
    assert stub_of(text, language) is None


def test_comments_in_place_of_a_body_are_shown_and_written_anew() -> None:
    text = 'def f(a):\n    """Doc."""\n    # TODO: split at commas\n    pass\n'
    stub = stub_of(text, "python")
    assert stub is not None and stub.head == 'def f(a):\n    """Doc."""\n'
    assert stub.known == f"{stub.head}    # TODO: split at commas\n"
    alone = stub_of("void f() {\n  // TODO: split\n}\n", "java")
    assert alone == Stub("void f() {\n  // TODO: split\n", "void f() {\n", "}\n", "  ")


HEAD = 'def bar(self, a):\n    """Doc."""\n'


@pytest.mark.parametrize(
    ("body", "whole"),
    [
        ("    return a\n", f"{HEAD}    return a\n"),
        ("return a\n", f"{HEAD}    return a\n"),
        ("        return a\n", f"{HEAD}    return a\n"),
        ('    """Doc."""\n    return a\n', f"{HEAD}    return a\n"),
        ("    x = bar(1, 2)\n    return x\n", f"{HEAD}    x = bar(1, 2)\n    return x\n"),
        ("    def bar(self, a):\n        return a\n", "def bar(self, a):\n    return a\n"),
        (
            "import os\n\n\ndef bar(self, a):\n    return os\n",
            "import os\n\n\ndef bar(self, a):\n    return os\n",
        ),
    ],
)
def test_an_answer_goes_on_behind_the_head_or_begins_anew(body: str, whole: str) -> None:
    stub = stub_of(f"{HEAD}    raise NotImplementedError\n", "python")
    assert stub is not None and stub.joined(body, "python") == whole


@pytest.mark.parametrize(
    ("text", "language", "body", "whole"),
    [
        ("f() {\n  // TODO\n}", "javascript", "  return 1;\n", "f() {\n  return 1;\n}"),
        ("f() {\n  // TODO\n}", "javascript", "  return 1;\n}\n", "f() {\n  return 1;\n}"),
        (
            "f() {\n  // TODO\n}",
            "javascript",
            "  if (a) {\n    b();\n  }\n",
            "f() {\n  if (a) {\n    b();\n  }\n}",
        ),
        ('func F() {\n\tpanic("TODO")\n}', "go", "\treturn\n}\n", "func F() {\n\treturn\n}"),
        ("def f\n  raise NotImplementedError\nend", "ruby", "  1\nend\n", "def f\n  1\nend"),
    ],
)
def test_what_closes_a_function_stays(text: str, language: str, body: str, whole: str) -> None:
    stub = stub_of(text, language)
    assert stub is not None and stub.joined(body, language) == whole


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        ("Implement `f` in a.py", True),
        ("f raises NotImplementedError: write it", True),
        ("Make area work", True),
        ("area is unimplemented", True),
        ("Use `parameters` in f", True),
        ("Add a parameter `b` to f", False),
        ("Add the missing type hints to f", False),
        ("Rename f to g", False),
    ],
)
def test_what_is_about_a_body(request_: str, wanted: bool) -> None:
    assert wants_body(request_) is wanted
