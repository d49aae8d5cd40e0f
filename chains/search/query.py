"""Takes a query apart: its kind, its tokens, the names of code in it, and what it asks for. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from indexers.tokens import split_identifier, tokenize, unique

# English function words and the verbs of questions: they say how something is asked, not what about.
STOP_WORDS = frozenset(
    """a about actually all also an and another any are as at be been being both by can could did
    do does done else exactly find for from get gets give had has have how i if in into is it its
    just list make me more most my no not of on one ones or our out please really same shall
    should show so some such tell than that the their them then there these they this those to too
    use used uses using very was we were what when where which while who whom whose why will with
    work works would you your""".split()
)
_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*(?:(?:\.|::|->|#)[A-Za-z_$][\w$]*)*(?:\(\))?[!?]?")
_NAME = re.compile(r"[^\W\d]\w{2,}")
# A query longer than this is cut: what comes behind says nothing new about what is looked for.
MAX_QUERY_CHARS = 20_000
# Longer than this is an issue report or a stack trace rather than a question.
_LONG_QUERY = 400
# A member named by its owner inside a sentence: res.redirect, z.pipe, absl::StrCat, Router#call.
_MEMBER = re.compile(r"(?<![\w.])[A-Za-z_$][\w$]*(?:(?:\.|::|->|#)([A-Za-z_$][\w$]+))+")

# An imperative (or a wish), something that is not there yet ("a", never "the"), and a word for code that ends what is
# wanted: "a function that ..." and "a parser for ...", but not "a test plan" and not "a summary of the code".
_POLITE = (
    r"(?:(?:please|kindly|hey|hi|now|can you|could you|would you|will you|i(?:'d| would) like you to"
    r"|i (?:need|want) you to|help me(?: to)?|in \w[\w+#]*)[\s,]+)*"
)
_VERB = r"(?:(?:write|implement|code(?: up)?|generate|create|draft|give|build)\s+(?:me\s+|us\s+)?|i (?:need|want)\s+)"
_NEW = r"(?:(?:an?|another|some|two|three|few)\s+|(?=(?:unit\s+)?tests?\b|code\b))"
_DESCRIBED = (
    r"(?:(?!(?:of|about|for|on|to|in|with|how|that|which|the|this|these|from|by|every|each|all|and|or|is)\b)"
    r"[\w`'.+#@/()-]+,?\s+){0,4}?"
)
_CODE = (
    r"(?:functions?|methods?|class(?:es)?|helpers?|scripts?|decorators?|snippets?|tests?|code|generator|iterator|wrapper"
    r"|fixtures?|context manager|middleware|handler|endpoint|subcommand|command|parser|validator|cache|limiter|regex"
    r"|component|hook|struct|trait|interface|macro|program|coroutine|subclass|benchmark|mock|dockerfile)"
)
_THEN = (
    r"(?=\s*(?:$|[.,;:(`!]|(?:that|which|to|for|of|with|in|from|called|named|returning|taking|using|like|and|so|when"
    r"|where|around|as)\b|\w+\s+(?:that|which|to)\b))"
)
_CODE_WANTED = re.compile(rf"\s*{_POLITE}{_VERB}{_NEW}{_DESCRIBED}`?{_CODE}{_THEN}", re.IGNORECASE)
_ASKED = re.compile(r"\s*(?:please\s+)?(?:can|could|would|will)\s+you\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Query:
    """A query taken apart once: `kind` is identifier, sentence or long.

    `tokens` are what the keyword index is asked for, `words` what was said without stop words, `names` the names
    of code in it.
    """

    text: str
    kind: str
    tokens: tuple[str, ...]
    words: tuple[str, ...]
    names: tuple[str, ...]
    wants_tests: bool = False
    wants_examples: bool = False


def understand(text: str) -> Query:
    """Take a query apart: what kind it is, its tokens, the names of code in it, and what it asks for.

    Of a very long text only the beginning counts.
    """
    # A lone surrogate (an odd byte of the command line) is no text: no tokenizer takes it.
    stripped = text[:MAX_QUERY_CHARS].encode("utf-8", "replace").decode().strip()
    kind = (
        "identifier"
        if _IDENTIFIER.fullmatch(stripped)
        else "long"
        if len(stripped) > _LONG_QUERY
        else "sentence"
    )
    said = [w for w in re.findall(r"\w+", stripped) if w.lower() not in STOP_WORDS]
    words = unique(w.lower() for w in said)
    # Stop words go before stemming, which makes "where" something else; then those inside identifiers.
    tokens = unique(t for t in tokenize(" ".join(said)) if t not in STOP_WORDS) or unique(tokenize(stripped))
    if kind == "identifier":
        names = unique(_NAME.findall(stripped))
    else:
        spelled = (name for name in _NAME.findall(stripped) if looks_like_code(name))
        names = unique((*spelled, *_MEMBER.findall(stripped)))
    asked = set(words)
    return Query(
        text=stripped,
        kind=kind,
        tokens=tuple(tokens),
        words=tuple(words),
        names=tuple(names),
        wants_tests=bool(
            asked & {"test", "tests", "tested", "testing", "spec", "specs", "fixture", "fixtures", "mock"}
        ),
        wants_examples=bool(
            asked
            & {"example", "examples", "sample", "demo", "docs", "documentation", "tutorial", "benchmark"}
        ),
    )


def looks_like_code(word: str) -> bool:
    """True for names nobody writes in prose: snake_case, camelCase, PascalCase with two humps, HTTPServer."""
    if "_" in word.strip("_"):
        return True
    return (
        len(split_identifier(word)) > 1
        and any(c.islower() for c in word)
        and any(c.isupper() for c in word[1:])
    )


def asks_for_code(question: str) -> bool:
    """Whether a question is no question, but wants code written that is not there yet."""
    if question.rstrip().endswith("?") and not _ASKED.match(question):
        return False
    return _CODE_WANTED.match(question) is not None
