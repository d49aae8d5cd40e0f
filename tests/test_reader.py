"""Nothing is read twice, and it shows in nothing but time: prefixes from disk, joined sources, conversations."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from chains.engine.library import build
from chains.kv.layout import Repair
from chains.llm import LlamaCpp

Read = tuple[str, int, int]
WAYS: dict[str, dict[str, Any]] = {
    "exact": {"reading": "exact"},
    "fast": {"reading": "fast"},
    "repaired": {"repair": Repair(first=8)},
    "last in full": {"repair": Repair(first=8, last=1)},
}
SOURCES = [
    f"Source [a{number}.py:1-9]:\n```\n"
    + "\n".join(f"def f{number}_{line}(x): return x + {number * line}" for line in range(4 + number))
    + "\n```\n\n"
    for number in range(5)
]


def asked(question: str, order: Sequence[int]) -> list[BaseMessage]:
    rules = (
        "You answer questions about one code repository, from its sources and nothing else, and cite them."
    )
    blocks: list[str | dict[str, Any]] = [
        {"type": "text", "text": SOURCES[number], "source": True} for number in order
    ]
    blocks.append({"type": "text", "text": f"Question: {question}"})
    return [SystemMessage(rules), HumanMessage(content=blocks)]


FIRST = asked("Where is it?", [0, 1, 2, 3, 4])
SECOND = asked("And what does it return?", [3, 0, 4, 1])


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "kv"


def reader(
    model: Path, directory: Path | None, way: str = "exact", **options: Any
) -> Callable[[list[BaseMessage]], Read]:
    """What a new process would be: a model loaded anew; called, it answers with text, tokens read and joined."""
    options = {"n_ctx": 2_048, "n_threads": 1, "max_tokens": 24} | WAYS[way] | options
    llm = LlamaCpp(model_path=str(model), kv_dir=str(directory or ""), **options)

    def ask(messages: list[BaseMessage]) -> Read:
        answer = llm.invoke(messages)
        data = answer.response_metadata
        return str(answer.content), data["tokens_read"], data["sources_joined"]

    return ask


@pytest.fixture(scope="module", params=list(WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def cold(tiny_codellama: Path, way: str) -> Iterator[tuple[Read, Read]]:
    """Both questions, each by a model that knows nothing and keeps nothing."""
    yield reader(tiny_codellama, None, way)(FIRST), reader(tiny_codellama, None, way)(SECOND)


def test_what_was_kept_changes_nothing_but_the_reading(
    tiny_codellama: Path, kept: Path, way: str, cold: tuple[Read, Read]
) -> None:
    """Cold, in one process, in others, in either order: the same text."""
    ask = reader(tiny_codellama, kept, way)
    assert [ask(FIRST)[0], ask(SECOND)[0]] == [cold[0][0], cold[1][0]]
    for first, second in ((SECOND, FIRST), (FIRST, SECOND)):
        again = reader(tiny_codellama, kept, way)
        answers = {id(first): again(first), id(second): again(second)}
        assert answers[id(FIRST)][0] == cold[0][0] and answers[id(SECOND)][0] == cold[1][0]
        # The question itself is always read: what comes next is chosen by what it gives.
        assert all(read < 25 for _, read, _ in answers.values())


def test_another_question_reads_no_joined_source_again(
    tiny_codellama: Path, kept: Path, way: str, cold: tuple[Read, Read]
) -> None:
    reader(tiny_codellama, kept, way)(FIRST)
    text, read, joined = reader(tiny_codellama, kept, way)(SECOND)
    assert text == cold[1][0]
    assert {"exact": joined == 0, "last in full": joined == 2}.get(way, joined == 3)
    assert {"exact": read > 300, "fast": read < 25, "repaired": read < 50}.get(way, 100 < read < 300)


def test_one_source_is_read_as_in_a_plain_prompt(tiny_codellama: Path, kept: Path) -> None:
    alone = asked("What does it return?", [2])
    plain = reader(tiny_codellama, None)(alone)
    for way in WAYS:
        assert reader(tiny_codellama, kept, way)(alone)[0] == plain[0]
        shutil.rmtree(kept)


def test_the_next_turn_reads_only_what_is_new(
    tiny_codellama: Path, kept: Path, way: str, cold: tuple[Read, Read]
) -> None:
    """Also in another process. The answer is told in words, as people hand it on; it was written in tokens."""
    ask = reader(tiny_codellama, kept, way)
    ask(FIRST)
    turn = [*FIRST, AIMessage("It is in the first source."), HumanMessage("Say more, please.")]
    text, read, _ = ask(turn)
    assert read < 60
    again, read_again, _ = reader(tiny_codellama, kept, way)(turn)
    assert again == text and read_again < 40
    assert reader(tiny_codellama, None, way)(turn)[0] == text


def test_new_sources_in_a_later_turn_leave_the_conversation_as_it_was(
    tiny_codellama: Path, kept: Path, way: str
) -> None:
    """Sources are read behind the head alone, where nothing else is in memory; then all the rest comes back."""
    first = asked("Where is it?", [0, 1])
    blocks: list[str | dict[str, Any]] = [
        {"type": "text", "text": "More.\n\n"},
        *({"type": "text", "text": SOURCES[number], "source": True} for number in (4, 2)),
        {"type": "text", "text": "And here?"},
    ]
    turn = [*first, AIMessage("It is in the first source."), HumanMessage(content=blocks)]
    expected = reader(tiny_codellama, None, way)(turn)[0]
    for directory in (None, kept):
        ask = reader(tiny_codellama, directory, way)
        ask(first)
        assert ask(turn)[0] == expected
    assert reader(tiny_codellama, kept, way)(turn)[0] == expected


@pytest.mark.parametrize(
    "options", [{"n_batch": 256}, {"flash_attn": False}, {"type_k": "q8_0", "n_batch": 64}]
)
def test_a_model_loaded_in_another_way_reads_anew(tiny_codellama: Path, kept: Path, options: Any) -> None:
    first = reader(tiny_codellama, kept)(FIRST)
    other = reader(tiny_codellama, kept, **options)(FIRST)
    assert other[1] == first[1] > 500


def test_another_context_size_or_number_of_threads_reads_nothing(tiny_codellama: Path, kept: Path) -> None:
    reader(tiny_codellama, kept)(FIRST)
    assert reader(tiny_codellama, kept, n_ctx=1_024, n_threads=2)(FIRST)[1] < 25


def test_another_build_of_llama_cpp_reads_anew(
    tiny_codellama: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = reader(tiny_codellama, kept)(FIRST)
    from chains.kv import reader as reading

    monkeypatch.setattr(reading, "build", lambda: {**build(), "version": "0.0.1"})
    assert reader(tiny_codellama, kept)(FIRST)[1] == first[1]


def test_a_model_changed_in_place_reads_anew(tiny_codellama: Path, kept: Path, tmp_path: Path) -> None:
    """The same name, size and time; other weights."""
    import os

    model = tmp_path / tiny_codellama.name
    shutil.copy2(tiny_codellama, model)
    status = model.stat()
    reader(model, kept)(FIRST)
    with model.open("r+b") as file:
        file.seek(status.st_size - 4_096)
        file.write(bytes(4_096))
    os.utime(model, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert reader(model, kept)(FIRST)[1] > 500


@pytest.mark.parametrize("harm", ["flipped", "cut", "empty", "foreign", "swapped"])
def test_a_damaged_or_foreign_state_is_a_miss(tiny_codellama: Path, kept: Path, harm: str) -> None:
    way = "repaired"
    whole_text = reader(tiny_codellama, kept, way)(FIRST)[0]
    files = sorted(kept.glob("*.kv"))
    whole = [file.read_bytes() for file in files]
    for file, data, other in zip(files, whole, [*whole[1:], whole[0]], strict=True):
        middle = len(data) // 2
        file.write_bytes(
            {
                "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
                "cut": data[:-1],
                "empty": b"",
                "foreign": b"GGUF" + data[4:],
                "swapped": other,
            }[harm]
        )
    text, read, _ = reader(tiny_codellama, kept, way)(FIRST)
    assert text == whole_text and read > 500
    assert reader(tiny_codellama, kept, way)(FIRST)[1] < 25  # and what was harmed is whole again


def test_a_state_of_another_shape_is_a_miss(tiny_codellama: Path, kept: Path) -> None:
    """A file that is sound, of the right name, and not what this context takes."""
    from chains.kv.store import KvStore

    whole = reader(tiny_codellama, kept)(FIRST)
    store = KvStore(kept)
    for listed in store.entries():
        found = store.get(listed.entry.key)
        assert found is not None
        store.drop(listed.entry.key)
        store.put(listed.entry, memoryview(bytes(found[1][: len(found[1]) // 2])))
    assert reader(tiny_codellama, kept)(FIRST) == whole


def test_without_room_on_disk_everything_works(
    tiny_codellama: Path, kept: Path, way: str, cold: tuple[Read, Read], monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from chains.kv import store as kv_store

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kv_store, "_write_all", full)
    ask = reader(tiny_codellama, kept, way)
    assert (ask(FIRST)[0], ask(SECOND)[0]) == (cold[0][0], cold[1][0])
    assert not list(kept.iterdir())


def test_a_look_in_between_is_seen(tiny_codellama: Path, way: str, cold: tuple[Read, Read]) -> None:
    """Likelihoods are read past the reader; neither takes joined sources for plain ones."""
    options: dict[str, Any] = {"n_ctx": 2_048, "n_threads": 1, "max_tokens": 24} | WAYS[way]
    llm = LlamaCpp(model_path=str(tiny_codellama), **options)
    alone = LlamaCpp(model_path=str(tiny_codellama), **options).next_probabilities(SECOND, ["yes", "no"])
    for messages, expected in ((FIRST, cold[0]), (SECOND, cold[1]), (FIRST, cold[0])):
        assert llm.invoke(messages).content == expected[0]
        found = llm.next_probabilities(SECOND, ["yes", "no"])
        assert found == pytest.approx(alone, rel=1e-2)
