"""HumanEval through our own chat format and extraction, against llama-cpp-python's plain chat completion.

    python tests/benchmarks/humaneval.py --data DIR --model NAME --answers FILE [--limit 164] [--out FILE]

DIR is a git directory or a checkout of openai/human-eval. Each problem is put to the model twice, greedily, with the
same words and the same limit: in our framing, as `agent write --new` does it (system prompt, fence, grammar), and as a
single user message through `Llama.create_chat_completion` of llama-cpp-python, from whose answer the first fenced block
is taken. Both stop when the block is closed. The program (prompt, code, tests) is run in a sandboxed process with
limits of time, memory and file size, without network where the system allows.

Answers are appended to --answers as they come; a run that is stopped, or reaches --seconds, goes on there. A difference
of more than three points between the two means an error in our framing.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reporting import machine, table, write
from sandbox import run_python

from agent import models
from chains.llm import LlamaCpp
from chains.writing.replies import Fence, fenced_code

OURS, PLAIN = "ours", "plain"
MAX_TOKENS = 512
REQUEST = "Complete this Python function. Answer with the whole function in a fenced code block.\n\n```python\n{}\n```"


def problems(data: Path) -> list[dict[str, str]]:
    """The problems, in order, from a checkout or a git directory."""
    file = data / "data" / "HumanEval.jsonl.gz"
    if file.exists():
        packed = file.read_bytes()
    else:
        shown = ["git", "-C", str(data), "show", "HEAD:data/HumanEval.jsonl.gz"]
        packed = subprocess.run(shown, capture_output=True, check=True).stdout
    return [json.loads(line) for line in gzip.decompress(packed).decode().splitlines() if line.strip()]


def program(problem: Mapping[str, str], code: str) -> str:
    """What is run: a whole function behind the prompt's own imports, or its body behind the prompt."""
    name, prompt = problem["entry_point"], problem["prompt"]
    whole = f"def {name}(" in code
    head = prompt[: prompt.rindex(f"def {name}(")] if whole else prompt
    return f"{head}\n{code}\n\n{problem['test']}\n\ncheck({name})\n"


def ours(path: Path) -> Callable[[str], tuple[str, int]]:
    """Our framing: as `agent write --new` asks for code."""
    from chains.generate import new_code_messages

    model = LlamaCpp(model_path=str(path), n_ctx=4096)
    model.load()

    def answer(request: str) -> tuple[str, int]:
        fence = Fence(language="python")
        messages = new_code_messages(request, (), fence)
        written, tokens = "", 0
        for chunk in model.stream(messages, grammar=fence.grammar(), max_tokens=MAX_TOKENS):
            written += chunk.text
            if chunk.usage_metadata:
                tokens = chunk.usage_metadata["output_tokens"]
        return fence.body(written), tokens

    return answer


def plain(path: Path) -> Callable[[str], tuple[str, int]]:
    """llama-cpp-python's own chat completion, from the template in the file."""
    from llama_cpp import Llama

    cores = len(os.sched_getaffinity(0))
    model = Llama(
        str(path), n_ctx=4096, n_threads=cores, n_threads_batch=cores, flash_attn=True, verbose=False
    )

    def answer(request: str) -> tuple[str, int]:
        written, tokens = "", 0
        stream: Any = model.create_chat_completion(
            [{"role": "user", "content": request}], temperature=0.0, max_tokens=MAX_TOKENS, stream=True
        )
        for chunk in stream:
            written += chunk["choices"][0]["delta"].get("content") or ""
            tokens += 1
            if written.count("\n```") > (not written.startswith("```")) and written.endswith("\n"):
                break
        return fenced_code(written), tokens

    return answer


def answered(file: Path, model: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What --answers has already of this model."""
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {(row["task"], row["arm"]): row for row in rows if row["model"] == model}


def run(
    listed: Sequence[Mapping[str, str]], path: Path, model: str, file: Path, seconds: float
) -> Iterator[str]:
    """Answer and execute what is still to come; each row is written before the next begins."""
    started, known = time.monotonic(), answered(file, model)
    arms: dict[str, Callable[[str], tuple[str, int]]] = {}
    for problem in listed:
        for arm, make in ((OURS, ours), (PLAIN, plain)):
            if (problem["task_id"], arm) in known:
                continue
            if time.monotonic() - started > seconds:
                return
            if arm not in arms:
                arms[arm] = make(path)
            began = time.monotonic()
            code, tokens = arms[arm](REQUEST.format(problem["prompt"].rstrip()))
            spent = round(time.monotonic() - began, 2)
            outcome = run_python(program(problem, code))
            row = {
                **{"task": problem["task_id"], "arm": arm, "model": model, "passed": outcome.passed},
                **{"seconds": spent, "tokens": tokens, "cut": tokens >= MAX_TOKENS, "code": code},
                "said": "" if outcome.passed else outcome.output[-300:],
            }
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")
            yield f"{problem['task_id']} {arm} {'passed' if outcome.passed else 'failed'} {spent} s"


def report(listed: Sequence[Mapping[str, str]], model: str, file: Path) -> dict[str, Any]:
    """pass@1 of both arms on the problems that both have answered."""
    known = answered(file, model)
    both = [p["task_id"] for p in listed if all((p["task_id"], arm) in known for arm in (OURS, PLAIN))]
    arms: dict[str, Any] = {}
    for arm in (OURS, PLAIN):
        rows = [known[task, arm] for task in both]
        arms[arm] = {
            "passed": sum(row["passed"] for row in rows),
            "pass@1": round(100 * sum(row["passed"] for row in rows) / max(1, len(rows)), 1),
            "cut": sum(row["cut"] for row in rows),
            "tokens": round(sum(row["tokens"] for row in rows) / max(1, len(rows)), 1),
            "seconds": round(sum(row["seconds"] for row in rows) / max(1, len(rows)), 2),
        }
    only = {
        arm: [t for t in both if known[t, arm]["passed"] and not known[t, other]["passed"]]
        for arm, other in ((OURS, PLAIN), (PLAIN, OURS))
    }
    return {**machine(), "model": model, "problems": len(both), "arms": arms, "only": only}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--limit", type=int, default=164)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    listed = problems(given.data)[: given.limit]
    for line in run(listed, models.find(given.model, ()), given.model, given.answers, given.seconds):
        print(line, flush=True)
    found = report(listed, given.model, given.answers)
    rows = [
        [arm, f"{v['pass@1']}", f"{v['passed']}", f"{v['cut']}", f"{v['tokens']}", f"{v['seconds']}"]
        for arm, v in found["arms"].items()
    ]
    print(table(["arm", "pass@1", "passed", "cut", "tokens", "seconds"], rows))
    write(given.out, found)


if __name__ == "__main__":
    main()
