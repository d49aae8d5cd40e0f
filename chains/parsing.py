"""Model text -> citations, each checked against the source it names. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from chains.ranking import looks_like_code
from chains.types import Citation, Source

# path:10-20, path:10, path#L10-L20, path lines 10-20; the path may stand in brackets, backticks or plain.
_PLACE = re.compile(
    r"(?P<path>[\w.@+~/\\-]*[\w-]+\.\w+|[\w.@+~-]+(?:/[\w.@+~-]+)+)"
    r"(?:(?::|#L|,?\s*\(?\blines?\s+)(?P<start>\d+)(?:\s*(?:-|–|to|and)\s*L?(?P<end>\d+))?)?"
)
_BRACKETED = re.compile(r"\[([^\[\]\n]{3,300})\]|\(([^()\n]{3,300}:\d[^()\n]*)\)")
_BACKTICKED = re.compile(r"(?<!`)`([^`\n]{1,200})`(?!`)")
_FENCE = re.compile(r"^\s*(`{3,}|~{3,}).*?^\s*\1\s*$", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"[\"“]([^\"“”\n]{6,200})[\"”]")
_SENTENCE_END = re.compile(r"(?<=[.!?:;])[\])*`]*\s+(?=[A-Z`*\-\d\[])|\n+")
_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{2,}")
# Words that stand in backticks as values of every language: finding them in a source proves nothing.
_COMMON = frozenset(
    "true false none null nil self this return def class import from str int bool list dict int32".split()
)
_MAX_ATTRIBUTED = 4
_NOTHING_NAMED = "the sentence names nothing that could be looked up"


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of an answer's claims about places and names."""

    citations: tuple[Citation, ...]
    unverified: tuple[str, ...]


@dataclass(slots=True)
class _Claim:
    """A sentence: what it attributes, and to which sources."""

    names: list[str]
    quotes: list[str]
    sources: list[Source]


def check(answer: str, sources: Sequence[Source], question: str = "") -> Checked:
    """Resolve the places an answer names and verify what it says of them.

    A citation is verified when something the sentence names (an identifier or a quote) stands in the cited
    lines, and nothing it names is missing from all the sources it cites. A sentence without citation whose
    names stand in a source gets one from us, marked as such in its reason.
    """
    claims = [_claim(sentence, sources) for sentence in sentences(answer)]
    citations: dict[str, Citation] = {}
    for claim in claims:
        for source in claim.sources:
            _keep(citations, _verify(source, claim))
    attributed = 0
    for claim in claims:
        if claim.sources or not claim.names or attributed >= _MAX_ATTRIBUTED:
            continue
        source = max(sources, key=lambda s: sum(_stands(n, s.text) for n in claim.names), default=None)
        present = [n for n in claim.names if source and _stands(n, source.text)]
        if source and present and len(present) == len(claim.names) and source.label not in citations:
            reason = f"not cited by the model; {_listed(present)} stands there"
            citations[source.label] = Citation(source.path, source.start_line, source.end_line, True, reason)
            attributed += 1
    names = [name for claim in claims for name in claim.names]
    everything = "\n".join(source.text for source in sources) + "\n" + question
    unknown = tuple(dict.fromkeys(n for n in names if not _stands(n, everything)))
    return Checked(tuple(citations.values()), unknown + unresolved(answer, sources))


def sentences(answer: str) -> list[str]:
    """The answer cut into sentences and list items; fenced code is left out, a trailing citation stays."""
    plain = _FENCE.sub("\n", answer)
    parts = [part.strip() for part in _SENTENCE_END.split(plain)]
    merged: list[str] = []
    for part in filter(None, parts):
        # "It retries. [a.py:1-9]": a citation after the full stop belongs to the sentence before it.
        if merged and not _WORD.search(_BRACKETED.sub("", part)):
            merged[-1] += " " + part
        else:
            merged.append(part)
    return merged


def places(text: str) -> list[tuple[str, int | None, int | None]]:
    """Every path in brackets, backticks or with lines, as (path, start, end)."""
    found = []
    spans = [m.group(1) or m.group(2) for m in _BRACKETED.finditer(text)] + _BACKTICKED.findall(text)
    for span in spans:
        for match in _PLACE.finditer(span):
            start, end = match.group("start"), match.group("end")
            found.append(
                (match.group("path"), int(start) if start else None, int(end or start) if start else None)
            )
    bare = _BACKTICKED.sub(" ", _BRACKETED.sub(" ", text))
    for match in _PLACE.finditer(bare):
        if match.group("start"):
            found.append(
                (
                    match.group("path"),
                    int(match.group("start")),
                    int(match.group("end") or match.group("start")),
                )
            )
    return found


def resolve(path: str, start: int | None, end: int | None, sources: Sequence[Source]) -> Source | None:
    """The source a place means: same path (or an unambiguous end of it), overlapping lines first."""
    named = [s for s in sources if s.path == path] or [
        s for s in sources if s.path.endswith("/" + path.lstrip("./")) or path.endswith("/" + s.path)
    ]
    if not named or len({s.path for s in named}) > 1:
        return None
    if start is None or end is None:
        return named[0] if len(named) == 1 else None
    exact = [s for s in named if s.start_line == start and s.end_line == end]
    overlapping = [s for s in named if start <= s.end_line and end >= s.start_line]
    return (exact or overlapping or [None])[0]


def unresolved(answer: str, sources: Sequence[Source]) -> tuple[str, ...]:
    """Places with line numbers that mean none of the sources: the model made them up or misread them."""
    plain = _FENCE.sub("\n", answer)
    return tuple(
        dict.fromkeys(
            f"{path}:{start}-{end}"
            for path, start, end in places(plain)
            if start is not None and resolve(path, start, end, sources) is None
        )
    )


def code_names(text: str) -> list[str]:
    """Identifiers a sentence attributes: what stands in backticks, and words only code spells that way."""
    found: list[str] = []
    for span in _BACKTICKED.findall(text):
        if _PLACE.fullmatch(span) and ("/" in span or ":" in span):
            continue
        found += [n for n in _IDENTIFIER.findall(span) if len(n) > 2][:6]
    bare = _BRACKETED.sub(" ", _BACKTICKED.sub(" ", text))
    bare = _PLACE.sub(lambda m: " " if "/" in m.group() or m.group("start") else m.group(), bare)
    found += [w for w in _WORD.findall(bare) if looks_like_code(w)]
    return [n for n in dict.fromkeys(found) if n.lower() not in _COMMON]


def _claim(sentence: str, sources: Sequence[Source]) -> _Claim:
    cited: dict[str, Source] = {}
    for path, start, end in places(sentence):
        source = resolve(path, start, end, sources)
        if source:
            cited[source.label] = source
    quotes = [q for q in _QUOTED.findall(_BACKTICKED.sub(" ", sentence)) if " " in q]
    return _Claim(code_names(sentence), quotes, list(cited.values()))


def _verify(source: Source, claim: _Claim) -> Citation:
    here = [n for n in claim.names if _stands(n, source.text)]
    quoted = [q for q in claim.quotes if _squeeze(q) in _squeeze(source.text)]
    cited = "\n".join(s.text for s in claim.sources)
    missing = [n for n in claim.names if not _stands(n, cited)]
    missing += [f'"{q}"' for q in claim.quotes if _squeeze(q) not in _squeeze(cited)]
    if missing:
        verified, reason = False, f"{_listed(missing)} does not stand there"
    elif here or quoted:
        verified, reason = True, f"{_listed(here or quoted)} stands there"
    else:
        verified, reason = False, _NOTHING_NAMED
    return Citation(source.path, source.start_line, source.end_line, verified, reason)


def _keep(citations: dict[str, Citation], new: Citation) -> None:
    """One entry a place: a failed claim about it outweighs all proofs, a proof outweighs naming nothing."""
    old = citations.get(new.label)
    if old is None or _weight(new) > _weight(old):
        citations[new.label] = new


def _weight(citation: Citation) -> int:
    if citation.verified:
        return 1
    return 0 if citation.reason == _NOTHING_NAMED else 2


def _stands(name: str, text: str) -> bool:
    return re.search(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", text) is not None


def _squeeze(text: str) -> str:
    return " ".join(text.split()).lower()


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
