"""From what was written for each target to edits of files: fitted, with the imports that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chains.writing.choosing import Target
from chains.writing.edit_checks import undefined_names
from chains.writing.edits import Edit, FileChange, FileState, Kind, Text, changes_of
from chains.writing.fitting import fitted
from chains.writing.imports import import_for, import_rows, missing_imports
from chains.writing.replies import margin_of
from indexers.languages import language_of

if TYPE_CHECKING:
    from indexers.relations import Relations


@dataclass(frozen=True, slots=True)
class Composed:
    """Edits and what they do to files. `unchanged` are targets whose code came back as it was."""

    edits: tuple[Edit, ...]
    changes: tuple[FileChange, ...]
    unchanged: tuple[Target, ...] = ()


def composed(
    written: Mapping[Target, str],
    files: Mapping[str, FileState],
    relations: Relations | None,
    *,
    removes: bool = False,
) -> Composed:
    """What was written for the targets as edits.

    :param removes: something was to be removed: nothing in the place of something is an answer then.
    :raises EditError: they contradict one another, or do not fit a file's encoding.
    """
    edits: list[Edit] = []
    imports: dict[str, list[str]] = {}
    unchanged = []
    for target, code in written.items():
        edit, lines = (
            _edit(target, code, files) if removes or code.strip() or target.region is None else (None, ())
        )
        imports.setdefault(target.path, []).extend(lines)
        if edit is None:
            unchanged.append(target)
        else:
            edits.append(edit)
    edits += _import_edits(imports, files)
    changes = [change for change in changes_of(edits, files) if change.before != change.after]
    more = {change.path: _needed(change, relations) for change in changes}
    if any(more.values()):
        for path, needed in more.items():
            imports.setdefault(path, []).extend(needed)
        kept = [edit for edit in edits if not _is_import(edit)]
        edits = [*kept, *_import_edits(imports, files, kept)]
        edits = _into_new_files(edits, imports)
        changes = [change for change in changes_of(edits, files) if change.before != change.after]
    touched = {change.path for change in changes} | {e.to for e in edits}
    return Composed(tuple(e for e in edits if e.path in touched or e.to), tuple(changes), tuple(unchanged))


def _edit(target: Target, code: str, files: Mapping[str, FileState]) -> tuple[Edit | None, tuple[str, ...]]:
    """The edit of one target, None where nothing changes, and the imports that stood over its code."""
    if target.kind is Kind.DELETE:
        return Edit(Kind.DELETE, target.path, blob=files[target.path].blob), ()
    if target.kind is Kind.RENAME:
        return Edit(Kind.RENAME, target.path, to=target.to, blob=files[target.path].blob), ()
    if target.kind is Kind.CREATE:
        whole = code.strip("\n")
        return (Edit(Kind.CREATE, target.path, text=whole + "\n"), ()) if whole else (None, ())
    region = target.region
    assert region is not None
    state = files[target.path]
    text = Text.of(state.data)
    original = text.shown(region.start_line, region.end_line)
    language = language_of(target.path, text.lines[0])
    if target.kind is Kind.REPLACE:
        found = fitted(code, original, region, language)
        if found.code.rstrip() == original.rstrip():
            return None, ()
        body = found.code + "\n" if found.code.strip() else ""
        edit = Edit(Kind.REPLACE, target.path, region.start_line, region.end_line, body, state.blob)
        return edit, found.imports
    found = fitted(code, original, None, language)
    if not found.code.strip():
        return None, ()
    blank = "\n" * _blank_lines(text, region.end_line, original, language)
    place = region.end_line + 1
    return Edit(
        Kind.INSERT, target.path, place, text=f"{blank}{found.code}\n", blob=state.blob
    ), found.imports


def _blank_lines(text: Text, end_line: int, original: str, language: str) -> int:
    """How many empty lines separate definitions there: as many as follow the region, else what is usual."""
    margin = margin_of(original)
    usual = 2 if language == "python" and not margin else 1
    following = text.lines[end_line : end_line + 4]
    count = next((at for at, line in enumerate(following) if line.strip()), 0)
    # Behind the last of a type stands what separates types.
    return count if count and following[count].startswith(margin) else usual


_IMPORT_STARTS = ("import ", "from ")


def _is_import(edit: Edit) -> bool:
    return edit.kind is Kind.INSERT and all(
        line.startswith(_IMPORT_STARTS) for line in edit.text.splitlines() if line
    )


def _import_edits(
    imports: Mapping[str, Sequence[str]], files: Mapping[str, FileState], others: Sequence[Edit] = ()
) -> list[Edit]:
    """Inserts of import lines at the top of files that exist."""
    found = []
    for path, lines in imports.items():
        if path not in files or not lines:
            continue
        text = Text.of(files[path].data).text
        missing = missing_imports(text, lines)
        for row, group in import_rows(text, missing):
            new = "".join(f"{line}\n" for line in group)
            found.append(Edit(Kind.INSERT, path, row, text=new, blob=files[path].blob))
    return found


def _into_new_files(edits: Sequence[Edit], imports: Mapping[str, Sequence[str]]) -> list[Edit]:
    """New files with the imports that they lack on top."""
    found = []
    for edit in edits:
        lines = imports.get(edit.path, ()) if edit.kind is Kind.CREATE else ()
        missing = missing_imports(edit.text, lines) if lines else []
        rows = edit.text.split("\n")
        # From the end, so that the rows above stay true.
        for row, group in sorted(import_rows(edit.text, missing), reverse=True):
            at = row - 1
            rows[at:at] = [*group, *([""] if at == 0 else [])]
        if missing:
            edit = Edit(Kind.CREATE, edit.path, text="\n".join(rows))
        found.append(edit)
    return found


def _needed(change: FileChange, relations: Relations | None) -> list[str]:
    """Imports for names that a file has come to use without having them."""
    lines = [import_for(name, change.path, relations) for name in undefined_names(change)]
    return [line for line in lines if line]
