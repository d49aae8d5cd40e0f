"""Importance by who uses whose names: pure, the same in any order, and what it should be on small graphs."""

from __future__ import annotations

import random

import pytest

from indexers.graph import GraphFile, name_weight, nearest, rank


def file(path: str, defines: str = "", uses: str = "", imports: str = "", **more: object) -> GraphFile:
    counts: dict[str, float] = {}
    for name in uses.split():
        counts[name] = counts.get(name, 0.0) + 1
    language = {"py": "python", "go": "go", "js": "javascript", "ts": "typescript"}[path.rpartition(".")[2]]
    return GraphFile(
        path, language, frozenset(defines.split()), counts, frozenset(imports.split()), aside=bool(more)
    )


REPOSITORY = [
    file("app.py", "serve_forever", "RequestHandler load_config parse_header", "http config"),
    file("http.py", "RequestHandler parse_header", "load_config _private_name", "config"),
    file("config.py", "load_config _private_name"),
    file("leaf.py", "lonely_function"),
    file("tests/test_app.py", "test_serving", "serve_forever RequestHandler", "app http", aside=True),
]


def best(files: dict[str, float] | object) -> str:
    assert isinstance(files, dict)
    return max(files, key=lambda key: files[key])


def test_what_all_use_ranks_before_what_nobody_uses() -> None:
    ranks = rank(REPOSITORY)
    assert ranks.files["http.py"] > ranks.files["leaf.py"] > ranks.files["tests/test_app.py"]
    assert ranks.names["http.py", "RequestHandler"] > ranks.names["config.py", "_private_name"]
    assert ("leaf.py", "lonely_function") not in ranks.names


def test_ranks_are_shares_but_for_what_lies_aside() -> None:
    assert sum(rank(REPOSITORY[:4]).files.values()) == pytest.approx(1)
    assert sum(rank(REPOSITORY).files.values()) < 1


def test_the_order_of_files_does_not_matter() -> None:
    expected = rank(REPOSITORY)
    chooser = random.Random(1)
    for _ in range(5):
        shuffled = chooser.sample(REPOSITORY, len(REPOSITORY))
        found = rank(shuffled)
        assert list(found.files.items()) == list(expected.files.items())
        assert list(found.names.items()) == list(expected.names.items())


def test_a_focus_moves_importance_to_it_and_what_it_touches() -> None:
    plain, focused = rank(REPOSITORY), rank(REPOSITORY, focus_paths={"leaf.py"})
    assert best(focused.files) == "leaf.py" != best(plain.files)
    # Shown although nobody uses it.
    assert focused.names["leaf.py", "lonely_function"] > 0
    by_name = rank(REPOSITORY, focus_names={"load_config"})
    assert best(by_name.names) == ("config.py", "load_config")
    assert by_name.files["app.py"] > by_name.files["leaf.py"]


@pytest.mark.parametrize(
    ("more", "less"),
    [
        (("RequestHandler", 1), ("get", 1)),
        (("request_handler", 1), ("_request_handler", 1)),
        (("Context", 1), ("context", 1)),
        (("get", 1), ("x", 1)),
        (("RequestHandler", 1), ("RequestHandler", 10)),
    ],
)
def test_what_a_name_says(more: tuple[str, int], less: tuple[str, int]) -> None:
    assert name_weight(*more, files=100) > name_weight(*less, files=100) > 0


def test_a_name_that_all_define_says_nothing() -> None:
    files = [file(f"a{n}.py", "main") for n in range(60)] + [file("user.py", "", "main")]
    assert rank(files).names == {}


def test_the_nearest_definition_is_meant() -> None:
    user = file("web/app.py", "", "run", "tasks")
    own, imported = file("web/app.py", "run"), file("core/tasks.py", "run")
    folder, beside = file("tasks/__init__.py", "run"), file("web/other.py", "run")
    far, foreign = file("far/away.py", "run"), file("web/app.js", "run")
    everything = [foreign, far, beside, folder, imported, own]
    for expected in (own, imported, folder, beside, far):
        assert nearest(user, everything) == [expected]
        everything.remove(expected)
    assert nearest(user, everything) == []
    assert nearest(file("a.ts"), [file("b.js", "run")]) == [file("b.js", "run")]


@pytest.mark.parametrize(
    "files", [[], [file("a.py")], [file("a.py", "one", "one")], [file("a.py", "", "nowhere")]]
)
def test_nearly_nothing(files: list[GraphFile]) -> None:
    ranks = rank(files)
    assert sorted(ranks.files) == [f.path for f in files]
    assert all(0 <= value <= 1 for value in [*ranks.files.values(), *ranks.names.values()])
    assert rank(files, {"a.py", "missing.py"}, {"one", "missing"}).files.keys() == ranks.files.keys()
