"""The tool as real processes on one repository, and a judge of what they answer."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from soak_tree import Tree

ROOT = Path(__file__).parents[2]
AGENT = (sys.executable, "-c", "import sys; from agent.cli import main; sys.exit(main())")
# Far more than anything may take on a busy machine: a hang is a fault.
PATIENCE = 300.0
# How long commands that were begun may go on before they are killed.
LINGER = 40.0
MOST_RUNNING = 3
FINE, BUSY = 0, 75
_HITS = 8
# Stays open for the whole run, as a notebook does.
_READER = """
import json, sys
from dataclasses import asdict
from agent import Agent
from indexers.errors import AgentError
agent = Agent.open(sys.argv[1])
for line in sys.stdin:
    try:
        hits = agent.search(json.loads(line), 8)
        found = {"hits": [asdict(hit) for hit in hits], "absent": list(hits.absent)}
    except AgentError as error:
        found = {"error": str(error), "code": error.exit_code}
    found["notes"], agent.notes = agent.notes, []
    print(json.dumps(found), flush=True)
"""
_MARK = re.compile(r"REDACTED:")
_DIGEST = re.compile(r"(REDACTED:[^:\s]+:)[0-9a-f]{8}")
# Said where an answer is knowingly not from the tree as it is.
_BEHIND = "Answered from what is indexed so far"


class Failed(Exception):
    """The tool did something that it must never do."""


class Tool:
    """Commands on the repository at `root`, with an AGENT_HOME below `into`; `killed` says what was killed."""

    def __init__(self, root: Path, into: Path, embedder: str) -> None:
        self.root, self.name = root, root.name
        self.killed: list[str] = []
        self._into = into
        self._home = into / "home"
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._reader: subprocess.Popen[str] | None = None
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGENT_", "GIT_"))}
        self._environment = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "AGENT_HOME": str(self._home),
            "AGENT_EMBEDDER": embedder,
        }
        if not self._home.exists():
            self._home.mkdir(mode=0o700)
            models = Path(os.environ.get("AGENT_HOME", "")) / "models"
            if embedder == "minilm":
                (self._home / "models").mkdir(mode=0o700)
                for model in models.resolve(strict=True).iterdir():
                    (self._home / "models" / model.name).symlink_to(model)

    # -- running it ------------------------------------------------------------------------------

    def call(
        self,
        *arguments: str,
        allowed: tuple[int, ...] = (FINE, BUSY),
        patience: float = PATIENCE,
        **variables: str,
    ) -> dict[str, Any]:
        """A command with --json, run to its end; its object, with `code`, `notes` and `seconds`."""
        begun = time.monotonic()
        try:
            done = subprocess.run(
                [*AGENT, arguments[0], "--json", "--repo", str(self.root), *arguments[1:]],
                env={**self._environment, **variables},
                capture_output=True,
                timeout=patience,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"{arguments[0]} did not end within {patience:.0f} s") from None
        said = done.stderr.decode(errors="replace")
        if done.returncode not in allowed or "Traceback" in said:
            raise Failed(f"{' '.join(arguments)} ended with {done.returncode}: {said[-1500:]}")
        found: dict[str, Any] = json.loads(done.stdout)
        notes = [line for line in said.splitlines() if line.strip()]
        return {**found, "code": done.returncode, "said": notes, "seconds": time.monotonic() - begun}

    def begin(self, *arguments: str) -> None:
        """Start a command and leave it to itself."""
        self._reap()
        if len(self._running) >= MOST_RUNNING:
            return
        log = (self._into / "commands.log").open("ab")
        with log:
            process = subprocess.Popen(
                [*AGENT, *arguments, "--repo", str(self.root)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self._running.append((arguments[0], process))

    def _reap(self) -> None:
        for what, process in list(self._running):
            code = process.poll()
            if code is not None:
                self._running.remove((what, process))
                # 2: the tree moved under it in a way that leaves nothing to read, and it says so.
                if code not in (FINE, BUSY, -signal.SIGKILL):
                    raise Failed(f"{what} beside others ended with {code}: see commands.log")

    def wait_for_running(self, seconds: float = LINGER) -> None:
        """Until every command that was begun has ended; one that makes thousands of vectors is killed then."""
        end = time.monotonic() + seconds
        for _, process in self._running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, end - time.monotonic()))
        self.kill_running()

    # -- killing it ------------------------------------------------------------------------------

    def kill_running(self) -> None:
        """End whatever was begun, at once."""
        for what, process in self._running:
            if process.poll() is None:
                process.kill()
                process.wait()
                self.killed.append(what)
        self._reap()

    def kill_worker(self) -> None:
        """End the worker in the background, if there is one and it is ours."""
        now = self.call("status").get("embedding")
        pid = int(now["pid"]) if now else 0
        ours = os.fsencode(self._home).hex().encode()
        try:
            if pid and ours in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                self.killed.append("worker")
        except OSError:
            return  # it has just ended

    def kill_reader(self) -> None:
        """End the reader that has been open for long."""
        if self._reader is not None:
            self._reader.kill()
            self._reader.communicate()
            self._reader = None
            self.killed.append("reader")

    def close(self) -> None:
        """Let everything come to its end."""
        self.wait_for_running()
        self.call("index", "--stop")
        if self._reader is not None:
            self._reader.communicate(timeout=PATIENCE)
            self._reader = None

    # -- searching -------------------------------------------------------------------------------

    def search(self, query: str, *, by_reader: bool) -> dict[str, Any]:
        """What a search finds, by a process of its own or by the reader."""
        if not by_reader:
            found = self.call("search", "-k", str(_HITS), "--", query)
            hits = [{**hit, "path": _as_on_disk(hit["path"])} for hit in found.get("hits", [])]
            return {**found, "hits": hits}
        begun = time.monotonic()
        if self._reader is None:
            self._reader = subprocess.Popen(
                [sys.executable, "-c", _READER, str(self.root)],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=(self._into / "commands.log").open("ab"),
                text=True,
            )
        reader = self._reader
        assert reader.stdin is not None and reader.stdout is not None
        reader.stdin.write(json.dumps(query) + "\n")
        reader.stdin.flush()
        if not select.select([reader.stdout], [], [], PATIENCE)[0]:
            raise Failed(f"the reader did not answer within {PATIENCE:.0f} s")
        line = reader.stdout.readline()
        if not line:
            code = reader.wait()
            self._reader = None
            raise Failed(f"the reader ended with {code}: see commands.log")
        found = json.loads(line)
        if "error" in found and found["code"] != BUSY:
            raise Failed(f"the reader: {found['error']}")
        code = found.get("code", FINE)
        return {
            "hits": [],
            **found,
            "code": code,
            "said": found["notes"],
            "seconds": time.monotonic() - begun,
        }

    def stored(self, home: Path) -> dict[str, list[tuple[object, ...]]]:
        """All files and chunks of the index of this repository below `home`, without what is random in them."""
        for path in home.glob("cache/index/*/ledger.sqlite"):
            with closing(sqlite3.connect(path)) as db:
                root = db.execute("SELECT value FROM meta WHERE key = 'root'").fetchone()
                if root is None or bytes.fromhex(root[0]) != os.fsencode(self.root.resolve()):
                    continue
                files = "SELECT path, blob, language, coalesce(skip, ''), detail, redactions FROM files"
                chunks = (
                    "SELECT f.path, c.start_line, c.end_line, c.text, c.scope, c.symbols"
                    " FROM chunks c JOIN files f ON f.id = c.file_id"
                )
                return {
                    "files": sorted(db.execute(files)),
                    "chunks": sorted(
                        (*row[:3], _DIGEST.sub(r"\1", row[3]), *row[4:]) for row in db.execute(chunks)
                    ),
                }
        raise Failed(f"there is no index of {self.root} below {home}")

    def scratch(self) -> dict[str, list[tuple[object, ...]]]:
        """The same of an index made anew, in a home of its own."""
        home = self._into / "scratch"
        home.mkdir(mode=0o700)
        try:
            self.call("index", AGENT_HOME=str(home), AGENT_EMBEDDER="none")
            return self.stored(home)
        finally:
            shutil.rmtree(home)

    def own(self) -> dict[str, list[tuple[object, ...]]]:
        """The same of the index in use."""
        return self.stored(self._home)


def _as_on_disk(path: str) -> str:
    """The path that stands in JSON with bytes that are no text written out, as Python names the file."""
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), path.encode())
    return os.fsdecode(raw)


class Judge:
    """Compares what the tool finds in a tree with the tree. `seen` counts, `faults` are what must never happen."""

    def __init__(self, tree: Tree, tool: Tool) -> None:
        self.tree, self._tool = tree, tool
        self.seen: Counter[str] = Counter()
        self.faults: list[str] = []
        self.notes: list[str] = []
        self.seconds: list[float] = []

    def _search(self, query: str, by_reader: bool) -> dict[str, Any] | None:
        """A search that may be judged; None for one that said it is behind, or busy."""
        found = self._tool.search(query, by_reader=by_reader)
        self.seconds.append(found["seconds"])
        self.seen["searches by the reader" if by_reader else "searches"] += 1
        self.notes += found["said"]
        if found["code"] == BUSY or any(_BEHIND in note for note in found["said"]):
            self.seen["searches that said they are behind or busy"] += 1
            return None
        self._lines_are_those_of_the_disk(found["hits"], query)
        return found

    def _lines_are_those_of_the_disk(self, hits: list[dict[str, Any]], query: str) -> None:
        for hit in hits:
            self.seen["hits"] += 1
            place = f"{hit['path']}:{hit['start_line']}-{hit['end_line']} for {query!r}"
            lines = self.tree.lines(hit["path"])
            if lines is None:
                self.faults.append(f"a hit in a file that is not there: {place}")
                continue
            if hit["path"].endswith(".ipynb"):
                continue  # shown by its cells, not by its JSON
            there = "\n".join(lines[hit["start_line"] - 1 : hit["end_line"]]).rstrip("\n").split("\n")
            shown = hit["text"].rstrip("\n").split("\n")
            same = len(there) == len(shown) and all(
                a == b or _MARK.search(b) for a, b in zip(there, shown, strict=True)
            )
            if not same:
                self.faults.append(f"other lines than on the disk: {place}")

    def words(self, words: list[str], *, by_reader: bool) -> None:
        """Each word is found where it stands now, and nowhere else."""
        where = self.tree.where(words)
        for word, paths in where.items():
            found = self._search(word, by_reader)
            if found is None:
                continue
            holding = {hit["path"] for hit in found["hits"] if word in hit["text"]}
            if holding - paths:
                self.faults.append(f"a stale hit: {word} in {sorted(holding - paths)}")
            if not paths:
                self.seen["words that are gone"] += 1
            elif holding:
                self.seen["words found"] += 1
            elif self._is_left_out(paths):
                self.seen["words in files that are left out"] += 1
            else:
                how = "the reader" if by_reader else "search"
                self.faults.append(f"{how} does not find {word}, which stands in {sorted(paths)}")

    def _is_left_out(self, paths: set[str]) -> bool:
        """Whether the tool has told a reason for each of these files."""
        inside = [str(self.tree.root / path) for path in sorted(paths)]
        found = self._tool.call("index", "--explain", *inside)
        return all(item["state"] in ("skipped", "ignored") and item["reason"] for item in found["paths"])

    def phrase(self, query: str, *, by_reader: bool) -> None:
        """Whatever is found for a few words of some file stands there."""
        self._search(query, by_reader)

    def check(self) -> None:
        """The index is sound; a Chroma left open by a kill is mended by the next `agent index`."""
        self._tool.wait_for_running()
        found = self._tool.call("index", "--check", allowed=(FINE, 2, BUSY))
        self.seen["checks"] += 1
        if found["code"] == BUSY:
            self.seen["checks that found it busy"] += 1
            return
        faults = found["faults"]
        if faults and all(fault["part"] == "chroma" and fault["remedy"] == "agent index" for fault in faults):
            self.seen["checks that found Chroma left open"] += 1
            self._tool.call("index", patience=10 * PATIENCE)
            faults = self._tool.call("index", "--check", allowed=(FINE, 2, BUSY)).get("faults", [])
        self.faults += [f"check: {fault}" for fault in faults]

    def equals_one_from_scratch(self) -> None:
        """The index that followed the tree holds what one made of it now holds."""
        # Whatever vectors are still to come are made now.
        self._tool.call("index", patience=10 * PATIENCE)
        ours, theirs = self._tool.own(), self._tool.scratch()
        for part, rows in theirs.items():
            if ours[part] != rows:
                odd = [row for row in ours[part] if row not in rows][:2] + [
                    row for row in rows if row not in ours[part]
                ][:2]
                self.faults.append(f"{part} differ from an index made from scratch: {odd!r:.600}")
        self.seen["compared with one from scratch"] += 1
