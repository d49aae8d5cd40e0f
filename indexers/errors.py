"""The root of the one error tree: every error a person should see, with its exit code and its remedy.

AgentError                     2   anything we expected could go wrong
+-- UsageError                 2   a wrong argument or setting
+-- RepositoryError            2   not a repository, unreadable, foreign-owned, bare content
+-- IndexStateError            2   the index is newer than us, another program's, or cannot be built
|   +-- IndexDamaged           2   what is on disk cannot be read; it is a cache and may be built anew
+-- StorageError               2   the disk is full, or fails; what is stored is not to blame
+-- BusyError                  75  another process holds what we need
+-- ModelError                 2   a model or embedder is missing, unreadable, too big
|   +-- ContextTooSmall        2   the prompt cannot fit the model's context window
+-- DownloadError              2   a file could not be fetched or did not verify
"""

from __future__ import annotations


class AgentError(Exception):
    """An expected failure: what happened, and the command that mends it.

    :param message: what happened and where we looked, one sentence or two.
    :param remedy: what to do about it; shown on its own line. Empty when nothing can be done.
    """

    exit_code = 2

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n{self.remedy}" if self.remedy else self.message


class UsageError(AgentError):
    """A wrong argument or setting."""


class RepositoryError(AgentError):
    """The repository cannot be used: not one, unreadable, or owned by somebody else."""


class IndexStateError(AgentError):
    """The index on disk is newer than this program, belongs to another, or cannot be built."""


class IndexDamaged(IndexStateError):
    """The index on disk cannot be read. It is a cache: building it anew loses nothing but time."""


class StorageError(AgentError):
    """The disk is full, or fails to read or write. What is stored may be whole and must not be dropped for it."""


class BusyError(AgentError):
    """Another process holds the index for longer than we may wait."""

    exit_code = 75


class ModelError(AgentError):
    """A language or embedding model is missing, unreadable or does not fit."""


class ContextTooSmall(ModelError):
    """The question and its instructions do not fit the model's context window."""


class DownloadError(AgentError):
    """A file could not be fetched, or what arrived is not what was promised."""
