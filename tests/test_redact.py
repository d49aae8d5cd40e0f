"""Redaction: planted secrets never survive, ordinary code always does, lines keep their numbers."""

from __future__ import annotations

import re
import string
import time

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from indexers.redact import _LITERALS, _literals_in, redact

KEY = b"test key"
ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + string.digits
URL64 = ALNUM + "_-"

# Written in pieces so that no scanner takes this file for a leak.
FORMS: dict[str, tuple[str, str, int]] = {
    "aws": ("AK" + "IA", UPPER, 16),
    "github": ("gh" + "p_", ALNUM, 36),
    "github fine-grained": ("github" + "_pat_", ALNUM + "_", 82),
    "gitlab": ("gl" + "pat-", URL64, 20),
    "slack": ("xo" + "xb-1", ALNUM + "-", 40),
    "stripe": ("sk_" + "live_", ALNUM, 24),
    "google": ("AI" + "za", URL64, 35),
    "anthropic": ("sk-" + "ant-", URL64, 90),
    "openai": ("sk-" + "proj-", URL64, 60),
    "openai old": ("s" + "k-", ALNUM, 48),
    "npm": ("np" + "m_", ALNUM, 36),
    "pypi": ("py" + "pi-AgE", URL64, 80),
    "hugging face": ("h" + "f_", ALNUM, 34),
    "twilio": ("S" + "K", HEX, 32),
    "digitalocean": ("do" + "p_v1_", HEX, 64),
    "vault": ("hv" + "s.", URL64, 90),
}
PEM_BODY = "\n".join(["MIIEowIBAAKCAQEAwYSiPeJLSi6k8J4mSjqUtwCbfzerOiCQ2b5a2I5AtBO8M2n0"] * 6 + ["Qw=="])
PEM_KINDS = (
    "RSA PRIVATE KEY",
    "PRIVATE KEY",
    "ENCRYPTED PRIVATE KEY",
    "OPENSSH PRIVATE KEY",
    "PGP PRIVATE KEY BLOCK",
)


def pem(kind: str = "RSA PRIVATE KEY", body: str = PEM_BODY) -> str:
    return f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----"


@st.composite
def tokens(draw: st.DrawFn) -> str:
    prefix, alphabet, length = FORMS[draw(st.sampled_from(sorted(FORMS)))]
    token = prefix + draw(st.text(alphabet, min_size=length, max_size=length))
    assume("EXAMPLE" not in token)
    return token


punctuation = st.text("\"'`()[]{}<>=:;,.!?@#$%^&*/\\|~ \t\n", max_size=4)
lines = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.sampled_from(
            [
                "password = ",
                "api_key: '",
                "://user:",
                "@host/",
                "Bearer ",
                ";Password=",
                "-----BEGIN RSA PRIVATE KEY-----",
                "-----END RSA PRIVATE KEY-----",
                "⟦REDACTED:assigned:00000000⟧",
                "Xk9$mPq2vLw7!Rt5",
                PEM_BODY,
                "eyJ",
            ]
        ),
        tokens(),
    ),
    max_size=12,
)
texts = st.builds(
    lambda parts, joint: joint.join(parts), lines, st.sampled_from(["", " ", "\n", '"', "\r\n", "\\n"])
)


@settings(deadline=None)
@given(texts, st.sampled_from(["", "a.py", ".env", "conf.yaml"]))
@example("İİİ password = 'Xk9$mPq2vLw7!Rt5'", "")
def test_lines_are_kept_and_twice_is_once(text: str, path: str) -> None:
    once = redact(text, KEY, path)
    assert once.text.count("\n") == text.count("\n")
    assert redact(once.text, KEY, path).text == once.text
    assert (once.count > 0) == (once.text != text)


@settings(deadline=None)
@given(punctuation, tokens(), punctuation, st.text(max_size=30), st.text(max_size=30))
def test_a_planted_token_never_survives(before: str, token: str, after: str, left: str, right: str) -> None:
    text = f"{left}\n x = {before}{token}{after} \n{right}"
    done = redact(text, KEY)
    assert token not in done.text
    assert done.count >= 1


@pytest.mark.parametrize("name", sorted(FORMS))
def test_every_form_is_replaced_whole_and_named(name: str) -> None:
    prefix, alphabet, length = FORMS[name]
    body = (alphabet * 10)[5 : 5 + length]
    assert re.fullmatch(r"f\(\"⟦REDACTED:[a-z-]+:[0-9a-f]{8}⟧\"\)", redact(f'f("{prefix}{body}")', KEY).text)


@pytest.mark.parametrize("kind", PEM_KINDS)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_private_key_goes_whole_and_leaves_its_lines(kind: str, newline: str) -> None:
    block = pem(kind).replace("\n", newline)
    done = redact(f"before{newline}{block}{newline}after", KEY)
    assert done.count == 1
    assert "MIIE" not in done.text and "Qw==" not in done.text
    assert done.text.split("\n")[0].strip() == "before"
    assert done.text.split("\n")[1 + block.count("\n") + 1] == "after"


@pytest.mark.parametrize(
    "text",
    [
        '{"private_key": "' + pem().replace("\n", "\\n") + '\\n"}',
        "\n".join(f"    # {line}" for line in pem().split("\n")),
        " +\n".join(f'  "{line}\\n"' for line in pem().split("\n")),
        "KEY=" + pem().replace("\n", " "),
        pem(body="Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A1B\n\n" + PEM_BODY),
        pem()[:-30],
        "key: |\n" + "\n".join("    " + line for line in pem().split("\n")),
    ],
    ids=["json", "commented", "concatenated", "one line", "encrypted", "cut off", "yaml"],
)
def test_a_private_key_in_any_dress_is_found(text: str) -> None:
    done = redact(text, KEY)
    assert done.count == 1
    assert "MIIE" not in done.text
    assert done.text.count("\n") == text.count("\n")


@pytest.mark.parametrize(
    "text",
    [
        'start = text.find("-----BEGIN PRIVATE KEY-----")\nend = text.find("-----END PRIVATE KEY-----")',
        'MARKS = ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----")',
        "-----BEGIN RSA PRIVATE KEY-----\nkey left out for security reasons\n-----END RSA PRIVATE KEY-----",
        'if "-----BEGIN PRIVATE KEY-----" in data:\n    parse(data)\n',
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----\n" + PEM_BODY + "\n-----END CERTIFICATE-----",
    ],
)
def test_talk_of_private_keys_is_left_alone(text: str) -> None:
    assert redact(text, KEY).text == text


SECRETS = [
    ('password = "Xk9$mPq2vL"', "Xk9$mPq2vL", "a.py"),
    ("'db_password' => 'Xk9$mPq2vL!'", "Xk9$mPq2vL!", "a.php"),
    ("define('DB_PASSWORD', 'Xk9$mPq2vL!');", "Xk9$mPq2vL!", "wp-config.php"),
    ('password: str = "Tr0ub4dor&3x"', "Tr0ub4dor&3x", "a.py"),
    (
        'os.environ.setdefault("API_KEY", "f3a9c1d27b604e58a1c9d3e7b2f40615")',
        "f3a9c1d27b604e58a1c9d3e7b2f40615",
        "a.py",
    ),
    ('SECRET_KEY = "django$k8v!2x0w#q9z@m4n7b"', "django$k8v!2x0w#q9z@m4n7b", "settings.py"),
    ('"apiKey": "9mZq4TtR7vXw2LpK8sNd3BfH"', "9mZq4TtR7vXw2LpK8sNd3BfH", "a.json"),
    ("API_KEY=9mZq4TtR7vXw2LpK8sNd3BfH", "9mZq4TtR7vXw2LpK8sNd3BfH", ".env.example"),
    ("export AUTH_TOKEN=9mZq4TtR7vXw2LpK8sNd3BfH", "9mZq4TtR7vXw2LpK8sNd3BfH", "README.md"),
    ("  password: Xk9$mPq2vL", "Xk9$mPq2vL", "conf.yaml"),
    ("password: Xk9$mPq2vL  # ours\r", "Xk9$mPq2vL", "conf.yml"),
    (
        "AWS_SECRET_ACCESS_KEY=" + "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzzzKEY",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzzzKEY",
        "a.md",
    ),
    ("postgres://app:Zx81kQ77@db.internal:5432/app", "Zx81kQ77", "a.py"),
    ("redis://:p4ssXk9mQ2@cache:6379/0", "p4ssXk9mQ2", "a.py"),
    ("https://ci:9mZq4TtR7vXw@git.corp.io/x.git", "9mZq4TtR7vXw", "a.sh"),
    ('"Server=db;User Id=app;Password=Zx81kQ77pp;"', "Zx81kQ77pp", "a.cs"),
    ("Authorization: Bearer 9mZq4TtR7vXw2LpK8sNd3BfH", "9mZq4TtR7vXw2LpK8sNd3BfH", "a.http"),
    ("AccountName=x;AccountKey=" + "aB3+" * 21 + "aB==;", "aB3+" * 21 + "aB==", "a.txt"),
    (
        "t = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K27uhbU'",
        "eyJhbGciOiJIUzI1NiJ9",
        "a.js",
    ),
    ("1234567890:AA" + "Hk3_-" * 6 + "abc", "AA" + "Hk3_-" * 6, "a.py"),
]


@pytest.mark.parametrize(("text", "secret", "path"), SECRETS, ids=[item[0][:32] for item in SECRETS])
def test_a_secret_beside_its_name_goes_and_the_rest_stays(text: str, secret: str, path: str) -> None:
    done = redact(text, KEY, path)
    assert done.count == 1
    assert secret not in done.text
    mark = re.search("⟦REDACTED:[a-z-]+:[0-9a-f]{8}⟧", done.text)
    assert mark is not None
    assert text.startswith(done.text[: mark.start()]) and text.endswith(done.text[mark.end() :])


ORDINARY = [
    "password = get_password()",
    'password = "x"',
    'password="hunter2"',
    'password = "correct horse battery staple"',
    'PASSWORD = os.environ["DB_PASSWORD"]',
    'token = "test-token-123456"',
    'token_type = "9mZq4TtR7vXw2LpK8sNd3BfH"',
    'password = "${DB_PASSWORD_2}"',
    'api_key = "<your-api-key-1>"',
    'api_key = "YOUR_API_KEY_1234567890"',
    'secret = "projects/p1/secrets/s2/versions/v3"',
    'next_token = "9mZq4TtR7vXw2LpK8sNd3BfH"',
    'private_key = "keys/server_2024.pem"',
    'session_key = "user:42:session"',
    'auth_token = hashlib.sha256(b"abc123").hexdigest()',
    'auth_key = "123e4567-e89b-12d3-a456-426614174000"',
    'cache_key = "9mZq4TtR7vXw2LpK8sNd3BfH"',
    'sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"',
    '"integrity": "sha512-' + "aB3+" * 21 + 'aB=="',
    "postgres://postgres:postgres@localhost:5432/test",
    "mysql://user:password@localhost/db",
    "https://example.com:8080/path@v1.2.3",
    "ssh://git@github.com:22/a/b.git",
    'url = f"https://{user}:{password}@{host}/"',
    'url = "https://%s:%s@host/" % (u, p)',
    "AKIAIOSFODNN7EXAMPLE",
    "class Tokenizer: token = TokenKind.IDENTIFIER_2",
    'x = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4"',
    "if token == 'DOUBLE_STAR_EQUAL_2': pass",
    "password: {{ vault_password_1 }}",
    "  token: ${{ secrets.GITHUB_TOKEN }}",
    "Basic authentication2 is described below.",
    "arn:aws:iam::123456789012:role/x",
    "task-" + "a1b2c3d4" * 5,
]


def test_a_long_name_is_not_a_secret_in_code() -> None:
    text = "privateKey = crypto.MLKEM768X25519PrivateKey\n"
    assert redact(text, KEY, "a.py").text == text


@pytest.mark.parametrize("text", ORDINARY)
@pytest.mark.parametrize("path", ["a.py", "conf.yaml"])
def test_ordinary_code_is_left_alone(text: str, path: str) -> None:
    assert redact(text, KEY, path).text == text


def test_equal_secrets_get_equal_marks_and_another_key_other_marks() -> None:
    text = 'a_password = "Xk9$mPq2vL"\nb_password = "Xk9$mPq2vL"\nc_password = "Yk9$mPq2vL"'
    marks = re.findall("⟦.*?⟧", redact(text, KEY).text)
    assert len(marks) == 3
    assert marks[0] == marks[1] != marks[2]
    assert re.findall("⟦.*?⟧", redact(text, b"other").text)[0] != marks[0]


@pytest.mark.parametrize(
    "unit",
    [
        "eyJ",
        "eyJaaaaaaaaaaaa.",
        "ghp_",
        "sk-",
        "xoxb-",
        "://a:",
        "://",
        "password=",
        'password="',
        "password: a = ",
        ";password=",
        "api_key",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n" + "a" * 64 + "\n",
        "Bearer a",
        "SG.aaaaaaaaaaaaaaaa",
        "A" * 100,
        "key key ",
    ],
)
def test_no_text_takes_long(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    started = time.perf_counter()
    redact(text, KEY)
    # A tenth of a second is usual; what is quadratic takes minutes.
    assert time.perf_counter() - started < 5


@settings(max_examples=30, deadline=None)
@given(st.text(ALNUM + " \n\"'=:", max_size=200), st.integers(0, 200))
def test_a_key_block_anywhere_never_survives(text: str, at: int) -> None:
    done = redact(text[:at] + "\n" + pem() + "\n" + text[at:], KEY)
    assert PEM_BODY[:40] not in done.text


PIECES = [literal for _, literals in _LITERALS for literal in literals]
PIECES += [literal[:-1] for literal in PIECES] + ["", " ", "A", ":", "x", "\n"]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_literals_are_found_whatever_they_overlap_with(text: str) -> None:
    every = {literal for _, literals in _LITERALS for literal in literals}
    assert _literals_in(text) == {literal for literal in every if literal in text}
