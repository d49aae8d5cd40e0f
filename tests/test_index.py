"""The read side and the search over it: exact, fresh after every change, and deaf to hostile queries."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from chains.retrieval import Search, relevant
from indexers.build import Builder, keyword_fields
from indexers.config import IndexConfig
from indexers.embedding import open_embedder
from indexers.git import Repository
from indexers.index import Index
from indexers.ledger import Ledger, StoredChunk
from indexers.types import Chunk, FileStat
from tests.repos import make_repo, write

FILES = {
    "src/retry.py": 'def retry_call(fn):\n    """Call again when the connection fails."""\n    return fn()\n',
    "src/cookies.py": 'class CookieJar:\n    """Cookies of a session."""\n\n    def add_cookie(self): ...\n',
    "src/parser.py": "def parse_header(line):\n    return line.split(':')\n",
    "tests/test_retry.py": "def test_retry_call():\n    assert retry_call(lambda: 1) == 1\n",
    "docs/deutsch.md": "# Größenangaben\n\nDie maximale Größe einer Nachricht.\n",
    "src/launch.py": "# 读取配置文件，然后启动服务。\ndef launch():\n    ...\n",
}
EMBEDDER = open_embedder("hash", None)
FINGERPRINT = EMBEDDER.fingerprint()


class Place:
    def __init__(self, root: Path, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.root = root
        self.ledger = Ledger(directory / "ledger.sqlite", directory / "vectors.sqlite")
        self.builder = Builder(
            Repository.discover(root), self.ledger, IndexConfig(embedder="hash"), directory
        )
        self.index = Index(self.ledger, self.builder.store)

    def search(self, text: str, k: int = 10, *, dense: bool = True) -> list[str]:
        return [hit.path for hit in Search(self.index, EMBEDDER if dense else None).hits(text, k)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    directory = tmp_path_factory.mktemp("shared")
    place = Place(make_repo(directory / "repo", FILES), directory / "index")
    place.builder.run(EMBEDDER)
    return place


@pytest.fixture
def own(tmp_path: Path) -> Place:
    return Place(make_repo(tmp_path / "repo", FILES), tmp_path / "index")


# -- candidates -------------------------------------------------------------------------------------


def test_keywords_vectors_and_definitions_agree(shared: Place) -> None:
    index = shared.index
    (best, *_) = index.by_keyword(["cooky", "jar"], 5)
    vector = EMBEDDER.embed_query("class CookieJar keeps the cookies of a session")
    assert index.by_vector(FINGERPRINT, vector, 3)[0].chunk_id == best.chunk_id
    assert best.chunk_id in index.defining("cookiejar")
    assert index.chunks([best.chunk_id])[best.chunk_id].chunk.path == "src/cookies.py"
    assert best.chunk_id in index.paths()["src/cookies.py"]


def test_the_scan_is_exact_and_chroma_agrees(shared: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = EMBEDDER.embed_query("retry a failing call")
    ids, matrix = shared.ledger.matrix(FINGERPRINT)
    truth = sorted(zip((-(matrix @ vector)).tolist(), ids, strict=True))
    scanned = shared.index.by_vector(FINGERPRINT, vector, 4)
    assert [s.chunk_id for s in scanned] == [number for _, number in truth[:4]]
    monkeypatch.setattr("indexers.index.EXACT_SCAN_LIMIT", 0)
    asked = shared.index.by_vector(FINGERPRINT, vector, 4)
    assert [round(s.score, 4) for s in asked] == [round(s.score, 4) for s in scanned]


def test_without_chroma_a_large_index_is_scanned(own: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    own.builder.run(EMBEDDER)
    own.builder.store.drop()
    monkeypatch.setattr("indexers.index.EXACT_SCAN_LIMIT", 0)
    vector = EMBEDDER.embed_query("CookieJar")
    assert own.index.by_vector(FINGERPRINT, vector, 2)


def test_limits(shared: Place) -> None:
    vector = EMBEDDER.embed_query("retry")
    assert len(shared.index.by_vector(FINGERPRINT, vector, 2)) == 2
    assert len(shared.index.by_vector(FINGERPRINT, vector, 10_000)) == shared.ledger.counts("").chunks
    assert shared.index.by_vector(FINGERPRINT, vector, 0) == []
    assert shared.index.by_keyword([], 5) == [] and len(shared.index.by_keyword(["retry"], 1)) == 1


def test_another_embedder_or_length_has_no_neighbours(shared: Place) -> None:
    vector = EMBEDDER.embed_query("retry")
    assert shared.index.by_vector("other", vector, 5) == []
    assert shared.index.by_vector(FINGERPRINT, vector[:7], 5) == []
    assert shared.index.similarities(FINGERPRINT, vector[:7], shared.ledger.chunk_ids()) == {}


def test_similarities_are_those_of_the_scan(shared: Place) -> None:
    vector = EMBEDDER.embed_query("retry")
    scanned = {s.chunk_id: s.score for s in shared.index.by_vector(FINGERPRINT, vector, 100)}
    assert shared.index.similarities(FINGERPRINT, vector, list(scanned)) == pytest.approx(scanned, abs=1e-6)
    assert shared.index.similarities(FINGERPRINT, vector, [-1]) == {}


def test_rare_words_weigh_more(shared: Place) -> None:
    weights = shared.index.weights(["retry", "cookiejar", "absent"])
    assert weights["cookiejar"] > weights["retry"] > 0 == weights["absent"]
    total = shared.ledger.counts("").chunks
    assert weights["cookiejar"] == pytest.approx(math.log((total + 1) / 1.5))


def test_what_is_kept_in_memory_follows_the_generation(own: Place) -> None:
    own.builder.run(EMBEDDER)
    vector = EMBEDDER.embed_query("telescope mirrors")
    before = own.index.by_vector(FINGERPRINT, vector, 100)
    counts, paths = own.index.counts(FINGERPRINT), own.index.paths()
    write(own.root, {"src/telescope.py": "telescope_mirrors = 'telescope mirrors'\n"})
    own.builder.run(EMBEDDER)
    after = own.index.by_vector(FINGERPRINT, vector, 100)
    assert len(after) == len(before) + 1
    assert own.ledger.chunks([after[0].chunk_id])[after[0].chunk_id].chunk.path == "src/telescope.py"
    assert (
        own.index.counts(FINGERPRINT).chunks == counts.chunks + 1 and len(own.index.paths()) == len(paths) + 1
    )


def test_an_empty_index_answers_nothing(tmp_path: Path) -> None:
    place = Place(make_repo(tmp_path / "repo"), tmp_path / "index")
    place.builder.run(EMBEDDER)
    assert place.search("anything at all") == [] and place.index.weights(["x"]) == {"x": 0.0}
    assert place.index.by_vector(FINGERPRINT, EMBEDDER.embed_query("x"), 5) == []


# -- searching --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("retry_call", "src/retry.py"),
        ("CookieJar", "src/cookies.py"),
        ("cookiejar.add_cookie()", "src/cookies.py"),
        ("where are retries of a failing connection?", "src/retry.py"),
        ("which tests cover retry_call", "tests/test_retry.py"),
        ("parsing of headers", "src/parser.py"),
        ("Größe", "docs/deutsch.md"),
        ("配置文件", "src/launch.py"),
        ("怎样读取配置？", "src/launch.py"),
    ],
)
def test_the_right_file_comes_first(shared: Place, query: str, path: str, dense: bool) -> None:
    assert shared.search(query, dense=dense)[0] == path


HOSTILE = [
    '"',
    '""',
    "'",
    '" OR "',
    "retry AND (",
    "NEAR(retry call)",
    "*",
    "body:retry",
    "-retry",
    "^",
    "{a b}",
    "a\x00b",
]
HOSTILE += [
    "\x00",
    "\ud800 retry",
    "\udcff",
    "%",
    "\\",
    "x",
    "é",
    "🎉",
    "?",
    "()",
    "a" * 50_000,
    "retry " * 10_000,
]
HOSTILE += [
    "camelCase" * 6_000,
    "aB_cD " * 9_000,
    "配置" * 20_000,
    "SELECT * FROM chunks; DROP TABLE chunks",
    "\n\t \r",
]


@pytest.mark.parametrize("query", HOSTILE, ids=lambda query: repr(query[:12]))
def test_no_query_hurts(shared: Place, query: str) -> None:
    started = time.perf_counter()
    hits = Search(shared.index, EMBEDDER).hits(query, 5)
    assert len(hits) <= 5 and time.perf_counter() - started < 3.0
    relevant(query, hits, shared.index)
    assert shared.search("CookieJar")[0] == "src/cookies.py"


def test_a_long_text_is_carried_by_its_rare_words(shared: Place) -> None:
    noise = " ".join(f"word{i} other{i}" for i in range(400))
    assert shared.search(f"{noise} CookieJar cookies {noise}", dense=False)[0] == "src/cookies.py"


def test_hits_tell_all(shared: Place) -> None:
    hit = Search(shared.index, EMBEDDER).hits("CookieJar", 1)[0]
    assert (hit.start_line, hit.language, hit.label) == (1, "python", f"src/cookies.py:1-{hit.end_line}")
    assert (
        "CookieJar" in hit.symbols and hit.similarity is not None and hit.text.startswith("class CookieJar")
    )
    assert hit.score == pytest.approx(sum(hit.signals.values()), abs=1e-4)
    assert (
        Search(shared.index, EMBEDDER).hits("CookieJar", 0)
        == []
        == Search(shared.index, EMBEDDER).hits(" ", 5)
    )


def test_the_same_question_gives_the_same_list(shared: Place) -> None:
    lists = {tuple(shared.search("cookies and retries of a session")) for _ in range(5)}
    assert len(lists) == 1


def test_candidates_are_embedded_while_somebody_waits(own: Place) -> None:
    own.builder.refresh()
    asked: list[str] = []

    def embed_now(chunks: Sequence[StoredChunk]) -> None:
        asked.extend(item.chunk.path for item in chunks)
        own.builder.embed(EMBEDDER, chunks, 5.0)

    search = Search(own.index, EMBEDDER, embed_now)
    hits = search.hits("cookies of a session", 3)
    assert "src/cookies.py" in asked and hits[0].similarity is not None
    asked.clear()
    search.hits("cookies of a session", 3)
    assert asked == []


def test_half_embedded_is_searched_as_well(own: Place) -> None:
    own.builder.refresh()
    only = [item for item in own.ledger.pending(FINGERPRINT) if item.chunk.path == "src/parser.py"]
    own.builder.embed(EMBEDDER, only)
    assert own.search("CookieJar")[0] == "src/cookies.py" and own.search("parse_header")[0] == "src/parser.py"


# -- relevance --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("where is retry_call defined?", True),
        ("how are cookies of a session kept?", True),
        ("CookieJar", True),
        ("how is the GraphQL federation gateway sharded across kubernetes clusters?", False),
        ("what is the recipe for pancakes with maple syrup?", False),
    ],
)
def test_what_the_repository_knows_nothing_of(shared: Place, query: str, wanted: bool, dense: bool) -> None:
    hits = Search(shared.index, EMBEDDER if dense else None).hits(query, 10)
    assert relevant(query, hits, shared.index) is wanted


def test_no_hits_are_not_relevant(shared: Place) -> None:
    assert relevant("anything", [], shared.index) is False


# -- size -------------------------------------------------------------------------------------------


def test_ten_thousand_chunks_are_searched_at_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", tmp_path / "vectors.sqlite")
    chance = np.random.default_rng(3)
    words = [f"word{i}" for i in range(2_000)]
    with ledger.transaction():
        for number in range(500):
            path = f"src/f{number}.py"
            texts = [" ".join(chance.choice(words, 40)) for _ in range(20)]
            chunks = [
                keyword_fields(Chunk(path, i + 1, i + 1, text, "python")) for i, text in enumerate(texts)
            ]
            ledger.put_file(path, "b", "python", FileStat(1, 1, 1, 1), 1, chunks)
            vectors = chance.normal(size=(20, EMBEDDER.dimensions)).astype(np.float32)
            ledger.put_vectors(FINGERPRINT, [c.vector_key for c in chunks], vectors)
        ledger.bump_generation()
    index = Index(
        ledger, Builder(Repository.discover(make_repo(tmp_path / "r")), ledger, IndexConfig(), tmp_path).store
    )
    search = Search(index, EMBEDDER)
    search.hits("word1 word2", 10)
    started = time.perf_counter()
    assert len(search.hits("where are word7 word8 and word9 used", 10)) == 10
    assert time.perf_counter() - started < 1.0
    ledger.close()
