"""Compares an index with itself, with the work tree and with Chroma; and says of a path why it is in it or not."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from indexers.build import Builder
from indexers.errors import IndexDamaged
from indexers.files import link_on_the_way, stat_file
from indexers.git import GITLINK
from indexers.ledger import Ledger
from indexers.reading import Job, read_file, vector_key
from indexers.store import StoreState
from indexers.stored import ManifestEntry, StoredChunk
from indexers.types import SkipReason, TrackedFile

if TYPE_CHECKING:
    from indexers.embedding import Embedder

UPDATE = "agent index"
REBUILD = "agent index --rebuild"
# Far beyond what float32 loses: a vector of another length is no unit vector any more.
_LENGTH_ERROR = 1e-2
# Vectors that must find themselves in Chroma. Its graph is approximate: a sound one misses 1 in 200.
_SAMPLE = 16
_LEAST_FOUND = 14
# Each kind of fault is told this often, and then counted.
MOST_FAULTS_OF_A_KIND = 20


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with an index: `part` is ledger, tree, vectors or chroma; `remedy` is a command."""

    part: str
    text: str
    remedy: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check looked at and found. `remarks` are no faults: what is merely not done yet."""

    files: int
    chunks: int
    vectors: int
    faults: tuple[Fault, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a path is in the index or not.

    `state` is indexed, skipped, ignored, not listed, outside or directory. `rule` is the line that ignores it, as
    FILE:LINE:PATTERN. `lines` are the first and last line of each chunk. `below` counts, for a directory, the files
    in it by what became of them.
    """

    path: str
    state: str
    reason: str = ""
    detail: str = ""
    rule: str = ""
    tracked: bool = False
    language: str = ""
    blob: str = ""
    lines: tuple[tuple[int, int], ...] = ()
    redactions: int = 0
    below: Mapping[str, int] | None = None


# -- the check ----------------------------------------------------------------------------------------


def verify(builder: Builder, embedder: Embedder | None) -> Verification:
    """Compare everything that is stored with what it was made from. Reads every file once; changes nothing.

    :param embedder: whose vectors are looked at; None looks at none.
    """
    ledger = builder.ledger
    faults = [Fault("ledger", text, REBUILD) for text in ledger.faults()]
    if any("malformed" in fault.text or "***" in fault.text for fault in faults):
        # What cannot be read cannot be compared either.
        return Verification(0, 0, 0, tuple(faults), ())
    remarks: list[str] = []
    if not ledger.meta("config"):
        return Verification(0, 0, 0, (*faults, Fault("ledger", "nothing is indexed yet", UPDATE)), ())
    if ledger.meta("config") != builder.config.fingerprint():
        remarks.append(f"the settings have changed since it was written: {UPDATE} reads every file again")
    faults += _few(_tree_faults(builder, remarks))
    vectors = 0
    if embedder is not None:
        fingerprint = embedder.fingerprint()
        counts = ledger.counts(fingerprint)
        vectors = counts.chunks - counts.pending
        if counts.pending:
            remarks.append(f"{counts.pending} chunks have no vector yet: {UPDATE} makes them")
        damaged = _vector_faults(builder, fingerprint, embedder.dimensions)
        # Chroma is made of the vectors: with those, it is rebuilt too.
        faults += damaged or _store_faults(builder, fingerprint, remarks)
    counts = ledger.counts("")
    return Verification(counts.files, counts.chunks, vectors, tuple(faults), tuple(remarks))


def _few(faults: Iterator[Fault]) -> list[Fault]:
    """The first of each kind, and how many more there are."""
    kept: list[Fault] = []
    seen: Counter[tuple[str, str]] = Counter()
    for fault in faults:
        seen[fault.part, fault.text] += 1
        if seen[fault.part, fault.text] <= MOST_FAULTS_OF_A_KIND:
            kept.append(fault)
    for (part, text), count in seen.items():
        if count > MOST_FAULTS_OF_A_KIND:
            kept.append(Fault(part, f"{text} ({count - MOST_FAULTS_OF_A_KIND} files more)", REBUILD))
    return kept


def _tree_faults(builder: Builder, remarks: list[str]) -> Iterator[Fault]:
    """Files that are stored as something else than they are, although they look unchanged."""
    manifest = builder.ledger.manifest()
    listed = {file.path: file for file in builder.repository.list_files(untracked=True)}
    plan = builder.plan(manifest, trust_stat=True)
    behind = len(plan.added) + len(plan.changed) + len(plan.removed)
    if behind:
        remarks.append(f"{behind} files changed since it was written: the next search reads them")
    if builder.ledger.meta("config") != builder.config.fingerprint():
        return
    changed = {file.path for file in plan.changed}
    try:
        key = builder.redaction_key()
    except IndexDamaged as error:
        yield Fault("ledger", error.message, REBUILD)
        return
    for path, entry in manifest.items():
        # A parser that broke on a file would break us too.
        if path not in changed and path in listed and entry.skip != SkipReason.BREAKS.value:
            yield from _file_faults(builder, listed[path], entry, key)


def _file_faults(builder: Builder, file: TrackedFile, entry: ManifestEntry, key: bytes) -> Iterator[Fault]:
    root = builder.repository.root
    read = read_file(root, Job(file), builder.config, key)
    if read.stat != entry.stat:
        return  # it was written while we looked
    if read.reason != entry.skip:
        now = read.reason or "text"
        yield Fault("tree", f"is {now}, but stored as {entry.skip or 'text'}", REBUILD, file.path)
    elif read.blob != entry.blob:
        yield Fault("tree", "its content is another, though size and time are the same", REBUILD, file.path)
    elif read.chunks is not None:
        made = [(c.start_line, c.end_line, c.text, c.vector_key) for c in read.chunks]
        stored = builder.ledger.chunks_of(file.path)
        if made != [_line_for_line(item) for item in stored]:
            yield Fault("tree", "stored chunks differ from the file's lines", REBUILD, file.path)
        elif any(vector_key(item.chunk) != item.vector_key for item in stored):
            yield Fault("tree", "a chunk belongs to another vector", REBUILD, file.path)


def _line_for_line(item: StoredChunk) -> tuple[int, int, str, bytes]:
    return item.chunk.start_line, item.chunk.end_line, item.chunk.text, item.vector_key


def _vector_faults(builder: Builder, fingerprint: str, dimensions: int) -> list[Fault]:
    count = len(unsound_vectors(builder.ledger, fingerprint, dimensions))
    text = f"{count} vectors are damaged: not of {dimensions} dimensions, or not of length 1"
    return [Fault("vectors", text, REBUILD)] if count else []


def unsound_vectors(
    ledger: Ledger, fingerprint: str, dimensions: int, *, unused_too: bool = False
) -> list[bytes]:
    """The keys of vectors that no embedder makes: of other dimensions, not finite, or not of length 1."""
    import numpy as np

    found = []
    for key, blob in ledger.raw_vectors(fingerprint, unused_too=unused_too):
        if len(blob) == 4 * dimensions:
            with np.errstate(over="ignore", invalid="ignore"):
                length = float(np.linalg.norm(np.frombuffer(blob, dtype="<f4")))
            # Text without a single token has the vector 0. NaN is neither.
            if length == 0 or abs(length - 1) < _LENGTH_ERROR:
                continue
        found.append(key)
    return found


def _store_faults(builder: Builder, fingerprint: str, remarks: list[str]) -> list[Fault]:
    live = builder.ledger.live_keys(fingerprint)
    state = builder.store.state()
    if state is StoreState.ABSENT:
        if live:
            remarks.append(f"there is no Chroma index yet: {UPDATE} builds it from the stored vectors")
        return []
    if state is StoreState.UNCLEAN:
        text = "it was not closed cleanly, or its files are damaged; searches do without it"
        return [Fault("chroma", text, UPDATE)]
    keys = builder.store.keys(fingerprint)
    if keys is None:
        return [Fault("chroma", "it cannot be read, or was written by another embedder", UPDATE)]
    if keys != live:
        # What was embedded while a search waited is there from the next run on.
        remarks.append(
            f"Chroma lacks {len(live - keys)} vectors and has {len(keys - live)} too many: {UPDATE}"
        )
    sample = sorted(keys & live)[:: max(1, len(keys & live) // _SAMPLE)][:_SAMPLE]
    found = sum(_finds_itself(builder, fingerprint, key) for key in sample)
    if found * _SAMPLE < _LEAST_FOUND * len(sample):
        return [Fault("chroma", f"only {found} of {len(sample)} vectors find themselves", REBUILD)]
    return []


def _finds_itself(builder: Builder, fingerprint: str, key: bytes) -> bool:
    vector = builder.ledger.vectors_for(fingerprint, [key]).get(key)
    near = None if vector is None else builder.store.query(fingerprint, vector, 1)
    # Twins have other keys and the same vector.
    return near is not None and (near[0][0] == key or near[0][1] > 1 - 1e-3)


# -- the explanation ----------------------------------------------------------------------------------


def explain(builder: Builder, paths: Sequence[str]) -> list[Explanation]:
    """Why each path is in the index as it is now, or not. Call `Builder.refresh` first.

    :param paths: as typed: absolute, or relative to the current directory, or else to the top of the work tree.
    """
    manifest = builder.ledger.manifest()
    listed = {file.path: file for file in builder.repository.list_files(untracked=True)}
    return [_explained(builder, typed, manifest, listed) for typed in paths]


def _explained(
    builder: Builder,
    typed: str,
    manifest: Mapping[str, ManifestEntry],
    listed: Mapping[str, TrackedFile],
) -> Explanation:
    path = inside(builder.repository.root, typed)
    if path is None:
        return Explanation(typed, "outside", "not in the work tree", str(builder.repository.root))
    entry, file = manifest.get(path), listed.get(path)
    if entry is not None:
        return _of_entry(builder, entry, tracked=file is not None and file.tracked)
    if path == ".git" or path.startswith(".git/"):
        return Explanation(path, "not listed", "git's own", "the repository itself is not indexed")
    above = _boundary(path, listed)
    if above is not None:
        reason = SkipReason.SUBMODULE if above.tracked else SkipReason.NESTED
        return Explanation(path, "skipped", reason.value, f"it lies in {above.path}")
    below = [item for name, item in manifest.items() if not path or name.startswith(path + "/")]
    if below:
        return Explanation(path or ".", "directory", below=Counter(item.skip or "indexed" for item in below))
    return _unlisted(builder, path, known=file is not None)


def inside(root: Path, typed: str) -> str | None:
    """A path as typed, relative to `root` and with `/`; None when it lies elsewhere. Its last part is not followed."""
    for base in (Path.cwd(), root):
        plain = os.path.normpath(os.path.join(base, typed))  # noqa: PTH118 (a link stays a link)
        folder, name = os.path.split(plain)
        for place in (plain, str(Path(folder).resolve() / name)):
            relative = os.path.relpath(place, root)
            if relative == ".":
                return ""
            if relative != ".." and not relative.startswith("../"):
                return relative
    return None


def _of_entry(builder: Builder, entry: ManifestEntry, *, tracked: bool) -> Explanation:
    if entry.skip:
        return Explanation(entry.path, "skipped", entry.skip, entry.detail, tracked=tracked)
    chunks = builder.ledger.chunks_of(entry.path)
    return Explanation(
        entry.path,
        "indexed",
        tracked=tracked,
        language=chunks[0].chunk.language if chunks else "",
        blob=entry.blob,
        lines=tuple((item.chunk.start_line, item.chunk.end_line) for item in chunks),
        redactions=builder.ledger.redactions_of(entry.path),
    )


def _boundary(path: str, listed: Mapping[str, TrackedFile]) -> TrackedFile | None:
    """The submodule or nested repository that the path lies in."""
    parts = path.split("/")
    found = (listed.get("/".join(parts[:count])) for count in range(1, len(parts)))
    return next((file for file in found if file is not None and file.mode == GITLINK), None)


def _unlisted(builder: Builder, path: str, *, known: bool) -> Explanation:
    """A path that git does not name, or that our settings leave out."""
    root = builder.repository.root
    link = link_on_the_way(root, path)
    if link:
        return Explanation(path, "skipped", SkipReason.SYMLINK.value, f"{link}/ on the way is one")
    if stat_file(root, path) is None:
        return Explanation(path, "not listed", "there is no such file")
    rule = builder.repository.ignored_by(path)
    if rule:
        return Explanation(path, "ignored", "ignored by git", rule=rule)
    mode = os.lstat(root / path).st_mode
    if stat.S_ISDIR(mode):
        return Explanation(path, "not listed", "a directory without files that git lists")
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        return Explanation(path, "skipped", SkipReason.NOT_A_FILE.value, "git does not list it either")
    if known:
        return Explanation(path, "not listed", "not tracked by git", "include_untracked is off")
    return Explanation(path, "not listed", "git does not list it")
