"""A pod's clock by what its log said when it was read. Pure.

A pod says every few milliseconds what time it is. The last such line in an answer was written before the answer
came, the next one after it was asked for: that bounds how its clock differs from ours. It takes no permission but to
read logs.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Clock", "Look", "compare"]


@dataclass(frozen=True, slots=True)
class Look:
    """A reading of the log: when it was asked for and answered on our monotonic clock, and the last time it held."""

    asked_s: float
    answered_s: float
    last_ns: int


@dataclass(frozen=True, slots=True)
class Clock:
    """How to read a pod's CLOCK_MONOTONIC on ours: ours = theirs + ``offset_s``, give or take ``uncertainty_s``."""

    offset_s: float
    uncertainty_s: float

    def ours_s(self, theirs_ns: int) -> float:
        """Return a time of theirs on our monotonic clock, in seconds."""
        return theirs_ns / 1e9 + self.offset_s


def compare(looks: Iterable[Look], ticks: Iterable[int]) -> Clock:
    """Compare the clocks; ``ticks`` are all times that the pod has said by now.

    The uncertainty is infinite where no reading lies between two ticks.

    Raises:
        ValueError: there are no readings.
    """
    said = sorted(ticks)
    upper, lower = math.inf, -math.inf
    for look in looks:
        upper = min(upper, look.answered_s - look.last_ns / 1e9)
        after = bisect.bisect_right(said, look.last_ns)
        if after < len(said):
            lower = max(lower, look.asked_s - said[after] / 1e9)
    if upper == math.inf:
        raise ValueError("no readings")
    if lower == -math.inf:
        return Clock(upper, math.inf)
    # A line takes a moment from the pod to the file, so that the bounds may cross by as much.
    return Clock((lower + upper) / 2, abs(upper - lower) / 2)
