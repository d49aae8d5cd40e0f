"""Names the language of a file from its path and first line, and the grammar that parses that language."""

from __future__ import annotations

import re
from types import MappingProxyType

from indexers.errors import UsageError

TEXT = "text"
MARKDOWN = "markdown"
RST = "rst"
NOTEBOOK = "notebook"

# language -> file name endings, without the leading dot, lower case. Two-part endings win over one-part ones.
_EXTENSIONS: dict[str, str] = {
    "python": "py pyi pyw pyx pxd wsgi",
    "javascript": "js mjs cjs jsx es6",
    "typescript": "ts mts cts",
    "tsx": "tsx",
    "go": "go",
    "rust": "rs",
    "java": "java",
    "kotlin": "kt kts",
    "c": "c h",
    "cpp": "cc cpp cxx c++ hh hpp hxx h++ inl ipp tpp cu cuh ino",
    "csharp": "cs csx",
    "php": "php php3 php4 php5 phtml",
    "ruby": "rb rake gemspec ru podspec jbuilder rbi",
    "scala": "scala sc sbt",
    "swift": "swift",
    "elixir": "ex exs",
    "lua": "lua rockspec",
    "bash": "sh bash zsh ksh bats ebuild",
    "haskell": "hs hs-boot",
    "zig": "zig zon",
    "sql": "sql ddl dml pgsql psql mysql",
    "dart": "dart",
    "r": "r",
    "julia": "jl",
    "ocaml": "ml",
    "ocaml_interface": "mli",
    "erlang": "erl hrl escript",
    "clojure": "clj cljs cljc edn bb",
    "elisp": "el",
    "commonlisp": "lisp lsp cl",
    "scheme": "scm ss sld",
    "racket": "rkt",
    "objc": "m mm",
    "perl": "pl pm t",
    "nix": "nix",
    "hcl": "hcl tf tfvars",
    "make": "mk mak",
    "cmake": "cmake",
    "dockerfile": "dockerfile containerfile",
    "proto": "proto",
    "thrift": "thrift",
    "graphql": "graphql gql graphqls",
    "groovy": "groovy gradle gvy",
    "powershell": "ps1 psm1 psd1",
    "solidity": "sol",
    "fsharp": "fs fsi fsx",
    "elm": "elm",
    "purescript": "purs",
    "nim": "nim nims",
    "d": "d",
    "fortran": "f f90 f95 f03 f08 for",
    "pascal": "pas pp",
    "ada": "adb ads",
    "vim": "vim",
    "fish": "fish",
    "tcl": "tcl",
    "glsl": "glsl vert frag comp",
    "wgsl": "wgsl",
    "cairo": "cairo",
    "gdscript": "gd",
    "starlark": "bzl star bazel",
    "verilog": "v sv svh vh",
    "vhdl": "vhd vhdl",
    "prisma": "prisma",
    "css": "css",
    "scss": "scss sass less",
    "html": "html htm xhtml",
    "vue": "vue",
    "svelte": "svelte",
    "xml": "xml xsd xsl xslt svg plist csproj vbproj props targets wsdl",
    "json": "json jsonc json5 geojson webmanifest avsc jsonl ndjson",
    "yaml": "yaml yml",
    "toml": "toml",
    "ini": "ini cfg conf properties editorconfig",
    "latex": "tex sty cls bib",
    MARKDOWN: "md markdown mdown mkd mdx qmd rmd",
    RST: "rst",
    NOTEBOOK: "ipynb",
    TEXT: "txt text log csv tsv",
}
_BY_EXTENSION = {ending: language for language, endings in _EXTENSIONS.items() for ending in endings.split()}

_BY_NAME = {
    "dockerfile": "dockerfile",
    "containerfile": "dockerfile",
    "makefile": "make",
    "gnumakefile": "make",
    "justfile": "make",
    "cmakelists.txt": "cmake",
    "rakefile": "ruby",
    "gemfile": "ruby",
    "vagrantfile": "ruby",
    "guardfile": "ruby",
    "podfile": "ruby",
    "brewfile": "ruby",
    "fastfile": "ruby",
    "capfile": "ruby",
    "jenkinsfile": "groovy",
    "sconstruct": "python",
    "sconscript": "python",
    "wscript": "python",
    "build": "starlark",
    "workspace": "starlark",
    "tiltfile": "starlark",
    "pkgbuild": "bash",
    ".bashrc": "bash",
    ".bash_profile": "bash",
    ".bash_aliases": "bash",
    ".profile": "bash",
    ".zshrc": "bash",
    ".zshenv": "bash",
    ".envrc": "bash",
    ".vimrc": "vim",
    "pipfile": "toml",
    "cargo.lock": "toml",
    "poetry.lock": "toml",
    "go.mod": TEXT,
    "go.sum": TEXT,
    ".babelrc": "json",
    ".eslintrc": "json",
    ".prettierrc": "json",
    ".clang-format": "yaml",
    ".gitconfig": "ini",
    ".gitmodules": "ini",
    ".editorconfig": "ini",
    "readme": TEXT,
}

_BY_INTERPRETER = {
    "python": "python",
    "pypy": "python",
    "sh": "bash",
    "bash": "bash",
    "dash": "bash",
    "ash": "bash",
    "zsh": "bash",
    "ksh": "bash",
    "bats": "bash",
    "node": "javascript",
    "nodejs": "javascript",
    "bun": "javascript",
    "deno": "typescript",
    "ts-node": "typescript",
    "tsx": "typescript",
    "ruby": "ruby",
    "perl": "perl",
    "php": "php",
    "lua": "lua",
    "luajit": "lua",
    "rscript": "r",
    "julia": "julia",
    "elixir": "elixir",
    "escript": "erlang",
    "runhaskell": "haskell",
    "runghc": "haskell",
    "scala": "scala",
    "groovy": "groovy",
    "kotlin": "kotlin",
    "swift": "swift",
    "fish": "fish",
    "tclsh": "tcl",
    "wish": "tcl",
    "pwsh": "powershell",
    "make": "make",
    "nix-shell": "nix",
    "osascript": TEXT,
}

# What people call a language besides its name and its file name endings (js, py, ts, c++ are endings).
_ALIASES = MappingProxyType(
    {
        "c#": "csharp", "f#": "fsharp", "golang": "go", "python3": "python", "node": "javascript",
        "ecmascript": "javascript", "shell": "bash", "shellscript": "bash", "objective-c": "objc", "objectivec": "objc",
        "emacs-lisp": "elisp", "lisp": "commonlisp", "common-lisp": "commonlisp", "terraform": "hcl",
        "docker": "dockerfile", "makefile": "make", "protobuf": "proto", "bazel": "starlark",
        "jupyter": NOTEBOOK, "restructuredtext": RST, "plaintext": TEXT, "plain-text": TEXT,
        "delphi": "pascal", "systemverilog": "verilog", "godot": "gdscript", "viml": "vim", "vimscript": "vim",
        "postgresql": "sql", "objective-c++": "objc",
    }
)  # fmt: skip
# Kept apart for their grammars, but one language to whoever names it.
_VARIANTS = MappingProxyType({"typescript": frozenset({"tsx"}), "ocaml": frozenset({"ocaml_interface"})})
# `.h` is stored as C; it is as much a header of these.
_WITH_HEADERS = frozenset({"cpp", "objc"})

# A template or sample of a file is best read as that file: `settings.py.example` is Python.
_WRAPPERS = frozenset(
    {"in", "tmpl", "template", "tpl", "example", "sample", "dist", "orig", "bak", "j2", "jinja"}
)

# Languages whose syntax tree gives nothing that indentation and blank lines do not give: never parsed.
_BY_LINES = frozenset(
    {TEXT, MARKDOWN, RST, NOTEBOOK, "json", "yaml", "toml", "ini", "xml", "html", "vue", "svelte"}
)
_GRAMMARS = MappingProxyType({name: name for name in _EXTENSIONS if name not in _BY_LINES})

_CPP_HINT = re.compile(
    r"^[ \t]*(?:class|namespace|template|using|public:|private:|extern \"C\+\+\")", re.MULTILINE
)
_SHEBANG = re.compile(r"#!\s*(\S+)(?:\s+(.*))?")
_MODELINE = re.compile(r"-\*-.*?\b(?:mode:\s*)?([A-Za-z+]+)\s*-\*-|\bvim?:.*?\b(?:ft|filetype)=([A-Za-z]+)")


def language_of(path: str, first_line: str = "") -> str:
    """The language a file is written in; `"text"` when nothing tells.

    :param path: path relative to the repository, with `/`; only its last part matters.
    :param first_line: first line of the text, for `#!` and editor mode lines.
    """
    name = path.rsplit("/", 1)[-1].lower()
    return _by_name(name) or _by_first_line(first_line) or TEXT


def grammar_of(language: str, text: str = "") -> str | None:
    """The tree-sitter grammar for a language, or None when the language is cut by lines.

    `.h` says C or C++: the text decides, because a class read as C is one long syntax error.
    """
    if language == "c" and _CPP_HINT.search(text):
        return "cpp"
    return _GRAMMARS.get(language)


def language_named(name: str) -> str:
    """The name we use for a language that somebody named by it, by a common alias or by a file name ending.

    :raises UsageError: there is no such language; the nearest names are listed.
    """
    import difflib

    asked = "-".join(name.lower().replace("_", "-").split()).removeprefix(".")
    for known in (asked, asked.replace("-", "_"), asked.replace("-", "")):
        if known in _EXTENSIONS:
            return known
        if found := _ALIASES.get(known) or _BY_EXTENSION.get(known):
            return found
    near = difflib.get_close_matches(asked, [*_EXTENSIONS, *_ALIASES], n=3)
    names = dict.fromkeys(_ALIASES.get(name, name) for name in near)
    hint = f"Did you mean {' or '.join(names)}?" if names else "Known: " + ", ".join(_EXTENSIONS)
    raise UsageError(f"There is no language {name!r}.", hint)


def is_written_in(wanted: str, language: str, path: str) -> bool:
    """Whether a file stored under `language` is what somebody means who asks for `wanted` (both are our names)."""
    if language == wanted or language in _VARIANTS.get(wanted, ()):
        return True
    return wanted in _WITH_HEADERS and path.lower().endswith(".h")


def _by_name(name: str) -> str | None:
    parts = name.split(".")
    while len(parts) > 2 and parts[-1] in _WRAPPERS:
        parts.pop()
    name = ".".join(parts)
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name.startswith((".env", "env.")) or name == "env":
        return "ini"
    if len(parts) > 1 and parts[-1] in _BY_EXTENSION:
        return _BY_EXTENSION[parts[-1]]
    # Dockerfile.dev, Makefile.am, ...
    return (
        _BY_NAME.get(parts[0])
        if len(parts) > 1 and parts[0] in {"dockerfile", "makefile", "jenkinsfile"}
        else None
    )


def _by_first_line(line: str) -> str | None:
    line = line[:200].lstrip("\ufeff")
    if line.startswith("#!"):
        return _by_shebang(line)
    if line.startswith("<?php"):
        return "php"
    if line.startswith("<?xml"):
        return "xml"
    if line.lower().startswith(("<!doctype html", "<html")):
        return "html"
    found = _MODELINE.search(line)
    if not found:
        return None
    mode = (found[1] or found[2]).lower()
    mode = {"c++": "cpp", "sh": "bash", "shell": "bash", "js": "javascript"}.get(mode, mode)
    return mode if mode in _EXTENSIONS else None


def _by_shebang(line: str) -> str | None:
    found = _SHEBANG.match(line)
    if not found:
        return None
    words = [found[1], *(found[2] or "").split()]
    if words[0].rsplit("/", 1)[-1] == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word] or [""]
    program = words[0].rsplit("/", 1)[-1].lower()
    return _BY_INTERPRETER.get(program) or _BY_INTERPRETER.get(program.rstrip("0123456789.-"))
