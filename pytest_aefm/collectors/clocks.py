"""The clock of a source against ours, and how the ``Date`` of its answers tells it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from pytest_aefm.model import Window

__all__ = ["Clock", "http_clock"]

_ASKED = 9
_FINE_S = 0.02


@dataclass(frozen=True, slots=True)
class Clock:
    """A source's clock: ``offset_s`` ahead of ours, give or take ``uncertainty_s``."""

    offset_s: float
    uncertainty_s: float

    def shift(self, window: Window) -> Window:
        """Return our window on the source's clock."""
        return Window(window.start_wall_s + self.offset_s, window.start_mono_s, window.duration_s)


def http_clock(date: Callable[[], str | None]) -> Clock:
    """Measure a server's clock by the header ``Date`` that ``date`` fetches; where there is none it is taken as ours.

    The header is cut off to whole seconds, so each answer leaves an interval: of a date D fetched between ``before``
    and ``after`` the offset is in (D - after, D + 1 - before]. Each next question is asked when its answer halves what
    is left. An offset that zero is compatible with is none.
    """
    low, high = float("-inf"), float("inf")
    for number in range(_ASKED):
        if number:
            # The server's second turns, at an offset in the middle of what is left, when our clock shows this fraction.
            turn = -(low + high) / 2 % 1
            time.sleep((turn - time.time()) % 1)
        before = time.time()
        text = date()
        after = time.time()
        try:
            second = parsedate_to_datetime(text or "").timestamp()
        except (ValueError, TypeError):
            return Clock(0.0, 0.0)
        low, high = max(low, second - after), min(high, second + 1 - before)
        if high - low <= _FINE_S or high < low:
            break
    uncertainty = max(0.0, high - low) / 2
    return Clock(0.0 if low <= 0 <= high else (low + high) / 2, uncertainty)
