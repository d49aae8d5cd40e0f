"""What a formatter made of a draft, as edits again: what is shown, told and applied is one and the same. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher

from chains.writing.composing import Composed
from chains.writing.diffs import common_ends
from chains.writing.edits import Edit, FileChange, FileState, Kind, Text, changes_of


def reformatted(made: Composed, left: Sequence[FileChange], files: Mapping[str, FileState]) -> Composed:
    """A draft with the texts that a formatter left, and the edits that lead to them.

    What no edit can say is not taken: another line end in lines that stay, another mode.
    :raises EditError: what it left is no text, or does not fit the file.
    """
    drafted = {change.path: change.after for change in made.changes}
    old_names = {edit.to: edit.path for edit in made.edits if edit.kind is Kind.RENAME}
    edits = list(made.edits)
    for change in left:
        draft = drafted.get(change.path)
        if change.after is None or (draft is not None and change.after.data == draft.data):
            continue
        path = old_names.get(change.path, change.path)
        edits = [edit for edit in edits if edit.path != path or edit.kind is Kind.RENAME]
        edits += _edits_between(path, files.get(path), change.after)
    changes = tuple(change for change in changes_of(edits, files) if change.before != change.after)
    touched = {change.path for change in changes}
    kept = tuple(edit for edit in edits if edit.path in touched or edit.to in touched)
    return Composed(kept, changes, made.unchanged)


def _edits_between(path: str, before: FileState | None, after: FileState) -> Iterator[Edit]:
    """The edits that make one text of another, by lines."""
    if before is None:
        yield Edit(Kind.CREATE, path, text=Text.of(after.data).text)
        return
    old, new = _lines(before), _lines(after)
    top, tail = common_ends(old, new)
    # Only what lies between the first and the last difference is compared line by line.
    old, new = old[top : len(old) - tail], new[top : len(new) - tail]
    for tag, a, b, c, d in SequenceMatcher(None, old, new).get_opcodes():
        text = "".join(f"{line}\n" for line in new[c:d])
        if tag == "insert":
            yield Edit(Kind.INSERT, path, top + a + 1, text=text, blob=before.blob)
        elif tag != "equal":
            yield Edit(Kind.REPLACE, path, top + a + 1, top + b, text, before.blob)


def _lines(state: FileState) -> list[str]:
    text = Text.of(state.data)
    return text.text.split("\n")[: text.count]
