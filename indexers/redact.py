"""Secrets out of text before it is split, stored, embedded or shown to a model; lines keep their numbers."""

# Our own rules rather than detect-secrets' plugins: those read 0.8 MB a second, line by line, take 250 ms to
# import and find 77 "secrets" in sixty modules of the standard library.
#
# Precision comes first: what is replaced can no longer be found or explained. Tokens with a form of their own
# are always replaced; a value beside a word like `password` only when it looks random. A pattern is tried
# only where one of its literals stands, so most files cost a few substring searches, and no quantifier lies
# within another, so no text can make a pattern take more than linear time.

from __future__ import annotations

import hmac
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

_OPEN = "\u27e6"
_CLOSE = "\u27e7"

# Told from source code by their names: here a value needs no quotes.
_SETTINGS_SUFFIXES = (
    *(".env", ".ini", ".cfg", ".conf", ".config", ".properties", ".yml", ".yaml", ".toml", ".tfvars"),
    *(".example", ".sample", ".template", ".dist", "dockerfile"),
)


@dataclass(frozen=True, slots=True)
class Redacted:
    """Text without its secrets, and how many there were."""

    text: str
    count: int


def redact(text: str, key: bytes, path: str = "") -> Redacted:
    """Replace every secret by a mark, the same mark for the same secret.

    The number of lines stays as it is, and redacting twice is redacting once.

    :param key: stays with the index, so that nobody can try candidates against the marks.
    :param path: where the text comes from; in settings files values need no quotes.
    """
    settings = path.casefold().endswith(_SETTINGS_SUFFIXES)
    count = 0
    while True:
        marked, found = _redact_once(text, key, settings)
        if not found:
            return Redacted(text, count)
        # What is gone may have hidden the border of another. Every round takes away for good what it finds,
        # so this ends, and at the end there is nothing left to find.
        text = marked
        count += found


def _redact_once(text: str, key: bytes, settings: bool) -> tuple[str, int]:
    count = 0
    present = _literals_in(text)
    for rule in _RULES:
        if not present.isdisjoint(rule.literals):
            text, found = _replace(text, rule.name, rule.find(text), key)
            count += found
    text, found = _replace(text, "assigned", _assignments(text, settings), key)
    return text, count + found


def _replace(text: str, name: str, spans: Iterator[tuple[int, int]], key: bytes) -> tuple[str, int]:
    pieces: list[str] = []
    count = end = 0
    for start, stop in spans:
        secret = text[start:stop]
        digest = hmac.new(key, secret.encode("utf-8", "surrogatepass"), "sha256").hexdigest()
        mark = f"{_OPEN}REDACTED:{name}:{digest[:8]}{_CLOSE}"
        # A block of several lines leaves as many behind.
        pieces += (text[end:start], mark, "\n" * secret.count("\n"))
        end = stop
        count += 1
    pieces.append(text[end:])
    return "".join(pieces), count


# --- what looks like a secret ---------------------------------------------------------------------

# Whoever writes one of these does not mean a real secret. In a random value of forty characters the shortest
# of them turns up once in ten thousand.
_PLACEHOLDER_WORDS = (
    *("example", "sample", "placeholder", "changeme", "change_me", "change-me", "your", "dummy", "test"),
    *("fake", "mock", "todo", "insert", "replace", "redacted", "secret", "passw", "token", "default"),
    *("foobar", "qwerty", "123456", "abcdef", "deadbeef", "hunter2", "xxxx", "none", "null", "undefined"),
    *("lorem", "invalid"),
)
_EXPRESSION = re.compile(
    r"^\$\w|\$[{(]|\{\w{0,80}\}|\{\{|^<|<[\w -]{1,40}>|^arn:|\w\(|^%|%[sdr(]|\*{3}|\.{3}|://|::|^[./~@#&]|\w\[|[\w.-]{1,80}@[\w-]{1,80}\."
)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# A part of an identifier, a path, a version, a date.
_WORD = re.compile(r"[A-Za-z]*\d{0,4}|\d+[a-z]{0,2}|v\d+")
_WORD_BREAK = re.compile(r"[_.:/-]")
_CLASSES = (re.compile("[a-z]"), re.compile("[A-Z]"), re.compile("[0-9]"), re.compile("[^A-Za-z0-9]"))
_SHORT = 16
_SHORT_CLASSES = 3
_SHORT_ENTROPY = 2.5
# Shorter ones are checksums and ids.
_HEX_LENGTH = 32
_HEX = re.compile("[0-9a-fA-F]+")
# A random hex string of 16 has about 3.1 bits a character, one of 32 about 3.6.
_LONG_ENTROPY = 3.0


def _looks_random(value: str) -> bool:
    """Whether a value is a literal secret rather than a name, an expression or a stand-in."""
    if _is_stand_in(value) or _UUID.fullmatch(value):
        return False
    if _is_words(value):
        return False
    if not any(c.isdigit() for c in value) or not any(c.isalpha() for c in value):
        return False
    if len(value) < _SHORT:
        return _classes(value) >= _SHORT_CLASSES and _entropy(value) >= _SHORT_ENTROPY
    if len(value) < _HEX_LENGTH and _HEX.fullmatch(value):
        return False
    return _entropy(value) >= _LONG_ENTROPY


def _is_stand_in(value: str) -> bool:
    lowered = value.lower()
    return any(word in lowered for word in _PLACEHOLDER_WORDS) or _EXPRESSION.search(value) is not None


def _is_words(value: str) -> bool:
    return all(_WORD.fullmatch(part) for part in _WORD_BREAK.split(value))


def _classes(value: str) -> int:
    return sum(1 for pattern in _CLASSES if pattern.search(value))


def _entropy(value: str) -> float:
    """Shannon's, in bits a character."""
    size = len(value)
    return -sum(n / size * math.log2(n / size) for n in Counter(value).values())


def _alternations(value: str) -> int:
    """How often letters and digits take turns: more than three times in what is random, seldom in a name."""
    kinds = [c.isdigit() for c in value if c.isalnum()]
    return sum(1 for a, b in zip(kinds, kinds[1:], strict=False) if a != b)


def _is_bearer(match: re.Match[str]) -> bool:
    return _looks_random(match["secret"])


def _is_login(match: re.Match[str]) -> bool:
    """Whether a URL holds a password somebody uses."""
    value = match["secret"]
    return (
        value != match["user"] and not _is_stand_in(value) and (_classes(value) > 1 or len(value) >= _SHORT)
    )


def _is_not_from_the_manual(match: re.Match[str]) -> bool:
    """Whether a key is not one of those that Amazon's documentation, and all that quotes it, shows."""
    return "EXAMPLE" not in match[0]


# --- tokens with a form of their own --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rule:
    """A pattern, tried only on text with one of its literals; its group `secret`, or all of it, goes."""

    name: str
    literals: tuple[str, ...]
    pattern: re.Pattern[str]
    accept: Callable[[re.Match[str]], bool] | None = None

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the secrets are, in order."""
        group = "secret" if "secret" in self.pattern.groupindex else 0
        for match in self.pattern.finditer(text):
            if self.accept is None or self.accept(match):
                yield match.span(group)


@dataclass(frozen=True, slots=True)
class _PrivateKeys:
    """PEM and PGP blocks: whole or cut off, on one line with escapes, commented out, put together in code."""

    name: str = "private-key"
    literals: tuple[str, ...] = ("PRIVATE KEY",)

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the blocks are, in order."""
        end = 0
        for begin in _PEM_BEGIN.finditer(text):
            if begin.start() < end:
                continue
            stop = _pem_end(text, begin.end())
            if stop is not None:
                end = stop
                yield begin.start(), stop


_PEM_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
# Quotes, comment signs, operators: what may stand around a line of the block in source code.
_PEM_DRESS = " \t\r\"'`,;:\\#*+.()<>|&"
_PEM_LINE = re.compile(r"=?[A-Za-z0-9+/]+={0,2}")
_PEM_HEADER = re.compile(r"[A-Z][A-Za-z-]{1,30}: .*")
_PEM_MAX_CHARS = 32_768
_PEM_MIN_BODY = 16
# Without an END a line counts as part of the key only when it is this long: a word is not.
_PEM_FULL_LINE = 40


def _pem_end(text: str, start: int) -> int | None:
    """Where the block whose BEGIN ends at `start` is over; None when no key follows, only talk of one."""
    dashes = text.find("-----", start, start + _PEM_MAX_CHARS)
    end = _PEM_END.match(text, dashes) if dashes >= 0 else None
    if end is not None and _is_pem_body(text[start:dashes]):
        return end.end()
    stop = None
    position = start
    for line in text[start : dashes if dashes >= 0 else start + _PEM_MAX_CHARS].split("\n"):
        position += len(line) + 1
        pieces = _pem_pieces(line)
        if pieces is None or (pieces and stop is None and max(map(len, pieces)) < _PEM_FULL_LINE):
            break
        if pieces:
            stop = position - 1
    return stop


def _is_pem_body(body: str) -> bool:
    size = 0
    for line in body.split("\n"):
        pieces = _pem_pieces(line)
        if pieces is None:
            return False
        size += sum(map(len, pieces))
    return size >= _PEM_MIN_BODY


def _pem_pieces(line: str) -> list[str] | None:
    """The base64 of one line, which may hold several with escapes between; None when it is not that."""
    pieces: list[str] = []
    for part in line.replace("\\r", "").replace("\\n", "\n").split("\n"):
        bare = part.strip(_PEM_DRESS)
        words = [] if _PEM_HEADER.fullmatch(bare) else bare.split()
        # Line ends that became spaces leave words as long as lines; a sentence has none.
        if len(words) > 1 and max(map(len, words)) < _PEM_FULL_LINE:
            return None
        pieces += words
    return pieces if all(_PEM_LINE.fullmatch(piece) for piece in pieces) else None


_NO_MORE = "(?![A-Za-z0-9])"
# Name, how it begins (several, separated by spaces: each is one search of the text), what follows.
_TOKENS = (
    ("aws-access-key", "AKIA ASIA ABIA ACCA", "[A-Z0-9]{16}" + _NO_MORE),
    ("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", "[A-Za-z0-9]{36,}"),
    ("github-token", "github_pat_", r"\w{22,}"),
    ("gitlab-token", "glpat- gldt- glrt- glcbt- glptt-", r"[\w-]{20,}"),
    ("slack-token", "xox", "[abeprs]-[0-9][A-Za-z0-9-]{9,}"),
    ("slack-token", "xapp-", "[0-9]-[A-Z0-9]{6,}-[A-Za-z0-9-]{10,}"),
    ("slack-webhook", "hooks.slack.com/services/", r"T\w{6,}/B\w{6,}/\w{16,}"),
    ("stripe-key", "sk_live_ rk_live_ sk_test_ rk_test_", "[A-Za-z0-9]{16,}"),
    ("stripe-key", "whsec_", "[A-Za-z0-9+/]{24,}={0,2}"),
    ("google-key", "AIza", r"[\w-]{35}" + _NO_MORE),
    ("google-key", "GOCSPX- ya29.", r"[\w-]{24,}"),
    ("anthropic-key", "sk-ant-", r"[\w-]{20,}"),
    ("openai-key", "sk-proj- sk-svcacct- sk-admin-", r"[\w-]{20,}"),
    ("openai-key", "sk-", "[A-Za-z0-9]{32,}"),
    ("huggingface-token", "hf_", "[A-Za-z0-9]{30,}"),
    ("npm-token", "npm_", "[A-Za-z0-9]{36}" + _NO_MORE),
    ("pypi-token", "pypi-AgE", r"[\w-]{30,}"),
    ("sendgrid-key", "SG.", r"[\w-]{16,32}\.[\w-]{30,64}"),
    ("twilio-key", "SK", "[0-9a-f]{32}" + _NO_MORE),
    ("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", "[a-f0-9]{64}"),
    ("shopify-token", "shp", "(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    ("databricks-token", "dapi", "[a-f0-9]{32}"),
    ("vault-token", "hvs.", r"[\w-]{24,}"),
    ("age-key", "AGE-SECRET-KEY-1", "[A-Z0-9]{58}"),
    ("docker-token", "dckr_pat_", r"[\w-]{20,}"),
    ("grafana-token", "glsa_", "[A-Za-z0-9]{32}_[a-f0-9]{8}"),
    ("groq-key", "gsk_", "[A-Za-z0-9]{40,}"),
    ("nvidia-key", "nvapi-", r"[\w-]{40,}"),
    ("atlassian-token", "ATATT3", r"[\w-]{60,}(?:=[A-F0-9]{8})?"),
    ("postman-key", "PMAK-", "[a-f0-9]{24}-[a-f0-9]{34}"),
    ("linear-key", "lin_api_", "[A-Za-z0-9]{32,}"),
)


def _token_rule(name: str, prefixes: str, rest: str) -> _Rule:
    literals = tuple(prefixes.split())
    accept = _is_not_from_the_manual if name.startswith("aws") else None
    begin = "|".join(map(re.escape, literals))
    # Not within a word: in base64 every prefix turns up sooner or later.
    return _Rule(name, literals, re.compile(rf"(?a)(?<![A-Za-z0-9])(?:{begin}){rest}"), accept)


_URL_PART = rf"""[^\s:@/?#"'`<>\\{_OPEN}{_CLOSE}]"""

_RULES: tuple[_Rule | _PrivateKeys, ...] = (
    _PrivateKeys(),
    *(_token_rule(*token) for token in _TOKENS),
    _Rule(
        "aws-secret-key",
        ("ecret_access_key", "ECRET_ACCESS_KEY", "ecretAccessKey", "ecret_Access_Key"),
        re.compile(
            r"""(?i)secret_?access_?key["']?[ \t]{0,8}[=:,>]{1,2}[ \t]{0,8}["']?"""
            r"(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"
        ),
        _is_not_from_the_manual,
    ),
    _Rule("telegram-token", (":AA",), re.compile(r"(?a)(?<![A-Za-z0-9])[0-9]{8,10}:AA[\w-]{33}(?![\w-])")),
    # The look-behind keeps "eyJeyJeyJ..." linear: only its beginning is tried.
    _Rule("jwt", ("eyJ",), re.compile(r"(?a)(?<![\w-])eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}")),
    _Rule(
        "azure-key",
        ("AccountKey=", "SharedAccessKey="),
        re.compile(r"(?:AccountKey|SharedAccessKey)=(?P<secret>[A-Za-z0-9+/]{40,88}={0,2})"),
    ),
    _Rule("azure-signature", ("sig=",), re.compile(r"[?&;]sig=(?P<secret>[A-Za-z0-9%+/]{40,}(?:%3D|=))")),
    _Rule(
        "authorization",
        ("earer ", "asic ", "EARER ", "ASIC "),
        re.compile(r"(?:[Bb]earer|BEARER|[Bb]asic|BASIC) {1,4}(?P<secret>[A-Za-z0-9+/._~-]{20,}={0,2})"),
        _is_bearer,
    ),
    _Rule(
        "url-password",
        ("://",),
        re.compile(rf"://(?P<user>{_URL_PART}{{0,80}}):(?P<secret>{_URL_PART}{{6,200}})@(?=[\w\[])"),
        _is_login,
    ),
)


def _grouped(literals: Iterable[str]) -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
    """Literals by their first letter, each group with one pattern that finds any of them.

    A pattern that begins with a fixed letter jumps from one such letter to the next: a search for a whole group
    takes no longer than one for a single literal.
    """
    groups: dict[str, list[str]] = {}
    for literal in literals:
        groups.setdefault(literal[0], []).append(literal)
    return tuple(
        (re.compile(re.escape(first) + f"(?:{'|'.join(re.escape(m[1:]) for m in members)})"), tuple(members))
        for first, members in groups.items()
    )


_LITERALS = _grouped(dict.fromkeys(literal for rule in _RULES for literal in rule.literals))


def _literals_in(text: str) -> set[str]:
    return {
        literal
        for pattern, members in _LITERALS
        if pattern.search(text)
        for literal in members
        if literal in text
    }


# --- values beside a telling name -----------------------------------------------------------------

# Looked for in lower case. A key is no secret unless it is one of these kinds, and these tokens are
# bookmarks.
_SECRET_WORDS = tuple(map(re.compile, ("p(?:assw|assphrase|wd)", "secret", "token", "credential", "key")))
_KEY_KINDS = tuple(
    kind + joint
    for kind in (
        *("api", "access", "auth", "account", "private", "secret", "encryption", "signing", "master"),
        *("client", "shared", "session", "license"),
    )
    for joint in ("", "_", "-")
)
_BOOKMARKS = tuple(
    kind + joint
    for kind in ("next", "page", "continuation", "sync", "cancellation", "pagination", "resume")
    for joint in ("", "_", "-")
)
# What a parser makes and what a service hands out are both called token: only the latter is this irregular.
_VAGUE_WORDS = frozenset({"token", "credential"})
_VAGUE_ALTERNATIONS = 3
# Without quotes it is a name in code, unless it is so long and irregular that nobody would name anything so.
_BARE_LENGTH = 24
_BARE_ALTERNATIONS = 4
_UNSAID = rf"\s\\{_OPEN}{_CLOSE}"
_ASSIGNMENT = re.compile(
    rf"""
    (?: passw(?:or)?d | passphrase | pwd | secret | token | credentials? | key (?:[_-]?base)? )
    (?: [_-]? (?: prod(?:uction)? | live | staging | dev | value | [0-9]{{1,2}} ) )?
    (?: ["'] \]? [ \t]{{0,8}} ,                                      # get("API_KEY", "...")
      | ["'\]]{{0,2}} [ \t]{{0,8}}
        (?: := | => | [=!]==? | = | : (?: [ \t]{{0,3}} [\w.\[\]|\ ]{{1,40}} = )? )
    )
    [ \t]{{0,8}}
    (?: [A-Za-z@]{{0,2}} (?P<quote>["'`]) (?P<quoted>[^"'`{_UNSAID}]{{8,256}}) (?P=quote)
      | (?P<bare>[A-Za-z0-9+/=_.~!@$?\#%^&*-]{{8,256}}) (?= [ \t\r]* (?: $ | [ \t][\#;] ) )
    )
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE | re.ASCII,
)
# "Server=db;Database=app;User Id=app;Password=...;"
_CONNECTION = re.compile(
    rf"""(?:(?<=;)|(?<=;\ )|(?<=["'])(?=[^"';{_UNSAID}]{{1,140}};))
    (?:password|pwd)=(?P<secret>[^;"'`<>{_UNSAID}]{{6,128}})(?=[;"'])""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


def _assignments(text: str, settings: bool) -> Iterator[tuple[int, int]]:
    """Where literals lie that a name like `password` or `api_key` gives away, in order."""
    # The one character whose lower case is longer than itself; positions must stay the same.
    lowered = text.replace("\u0130", "i").lower()
    end = 0
    # One pattern for each word is faster than one for all: each jumps from one of its first letters to the next.
    for at, word in sorted((m.start(), m[0]) for pattern in _SECRET_WORDS for m in pattern.finditer(lowered)):
        if at < end:
            continue
        end = at + len(word)
        if lowered.endswith(_BOOKMARKS, 0, at):
            continue
        if word == "key" and not lowered.endswith(_KEY_KINDS, 0, at):
            continue
        span = _assigned(text, at, word, settings)
        if span is not None:
            end = span[1]
            yield span


def _assigned(text: str, at: int, word: str, settings: bool) -> tuple[int, int] | None:
    match = _CONNECTION.match(text, at)
    if match is not None:
        value = match["secret"]
        return match.span("secret") if not _is_stand_in(value) and not _is_words(value) else None
    match = _ASSIGNMENT.match(text, at)
    if match is None:
        return None
    value = match["quoted"] or match["bare"]
    if word in _VAGUE_WORDS and _alternations(value) < _VAGUE_ALTERNATIONS:
        return None
    unlike_a_name = (
        len(value) >= _BARE_LENGTH and "." not in value and _alternations(value) >= _BARE_ALTERNATIONS
    )
    if (match["quoted"] or settings or unlike_a_name) and _looks_random(value):
        return match.span("quoted" if match["quoted"] else "bare")
    return None
