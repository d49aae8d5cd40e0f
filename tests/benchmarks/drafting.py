"""Rewriting with and without prompt-lookup drafting: seconds, what was drafted, and whether the text is the same.

    python tests/benchmarks/drafting.py --repo DIR --model NAME|FILE [--out FILE]

Pieces of files are to be written again with one change, greedily; and, where nothing is to be copied, a question is
answered. The order of the two ways alternates, so that a machine that warms up favours neither.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from reporting import machine, table, write

PIECES = (
    ("src/click/utils.py", 30, 75, "Add a one-line docstring to every function that has none."),
    ("src/click/formatting.py", 20, 80, "Rename the variable `indent` to `margin` everywhere."),
    ("src/click/parser.py", 40, 90, "Replace every f-string by a call of str.format."),
)
QUESTION = "Explain in five sentences what a command line parser does."
MOST = 320


def prompts(repo: Path) -> list[tuple[str, list[Any]]]:
    """What is asked, each under a name."""
    from langchain_core.messages import HumanMessage, SystemMessage

    system = SystemMessage(
        "You edit Python. Answer with the whole changed code in one fence, and nothing else."
    )
    found: list[tuple[str, list[Any]]] = []
    for path, first, last, change in PIECES:
        code = "\n".join((repo / path).read_text("utf-8").split("\n")[first - 1 : last])
        found.append(
            (f"{path}:{first}-{last}", [system, HumanMessage(f"```python\n{code}\n```\n\n{change}")])
        )
    return [*found, ("no rewriting", [HumanMessage(QUESTION)])]


def timed(llm: Any, messages: list[Any], draft: str) -> dict[str, Any]:
    """One answer and what it cost; the prompt has been read before."""
    started = time.perf_counter()
    message = llm.invoke(messages, draft=draft, max_tokens=MOST)
    told = message.response_metadata
    return {
        "text": message.content,
        "tokens": message.usage_metadata["output_tokens"],
        "writing_seconds": told["generation_seconds"],
        "seconds": round(time.perf_counter() - started, 3),
        "drafted": told.get("draft_tokens", 0),
        "accepted": told.get("draft_accepted", 0),
    }


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repo", type=Path, required=True)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    from agent import models
    from chains.llm import LlamaCpp

    path = models.find(args.model)
    assert path is not None
    llm = LlamaCpp(model_path=str(path), n_ctx=4_096)
    rows: list[dict[str, Any]] = []
    for number, (name, messages) in enumerate(prompts(args.repo)):
        # The prompt is read first, so that both ways find it read.
        llm.invoke(messages, max_tokens=1)
        order = ("", "prompt") if number % 2 == 0 else ("prompt", "")
        ways = {draft or "plain": timed(llm, messages, draft) for draft in order}
        plain, drafted = ways["plain"], ways["prompt"]
        rows.append(
            {
                "task": name,
                "same_text": plain["text"] == drafted["text"],
                "speedup": round(plain["writing_seconds"] / drafted["writing_seconds"], 3),
                **ways,
            }
        )
        write(args.out, {**machine(), "model": path.name, "tasks": rows})
        print(rows[-1]["task"], rows[-1]["same_text"], rows[-1]["speedup"], file=sys.stderr, flush=True)
    head = ["task", "tokens", "plain s", "drafted s", "drafted / accepted", "times", "same text"]
    body = [
        [
            row["task"],
            str(row["plain"]["tokens"]),
            f"{row['plain']['writing_seconds']:.1f}",
            f"{row['prompt']['writing_seconds']:.1f}",
            f"{row['prompt']['drafted']} / {row['prompt']['accepted']}",
            f"{row['speedup']:.2f}",
            "yes" if row["same_text"] else "no",
        ]
        for row in rows
    ]
    print(table(head, body))
    return 0


if __name__ == "__main__":
    sys.exit(main())
