"""A hostile repository: none of its programs runs, nothing outside it is read, no secret and no escape leaks."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from agent.cli import main
from tests.repos import commit, git, make_repo, write

ROOT = Path(__file__).parents[1]
AGENT = (sys.executable, "-c", "import sys; from agent.cli import main; sys.exit(main())")
SOURCE = "def needle():\n    return 1\n"
# Every command that touches a repository. ask ends before the model is loaded, and after the search.
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "index": ("index",),
    "rebuild": ("index", "--rebuild"),
    "check": ("index", "--check"),
    "explain": ("index", "--explain", "a.py", "x.log", "sub/lib.py"),
    "search": ("search", "needle"),
    "map": ("map",),
    "status": ("status",),
    "ask": ("ask", "where is needle?", "--no-download"),
    "doctor": ("doctor",),
    "review": ("review", "--no-model"),
    "review of a commit": ("review", "--no-model", "--commit", "HEAD"),
}


@pytest.fixture(autouse=True)
def hash_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_EMBEDDER", "hash")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


# -- configuration that names programs --------------------------------------------------------------

# What a repository's configuration can make git run, as the sections of a configuration file; {x} is the program.
FAMILIES: Mapping[str, str] = {
    "fsmonitor": "[core]\n\tfsmonitor = {x}",
    "fsmonitor hook, version 1": "[core]\n\tfsmonitor = {x}\n\tfsmonitorHookVersion = 1",
    "hooks": "[core]\n\thooksPath = {hooks}",
    "ssh": '[core]\n\tsshCommand = {x}\n[remote "origin"]\n\turl = ssh://host/x\n\tpromisor = true',
    "pager": "[core]\n\tpager = {x}\n[pager]\n\tls-files = {x}\n\trev-parse = {x}\n\tcheck-ignore = {x}",
    "editor": "[core]\n\teditor = {x}\n[sequence]\n\teditor = {x}",
    "askpass": "[core]\n\taskPass = {x}\n\tgitProxy = {x}",
    "alternates": "[core]\n\talternateRefsCommand = {x}",
    "external diff": "[diff]\n\texternal = {x}",
    "textconv": '[diff "evil"]\n\ttextconv = {x}\n\tcachetextconv = true',
    "diff command": '[diff "evil"]\n\tcommand = {x}',
    "clean and smudge": '[filter "evil"]\n\tclean = {x}\n\tsmudge = {x}\n\trequired = true',
    "filter process": '[filter "evil"]\n\tprocess = {x}\n\trequired = true',
    "merge driver": '[merge "evil"]\n\tdriver = {x}',
    "credential helper": "[credential]\n\thelper = {x}\n\thelper = !{x}",
    "gpg": "[gpg]\n\tprogram = {x}\n[log]\n\tshowSignature = true\n[commit]\n\tgpgSign = true",
    "aliases": "[alias]\n\tls-files = !{x}\n\trev-parse = !{x}\n\tcheck-ignore = !{x}\n\tsymbolic-ref = !{x}",
    "ext url": '[remote "origin"]\n\turl = ext::{x}\n\tpromisor = true\n[extensions]\n\tpartialClone = origin',
    "insteadOf": '[url "ext::{x} "]\n\tinsteadOf = https://\n[remote "origin"]\n\turl = https://h/x\n\tpromisor = true',
    "upload pack": '[remote "origin"]\n\turl = {root}\n\tuploadpack = {x}\n\tpromisor = true',
    "submodules": "[submodule]\n\trecurse = true\n[diff]\n\tignoreSubmodules = none\n\tsubmodule = log",
    "submodule update": '[submodule "sub"]\n\tupdate = !{x}\n\tactive = true',
    "gc": "[gc]\n\tauto = 1\n\trecentObjectsHook = {x}\n[maintenance]\n\tauto = true",
    "web and man": "[web]\n\tbrowser = {x}\n[man]\n\tviewer = {x}\n[interactive]\n\tdiffFilter = {x}",
    "allow everything": "[protocol]\n\tallow = always\n[safe]\n\tbareRepository = all\n\tdirectory = *",
}
PLACES = ("config", "include", "worktree", "submodule")
HOOKS = (
    "post-index-change",
    "reference-transaction",
    "fsmonitor-watchman",
    "query-watchman",
    "post-checkout",
)


def program(directory: Path) -> Path:
    """A program that leaves a trace of having run."""
    script = directory / "fire.sh"
    write(directory, {"fire.sh": f'#!/bin/sh\necho "$0 $*" >> "{directory / "canary"}"\nexec cat\n'})
    script.chmod(0o755)
    for hook in HOOKS:
        write(directory / "hooks", {hook: f'#!/bin/sh\necho hook "$0" >> "{directory / "canary"}"\n'})
        (directory / "hooks" / hook).chmod(0o755)
    return script


def trapped(directory: Path, families: Mapping[str, str], place: str) -> Path:
    """A repository whose configuration at `place` names programs, in a state in which git has reason to run them."""
    library = make_repo(
        directory / "library", {"lib.py": SOURCE, ".gitattributes": "*.py filter=evil diff=evil\n"}
    )
    root = make_repo(
        directory / "repo",
        {
            "a.py": SOURCE,
            ".gitignore": "*.log\n",
            ".gitattributes": "*.py filter=evil diff=evil merge=evil\n",
        },
    )
    git(root, "submodule", "--quiet", "add", str(library), "sub")
    commit(root, "with a submodule")
    fire = program(directory)
    text = "\n".join(families.values()).format(x=fire, hooks=directory / "hooks", root=root) + "\n"
    config = root / ".git/config"
    if place == "include":
        config.open("a").write(f"[include]\n\tpath = {directory / 'included'}\n")
        config = directory / "included"
    elif place == "worktree":
        git(root, "config", "extensions.worktreeConfig", "true")
        config = root / ".git/config.worktree"
    elif place == "submodule":
        config = root / ".git/modules/sub/config"
    with config.open("a") as file:
        file.write(text)
    for repository in (root / ".git", root / ".git/modules/sub"):
        for hook in HOOKS:
            shutil.copy(directory / "hooks" / hook, repository / "hooks" / hook)
    # Same size, other time: git has to look inside, through the filter.
    for path in (root / "a.py", root / "sub/lib.py"):
        path.write_text(SOURCE.replace("1", "2"))
        os.utime(path, ns=(1, 1))
    write(root, {"x.log": "x"})
    return root


def all_commands(root: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    """Each command by name, after it has run."""
    for name, command in COMMANDS.items():
        code = main([*command, "--repo", str(root)])
        shown = capsys.readouterr()
        # ask ends for want of a model, doctor for want of whatever the machine lacks.
        # What is reviewed is meant to be found wanting.
        allowed = {"ask": (0, 2), "doctor": (0, 2), "review": (0, 1), "review of a commit": (0, 1)}
        assert code in allowed.get(name, (0,)), (name, shown.err)
        if name == "search":
            assert "a.py:1-2" in shown.out
        yield name


@pytest.mark.parametrize("place", PLACES)
def test_no_command_runs_what_the_repository_names(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = trapped(tmp_path, FAMILIES, place)
    for name in all_commands(root, capsys):
        assert not (tmp_path / "canary").exists(), f"{name}: {(tmp_path / 'canary').read_text()}"


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_alone(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together one setting may keep another from being reached."""
    monkeypatch.setenv("AGENT_EMBEDDER", "none")
    root = trapped(tmp_path, {family: FAMILIES[family]}, "config")
    for command in ("index", "explain", "status"):
        assert main([*COMMANDS[command], "--repo", str(root)]) == 0
    assert not (tmp_path / "canary").exists(), (tmp_path / "canary").read_text()


@pytest.mark.parametrize("place", PLACES)
def test_an_ordinary_git_falls_into_these_traps(place: str, tmp_path: Path) -> None:
    root = trapped(tmp_path, {name: FAMILIES[name] for name in ("fsmonitor", "clean and smudge")}, place)
    git(root, "status", check=False)
    assert (tmp_path / "canary").exists()


def test_variables_that_a_parent_has_set_are_not_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_repo(
        tmp_path / "repo", {"a.py": SOURCE, "x.log": "", ".gitattributes": "*.py diff=evil filter=evil\n"}
    )
    git(root, "rm", "-q", "--cached", "x.log")
    other = make_repo(tmp_path / "other", {"other.py": "def other():\n    return 1\n"})
    fire = program(tmp_path)
    write(tmp_path, {"evil.config": f"[core]\n\tfsmonitor = {fire}\n[diff]\n\texternal = {fire}\n"})
    for name in "EXTERNAL_DIFF PAGER EDITOR SSH SSH_COMMAND ASKPASS PROXY_COMMAND SEQUENCE_EDITOR".split():
        monkeypatch.setenv(f"GIT_{name}", str(fire))
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "evil.config"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(fire))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'core.fsmonitor'='{fire}'")
    monkeypatch.setenv("GIT_EXEC_PATH", str(tmp_path / "hooks"))
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "canary"))
    for name in all_commands(root, capsys):
        assert not (tmp_path / "canary").exists(), f"{name}: {(tmp_path / 'canary').read_text()}"
    assert main(["search", "other", "--repo", str(root)]) == 0
    assert "other.py" not in capsys.readouterr().out


def test_an_index_in_the_repository_is_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_repo(tmp_path / "repo", {"a.py": SOURCE})
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.1)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        write(
            root,
            {
                ".agent.toml": f'model = "{url}"\nmodels_dirs = ["{root}"]\n',
                ".agent/chroma/chroma.sqlite3": b"SQLite format 3\0",
                "chroma.sqlite3": b"SQLite format 3\0",
                "agent/__init__.py": "raise SystemExit('ours is run from elsewhere')\n",
                "sitecustomize.py": f"open({str(tmp_path / 'canary')!r}, 'w')\n",
            },
        )
        for command in ("index", "search", "map", "status"):
            main([*COMMANDS[command], "--repo", str(root)])
        # As the installed command starts: the current directory is not where Python looks for packages.
        start = "import sys; sys.path.remove(''); from agent.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", start, "search", "needle"]
        done = subprocess.run(command, cwd=root, capture_output=True, check=False)
        assert "a.py:1-2" in capsys.readouterr().out and b"a.py:1-2" in done.stdout
        with pytest.raises(TimeoutError):
            listener.accept()
    assert not (tmp_path / "canary").exists()


# -- odd files --------------------------------------------------------------------------------------


def counted(root: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Every path that is indexed or skipped with its reason, as the report of a run and --explain tell it."""
    capsys.readouterr()
    assert main(["index", "--json", "--repo", str(root)]) == 0
    report = json.loads(capsys.readouterr().out)
    names = [
        os.fsdecode(name) for name in git(root, "ls-files", "-zco", "--exclude-standard").split(b"\0") if name
    ]
    assert main(["index", "--json", "--repo", str(root), "--explain", *(f"./{name}" for name in names)]) == 0
    explained = json.loads(capsys.readouterr().out)["paths"]
    reasons = {item["path"]: item["reason"] or item["state"] for item in explained}
    skipped = {item["path"]: item["reason"] for item in report["skipped"]}
    assert {path: reason for path, reason in reasons.items() if reason != "indexed"} == skipped
    assert report["indexed"] + report["kept"] + len(skipped) == len(names) == len(reasons)
    assert sum(report["skipped_by_reason"].values()) == len(skipped)
    return reasons


def test_every_odd_file_is_indexed_or_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text("def outside_the_repository():\n    return 1\n")
    root = make_repo(
        tmp_path / "repo",
        {
            "plain.py": SOURCE,
            "huge.py": "x = 1\n" * 400_000,
            "line.js": "x" * 900_000,
            "nul.py": b"x = 1\n\0",
            "wide.py": SOURCE.encode("utf-16"),
            "wider.py": SOURCE.encode("utf-32"),
            "bare16.py": SOURCE.encode("utf-16-le"),
            "latin.py": b"# caf\xe9\nx = 1\n",
            "bad.py": b"x = '\xff\xfe\xed\xa0\x80'\n",
            "feeds.py": "a = 1\x0b\x0c\x85\u2028\u2029\r\nb = 2\n",
            "lfs.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n",
            os.fsdecode(b"caf\xe9.py"): SOURCE,
            "new\nline.py": SOURCE,
            "esc\x1b]0;x\x07.py": SOURCE,
            "-rf.py": SOURCE,
            "x" * 250 + ".py": SOURCE,
            "fifo.py": "",
            "swapped/in.py": SOURCE,
        },
    )
    for name, goal in {
        "out.py": str(outside),
        "up": "..",
        "self": "self",
        "ping": "pong",
        "pong": "ping",
        "zero.py": "/dev/zero",
        "full": "/dev/full",
    }.items():
        (root / name).symlink_to(goal)
    (root / "fifo.py").unlink()
    os.mkfifo(root / "fifo.py")
    shutil.rmtree(root / "swapped")
    (root / "swapped").symlink_to(tmp_path)
    (tmp_path / "in.py").write_text("def outside_the_repository():\n    return 1\n")
    make_repo(root / "nested", {"inner.py": "def inside_nested():\n    return 1\n"})
    git(root, "init", "-q", "--bare", "bare.git")
    if os.geteuid() == 0:
        device = root / "device.py"
        git(
            root,
            "update-index",
            "--add",
            "--cacheinfo",
            f"100644,{git(root, 'hash-object', 'plain.py').decode().strip()},device.py",
        )
        os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    reasons = counted(root, capsys)
    link = "symbolic link"
    wanted = {
        "plain.py": "indexed", "huge.py": "too large", "line.js": "minified", "nul.py": "binary",
        "wide.py": "indexed", "wider.py": "indexed", "bare16.py": "binary", "latin.py": "indexed",
        "bad.py": "indexed", "feeds.py": "indexed", "lfs.bin": "Git LFS pointer", "caf\\xe9.py": "indexed",
        "new\nline.py": "indexed", "-rf.py": "indexed", "fifo.py": "not a regular file", "out.py": link, "up": link,
        "self": link, "ping": link, "pong": link, "zero.py": link, "full": link, "swapped/in.py": link,
        "swapped": link, "nested": "nested repository", "bare.git/HEAD": "indexed", "x" * 250 + ".py": "indexed",
    }  # fmt: skip
    assert {path: reasons.get(path) for path in wanted} == wanted
    assert os.geteuid() != 0 or reasons["device.py"] == "not a regular file"
    for words in ("outside_the_repository", "inside_nested"):
        assert main(["search", words, "--repo", str(root), "--json"]) == 0
        assert not any(words in hit["text"] for hit in json.loads(capsys.readouterr().out)["hits"])


def test_kinds_of_repositories(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files: dict[str, bytes | str] = {"in/a.py": SOURCE, "out/b.py": "def outer():\n    return 1\n"}
    sha256 = make_repo(tmp_path / "sha256", files, "--object-format=sha256")
    assert set(counted(sha256, capsys).values()) == {"indexed"}
    sparse = make_repo(tmp_path / "sparse", files)
    git(sparse, "sparse-checkout", "set", "--cone", "--sparse-index", "in")
    assert counted(sparse, capsys) == {"in/a.py": "indexed", "out/b.py": "missing from the work tree"}
    linked = tmp_path / "linked"
    git(sha256, "worktree", "add", "-q", "--detach", str(linked))
    assert set(counted(linked, capsys).values()) == {"indexed"}
    shallow = tmp_path / "shallow"
    commit(sha256, "second")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{sha256}", str(shallow))
    assert set(counted(shallow, capsys).values()) == {"indexed"}


def test_line_numbers_are_those_of_git(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever stands in a file, line N of a hit is line N of `git show`, cut where git and sed cut: at line feeds."""
    odd = ("\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\r", "\r\r\n", "\x1c", "\x1e", "\r\n", "\ufeff")
    body = "".join(f"def name_{n}():  # {mark}\n    return {n}\n\n" for n, mark in enumerate(odd * 6))
    encodings = {"utf8.py": "utf-8", "bom.py": "utf-8-sig"}
    root = make_repo(tmp_path / "repo", {name: body.encode(encoding) for name, encoding in encodings.items()})
    write(root, {"dos.py": body.replace("\n", "\r\n")})
    commit(root)
    assert main(["index", "-q", "--repo", str(root)]) == 0
    for path in (*encodings, "dos.py"):
        lines = git(root, "show", f"HEAD:{path}").split(b"\n")
        for number in range(0, len(odd) * 6, 7):
            capsys.readouterr()
            arguments = ["search", f"name_{number}", "-k", "1", "--path", path, "--json", "--repo", str(root)]
            assert main(arguments) == 0
            (hit,) = json.loads(capsys.readouterr().out)["hits"]
            text = hit["text"].split("\n")
            at = next(n for n, line in enumerate(text) if f"name_{number}()" in line)
            shown = lines[hit["start_line"] - 1 : hit["end_line"]]
            assert f"name_{number}()".encode() in shown[at] and len(shown) == len(text)
            clean = [line.decode().replace("\ufeff", "").rstrip("\r") for line in shown]
            assert [line.replace("\ufeff", "").rstrip("\r") for line in text] == clean


# -- secrets ----------------------------------------------------------------------------------------

SECRETS = {
    "github": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "aws": "AKIA" + "Q3EGRIWJ5XZ7TBLM",
    "aws secret": "wJalrXUtnFEMIK7MDENGbPxRfiCYzT9qLmN4vB2s",
    "slack": "xoxb-" + "123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx",
    "stripe": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dcX2mK",
    "google": "AIza" + "SyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    "jwt": "eyJhbGciOiJIUzI1NiJ9."
    + "eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "password": "Tr0ub4dor&3-horse-Zq",
    "url": "s3cr3t-Pa55-9xQ",
    "key": "MIIEpAIBAAKCAQEAx7Jq2ZK9mPqT3sVbN8rYwHcLdF5gXeUo1iQaZsWxEdCrFvTg",
}
HOLDERS: dict[str, str] = {
    "src/deploy.py": f'GITHUB = "{SECRETS["github"]}"\nSLACK = "{SECRETS["slack"]}"\n\ndef deploy():\n    pass\n',
    "src/cloud.py": f'aws_access_key_id = "{SECRETS["aws"]}"\naws_secret_access_key = "{SECRETS["aws secret"]}"\n',
    "config/app.yaml": f"payment:\n  stripe_key: {SECRETS['stripe']}\n  password: {SECRETS['password']}\n",
    "docs/setup.md": f"# Setup\n\nUse `{SECRETS['google']}` and Bearer {SECRETS['jwt']}\n",
    "src/db.py": f'URL = "postgres://admin:{SECRETS["url"]}@db.example.com/main"\n',
    "src/pem.py": f'KEY = """-----BEGIN RSA PRIVATE KEY-----\n{SECRETS["key"]}\n-----END RSA PRIVATE KEY-----"""\n',
    "notes.ipynb": json.dumps(
        {
            "cells": [{"cell_type": "code", "source": [f'token = "{SECRETS["github"]}"\n'], "outputs": []}],
            "nbformat": 4,
        }
    ),
    ".env": f"PASSWORD={SECRETS['password']}\n",
    "deploy.pem": SECRETS["key"],
    ".npmrc": f"//registry/:_authToken={SECRETS['github']}\n",
    "secrets.yaml": f"aws: {SECRETS['aws secret']}\n",
}


def leaked(home: Path, words: list[str]) -> list[str]:
    """The words that stand somewhere in the bytes of the files below `home`, in any case of letters."""
    data = b"\0".join(file.read_bytes() for file in home.rglob("*") if file.is_file()).lower()
    return [word for word in words if word.lower().encode() in data]


def test_no_secret_is_in_the_cache_in_a_prompt_or_on_the_screen(
    tmp_path: Path, agent_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_repo(tmp_path / "repo", {**HOLDERS, "a.py": SOURCE})
    assert main(["search", SECRETS["github"], "--json", "--repo", str(root)]) == 0
    # What was typed is told back; but none of the hits holds it.
    shown = json.dumps(json.loads(capsys.readouterr().out)["hits"])
    for command in (
        ["index", "-v"],
        ["search", "deploy GITHUB password stripe key token url", "-k", "50"],
        ["search", "deploy", "--explain"],
        ["map"],
        ["index", "--check"],
        ["index", "--explain", *HOLDERS],
        ["status"],
    ):
        assert main([*command, "--repo", str(root)]) == 0
        found = capsys.readouterr()
        shown += found.out + found.err
    assert [name for name, word in SECRETS.items() if word in shown] == []
    assert leaked(agent_home, list(SECRETS.values())) == []
    assert "deploy" in shown and "looks like a secret" in shown


@pytest.mark.model
def test_no_secret_is_in_a_prompt(
    tmp_path: Path, agent_home: Path, smollm_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_repo(tmp_path / "repo", HOLDERS)
    for question in ("Which tokens and keys does deploy use?", "What is the password of the database url?"):
        arguments = ["ask", question, "--show-prompt", "--model", str(smollm_gguf), "--repo", str(root)]
        assert main(arguments) == 0
        shown = capsys.readouterr().out
        assert "src/" in shown and [name for name, word in SECRETS.items() if word in shown] == []
    assert leaked(agent_home, list(SECRETS.values())) == []


@pytest.mark.parametrize("how", ["ignored", "deleted", "made a secret by its name", "excluded"])
def test_what_is_taken_out_is_gone_from_the_bytes(
    how: str, tmp_path: Path, agent_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = "def private_plan():\n    return 'plantedword anotherplanted'\n"
    root = make_repo(tmp_path / "repo", {"a.py": SOURCE, "plan.py": private})
    assert main(["index", "-q", "--repo", str(root)]) == 0
    planted = ["private_plan", "plantedword", "anotherplanted"]
    assert leaked(agent_home, planted) == planted
    if how == "ignored":
        git(root, "rm", "-q", "--cached", "plan.py")
        write(root, {".gitignore": "plan.py\n"})
    elif how == "deleted":
        (root / "plan.py").unlink()
    elif how == "excluded":
        monkeypatch.setenv("AGENT_EXCLUDE", "plan.py")
    else:
        (root / "plan.py").rename(root / "plan.pem")
    assert main(["index", "-q", "--repo", str(root)]) == 0
    assert leaked(agent_home, planted) == []


# -- the terminal -----------------------------------------------------------------------------------

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[5n\x9b31m\x1bP+q\x1b\\\u202e"
SGR = re.compile(rb"\x1b\[[0-9;]*m")
# What Rich's own bars send: cursor hidden and shown, lines erased, and up again.
BARS = re.compile(rb"\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|\r")


def on_a_terminal(*arguments: str) -> bytes:
    """What a terminal receives from a command of ours."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color"}
    child = subprocess.Popen(
        [*AGENT, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    received = b""
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # how Linux says that the other end has closed
            break
        if not piece:
            break
        received += piece
    os.close(ours)
    child.wait(timeout=60)
    return received


def test_a_terminal_obeys_us_alone(tmp_path: Path) -> None:
    name = f"ev{HOSTILE.replace('/', '')}il.py"
    root = make_repo(
        tmp_path / "repo",
        {
            name: f"def needle():  # {HOSTILE}\n    return '{HOSTILE}'\n",
            f"{HOSTILE}.bin": b"\0",
            f"notes{HOSTILE}.md": f"# {HOSTILE} needle\n\n{HOSTILE}\n",
        },
    )
    # git itself refuses control characters in a branch; the file behind it does not.
    (root / ".git/HEAD").write_text(f"ref: refs/heads/br\u202e{HOSTILE[-1]}\n")
    commands = (
        ("index", "--verbose"),
        ("search", "needle", "--explain"),
        ("status",),
        ("map",),
        ("index", "--check"),
        ("index", "--explain", f"./{name}", f"./{HOSTILE}.bin", HOSTILE),
        ("search", "needle", "--path", f"{HOSTILE}[", "--debug"),
        ("search", "needle", "--json"),
    )
    for command in commands:
        received = on_a_terminal(*command, "--repo", str(root))
        left = BARS.sub(b"", SGR.sub(b"", received)).decode("utf-8")
        assert left and not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", left), (command, left)
    assert "U+001B" in left or "\\u001b" in left


# -- the network ------------------------------------------------------------------------------------

# Every connection is written down, and refused.
NO_NETWORK = """
import os, socket
def refuse(self, address, *_):
    if self.family != socket.AF_UNIX:
        with open(os.environ["CONNECTIONS"], "a") as file:
            file.write(f"{address}\\n")
    raise OSError(101, "Network is unreachable")
socket.socket.connect = refuse
socket.socket.connect_ex = refuse
def lookup(host, *_, **__):
    with open(os.environ["CONNECTIONS"], "a") as file:
        file.write(f"lookup of {host}\\n")
    raise socket.gaierror(-3, "Temporary failure in name resolution")
socket.getaddrinfo = lookup
import sys
from agent.cli import main
sys.exit(main(sys.argv[1:]))
"""
TRACING = {
    "LANGCHAIN_TRACING_V2": "true",
    "LANGCHAIN_TRACING": "true",
    "LANGSMITH_TRACING": "true",
    "LANGSMITH_TRACING_V2": "true",
    "LANGCHAIN_ENDPOINT": "http://127.0.0.1:9",
    "LANGSMITH_ENDPOINT": "http://127.0.0.1:9",
    "LANGSMITH_API_KEY": "lsv2_pt_0",
    "LANGCHAIN_API_KEY": "lsv2_pt_0",
    "ANONYMIZED_TELEMETRY": "True",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
}
OFFLINE: tuple[tuple[str, ...], ...] = (
    ("index",),
    ("search", "needle"),
    ("map",),
    ("status",),
    ("index", "--check"),
    ("index", "--explain", "a.py"),
    ("doctor",),
    ("models", "list"),
    ("review", "--no-model"),
)
Offline = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offline:
    for name, value in TRACING.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CONNECTIONS", str(tmp_path / "connections"))

    def run(*arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [*prefix, sys.executable, "-c", NO_NETWORK, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0 or arguments[0] in ("doctor", "ask"), done.stderr
        assert "Traceback" not in done.stderr and "bug" not in done.stderr, done.stderr
        return done

    return run


def test_nothing_connects_anywhere(offline: Offline, tmp_path: Path) -> None:
    root = make_repo(tmp_path / "repo", {"a.py": SOURCE})
    for command in OFFLINE:
        offline(*command, *(() if command[0] == "models" else ("--repo", str(root))))
    assert not (tmp_path / "connections").exists(), (tmp_path / "connections").read_text()


@pytest.mark.model
def test_no_question_leaves_the_machine(offline: Offline, tmp_path: Path, smollm_gguf: Path) -> None:
    root = make_repo(tmp_path / "repo", {"a.py": SOURCE})
    done = offline(
        "ask",
        "what does needle return?",
        "--repo",
        str(root),
        "--model",
        str(smollm_gguf),
        "--max-tokens",
        "8",
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "connections").exists(), (tmp_path / "connections").read_text()


def _without_network() -> tuple[str, ...]:
    command = ("unshare", "-n") if os.geteuid() == 0 else ("unshare", "-rn")
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody take the network away from a process")
    return command


def test_without_a_network_everything_works(offline: Offline, tmp_path: Path) -> None:
    prefix = _without_network()
    root = make_repo(tmp_path / "repo", {"a.py": SOURCE})
    for command in OFFLINE[:3]:
        done = offline(*command, "--repo", str(root), prefix=prefix)
        assert command[0] != "search" or "a.py:1-2" in done.stdout


def test_the_system_sees_no_connection_either(offline: Offline, tmp_path: Path) -> None:
    """What a library does below Python; Unix sockets lead nowhere."""
    trace = tmp_path / "trace"
    strace = ("strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(trace))
    if shutil.which("strace") is None or subprocess.run([*strace, "true"], capture_output=True).returncode:
        pytest.skip("needs strace, and the right to use it")
    root = make_repo(tmp_path / "repo", {"a.py": SOURCE})
    offline("index", "--repo", str(root), prefix=strace)
    calls = [
        line for line in trace.read_text().splitlines() if re.search(r"AF_(?!UNIX|NETLINK)|sa_family", line)
    ]
    assert [line for line in calls if "AF_UNIX" not in line] == []
