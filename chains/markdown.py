"""Text that others wrote as Markdown for a notebook: code stays code, and nothing in it is live HTML, link or image."""

from __future__ import annotations

import re

# Only a fence that every dialect sees as one: no indent (in a list it would end with its item), no backtick in
# its first line.
_OPENS = re.compile(r"(`{3,})[^`]*")
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
# HTML, entities; links, images and their definitions; formulas, which may hold links too.
_LIVE = str.maketrans({char: f"&#{ord(char)};" for char in "<&[]$\\"})


def code(text: str) -> str:
    """A name or a short text as inline code, whatever stands in it."""
    shown = text.encode("utf-8", "backslashreplace").decode()
    return f"<code>{re.sub('[^0-9A-Za-z ]', lambda match: f'&#{ord(match.group())};', shown)}</code>"


def prose(text: str) -> str:
    """Text on one line or many without fences: emphasis and lists work, what could act or load is only shown."""
    shown = text.encode("utf-8", "backslashreplace").decode()
    parts: list[str] = []
    end = 0
    for span in _CODE_SPAN.finditer(shown):
        parts += [shown[end : span.start()].translate(_LIVE), code(span[2])]
        end = span.end()
    return "".join([*parts, shown[end:].translate(_LIVE)])


def document(text: str) -> str:
    """A whole answer: fenced code blocks as they are, everything else as `prose`, every fence closed."""
    lines: list[str] = []
    fence = ""
    # Dialects differ in what begins and ends a block. After a line that may or may not, nothing passes as it is.
    sure = True
    for line in re.split(r"\r\n|\r|\n", text.encode("utf-8", "backslashreplace").decode()):
        opens = _OPENS.fullmatch(line)
        marks = "```" in line or "~~~" in line
        if fence:
            lines.append(line)
            if marks:
                sure = line.rstrip(" ") == fence
                fence = ""
        elif sure and opens:
            # The empty line: so that it cannot become the second line of something else.
            lines += ["", line]
            fence = opens[1]
        else:
            sure = sure and not marks
            lines.append(prose(line))
    return "\n".join([*lines, fence] if fence else lines)
