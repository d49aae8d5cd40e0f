"""The benchmark of joined sources: what can be asked for, what counts as right, and how ways are compared."""

from __future__ import annotations

from pathlib import Path

from needles import FULL, WAYS, Row, _again, groups_of, needles, prompts, right, shown, summary

from chains.kv.layout import Repair

CODE = '''
class Box:
    def {name}_{number}(self, thing, other):
        """Put a thing number {number} into this box unless there is another one already.

        More of it.
        """
        if other:
            return None
        self.things.append(thing)

    @property
    def size(self):
        """Too short."""
        return 1
'''


def write(root: Path, files: int = 1) -> None:
    for file in range(files):
        text = "".join(CODE.format(name=f"put{file}", number=number) for number in range(7))
        (root / f"box{file}.py").write_text(text)


def test_functions_lose_their_docstrings_and_names_stay_secret(tmp_path: Path) -> None:
    write(tmp_path)
    found = needles(tmp_path / "box0.py", tmp_path)
    assert [one.name for one in found] == [f"put0_{number}" for number in range(7)]
    assert found[0].doc == "Put a thing number 0 into this box unless there is another one already."
    assert "number 0" not in found[0].text and "self.things.append(thing)" in found[0].text
    (tmp_path / "bad.py").write_text("def (")
    assert needles(tmp_path / "bad.py", tmp_path) == []


def test_groups_are_the_same_each_time(tmp_path: Path) -> None:
    write(tmp_path, 3)
    assert groups_of([tmp_path], 9) == groups_of([tmp_path], 9)
    assert [len(group) for group in groups_of([tmp_path], 2)] == [6, 6]


def test_the_first_name_in_an_answer_counts() -> None:
    names = ["put", "put_all", "get"]
    assert right("`put_all`", "put_all", names) and not right("`put_all`", "put", names)
    assert right("It is put, not get.", "put", names) and not right("get or put", "put", names)
    assert not right("The sources do not show this.", "put", names) and not right("output", "put", names)


def test_prompts_of_a_group_share_all_but_the_question(tmp_path: Path) -> None:
    write(tmp_path)
    (group,) = groups_of([tmp_path], 1)
    for way in WAYS:
        asked = [messages[-1].content for _, messages in prompts(group, way)]
        assert all(one[:-1] == asked[0][:-1] for one in asked)
        assert len({one[-1]["text"] for one in asked}) == len(group)


def test_what_is_read_again_is_counted() -> None:
    lengths = [100, 50, 10, 40]
    assert _again(None, lengths) == 200 and _again(Repair(), lengths) == 0
    assert _again(Repair(16), lengths) == 16 + 10 + 16 and _again(Repair(16, 1), lengths) == 16 + 10 + 40


def test_ways_are_compared_on_the_questions_they_share() -> None:
    def row(name: str, way: str, is_right: bool) -> Row:
        return Row("m", "g" + name[0], name, way, "", is_right, 100, 0 if way == "joined" else 100)

    rows = [row("a1", FULL, True), row("a2", FULL, True), row("b1", FULL, False), row("b2", FULL, True)]
    rows += [row("a1", "joined", True), row("a2", "joined", False), row("b1", "joined", False)]
    told = summary(rows)
    assert told[FULL]["questions"] == 4 and told[FULL]["right"] == 0.75 and told[FULL]["points"] is None
    assert told["joined"]["questions"] == 3 and told["joined"]["points"][0] == -33.3
    assert told["joined"]["full_right"] == 2 / 3 and told["joined"]["read_again"] == 0
    assert "joined" in shown({"m": told})
