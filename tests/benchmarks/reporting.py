"""What every benchmark writes down beside its figures: the commit, the machine; and tables in Markdown."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_PACKAGES = ("agent", "chains", "indexers")


def commit() -> str:
    """The short id of the commit these files are at, with a + where the packages differ from it."""
    head = _git("rev-parse", "--short", "HEAD").strip()
    changed = _git("status", "--porcelain", "--", *(f":/{package}" for package in _PACKAGES))
    return head + ("+" if changed.strip() else "")


def machine() -> dict[str, object]:
    """What figures in seconds depend on."""
    return {"commit": commit(), "cpus": os.cpu_count(), "python": platform.python_version()}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with columns padded for a terminal; the first column stands left, the others right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]

    def drawn(line: Sequence[str]) -> str:
        cells = [text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True)]
        return f"| {' | '.join([line[0].ljust(widths[0]), *cells])} |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([drawn(head), f"|{rule}|", *map(drawn, rows)])


def pyplot() -> Any:
    """Matplotlib's drawing functions, without a window; only plots need it, so it is not installed with us."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("The plot needs matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def write(path: Path | None, report: Mapping[str, object]) -> None:
    """The report as JSON, for `tests/benchmarks/results/`; nothing when no file was named."""
    if path is not None:
        path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=_HERE, capture_output=True, text=True, check=True)
    return done.stdout
