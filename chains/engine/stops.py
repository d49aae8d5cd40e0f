"""Cuts a stream of text at stop strings, wherever its pieces end. Pure."""

from __future__ import annotations

from collections.abc import Sequence


class StopFilter:
    """Cuts a stream of text before the first stop string in it, however the stream is split."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """What of the text so far can no longer be part of a stop string."""
        if self.stopped:
            return ""
        self._held += text
        found = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            shown, self._held, self.stopped = self._held[: min(found)], "", True
            return shown
        keep = max((self._partial(stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def _partial(self, stop: str) -> int:
        """How many characters at the end of what is held may begin this stop string."""
        longest = min(len(stop) - 1, len(self._held))
        return next((size for size in range(longest, 0, -1) if self._held.endswith(stop[:size])), 0)

    def rest(self) -> str:
        """What was held back."""
        shown, self._held = self._held, ""
        return shown
