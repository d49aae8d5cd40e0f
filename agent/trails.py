"""What models read lately of a work tree, kept beside its index, so that the next question can begin with it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from chains.kv.trail import Trail
from chains.types import Citation, Source

_NAME = "trail.json"
# After a break another subject is as likely as this one.
_FRESH_SECONDS = 6 * 3_600.0
_MOST_BYTES = 4 << 20
# Prompts that are remembered, of all models together.
_MOST = 12
# A prompt whose sources were read in their place, or joined; and what was read ahead of any question, behind the head
# alone: to begin with, or to be joined.
ASKED, SHOWN, START, JOINED = "asked", "shown", "start", "joined"

Stamp = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a model read: `when` in seconds since 1970, the first `shown` of `sources` by a question.

    The others were read behind them in case they are asked for. `cited` are places of the answer. `stamps` tell of each
    source whether its file is as it was.
    """

    kind: str
    model: str
    when: float
    sources: tuple[Source, ...]
    stamps: tuple[Stamp, ...]
    shown: int = 0
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
    """What a prompt of the model could begin with: what prompts read, the last first, then what was read ahead."""
    found = [Trail(entry.sources) for entry in asked(directory, root, model) if entry.sources]
    starts = _read_ahead(directory, root, model, START)
    return (*found, *(Trail((source,), ahead=True) for source in starts))


def to_join(directory: Path, root: Path, model: str) -> frozenset[str]:
    """The texts of sources that were read ahead to be joined to any prompt of the model."""
    return frozenset(source.text for source in _read_ahead(directory, root, model, JOINED))


def labels(directory: Path, root: Path) -> list[str]:
    """What prompts of any model showed, the last first."""
    entries = [entry for entry in _entries(directory, root) if entry.kind in (ASKED, SHOWN)]
    return [source.label for entry in entries for source in reversed(entry.sources[: entry.shown])]


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

    :param stamped: `stamps` as they were before the prompt was read, which takes time; as they are now, if left out.
    """
    places = tuple((one.path, one.start_line, one.end_line) for one in cited if one.verified)
    marks = tuple(stamps(root, shown) if stamped is None else stamped)
    new = Entry(kind, model, time.time(), tuple(shown), marks, len(shown), places)
    entries = _entries(directory, root)
    for entry in entries:
        if (entry.kind, entry.model, entry.sources[: len(shown)]) == (kind, model, new.sources):
            # What was read behind it still is.
            new = replace(new, sources=entry.sources, stamps=entry.stamps)
            break
    earlier = [entry for entry in entries if not _repeated(entry, new)]
    _write(directory, [new, *earlier])


def extend(directory: Path, root: Path, before: Entry, source: Source, stamp: Stamp) -> Entry:
    """Keep that a source was read behind what `before` read; what was asked meanwhile stays the last."""
    longer = replace(before, sources=(*before.sources, source), stamps=(*before.stamps, stamp))
    entries = _entries(directory, root)
    same = [number for number, entry in enumerate(entries) if _repeated(entry, longer)]
    if same:
        entries[same[0]] = replace(longer, when=entries[same[0]].when)
        _write(directory, entries)
    return longer


def add_read_ahead(
    directory: Path, root: Path, whose: tuple[str, str], source: Source, stamp: Stamp, most: int
) -> None:
    """Keep that a source was read ahead; of `whose` kind and model the last `most` are kept."""
    entries = _entries(directory, root)
    earlier = next((entry for entry in entries if (entry.kind, entry.model) == whose), None)
    pairs = list(zip(earlier.sources, earlier.stamps, strict=True)) if earlier is not None else []
    pairs = [(source, stamp), *(pair for pair in pairs if pair[0].text != source.text)][:most]
    sources, marks = zip(*pairs, strict=True)
    others = [entry for entry in entries if (entry.kind, entry.model) != whose]
    _write(directory, [*others, Entry(*whose, time.time(), sources, marks)])


def _read_ahead(directory: Path, root: Path, model: str, kind: str) -> tuple[Source, ...]:
    found = (e.sources for e in _entries(directory, root) if (e.kind, e.model) == (kind, model))
    return next(found, ())


def _repeated(entry: Entry, new: Entry) -> bool:
    """Whether a prompt begins with all that an earlier one had shown, so that there is no more to remember of that."""
    shown = entry.sources[: entry.shown]
    return (entry.kind, entry.model) == (new.kind, new.model) and shown == new.sources[: len(shown)]


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
    pairs = list(_unchanged(values["sources"], root, each_alone=values["kind"] in (START, JOINED)))
    return Entry(
        str(values["kind"]),
        str(values["model"]),
        float(values["when"]),
        tuple(source for source, _ in pairs),
        tuple(stamp for _, stamp in pairs),
        int(values["shown"]),
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
    prompts = [entry for entry in entries if entry.kind in (ASKED, SHOWN)]
    kept = [*prompts[:_MOST], *(entry for entry in entries if entry not in prompts)]
    listed = [
        {
            **asdict(entry),
            "sources": list(zip(map(asdict, entry.sources), entry.stamps, strict=False)),
        }
        for entry in kept
    ]
    new = directory / f"{_NAME}.{os.getpid()}.new"
    with suppress(OSError):
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"entries": listed}, file)
            new.replace(directory / _NAME)
        finally:
            new.unlink(missing_ok=True)


def _stamp(root: Path, path: str) -> Stamp:
    try:
        status = (root / path).stat(follow_symlinks=False)
    except (OSError, ValueError):
        return ()
    return status.st_size, status.st_mtime_ns
