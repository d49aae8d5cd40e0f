"""What is never written, and what needs a yes of its own: each refusal on a path that nothing else refuses."""

from __future__ import annotations

import os
import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from repos import git, make_repo, write

from agent.writing import Proposal, _proposal
from chains.writing import sensitive
from chains.writing.edits import Edit, FileChange, FileState, Kind
from chains.writing.jail import check_not_gits, hook_places, state_of, twins_on_the_way
from chains.writing.policy import PolicyError, checked, concerns, executes_later, folded, forbidden
from chains.writing.types import Draft
from indexers.git import Repository

if TYPE_CHECKING:
    from agent.workspace import Workspace

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
        *(".git", ".GIT", ".Git", ".git.", ".git ", ".git. .", ".git::$INDEX_ALLOCATION"),
        # Short names of NTFS.
        *("git~1", "GIT~2", "Git~4", "git~10", "GIT~1.", "git~1::$DATA", "GI7EBA~1", "gi0f3c~9"),
        # What a file system that folds compatible characters takes for these letters: NFKC.
        *(
            "\uff0egit",
            ".\uff47\uff49\uff54",
            ".g\u2071t",
            ".\u210ait",
            ".gi\U0001d42d",
            "\u2024git",
            ".G\u2160T",
        ),
        # What HFS+ does not see and still counts as printable.
        *(".g\u180bit", ".\ufe0fgit", ".g\u115fit", ".g\u034fit"),
    ],
)
def test_gits_own_directory_in_any_spelling(part: str) -> None:
    for path in (f"{part}/config", part, f"a/{part}/hooks/x"):
        assert "git's own" in forbidden(path), path
    with pytest.raises(PolicyError, match="git's own"):
        checked([FileChange(f"{part}/config", None, NEW)])


@pytest.mark.parametrize(
    "part", [".g\u200cit", ".gi\u200dt\ufeff", "\u2060.git", ".\u00adgit", ".git\U000e0001"]
)
def test_gits_own_directory_with_characters_that_are_in_no_name(part: str) -> None:
    assert forbidden(f"{part}/config")


@pytest.mark.parametrize(
    "part", ["git", "git~", "git~x", "git1", "gi~1", "gitabc~1", ".g\u0131t", ".gif", "\u2026git"]
)
def test_what_only_looks_like_gits_own_directory(part: str) -> None:
    """A dotless i is a letter of its own, for every file system."""
    assert forbidden(f"{part}/config") == ""


@pytest.mark.parametrize(
    "code",
    [
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0),
        *(0xFE00, 0xFE07, 0xFE0F, 0xE0000, 0xE0001, 0xE0100, 0xE01EF, 0xE0FFF),
        # Category Cf.
        *(0x00AD, 0x061C, 0x200B, 0x200C, 0x200F, 0x202E, 0x2060, 0xFEFF),
    ],
)
def test_what_nobody_sees_does_not_make_another_name(code: int) -> None:
    assert folded(f"conf{chr(code)}test.py") == "conftest.py"
    assert executes_later(f"a/conf{chr(code)}test.py")


# Every entry of the lists, and every part of one, has a name here that no other entry covers.
LATER = {
    "build server": """
        .github/workflows/x.yml .GitHub/CODEOWNERS .gitlab/ci.sh .gitea/workflows/a.yaml .forgejo/workflows/a.yaml
        .circleci/config.yml .buildkite/pipeline.yml .ci/run .woodpecker/a.txt .woodpecker.yml .woodpecker.yaml
        .semaphore/semaphore.yml .builds/debian.yml .teamcity/settings.kts .azure-pipelines/a.txt .tekton/push.yaml
        .travis.yml .Travis.yaml azure-pipelines.yml azure-pipelines.yaml azure-pipelines-nightly.yml appveyor.yml
        .appveyor.yml .appveyor.yaml bitbucket-pipelines.yml .drone.yml .drone.star .cirrus.yml .cirrus.star
        cloudbuild.yaml cloudbuild.yml buildspec.yml buildspec-dev.yaml .build.yml Jenkinsfile Jenkinsfile.release
        jenkinsfile-nightly .readthedocs.yaml netlify.toml
    """,
    "git hooks": """
        .husky/pre-commit .husky/_/x.sh .githooks/lib.sh githooks/lib.sh .huskyrc .huskyrc.json .pre-commit-config.yaml
        .pre-commit-hooks.yaml .overcommit.yml lefthook.yml lefthook.yaml lefthook-local.toml lefthook.json
        .lefthook.yml .lefthook.toml .lefthook-local.json .lintstagedrc .lintstagedrc.mjs lint-staged.config.js
        hooks/applypatch-msg hooks/pre-applypatch hooks/post-applypatch hooks/pre-commit hooks/pre-merge-commit
        hooks/prepare-commit-msg hooks/commit-msg hooks/post-commit hooks/pre-rebase hooks/post-checkout
        hooks/post-merge hooks/pre-push hooks/pre-receive hooks/update hooks/proc-receive hooks/post-receive
        hooks/post-update hooks/reference-transaction hooks/push-to-checkout hooks/pre-auto-gc hooks/post-rewrite
        hooks/sendemail-validate hooks/fsmonitor-watchman hooks/p4-changelist hooks/p4-prepare-changelist
        hooks/p4-post-changelist hooks/p4-pre-submit hooks/post-index-change
        tools/hooks/linux/Pre-Commit .hooks/pre-push git-hooks/pre-push
        hooks/pre-commit.sh .hooks/pre-commit.py git-hooks/pre-commit.exe tools/hooks/linux/commit-msg.sh
    """,
    "version control": """
        .gitattributes sub/.gitmodules .gitlab-ci.yml .gitignore .gitconfig .gitreview .hg/hgrc .hgignore
        .jj/repo/config.toml .svn/entries
    """,
    "editor": """
        .vscode/settings.json .idea/workspace.xml .zed/tasks.json .fleet/run.json .vim/coc-settings.json .nvim/init.lua
        .helix/languages.toml .devcontainer/devcontainer.json .devcontainer.json app.code-workspace
        app.sublime-project .editorconfig .dir-locals.el .dir-locals-2.el .exrc .vimrc .lvimrc .nvimrc .nvim.lua
        .ycm_extra_conf.py .clangd
    """,
    "agents": """
        .cursor/mcp.json .claude/settings.json .claude-plugin/plugin.json .codex/config.toml .gemini/settings.json
        .continue/config.yaml .windsurf/rules/a.md .clinerules/a.md .roo/rules/a.md .kiro/steering/a.md
        .amazonq/rules/a.md .junie/guidelines.md .trae/rules/a.md .augment/rules/a.md .opencode/agent/a.md
        AGENT.md AGENTS.md AGENTS.override.md docs/claude.md CLAUDE.local.md Gemini.md QWEN.md copilot-instructions.md
        .mcp.json opencode.json opencode.jsonc .cursorrules .cursorignore .claude.json .aider.conf.yml .windsurfrules
        .clinerules .roorules .roorules-code .roomodes .goosehints .rules .agent.toml
    """,
    "shells": """
        .bashrc .zshrc .zshenv .zprofile .zlogin .zlogout .fishrc .kshrc .cshrc .tcshrc .profile .login .logout .env
        .bash_profile .bash_aliases .rc .bashenv
    """,
    "entering": """
        .envrc .autoenv .autoenv.zsh .tool-versions .mise.toml .mise.local.toml mise.toml mise.local.toml
        .mise/config.toml
    """,
    "every Python": """
        x/evil.pth sitecustomize.py usercustomize.py sitecustomize/__init__.py lib/usercustomize/__init__.py
    """,
    "interactive": ".gdbinit .lldbinit .pdbrc ipython_config.py .irbrc .pryrc .Rprofile",
    "tests": """
        conftest.py tests/ConfTest.py \uff43onftest.py pytest.ini .pytest.ini pytest.toml .pytest.toml tox.ini tox.toml
        .coveragerc noxfile.py .rspec .mocharc.js
    """,
    "checking": """
        pylintrc .pylintrc .flake8 mypy.ini .mypy.ini .rubocop.yml .eslintrc .eslintrc.json .prettierrc .prettierrc.toml
        .stylelintrc .stylelintrc.json
    """,
    "building or testing": """
        .babelrc .babelrc.json
        babel.config.json commitlint.config.js cypress.config.ts eslint.config.mjs jest.config.json next.config.js
        nuxt.config.ts playwright.config.json postcss.config.cjs prettier.config.js rollup.config.json
        stylelint.config.mjs svelte.config.js tailwind.config.ts vite.config.json vitest.config.json
        webpack.config.babel
        babel.x.js eslint.x.cjs jest.setup.mjs karma.conf.js playwright.x.ts rollup.x.cts vite.x.mts vitest.workspace.ts
        webpack.prod.js eslint.config.json
        gruntfile.cjs Gruntfile.js gulpfile.babel.js gulpfile.mjs Gruntfile.ts
    """,
    "installing": """
        setup.py setup.cfg pyproject.toml hatch_build.py package.json .npmrc .yarnrc .yarnrc.yml .yarn/releases/yarn.cjs
        .pnpmfile.cjs bunfig.toml deno.json deno.jsonc Gemfile gems.rb x.gemspec composer.json mix.exs Package.swift
        Setup.hs crates/x/Cargo.toml build.rs .cargo/config.toml binding.gyp flake.nix shell.nix default.nix devenv.nix
    """,
    "building": """
        Makefile GNUmakefile BSDmakefile make\u200bfile Makefile.am makefile-linux rules.mk justfile .justfile Rakefile
        Taskfile.yml Taskfile.yaml Taskfile.dist.yaml tasks.py fabfile.py dodo.py wscript SConstruct SConscript
        configure configure.ac CMakeLists.txt cmake/FindX.cmake meson.build build.zig BUILD BUILD.bazel WORKSPACE
        WORKSPACE.bazel MODULE.bazel .bazelrc tools/defs.bzl build.gradle app/x.gradle build.gradle.kts settings.gradle
        settings.gradle.kts gradle.properties gradlew gradlew.bat gradle/wrapper/gradle-wrapper.properties
        buildSrc/src/main/kotlin/X.kt pom.xml mvnw mvnw.cmd .mvn/jvm.config build.sbt project/plugins.sbt
        App.csproj App.fsproj App.vbproj Directory.Build.props directory.build.targets
    """,
    "built or run": """
        Dockerfile Containerfile dockerfile.dev containerfile-dev Dockerfile-dev app.dockerfile Vagrantfile
        docker-compose.yml docker-compose.yaml docker-compose.override.yml docker-compose.dev.yaml compose.yml
        compose.yaml compose.override.yaml Procfile
    """,
}
NOT_LATER = """
    README.md docs/package.md docs/rules.md docs/agents/overview.md docs/hooks/README.md docs/claude-notes.md
    git.py src/gitignore.py src/github.py hg/x.py src/config.py config.json settings.py src/settings.json
    src/setup_tools.py src/setup.ts x/test_conftest.py tests/test_setup.py tests/pytest_plugin.py src/tox.py mypy.py
    src/configure.py src/configure.ts lib/configure.rb src/build.py src/build/main.go build/x.py lib/workspace.py
    workspace/a.py src/hooks/useThing.ts src/hooks/update.ts src/hooks/update.py app/hooks.py hooks/index.js
    hooks/precommit.py src/pre-commit.py src/update src/cargo.rs gradle/x.kt src/gradle/api.kt wrapper/a.java
    src/cmake.py docs/cmake.md makefile_parser.py src/docker.py dockerfiles/a.py compose.py composer.py src/compose.kt
    src/agents.py agents/base.py src/cursor.ts src/claude.py rules/a.py src/mcp.json opencode.py src/woodpecker.py
    src/semaphore.c src/semaphore/lock.c builds/a.py src/vite.ts src/webpackUtils.js src/jestHelpers.ts
    src/babelPlugin.ts src/eslintRule.js app/app.config.ts src/next.ts src/prettier.ts tailwind.css src/rollup.sql
    src/cypress.py src/taskfile.py src/tasks/a.py src/dodo.c lefthook.md src/lefthook.go src/clangd.cpp src/vim.py
    helix/a.py src/workspace.json x.workspace a.project x.swift src/package.swift.txt src/mix.ex src/setup_hs.hs
    App.cs App.csproj.md Directory.cs binding.c default.py src/flake.py shell.c src/rspec.rb env.py src/.hidden.py
    sitecustomization.py src/custom/site.py pth.py src/procfile.rs src/jenkins.groovy gitea/x.go src/kiro.ts
    src/.git-not-a-file/x.py
""".split()


@pytest.mark.parametrize(
    ("reason", "path"), [(reason, path) for reason, names in LATER.items() for path in names.split()]
)
def test_what_executes_later(reason: str, path: str) -> None:
    assert reason in executes_later(path)
    assert reason in executes_later(f"some/where/{path}")
    assert [concern.path for concern in concerns([FileChange(path, None, NEW)])] == [path]


@pytest.mark.parametrize("path", NOT_LATER)
def test_what_does_not(path: str) -> None:
    assert executes_later(path) == "" and concerns([FileChange(path, None, NEW)]) == []


def test_every_entry_has_a_name_above() -> None:
    """What is added to a list is added to the table too."""
    names = [folded(path) for names in LATER.values() for path in names.split()]
    names = [re.sub(r"\.yaml$", ".yml", name) for name in names]
    for _, entries in sensitive.LISTS:
        for entry in entries:
            pattern = re.compile(f"(?:.*/)?{sensitive.expression(entry)}")
            assert any(pattern.fullmatch(name) for name in names), entry


def test_every_concern_of_a_change_is_told() -> None:
    found = concerns([FileChange("Makefile", None, FileState(b"x\n", 0o755))])
    assert [concern.reason for concern in found] == ["building runs it", "the new file would be executable"]


def test_hooks_that_git_is_configured_to_run() -> None:
    hooks = ("tools/Hooks", "scripts/check.sh")
    for path in ("tools/hooks/pre-commit", "Tools/hooks/lib/x.sh", "scripts/check.sh"):
        assert "hooks" in concerns([FileChange(path, NEW, FileState(b"y\n"))], hooks)[0].reason
    for path in ("tools/hooks.py", "tools/x", "scripts/other.sh", "x/tools/hooks/y"):
        assert concerns([FileChange(path, NEW, FileState(b"y\n"))], hooks) == []


def test_modes_need_a_yes_of_their_own() -> None:
    before = FileState(b"1\n", 0o644)
    assert "644 to 755" in concerns([FileChange("a", before, FileState(b"1\n", 0o755))])[0].reason
    assert "755 to 644" in concerns([FileChange("a", FileState(b"1\n", 0o755), before)])[0].reason
    assert "executable" in concerns([FileChange("a", None, FileState(b"1\n", 0o755))])[0].reason
    assert concerns([FileChange("a", FileState(b"1\n", 0o755), None)]) == []


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o777, 0o4644, 0o2755, 0o1644, 0o4755])
def test_modes_that_no_new_file_has(mode: int) -> None:
    assert f"{mode:o}" in concerns([FileChange("a", None, FileState(b"1\n", mode))])[0].reason


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o640, 0o444])
def test_modes_that_new_files_may_have(mode: int) -> None:
    assert concerns([FileChange("a", None, FileState(b"1\n", mode))]) == []


TOOL = b"#!/bin/sh\nset -e\n\ncd src\nmake\n\nmake check\n"


@pytest.mark.parametrize("mode", [0o755, 0o664, 0o4755])
@pytest.mark.parametrize(
    "data", [TOOL, TOOL.replace(b"make check", b"make test"), TOOL.replace(b"\n", b"\r\n")]
)
def test_a_renamed_file_keeps_its_mode(data: bytes, mode: int) -> None:
    renamed = [FileChange("a", FileState(TOOL, mode), None), FileChange("b", None, FileState(data, mode))]
    assert concerns(renamed) == []


@pytest.mark.parametrize(
    "data",
    [b"#!/bin/sh\n\n\n\n\n\nevil\n", b"", TOOL + b"more\n" * 20, b"#!/bin/sh\nset -e\n" * 9, b"\n\n\n"],
)
def test_another_file_in_the_place_of_one_that_goes_is_new(data: bytes) -> None:
    changes = [
        FileChange("old.txt", FileState(TOOL, 0o755), None),
        FileChange("evil", None, FileState(data, 0o755)),
    ]
    assert [(one.path, one.reason) for one in concerns(changes)] == [
        ("evil", "the new file would be executable")
    ]


def test_a_renamed_file_with_another_mode_is_new() -> None:
    changes = [FileChange("a", FileState(TOOL), None), FileChange("b", None, FileState(TOOL, 0o755))]
    assert [one.path for one in concerns(changes)] == ["b"]
    changes[0] = FileChange("a", FileState(TOOL, 0o755), FileState(TOOL, 0o755))
    assert [one.path for one in concerns(changes)] == ["b"]


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (("n.py", "N.py"), "same name"),
        (("Src/a.py", "src/b.py"), "same name"),
        (("a/Src/x/a.py", "a/src/x/b.py"), "same name"),
        (("caf\u00e9.py", "cafe\u0301.py"), "same name"),
        (("N", "n/b"), "same name"),
        (("n", "n/b"), "a file and a directory"),
        (("n/b/c/d", "n/b"), "a file and a directory"),
        (("n", "n"), "twice"),
    ],
)
def test_files_that_cannot_all_be_there(paths: tuple[str, ...], reason: str) -> None:
    with pytest.raises(PolicyError, match=reason):
        checked([FileChange(path, None, NEW) for path in paths])
    with pytest.raises(PolicyError, match=reason):
        checked([FileChange(paths[0], None, NEW), FileChange(paths[1], NEW, NEW)])


def test_files_that_can() -> None:
    checked([FileChange(path, None, NEW) for path in ("n/a", "n/b", "nn", "n.py", "m/n/a")])
    checked([FileChange("n", NEW, None), FileChange("n/b", None, NEW), FileChange("N.py", NEW, None)])
    checked([FileChange("README.md", NEW, None), FileChange("Readme.md", None, NEW)])
    # What is there already under two spellings.
    checked(
        [
            *(FileChange(path, NEW, NEW) for path in ("n.py", "N.py", "D/x", "d/x")),
            FileChange("D/y", None, NEW),
        ]
    )


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


@pytest.mark.parametrize(
    ("path", "twins"),
    [
        ("src/A.py", ["src/a.py"]),
        ("Src/a.py", ["src"]),
        ("SRC", ["src"]),
        ("deep/Er/x.py", ["deep/ER", "deep/er"]),
        ("src/b.py", []),
        ("src/a.py", []),
        ("src/a.py/x", []),
        ("new/Src/a.py", []),
        ("deep/er/x.py", []),
    ],
)
def test_names_that_are_the_same_elsewhere(root: Path, path: str, twins: list[str]) -> None:
    (root / "deep/er").mkdir(parents=True)
    (root / "deep/ER").mkdir()
    assert twins_on_the_way(root, path) == twins


# -- git's own directories under other names -------------------------------------------------------


@pytest.fixture
def separate(tmp_path: Path) -> Repository:
    """A repository whose git directory lies in its work tree, as `meta`."""
    root = tmp_path / "separate"
    root.mkdir()
    git(root, "init", "-q", "--separate-git-dir=meta", ".")
    return Repository.discover(root)


@pytest.mark.parametrize(
    "path", ["meta/config", "meta/hooks/pre-commit", "meta/HEAD", "meta/new", "meta/a/b/c"]
)
def test_a_git_directory_of_another_name(separate: Repository, path: str) -> None:
    with pytest.raises(PolicyError, match="git's own"):
        state_of(separate.root, path)
    with pytest.raises(PolicyError, match="git's own"):
        check_not_gits(separate.root, [FileChange(path, None, NEW)], [separate.git_dir, separate.common_dir])


def test_a_git_directory_that_only_the_repository_knows(root: Path) -> None:
    """Whatever is in it, and however its name is spelled."""
    (root / "store").mkdir()
    for known in (root / "store", root / "src/../store", root / "none"):
        change, refused = FileChange("store/config", None, NEW), known != root / "none"
        with pytest.raises(PolicyError, match="store is git's own") if refused else nullcontext():
            check_not_gits(root, [change], [root / ".git", known])
    check_not_gits(root, [FileChange("src/a.py", None, NEW), FileChange("x/y", None, NEW)], [root / ".git"])


@pytest.mark.parametrize("parts", [("HEAD", "objects/", "refs/"), ("HEAD", "commondir")])
def test_a_bare_repository_among_the_files(root: Path, parts: tuple[str, ...]) -> None:
    for count in range(1, len(parts)):
        _make(root / f"part{count}", parts[:count])
        assert state_of(root, f"part{count}/config") is None
    _make(root / "bare", parts)
    for path in ("bare/config", "bare/hooks/post-update", "bare/HEAD"):
        with pytest.raises(PolicyError, match="bare is a directory of git's own"):
            state_of(root, path)


def _make(place: Path, parts: tuple[str, ...]) -> None:
    place.mkdir()
    for part in parts:
        (place / part).mkdir() if part.endswith("/") else (place / part).write_text("x")


@pytest.mark.parametrize(
    ("there", "added"),
    [
        ((), ("x/HEAD", "x/config", "x/objects/info/a", "x/refs/heads/main")),
        ((), ("x/head", "x/Objects/a", "x/REFS/b")),
        (("HEAD", "objects/"), ("x/refs/a",)),
        (("HEAD", "refs/"), ("x/objects/a",)),
        (("objects/", "refs/"), ("x/HEAD",)),
        (("HEAD",), ("x/commondir",)),
        (("commondir",), ("x/HEAD",)),
    ],
)
def test_files_that_would_make_a_bare_repository(
    root: Path, there: tuple[str, ...], added: tuple[str, ...]
) -> None:
    _make(root / "x", there)
    changes = [FileChange(path, None, NEW) for path in added]
    with pytest.raises(PolicyError, match="git would take x for its own"):
        check_not_gits(root, changes)
    # Without the last of them it is none.
    check_not_gits(root, changes[:-1])
    assert changes[-1].path.startswith("x/")


@pytest.mark.parametrize(
    "paths", [("x/HEAD",), ("x/objects/a.py", "x/refs/b.py"), ("HEAD", "objects/a", "refs/a")]
)
def test_files_that_make_none(root: Path, paths: tuple[str, ...]) -> None:
    """In the top directory git finds its own `.git` first."""
    check_not_gits(root, [FileChange(path, None, NEW) for path in paths])


# -- hooks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "places"),
    [
        ("tools/hooks", {"tools/hooks"}),
        ("./tools/../tools/hooks", {"tools/hooks"}),
        ("{root}/tools/hooks", {"tools/hooks"}),
        ("short", {"short", "tools/hooks"}),
        ("{root}/../elsewhere", set()),
        ("/dev/null", set()),
        ("none/yet", {"none/yet"}),
    ],
)
def test_where_git_is_told_to_find_hooks(root: Path, value: str, places: set[str]) -> None:
    write(root, {"tools/hooks/pre-commit": "#!/bin/sh\n"})
    (root / "short").symlink_to("tools/hooks")
    git(root, "config", "core.hooksPath", value.format(root=root))
    assert hook_places(Repository.discover(root)) == places


def test_hooks_that_are_links_into_the_work_tree(root: Path, tmp_path: Path) -> None:
    hooks = root / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    write(root, {"scripts/check.sh": "#!/bin/sh\n"})
    (hooks / "pre-commit").symlink_to("../../scripts/check.sh")
    (hooks / "pre-push").symlink_to(tmp_path / "outside/secret")
    (hooks / "commit-msg.before").symlink_to(root / "scripts/words.sh")
    (hooks / "notes").symlink_to(root / "src")
    assert hook_places(Repository.discover(root)) == {".git/hooks", "scripts/check.sh", "scripts/words.sh"}


def test_a_work_tree_that_is_the_directory_of_hooks(root: Path) -> None:
    git(root, "config", "core.hooksPath", ".")
    places = hook_places(Repository.discover(root))
    assert {"pre-commit", "update"} <= places and "." not in places
    assert concerns([FileChange("pre-commit", None, NEW)], places)
    assert concerns([FileChange("src/a.py", None, NEW)], places) == []


# -- as a proposal uses it -------------------------------------------------------------------------


def test_a_proposal_knows_the_directories_of_git(root: Path) -> None:
    (root / "store").mkdir()
    repository, change = (
        Repository(root, root / "store", root / "store"),
        FileChange("store/config", None, NEW),
    )
    edits = (Edit(Kind.CREATE, "store/config", text="x\n"),)
    proposal = Proposal("x", edits, "", (), 1, changes=(change,), repository=repository)
    with pytest.raises(PolicyError, match="git's own directory"):
        proposal.apply()
    assert not (root / "store/config").exists()


def test_a_proposal_knows_the_hooks_of_the_repository(root: Path) -> None:
    git(root, "config", "core.hooksPath", "src")
    draft = Draft("x", changes=(FileChange("src/a.py", FileState(b"1\n"), NEW),))
    workspace = cast("Workspace", SimpleNamespace(repository=Repository.discover(root)))
    assert [one.path for one in _proposal(draft, workspace, "m", 0.0).concerns] == ["src/a.py"]
