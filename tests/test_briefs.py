"""What stands for a chunk where there is no room for it: the heads of its definitions, whatever is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.search.briefs import ELISION, brief
from indexers.chunking import chunk_source
from indexers.config import IndexConfig
from indexers.types import Chunk, SourceFile, Symbol

PYTHON = '''\
@cache
def retry_call(
    fn: Callable[[], T],
    attempts: int = 3,
) -> T:
    """
    Call again when the connection fails.

    Waits in between.
    """
    for _ in range(attempts):
        fn()
'''
GO = """\
// addRoute adds a node.
// Not concurrency-safe!
func (n *node) addRoute(path string, handlers HandlersChain) {
\tn.priority++
}

func (n *node) getValue(path string) (value nodeValue) {
\treturn
}
"""
RUST = """\
impl<OuterState, InnerState> FromRequestParts<OuterState> for State<InnerState>
where
    InnerState: FromRef<OuterState>,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &OuterState) -> Result<Self, Self::Rejection> {
        let inner = InnerState::from_ref(state);
        Ok(Self(inner))
    }
}
"""
JAVASCRIPT = """\
/**
 * Look up a file.
 */
View.prototype.lookup = function lookup(name) {
  return name;
};
"""


def told(text: str, *lines: int, kind: str = "function", start: int = 1) -> str:
    return brief(text, start, [Symbol(f"n{line}", kind, line) for line in lines])


def test_a_head_goes_to_where_its_brackets_close_and_takes_its_docstring_along() -> None:
    assert told(PYTHON, 2).split("\n") == [
        "@cache",
        "def retry_call(",
        "    fn: Callable[[], T],",
        "    attempts: int = 3,",
        ") -> T:",
        '    """',
        "    Call again when the connection fails.",
        ELISION,
    ]


def test_every_definition_is_told_with_the_first_line_of_its_comment() -> None:
    assert told(GO, 3, 7).split("\n") == [
        "// addRoute adds a node.",
        ELISION,
        "func (n *node) addRoute(path string, handlers HandlersChain) {",
        ELISION,
        "func (n *node) getValue(path string) (value nodeValue) {",
        ELISION,
    ]


def test_what_a_type_must_be_belongs_to_the_head() -> None:
    assert told(RUST, 1).split("\n")[:4] == RUST.split("\n")[:4]


def test_a_method_is_told_with_the_head_around_it() -> None:
    assert told(RUST, 7).split("\n") == [*RUST.split("\n")[:4], ELISION, RUST.split("\n")[6], ELISION]
    text = "class Retry(Policy):\n    limit = 3\n\n    def pause(self) -> float:\n        return 2\n"
    assert told(text, 4).split("\n") == [
        "class Retry(Policy):",
        ELISION,
        "    def pause(self) -> float:",
        ELISION,
    ]


def test_the_opening_of_a_comment_says_nothing() -> None:
    assert told(JAVASCRIPT, 4).split("\n") == [
        ELISION,
        " * Look up a file.",
        ELISION,
        "View.prototype.lookup = function lookup(name) {",
        ELISION,
    ]


@pytest.mark.parametrize(("kind", "line"), [("section", 3), ("function", 99), ("function", -4)])
def test_nothing_stands_for_prose_and_for_lines_that_are_not_there(kind: str, line: int) -> None:
    assert told(GO, line, kind=kind) == ""


def test_very_many_definitions_are_not_told_all() -> None:
    text = "\n".join(f"def f{n}(): ..." for n in range(1, 60))
    assert 2 < len(told(text, *range(1, 60)).split("\n")) <= 11


@pytest.mark.parametrize(
    ("path", "language", "text", "wanted"),
    [
        ("a.py", "python", PYTHON, "Call again when the connection fails."),
        ("a.go", "go", GO, "func (n *node) getValue"),
        ("a.rs", "rust", RUST, "InnerState: FromRef<OuterState>,"),
        ("a.js", "javascript", JAVASCRIPT, "function lookup(name)"),
    ],
)
def test_chunks_as_they_are_cut(path: str, language: str, text: str, wanted: str) -> None:
    chunks: list[Chunk] = list(chunk_source(SourceFile(path, "0", text, language), IndexConfig()))
    assert any(wanted in brief(c.text, c.start_line, c.symbols) for c in chunks)


@given(st.text(alphabet="a({[:\n #/*\"'", max_size=120), st.lists(st.integers(-2, 12), max_size=5))
def test_it_is_made_of_whole_lines_of_the_text(text: str, lines: list[int]) -> None:
    found = told(text, *lines)
    assert found == told(text, *lines)
    source = text.split("\n")
    assert all(line in source or line == ELISION for line in found.split("\n") if found)
