"""What writing reads of a repository: hits, bytes as they are now, names, and copies to try a draft in."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from chains.writing.edits import FileState
from chains.writing.jail import state_of
from indexers.filters import EVERYTHING, Filter
from indexers.git import GITLINK, Repository

if TYPE_CHECKING:
    from indexers.relations import Relations
    from indexers.types import Hit

_MOST_NAMES, _MOST_PLACES = 8, 4


@dataclass
class Material:
    """A repository as the machine that writes sees it. It only reads.

    :param search: the best hits for a request, and whether anything is about it at all.
    :param relations: who defines what; None where there is no index.
    :param only: the files that may be changed or added.
    :param environment: what the user's commands run with.
    :param local: the model is in this process.
    """

    repository: Repository
    search: Callable[[str], tuple[Sequence[Hit], bool]]
    relations: Relations | None = None
    only: Filter = EVERYTHING
    environment: Mapping[str, str] = field(default_factory=dict)
    local: bool = True

    @property
    def root(self) -> Path:
        """The top of the work tree."""
        return self.repository.root

    @cached_property
    def paths(self) -> Collection[str]:
        """Every file that git tracks or does not ignore."""
        return {file.path: None for file in self.repository.list_files() if file.mode != GITLINK}.keys()

    def read(self, path: str) -> FileState | None:
        """A file as it is now; see `jail.state_of`."""
        return state_of(self.root, path)

    def defining(self, names: Sequence[str]) -> list[str]:
        """The files that define names of a request, each of which is defined in few places."""
        if self.relations is None:
            return []
        found: dict[str, None] = {}
        for name in names[:_MOST_NAMES]:
            places = self.relations.definitions_of(name)
            if len(places) <= _MOST_PLACES:
                found.update(dict.fromkeys(place.path for place in places))
        return list(found)

    def sees(self, path: str, name: str) -> bool:
        """Whether a file has a name of this repository without importing it: in Go, of its own directory."""
        if self.relations is None:
            return True
        here = path.rpartition("/")[0]
        return path.endswith(".go") and any(
            place.path.rpartition("/")[0] == here for place in self.relations.definitions_of(name)
        )

    def has_name(self, path: str, item: str) -> bool:
        """Whether a module of this repository has a name, given as "module:name" by the file at `path`.

        True also where the module is not of this repository, or may make names while it runs.
        """
        module, _, name = item.partition(":")
        file = self._module_file(path, module)
        if file is None:
            return not module.startswith(".") or self._is_there(path, module)
        if self._module_file(path, f"{module}.{name}" if not module.endswith(".") else module + name):
            return True
        state = self.read(file)
        text = state.data.decode("utf-8", "replace") if state else ""
        return re.search(rf"\b{re.escape(name)}\b|import \*|__getattr__|globals\(\)", text) is not None

    def _is_there(self, path: str, module: str) -> bool:
        """Whether something that git does not list can be what a relative module means: built, or compiled."""
        dots = len(module) - len(module.lstrip("."))
        place = self.root.joinpath(*path.split("/")[:-dots], *module[dots:].split(".")[:-1])
        name = module.rpartition(".")[2]
        try:
            return not name or any(found.name.partition(".")[0] == name for found in place.iterdir())
        except OSError:
            return False

    def _module_file(self, path: str, module: str) -> str | None:
        dots = len(module) - len(module.lstrip("."))
        parts = [part for part in module[dots:].split(".") if part]
        if dots:
            base = path.split("/")[:-dots]
            return self._existing("/".join([*base, *parts]))
        ends = "/".join(parts)
        for prefix in ("", "src/", "lib/"):
            found = self._existing(prefix + ends)
            if found:
                return found
        return None

    def _existing(self, stem: str) -> str | None:
        names = (f"{stem}.py", f"{stem}/__init__.py") if stem else ("__init__.py",)
        return next((name for name in names if name in self.paths), None)
