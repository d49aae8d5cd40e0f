"""From blobs or a patch to the files of a change as text: what differs, and what cannot or need not be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from chains.reviewing.diff import hunks, limited, touched_lines
from chains.reviewing.patch import PatchedFile, parse_patch
from chains.reviewing.types import Exempt, FileDiff, Hunk, Reason, Unreviewed
from indexers.blobs import MISSING, Blobs, read_blobs
from indexers.files import passed_over, text_of
from indexers.git import Repository
from indexers.languages import language_of
from indexers.revisions import Change, Revision, changes
from indexers.types import Skipped, SkipReason

# A text beyond this is data: not even the checks read it. All of a change together: what fits in seconds and memory.
MAX_FILE_BYTES = 8_000_000
MAX_CHANGE_BYTES = 64_000_000
# Lines that the texts of a patch may have together where they are not known: the numbers in a patch cost nothing.
_MOST_NUMBERED = 4_000_000
_LINK, _GITLINK = 0o120000, 0o160000
_WIDE = re.compile(rb"(?:[\t\n\r -~]\0){4,}|(?:\0[\t\n\r -~]){4,}")


@dataclass(frozen=True, slots=True)
class ReadChange:
    """A change as it can be reviewed. `quiet` are the paths the checks read and the model does not, with the reason.

    `opaque` is what is no text, or was not read: only its name and its bytes are looked through, for secrets.
    """

    title: str
    files: tuple[FileDiff, ...]
    unreviewed: tuple[Unreviewed, ...] = ()
    exempt: tuple[Exempt, ...] = ()
    quiet: tuple[Exempt, ...] = ()
    opaque: tuple[FileDiff, ...] = ()


def unread(revision: Revision, found: Sequence[Change]) -> ReadChange:
    """The paths of a change before anything of it was read: nothing of it is reviewed."""
    lost = tuple(Unreviewed(change.path, 0, 0, Reason.PENDING) for change in found if is_file(change))
    return ReadChange(revision.title, (), lost)


def read_change(
    repository: Repository, revision: Revision, listed: Sequence[Change] | None = None
) -> ReadChange:
    """What a revision changes, read by blob id: the index and the trees of git, never the work tree.

    :param listed: what `changes` says of it, where that is known already.
    """
    found = changes(repository, revision) if listed is None else listed
    ids = [
        blob
        for change in found
        for blob in (change.new, change.old, *change.others)
        if blob and is_file(change)
    ]
    blobs = read_blobs(repository, ids, each=MAX_FILE_BYTES, total=MAX_CHANGE_BYTES)
    return _sorted_out(revision.title, [part for change in found for part in _of_change(change, blobs)])


def read_patch(data: bytes, base: Callable[[str], bytes | None]) -> ReadChange:
    """What a patch changes.

    :param base: the bytes of a path as the patch would find them, or None; where it applies to them, the whole new
        text is known.
    """
    if len(data) > MAX_CHANGE_BYTES:
        reason = Unreviewed("-", 0, 0, Reason.TOO_LARGE, f"a patch of {len(data):,} bytes")
        return ReadChange("a patch", (), (reason,))
    parts: list[_Part] = []
    left = _MOST_NUMBERED
    for item in parse_patch(data):
        found = list(_of_patch(item, base, left))
        left -= sum(
            max(item.known, default=0) for part in found if isinstance(part, FileDiff) and not part.whole
        )
        parts += found
    return _sorted_out("a patch", parts)


_Part = FileDiff | Unreviewed | Exempt


def _sorted_out(title: str, parts: Sequence[_Part]) -> ReadChange:
    files = [part for part in parts if isinstance(part, FileDiff) and not part.opaque]
    quiet = []
    for file in files:
        reason = _unread(file)
        if reason:
            quiet.append(Exempt(file.path, reason))
    return ReadChange(
        title,
        tuple(files),
        tuple(part for part in parts if isinstance(part, Unreviewed)),
        tuple(part for part in parts if isinstance(part, Exempt)),
        tuple(quiet),
        tuple(part for part in parts if isinstance(part, FileDiff) and part.opaque),
    )


def _unread(file: FileDiff) -> str:
    """Why a model would not read a file, though the checks do; empty where it would."""
    if not any(hunk.added or hunk.removed for hunk in file.hunks):
        return "nothing but its name or mode changed"
    if file.after is None:
        return "deleted"
    if file.new_mode == _LINK:
        return SkipReason.SYMLINK.value
    skipped = passed_over(file.path, file.after)
    return skipped.reason.value if skipped else ""


def is_file(change: Change) -> bool:
    """Whether both sides are files, and none a submodule."""
    return _GITLINK not in (change.old_mode, change.new_mode)


def _of_change(change: Change, blobs: Blobs) -> Iterator[_Part]:
    """A file as text; or why it is none, and what is looked through all the same."""
    if change.status == "U":
        yield Unreviewed(change.path, 0, 0, Reason.CONFLICT)
        return
    if not is_file(change):
        yield Exempt(change.path, SkipReason.SUBMODULE.value)
        return
    for blob in (change.new, change.old):
        if blob in blobs.missing:
            lost = blobs.missing[blob]
            yield Unreviewed(change.path, 0, 0, Reason.MISSING if lost == MISSING else Reason.TOO_LARGE)
            if change.new:
                # Its name alone may say that it is a secret.
                yield FileDiff(change.path, change.status, None, "", (), opaque=True)
            return
    after = text_of(blobs.data[change.new]) if change.new else None
    if isinstance(after, Skipped):
        yield Exempt(change.path, f"{after.reason.value} ({after.detail})")
        yield _compared(change, blobs, opaque_text)
    else:
        yield _compared(change, blobs, _text)


def differing(change: Change, blobs: Blobs) -> FileDiff:
    """What a change did to a file, as text or as whatever there is to read in it."""
    text = change.new and _text(blobs.data[change.new]) is not None
    return _compared(change, blobs, _text if text else opaque_text)


def _text(data: bytes) -> str | None:
    """Bytes as text; None for those that are none."""
    text = text_of(data)
    return text if isinstance(text, str) else None


def opaque_text(data: bytes) -> str:
    """Whatever there is to read in bytes that are no text, at the lines where it stands.

    Letters of two bytes, as UTF-16 has them, count as letters; any other NUL as a space.
    """
    narrow = _WIDE.sub(lambda match: match[0].replace(b"\0", b""), data)
    return narrow.replace(b"\0", b" ").decode("latin-1").replace("\r\n", "\n")


def _compared(change: Change, blobs: Blobs, decode: Callable[[bytes], str | None]) -> FileDiff:
    """Both sides of a change, decoded, and in what they differ."""
    before, after = (decode(blobs.data[blob]) if blob else None for blob in (change.old, change.new))
    found = hunks(before, after)
    for other in change.others:
        text = decode(blobs.data.get(other, b""))
        if text is not None:
            found = limited(found, touched_lines(text, after))
    opaque = decode is opaque_text
    return FileDiff(
        change.path,
        change.status,
        before,
        after,
        found,
        "" if opaque else _language(change.path, after or before or ""),
        change.old_path,
        change.old_mode,
        change.new_mode,
        opaque=opaque,
    )


def _of_patch(item: PatchedFile, base: Callable[[str], bytes | None], most: int) -> Iterator[_Part]:
    """A file of a patch as text; or why it is none, and the lines that are looked through all the same.

    :param most: so many lines a text may have of which only some are known.
    """
    path = item.path or item.old_path or "-"
    if item.trouble or not item.is_text or not (item.path or item.old_path):
        if item.trouble:
            yield Unreviewed(path, 0, 0, Reason.NO_DIFF, item.trouble)
        elif not item.is_text:
            yield Exempt(path, SkipReason.BINARY.value)
        yield _loose(path, item)
        return
    status = (
        "D" if not item.path else "A" if not item.old_path else "R" if item.old_path != item.path else "M"
    )
    found = base(item.old_path) if item.old_path else b""
    before = text_of(found) if found is not None else None
    after = _applied(before, item) if isinstance(before, str) else None
    if not item.path:
        known = before if isinstance(before, str) and not after else None
        language = _language(path, known or "")
        yield FileDiff(
            path, status, known, None, item.hunks, language, old_mode=item.old_mode, whole=known is not None
        )
        return
    language = _language(path, after or item.known.get(1, ""))
    whole = after is not None and isinstance(before, str)
    if not whole:
        last = max(item.known, default=0)
        if last > most:
            yield Unreviewed(path, 0, 0, Reason.NO_DIFF, f"a line of number {last:,}")
            yield _loose(path, item)
            return
        after = "\n".join(item.known.get(number, "") for number in range(1, last + 1)) + "\n"
    # A copy is a new file: what it was copied from stays where it is.
    edited = whole and bool(item.old_path) and not item.copied
    yield FileDiff(
        path,
        "C" if item.copied else status,
        before if edited and isinstance(before, str) else None,
        after,
        item.hunks,
        language,
        "" if item.copied else item.old_path,
        item.old_mode,
        item.new_mode,
        whole,
    )


def _loose(path: str, item: PatchedFile) -> FileDiff:
    """The added lines of a file that could not be read, one after the other: where they go, nobody knows."""
    text = opaque_text(item.added)
    status = "A" if item.path and not item.old_path else "M" if item.path == item.old_path else "R"
    found = (Hunk(1, tuple(text.split("\n")), 1, ()),) if item.added else ()
    return FileDiff(path, status, None, text, found, old_path=item.old_path, opaque=True)


def _applied(before: str, item: PatchedFile) -> str | None:
    """The new text; None where the old one is not what the patch was made for."""
    old = before.split("\n")
    new: list[str] = []
    at = 0
    for hunk in item.hunks:
        start = hunk.old_start - 1 if hunk.removed else hunk.start - 1 + at - len(new)
        if not at <= start <= len(old) or tuple(old[start : start + len(hunk.removed)]) != hunk.removed:
            return None
        new += old[at:start]
        new += hunk.added
        at = start + len(hunk.removed)
    new += old[at:]
    fits = all(number <= len(new) and new[number - 1] == line for number, line in item.known.items())
    return "\n".join(new) if fits else None


def _language(path: str, text: str) -> str:
    return language_of(path, text[:300].split("\n", 1)[0])
