"""What a person may ask to be pulled: a name of the catalogue, a file of a model hub, an address of the web."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from agent.catalogue import CatalogueEntry, catalogue_entry
from agent.download import RemoteFile
from agent.web import file_name
from indexers.errors import DownloadError, ModelError

_REPO = re.compile(r"^(?:hf\.co/|hf://)?(?P<repo>[\w.-]+/[\w.-]+?)(?::(?P<quant>[\w.-]+)|/(?P<file>.+))?$")
# The addresses of files that people copy from a hub's pages.
_PAGE = re.compile(r"^/(?P<repo>[^/]+/[^/]+)/(?:resolve|blob)/(?P<revision>[^/]+)/(?P<file>.+)$")
_HUBS = ("huggingface.co", "hf.co", "hf-mirror.com")
# What becomes a directory: never hidden, never one above.
_HOST = re.compile(r"^[a-z0-9][a-z0-9.-]*$")
_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True, slots=True)
class Source:
    """Files to fetch, the first of them the model, and where they go below the directory of models."""

    label: str
    files: tuple[RemoteFile, ...]
    folder: str = ""
    described: str = ""


def source_of(wanted: str, entries: Sequence[CatalogueEntry] | None = None) -> Source | None:
    """What `wanted` means; None when it is neither known by name nor an address.

    :raises DownloadError: the hub cannot be asked, or has no such file; an address of something else.
    """
    if "://" in wanted and not wanted.startswith("hf://"):
        return _from_address(wanted)
    entry = catalogue_entry(wanted, entries)
    if entry is not None:
        return Source(entry.name, (entry.remote,), "", f"hub:{entry.hf_repo}/{entry.hf_file}")
    match = _REPO.match(wanted)
    if match is None:
        return None
    repo, file = match["repo"], match["file"]
    if file is None:
        return _chosen(repo, match["quant"] or "")
    if not file.lower().endswith(".gguf"):
        raise ModelError(f"{file} is no GGUF file.", f"Name one: agent models pull {repo}/FILE.gguf")
    return _from_hub(repo, file)


def _from_address(url: str) -> Source:
    parts = urlsplit(url)
    page = _PAGE.match(parts.path)
    if parts.hostname in _HUBS and page is not None:
        # The hub's own protocol knows hashes and resumes by them.
        return _from_hub(page["repo"], unquote(page["file"]), unquote(page["revision"]))
    name = file_name(url)
    remote = RemoteFile(name, None, None, url=url)
    host = parts.hostname or ""
    folder = host if _HOST.match(host) else "web"
    return Source(name.removesuffix(".gguf"), (remote,), folder, url.partition("?")[0])


def _from_hub(repo: str, file: str, revision: str = "") -> Source:
    """One file of a hub's repository, or all parts of a split one."""
    if any(part.startswith(".") or not part for part in f"{repo}/{file}".split("/")):
        raise ModelError(f"{repo}/{file} is no file of a repository.", "Name one: OWNER/REPO/FILE.gguf")
    split = _SPLIT.search(file)
    names = [file]
    if split:
        count = int(split[2])
        names = [f"{file[: split.start()]}-{n:05}-of-{count:05}.gguf" for n in range(1, min(count, 999) + 1)]
    remote = [
        RemoteFile(name.rpartition("/")[2], None, None, repo, name, revision=revision or None)
        for name in names
    ]
    label = remote[0].name.removesuffix(".gguf")
    return Source(label, tuple(remote), repo, f"hub:{repo}/{file}")


def _chosen(repo: str, quant: str) -> Source:
    """The file of a repository in the quantisation named, else in the recommended one."""
    files = [
        name for name in hub_files(repo) if name.lower().endswith(".gguf") and "mmproj" not in name.lower()
    ]
    if not files:
        raise DownloadError(
            f"The repository {repo} holds no GGUF file.", "Look for one whose name ends in -GGUF."
        )
    wanted = (quant or "Q4_K_M").lower()
    fitting = [name for name in files if re.search(rf"[-._/]{re.escape(wanted)}(?:[-.]|$)", name.lower())]
    if not fitting and not quant and len(files) == 1:
        fitting = files
    if not fitting:
        near = difflib.get_close_matches(wanted, files, n=6, cutoff=0.0)
        raise DownloadError(
            f"The repository {repo} has no file in {quant or 'Q4_K_M'}.",
            f"Name one of its files: {', '.join(f'{repo}/{name}' for name in near)}",
        )
    # A whole file is taken before a split one.
    return _from_hub(repo, min(fitting, key=lambda name: (_SPLIT.search(name) is not None, name)))


def hub_files(repo: str) -> list[str]:
    """The names of all files of a repository, asked of the hub.

    :raises DownloadError: it cannot be reached, or has no such repository for us.
    """
    from agent.download import hub_answer

    return hub_answer(repo, lambda hub: list(hub.HfApi().list_repo_files(repo)))


def nearest(repo: str, file: str) -> str:
    """Names in a repository that are like the one it does not have; empty when it cannot be asked."""
    try:
        files = [name for name in hub_files(repo) if name.lower().endswith(".gguf")]
    except DownloadError:
        return ""
    near = difflib.get_close_matches(file, files, n=3, cutoff=0.3)
    return f"It has: {', '.join(near or files[:3])}" if files else ""


def with_hash(source: Source, sha256: str) -> Source:
    """The same, to be checked against a hash that the user has.

    :raises ModelError: it is none, or the source has several files.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256) or len(source.files) != 1:
        raise ModelError("--sha256 takes the 64 hexadecimal digits of one file's hash.")
    known = source.files[0].sha256
    if known is not None and known != sha256.lower():
        raise ModelError(f"The catalogue knows another SHA-256 of {source.files[0].name}: {known}.")
    return replace(source, files=(replace(source.files[0], sha256=sha256.lower()),))
