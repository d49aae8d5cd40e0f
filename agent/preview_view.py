"""A preview of an answer on stderr, apart from the answer itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent.safe_text import show_label
from agent.wording import count_text, seconds_text

if TYPE_CHECKING:
    from agent.asking import OnPreview
    from agent.commands import Work
    from agent.output import AnswerStream, Output
    from agent.progress_view import ProgressView
    from chains.types import Preview


@contextmanager
def preview_view(output: Output, work: Work, *, json: bool = False) -> Iterator[OnPreview | None]:
    """What shows the pieces of a preview, and None where there is to be none: by the settings, and if anybody watches.

    :param json: nothing is shown; what was said goes with the answer.
    """
    wanted = work.settings.preview
    if json or output.quiet:
        yield (lambda _: None) if json and wanted == "always" else None
        return
    if wanted == "never" or (wanted == "auto" and not output.watched):
        yield None
        return
    view = PreviewView(output, work.progress)
    try:
        yield view
    finally:
        view.close()


class PreviewView:
    """Shows pieces as they come, under a line that says what they are worth; then progress goes on."""

    def __init__(self, output: Output, progress: ProgressView) -> None:
        self._output = output
        self._progress = progress
        self._stream: AnswerStream | None = None

    def __call__(self, item: Preview) -> None:
        """Show one piece; the last, which is empty, ends the preview."""
        if self._stream is None:
            self._begin(item)
            self._stream = self._output.aside()
        self._stream.feed(item.piece)
        if not item.piece:
            self.close()
            self._output.note()
            self._output.note(("answer", "bold"), (f" from {count_text(item.total, 'source')}", "dim"))
            self._progress.show()

    def close(self) -> None:
        """End the line of a preview that is not over."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.finish()

    def _begin(self, item: Preview) -> None:
        self._progress.hide()
        best, others = item.sources[0], len(item.sources) - 1
        read = f"and {others} more of {count_text(item.total, 'source')}" if others else ""
        read = read or (f"one of {count_text(item.total, 'source')}" if item.total > 1 else "the only source")
        seconds = f"{item.seconds:.0f} s" if item.seconds < 59.5 else seconds_text(item.seconds)
        follows = f"the answer follows in about {seconds}"
        self._output.note(
            ("preview", "bold"),
            (" from ", "dim"),
            (show_label(best.path, best.start_line, best.end_line), "cyan"),
            (f"{' ' if others else ', '}{read}, unchecked; {follows}", "dim"),
        )
