"""Uses the tool on several repositories while they are edited, switched and killed, and judges every answer.

    python tests/benchmarks/soak.py GIT_DIRECTORY... --into DIR --minutes 60 [--seed 1] [--embedder minilm|hash]

Each repository is cloned below DIR, and DIR is AGENT_HOME too; the models that are installed are linked there. A step
changes a tree (edit, rename, delete, branch, stash, revert, ...), often while commands of ours run, and kills some of
them, or the worker in the background, by SIGKILL. After each step real searches are judged, by a process of their own
and by a reader that has been open since long:

- the text of every hit is that of the file's lines on the disk, at the numbers it names;
- a word written a moment ago is found, where it stands;
- a word that is gone is found nowhere;
- from time to time `agent index --check` finds nothing wrong, and at the end the index equals one made from scratch.

One JSON line a step goes to DIR/steps.jsonl, the summary to stdout. The exit code is 1 when there was a fault.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import reporting
from soak_tool import Failed, Judge, Tool
from soak_tree import Tree

# Steps between two checks of a repository's whole index.
CHECK_EVERY = 12
WORDS_EACH_STEP = 2
# Of the steps, those that also start a search as a process of its own.
SHARE_ALONE = 0.4


class Soak:
    """Five or so repositories, the tool, and what has been seen so far."""

    def __init__(self, sources: list[Path], into: Path, seed: int, embedder: str) -> None:
        self.chance = random.Random(seed)
        self.started = time.monotonic()
        self.tools: list[Tool] = []
        self.judges: list[Judge] = []
        for source in sources:
            name = source.parent.name if source.name in (".git", "repo") else source.stem
            tree = Tree(source, into / "repos" / name, self.chance)
            tool = Tool(tree.root, into, embedder)
            self.tools.append(tool)
            self.judges.append(Judge(tree, tool))
        self.log = (into / "steps.jsonl").open("w", encoding="utf-8")
        self.counts: Counter[str] = Counter()
        self.first_search: dict[str, float] = {}
        self.faults: list[str] = []

    def step(self, number: int) -> None:
        """One change, perhaps with commands running meanwhile and killed, and what is found afterwards."""
        begun = time.monotonic()
        at = (
            number % len(self.judges)
            if number < len(self.judges)
            else self.chance.randrange(len(self.judges))
        )
        judge, tool = self.judges[at], self.tools[at]
        known = len(judge.tree.words)
        new = tool.name not in self.first_search
        actions = [] if new else self._disturb(judge, tool)
        try:
            self._look(judge, known, new)
            if not new and self.chance.random() < 1 / CHECK_EVERY:
                actions.append("check")
                judge.check()
        except Failed as failed:
            judge.faults.append(str(failed))
        seconds = time.monotonic() - begun
        if new and judge.seconds:
            self.first_search[tool.name] = judge.seconds[0]
        line = {
            "step": number,
            "at": round(begun - self.started, 1),
            "repository": tool.name,
            "actions": actions,
            "killed": tool.killed,
            "searches": [round(each, 2) for each in judge.seconds],
            "notes": judge.notes,
            "faults": judge.faults,
            "seconds": round(seconds, 2),
        }
        self.log.write(json.dumps(line) + "\n")
        self.log.flush()
        self._count(judge, tool, actions)

    def _count(self, judge: Judge, tool: Tool, actions: list[str]) -> None:
        self.counts["steps"] += 1
        self.counts.update(f"action {action}" for action in actions)
        self.counts.update(f"killed {what}" for what in tool.killed)
        self.counts.update(judge.seen)
        self.faults += [f"{tool.name}: {fault}" for fault in judge.faults]
        for what in (judge.faults, judge.notes, judge.seconds, tool.killed):
            what.clear()
        judge.seen.clear()

    def _disturb(self, judge: Judge, tool: Tool) -> list[str]:
        """Change the tree once or several times; in most steps with commands of ours running beside it."""
        actions = []
        if self.chance.random() < 0.45:
            command = self.chance.choice(
                [["index"], ["index"], ["index", "--background"], ["search", "main"]]
            )
            actions.append(" ".join(command))
            tool.begin(*command)
            time.sleep(self.chance.random() * 1.5)
        for _ in range(self.chance.choice([1, 1, 1, 2, 4])):
            actions.append(judge.tree.change())
        draw = self.chance.random()
        if draw < 0.35:
            time.sleep(self.chance.random() * 2)
            tool.kill_running()
        elif draw < 0.45:
            tool.kill_worker()
        elif draw < 0.5:
            tool.kill_reader()
        if self.chance.random() < 0.7:
            tool.wait_for_running()
        return actions

    def _look(self, judge: Judge, known: int, new: bool) -> None:
        """Searches for what is new, what is old and what is gone."""
        words = judge.tree.words
        fresh = words[known:]
        asked = fresh[-WORDS_EACH_STEP:]
        if words:
            asked += self.chance.sample(words, min(WORDS_EACH_STEP, len(words)))
        # A process of its own costs a second, the reader next to nothing.
        alone = 1 if new or self.chance.random() < SHARE_ALONE else 0
        judge.words(asked[:alone], by_reader=False)
        judge.words(asked[alone:], by_reader=True)
        for _ in range(2):
            judge.phrase(judge.tree.a_phrase(), by_reader=not new)
        if self.chance.random() < SHARE_ALONE / 2:
            judge.phrase(judge.tree.a_phrase(), by_reader=False)

    def end(self) -> None:
        """Let everything finish, then judge each index as a whole."""
        for judge, tool in zip(self.judges, self.tools, strict=True):
            try:
                tool.close()
                judge.check()
                judge.equals_one_from_scratch()
            except Failed as failed:
                judge.faults.append(str(failed))
            self._count(judge, tool, ["last check"])
        self.log.close()

    def summary(self, searches: list[float]) -> dict[str, object]:
        """What there was, for the results directory."""
        ordered = sorted(searches) or [0.0]
        return {
            **reporting.machine(),
            "minutes": round((time.monotonic() - self.started) / 60, 1),
            "repositories": {tool.name: self.first_search.get(tool.name) for tool in self.tools},
            "counts": dict(sorted(self.counts.items())),
            "kills": sum(count for what, count in self.counts.items() if what.startswith("killed")),
            "search_seconds": {
                "median": ordered[len(ordered) // 2],
                "p95": ordered[len(ordered) * 95 // 100],
                "longest": ordered[-1],
            },
            "faults": self.faults,
        }


def main() -> int:
    """Soak, and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", type=Path, metavar="GIT_DIRECTORY")
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--embedder", default="minilm")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.into.mkdir(parents=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    soak = Soak([source.resolve() for source in args.sources], args.into.resolve(), args.seed, args.embedder)
    number = 0
    try:
        while time.monotonic() - soak.started < args.minutes * 60:
            soak.step(number)
            number += 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    soak.end()
    searches = [
        each
        for line in (args.into / "steps.jsonl").read_text(encoding="utf-8").splitlines()
        for each in json.loads(line)["searches"]
    ]
    report = soak.summary(searches)
    print(json.dumps(report, indent=1))
    reporting.write(args.out, report)
    return 1 if soak.faults else 0


if __name__ == "__main__":
    sys.exit(main())
