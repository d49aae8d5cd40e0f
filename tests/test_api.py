"""The facade: one object, always in step with the tree, around real git, SQLite and Chroma and a scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from agent import Agent, AgentError, Filter
from agent.config import load_settings
from agent.display import Hits
from chains.ask import NOT_FOUND, repeats
from chains.engine.tools import call_text
from chains.search.reading import reading_list
from chains.search.retrieval import FAR, NEAR_ENOUGH, relevant
from chains.types import Answer, Citation, Step
from indexers.errors import RepositoryError, UsageError
from indexers.types import Hit, IndexReport, Progress, SkipReason
from tests.fakes import ScriptedChat
from tests.repos import commit, git, make_repo, write

RETRY = """\
import time

MAX_DELAY = 30


def retry_call(fn, attempts=5):
    \"\"\"Call fn again with exponential back-off until it works.\"\"\"
    for attempt in range(attempts):
        try:
            return fn()
        except OSError:
            time.sleep(min(2**attempt, MAX_DELAY))
    raise RuntimeError("gave up")
"""
CONFIG = """\
import json


def load_config(path):
    \"\"\"Read the settings file.\"\"\"
    with open(path) as file:
        return json.load(file)
"""
FILES = {
    "src/retry.py": RETRY,
    "src/config.py": CONFIG,
    "assets/logo.png": b"\x89PNG\x00\x01",
    "empty.txt": "",
}
SAID = "`retry_call` sleeps between attempts [src/retry.py:1-13]."


class ScriptedModel(ScriptedChat):
    """The scripted chat model with what the facade asks of a model file besides."""

    model_path: str = "scripted.gguf"
    label: str = "scripted"

    def load(self) -> None: ...

    def close(self) -> None: ...

    def prompt_text(self, messages: Sequence[BaseMessage]) -> str:
        return "\n".join(message.text for message in messages)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", FILES)


def opened(path: Path, *script: str, **settings: object) -> Agent:
    chosen = replace(load_settings(path, {}), embedder="hash", **settings)
    agent = Agent.open(path, settings=chosen)
    agent.model._llm = ScriptedModel(script=script or (SAID,))  # type: ignore[assignment]
    return agent


@pytest.fixture
def agent(root: Path) -> Iterator[Agent]:
    with opened(root) as agent:
        yield agent


def model(agent: Agent) -> ScriptedModel:
    assert isinstance(agent.model._llm, ScriptedModel)
    return agent.model._llm


def paths(hits: Sequence[Hit]) -> list[str]:
    return [hit.path for hit in hits]


# -- opening ----------------------------------------------------------------------------------------


def test_a_subdirectory_opens_its_repository(root: Path) -> None:
    with opened(root / "src") as agent:
        assert agent.root == root.resolve()
        assert agent.search("retry_call", 1)[0].path == "src/retry.py"


def test_a_worktree_has_its_own_tree_and_shares_vectors(agent: Agent, root: Path, tmp_path: Path) -> None:
    agent.index()
    git(root, "worktree", "add", "-q", "-b", "other", str(tmp_path / "other"))
    write(tmp_path / "other", {"src/only_here.py": "def worktree_only():\n    return 1\n"})
    with opened(tmp_path / "other") as other:
        assert (
            other.root == (tmp_path / "other").resolve()
            and other.workspace.directory != agent.workspace.directory
        )
        report = other.index()
        assert report.indexed == 3 and report.vectors_embedded == 1
        assert paths(other.search("worktree_only", 1)) == ["src/only_here.py"]
    assert "src/only_here.py" not in paths(agent.search("worktree_only"))


def test_what_is_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError):
        Agent.open(tmp_path)


def test_close_twice(root: Path) -> None:
    agent = opened(root)
    agent.close()
    agent.close()


# -- index ------------------------------------------------------------------------------------------


def test_the_report_counts_and_says_why(agent: Agent) -> None:
    report = agent.index()
    assert isinstance(report, IndexReport) and not report.interrupted and report.notes == ()
    assert (report.indexed, report.kept, report.removed, report.vectors_pending) == (2, 0, 0, 0)
    assert {item.path: item.reason for item in report.skipped} == {
        "assets/logo.png": SkipReason.BINARY,
        "empty.txt": SkipReason.EMPTY,
    }
    assert report.chunks == report.vectors_embedded == len(agent.search("retry config json", 100))
    again = agent.index()
    assert (again.indexed, again.kept, again.vectors_embedded) == (0, 2, 0)


def test_progress_names_its_stages(root: Path) -> None:
    seen: list[Progress] = []
    settings = replace(load_settings(root, {}), embedder="hash")
    with Agent.open(root, settings=settings, on_progress=seen.append) as agent:
        agent.index()
    assert {"read", "embed", "store"} <= {event.stage for event in seen}
    assert all(0 <= event.done <= event.total for event in seen)


def test_a_rebuild_starts_from_nothing_but_embeds_nothing(agent: Agent) -> None:
    agent.index()
    report = agent.index(rebuild=True)
    assert (report.indexed, report.kept, report.vectors_embedded) == (2, 0, 0)


def test_a_damaged_ledger_is_dropped_and_built_anew(agent: Agent, root: Path) -> None:
    agent.index()
    ledger = agent.workspace.ledger.path
    agent.close()
    ledger.write_bytes(b"this is no database" * 500)
    with opened(root) as again:
        assert len(again.notes) == 1 and "built anew" in again.notes[0]
        assert paths(again.search("retry_call", 1)) == ["src/retry.py"]
        assert again.index().notes and again.notes == []


@pytest.mark.parametrize(
    ("files", "told"), [({}, "no files"), ({"a.bin": b"\x00\x01", "b": ""}, "1 binary, 1 empty")]
)
def test_an_index_of_nothing_says_why(files: dict[str, bytes | str], told: str, tmp_path: Path) -> None:
    with opened(make_repo(tmp_path / "bare", files)) as agent:
        assert agent.search("anything") == [] and agent.search("anything else") == []
        assert len(agent.notes) == 1 and told in agent.notes[0]


# -- search follows the tree ------------------------------------------------------------------------


def test_search_sees_edits_additions_and_deletions(agent: Agent, root: Path) -> None:
    assert paths(agent.search("retry_call", 1)) == ["src/retry.py"]
    write(root, {"src/retry.py": RETRY.replace("retry_call", "call_repeatedly")})
    assert agent.search("call_repeatedly", 1)[0].symbols[-1] == "call_repeatedly"
    assert all("retry_call" not in hit.text for hit in agent.search("retry_call"))
    write(root, {"src/new/added.py": "def freshly_added():\n    return 1\n"})
    assert paths(agent.search("freshly_added", 1)) == ["src/new/added.py"]
    (root / "src/retry.py").unlink()
    assert "src/retry.py" not in paths(agent.search("call_repeatedly exponential back-off"))


def test_search_follows_a_branch_switch(agent: Agent, root: Path) -> None:
    agent.index()
    git(root, "checkout", "-q", "-b", "feature")
    write(root, {"src/feature.py": "def feature_only():\n    return 1\n"})
    commit(root)
    assert paths(agent.search("feature_only", 1)) == ["src/feature.py"]
    git(root, "checkout", "-q", "main")
    assert "src/feature.py" not in paths(agent.search("feature_only"))
    assert agent.index().vectors_embedded == 0
    git(root, "checkout", "-q", "feature")
    assert paths(agent.search("feature_only", 1)) == ["src/feature.py"]


def test_the_retriever_gives_documents_of_the_tree_as_it_is(agent: Agent, root: Path) -> None:
    retriever = agent.retriever(k=1)
    write(root, {"late.py": "def came_late():\n    return 1\n"})
    (document,) = retriever.invoke("came_late")
    assert document.metadata["path"] == "late.py" and document.metadata["start_line"] == 1


def test_the_retriever_serves_many_at_once(agent: Agent, root: Path) -> None:
    write(root, {f"late_{n}.py": f"def came_late_{n}():\n    return {n}\n" for n in range(8)})
    queries = [f"came_late_{n}" for n in range(8)]
    retriever = agent.retriever(k=1)
    assert [found[0].metadata["path"] for found in retriever.batch(queries)] == [
        f"late_{n}.py" for n in range(8)
    ]
    write(root, {"late_0.py": "def came_even_later():\n    return 0\n"})
    assert asyncio.run(retriever.ainvoke("came_even_later"))[0].metadata["path"] == "late_0.py"


# -- filters ----------------------------------------------------------------------------------------

MIXED = {
    **FILES,
    "web/retry.ts": "export function retryCall(fn: () => void) {\n  return fn();\n}\n",
    "tests/test_retry.py": "def test_retry_call():\n    assert retry_call(lambda: 1) == 1\n",
    "docs/retry.md": "# Retry\n\nHow retry_call waits between attempts.\n",
}


# -- deep answers ----------------------------------------------------------------------------------


def test_a_deep_answer_comes_with_its_steps(root: Path) -> None:
    look, done = call_text("definition_of", {"identifier": "load_config"}), call_text("answer", {})
    with opened(root, look, done, SAID) as agent:
        answer = agent.ask("how does retry_call retry", deep=True, max_steps=4)
        assert [step.tool for step in answer.steps] == ["search", "definition_of"]
        assert answer.text == SAID
        assert answer.citations[0].verified
        assert answer.index["fresh"] is True
        assert {source.path for source in answer.sources} >= {"src/retry.py", "src/config.py"}


def test_a_deep_answer_keeps_to_the_files_asked_for_and_to_the_tree(root: Path) -> None:
    look, done = call_text("definition_of", {"identifier": "retry_call"}), call_text("answer", {})
    write(root, {"src/config.py": CONFIG.replace("load_config", "load_settings")})
    with opened(root, look, done, "It reads.") as agent:
        items = list(agent.deep("what does load_settings do", only=Filter(paths=["src/config.py"])))
        steps = [item for item in items if isinstance(item, Step)]
        assert [(step.tool, step.outcome) for step in steps] == [
            ("search", "1 source"),
            ("definition_of", "nothing"),
        ]


def test_deep_bounds_are_checked_before_a_model_is_wanted(root: Path) -> None:
    with opened(root) as agent:
        for bounds in ({"deep": True, "max_steps": 0}, {"max_steps": 3}, {"deep": True, "max_tokens": -1}):
            with pytest.raises(UsageError):
                agent.ask("how does retry_call retry", **bounds)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="empty"):
            agent.ask(" ", deep=True)
        assert model(agent).seen == []


@pytest.fixture
def mixed(tmp_path: Path) -> Iterator[Agent]:
    with opened(make_repo(tmp_path / "mixed", MIXED)) as agent:
        yield agent


@pytest.mark.parametrize(
    ("only", "found"),
    [
        (Filter(), {"src/retry.py", "src/config.py", "web/retry.ts", "tests/test_retry.py", "docs/retry.md"}),
        (Filter(paths=["src/**"]), {"src/retry.py", "src/config.py"}),
        (Filter(languages=["ts"]), {"web/retry.ts"}),
        (Filter(paths=["retry.*"], tests=False), {"src/retry.py", "web/retry.ts", "docs/retry.md"}),
        (Filter(paths=["!docs/"], languages=["python"], tests=False), {"src/retry.py", "src/config.py"}),
    ],
    ids=str,
)
def test_search_looks_only_where_it_is_told_to(mixed: Agent, only: Filter, found: set[str]) -> None:
    query = "retry_call load_config settings attempts retryCall"
    assert set(paths(mixed.search(query, 20, only=only))) == found
    assert {d.metadata["path"] for d in mixed.retriever(20, only=only).invoke(query)} == found
    assert {d.metadata["path"] for d in mixed.retriever(20).invoke(query, only=only)} == found
    assert mixed.notes == []


def test_an_answer_reads_only_where_it_is_told_to(mixed: Agent) -> None:
    question = "How does retry_call wait between attempts?"
    answer = mixed.ask(question, only=Filter(paths=["docs/"]))
    assert {source.path for source in answer.sources} == {"docs/retry.md"}
    chat = mixed.chat(only=Filter(languages=["typescript"]))
    chat.ask("How does retryCall call its fn?")
    assert chat.last is not None and {source.path for source in chat.last.sources} == {"web/retry.ts"}
    prompt = mixed.prompt(question, only=Filter(tests=False))
    assert "Source [src/retry.py:" in prompt and "test_retry" not in prompt


def test_a_filter_that_leaves_nothing_is_told(mixed: Agent) -> None:
    only = Filter(paths=["nowhere/**"], languages=["go"])
    assert mixed.search("retry_call", only=only) == [] == mixed.search("retry", only=only)
    assert mixed.notes == ["No indexed file passes --path 'nowhere/**' --lang go"]
    answer = mixed.ask("How does retry_call wait?", only=only)
    assert not answer.found and answer.text == NOT_FOUND and model(mixed).seen == []


def test_a_search_says_which_names_stand_nowhere(mixed: Agent) -> None:
    assert mixed.search("retry_call").absent == () == mixed.search("where are retries done?").absent
    hits = mixed.search("does retry_budget limit retryCall?")
    assert hits and hits.absent == ("retry_budget",)
    assert mixed.search("RetryPolicy").absent == ("RetryPolicy",)


def test_how_a_query_is_read(mixed: Agent) -> None:
    read = mixed.understood("how does retry_call wait between attempts?")
    assert read.kind == "sentence" and read.names == ("retry_call",) and "attempt" in read.tokens
    assert mixed.understood("retry_call").kind == "identifier"
    mixed.refresh()
    assert len(mixed.understood(" ".join(f"word{n}" for n in range(500))).tokens) <= 60


# -- ask --------------------------------------------------------------------------------------------


def test_an_answer_tells_all(agent: Agent, root: Path) -> None:
    answer = agent.ask("How does retry_call wait between attempts?")
    assert answer.text == SAID and answer.found and answer.model == "scripted"
    assert [(c.label, c.verified) for c in answer.citations] == [("src/retry.py:1-13", True)]
    assert answer.sources[0].path == "src/retry.py" and answer.sources[0].tokens > 0
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens == len(SAID.split())
    assert answer.usage.finish_reason == "stop" and answer.usage.first_token_seconds >= 0
    assert answer.index["fresh"] is True and answer.index["files"] == 2
    assert answer.index["head"] == git(root, "rev-parse", "HEAD").decode().strip()


def test_what_did_not_fit_is_named(agent: Agent, root: Path) -> None:
    write(root, {f"src/retry_{n}.py": RETRY.replace("retry_call", f"retry_call_{n}") for n in range(6)})
    answer = agent.ask("How do the retry_call functions wait between attempts?", context_tokens=90)
    assert answer.sources and sum(source.tokens for source in answer.sources) <= 90
    assert answer.dropped and not {s.label for s in answer.sources} & {d.label for d in answer.dropped}


def test_a_stream_is_pieces_and_then_the_answer(agent: Agent) -> None:
    *pieces, answer = agent.stream("How does retry_call wait?")
    assert len(pieces) > 3 and all(isinstance(piece, str) for piece in pieces)
    assert isinstance(answer, Answer) and "".join(map(str, pieces)).strip() == answer.text


def test_a_stream_left_early_stops_the_model_and_leaves_the_agent_usable(agent: Agent) -> None:
    stream = agent.stream("How does retry_call wait?")
    assert isinstance(next(stream), str)
    stream.close()  # type: ignore[attr-defined]
    assert model(agent).stopped
    assert agent.ask("How does retry_call wait?").text == SAID
    assert paths(agent.search("load_config", 1)) == ["src/config.py"]


def test_nothing_relevant_is_said_without_the_model(agent: Agent) -> None:
    answer = agent.ask("Which kubernetes ingress annotations rotate tls certificates?")
    assert not answer.found and answer.text == NOT_FOUND and answer.citations == ()
    assert answer.usage.finish_reason == "not_found" and model(agent).seen == []


def test_the_model_is_stopped_when_it_goes_round_in_circles(root: Path) -> None:
    sentence = "The function retry_call sleeps between its attempts and then tries again. "
    with opened(root, sentence * 50) as agent:
        answer = agent.ask("How does retry_call wait?")
        assert answer.usage.finish_reason == "repetition" and model(agent).stopped
        assert 2 <= answer.text.count(sentence.strip()) <= 3
        assert answer.usage.completion_tokens > 0


def test_repeats() -> None:
    sentence = "This is a sentence that is long enough to count as one. "
    assert not repeats(sentence * 3 + "More")
    assert repeats((sentence * 3).strip()) and not repeats(sentence.strip())
    assert not repeats("Yes. Yes. Yes.") and not repeats("")
    words = ("first", "second", "third", "fourth", "fifth", "sixth")
    assert not repeats(
        " ".join(f"The {word} step of them does {word} things and nothing else." for word in words)
    )
    assert repeats("- the same line of the same list, over and over and over\n" * 4)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever needs a model, or wants to fetch one, fails."""
    for name in ("find", "pull", "ensure_embedder"):
        monkeypatch.setattr(f"agent.models.{name}", lambda *_: pytest.fail("asked for a model"))


@pytest.mark.parametrize(
    ("files", "only", "told"),
    [
        ({}, Filter(), "Nothing is indexed: the repository has no files."),
        ({"a.bin": b"\x00\x01"}, Filter(), "Nothing is indexed: every file was skipped (1 binary)."),
        (FILES, Filter(languages=["go"]), "No indexed file passes --lang go"),
    ],
)
@pytest.mark.usefixtures("no_model")
def test_without_anything_to_read_no_model_is_fetched(
    files: dict[str, bytes | str], only: Filter, told: str, tmp_path: Path
) -> None:
    root = make_repo(tmp_path / "bare", files)
    settings = replace(load_settings(root, {}), embedder="minilm")
    with Agent.open(root, settings=settings) as agent:
        answer = agent.ask("How does retry_call wait?", only=only)
        assert (answer.found, answer.text, agent.notes) == (False, NOT_FOUND, [told])
        assert answer.index["fresh"] is True and agent.model._llm is None
        with pytest.raises(AgentError, match="no file to read"):
            agent.prompt("How does retry_call wait?", only=only)


def test_the_first_question_is_answered_from_what_it_indexes(agent: Agent, root: Path) -> None:
    assert agent.status().chunks == 0
    assert agent.ask("How does retry_call wait?").found
    write(root, {"src/brand_new.py": "def brand_new_thing():\n    return 1\n"})
    answer = agent.ask("What does brand_new_thing return?")
    assert "src/brand_new.py" in {source.path for source in answer.sources}


def test_an_index_without_an_embedder_counts_what_it_lacks(root: Path) -> None:
    settings = replace(load_settings(root, {}), embedder="minilm", download=False)
    with Agent.open(root, settings=settings) as agent:
        report = agent.index()
        assert report.vectors_embedded == 0 and report.vectors_pending == report.chunks > 0
        assert [
            note for note in report.notes if "keywords only" in note and "agent models pull minilm" in note
        ]
    with Agent.open(root, settings=replace(settings, embedder="none")) as agent:
        report = agent.index()
        assert (report.vectors_pending, report.notes) == (0, ())


def test_the_prompt_is_shown_without_the_model(agent: Agent) -> None:
    text = agent.prompt("How does retry_call wait?")
    assert "Source [src/retry.py:" in text and "Question: How does retry_call wait?" in text
    assert model(agent).seen == []


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_refused(agent: Agent, question: str) -> None:
    for call in (agent.ask, agent.prompt, agent.chat().ask):
        with pytest.raises(UsageError):
            call(question)


def test_budgets_must_be_positive(agent: Agent) -> None:
    for budget in ({"context_tokens": -1}, {"max_tokens": -5}):
        with pytest.raises(UsageError):
            agent.ask("How does retry_call wait?", **budget)


def test_a_model_that_is_not_installed_is_named(root: Path) -> None:
    settings = replace(load_settings(root, {}), download=False, embedder="hash")
    with Agent.open(root, model="codellama-7b-instruct", settings=settings) as agent:
        with pytest.raises(AgentError, match="codellama-7b-instruct is not installed") as caught:
            agent.ask("How does retry_call wait?")
        assert "agent models pull codellama-7b-instruct" in caught.value.remedy
        assert agent.search("retry_call", 1)


# -- chat -------------------------------------------------------------------------------------------


def test_a_follow_up_is_searched_and_answered_with_the_turn_before_in_mind(root: Path) -> None:
    with opened(root, SAID, "It gives up.") as agent:
        chat = agent.chat()
        chat.ask("How does retry_call wait between attempts?")
        answer = chat.ask("And when does it give up?")
        assert [turn.question for turn in chat.turns] == [
            "How does retry_call wait between attempts?",
            "And when does it give up?",
        ]
        assert chat.last is answer and answer.found
        # The follow-up names nothing itself: only the turn before leads to the file.
        assert answer.sources[0].path == "src/retry.py"
        before = [m for m in model(agent).seen[-1] if isinstance(m, (HumanMessage, AIMessage))][:-1]
        # With the sources that it was read with: what the model has read already is the beginning of what it reads.
        assert [m.text for m in before] == [model(agent).seen[0][-1].text, SAID]
        assert "Question: How does retry_call wait between attempts?" in before[0].text


def test_reset_forgets(agent: Agent) -> None:
    chat = agent.chat()
    chat.ask("How does retry_call wait?")
    chat.reset()
    assert chat.turns == [] and chat.last is None
    chat.ask("How does load_config read the settings file?")
    assert not any(isinstance(message, AIMessage) for message in model(agent).seen[-1])


def test_a_turn_left_early_is_not_remembered(agent: Agent) -> None:
    chat = agent.chat()
    stream = chat.stream("How does retry_call wait?")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert chat.turns == [] and chat.last is None


# -- status and self-test ---------------------------------------------------------------------------


def test_status_follows_the_tree(agent: Agent, root: Path) -> None:
    assert agent.status().last_indexed == 0 and agent.status().stale
    agent.index()
    status = agent.status()
    assert (status.files, status.skipped, status.vectors_pending, status.stale) == (2, 2, 0, False)
    assert status.branch == "main" and status.head == git(root, "rev-parse", "HEAD").decode().strip()
    assert status.chunks == status.vectors > 0 and status.bytes_on_disk > 0 and status.last_indexed > 0
    assert (status.model, status.embedder) == ("scripted", "hash")
    write(root, {"src/retry.py": RETRY + "\n\nDONE = True\n"})
    assert agent.status().stale
    agent.refresh()
    after = agent.status()
    assert not after.stale and after.generation > status.generation


def test_the_self_test_finds_its_own_text(agent: Agent) -> None:
    assert agent.self_test()[0]


def test_the_self_test_of_an_empty_index_fails(tmp_path: Path) -> None:
    with opened(make_repo(tmp_path / "empty")) as agent:
        passed, told = agent.self_test()
        assert not passed and "empty" in told


# -- retrieval for reading --------------------------------------------------------------------------


def test_a_cut_function_is_completed_with_its_next_chunk(root: Path) -> None:
    steps = "".join(f"    total_{n} = weigh(parcel, {n}) + surcharge({n})\n" for n in range(60))
    write(
        root, {"src/long.py": f'def compute_postage(parcel):\n    """Price."""\n{steps}    return total_59\n'}
    )
    with opened(root) as agent:
        agent.refresh()
        first = agent.search("compute_postage", 1)[0]
        reading = reading_list("compute_postage", agent.workspace.search(), 10)
        assert reading[0].label == first.label and first.start_line == 1
        assert reading[1].path == "src/long.py" and reading[1].start_line == first.end_line + 1
        labels = [hit.label for hit in reading]
        assert len(labels) == len(set(labels)), "nothing is read twice"


def test_a_struct_is_not_read_on_into_as_a_function_is(root: Path) -> None:
    field = (
        "\t// {0} of the parcel, as the sender declared it before it was handed over to us.\n\t{0} string\n"
    )
    fields = "".join(field.format(f"Field{n}") for n in range(12))
    insured = "\t// Insured says up to which amount the parcel is insured against its loss.\n\tInsured int\n"
    write(root, {"src/parcel.go": f"package parcel\n\ntype Parcel struct {{\n{fields}{insured}{fields}}}\n"})
    with opened(root) as agent:
        agent.refresh()
        question = "How far is a parcel insured against loss?"
        first = agent.search(question, 1)[0]
        assert "Insured" in first.text and not first.symbols and first.scope == ("Parcel",)
        pieces = agent.workspace.ledger.chunks_of("src/parcel.go")
        assert len(pieces) > 2
        reading = reading_list(question, agent.workspace.search(), 1)
        assert [hit.label for hit in reading] == [first.label]


def hit(similarity: float | None, text: str = RETRY) -> Hit:
    return Hit("src/retry.py", 1, 13, text, 1.0, similarity=similarity)


@pytest.mark.parametrize(
    ("query", "similarity", "wanted"),
    [
        ("kubernetes ingress", NEAR_ENOUGH, True),
        ("kubernetes ingress", NEAR_ENOUGH - 0.01, False),
        ("kubernetes ingress", None, False),
        ("retry_call attempts", None, True),
        ("retry_call attempts", FAR - 0.01, True),
        ("retry_call attempts sleep kubernetes", (NEAR_ENOUGH + FAR) / 2, True),
        ("retry_call attempts sleep kubernetes", FAR - 0.01, False),
    ],
)
def test_relevance_by_nearness_and_by_rare_words(
    agent: Agent, query: str, similarity: float | None, wanted: bool
) -> None:
    agent.index()
    assert relevant(query, [hit(similarity)], agent.workspace.index()) is wanted


def test_a_name_that_a_hit_defines_is_relevant_whatever_else_is_asked(agent: Agent) -> None:
    agent.index()
    defining = replace(hit(FAR - 0.01), symbols=("retry_call",))
    query = "Does retry_call honour kubernetes ingress annotations and certificates?"
    assert relevant(query, [defining], agent.workspace.index())
    assert not relevant(query.replace("retry_call", "redo_call"), [defining], agent.workspace.index())


def test_without_hits_nothing_is_relevant(agent: Agent) -> None:
    assert not relevant("retry_call", [], agent.workspace.index())


# -- how values show themselves ---------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def test_hits_show_hostile_text_as_text() -> None:
    shown = Hits(
        [Hit(f"{HOSTILE}.py", 1, 2, HOSTILE + "\udcff", 1.0, scope=(HOSTILE,), symbols=(HOSTILE,))], HOSTILE
    )._repr_html_()
    assert "<script" not in shown and "<img" not in shown and "&lt;script&gt;" in shown
    assert "<script" not in Hits([], HOSTILE)._repr_html_()
    shown.encode()


LIVE = [
    HOSTILE,
    f"`a\n{HOSTILE}",
    f"\\`{HOSTILE}\\`",
    f"``` a`b\n{HOSTILE}\n```",
    f"- item\n  ```\n{HOSTILE}\n  ```",
    f"  ```\na\n```\n{HOSTILE}\n```",
    f"~~~\n```\n~~~\n{HOSTILE}\n```",
    f"```\n   ```\n{HOSTILE}",
    f"```\n```~\n{HOSTILE}\n```\n{HOSTILE}",
    f"```\na\n```\t\n{HOSTILE}",
    f"```\r```\r{HOSTILE}",
    f"> ```\n{HOSTILE}",
    f"[a]:\n```\n{HOSTILE}\n```\n{HOSTILE}",
    f"    code\n{HOSTILE}",
]


def rendered(markdown: str) -> str:
    markdown_it = pytest.importorskip("markdown_it")
    return str(markdown_it.MarkdownIt("commonmark").render(markdown))


@pytest.mark.parametrize("text", LIVE)
def test_markdown_of_an_answer_holds_no_live_html(text: str) -> None:
    shown = rendered(Answer(text)._repr_markdown_())
    assert "<script" not in shown and "<img" not in shown
    assert "alert(1)" in shown, "it is shown, not removed"


def test_markdown_of_an_answer_loads_and_links_nothing() -> None:
    shown = rendered(
        Answer(
            "![a](http://x.test/?q) [b](javascript:alert(1)) [c]\n\n[c]: http://x.test\n"
        )._repr_markdown_()
    )
    assert "<img" not in shown and "<a " not in shown


def test_code_in_an_answer_stays_code() -> None:
    text = "Use `List<String>` and *care*:\n```java\nMap<K, V> m = a[i] && b; // $x$\n```\nDone [a.py:1-2]."
    shown = rendered(Answer(text)._repr_markdown_())
    assert "<code>List&lt;String&gt;</code>" in shown and "<em>care</em>" in shown
    assert "Map&lt;K, V&gt; m = a[i] &amp;&amp; b; // $x$" in shown and "Done [a.py:1-2]." in shown


def test_names_and_places_in_markdown_are_text() -> None:
    citation = Citation(f"a`{HOSTILE}\n{HOSTILE}`.py", 1, 2, False, HOSTILE)
    answer = Answer("```\nnever closed", (citation,), unverified=(HOSTILE, "x\udcff"))
    shown = rendered(answer._repr_markdown_())
    assert "<script" not in shown and "<img" not in shown
    assert shown.count("<pre>") == 1 and "not verified" in shown.split("</pre>")[1]
