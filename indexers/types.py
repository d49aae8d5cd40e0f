"""Values that cross module borders of the index: frozen, slotted, no behaviour beyond derived names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class SkipReason(str, Enum):
    """Why a file of the repository is not in the index; the value is what people read."""

    BINARY = "binary"
    EMPTY = "empty"
    TOO_LARGE = "too large"
    MINIFIED = "minified"
    GENERATED = "generated or lock file"
    VENDORED = "vendored"
    SECRET = "looks like a secret"
    SYMLINK = "symbolic link"
    SUBMODULE = "submodule"
    NESTED = "nested repository"
    LFS = "Git LFS pointer"
    NOT_A_FILE = "not a regular file"
    MISSING = "missing from the work tree"
    UNREADABLE = "unreadable"
    BREAKS = "breaks the parser"
    EXCLUDED = "excluded by settings"


@dataclass(frozen=True, slots=True)
class TrackedFile:
    """One path git lists, before anything of it was read.

    `path` is relative to the work tree, with `/`, decoded by `os.fsdecode` (odd bytes are lone surrogates).
    `mode` is git's (0o100644, 0o100755, 0o120000, 0o160000), or 0 when untracked.
    """

    path: str
    mode: int = 0
    tracked: bool = True


class FileStat(NamedTuple):
    """What tells, without reading it, that a file has not changed."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as text. Lines end where `\\n` is, and nowhere else: that is how git and editors count."""

    path: str
    blob: str
    text: str
    language: str
    encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was left out, and why."""

    path: str
    reason: SkipReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Symbol:
    """A definition: `kind` is one of function, method, class, module, constant, type, section."""

    name: str
    kind: str
    line: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of whole lines of one file, cut on syntax borders. Lines are 1-based and inclusive.

    `scope` names what encloses the first line, outermost first; `symbols` are the definitions that start inside.
    """

    path: str
    start_line: int
    end_line: int
    text: str
    language: str
    scope: tuple[str, ...] = ()
    symbols: tuple[Symbol, ...] = ()

    @property
    def label(self) -> str:
        """How sources are named everywhere: path and lines, never a running number."""
        return f"{self.path}:{self.start_line}-{self.end_line}"

    @property
    def header(self) -> str:
        """Path and enclosing names: context that costs a few tokens and belongs to both indexes."""
        return " > ".join((self.path, *self.scope))


class NewChunk(NamedTuple):
    """A chunk as the columns of the ledger hold it: scope and symbols as JSON, tokens joined by spaces.

    `vector_key` is the content hash of its vector; `definitions` are the names it is asked for by, with their kinds.
    """

    start_line: int
    end_line: int
    text: str
    scope: str
    symbols: str
    vector_key: bytes
    body: str
    names: str
    path_words: str
    definitions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that answers a query.

    `signals` says what each ranking signal added to `score`; `similarity` is the cosine to the query's vector, None
    where the chunk has no vector yet; `blob` is the git blob id of the file as it was read. `brief` is what stands for
    the text where there is no room for all of it, if anything does.
    """

    path: str
    start_line: int
    end_line: int
    text: str
    score: float
    language: str = ""
    scope: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    chunk_id: int = 0
    signals: Mapping[str, float] = field(default_factory=dict)
    similarity: float | None = None
    blob: str = ""
    brief: str = ""

    @property
    def label(self) -> str:
        """Path and lines, as sources and citations name it."""
        return f"{self.path}:{self.start_line}-{self.end_line}"


@dataclass(frozen=True, slots=True)
class Changes:
    """What a refresh has to do, by path."""

    added: tuple[TrackedFile, ...] = ()
    changed: tuple[TrackedFile, ...] = ()
    removed: tuple[str, ...] = ()
    kept: int = 0


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What an indexing run did. Counts are files unless they say chunks or vectors.

    `read` are the files that were looked into, `left` those that were not yet, because somebody waited.
    """

    indexed: int = 0
    kept: int = 0
    removed: int = 0
    skipped: tuple[Skipped, ...] = ()
    chunks: int = 0
    vectors_embedded: int = 0
    vectors_pending: int = 0
    redactions: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    notes: tuple[str, ...] = ()
    read: int = 0
    left: int = 0

    def skipped_by_reason(self) -> dict[str, int]:
        """Count of skipped files for each reason, most frequent first."""
        counts: dict[str, int] = {}
        for item in self.skipped:
            counts[item.reason.value] = counts.get(item.reason.value, 0) + 1
        return dict(sorted(counts.items(), key=lambda pair: -pair[1]))


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of long work, for a progress bar: `done` of `total` units in `stage`."""

    stage: str
    done: int
    total: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """A definition as a place in the code, `start_line` to `end_line`; `line` names it, and `text` is that line.

    Lines are 1-based and inclusive. `scope` names what encloses the definition, outermost first.
    """

    path: str
    line: int
    start_line: int
    end_line: int
    name: str
    kind: str
    scope: tuple[str, ...] = ()
    text: str = ""

    @property
    def label(self) -> str:
        """Path and lines, as sources and citations name it."""
        return f"{self.path}:{self.start_line}-{self.end_line}"


@dataclass(frozen=True, slots=True)
class Use:
    """A line that uses a name: `kind` is call, type, import or name; `enclosing` names what the line stands in.

    `enclosing` is empty at the top of a file; `enclosing_line` is the line that names the innermost of it, else 0.
    """

    path: str
    line: int
    kind: str
    enclosing: tuple[str, ...] = ()
    enclosing_line: int = 0
    text: str = ""
