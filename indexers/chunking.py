"""Cuts a source file into chunks of whole lines on the borders of its structure."""

from __future__ import annotations

from collections.abc import Sequence

from indexers.config import IndexConfig
from indexers.definitions import Definition
from indexers.outline import Outline, outline_of
from indexers.packing import Span, pack
from indexers.types import Chunk, SourceFile, Symbol


def chunk_source(source: SourceFile, config: IndexConfig) -> list[Chunk]:
    """The chunks of a file, in order and without overlap; only blank lines are in none.

    No text is refused: what cannot be parsed is cut by its lines. Chunks have about `config.chunk_chars`
    characters and at most `config.chunk_max_chars`, unless a single line is longer.
    """
    limit = max(config.chunk_max_chars, 1)
    target = min(max(config.chunk_chars, 1), limit)
    outline = outline_of(source.text, source.language, limit)
    spans = pack(outline.lines, outline.borders, target, limit)
    scopes = _scopes(outline.definitions, spans)
    symbols = _symbols(outline, spans)
    return [
        Chunk(
            path=source.path,
            start_line=outline.number(span.first),
            end_line=outline.number(span.last),
            text="\n".join(outline.lines.text[span.first : span.last + 1]),
            language=_language(outline, span, source.language),
            scope=scope,
            symbols=tuple(inside),
        )
        for span, scope, inside in zip(spans, scopes, symbols, strict=True)
    ]


def _scopes(definitions: Sequence[Definition], spans: Sequence[Span]) -> list[tuple[str, ...]]:
    """For each span, what encloses its first line: definitions that began before it and are not over."""
    scopes: list[tuple[str, ...]] = []
    open_: list[Definition] = []
    position = 0
    for span in spans:
        while position < len(definitions) and definitions[position].start < span.first:
            definition = definitions[position]
            while open_ and open_[-1].end < definition.start:
                open_.pop()
            if definition.kind != "constant":
                open_.append(definition)
            position += 1
        while open_ and open_[-1].end < span.first:
            open_.pop()
        if open_:
            scopes.append(open_[-1].path)
            continue
        # A method that stands outside its type (Go, C++) still belongs to it.
        ahead = definitions[position] if position < len(definitions) else None
        belongs = ahead is not None and ahead.start <= span.last and ahead.receiver
        scopes.append(ahead.path[:-1] if ahead is not None and belongs else ())
    return scopes


def _symbols(outline: Outline, spans: Sequence[Span]) -> list[list[Symbol]]:
    """For each span, the definitions whose name stands in it."""
    result: list[list[Symbol]] = [[] for _ in spans]
    position = 0
    for definition in sorted(outline.definitions, key=lambda d: d.row):
        while position < len(spans) - 1 and spans[position].last < definition.row:
            position += 1
        symbol = outline.symbol(definition)
        if symbol is not None:
            result[position].append(symbol)
    return result


def _language(outline: Outline, span: Span, fallback: str) -> str:
    """A chunk of a notebook is code if any of its cells is."""
    if outline.languages is None:
        return fallback
    kinds = outline.languages[span.first : span.last + 1]
    return next((kind for kind in kinds if kind != "markdown"), "markdown")
