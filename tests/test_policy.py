"""What is never written, and what needs a yes of its own: each refusal on a path that nothing else refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from repos import make_repo

from chains.writing.edits import FileChange, FileState
from chains.writing.jail import parent_of, state_of, twin_of
from chains.writing.policy import PolicyError, checked, concerns, executes_later, forbidden

NEW = FileState(b"x\n")


@pytest.mark.parametrize(
    "path", ["a", "src/a.py", ".hidden/x", "git/x", "a.git/x", "..a/b..", "café.py", "a b.txt", "C/x"]
)
def test_ordinary_paths(path: str) -> None:
    assert forbidden(path) == ""


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "not relative"),
        ("/etc/passwd", "not relative"),
        ("../x", "leaves"),
        ("a/../../x", "leaves"),
        ("a/./b", "leaves"),
        ("a//b", "leaves"),
        ("a/", "leaves"),
        (".", "leaves"),
        ("a\\..\\b", "backslash"),
        ("C:/x", "drive"),
        ("c:x", "drive"),
        ("a\0b", "characters"),
        ("a\nb", "characters"),
        ("a\x1b[2J", "characters"),
        ("x" * 256, "too long"),
        ("/".join(["x" * 100] * 11), "too long"),
    ],
)
def test_paths_that_lead_out_or_are_no_names(path: str, reason: str) -> None:
    assert reason in forbidden(path)


@pytest.mark.parametrize(
    "part",
    [
        *(".git", ".GIT", ".Git", "git~1", "GIT~2", ".git.", ".git ", ".git. .", ".git::$INDEX_ALLOCATION"),
        # Composed and full-width spellings, and what HFS+ does not see.
        *(
            "\uff0egit",
            ".g\u0131t".replace("\u0131", "i"),
            ".g\u200cit",
            ".gi\u200dt\ufeff",
            "\u2060.git",
            ".\u00adgit",
        ),
        *(".g\u180bit", ".git\U000e0001", ".\ufe0fgit", ".g\u115fit"),
    ],
)
def test_gits_own_directory_in_any_spelling(part: str) -> None:
    for path in (f"{part}/config", part, f"a/{part}/hooks/x"):
        assert forbidden(path), path
    with pytest.raises(PolicyError):
        checked([FileChange(f"{part}/config", None, NEW)])


@pytest.mark.parametrize(
    "path",
    [
        *(".gitattributes", "sub/.gitmodules", ".gitlab-ci.yml", ".gitignore", ".github/workflows/x.yml"),
        *(
            ".pre-commit-config.yaml",
            ".husky/pre-commit",
            ".vscode/settings.json",
            ".idea/x.xml",
            ".cursorrules",
        ),
        *(
            ".cursor/mcp.json",
            ".claude/settings.json",
            ".mcp.json",
            "AGENTS.md",
            "docs/claude.md",
            "conftest.py",
        ),
        *(
            "tests/ConfTest.py",
            "sitecustomize.py",
            "x/evil.pth",
            "setup.py",
            "pyproject.toml",
            "Makefile",
            "GNUmakefile",
        ),
        *(
            "package.json",
            ".envrc",
            "Dockerfile",
            "dockerfile.dev",
            "Jenkinsfile",
            "build.rs",
            "vite.config.ts",
        ),
        *(
            ".bashrc",
            ".agent.toml",
            "noxfile.py",
            "tox.ini",
            "CMakeLists.txt",
            ".editorconfig",
            "make\u200bfile",
        ),
        *(".Travis.yml", "docker-compose.yml", ".devcontainer/devcontainer.json", "\uff43onftest.py"),
    ],
)
def test_what_executes_later(path: str) -> None:
    assert executes_later(path)
    assert [concern.path for concern in concerns([FileChange(path, None, NEW)])] == [path]


@pytest.mark.parametrize(
    "path", ["src/setup_tools.py", "README.md", "docs/package.md", "git.py", "x/test_conftest.py"]
)
def test_what_does_not(path: str) -> None:
    assert executes_later(path) == "" and concerns([FileChange(path, None, NEW)]) == []


def test_modes_need_a_yes_of_their_own() -> None:
    before = FileState(b"1\n", 0o644)
    assert "644 to 755" in concerns([FileChange("a", before, FileState(b"1\n", 0o755))])[0].reason
    assert "755 to 644" in concerns([FileChange("a", FileState(b"1\n", 0o755), before)])[0].reason
    assert "executable" in concerns([FileChange("a", None, FileState(b"1\n", 0o755))])[0].reason
    renamed = [
        FileChange("a", FileState(b"1\n", 0o755), None),
        FileChange("b", None, FileState(b"1\n", 0o755)),
    ]
    assert concerns(renamed) == []


# -- on the disk -----------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret\n")
    root = make_repo(tmp_path / "r", {"src/a.py": "1\n"})
    (root / "away").symlink_to(outside)
    (root / "inside").symlink_to(root / "src")
    (root / "link.py").symlink_to(root / "src/a.py")
    make_repo(root / "nested", {"b.py": "2\n"})
    os.mkfifo(root / "pipe")
    return root


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("away/secret", "symbolic link"),
        ("inside/a.py", "symbolic link"),
        ("link.py", "symbolic link"),
        ("nested/b.py", "another repository"),
        ("pipe", "no regular file"),
        ("src", "no regular file"),
        ("src/a.py/x", "no directory"),
        ("../outside/secret", "leaves"),
        (".git/config", "git's own"),
    ],
)
def test_nothing_is_read_through_links_or_in_other_repositories(root: Path, path: str, reason: str) -> None:
    with pytest.raises(PolicyError, match=reason):
        state_of(root, path)


def test_what_is_there_and_what_is_not(root: Path) -> None:
    assert state_of(root, "src/a.py") == FileState(b"1\n")
    assert state_of(root, "src/none.py") is None and state_of(root, "none/at/all.py") is None


def test_huge_files_are_not_read(root: Path) -> None:
    with (root / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(PolicyError, match="larger"):
        state_of(root, "huge")


def test_a_name_that_is_the_same_elsewhere(root: Path) -> None:
    with parent_of(root, "src/A.py") as (directory, name):
        assert twin_of(directory, name) == "a.py"
    with parent_of(root, "src/b.py") as (directory, name):
        assert twin_of(directory, name) == ""
