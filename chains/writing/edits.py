"""Edits as values: what is to change in files as they were recorded, and the bytes that come of it. Pure."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from enum import Enum

from indexers.errors import AgentError
from indexers.files import blob_id

NEW_FILE_MODE = 0o644
# Longest first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


# A file that says how it is encoded, in its first two lines (PEP 263; editors read the same).
_DECLARED = re.compile(rb"[ \t\f]*(?:#|//|;|%|\"|\.\.|<!--).{0,200}?coding[:=][ \t]*([-\w.]{1,40})")


class EditError(AgentError):
    """An edit that cannot be made: lines that are not there, a character that the file cannot hold."""


class Kind(str, Enum):
    """What an edit does; the value is what people and JSON read."""

    REPLACE = "replace"
    INSERT = "insert"
    CREATE = "create"
    DELETE = "delete"
    RENAME = "rename"


@dataclass(frozen=True, slots=True)
class Edit:
    """One change to one file. Lines are 1-based and inclusive; an insert stands before `start_line`.

    `text` has line feeds for line ends, whatever the file has. `blob` is the git blob id of the file that the lines
    count in, empty for a new file. `to` is the new path of a rename, `mode` new permission bits where they change.
    """

    kind: Kind
    path: str
    start_line: int = 0
    end_line: int = 0
    text: str = ""
    blob: str = ""
    to: str = ""
    mode: int | None = None

    @property
    def label(self) -> str:
        """Path and lines, as sources and citations name it."""
        if self.kind is Kind.REPLACE:
            return f"{self.path}:{self.start_line}-{self.end_line}"
        return f"{self.path}:{self.start_line}" if self.kind is Kind.INSERT else self.path


@dataclass(frozen=True, slots=True)
class FileState:
    """A file's bytes and its permission bits (such as 0o644)."""

    data: bytes = field(repr=False)
    mode: int = NEW_FILE_MODE

    @property
    def blob(self) -> str:
        """The name git gives to these bytes."""
        return blob_id(self.data)


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file before and after; None where there is none."""

    path: str
    before: FileState | None
    after: FileState | None


@dataclass(frozen=True, slots=True)
class Text:
    """A file's bytes as lines, and what is needed to give every byte that is not edited back as it was.

    `lines` are without line feeds, but with a carriage return where one stood before it; the last one is empty
    when the file ends with a line feed.
    """

    lines: tuple[str, ...]
    encoding: str
    mark: bytes

    @classmethod
    def of(cls, data: bytes) -> Text:
        """Decode a file.

        :raises EditError: the bytes are no text, or none that could be written again byte for byte.
        """
        mark, encoding = next(((m, e) for m, e in _MARKS if data.startswith(m)), (b"", ""))
        body = data[len(mark) :]
        guessed = (*_declared(body), "utf-8", "cp1252", "latin-1")
        for name in (encoding,) if encoding else guessed:
            try:
                text = body.decode(name)
                same = text.encode(name) == body
            except UnicodeError:
                continue
            if "\0" not in text and same:
                return cls(tuple(text.split("\n")), name, mark)
        raise EditError("The file is binary, or its text cannot be read without loss.")

    @property
    def count(self) -> int:
        """How many lines there are, as git and editors count."""
        return len(self.lines) - (not self.lines[-1])

    @property
    def ends_with_newline(self) -> bool:
        """Whether the last line is ended."""
        return not self.lines[-1]

    @property
    def text(self) -> str:
        """The whole with line feeds alone, as the index and models read it."""
        return "\n".join(line.removesuffix("\r") for line in self.lines)

    def shown(self, start_line: int, end_line: int) -> str:
        """Some lines with line feeds alone, without the last one's."""
        return "\n".join(line.removesuffix("\r") for line in self.lines[start_line - 1 : end_line])

    def return_at(self, start_line: int, end_line: int) -> str:
        """What lines put there end with before the line feed: as most lines there do, else as most of the file."""
        # Not the last one: it has no line end, or is what follows the last line end.
        ended = self.lines[:-1]
        for lines in (ended[max(0, start_line - 1) : max(start_line, end_line)], ended):
            returns = sum(line.endswith("\r") for line in lines)
            if lines and 2 * returns != len(lines):
                return "\r" if 2 * returns > len(lines) else ""
        return ""

    def encoded(self, lines: Sequence[str]) -> bytes:
        """These lines in this file's encoding, with its byte order mark.

        :raises EditError: a character that the encoding does not have.
        """
        try:
            return self.mark + "\n".join(lines).encode(self.encoding)
        except UnicodeEncodeError as error:
            raise EditError(
                f"The file is encoded as {self.encoding}, which has no {error.object[error.start]!r}."
            ) from None


def _declared(body: bytes) -> tuple[str, ...]:
    """The encoding that a file says it has, where there is such a one and it leaves ASCII as it is."""
    found = next((match for line in body.split(b"\n", 2)[:2] if (match := _DECLARED.match(line))), None)
    try:
        info = codecs.lookup(found[1].decode("ascii")) if found else None
        plain = info is not None and "a~\n".encode(info.name) == b"a~\n"
    except (LookupError, UnicodeError):
        return ()
    return (info.name,) if info is not None and plain else ()


def edited(data: bytes, edits: Iterable[Edit]) -> bytes:
    """A file's bytes with the lines of these edits replaced or inserted, everything else as it was.

    :raises EditError: the edits are for other bytes, name lines that do not exist, overlap, or do not fit the encoding.
    """
    original, blob = Text.of(data), blob_id(data)
    lines, below = list(original.lines), len(original.lines) + 1
    # From the end, so that line numbers above stay true; of two at one place the later one stands below.
    listed = list(edits)
    ordered = sorted((edit.start_line, edit.end_line, number) for number, edit in enumerate(listed))
    for *_, number in reversed(ordered):
        edit = listed[number]
        if edit.blob != blob:
            raise EditError(
                f"{edit.path} has changed since it was read.", "Ask again: the edit is for other text."
            )
        start, end = edit.start_line, edit.end_line if edit.kind is Kind.REPLACE else edit.start_line - 1
        most = original.count + (edit.kind is Kind.INSERT)
        if not 1 <= start <= max(most, 1) or end > original.count or end < start - 1:
            raise EditError(f"{edit.path} has {original.count} lines; {edit.label} is not among them.")
        if end >= below or (edit.kind is Kind.REPLACE and start >= below):
            raise EditError(f"Two edits of {edit.path} are about the same lines.")
        _put(lines, original, edit, start, end)
        below = start
    return original.encoded(lines)


def _put(lines: list[str], original: Text, edit: Edit, start: int, end: int) -> None:
    """Replace lines `start` to `end` of the list in place; the end of the file stays ended as it was."""
    text = edit.text.replace("\r\n", "\n")
    back = original.return_at(start, end)
    new = text.removesuffix("\n").split("\n") if text else []
    added = _ended(new, original.lines[start - 1 : end], back)
    # What was put behind the last line already ends the file.
    at_end = not original.ends_with_newline and end >= original.count and len(lines) == len(original.lines)
    while at_end and added and added[-1] in ("", "\r"):
        # A blank last line would be a line end.
        del added[-1]
    if at_end and added:
        # The file's last line has no line end, and keeps having none.
        added[-1] = added[-1].removesuffix("\r")
        if edit.kind is Kind.INSERT and lines[start - 2 : start - 1] and start > original.count:
            lines[start - 2] += back
    lines[start - 1 : end] = added
    if not lines:
        lines.append("")


def _ended(new: Sequence[str], old: Sequence[str], back: str) -> list[str]:
    """New lines with `back` behind each; where the old ones end in two ways, those that stay keep theirs."""
    added = [line + back for line in new]
    if len({line.endswith("\r") for line in old}) > 1:
        plain = [line.removesuffix("\r") for line in old]
        for here, there, size in SequenceMatcher(None, plain, new, autojunk=False).get_matching_blocks():
            added[there : there + size] = old[here : here + size]
    return added


def changes_of(edits: Sequence[Edit], files: Mapping[str, FileState]) -> list[FileChange]:
    """What edits do to files, one change for each path, sorted by path.

    :param files: the files as they were recorded; a path that is not there does not exist.
    :raises EditError: an edit of a file that does not exist, a new file where there is one, or edits that conflict.
    """
    after: dict[str, FileState | None] = {}
    for path in dict.fromkeys(edit.path for edit in edits):
        mine = [edit for edit in edits if edit.path == path]
        _check_together(path, mine)
        for target, state in _results(path, mine, files).items():
            if target in after or (target != path and target in files):
                raise EditError(f"There is a file at {target} already.")
            after[target] = state
    return [FileChange(path, files.get(path), state) for path, state in sorted(after.items())]


def _check_together(path: str, edits: Sequence[Edit]) -> None:
    whole = [edit for edit in edits if edit.kind in (Kind.CREATE, Kind.DELETE)]
    if whole and len(edits) > 1:
        raise EditError(f"{path} is to be {whole[0].kind.value}d and edited at once.")
    if sum(edit.kind is Kind.RENAME for edit in edits) > 1:
        raise EditError(f"{path} is to be renamed twice.")


def _results(path: str, edits: Sequence[Edit], files: Mapping[str, FileState]) -> dict[str, FileState | None]:
    """The states of the paths that the edits of one file touch."""
    before, first = files.get(path), edits[0]
    modes = [edit.mode for edit in edits if edit.mode is not None]
    if first.kind is Kind.CREATE:
        if before is not None:
            raise EditError(f"There is a file at {path} already.")
        text = first.text if first.text.endswith("\n") or not first.text else first.text + "\n"
        return {path: FileState(text.encode("utf-8", "replace"), first.mode or NEW_FILE_MODE)}
    if before is None:
        raise EditError(f"There is no file at {path}.")
    if any(edit.blob != before.blob for edit in edits):
        raise EditError(f"{path} has changed since it was read.", "Ask again: the edit is for other text.")
    if first.kind is Kind.DELETE:
        return {path: None}
    lines = [edit for edit in edits if edit.kind is not Kind.RENAME]
    data = edited(before.data, lines) if lines else before.data
    state = FileState(data, modes[-1] if modes else before.mode)
    renamed = next((edit.to for edit in edits if edit.kind is Kind.RENAME), "")
    return {path: None, renamed: state} if renamed else {path: state}
