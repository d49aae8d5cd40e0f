"""All files as a revision has them, for whoever looks beyond the lines that changed."""

from __future__ import annotations

from collections.abc import Sequence

from chains.reviewing.checks.uses import Tree
from chains.reviewing.types import FileDiff
from indexers.blobs import blobs_at, holding, read_blobs
from indexers.errors import RepositoryError
from indexers.files import text_of
from indexers.git import Repository
from indexers.revisions import Revision
from indexers.tokens import whole_word

_MAX_FILE_BYTES, _MAX_BYTES = 400_000, 8_000_000


class RevisionTree:
    """The files of one revision, read from git's object database and kept."""

    def __init__(self, repository: Repository, revision: Revision) -> None:
        self._repository = repository
        self._revision = revision
        self._holding: dict[str, tuple[str, ...]] = {}
        self._texts: dict[str, str | None] = {}

    def holding(self, word: str) -> tuple[str, ...]:
        """The paths of files in which a word stands; none where git cannot look."""
        if word not in self._holding:
            try:
                self._holding[word] = tuple(holding(self._repository, self._revision, word))
            except RepositoryError:  # a partial clone lacks blobs, and nothing is fetched
                self._holding[word] = ()
        return self._holding[word]

    def texts(self, paths: Sequence[str]) -> dict[str, str]:
        """The texts of files, without those that are none, are absent or too long."""
        new = [path for path in paths if path not in self._texts]
        if new:
            ids = blobs_at(self._repository, self._revision, new)
            blobs = read_blobs(self._repository, ids.values(), each=_MAX_FILE_BYTES, total=_MAX_BYTES)
            for path in new:
                data = blobs.data.get(ids.get(path, ""))
                text = text_of(data) if data is not None else None
                self._texts[path] = text if isinstance(text, str) else None
        return {path: text for path in paths if (text := self._texts[path]) is not None}


class PatchedTree:
    """The files of a tree as a patch would leave them; what the patch does not fit stays as it is."""

    def __init__(self, tree: Tree, files: Sequence[FileDiff]) -> None:
        self._tree = tree
        fitting = [file for file in files if file.whole]
        gone = {file.old_path or file.path: None for file in fitting if file.status in ("D", "R")}
        self._changed: dict[str, str | None] = {**gone, **{file.path: file.after for file in fitting}}

    def holding(self, word: str) -> list[str]:
        """The paths of files in which a word stands."""
        whole = whole_word(word)
        others = [path for path in self._tree.holding(word) if path not in self._changed]
        return sorted(
            [*others, *(path for path, text in self._changed.items() if text and whole.search(text))]
        )

    def texts(self, paths: Sequence[str]) -> dict[str, str]:
        """The texts of files, without those that are none, are absent or too long."""
        found = dict(self._tree.texts([path for path in paths if path not in self._changed]))
        changed = {path: text for path in paths if (text := self._changed.get(path)) is not None}
        return {**found, **changed}
