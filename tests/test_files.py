"""Files: which count and why not, bytes to text, and nothing opened that must not be."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexers.config import IndexConfig
from indexers.files import blob_id, read_source, stat_file
from indexers.git import Repository
from indexers.types import Skipped, SkipReason, SourceFile, TrackedFile
from tests.repos import git, make_repo, write

CONFIG = IndexConfig()


def read(root: Path, path: str, config: IndexConfig = CONFIG) -> SourceFile | Skipped:
    return read_source(root, TrackedFile(path, 0o100644), config)


def source(root: Path, path: str, data: bytes | str) -> SourceFile:
    write(root, {path: data})
    found = read(root, path)
    assert isinstance(found, SourceFile), found
    return found


def skipped(
    root: Path, path: str, data: bytes | str | None = None, config: IndexConfig = CONFIG
) -> SkipReason:
    if data is not None:
        write(root, {path: data})
    found = read(root, path, config)
    assert isinstance(found, Skipped), found
    assert found.path == path
    return found.reason


# --- text -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        ("é = 1\n".encode(), "é = 1\n", "utf-8"),
        (b"\xef\xbb\xbfx\n", "x\n", "utf-8-sig"),
        ("é\n".encode("utf-16"), "é\n", "utf-16"),
        (b"\xfe\xff" + "é\n".encode("utf-16-be"), "é\n", "utf-16"),
        ("é\n".encode("utf-32"), "é\n", "utf-32"),
        (b"\x00\x00\xfe\xff" + "é\n".encode("utf-32-be"), "é\n", "utf-32"),
        (b"caf\xe9 \x96 \n", "café – \n", "cp1252"),
        (b"caf\xe9 \x81\n", "café \x81\n", "latin-1"),
        (b"overlong \xc0\xaf\n", "overlong À¯\n", "cp1252"),
        (b"surrogate \xed\xa0\x80\n", "surrogate í\xa0€\n", "cp1252"),
        (b"a\r\nb\r\n", "a\nb\n", "utf-8"),
        (b"a\rb\r\r\nc", "a\rb\r\nc", "utf-8"),
        ("a\x0bb\x0cc\x85d\u2028e\u2029f\n".encode(), "a\x0bb\x0cc\x85d\u2028e\u2029f\n", "utf-8"),
    ],
)
def test_bytes_become_text(tmp_path: Path, data: bytes, text: str, encoding: str) -> None:
    found = source(tmp_path, "a.py", data)
    assert (found.text, found.encoding, found.language) == (text, encoding, "python")


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        "no mark\n".encode("utf-16-le"),
        "no mark\n".encode("utf-16-be"),
        b"x" * 9000 + b"\x00",
        b"\xff\xfeodd",
        b"\xff\xfe\x00\xd8\x00\xd8",
        "nul \x00 inside\n".encode("utf-16"),
        bytes(range(1, 256)) * 4,
    ],
    ids=["png", "utf-16-le", "utf-16-be", "late nul", "odd length", "lone surrogates", "nul", "random"],
)
def test_binary_is_told_by_its_bytes(tmp_path: Path, data: bytes) -> None:
    assert skipped(tmp_path, "a.py", data) is SkipReason.BINARY


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n", b"\xef\xbb\xbf\n"])
def test_nothing_in_it(tmp_path: Path, data: bytes) -> None:
    assert skipped(tmp_path, "__init__.py", data) is SkipReason.EMPTY


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_skipped(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    root = tmp_path_factory.getbasetemp()
    write(root, {"any.py": data})
    found = read(root, "any.py")
    if isinstance(found, SourceFile):
        found.text.encode("utf-8")
        assert "\0" not in found.text
        assert found.blob == blob_id(data)
        if not found.encoding.startswith(("utf-16", "utf-32")):
            assert found.text.count("\n") == data.count(b"\n")


def test_line_numbers_are_those_of_sed(tmp_path: Path) -> None:
    data = "one\u2028still one\x0b\x0c\x85\rand still\r\ntwo\nthree".encode()
    lines = source(tmp_path, "a.py", data).text.split("\n")
    for number, line in enumerate(lines, 1):
        said = subprocess.run(
            ["sed", "-n", f"{number}p", tmp_path / "a.py"], capture_output=True, check=True
        ).stdout
        assert said.decode().removesuffix("\n").removesuffix("\r") == line


def test_blob_ids_are_git_s(tmp_path: Path) -> None:
    root = make_repo(tmp_path, {"a.py": b"x = 1\r\n"})
    assert source(root, "a.py", b"x = 1\r\n").blob == git(root, "rev-parse", "HEAD:a.py").decode().strip()


def test_the_language_comes_from_name_or_first_line(tmp_path: Path) -> None:
    assert source(tmp_path, "tool", "#!/usr/bin/env python3\nprint()\n").language == "python"
    assert source(tmp_path, "a.md", "# Title\n").language == "markdown"


# --- what lies on disk ------------------------------------------------------------------------------


def test_links_are_never_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    write(outside, {"private.py": "SECRET\n"})
    write(root, {"a.py": "x\n"})
    (root / "file.py").symlink_to(outside / "private.py")
    (root / "dir").symlink_to(outside)
    (root / "up").symlink_to("..")
    (root / "self.py").symlink_to("self.py")
    (root / "dangling.py").symlink_to("nowhere")
    for path in ("file.py", "dir/private.py", "up/outside/private.py", "self.py", "self.py/x", "dangling.py"):
        assert skipped(root, path) is SkipReason.SYMLINK, path
    for path in ("../outside/private.py", "dir/../a.py", str(outside / "private.py"), "", "a/", "./a.py"):
        assert isinstance(read(root, path), Skipped), path


def test_what_is_not_a_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.py")
    (tmp_path / "dir.py").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)
        listener.bind("socket.py")
        os.chdir(here)
        for path in ("fifo.py", "dir.py", "socket.py"):
            assert skipped(tmp_path, path) is SkipReason.NOT_A_FILE
    # Nobody opened the FIFO's reading end: a writer finds none.
    with pytest.raises(OSError):
        os.open(tmp_path / "fifo.py", os.O_WRONLY | os.O_NONBLOCK)


def test_what_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, {"file": "x"})
    for path in ("gone.py", "no/such/dir.py", "file/below.py"):
        assert skipped(tmp_path, path) is SkipReason.MISSING
    assert skipped(tmp_path / "no root", "a.py") is SkipReason.MISSING


def test_a_sparse_checkout_misses_files(tmp_path: Path) -> None:
    root = make_repo(tmp_path, {"in/a.py": "a = 1\n", "out/b.py": "b = 1\n"})
    git(root, "sparse-checkout", "set", "in")
    found = [read_source(root, file, CONFIG) for file in Repository.discover(root).list_files()]
    assert [type(item).__name__ for item in found] == ["SourceFile", "Skipped"]
    assert isinstance(found[1], Skipped) and found[1].reason is SkipReason.MISSING


def test_the_limit_holds_before_anything_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.py").open("wb") as file:
        file.truncate(1 << 40)
    assert skipped(tmp_path, "huge.py") is SkipReason.TOO_LARGE
    small = IndexConfig(max_file_bytes=10)
    assert skipped(tmp_path, "b.py", "x" * 11, small) is SkipReason.TOO_LARGE
    write(tmp_path, {"c.py": "x" * 10})
    assert isinstance(read(tmp_path, "c.py", small), SourceFile)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "x\n"})
    (tmp_path / "a.py").chmod(0)
    assert skipped(tmp_path, "a.py") is SkipReason.UNREADABLE


def test_submodules_and_nested_repositories(tmp_path: Path) -> None:
    for tracked, reason in ((True, SkipReason.SUBMODULE), (False, SkipReason.NESTED)):
        found = read_source(tmp_path, TrackedFile("sub", 0o160000, tracked), CONFIG)
        assert found == Skipped("sub", reason)


@pytest.fixture
def churning(tmp_path: Path) -> Iterator[Path]:
    """A file that is rewritten all the time, each version another letter and another length."""
    versions = [letter * size for letter, size in zip("abcdefgh", range(10_000, 50_000, 5_000), strict=True)]
    write(tmp_path, {"busy.txt": versions[0]})
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for version in versions:
                write(tmp_path, {"busy.txt": version})

    thread = threading.Thread(target=churn)
    thread.start()
    yield tmp_path
    stop.set()
    thread.join()


def test_a_changing_file_is_never_half_of_two_versions(churning: Path) -> None:
    for _ in range(300):
        found = read(churning, "busy.txt")
        if isinstance(found, Skipped):
            assert found.reason in (SkipReason.UNREADABLE, SkipReason.EMPTY)
        else:
            assert len(set(found.text)) == 1


def test_a_stat_can_be_stored_whatever_the_clock_was(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "x"})
    seen = set()
    # As far as this file system goes: some keep what lies beyond 2446 as the end of time.
    for seconds in (-86_400, 0, 9_223_372_036, 9_223_372_037, 15_032_385_535, 17_179_869_183):
        os.utime(tmp_path / "a.py", (seconds, seconds))
        found = stat_file(tmp_path, "a.py")
        assert found is not None and all(-(1 << 63) <= number < 1 << 63 for number in found)
        seen.add(found.mtime_ns)
    assert len(seen) >= 4


def test_stat_tells_a_change_and_looks_at_the_link_itself(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "one\n"})
    before = stat_file(tmp_path, "a.py")
    assert before is not None and before.size == 4
    assert stat_file(tmp_path, "a.py") == before
    write(tmp_path, {"new": "two\n"})
    os.utime(tmp_path / "new", ns=(before.mtime_ns, before.mtime_ns))
    os.replace(tmp_path / "new", tmp_path / "a.py")
    assert stat_file(tmp_path, "a.py") != before
    (tmp_path / "link").symlink_to("a.py")
    assert stat_file(tmp_path, "link") != stat_file(tmp_path, "a.py")
    assert stat_file(tmp_path, "gone") is None
    assert stat_file(tmp_path, "a.py/below") is None


def test_odd_names_are_read(tmp_path: Path) -> None:
    for name in (b"latin-\xe9.py", b"new\nline.py", b"x" * 252 + b".py"):
        path = os.fsdecode(name)
        (tmp_path / path).write_bytes(b"x = 1\n")
        assert isinstance(read(tmp_path, path), SourceFile)
        assert stat_file(tmp_path, path) is not None


# --- what is left out -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *(
            ".env",
            ".env.production",
            "deploy/prod.env",
            "certs/server.pem",
            "a/server.KEY",
            "store.p12",
            "x.kdbx",
        ),
        *("id_rsa", "id_ed25519.pub", "id_rsa_deploy", ".netrc", ".npmrc", ".pypirc", ".git-credentials"),
        *(
            "home/.aws/config",
            ".ssh/known_hosts",
            "secrets.yml",
            "config/secrets.json",
            ".secrets.toml",
            "credentials",
        ),
        *("credentials.json", "client_secret_123.json", "service-account.json", "terraform.tfstate.backup"),
        *(".envrc", "secrets.prod.yaml", "vendor/.env"),
    ],
)
def test_names_of_secrets(tmp_path: Path, path: str) -> None:
    assert skipped(tmp_path, path, "x = 1\n") is SkipReason.SECRET


@pytest.mark.parametrize(
    "path",
    [
        *(
            ".env.example",
            ".env.sample",
            "sample.env",
            "secrets.py",
            "secrets.go",
            "credentials.ts",
            "src/secrets/a.py",
        ),
        *(
            "id_rsa.py",
            "environment.yml",
            "keys.py",
            "token.py",
            "public_key.rs",
            "secrets_manager.yaml",
            "env.py",
        ),
        *(
            "generated.py",
            "lock.go",
            "src/lock.json",
            "vendor.py",
            "src/vendors/a.py",
            "min.js",
            "admin.js",
            "build/x.py",
        ),
        *(
            ".github/workflows/ci.yml",
            ".gitignore",
            "Cargo.toml",
            "package.json",
            "go.mod",
            "src/generated/a.py",
        ),
        *(
            "dist/a.js",
            "external/a.c",
            "secret.example.json",
            "service-account.example.json",
            "sum.go",
            "designer.cs",
        ),
    ],
)
def test_names_that_only_look_suspicious(tmp_path: Path, path: str) -> None:
    source(tmp_path, path, "x = 1\n")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("vendor/a.go", SkipReason.VENDORED),
        ("src/vendor/lib/a.py", SkipReason.VENDORED),
        ("web/node_modules/x/index.js", SkipReason.VENDORED),
        ("third_party/a.cc", SkipReason.VENDORED),
        ("pip/_vendor/a.py", SkipReason.VENDORED),
        ("package-lock.json", SkipReason.GENERATED),
        ("rust/Cargo.lock", SkipReason.GENERATED),
        ("uv.lock", SkipReason.GENERATED),
        ("go.sum", SkipReason.GENERATED),
        ("api/user_pb2.py", SkipReason.GENERATED),
        ("api/user.pb.go", SkipReason.GENERATED),
        ("zz_generated.deepcopy.go", SkipReason.GENERATED),
        ("app.js.map", SkipReason.GENERATED),
        ("__snapshots__/a.test.js.snap", SkipReason.GENERATED),
        ("static/jquery.min.js", SkipReason.MINIFIED),
        ("static/site.min.css", SkipReason.MINIFIED),
    ],
)
def test_names_of_what_nobody_wrote(tmp_path: Path, path: str, reason: SkipReason) -> None:
    assert skipped(tmp_path, path, "x = 1\n") is reason


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.go", "// Code generated by mockgen. DO NOT EDIT.\npackage a\n"),
        ("a.py", '#!/usr/bin/env python\n"""@generated by tool"""\nx = 1\n'),
        ("a.js", "/**\n * Copyright\n *\n * @generated SignedSource<<x>>\n */\nx\n"),
        ("a.cs", "// <auto-generated>\nclass A {}\n"),
        ("a.rs", "// This file is automatically generated by rust-bindgen\nfn a() {}\n"),
        ("a.sql", "-- DO NOT EDIT: generated from schema.py\nselect 1;\n"),
        ("configure", "#! /bin/sh\n# Guess values for variables.\n# Generated by GNU Autoconf 2.71.\nx=1\n"),
    ],
)
def test_generated_files_say_so_at_the_top(tmp_path: Path, path: str, text: str) -> None:
    assert skipped(tmp_path, path, text) is SkipReason.GENERATED


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.py", "# Generated by Django 4.2 on 2023-01-01\nclass Migration: pass\n"),
        ("a.py", 'HEADER = "// Code generated by us. DO NOT EDIT."\n'),
        ("a.py", "import x\n" * 20 + "# @generated\n"),
        ("README.md", "# How to mark a file as @generated\n"),
        ("a.py", "# see user@generated.example\nx = 1\n"),
        ("a.java", "// Uses lombok.Generated and javax.annotation.processing.Generated\nclass A {}\n"),
    ],
)
def test_files_that_only_speak_of_generating(tmp_path: Path, path: str, text: str) -> None:
    source(tmp_path, path, text)


def test_minified_code_but_not_prose_nor_code_with_a_blob_in_it(tmp_path: Path) -> None:
    statement = "function a(){return 1};"
    assert skipped(tmp_path, "a.js", statement * 100) is SkipReason.MINIFIED
    assert skipped(tmp_path, "b.css", "/* licence */\n" * 20 + "a{b:c}" * 5_000) is SkipReason.MINIFIED
    assert skipped(tmp_path, "c.json", '{"a":[' + "1," * 10_000 + "1]}") is SkipReason.MINIFIED
    assert skipped(tmp_path, "data.txt", "QUJD" * 20_000) is SkipReason.MINIFIED
    source(tmp_path, "tiny.json", '{"a": "' + "b" * 500 + '"}')
    source(tmp_path, "a.md", ("A paragraph on one line. " * 40 + "\n\n") * 5)
    source(tmp_path, "icon.py", "def show():\n    return 1\n" * 300 + f'ICON = "{"A" * 6_000}"\n')
    source(tmp_path, "a.py", "x = 1\n" * 2_000)


def test_lfs_pointers(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 12345\n"
    assert skipped(tmp_path, "model.py", pointer) is SkipReason.LFS


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("*.md", ["a.md", "docs/b.md"], ["a.md.py"]),
        ("docs", ["docs/a.py", "x/docs/y/a.py"], ["docs.py", "mydocs/a.py"]),
        ("docs/", ["docs/a.py", "x/docs/a.py"], ["x/docs"]),
        ("/docs", ["docs/a.py"], ["x/docs/a.py"]),
        ("docs/*.py", ["docs/a.py"], ["docs/x/a.py", "x/docs/a.py"]),
        ("docs/**", ["docs/a.py", "docs/x/y.py"], ["docs2/a.py"]),
        (
            "**/fixtures/*.json",
            ["fixtures/a.json", "a/b/fixtures/c.json"],
            ["fixtures/a.py", "fixtures/x/a.txt"],
        ),
        ("src/**/test_?.py", ["src/test_a.py", "src/x/y/test_b.py"], ["src/test_ab.py"]),
        ("[ab].py", ["a.py", "x/b.py"], ["c.py"]),
    ],
)
def test_excluded_by_settings(tmp_path: Path, pattern: str, inside: list[str], outside: list[str]) -> None:
    config = IndexConfig(exclude=(pattern,))
    for path in inside:
        assert skipped(tmp_path, path, "x = 1\n", config) is SkipReason.EXCLUDED, path
        # The next path may need this one's directory as a file, or the other way round.
        shutil.rmtree(tmp_path)
    for path in outside:
        write(tmp_path, {path: "x = 1\n"})
        assert isinstance(read(tmp_path, path, config), SourceFile), path
        shutil.rmtree(tmp_path)


@pytest.mark.timeout(10)
def test_no_pattern_takes_long(tmp_path: Path) -> None:
    write(tmp_path, {"a" * 200: "x = 1\n"})
    read(tmp_path, "a" * 200, IndexConfig(exclude=("*a" * 100 + "b", "**/" * 200 + "b")))
