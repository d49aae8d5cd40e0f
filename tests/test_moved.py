"""Files that are moved or deleted while others go on importing them from where they were."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from test_checks import broken, diff

from chains.reviewing.types import FileDiff, Severity

MODULE = "def go_on(a):\n    return a\n"
SCRIPT = "export function goOn(a) { return a }\n"


def moved(old: str, new: str, text: str = MODULE) -> FileDiff:
    return diff(new, text, text, old_path=old, status="R")


@pytest.mark.parametrize(
    ("old", "new", "path", "text"),
    [
        ("pkg/old.py", "pkg/new.py", "app.py", "import os\nfrom pkg.old import go_on\n"),
        ("pkg/old.py", "pkg/new.py", "app.py", "import os\nimport pkg.old\n"),
        ("pkg/old.py", "pkg/new.py", "app.py", "import os\nfrom pkg import old\n"),
        ("pkg/old.py", "pkg/new.py", "pkg/app.py", "import os\nfrom .old import go_on\n"),
        ("pkg/old.py", "pkg/new.py", "pkg/app.py", "import os\nfrom . import old\n"),
        ("src/pkg/old.py", "src/other/old.py", "tests/t.py", "import os\nfrom pkg.old import go_on\n"),
        ("tools/old.py", "tools/new.py", "tools/run.py", "import os\nimport old\n"),
    ],
)
def test_a_module_imported_from_where_it_was(old: str, new: str, path: str, text: str) -> None:
    [item] = broken([moved(old, new)], {path: text, "pkg/__init__.py": ""})
    # One word may be a package that is installed.
    assert item.severity is (
        Severity.MEDIUM if text.endswith("import old\n") and "from" not in text else Severity.HIGH
    )
    assert f"{path}:2" in item.message and old in item.message


def test_a_script_imported_from_where_it_was() -> None:
    others = {"app.ts": "import a from 'a';\nimport { goOn } from './lib/old';\n"}
    [item] = broken([moved("lib/old.js", "lib/new.js", SCRIPT)], others)
    assert "app.ts:2" in item.message


def test_a_deleted_module_may_be_made_by_a_build_and_stops_nobody() -> None:
    [item] = broken(
        [diff("pkg/_of_build.py", "x = 1\n", None)], {"pkg/__init__.py": "from ._of_build import x\n"}
    )
    assert item.severity is Severity.MEDIUM


def test_a_deleted_module_whose_names_are_told_is_told_once() -> None:
    assert len(broken([diff("old.py", MODULE, None)], {"app.py": "from old import go_on\ngo_on(1)\n"})) == 1


@pytest.mark.parametrize(
    ("old", "new", "others"),
    [
        ("pkg/old.py", "pkg/new.py", {"app.py": "from pkg.new import go_on\n"}),
        ("pkg/old.py", "src/pkg/old.py", {"app.py": "from pkg.old import go_on\n"}),
        ("pkg/old.py", "pkg/old/__init__.py", {"app.py": "from pkg.old import go_on\n"}),
        ("pkg/old.py", "pkg/new.py", {"app.py": "from pkg.old import go_on\n", "pkg/old.pyi": "x: int\n"}),
        (
            "pkg/old.py",
            "pkg/new.py",
            {"app.py": "from pkg import old\n", "pkg/__init__.py": "old = 1\n"},
        ),
        ("pkg/old.py", "pkg/new.py", {"app.py": "try:\n    import pkg.old\nexcept ImportError:\n    pass\n"}),
        ("mine/requests.py", "mine/web.py", {"app.py": "import requests\n"}),
        ("a/b/pkg/old.py", "a/b/pkg/new.py", {"app.py": "from pkg.old import go_on\n"}),
        ("pkg/old.py", "pkg/new.py", {"app.js": "import { x } from './pkg/old';\n"}),
    ],
)
def test_imports_that_find_something(old: str, new: str, others: Mapping[str, str]) -> None:
    assert broken([moved(old, new)], others) == []


def test_scripts_that_find_something() -> None:
    others = {"app.js": "import { goOn } from './lib';\n", "lib/index.ts": SCRIPT}
    assert broken([moved("lib.js", "other.js", SCRIPT)], others) == []
    assert broken([moved("old.js", "new.js", SCRIPT)], {"app.js": "import { goOn } from 'old';\n"}) == []


@pytest.mark.parametrize(
    ("path", "before", "others"),
    [
        ("pkg/_version.py", "x = 1\n", {"pkg/__init__.py": "from ._version import x\n"}),
        ("logging.py", MODULE, {"app.py": "import logging\n"}),
        ("app/yaml.py", MODULE, {"app/b.py": "import yaml\n", "app/__init__.py": ""}),
        ("pkg/old.py", MODULE, {"app.py": "with suppress(ImportError):\n    import pkg.old\n"}),
        ("pkg/__init__.py", "", {"app.py": "from pkg import mod\n", "pkg/mod.py": MODULE}),
        ("src/App.js", SCRIPT, {"src/index.js": "import s from './App.css';\n", "src/App.css": ""}),
        (
            "src/user.service.ts",
            SCRIPT,
            {"src/a.ts": "import {C} from './user.controller';\n", "src/user.controller.ts": ""},
        ),
        ("old.js", SCRIPT, {"app.js": "// import old from './old'\n/* import old from './old' */\n"}),
    ],
)
def test_what_is_deleted_and_nobody_misses(path: str, before: str, others: Mapping[str, str]) -> None:
    assert broken([diff(path, before, None)], others) == []


def test_a_moved_file_takes_its_own_imports_along() -> None:
    text = "import os\nfrom .near import x\nfrom ..far import y\nfrom . import z\n"
    tree = {"a/near.py": "x = 1\n", "far.py": "y = 1\n", "b/__init__.py": "z = 1\n", "a/z.py": ""}
    [item] = broken([moved("a/m.py", "b/m.py", text)], tree)
    assert item.line == 2 and "b/m.py:2." in item.message and item.severity is Severity.HIGH
    [item] = broken(
        [moved("a/m.js", "b/c/m.js", "import x from './near';\nimport y from '../far';\n")],
        {"a/near.js": "", "far.js": ""},
    )
    assert "b/c/m.js:1, b/c/m.js:2" in item.message
    assert (
        broken(
            [moved("a/m.js", "b/m.js", "import x from './near';\n"), moved("a/near.js", "b/near.js", SCRIPT)],
            {},
        )
        == []
    )
