"""Which files run, or are obeyed, some day after they were written, told by their names alone. Pure."""

# Each list is of names as `folded` gives them: in lower case. A name counts at any depth, one that ends with a slash
# is a directory with all that lies in it. `*` is any text within a name, `**/` any directories, `{a,b}` either;
# `.yml` stands for `.yaml` too.

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

_SCRIPTS = "{js,cjs,mjs,ts,cts,mts}"

BUILD_SERVERS = (
    *(".github/", ".gitlab/", ".gitea/", ".forgejo/", ".circleci/", ".buildkite/", ".ci/", ".woodpecker/"),
    *(".semaphore/", ".builds/", ".teamcity/", ".azure-pipelines/", ".tekton/"),
    *(".travis.yml", "azure-pipelines*.yml", "appveyor.yml", ".appveyor.yml", "bitbucket-pipelines.yml"),
    *(".drone.*", ".cirrus.*", ".woodpecker*", "cloudbuild.yml", "buildspec*.yml", ".build.yml"),
    *("jenkinsfile", "jenkinsfile{.,-}*", ".readthedocs.yml", "netlify.toml"),
)
VERSION_CONTROL = (
    # .gitattributes, .gitmodules, .gitlab-ci.yml, .gitignore: all of them change what git or a build server does.
    *(".git*", ".hg/", ".hgignore", ".jj/", ".svn/"),
)
HOOKS = (
    *(".husky/", ".githooks/", "githooks/", ".huskyrc*", ".pre-commit*", ".overcommit.yml"),
    *("lefthook*.{yml,toml,json}", ".lefthook*.{yml,toml,json}", ".lintstagedrc*", "lint-staged.config.*"),
)
EDITORS = (
    *(".vscode/", ".idea/", ".zed/", ".fleet/", ".vim/", ".nvim/", ".helix/", ".devcontainer/"),
    *(".devcontainer.json", "*.code-workspace", "*.sublime-project", ".editorconfig", ".dir-locals*.el"),
    *(".exrc", ".vimrc", ".lvimrc", ".nvimrc", ".nvim.lua", ".ycm_extra_conf.py", ".clangd"),
)
AGENTS = (
    *(".cursor/", ".claude/", ".claude-plugin/", ".codex/", ".gemini/", ".continue/", ".windsurf/"),
    *(".clinerules/", ".roo/", ".kiro/", ".amazonq/", ".junie/", ".trae/", ".augment/", ".opencode/"),
    *("agent.md", "agents.md", "agents.override.md", "claude.md", "claude.local.md", "gemini.md", "qwen.md"),
    *("copilot-instructions.md", ".mcp.json", "opencode.json*", ".cursor*", ".claude*", ".aider*"),
    *(".windsurfrules", ".clinerules", ".roorules*", ".roomodes", ".goosehints", ".rules", ".agent.toml"),
)
SHELLS = (".{,bash,zsh,z,fish,ksh,csh,tcsh}{rc,profile,login,logout,env}", ".bash_*")
DIRECTORIES = (".envrc", ".autoenv*", ".tool-versions", ".mise*.toml", "mise*.toml", ".mise/")
PYTHON = ("*.pth", "sitecustomize.py", "usercustomize.py", "sitecustomize/", "usercustomize/")
SESSIONS = (
    # Debuggers and prompts run these as they start.
    *(".gdbinit", ".lldbinit", ".pdbrc", "ipython_config.py", ".irbrc", ".pryrc", ".rprofile"),
)
TESTS = (
    *("conftest.py", "pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "tox.ini", "tox.toml"),
    *(".coveragerc", "noxfile.py", ".rspec", ".mocharc*"),
)
CHECKERS = (
    *("pylintrc", ".pylintrc", ".flake8", "mypy.ini", ".mypy.ini", ".rubocop.yml"),
    *(".eslintrc*", ".prettierrc*", ".stylelintrc*"),
)
SCRIPT_TOOLS = (
    ".babelrc*",
    "{babel,commitlint,cypress,eslint,jest,next,nuxt,playwright,postcss,prettier,rollup,stylelint,svelte,"
    "tailwind,vite,vitest,webpack}.config.*",
    "{babel,eslint,jest,karma,playwright,rollup,vite,vitest,webpack}.*." + _SCRIPTS,
    "{gruntfile,gulpfile}*.{js,cjs,mjs,ts}",
)
PACKAGES = (
    *("setup.py", "setup.cfg", "pyproject.toml", "hatch_build.py", "package.json", ".npmrc", ".yarnrc*"),
    *(".yarn/", ".pnpmfile.cjs", "bunfig.toml", "deno.json*", "gemfile", "gems.rb", "*.gemspec"),
    *("composer.json", "mix.exs", "package.swift", "setup.hs", "cargo.toml", "build.rs", ".cargo/"),
    *("binding.gyp", "{flake,shell,default,devenv}.nix"),
)
BUILDS = (
    *("{,gnu,bsd}makefile", "makefile{.,-}*", "*.mk", "justfile", ".justfile", "rakefile", "taskfile*.yml"),
    *("tasks.py", "fabfile.py", "dodo.py", "wscript", "sconstruct", "sconscript"),
    *("configure", "configure.ac", "cmakelists.txt", "*.cmake", "meson.build", "build.zig"),
    *("build", "build.bazel", "workspace", "workspace.bazel", "module.bazel", ".bazelrc", "*.bzl"),
    *("*.gradle", "*.gradle.kts", "gradle.properties", "gradlew", "gradlew.bat", "gradle/wrapper/"),
    *("buildsrc/", "pom.xml", "mvnw", "mvnw.cmd", ".mvn/", "*.sbt"),
    *("*.{cs,fs,vb}proj", "directory.build.*"),
)
CONTAINERS = (
    *("dockerfile", "containerfile", "{dockerfile,containerfile}{.,-}*", "*.dockerfile", "vagrantfile"),
    *("docker-compose.yml", "docker-compose.*.yml", "compose.yml", "compose.*.yml", "procfile"),
)
# Only under git's own names: a directory of this name may hold hooks of any kind (React's, say).
GIT_HOOKS = (
    *("applypatch-msg", "pre-applypatch", "post-applypatch", "pre-commit", "pre-merge-commit"),
    *("prepare-commit-msg", "commit-msg", "post-commit", "pre-rebase", "post-checkout", "post-merge"),
    *("pre-push", "pre-receive", "update", "proc-receive", "post-receive", "post-update"),
    *("reference-transaction", "push-to-checkout", "pre-auto-gc", "post-rewrite", "sendemail-validate"),
    *("fsmonitor-watchman", "p4-changelist", "p4-prepare-changelist", "p4-post-changelist"),
    *("p4-pre-submit", "post-index-change"),
)
HOOK_FILES = (
    f"{{hooks,.hooks,git-hooks}}/**/{{{','.join(GIT_HOOKS)}}}",
    # What a hook is made of; `update.py` is an ordinary name.
    f"{{hooks,.hooks,git-hooks}}/**/{{{','.join(name for name in GIT_HOOKS if '-' in name)}}}.{{sh,py,exe}}",
)

LISTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("the build server runs it", BUILD_SERVERS),
    ("git hooks run it", (*HOOKS, *HOOK_FILES)),
    ("version control or the build server obeys it", VERSION_CONTROL),
    ("the editor obeys it", EDITORS),
    ("agents obey it", AGENTS),
    ("shells run it", SHELLS),
    ("entering the directory runs it", DIRECTORIES),
    ("every Python runs it", PYTHON),
    ("a debugger or an interactive session runs it", SESSIONS),
    ("running the tests runs it", TESTS),
    ("checking the code obeys it", CHECKERS),
    ("building or testing runs it", SCRIPT_TOOLS),
    ("installing or building runs it", PACKAGES),
    ("building runs it", BUILDS),
    ("it is built or run", CONTAINERS),
)


def reader_of(parts: Sequence[str]) -> str:
    """Who runs or obeys the file at a path, given as its folded names; empty where nobody is known to."""
    path = "/".join(parts)
    if path.endswith(".yaml"):
        path = path.removesuffix(".yaml") + ".yml"
    return next((reason for reason, pattern in _patterns() if pattern.fullmatch(path)), "")


@functools.cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """The lists as one expression each. Made when they are first asked for, as that takes a while."""
    made = (("|".join(map(expression, names)), reason) for reason, names in LISTS)
    return [(reason, re.compile(f"(?:.*/)?(?:{text})")) for text, reason in made]


def expression(name: str) -> str:
    """One name of the lists as a regular expression for the end of a path."""
    text = re.escape(name).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    text = re.sub(r"\\{(.*?)\\}", lambda found: f"(?:{found[1].replace(',', '|')})", text)
    return text + (".*" if name.endswith("/") else "")
