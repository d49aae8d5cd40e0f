"""Pack hits into a token budget: labelled sources in the model's own tokens, and what was left out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from chains.types import OVER_BUDGET, Context, Dropped, Source
from indexers.types import Hit

CountTokens = Callable[[str], int]

# Hits weaker than this share of the best one are noise that costs reading time.
WORTH_READING = 0.12
MUCH_WEAKER = "much weaker than the best source"
# Share of the budget that the first hits may fill with all of their text. At 0.65 more of what a question needs stands
# in the sources (tests/benchmarks/reading.py), but a 1.5B model then answered fewer questions right: many small
# sources distract it. So briefs fill only what whole sources leave.
WHOLE_SHARE = 1.0
# Blank lines that may lie between two pieces of one body.
_BLANK = 2
# Scores nearer than this ratio do not tell which of two hits is worth more: where half of all sources, whichever, come
# first among those, as much of what questions need stands in 1,800 tokens (tests/benchmarks/reading.py --near: 0.694,
# 0.630 and 0.778 of three sets, without it 0.694, 0.617 and 0.778; at 0.95 0.672, 0.605 and 0.774).
NEAR = 0.98
# A brief form longer than this share of the text is not worth what it leaves out.
SPARES = 0.8


def source_block(path: str, start_line: int, end_line: int, text: str, scope: Sequence[str] = ()) -> str:
    """One source as the model reads it. Depends on the source alone, never on the question or its neighbours.

    The fence is longer than any run of backticks inside, so that the text cannot close it.
    """
    fence = "`" * max(3, _longest_run(text, "`") + 1)
    inside = f", inside {' > '.join(scope)}" if scope else ""
    return f"Source [{path}:{start_line}-{end_line}]{inside}:\n{fence}\n{text}\n{fence}\n"


def pack(
    hits: Sequence[Hit],
    budget: int,
    count: CountTokens,
    *,
    read: Collection[str] = (),
    room: int = 0,
    best_last: bool = True,
) -> Context:
    """The best hits that fit `budget` tokens, best first; one that does not fit leaves room for others.

    Pieces of one body stand together, so that whoever shows them reads a function from its beginning to its end.

    The first hits are shown whole, the others in brief where they can be. What is left of the budget then makes
    them whole, the best first.

    :param read: texts of sources that cost no wait: they come before hits that are as good.
    :param room: tokens beyond the budget that such sources may take.
    :param best_last: they will be shown in reverse, as prompts do.
    """
    best = max((hit.score for hit in hits), default=0.0)
    weak = [is_weak(hit, best) for hit in hits]
    # Without anything in brief there is nothing to keep room for.
    share = WHOLE_SHARE if any(hit.brief for hit in hits) else 1.0
    whole = [source_of(hit, count) for hit in hits]
    chosen: dict[int, Source] = {}

    def add(places: Iterable[int], sources: Sequence[Source | None], limit: float) -> None:
        for place in places:
            source, known = sources[place], chosen.get(place)
            if source is None or weak[place] or source is known:
                continue
            spent = sum(item.tokens for item in chosen.values()) - (known.tokens if known else 0)
            if spent + source.tokens <= limit:
                chosen[place] = source

    every = _order(hits, [source.text in read for source in whole])
    add(every, whole, budget * share)
    short = [None if n in chosen else _in_brief(hits[n], whole[n], count) for n in range(len(hits))]
    add(every, short, budget)
    add(sorted(chosen), whole, budget)
    add((n for n in every if n not in chosen), whole, budget)
    add((n for n in every if whole[n].text in read), whole, budget + room)
    dropped = [
        Dropped(hit.label, whole[n].tokens, MUCH_WEAKER if weak[n] else OVER_BUDGET)
        for n, hit in enumerate(hits)
        if n not in chosen
    ]
    order = _in_file_order(sorted(chosen), hits, reverse=best_last)
    return Context(tuple(chosen[n] for n in order), tuple(dropped), budget)


def _in_file_order(order: Sequence[int], hits: Sequence[Hit], *, reverse: bool) -> list[int]:
    """The places with the pieces of one body together, at the place of the best of them, in the order of the file.

    Whole definitions that stand side by side keep their order: the best has to stand last.
    """
    runs: list[list[int]] = []
    for place in order:
        met = [run for run in runs if any(_continue(hits[place], hits[other]) for other in run)]
        first = met[0] if met else []
        for run in met[1:]:
            first += run
            runs.remove(run)
        first.append(place)
        if not met:
            runs.append(first)
    return [n for run in runs for n in sorted(run, key=lambda n: hits[n].start_line, reverse=reverse)]


def _continue(one: Hit, other: Hit) -> bool:
    """Whether one piece of a file goes on with what the other began: it follows, and defines nothing itself."""
    first, second = sorted((one, other), key=lambda hit: hit.start_line)
    near = one.path == other.path and second.start_line - first.end_line <= _BLANK + 1
    return near and bool(second.scope) and not second.symbols


def is_weak(hit: Hit, best: float) -> bool:
    """Whether a hit is noise beside one of the score `best`."""
    return hit.score < best * WORTH_READING and best > 0


def _order(hits: Sequence[Hit], read: Sequence[bool]) -> list[int]:
    """The hits by number, those that were read before others that are hardly better; else as they came."""
    order: list[int] = []
    for number, hit in enumerate(hits):
        at = len(order)
        while read[number] and at and not read[order[at - 1]] and _near(hits[order[at - 1]], hit):
            at -= 1
        order.insert(at, number)
    return order


def _near(better: Hit, hit: Hit) -> bool:
    """Whether the first is better by so little that it says nothing. What stands where it does by design is not."""
    return hit.score <= better.score <= hit.score / NEAR


def source_of(hit: Hit, count: CountTokens, text: str = "") -> Source:
    """A hit as the model reads it, or `text` in its place."""
    block = source_block(hit.path, hit.start_line, hit.end_line, text or hit.text, hit.scope)
    tokens = count(block)
    return Source(hit.path, hit.start_line, hit.end_line, block, tokens, hit.score, whole=not text)


def _in_brief(hit: Hit, whole: Source, count: CountTokens) -> Source | None:
    """A hit in brief, where that spares anything worth sparing."""
    if not hit.brief:
        return None
    source = source_of(hit, count, hit.brief)
    return source if source.tokens <= SPARES * whole.tokens else whole


def _longest_run(text: str, char: str) -> int:
    longest = run = 0
    for c in text:
        run = run + 1 if c == char else 0
        longest = max(longest, run)
    return longest
