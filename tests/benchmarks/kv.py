"""Measures what reading nothing twice saves: the time to the first token, in new processes, against a full prefill.

    python tests/benchmarks/kv.py --model FILE.gguf --repo DIR [--first N --last N] [--rounds 3] [--out FILE]
    python tests/benchmarks/kv.py --model FILE.gguf --repo DIR --replay QUESTIONS [--reading fast]
        [--out FILE] [--plot FILE]

Five sources of about 300 tokens each, laid out as `agent ask` does, are read in every case by a process of its own, so
that nothing but the files on disk is shared. Loading the model is not counted: it is the same everywhere.

    full         every source in its place, nothing kept
    cold         joined and repaired, nothing known: what a first question costs
    cold exact   in its place, and kept
    same         the same question again, in its place (lossless)
    turn         the second turn of that conversation (lossless)
    other        another question, all its sources known in another order, joined and repaired
    fast         the same without repair
    half         another question, every other source known

Beside them: bytes on disk a token against the model's own KV size, how fast states are read and checked, and the most
memory of the process that restored everything against that of the one that kept nothing.

--replay asks the questions of a file (JSON lines with "question") one after the other about the repository, each in
the packing of `agent ask`, and tells how much of each prompt was known and how long its first token took. Begin it with
an AGENT_HOME in which nothing has been read. --plot draws that, and needs matplotlib: pip install matplotlib.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from reporting import machine, pyplot, table, write

from chains.kv.layout import Repair
from chains.kv.policy import AUTO, READINGS

FIRST, SECOND = "How does a command find its options?", "Which types are converted, and where?"
CHUNK_TOKENS, SOURCES = 300, 5
CASES = ("full", "cold", "cold exact", "same", "turn", "other", "fast", "half")
# Cases that need what another has left behind, and which.
AFTER = {"same": "cold exact", "turn": "cold exact", "other": "cold", "fast": "cold", "half": "half of it"}


def sources(repo: Path, count: Any) -> list[str]:
    """The first sources of a fixed size from the largest Python files of a repository."""
    from chains.context import source_block

    files = sorted(repo.rglob("*.py"), key=lambda path: (-path.stat().st_size, str(path)))
    found = []
    for path in files[:SOURCES]:
        lines = path.read_text(encoding="utf-8").splitlines()
        end = 40
        while end < len(lines) and count("\n".join(lines[20:end])) < CHUNK_TOKENS:
            end += 1
        found.append(source_block(str(path.relative_to(repo)), 21, end, "\n".join(lines[20:end])) + "\n")
    return found


def messages(question: str, texts: Sequence[str]) -> list[Any]:
    """One turn, as `agent ask` would put it."""
    from langchain_core.messages import HumanMessage, SystemMessage

    from chains.prompts import prompt_text

    blocks: list[str | dict[str, Any]] = [{"type": "text", "text": text, "source": True} for text in texts]
    blocks.append({"type": "text", "text": f"Question: {question}\n\n{prompt_text('ask_last')}"})
    return [SystemMessage(prompt_text("ask")), HumanMessage(content=blocks)]


def run_case(case: str, model: Path, repo: Path, states: str, repair: Repair) -> dict[str, Any]:
    """One case, in this process: seconds to the first token, tokens read, and what else is told of it."""
    from langchain_core.messages import AIMessage, HumanMessage

    from chains.llm import LlamaCpp

    exact = case in ("full", "cold exact", "same", "turn")
    llm = LlamaCpp(model_path=str(model), kv_dir=states, n_ctx=4_096, max_tokens=24)
    llm.reading = "exact" if exact else "fast" if case == "fast" else "auto"
    llm.repair = repair
    started = time.perf_counter()
    llm.load()
    loaded = time.perf_counter() - started
    listed = sources(repo, llm.count_tokens)
    shuffled = [listed[number] for number in (3, 0, 2, 4, 1)]
    asked = {
        "other": messages(SECOND, shuffled),
        "fast": messages(SECOND, shuffled),
        "half": messages(SECOND, shuffled),
        "half of it": messages(FIRST, listed[::2]),
    }.get(case, messages(FIRST, listed))
    if case == "turn":
        said = Path(states, "answer.txt").read_text(encoding="utf-8")
        asked += [AIMessage(said), HumanMessage("And where is that tested?")]
    data: dict[str, Any] = {}
    started, first, text = time.perf_counter(), 0.0, ""
    for chunk in llm.stream(asked):
        first = first or time.perf_counter() - started
        text += chunk.text
        data |= chunk.response_metadata
    if case == "cold exact":
        Path(states, "answer.txt").write_text(text, encoding="utf-8")
    return {
        "case": case,
        "first_token_seconds": round(first, 3),
        "load_seconds": round(loaded, 2),
        "prompt_tokens": len(llm.prompt(asked).ids),
        "source_tokens": sum(map(llm.count_tokens, listed)),
        "tokens_read": data["tokens_read"],
        "sources_joined": data["sources_joined"],
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "kv_bytes_per_token": llm.info.kv_bytes_per_token,
        "text": text,
    }


def in_new_process(case: str, given: argparse.Namespace, states: str) -> dict[str, Any]:
    """The case, measured by a process that shares nothing with this one but files."""
    command = [sys.executable, __file__, "--case", case, "--states", states]
    command += ["--model", str(given.model), "--repo", str(given.repo)]
    command += ["--first", str(given.first), "--last", str(given.last)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Every case, its seconds the median of the rounds, and what the files on disk are like."""
    rounds = [one_round(given) for _ in range(given.rounds)]
    found, disk = rounds[-1]
    for case, one in found.items():
        seconds = [cases[case]["first_token_seconds"] for cases, _ in rounds]
        one |= {"first_token_seconds": round(median(seconds), 3), "seconds_by_round": seconds}
    for one in found.values():
        one["share"] = round(one["first_token_seconds"] / found["full"]["first_token_seconds"], 3)
    memory = {
        "restored_against_full": round(found["same"]["peak_bytes"] / found["full"]["peak_bytes"], 3),
        "joined_against_full": round(found["other"]["peak_bytes"] / found["full"]["peak_bytes"], 3),
    }
    same = {
        "same_text_as_full": found["full"]["text"] == found["cold exact"]["text"] == found["same"]["text"],
    }
    return {"cases": found, "disk": disk, "memory": memory, **same}


def one_round(given: argparse.Namespace) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """Every case once, in a directory in which nothing is kept yet, and what the files in it are like at the end."""
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as directory:

        def states(case: str) -> str:
            path = Path(directory, case.replace(" ", "-"))
            path.mkdir(exist_ok=True)
            return str(path)

        for case in CASES:
            if case == "half":
                in_new_process("half of it", given, states("half of it"))
            kept = "" if case == "full" else states(AFTER.get(case, case))
            found[case] = in_new_process(case, given, kept)
            print(case, found[case]["first_token_seconds"], found[case]["tokens_read"], file=sys.stderr)
        return found, on_disk(Path(states("cold exact")), found["full"]["kv_bytes_per_token"])


def on_disk(states: Path, kv_bytes_per_token: int) -> dict[str, float]:
    """Bytes a token against the model's own KV size, and how many are read and checked a second."""
    from chains.kv.store import KvStore

    store = KvStore(states)
    listed = store.entries()
    tokens, size = sum(one.entry.length for one in listed), sum(one.bytes for one in listed)
    rates = []
    for _ in range(5):
        started = time.perf_counter()
        read = sum(len(found[1]) for one in listed if (found := store.get(one.entry.key)))
        rates.append(read / (time.perf_counter() - started))
    return {
        "bytes_per_token": round(size / tokens, 1),
        "against_kv_size": round(size / tokens / kv_bytes_per_token, 4),
        "gigabytes_a_second": round(sorted(rates)[2] / 1e9, 2),
    }


def replay(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Questions about one repository, in order; by question what was known and how long its first token took."""
    from agent import Agent
    from agent.config import load_settings
    from chains.llm import LlamaCpp

    lines = given.replay.read_text(encoding="utf-8").splitlines()
    rows = []
    settings = load_settings(given.repo, {"model": str(given.model), "max_tokens": 1, "background": False})
    settings = replace(settings, reading=given.reading)
    with Agent.open(given.repo, settings=settings) as agent:
        if isinstance(agent.llm, LlamaCpp) and (given.last or given.first):
            agent.llm.repair = Repair(given.first, given.last)
        for number, line in enumerate(lines[: given.questions]):
            answer = agent.ask(json.loads(line)["question"])
            usage = answer.usage
            rows.append(
                {
                    "number": number,
                    "prompt_tokens": usage.prompt_tokens,
                    "cached_tokens": usage.cached_tokens,
                    "tokens_read": usage.tokens_read,
                    "sources": [source.label for source in answer.sources],
                    "joined": usage.joined_sources,
                    "first_token_seconds": usage.first_token_seconds,
                }
            )
            print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


def hit_rate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over all questions: the share of prompt tokens that were known, and medians of seconds by tens of questions."""
    known = sum(row["cached_tokens"] for row in rows) / max(1, sum(row["prompt_tokens"] for row in rows))
    tens = [[row["first_token_seconds"] for row in rows[at : at + 10]] for at in range(0, len(rows), 10)]
    return {"known": round(known, 3), "median_seconds_by_ten": [round(median(ten), 2) for ten in tens]}


def plot(rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Seconds to the first token by number of the question, and below it how much of each prompt was known."""
    numbers = [row["number"] + 1 for row in rows]
    seconds = [row["first_token_seconds"] for row in rows]
    around = [median(seconds[max(0, at - 4) : at + 5]) for at in range(len(seconds))]
    figure, (upper, lower) = pyplot().subplots(2, 1, figsize=(9, 6), sharex=True)
    upper.plot(numbers, seconds, "o", markersize=4, label="one question")
    upper.plot(numbers, around, label="median of nine")
    upper.set(ylabel="seconds to the first token", ylim=(0, None))
    upper.legend()
    lower.bar(numbers, [100 * row["cached_tokens"] / row["prompt_tokens"] for row in rows])
    lower.set(xlabel="question", ylabel="% of the prompt known", ylim=(0, 100))
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def shown(told: dict[str, Any]) -> str:
    """The cases as a table."""
    rows = [
        [
            case,
            f"{one['first_token_seconds']:.1f} s",
            f"{100 * one['share']:.0f} %",
            f"{one['tokens_read']:,} of {one['prompt_tokens']:,}",
        ]
        for case, one in told["cases"].items()
    ]
    return table(["case", "first token", "of full", "tokens read"], rows)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--repo", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0, help="tokens of a joined source read again")
    parser.add_argument("--last", type=int, default=0, help="sources at the end read in full")
    parser.add_argument("--rounds", type=int, default=3, help="the table tells medians of so many (3)")
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument(
        "--reading", choices=READINGS, default=AUTO, help="with --replay: how sources are read"
    )
    parser.add_argument("--plot", type=Path, help="with --replay: draw it here")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--states", default="", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.case:
        repair = Repair(given.first, given.last)
        print(json.dumps(run_case(given.case, given.model, given.repo, given.states, repair)))
        return
    if given.replay:
        rows = replay(given)
        rate, about = hit_rate(rows), {"model": given.model.stem, "reading": given.reading}
        print(json.dumps(rate))
        write(given.out, {"machine": machine(), **about, **rate, "questions": rows})
        if given.plot:
            plot(
                rows,
                given.plot,
                f"{given.model.stem}, {given.reading}: {len(rows)} questions, one repository",
            )
        return
    told = measure(given)
    print(shown(told))
    write(given.out, {"machine": machine(), "model": given.model.stem, **told})


if __name__ == "__main__":
    main()
