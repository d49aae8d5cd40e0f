"""What a model that fills an empty function cannot write: the placeholder again, asked of llama.cpp's own grammars."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

import llama_cpp
import pytest

from chains.writing.barring import Barred
from chains.writing.replies import Fence
from chains.writing.stubs import stub_of
from tests.tiny_gguf import LLAMA_VOCAB

Allows = Callable[[Barred, str], bool]
# The first byte of a vocabulary with a token for each byte.
_FIRST_BYTE = 3


@pytest.fixture(scope="module")
def allows() -> Iterator[Allows]:
    """Whether a fence's grammar lets a text be written, byte by byte, and end there."""
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(LLAMA_VOCAB).encode(), parameters)
    assert model
    vocab = llama_cpp.llama_model_get_vocab(model)

    def check(barred: Barred, text: str) -> bool:
        grammar = llama_cpp.llama_sampler_init_grammar(vocab, Fence().grammar(barred).encode(), b"root")
        assert grammar
        try:
            for token in [*(_FIRST_BYTE + byte for byte in text.encode()), llama_cpp.llama_vocab_eos(vocab)]:
                one = (llama_cpp.llama_token_data * 1)(llama_cpp.llama_token_data(token, 1.0, 0.0))
                array = llama_cpp.llama_token_data_array(one, 1, -1, False)
                llama_cpp.llama_sampler_apply(grammar, ctypes.byref(array))
                if one[0].logit == float("-inf"):
                    return False
                llama_cpp.llama_sampler_accept(grammar, token)
            return True
        finally:
            llama_cpp.llama_sampler_free(grammar)

    yield check
    llama_cpp.llama_model_free(model)


STUBS = {
    "python": "def f(a):\n    raise NotImplementedError\n",
    "pass": 'def f(a):\n    """Doc."""\n    pass\n',
    "go": 'func F(a int) int {\n\tpanic("implement me")\n}\n',
    "go-return": 'func F() (int, error) {\n\treturn 0, errors.New("not implemented")\n}\n',
    "rust": "pub fn f(&self) -> u8 {\n    todo!()\n}\n",
    "javascript": 'export function f(a) {\n  throw new Error("Not implemented");\n}\n',
}


def barred(name: str, request: str = "Implement `f`") -> Barred:
    stub = stub_of(STUBS[name], {"pass": "python", "go-return": "go"}.get(name, name))
    assert stub is not None
    return stub.barred(request)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("python", "    raise NotImplementedError\n"),
        ("python", "    raise NotImplementedError('later')\n"),
        ("python", "    raise Not ImplementedError\n"),
        ("python", "    # not yet\n\n    raise ValueError('later')\n"),
        ("python", "raise NotImplementedError\n"),
        ("python", "    def inner():\n        raise NotImplementedError\n    return inner\n"),
        ("python", "    # nothing but this\n"),
        ("python", ""),
        ("pass", "    pass\n"),
        ("pass", "    pass  # later\n"),
        ("pass", "    raise NotImplementedError\n"),
        ("go", '\tpanic("implement me")\n'),
        ("go", '\tx := 1\n\tpanic("implement me, please")\n'),
        ("go-return", '\treturn 0, errors.New("not implemented yet")\n'),
        ("rust", "    todo!()\n"),
        ("javascript", '  // soon\n  throw new Error("Not implemented");\n'),
        ("javascript", '  if (a) {\n    throw new Error("Not implemented");\n  }\n'),
    ],
)
def test_the_placeholder_cannot_be_written_again(allows: Allows, name: str, body: str) -> None:
    assert not allows(barred(name), f"{body}```")
    if body:
        assert allows(Barred(), f"{body}```")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("python", "    return a\n"),
        ("python", "    # what it is\n\n    return a\n"),
        ("python", "    if a:\n        return a\n    raise KeyError(a)\n"),
        ("python", "    r = 1\n    raised = r\n    return raised\n"),
        ("python", "\ta()\n"),
        ("python", "``x``\n    a()\n"),
        ("pass", "    passed = 1\n    try:\n        a()\n    except OSError:\n        pass\n"),
        ("go", '\tif a < 0 {\n\t\tpanic("negative")\n\t}\n\treturn a\n'),
        ("go-return", '\treturn 0, errors.New("no number")\n'),
        ("rust", "    let todos = 1;\n    todos\n"),
        ("javascript", '  if (!a) {\n    throw new Error("Not found");\n  }\n  return a;\n'),
        ("javascript", "  return `a\n\n]^\\-${a}`;\n"),
    ],
)
def test_work_can(allows: Allows, name: str, body: str) -> None:
    assert allows(barred(name), f"{body}```\n")


@pytest.mark.parametrize(
    ("request_", "free"),
    [
        ("f should raise NotImplementedError with the name of the class", True),
        ("Let f always raise ValueError", True),
        ("Implement f: it raises NotImplementedError now", False),
        ("Replace raise NotImplementedError with the real thing", False),
        ("Implement f in src/should/raise.py", False),
    ],
)
def test_a_function_that_is_to_fail_may(request_: str, free: bool) -> None:
    assert (barred("python", request_) == Barred()) is free


def test_words_may_hold_what_gbnf_gives_a_meaning(allows: Allows) -> None:
    word = 'a"]\\^-\tb'
    assert not allows(Barred(ever=(word,)), f"{word} c\n```")
    assert allows(Barred(ever=(word,)), f'{word[:-1]}c\n"]\\^-\n```')
