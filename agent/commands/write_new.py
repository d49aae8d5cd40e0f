"""`agent write --new`: new code on stdout, then the definitions of the repository that it reuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.commands.ask import show_answer, show_usage
from agent.output import Output
from agent.safe_text import show_label

if TYPE_CHECKING:
    from agent.commands import Work


def print_new(output: Output, work: Work, request: str, *, json: bool) -> int:
    """Print the code as it is written; what it reuses goes to stderr, so that stdout can be a file."""
    answer = show_answer(output, work.progress, work.agent.new_code(request), silent=json)
    if json:
        output.json(answer)
        return 0
    if answer.citations:
        output.note(("Reuses", "bold"))
    for citation in answer.citations:
        label = show_label(citation.path, citation.start_line, citation.end_line)
        output.note(("  + ", "green"), (label, "cyan"), f"  {citation.reason}")
    show_usage(output, answer)
    return 0
