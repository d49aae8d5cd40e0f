"""Model text -> citations, each checked against the source it names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chains.search.query import looks_like_code
from chains.types import Citation, Source

# Every pattern here is linear, or bounded by a small count: a model that stutters must not stop the program.
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{1,10}://[^\s)\]>\"'`]+")
# Whatever may be a path: which of them are is decided by `_is_path`.
_RUN = r"[\w.@+~/\\-]+"
_TO = r"(?:-|–|—|to|and|through)"
# Behind a path: `:10-20`, `:L10-L20`, `: 10-20`, `#L10-L20`, ` (L10)`; or `, lines 10 to 20`, ` (line 10)`.
_LINES_AFTER = re.compile(
    r"[`\"*]{0,3}(?:(?::L?|:\s(?=L?\d{1,7}[-–])|\#L|\s\(L)(\d{1,7})(?:\s?[-–—]\s?L?(\d{1,7}))?"
    r"|,?\s{0,2}[(\[]?(?:(?:on|at|in|from)\s)?[Ll]ines?:?\s{1,2}L?"
    rf"(\d{{1,7}})(?:\s{{0,2}}{_TO}\s{{0,2}}L?(\d{{1,7}}))?)(?!\d)"
)
# A further range of the same path: `a.py:1-9, 20-30`.
_MORE_LINES = re.compile(r"\s?[,;]\s?L?(\d{1,7})\s?[-–]\s?L?(\d{1,7})(?![\d:/.])")
_LINES_BEFORE = re.compile(
    rf"\b[Ll]ines?\s{{1,2}}L?(\d{{1,7}})(?:\s{{0,2}}{_TO}\s{{0,2}}L?(\d{{1,7}}))?"
    r"\s(?:of|in|from)\s(?:the\s)?(?:file\s)?[\[(`\"*]{0,3}$"
)
_BEFORE_CHARS = 60
_EXTENSION = re.compile(r"\.([A-Za-z]\w*)$")
_HOSTS = frozenset("com org net io dev local".split())
# Endings of file names that are hardly ever attributes: `a.lock`, `a.text` and the like may be code.
_FILE_ENDINGS = frozenset(
    """py pyi js jsx mjs cjs ts tsx go rs java kt kts cc cpp hpp cs php rb scala swift ex exs lua sh hs zig
    sql md rst txt json toml yaml yml ini cfg html css scss ipynb xml gradle proto vue svelte""".split()
)

_BRACKETED = re.compile(r"\[([^\[\]\n]{1,300})\]")
_BACKTICKED = re.compile(r"(?<!`)`([^`\n]{1,200})`(?!`)")
_FENCE = re.compile(r"\s*(?:[-*]\s+|\d+[.)]\s+)?(`{3,}|~{3,})([^`]*)$")
_QUOTED = re.compile(r"[\"“]([^\"“”\n]{6,200})[\"”]")
_SENTENCE_END = re.compile(r"(?:(?<=[.!?;])|(?<=[.!?;][\])*`\"”]))[ \t]+(?=[A-Z`*\-\d\[\"“])|\n+")
_UNFINISHED = re.compile(r"(?:\b(?:e\.g|i\.e|vs|cf|approx|resp|incl)\.|^\d{1,3}[.)])$", re.IGNORECASE)
_LEADING_CITATION = re.compile(r"(?:\[[^\[\]\n]{1,300}\][ \t,;.]{0,3}){1,9}(?=[A-Z`*]|$)")
_ITEM = re.compile(r"[-*+•]\s|\d{1,3}[.)]\s")
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_WORD = re.compile(r"[^\W\d]\w{2,}")
# A line of these and a place is a citation of what stands before it.
_CITING = frozenset(
    "see source sources ref refs reference references file files line lines cited from and".split()
)
# Words that stand in backticks as values of every language: finding them in a source proves nothing.
_COMMON = frozenset(
    "true false none null nil self this return def class import from str int bool list dict int32".split()
)
# Names of products that are written like code, but say nothing of it.
_PRODUCTS = frozenset(
    """github gitlab javascript typescript postgresql mysql mongodb graphql openai macos pytorch stackoverflow
    webassembly""".split()
)
_MAX_ATTRIBUTED = 4
_BEST = 3
_RUN_WORDS = 6
_PLAIN_WORD = re.compile(r"[^\W_]+")
_NOTHING_NAMED = "the sentence names nothing that could be looked up"
_ELSEWHERE = "what the sentence names stands in another place it cites"


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of an answer's claims about places and names."""

    citations: tuple[Citation, ...]
    unverified: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """A path the text names, its lines if it says any, and where in the text that stands."""

    path: str
    start: int | None
    end: int | None
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Shown:
    """A source made ready for looking things up: its words, and its text without its label."""

    source: Source
    words: frozenset[str]
    squeezed: str
    runs: frozenset[tuple[str, ...]]

    @classmethod
    def of(cls, source: Source) -> _Shown:
        # The label is ours: that a path says "retry" does not mean that `retry` stands in the file.
        text = source.text.removeprefix(f"Source [{source.label}]")
        return cls(source, _words(text), _squeeze(text), frozenset(_runs(text)))


@dataclass(slots=True)
class _Claim:
    """A sentence: what it attributes, and to which sources."""

    names: list[str]
    quotes: list[str]
    sources: list[_Shown]
    runs: list[tuple[str, ...]]


def check(answer: str, sources: Sequence[Source], question: str = "") -> Checked:
    """Resolve the places an answer names and verify what it says of them.

    A citation is verified when something the sentence names (an identifier or a quote) stands in the source
    it cites, and nothing it names is missing from all the sources it cites. A sentence without citation whose
    names, or six words in a row, stand in a source gets one from us, marked as such in its reason.
    """
    shown = [_Shown.of(source) for source in sources]
    claims = _claims(answer, shown)
    citations: dict[str, Citation] = {}
    for claim in claims:
        for cited in claim.sources:
            _keep(citations, _verify(cited, claim))
    for claim in claims:
        if not claim.sources:
            _attribute(claim, shown, citations)
    paths = (_words(source.path) for source in sources)
    everywhere = _words(question).union(*paths, *(item.words for item in shown))
    names = dict.fromkeys(name for claim in claims for name in claim.names)
    unknown = tuple(name for name in names if name not in everywhere)
    return Checked(tuple(citations.values()), unknown + unresolved(answer, sources))


def sentences(answer: str) -> list[str]:
    """The answer cut into sentences and list items; fenced code is left out, a trailing citation stays."""
    merged: list[str] = []
    for part in filter(None, (part.strip() for part in _SENTENCE_END.split(_without_fences(answer)))):
        if merged and _UNFINISHED.search(merged[-1]):
            merged[-1] += " " + part
            continue
        # "It retries. [a.py:1-9]": a citation after the full stop belongs to the sentence before it.
        if merged and _only_cites(part):
            merged[-1] += " " + part
            continue
        lead = _LEADING_CITATION.match(part)
        if merged and lead and places(lead[0]) and not places(merged[-1]):
            merged[-1] += " " + lead[0].rstrip()
            part = part[lead.end() :]
        merged.append(part)
    return merged


def places(text: str, known: Sequence[str] = ()) -> list[tuple[str, int | None, int | None]]:
    """Every path the text names, in order, as (path, start, end); lines are None where it gives none.

    :param known: paths that are recognised whatever characters they hold.
    """
    return [(place.path, place.start, place.end) for place in _places(text, known)]


def resolve(path: str, start: int | None, end: int | None, sources: Sequence[Source]) -> Source | None:
    """The source a place means: same path (or an unambiguous end of it), and the most lines in common."""
    wanted = path.replace("\\", "/")
    while wanted.startswith("./"):
        wanted = wanted[2:]
    named = [s for s in sources if s.path == wanted] or [
        s for s in sources if s.path.endswith("/" + wanted.lstrip("/")) or wanted.endswith("/" + s.path)
    ]
    if not named or len({s.path for s in named}) > 1:
        return None
    if start is None or end is None:
        return named[0] if len(named) == 1 else None
    first, last = min(start, end), max(start, end)
    best = max(named, key=lambda s: (_overlap(s, first, last), -(s.end_line - s.start_line)))
    return best if _overlap(best, first, last) > 0 else None


def unresolved(answer: str, sources: Sequence[Source]) -> tuple[str, ...]:
    """Places with line numbers that mean none of the sources: the model made them up or misread them."""
    return tuple(
        dict.fromkeys(
            f"{path}:{start}-{end}"
            for path, start, end in places(_without_fences(answer), [s.path for s in sources])
            if start is not None and resolve(path, start, end, sources) is None
        )
    )


def code_names(text: str, known: Sequence[str] = ()) -> list[str]:
    """Identifiers a sentence attributes: what stands in backticks, and words only code spells that way.

    File names are places, not identifiers.
    """
    text = _URL.sub(" ", text)
    for place in reversed(list(_places(text, known))):
        if place.start is not None or "/" in place.path or _names_file(place.path, known):
            start, end = place.span
            text = text[:start] + " " * (end - start) + text[end:]
    found: list[str] = []
    for span in _BACKTICKED.findall(text):
        found += [name for name in _IDENTIFIER.findall(span) if len(name) > 2][:6]
    bare = _BRACKETED.sub(" ", _BACKTICKED.sub(" ", text))
    found += [w for w in _WORD.findall(bare) if looks_like_code(w) and w.lower() not in _PRODUCTS]
    return [name for name in dict.fromkeys(found) if name.lower() not in _COMMON]


def _places(text: str, known: Sequence[str]) -> Iterator[_Place]:
    text = _URL.sub(lambda match: " " * len(match[0]), text)
    for match in _paths_pattern(known).finditer(text):
        path = match[0].rstrip(".,-+~@")
        after = _LINES_AFTER.match(text, match.start() + len(path))
        before = None if after else _LINES_BEFORE.search(text[: match.start()][-_BEFORE_CHARS:])
        if not _is_path(path) and not (path in known and (after or before)):
            continue
        path = path.replace("\\", "/")
        span = (match.start(), after.end() if after else match.end())
        start, end = _numbers(after or before)
        yield _Place(path, start, end, span)
        more = _MORE_LINES.match(text, span[1]) if after else None
        while more:
            yield _Place(path, int(more[1]), int(more[2]), more.span())
            more = _MORE_LINES.match(text, more.end())


def _paths_pattern(known: Sequence[str]) -> re.Pattern[str]:
    if not known:
        return re.compile(_RUN)
    exact = "|".join(re.escape(path) for path in sorted(set(known), key=len, reverse=True))
    return re.compile(rf"(?<![\w/.-])(?:{exact})(?![\w/-]|\.\w)|{_RUN}")


def _numbers(match: re.Match[str] | None) -> tuple[int | None, int | None]:
    given = [int(group) for group in match.groups() if group] if match else []
    return (given[0], given[-1]) if given else (None, None)


def _is_path(run: str) -> bool:
    if "/" in run or "\\" in run:
        return any(char.isalpha() for char in run)
    ending = _EXTENSION.search(run)
    return ending is not None and ending[1] not in _HOSTS


def _names_file(path: str, known: Sequence[str]) -> bool:
    ending = _EXTENSION.search(path)
    return (ending is not None and ending[1] in _FILE_ENDINGS) or any(
        path == item or item.endswith("/" + path) for item in known
    )


def _without_fences(text: str) -> str:
    """The text without fenced code; a fence that is never closed reaches to the end."""
    kept: list[str] = []
    fence = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
        elif mark:
            fence = mark[1]
            kept.append("")
        else:
            kept.append(line)
    return "\n".join(kept)


def _only_cites(part: str) -> bool:
    """Whether nothing is said but where something stands. What ends with a colon introduces what follows."""
    found = list(_places(part, ()))
    if part.rstrip("*_ ").endswith(":") or not (found or _BRACKETED.search(part)):
        return False
    rest = part
    for place in reversed(found):
        rest = rest[: place.span[0]] + rest[place.span[1] :]
    return all(word.lower() in _CITING for word in _WORD.findall(_BRACKETED.sub("", rest)))


def _claims(answer: str, shown: Sequence[_Shown]) -> list[_Claim]:
    """The answer's claims in order. List items without a place belong to the place of the line above them."""
    claims = []
    heading: list[_Shown] = []
    for sentence in sentences(answer):
        claim = _claim(sentence, shown)
        if claim.sources:
            heading = claim.sources if sentence.rstrip("*_ ").endswith(":") else []
        elif heading and _ITEM.match(sentence):
            claim.sources = heading
        else:
            heading = []
        claims.append(claim)
    return claims


def _claim(sentence: str, shown: Sequence[_Shown]) -> _Claim:
    known = [item.source.path for item in shown]
    sources = [item.source for item in shown]
    meant = [resolve(path, start, end, sources) for path, start, end in places(sentence, known)]
    labels = {source.label for source in meant if source is not None}
    quotes = [quote for quote in _QUOTED.findall(_BACKTICKED.sub(" ", sentence)) if " " in quote]
    return _Claim(
        code_names(sentence, known),
        quotes,
        [item for item in shown if item.source.label in labels],
        _runs(_BRACKETED.sub(" ", sentence)),
    )


def _attribute(claim: _Claim, shown: Sequence[_Shown], citations: dict[str, Citation]) -> None:
    """Cite for a sentence that cites nothing: the source it copies words from, else the first that has its names."""
    ours = sum(citation.reason.startswith("not cited") for citation in citations.values())
    able = [item for item in shown if all(name in item.words for name in claim.names)]
    best = max(able, key=lambda item: sum(run in item.runs for run in claim.runs), default=None)
    if best is None or best.source.label in citations or ours >= _MAX_ATTRIBUTED:
        return
    copied = _copied(claim, best)
    # One name stands in many places: alone it points only at what the search thought best.
    if not copied and (not claim.names or (len(claim.names) == 1 and best not in shown[:_BEST])):
        return
    source, reason = best.source, f"not cited by the model; {copied or _listed(claim.names)} stands there"
    citations[source.label] = Citation(source.path, source.start_line, source.end_line, True, reason)


def _copied(claim: _Claim, item: _Shown) -> str:
    """The first words of the sentence that stand in the source in the same order, in quotes; or nothing."""
    run = next((run for run in claim.runs if run in item.runs), None)
    return f'"{" ".join(run)}"' if run else ""


def _verify(cited: _Shown, claim: _Claim) -> Citation:
    found = [name for name in claim.names if name in cited.words]
    found += [quote for quote in claim.quotes if _squeeze(quote) in cited.squeezed]
    found += [copied for copied in [_copied(claim, cited)] if copied and not found]
    missing = [name for name in claim.names if all(name not in item.words for item in claim.sources)]
    missing += [
        f'"{quote}"'
        for quote in claim.quotes
        if all(_squeeze(quote) not in item.squeezed for item in claim.sources)
    ]
    if missing:
        verified, reason = False, f"{_listed(missing)} does not stand there"
    elif found:
        verified, reason = True, f"{_listed(found)} stands there"
    else:
        verified, reason = False, _ELSEWHERE if claim.names or claim.quotes else _NOTHING_NAMED
    source = cited.source
    return Citation(source.path, source.start_line, source.end_line, verified, reason)


def _keep(citations: dict[str, Citation], new: Citation) -> None:
    """One entry a place: a failed claim about it outweighs all proofs, a proof outweighs naming nothing."""
    old = citations.get(new.label)
    if old is None or _weight(new) > _weight(old):
        citations[new.label] = new


def _weight(citation: Citation) -> int:
    if citation.verified:
        return 1
    return 0 if citation.reason in (_NOTHING_NAMED, _ELSEWHERE) else 2


def _overlap(source: Source, first: int, last: int) -> int:
    return min(source.end_line, last) - max(source.start_line, first) + 1


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text))


def _runs(text: str) -> list[tuple[str, ...]]:
    """Every run of so many words, in lower case: that many in the same order are no accident."""
    words = _PLAIN_WORD.findall(text.lower())
    return [tuple(words[i : i + _RUN_WORDS]) for i in range(len(words) - _RUN_WORDS + 1)]


def _squeeze(text: str) -> str:
    return " ".join(text.split()).lower()


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
