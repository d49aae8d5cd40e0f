"""How values show themselves in a notebook: escaped HTML, no scripts, no styles from content."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from indexers.types import Hit


class Hits(list[Hit]):
    """Search results; a plain list of `Hit` that a notebook shows as a table.

    `absent` are names of code in the query that stand nowhere in the index, so that the hits match their parts at best.
    """

    def __init__(self, hits: Iterable[Hit] = (), query: str = "", absent: Sequence[str] = ()) -> None:
        super().__init__(hits)
        self.query = query
        self.absent = tuple(absent)

    def _repr_html_(self) -> str:
        if not self:
            return f"<p>Nothing found for <code>{_text(self.query)}</code>.</p>"
        rows = "".join(
            f"<tr><td>{rank}</td><td><code>{_text(hit.label)}</code><br>{_text(' › '.join(hit.scope))}</td>"
            f"<td>{hit.score:.3f}</td>"
            f"<td style='text-align:left'><pre>{_text(_opening(hit.text))}</pre></td></tr>"
            for rank, hit in enumerate(self, 1)
        )
        return f"<table><tr><th></th><th>place</th><th>score</th><th>text</th></tr>{rows}</table>"


def _opening(text: str, lines: int = 6) -> str:
    rows = text.split("\n")
    return "\n".join(rows[:lines]) + ("\n…" if len(rows) > lines else "")


def _text(value: str) -> str:
    return escape(value.encode("utf-8", "backslashreplace").decode())
