"""What models read lately of a work tree, kept beside its index, so that the next question can begin with it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chains.kv.trail import Trail
from chains.types import Citation, Source
from indexers.atomic import write_whole

if TYPE_CHECKING:
    from indexers.stored import ManifestEntry

_NAME = "trail.json"
# After a break another subject is as likely as this one.
_FRESH_SECONDS = 6 * 3_600.0
_MOST_BYTES = 8 << 20
# A prompt whose sources were read in their place, or joined. What was read before any question: prompts that may follow
# an answer, prompts about what is likeliest to be asked, and sources behind the head alone, to be joined.
ASKED, SHOWN, FOLLOWING, FORESEEN, JOINED = "asked", "shown", "following", "foreseen", "joined"
# Entries that are remembered of each kind, of all models together.
_MOST = {ASKED: 12, SHOWN: 12, FOLLOWING: 12, FORESEEN: 32, JOINED: 4}

Stamp = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a model read, `when` in seconds since 1970: `sources` in the order of the prompt.

    `stamps` tell of each source whether its file is as it was. `cited` are places of the answer.
    """

    kind: str
    model: str
    when: float
    sources: tuple[Source, ...]
    stamps: tuple[Stamp, ...]
    cited: tuple[tuple[str, int, int], ...] = ()


def load(directory: Path, root: Path, model: str) -> tuple[Source, ...]:
    """The sources of the last prompt that the model read, in order, up to the first whose file has changed since.

    :param directory: of the index.
    :param root: the top of the work tree.
    """
    return next((found.sources for found in asked(directory, root, model)), ())


def asked(directory: Path, root: Path, model: str, kind: str = ASKED) -> list[Entry]:
    """The prompts of the last hours that the model read, the last first; of each what is unchanged in the files."""
    now = time.time()
    return [
        entry
        for entry in _entries(directory, root)
        if (entry.kind, entry.model) == (kind, model) and 0 <= now - entry.when < _FRESH_SECONDS
    ]


def trails(directory: Path, root: Path, model: str) -> tuple[Trail, ...]:
    """What a prompt of the model could begin with: what prompts read, what may follow them, what was foreseen."""
    lately = (*asked(directory, root, model), *asked(directory, root, model, FOLLOWING))
    found = [Trail(entry.sources) for entry in lately]
    early = [e for e in _entries(directory, root) if (e.kind, e.model) == (FORESEEN, model)]
    found += [Trail(entry.sources, ahead=True) for entry in early]
    return tuple(trail for trail in found if trail.sources)


def to_join(directory: Path, root: Path, model: str) -> frozenset[str]:
    """The texts of sources that were read ahead to be joined to any prompt of the model."""
    found = (e.sources for e in _entries(directory, root) if (e.kind, e.model) == (JOINED, model))
    return frozenset(source.text for sources in found for source in sources)


def labels(directory: Path, root: Path) -> list[str]:
    """What prompts of any model showed, the last first."""
    entries = [entry for entry in _entries(directory, root) if entry.kind in (ASKED, SHOWN)]
    return [source.label for entry in entries for source in reversed(entry.sources)]


def indexed(manifest: Mapping[str, ManifestEntry], sources: Sequence[Source]) -> tuple[Stamp, ...]:
    """`stamps` of the files as they were when the index read the sources out of them, which is what counts."""
    entries = (manifest.get(source.path) for source in sources)
    return tuple((entry.stat.size, entry.stat.mtime_ns) if entry else () for entry in entries)


def stamps(root: Path, sources: Sequence[Source]) -> tuple[Stamp, ...]:
    """What tells whether the files of sources change from now on."""
    return tuple(_stamp(root, source.path) for source in sources)


def save(
    directory: Path,
    root: Path,
    model: str,
    shown: Sequence[Source],
    cited: Sequence[Citation] = (),
    stamped: Sequence[Stamp] | None = None,
    *,
    kind: str = ASKED,
) -> None:
    """Keep what a prompt showed, in that order. Only a courtesy: where it cannot be written, nothing is.

    :param stamped: what `indexed` says of them; as the files are now, if left out.
    """
    places = tuple((one.path, one.start_line, one.end_line) for one in cited if one.verified)
    marks = tuple(stamps(root, shown) if stamped is None else stamped)
    new = Entry(kind, model, time.time(), tuple(shown), marks, places)
    earlier = [entry for entry in _entries(directory, root) if not _repeated(entry, new)]
    _write(directory, [new, *earlier])


def foresee(
    directory: Path, root: Path, whose: tuple[str, str], sources: Sequence[Source], stamped: Sequence[Stamp]
) -> None:
    """Keep that a prompt with these sources was read before it was asked for, in place of beginnings of it."""
    new = Entry(*whose, time.time(), tuple(sources), tuple(stamped))
    earlier = [entry for entry in _entries(directory, root) if not _repeated(entry, new)]
    _write(directory, [new, *earlier])


def add_joined(
    directory: Path, root: Path, model: str, new: Sequence[tuple[Source, Stamp]], most: int
) -> None:
    """Keep that sources were read ahead to be joined; the last `most` are kept."""
    entries = _entries(directory, root)
    earlier = next((entry for entry in entries if (entry.kind, entry.model) == (JOINED, model)), None)
    pairs = list(zip(earlier.sources, earlier.stamps, strict=True)) if earlier is not None else []
    texts = {source.text for source, _ in new}
    pairs = [*new, *(pair for pair in pairs if pair[0].text not in texts)][:most]
    sources, marks = tuple(source for source, _ in pairs), tuple(stamp for _, stamp in pairs)
    others = [entry for entry in entries if (entry.kind, entry.model) != (JOINED, model)]
    _write(directory, [*others, Entry(JOINED, model, time.time(), sources, marks)])


def _repeated(entry: Entry, new: Entry) -> bool:
    """Whether a prompt begins with all of an earlier one, so that there is no more to remember of that."""
    same = (entry.kind, entry.model) == (new.kind, new.model)
    earlier = [source.text for source in entry.sources]
    # Not the sources themselves: each question scores them anew.
    return same and earlier == [source.text for source in new.sources[: len(earlier)]]


# -- the file --------------------------------------------------------------------------------------


def _entries(directory: Path, root: Path) -> list[Entry]:
    try:
        path = directory / _NAME
        if path.stat().st_size > _MOST_BYTES:
            return []
        kept = json.loads(path.read_text(encoding="utf-8"))
        return [_entry(values, root) for values in kept["entries"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _entry(values: dict[str, Any], root: Path) -> Entry:
    pairs = list(_unchanged(values["sources"], root, each_alone=values["kind"] == JOINED))
    return Entry(
        str(values["kind"]),
        str(values["model"]),
        float(values["when"]),
        tuple(source for source, _ in pairs),
        tuple(stamp for _, stamp in pairs),
        tuple((str(path), int(start), int(end)) for path, start, end in values["cited"]),
    )


def _unchanged(listed: Sequence[Any], root: Path, *, each_alone: bool) -> Iterator[tuple[Source, Stamp]]:
    """Sources whose files are as they were: those that stand alone, or all up to the first that changed."""
    for values, stamp in listed:
        if tuple(stamp) == _stamp(root, values["path"]):
            yield Source(**{field.name: values[field.name] for field in fields(Source)}), tuple(stamp)
        elif not each_alone:
            return


def _write(directory: Path, entries: Sequence[Entry]) -> None:
    kept = [entry for kind, most in _MOST.items() for entry in [e for e in entries if e.kind == kind][:most]]
    listed = [
        {
            **asdict(entry),
            "sources": list(zip(map(asdict, entry.sources), entry.stamps, strict=False)),
        }
        for entry in kept
    ]
    with suppress(OSError):
        write_whole(directory / _NAME, json.dumps({"entries": listed}).encode("ascii"))


def _stamp(root: Path, path: str) -> Stamp:
    try:
        status = (root / path).stat(follow_symlinks=False)
    except (OSError, ValueError):
        return ()
    return status.st_size, status.st_mtime_ns
