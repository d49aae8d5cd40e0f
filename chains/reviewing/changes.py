"""From blobs or a patch to the files of a change as text: what differs, and what cannot or need not be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chains.reviewing.diff import hunks, limited, touched_lines
from chains.reviewing.patch import PatchedFile, parse_patch
from chains.reviewing.types import Exempt, FileDiff, Reason, Unreviewed
from indexers.blobs import MISSING, Blobs, read_blobs
from indexers.files import passed_over, text_of
from indexers.git import Repository
from indexers.languages import language_of
from indexers.revisions import Change, Revision, changes
from indexers.types import Skipped, SkipReason

# A text beyond this is data: not even the checks read it. All of a change together: what fits in seconds and memory.
MAX_FILE_BYTES = 8_000_000
MAX_CHANGE_BYTES = 64_000_000
_LINK, _GITLINK = 0o120000, 0o160000


@dataclass(frozen=True, slots=True)
class ReadChange:
    """A change as it can be reviewed. `quiet` are the paths the checks read and the model does not, with the reason."""

    title: str
    files: tuple[FileDiff, ...]
    unreviewed: tuple[Unreviewed, ...] = ()
    exempt: tuple[Exempt, ...] = ()
    quiet: tuple[Exempt, ...] = ()


def unread(revision: Revision, found: Sequence[Change]) -> ReadChange:
    """The paths of a change before anything of it was read: nothing of it is reviewed."""
    lost = tuple(Unreviewed(change.path, 0, 0, Reason.PENDING) for change in found if _is_file(change))
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
        if blob and _is_file(change)
    ]
    blobs = read_blobs(repository, ids, each=MAX_FILE_BYTES, total=MAX_CHANGE_BYTES)
    return _sorted_out(revision.title, [_of_change(change, blobs) for change in found])


def read_patch(data: bytes, base: Callable[[str], bytes | None]) -> ReadChange:
    """What a patch changes.

    :param base: the bytes of a path as the patch would find them, or None; where it applies to them, the whole new
        text is known.
    """
    if len(data) > MAX_CHANGE_BYTES:
        reason = Unreviewed("-", 0, 0, Reason.TOO_LARGE, f"a patch of {len(data):,} bytes")
        return ReadChange("a patch", (), (reason,))
    return _sorted_out("a patch", [_of_patch(item, base) for item in parse_patch(data)])


_Part = FileDiff | Unreviewed | Exempt


def _sorted_out(title: str, parts: Sequence[_Part]) -> ReadChange:
    files = [part for part in parts if isinstance(part, FileDiff)]
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


def _is_file(change: Change) -> bool:
    return _GITLINK not in (change.old_mode, change.new_mode)


def _of_change(change: Change, blobs: Blobs) -> _Part:
    if change.status == "U":
        return Unreviewed(change.path, 0, 0, Reason.CONFLICT)
    if not _is_file(change):
        return Exempt(change.path, SkipReason.SUBMODULE.value)
    for blob in (change.new, change.old):
        if blob in blobs.missing:
            lost = blobs.missing[blob]
            return Unreviewed(change.path, 0, 0, Reason.MISSING if lost == MISSING else Reason.TOO_LARGE)
    before, after = (text_of(blobs.data[blob]) if blob else None for blob in (change.old, change.new))
    if isinstance(after, Skipped):
        return Exempt(change.path, f"{after.reason.value} ({after.detail})")
    before = None if isinstance(before, Skipped) else before
    found = hunks(before, after)
    for other in change.others:
        text = text_of(blobs.data.get(other, b""))
        if isinstance(text, str):
            found = limited(found, touched_lines(text, after))
    return FileDiff(
        change.path,
        change.status,
        before,
        after,
        found,
        _language(change.path, after or before or ""),
        change.old_path,
        change.old_mode,
        change.new_mode,
    )


def _of_patch(item: PatchedFile, base: Callable[[str], bytes | None]) -> _Part:
    path = item.path or item.old_path
    if not item.is_text:
        return Exempt(path, SkipReason.BINARY.value)
    if not item.path:
        return Exempt(path, "deleted")
    status = "A" if not item.old_path else "R" if item.old_path != item.path else "M"
    found = base(item.old_path) if item.old_path else b""
    before = text_of(found) if found is not None else None
    after = _applied(before, item) if isinstance(before, str) else None
    language = _language(path, after or item.known.get(1, ""))
    if after is None or not isinstance(before, str):
        known = [item.known.get(number, "") for number in range(1, max(item.known, default=0) + 1)]
        text = "\n".join(known) + "\n"
        return FileDiff(path, status, None, text, item.hunks, language, item.old_path, whole=False)
    return FileDiff(
        path, status, before if item.old_path else None, after, item.hunks, language, item.old_path
    )


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
