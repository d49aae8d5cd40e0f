"""What a request asks to be done with the paths that it names, as far as its grammar tells. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """What a path is in a request."""

    CREATE = "to be made"
    DELETE = "to be deleted, the whole file"
    RENAME = "to get another name, the whole file"
    TO = "the other name that a file is to get"
    INTO = "where something is to be put, which may have to be made"
    EDIT = "to be edited"
    MENTION = "spoken of"
    REFERENCE = "where something is described, or what it shall be like"


@dataclass(frozen=True, slots=True)
class Word:
    """A path in a request: as it is written, what is to be done with it, and where it stands.

    `governed` is whether it stands behind a preposition: what is done in it, to it, from it.
    """

    text: str
    role: Role
    start: int
    end: int
    governed: bool = False


def _any(words: str) -> str:
    return "(?:" + "|".join(word.replace("_", r"\s+") for word in words.split()) + ")"


_DELETE = _any("delete remove drop erase rm get_rid_of")
_RENAME = _any("rename move git_mv mv")
_CREATE = _any("create write add generate introduce implement make new touch draft produce")
_EDIT = _any(
    "fix edit change update modify refactor rewrite improve simplify clean_up clean tidy format reformat lint document"
    " annotate optimise optimize shorten split merge extend correct repair adapt adjust translate convert port sort"
    " harden replace append prepend insert overwrite patch truncate empty clear chmod"
)
_VERB = f"(?:{_DELETE}|{_RENAME}|{_CREATE}|{_EDIT})"
# These take something to another file, which need not be there.
_MOVE = _any("move extract split factor pull copy put relocate separate transfer")
_POLITE = (
    r"(?:(?:please|kindly|now|just|also|then|first|finally|(?:can|could|would|will)\s+you|let'?s|let\s+us|"
    r"we\s+(?:should|must|(?:need|want)\s+to)|you\s+should|i(?:'d|\s+would)\s+like\s+(?:you\s+)?to|"
    r"i\s+(?:want|need)\s+(?:you\s+)?to)[\s,]+)*"
)
CLAUSE = rf"(?:^\s*|[.;:!?,\n]\s*|\b(?:and|then|but)\s+){_POLITE}"
# Nouns that mean the file itself.
_FILE = _any(
    "files? modules? scripts? documents? pages? package header tests? config configuration template notebook"
)
_FILLER = (
    rf"(?:(?:{_FILE}|"
    + _any(
        "the a an this that my our your all new old whole entire empty unused obsolete dead stale outdated temporary"
        " unneeded deprecated small short other another second python markdown text source called named at"
    )
    + r")\s+)*"
)
_OPENING, _CLOSING = "`'\"([{<*", "`'\")]}>*"
_QUOTE = "[`'\"]?"
_OBJECT = re.compile(rf"{CLAUSE}(?P<verb>{_VERB})\s+(?P<filler>{_FILLER})$", re.IGNORECASE)
_GOVERNED = re.compile(
    rf"(?:^\s*|(?P<word>\S+)\s+)(?P<preposition>inside|into|within|in|to|from|of|as|at|->|→)\s+{_FILLER}$",
    re.IGNORECASE,
)
_NAMED = re.compile(rf"{_FILE}\b.*\b(?:named|called)\s+$", re.IGNORECASE | re.DOTALL)
_CREATES = re.compile(rf"\s*{_POLITE}{_CREATE}\b", re.IGNORECASE)
_REFERS = re.compile(
    r"(?:\b(?:like|see|per|unlike|following|than|similar\s+to|according\s+to|based\s+on|modell?ed\s+on|instead\s+of|"
    r"such\s+as|(?:same|just)\s+as(?:\s+in)?|as\s+in|"
    rf"(?:described|documented|explained|specified|listed|shown|given|outlined)\s+(?:in|by))|\be\.g\.)\s+{_FILLER}$",
    re.IGNORECASE,
)
# What a program does with a file: who wants it to read x wants no edit of x.
_BEHAVES = (
    r"(?:read|us(?:e|es|ed|ing)\b|reus|call|load|pars|sav|handl|support|log|print|stor|export|import|fetch|send|open|dump|download|upload|serv|"
    r"render|emit|output|pass|look|search|accept|detect|ignor|skip|exclud|redirect|rout|mount|request|connect|point|"
    r"link|cach|receiv|return|find|found|com(?:es?|ing)\b)\w*"
)
_IS_DONE = r"\b" + _any(
    "that which who to by when while after before is are was were be being been for it and or should must can will"
)
_PROGRAM = re.compile(
    rf"{CLAUSE}{_BEHAVES}|`\s+{_BEHAVES}|{_IS_DONE}\s+(?:not\s+)?(?:\w+ly\s+)?(?:{_BEHAVES}|writ\w+)",
    re.IGNORECASE,
)
_WRITES = re.compile(rf"{CLAUSE}write\b", re.IGNORECASE)
# "Like the one in x": x may be what it shall be like, or where it shall be done.
_LIKE = re.compile(
    rf"\b(?:like|unlike|similar\s+to|same\s+as)\s+(?:\S+\s+){{1,4}}\w+\s+{_FILLER}$", re.IGNORECASE
)
_STORED = re.compile(r"stored|saved|found|kept|written|present|missing|contained", re.IGNORECASE)
_USED = re.compile(r"used|called|imported|needed|required|referenced|defined", re.IGNORECASE)
_TAKES = re.compile(rf"{CLAUSE}(?:{_MOVE}|convert|translate|port)\b", re.IGNORECASE)
_MOVES = re.compile(rf"{CLAUSE}(?:move|relocate|transfer)\b", re.IGNORECASE)
# What a new file can be filled with.
_FILLS = re.compile(
    rf"\s*{_POLITE}(?:create|write|generate|draft|produce)\s+"
    r"(?:(?!(?:to|for|in|of|on|from|with|by)\b)[\w-]+\s+){0,3}?"
    r"(?:functions?|methods?|class(?:es)?|helpers?|tests?|fixtures?|structs?|scripts?|modules?|programs?|documents?|"
    r"documentation|docs|pages?|guides?|tutorials?|readme|changelog|glossary|reports?|summary|overview|config\w*|files?|"
    r"templates?|schema|examples?|notebooks?|benchmarks?)\b",
    re.IGNORECASE,
)
_SAME = re.compile(rf"{_QUOTE}\s*(?:,|,?\s*\b(?:and|or)\b|&)\s*{_FILLER}{_QUOTE}", re.IGNORECASE)
_TO = rf"{_QUOTE}\s+(?:to|into|as|->|→)\s+{_FILLER}{_QUOTE}"
_RENAMED_TO = re.compile(_TO, re.IGNORECASE)
_NEW_NAME = re.compile(rf"{_TO}(?P<to>[\w.~:\\/-]*[\w/])", re.IGNORECASE)
# After "fix package.json" these go on with the sentence; any other word belongs to the name, as "parsing" does.
_COMPOUND = re.compile(
    r"\s+(?!(?:to|so|and|or|for|with|in|by|please|that|which|as|because|since|from|into|on|at|using|containing|holding|"
    r"when|if|where|but|then|instead|now|again|like|describing|explaining|about|not|is|are|must|should|of|under|without|"
    r"after|before|via|whose|does|has|while|until|unless|too|today|first|\w+ly)\b)[a-z]"
)
_HERE = r"(?:from|in)\s+(?:the\s+|this\s+)?(?:repo|repository|project|tree|codebase|code\s+base|work\s+tree|disk)\b"
_WHOLE = re.compile(
    rf"{_QUOTE}\s*(?:$|[.,;:!?)]|&|—|(?:and|then|or|please|because|since|as\s+(?:it|they|nothing|nobody|no)|which|that|"
    rf"now|completely|entirely|if|when|but|along|together|including|file|module|script|for\s+(?:me|good)|{_HERE})\b)",
    re.IGNORECASE,
)
_RENAMED = re.compile(rf"{_QUOTE}\s*(?:$|[.,;:!?)]|(?:to|into|as|so|and|please|or)\b|->|→)", re.IGNORECASE)
# "Add /api/users to app.py", "remove ~/x from the search path": what comes or goes there is text.
_AS_TEXT = re.compile(rf"{_QUOTE}\s+(?!{_HERE})(?:to|from|in|into|as)\s", re.IGNORECASE)
_TEXT_VERB = re.compile(_any("add append prepend insert introduce delete remove drop"), re.IGNORECASE)
_WEB = re.compile(
    rf"{_QUOTE}\s+(?:endpoints?|routes?|handlers?|pages?|paths?|urls?|views?|resources?|requests?)\b",
    re.IGNORECASE,
)
_REASON = re.compile(
    rf"{_QUOTE}(?:[\s,;]*(?:please|now|too|entirely|completely|for\s+(?:me|good)|{_HERE}|file|module|script|"
    r"(?:because|since|as\s+(?:it|they|nothing|nobody|no)|which|that\s+(?:is|are|was|no)|it\s+is|it'?s|nothing|nobody|"
    r"no\s+longer|they\s+are)\b.*|—.*))*[\s.!?]*",
    re.IGNORECASE | re.DOTALL,
)
_MORE = re.compile(
    rf"(?:[.;,:\n]|\b(?:and|then|but)\b)\s*(?:(?:then|also|and|please)\s+)*(?:{_VERB}|{_MOVE}|use|call|import)\b",
    re.IGNORECASE,
)
# As in `chains.writing.choosing`, and with what leads out of a repository: ~/x, C:/x, a\b, /x, .git.
_PATH = re.compile(r"(?<![\w./\\~@$-])(?:[A-Za-z]:(?=[\\/]))?[\w.~\\/-]*\w(?![\w(])")
_CODE = re.compile(r"`([^`\n]+)`")
# So much of a request is looked at before and behind a path.
_REACH = 600


def words_in(request: str, plain: Collection[str] = ()) -> list[Word]:
    """The paths in a request, in their order, with what is to be done with each.

    :param plain: names of files without a dot or a slash that count as paths (README, Makefile).
    """
    code = [match.span(1) for match in _CODE.finditer(request)]
    found: list[Word] = []
    for match in _PATH.finditer(request):
        text, (start, end) = match.group(), match.span()
        is_plain = text in plain and (not text.islower() or (start, end) in code)
        # A URL, or what a pattern such as *.py or src/**/x ends with.
        of_more = text[0] in "./" and request[max(0, start - 1) : start] in (":", "*")
        if of_more or not (is_plain or _is_path(text)):
            continue
        # In `python src/x.py --fast` it is a word of code.
        inside = any(a <= start and end <= b and (a, b) != (start, end) for a, b in code)
        role, governed = (Role.MENTION, False) if inside else _role(request, start, end, found)
        while text.startswith("./"):
            text = text[2:]
        found.append(Word(text, role, start, end, governed))
    return found


def _is_path(text: str) -> bool:
    if not any(char.isalpha() for char in text):
        return False
    return "/" in text or "\\" in text or "." in text[1:] or (text[0] in ".~" and len(text) > 1)


def _role(request: str, start: int, end: int, found: Sequence[Word]) -> tuple[Role, bool]:
    """What is to be done with one path, told by the words around it; and whether a preposition stands before it."""
    if found:
        between = request[found[-1].end : start]
        if found[-1].role is Role.RENAME and _RENAMED_TO.fullmatch(between):
            return Role.TO, False
        if _SAME.fullmatch(between):
            before = found[-1].role
            return (Role.RENAME if before is Role.TO else before), found[-1].governed
    # What stands far away begins no clause.
    before_it = ("_" if start > _REACH else "") + request[max(0, start - _REACH) : start].rstrip(_OPENING)
    after, text = request[end : end + _REACH], request[start:end]
    if _REFERS.search(before_it):
        return Role.REFERENCE, False
    sentence = re.split(r"[.;!?]\s|\n", before_it)[-1]
    wanted = _OBJECT.search(before_it)
    if wanted is not None:
        return _of_object(wanted["verb"], wanted["filler"], after, text), False
    if _NAMED.search(sentence) and _CREATES.match(sentence):
        return Role.CREATE, False
    if not before_it.strip() and after.startswith(":"):
        return Role.EDIT, False
    governed = _GOVERNED.search(before_it)
    return (_of_governed(governed, sentence, after, text), True) if governed else (Role.MENTION, False)


def _of_object(verb: str, filler: str, after: str, text: str) -> Role:
    """The role of a path that is the object of a verb."""
    is_file = re.search(rf"\b{_FILE}\b", filler, re.IGNORECASE) is not None
    compound = not is_file and _is_compound(after, text)
    if leads_out(text) and (_WEB.match(after) or (_TEXT_VERB.fullmatch(verb) and _AS_TEXT.match(after))):
        return Role.MENTION
    if _is(verb, _DELETE):
        if _WHOLE.match(after):
            return Role.DELETE
        return Role.MENTION if compound or _AS_TEXT.match(after) else Role.EDIT
    if _is(verb, _RENAME) and _RENAMED.match(after):
        return Role.RENAME
    if _is(verb, "make"):
        # "Make a new file x.py" makes one, "make x.py faster" does not.
        return Role.CREATE if is_file or "new" in filler.lower().split() else Role.EDIT
    if _is(verb, "create|touch|new|draft"):
        return Role.CREATE
    if compound:
        return Role.MENTION
    return Role.CREATE if _is(verb, _CREATE) else Role.EDIT


def _of_governed(governed: re.Match[str], sentence: str, after: str, text: str) -> Role:
    """The role of a path that stands behind a preposition."""
    preposition, word = governed["preposition"].lower(), governed["word"] or ""
    clause = _PATH.sub(lambda match: "_" if _is_path(match.group()) else match.group(), sentence)
    if _is_compound(after, text) or _LIKE.search(sentence):
        return Role.MENTION
    if preposition in ("to", "into", "->", "→") and _TAKES.search(clause):
        return Role.INTO
    if preposition not in ("from", "of") and _FILLS.match(clause) and not _USED.fullmatch(word):
        return Role.MENTION if preposition == "to" and _PROGRAM.search(clause) else Role.INTO
    if preposition in ("in", "inside", "into", "within"):
        return Role.MENTION if _STORED.fullmatch(word) else Role.EDIT
    if preposition in ("to", "from") or (preposition == "of" and "/" in text):
        writes = "/" not in text and _WRITES.search(clause)
        return Role.MENTION if writes or _PROGRAM.search(clause) else Role.EDIT
    return Role.MENTION


def _is_compound(after: str, text: str) -> bool:
    """Whether a name goes on behind a path. One with a slash in it is a file's in any sentence."""
    return ("/" not in text or leads_out(text)) and _COMPOUND.match(after.lstrip(_CLOSING)) is not None


def _is(verb: str, pattern: str) -> bool:
    return re.fullmatch(pattern, verb, re.IGNORECASE) is not None


def leads_out(text: str) -> bool:
    """Whether a path is none inside of a repository, by its form alone."""
    parts = re.split(r"[\\/]", text)
    return (
        text.startswith(("/", "~", "\\"))
        or re.match(r"[A-Za-z]:", text) is not None
        or any(part == ".." or part.lower() == ".git" for part in parts)
    )


def moves(request: str, words: Sequence[Word]) -> bool:
    """Whether something is to be taken from one place to another, so that both have to change."""
    into = any(word.role is Role.INTO for word in words)
    return _MOVES.search(request) is not None or (into and _TAKES.search(request) is not None)


def asks_for_more(request: str, words: Sequence[Word]) -> bool:
    """Whether there is more to do than to make new files: another clause changes something."""
    made = [word for word in words if word.role in (Role.CREATE, Role.INTO)]
    return bool(made) and _MORE.search(request, made[-1].end) is not None


def whole_deletes(request: str, words: Sequence[Word]) -> list[str]:
    """The files that a request asks to delete, where it asks for nothing else; else none."""
    listed = [word for word in words if word.role is Role.DELETE]
    if not listed or listed != list(words[: len(listed)]):
        return []
    alone = _nothing_else(request, listed[0].start, listed[-1].end)
    return [word.text for word in listed] if alone else []


def whole_rename(request: str, words: Sequence[Word], directories: Collection[str] = ()) -> tuple[str, str]:
    """The one file that is to get another name, and that name, where a request asks for nothing else; else twice "".

    A name that ends with a slash is that of a directory.

    :param directories: names without a slash or a dot that are those of directories.
    """
    first = words[0] if words else None
    match = _NEW_NAME.match(request, first.end) if first and first.role is Role.RENAME else None
    if first is None or match is None or not _nothing_else(request, first.start, match.end()):
        return "", ""
    to = match["to"]
    # "Rename a.py to something" names nothing; README may become NOTES.
    named = bool(set("./\\") & set(to)) or to in directories or "." not in first.text.rpartition("/")[2]
    return (first.text, to.removeprefix("./")) if named else ("", "")


def _nothing_else(request: str, start: int, end: int) -> bool:
    """Whether nothing stands before a list of paths but a verb, and behind it nothing but a reason."""
    head = rf"\s*{_POLITE}{_VERB}\s+{_FILLER}"
    tail = request[end:]
    return (
        re.fullmatch(head, request[:start].rstrip(_OPENING), re.IGNORECASE) is not None
        and _REASON.fullmatch(tail) is not None
        and _MORE.search(tail) is None
    )
