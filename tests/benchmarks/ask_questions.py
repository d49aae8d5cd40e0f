"""Ask every question of questions.json about a checkout of its repository and write the transcripts down.

    python tests/benchmarks/ask_questions.py --repos DIR [--model NAME] [--only click gin] [--out FILE]

DIR holds one checkout per repository, named like the repository (click, gin, axum). Right or wrong is for a reader to
judge: the facts an answer should hold stand beside each transcript.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from agent import Agent
from chains.types import Answer

QUESTIONS = Path(__file__).with_name("questions.json")


def transcript(number: int, item: dict[str, str], answer: Answer) -> str:
    lines = [f"## {number}. {item['repo']}: {item['question']}", "", answer.text, "", "Citations:"]
    lines += [
        f"- {c.label} {'verified' if c.verified else 'NOT VERIFIED'}: {c.reason}" for c in answer.citations
    ]
    lines.append(f"Unverified names: {', '.join(answer.unverified) or 'none'}")
    lines.append("Sources: " + ", ".join(f"{s.label} ({s.tokens})" for s in answer.sources))
    usage = answer.usage
    lines.append(
        f"Read {usage.prompt_tokens}, wrote {usage.completion_tokens}, first token {usage.first_token_seconds:.1f} s, "
        f"all {usage.seconds:.1f} s, {usage.finish_reason}. Expected: {item['facts']}"
    )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repos", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    written, agents = [], {}
    for number, item in enumerate(json.loads(QUESTIONS.read_text(encoding="utf-8")), 1):
        name = item["repo"].split("/")[1]
        if args.only and name not in args.only:
            continue
        if name not in agents:
            for other in agents.values():
                other.close()
            agents = {name: Agent.open(args.repos / name, model=args.model)}
        text = transcript(number, item, agents[name].ask(item["question"]))
        written.append(text)
        print(text, flush=True)
        if args.out:
            args.out.write_text("\n".join(written), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
