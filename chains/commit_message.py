"""A commit message for what is staged, in the style of the repository's last commits."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chains.prompts import prompt_text
from chains.reviewing.changes import read_change
from chains.types import Usage
from chains.writing.commit_style import Style, style_of, tidied
from chains.writing.replies import Fence
from indexers.errors import AgentError
from indexers.git import Repository
from indexers.redact import redact
from indexers.revisions import staged

if TYPE_CHECKING:
    from chains.reviewing.types import FileDiff

DEFAULT_CONTEXT_TOKENS = 1_200
_LOOKED_AT, _SHOWN = 40, 8
_MOST_MESSAGE = 4_000
_SUBJECT_TOKENS = 60
_STATUS = {"A": "new file", "D": "deleted", "R": "renamed", "C": "copied", "M": "changed", "T": "changed"}


@dataclass(frozen=True, slots=True)
class CommitMessage:
    """The message. `files` are the paths of the change, `unread` those whose lines the model was not shown."""

    text: str
    files: tuple[str, ...]
    unread: tuple[str, ...] = ()
    model: str = ""
    usage: Usage = field(default_factory=Usage)


def last_messages(repository: Repository, count: int = _LOOKED_AT) -> list[str]:
    """The messages of the last commits, newest first; none before the first commit."""
    if repository.head() is None:
        return []
    ids = repository.run("rev-list", "--no-merges", f"--max-count={count}", "HEAD").decode("ascii").split()
    if not ids:
        return []
    output = repository.run("cat-file", "--batch", stdin="".join(f"{name}\n" for name in ids).encode("ascii"))
    found, at = [], 0
    for _ in ids:
        end = output.index(b"\n", at)
        words = output[at:end].split(b" ")
        if len(words) != 3:  # a shallow clone ends somewhere
            at = end + 1
            continue
        size = int(words[2])
        body = output[end + 1 : end + 1 + size].partition(b"\n\n")[2]
        found.append(body[:_MOST_MESSAGE].decode("utf-8", "replace"))
        at = end + 1 + size + 1
    return found


def commit_message(
    repository: Repository, model: Any, *, context_tokens: int = DEFAULT_CONTEXT_TOKENS, index_file: str = ""
) -> CommitMessage:
    """A message for what is staged. Nothing is committed, and nothing is written.

    :param index_file: the index that git named to a hook; empty for the repository's own.
    :raises AgentError: nothing is staged.
    """
    started = time.monotonic()
    change = read_change(repository, staged(repository, index_file))
    paths = _paths(change)
    if not paths:
        raise AgentError(
            "Nothing is staged, so there is nothing to write a message for.", "Stage it: git add -p"
        )
    style = style_of(last_messages(repository))
    shown, unread = _shown(change.files, model, context_tokens)
    unread += [path for path in paths if path not in {file.path for file in change.files}]
    messages = _messages(style, shown, unread)
    text, usage = "", dict[str, Any]()
    for chunk in model.stream(messages, grammar=style.grammar(), max_tokens=_SUBJECT_TOKENS):
        text += chunk.text
        usage = dict(chunk.usage_metadata or usage)
    cached = int((usage.get("input_token_details") or {}).get("cache_read", 0) or 0)
    seconds = round(time.monotonic() - started, 3)
    cost = Usage(
        int(usage.get("input_tokens", 0)), cached, int(usage.get("output_tokens", 0)), 0.0, seconds, "stop"
    )
    return CommitMessage(tidied(text, style), tuple(paths), tuple(unread), usage=cost)


def _paths(change: Any) -> list[str]:
    listed = [*change.files, *change.unreviewed, *change.exempt]
    return list(dict.fromkeys(item.path for item in listed))


def _shown(files: Sequence[FileDiff], model: Any, budget: int) -> tuple[list[str], list[str]]:
    """The files of a change as the model reads them, smallest first while they fit; and the paths left out."""
    # Secrets are blacked out: a message may be read by many.
    key = os.urandom(16)
    shown: list[str] = []
    left: list[str] = []
    for file in sorted(files, key=_size):
        text = redact(_diff(file), key, file.path).text
        block = f"{file.path} ({_status(file)}):\n{Fence.around(text, 'diff').block(text)}"
        cost = model.count_tokens(block)
        if cost > budget:
            left.append(file.path)
            continue
        budget -= cost
        shown.append(block)
    return shown, left


def _status(file: FileDiff) -> str:
    word = _STATUS.get(file.status, "changed")
    return f"{word} from {file.old_path}" if file.old_path and file.old_path != file.path else word


def _size(file: FileDiff) -> int:
    return sum(len(hunk.added) + len(hunk.removed) for hunk in file.hunks)


def _diff(file: FileDiff) -> str:
    lines: list[str] = []
    for hunk in file.hunks:
        lines.append(f"@@ line {hunk.start} @@")
        lines += [f"-{line}" for line in hunk.removed]
        lines += [f"+{line}" for line in hunk.added]
    return "\n".join(lines) or "(no lines changed)"


def _messages(style: Style, shown: Sequence[str], unread: Sequence[str]) -> list[Any]:
    from langchain_core.messages import HumanMessage, SystemMessage

    parts = []
    if style.subjects:
        listed = "\n".join(f"- {subject}" for subject in style.subjects[:_SHOWN])
        parts.append(f"Earlier subjects:\n{listed}\n")
    parts += ["The change:", *shown]
    if unread:
        parts.append(f"Changed too, not shown: {', '.join(unread[:20])}")
    parts.append(f"Write the subject of its commit message: one line of at most {style.longest} characters.")
    return [SystemMessage(prompt_text("commit_message")), HumanMessage("\n".join(parts))]
