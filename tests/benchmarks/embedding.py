"""How near embedding comes to what this processor can multiply, and how many cores it keeps busy.

    python tests/benchmarks/embedding.py --repo DIR [--texts 400] [--rounds 3] [--out FILE]

The chunks of a repository (read in a temporary home, the model that is installed linked there) are embedded as
`agent index` does it. The limit is measured beside it, turn by turn: a float32 product of large matrices in BLAS on
one core, in operations a second of CPU time, over the operations that the model takes for a token. CPU time, so that
other work on the machine meets neither; "cores busy" is CPU time over the clock, and says what the machine gave.
"Padded" is how many tokens went through the model for each one that is of a text: batches of like length waste few.
"""

from __future__ import annotations

import os

# Before NumPy is imported: the limit is that of one core.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import reporting

from agent import Agent
from agent.config import load_settings
from agent.paths import models_dir
from indexers.bert_embedder import BATCH_TOKENS, DOCUMENT_TOKENS, BertEmbedder, _batches
from indexers.cores import usable_cores
from indexers.reading import embed_text

_SIDE, _PRODUCTS = 1_024, 12


def texts_of(repo: Path, most: int) -> list[str]:
    """Texts as the embedder gets them, evenly from all over a repository."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["AGENT_HOME"] = home
        with Agent.open(repo, settings=replace(load_settings(repo, {}), embedder="none")) as agent:
            agent.refresh()
            ledger = agent.workspace.ledger
            ids = ledger.chunk_ids()
            stored = ledger.chunks(ids[:: max(1, len(ids) // most)][:most])
            return [embed_text(item.chunk) for item in stored.values()]


def operations(lengths: list[int], config: dict[str, Any]) -> float:
    """Floating-point operations for texts of so many tokens: 2 for each weight and token, and attention's products."""
    hidden, layers, inner = (
        int(config[name]) for name in ("hidden_size", "num_hidden_layers", "intermediate_size")
    )
    weights = layers * (4 * hidden * hidden + 2 * hidden * inner)
    return sum(2.0 * weights * length + 4.0 * layers * hidden * length * length for length in lengths)


def limit() -> float:
    """Operations a second of CPU time in a product of large matrices on one core."""
    a = np.random.default_rng(1).standard_normal((_SIDE, _SIDE), dtype=np.float32)
    _ = a @ a
    started = time.process_time()
    for _ in range(_PRODUCTS):
        _ = a @ a
    return _PRODUCTS * 2.0 * _SIDE**3 / (time.process_time() - started)


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repo", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    directory = models_dir().resolve() / "all-MiniLM-L6-v2"
    texts = texts_of(args.repo.resolve(), args.texts)
    embedder = BertEmbedder(directory)
    engine = embedder._load()
    lengths = [len(row) for row in engine.encode(texts, DOCUMENT_TOKENS)]
    padded = sum(
        len(batch) * max(sorted(lengths)[i] for i in batch)
        for batch in _batches(sorted(lengths), BATCH_TOKENS)
    )
    needed = operations(lengths, json.loads((directory / "config.json").read_text(encoding="utf-8")))
    embedder.embed_documents(texts[:8])
    rounds = []
    for _ in range(args.rounds):
        peak = limit()
        wall, cpu = time.perf_counter(), time.process_time()
        embedder.embed_documents(texts)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        cores = usable_cores()
        rounds.append(
            {
                "tokens_a_second": sum(lengths) / wall,
                "tokens_a_cpu_second": sum(lengths) / cpu,
                "limit_tokens_a_cpu_second": peak * sum(lengths) / needed,
                "limit_tokens_a_second": cores * peak * sum(lengths) / needed,
                "share_of_limit": needed / cpu / peak,
                "cores_busy": cpu / wall,
                "limit_gflops_a_core": peak / 1e9,
            }
        )
    best = max(rounds, key=lambda each: each["share_of_limit"])
    report = {
        **reporting.machine(),
        "load": os.getloadavg(),
        "cores": usable_cores(),
        "texts": len(texts),
        "tokens": sum(lengths),
        "padded": padded / sum(lengths),
        "operations_a_token": needed / sum(lengths),
        "best": best,
        "rounds": rounds,
    }
    print(json.dumps(report, indent=1))
    reporting.write(args.out, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
