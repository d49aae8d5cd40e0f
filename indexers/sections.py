"""Reads prose by its headings: Markdown and reStructuredText into sections, paragraphs and fenced blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from indexers.borders import Border, Lines
from indexers.definitions import Definition

_HEADING = -0.1  # cheaper than any other border, by this much less for each level down
_PER_LEVEL = 0.03
_PARAGRAPH = Border(0.25, 10)
_LIST_ITEM = Border(0.5, 11)
_FENCE_PARAGRAPH = Border(0.9, 13)
_LINE = Border(1.0, 14)
_LONGEST_TITLE = 200
_RST_MARKS = frozenset("=-`:.'\"~^_*+#<>")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: `level` from 1, `row` where it begins and `end` its last row, underline included."""

    level: int
    title: str
    row: int
    end: int


def markdown(lines: Lines) -> tuple[dict[int, Border], list[Definition]]:
    """Borders and sections of a Markdown text."""
    headings: list[Heading] = []
    borders: dict[int, Border] = {}
    row = _front_matter(lines.text)
    text = lines.text
    while row < len(text):
        # Most lines begin like nothing of what is looked for here.
        mark = text[row].lstrip()[:1]
        fence = _fence(text[row]) if mark and mark in "`~" else ""
        if fence:
            end = _fence_end(text, row, fence)
            _add_block(borders, lines, row, end)
            row = end + 1
            continue
        heading = _atx(text[row], row) if mark == "#" else None
        if heading is None and row + 1 < len(text) and text[row + 1].startswith(("=", "-")):
            heading = _setext(lines, row)
        if heading:
            headings.append(heading)
            row = heading.end + 1
            continue
        _add_line(borders, lines, row)
        row += 1
    return _with_headings(borders, headings, lines)


def restructured(lines: Lines) -> tuple[dict[int, Border], list[Definition]]:
    """Borders and sections of a reStructuredText: levels are numbered as their underlines first appear."""
    headings: list[Heading] = []
    borders: dict[int, Border] = {}
    styles: list[tuple[str, bool]] = []
    row = 0
    while row < len(lines.text):
        found = _underlined(lines, row)
        if found is None:
            _add_line(borders, lines, row)
            row += 1
            continue
        mark, over = found
        if (mark, over) not in styles:
            styles.append((mark, over))
        title = lines.text[row + over].strip()[:_LONGEST_TITLE]
        headings.append(Heading(styles.index((mark, over)) + 1, title, row, row + 1 + over))
        row += 2 + over
    return _with_headings(borders, headings, lines)


def _with_headings(
    borders: dict[int, Border], headings: Sequence[Heading], lines: Lines
) -> tuple[dict[int, Border], list[Definition]]:
    for heading in headings:
        # A heading is never the end of a chunk: what follows it stays with it.
        following = next((r for r in range(heading.end + 1, len(lines.text)) if not lines.is_blank(r)), None)
        if following is not None:
            borders.pop(following, None)
    for heading in headings:
        borders[heading.row] = Border(_HEADING + _PER_LEVEL * heading.level, heading.level)
    return borders, list(_sections(headings, len(lines.text)))


def _sections(headings: Sequence[Heading], count: int) -> Iterator[Definition]:
    """Each heading with the rows it governs, up to the next heading of its level or a higher one."""
    ends = [count - 1] * len(headings)
    open_: list[int] = []
    for position, heading in enumerate(headings):
        while open_ and headings[open_[-1]].level >= heading.level:
            ends[open_.pop()] = heading.row - 1
        open_.append(position)
    path: list[Heading] = []
    for heading, end in zip(headings, ends, strict=True):
        while path and path[-1].level >= heading.level:
            path.pop()
        path.append(heading)
        names = tuple(h.title for h in path)
        row = heading.end - 1 if heading.end - heading.row == 2 else heading.row
        yield Definition(heading.title, "section", row, heading.row, end, names)


def _add_line(borders: dict[int, Border], lines: Lines, row: int) -> None:
    if lines.is_blank(row):
        return
    text = lines.text[row]
    if lines.after_blank(row):
        # An indented paragraph continues the list item or directive above it.
        borders[row] = _LIST_ITEM if text[0] in " \t" else _PARAGRAPH
    elif text.lstrip()[:2] in ("- ", "* ", "+ ") and text[0] not in " \t":
        borders[row] = _LIST_ITEM
    else:
        borders[row] = _LINE


def _add_block(borders: dict[int, Border], lines: Lines, first: int, last: int) -> None:
    """A fenced block: whole if it fits, else cut at its own paragraphs."""
    # The sentence that introduces an example stays with it when possible.
    borders[first] = _LIST_ITEM if lines.after_blank(first) else _LINE
    for row in range(first + 2, last):
        if lines.after_blank(row) and not lines.is_blank(row):
            borders[row] = _FENCE_PARAGRAPH


def _front_matter(text: Sequence[str]) -> int:
    """Rows of the YAML or TOML block between `---` or `+++` at the very top; it is no heading."""
    mark = text[0].rstrip() if text else ""
    if mark in ("---", "+++"):
        for row in range(1, min(len(text), 400)):
            if text[row].rstrip() == mark:
                return row + 1
            if not text[row].strip() and row == 1:
                break
    return 0


def _fence(line: str) -> str:
    """The run of ``` or ~~~ that opens a fenced block, or nothing."""
    stripped = line.lstrip()
    mark = stripped[:1]
    if mark not in ("`", "~") or not stripped.startswith(mark * 3):
        return ""
    run = stripped[: len(stripped) - len(stripped.lstrip(mark))]
    return "" if mark == "`" and "`" in stripped[len(run) :] else run


def _fence_end(text: Sequence[str], row: int, fence: str) -> int:
    for end in range(row + 1, len(text)):
        stripped = text[end].strip()
        if stripped.startswith(fence) and not stripped.strip(fence[0]):
            return end
    return len(text) - 1


def _atx(line: str, row: int) -> Heading | None:
    stripped = line.lstrip(" ")
    if len(line) - len(stripped) > 3 or not stripped.startswith("#"):
        return None
    rest = stripped.lstrip("#")
    level = len(stripped) - len(rest)
    if level > 6 or (rest and rest[0] not in " \t"):
        return None
    title = rest.strip()
    bare = title.rstrip("#")
    if bare != title and (not bare or bare[-1] in " \t"):
        title = bare.rstrip()
    return Heading(level, title[:_LONGEST_TITLE], row, row) if title else None


def _setext(lines: Lines, row: int) -> Heading | None:
    """A line underlined by === or ---. Only a one-line paragraph counts: longer ones are mostly tables."""
    text = lines.text
    if row + 1 >= len(text) or lines.is_blank(row) or not lines.after_blank(row):
        return None
    line, under = text[row], text[row + 1].rstrip()
    if line[0] in " \t>|-*+<" or not under or under.strip(under[0]) or under[0] not in "=-" or len(under) < 2:
        return None
    return Heading(1 if under[0] == "=" else 2, line.strip()[:_LONGEST_TITLE], row, row + 1)


def _underlined(lines: Lines, row: int) -> tuple[str, bool] | None:
    """The punctuation that underlines the title at a row, and whether it is drawn above the title too."""
    text = lines.text
    if lines.is_blank(row) or not lines.after_blank(row):
        return None
    over = _is_rule(text[row])
    title = row + over
    if (
        title + 1 >= len(text)
        or lines.is_blank(title)
        or _is_rule(text[title])
        or not _is_rule(text[title + 1])
    ):
        return None
    under = text[title + 1].rstrip()
    if over and under != text[row].rstrip():
        return None
    if not over and (text[title][0].isspace() or len(under) < min(len(text[title].rstrip()), 4)):
        return None
    return under[0], over


def _is_rule(line: str) -> bool:
    line = line.rstrip()
    return len(line) > 1 and line[0] in _RST_MARKS and not line.strip(line[0])
