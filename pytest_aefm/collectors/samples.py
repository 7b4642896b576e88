"""Raw samples of a Prometheus over a window: what they say of it, and what they are too few for. Pure.

Never rate() or increase(): both extrapolate (prometheus/prometheus#3746).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from pytest_aefm.model import Window

__all__ = [
    "LEAST_FOR_PEAK",
    "Sample",
    "brackets",
    "chosen_samples",
    "counter_rate",
    "increase",
    "steepest",
    "too_few",
]

LEAST_FOR_PEAK = 4
"""Samples in the window without which nothing is said of its peak (the usual minimum, kube-prometheus#1231)."""

Sample = tuple[float, float]
"""Unix time in seconds, value."""


def chosen_samples(samples: Sequence[Sample], window: Window) -> list[Sample]:
    """Return the samples in the window, with the last before it and the first after it where there are such."""
    ordered = sorted(samples)
    before = [sample for sample in ordered if sample[0] <= window.start_wall_s]
    inside = [sample for sample in ordered if window.start_wall_s < sample[0] < window.end_wall_s]
    after = [sample for sample in ordered if sample[0] >= window.end_wall_s]
    return before[-1:] + inside + after[:1]


def brackets(samples: Sequence[Sample], window: Window) -> bool:
    """Return whether samples lie on both sides of the window."""
    return bool(samples) and samples[0][0] <= window.start_wall_s and samples[-1][0] >= window.end_wall_s


def counter_rate(samples: Sequence[Sample]) -> float | None:
    """Return (last - first value) / (last - first time); None with less than two samples or after a reset."""
    if len(samples) < 2 or any(late[1] < early[1] for early, late in pairwise(samples)):
        return None
    (first_s, first), (last_s, last) = samples[0], samples[-1]
    return (last - first) / (last_s - first_s) if last_s > first_s else None


def steepest(samples: Sequence[Sample]) -> float | None:
    """Return the highest rate of a counter between two neighbouring samples; None where there are none."""
    rates = [rate for pair in pairwise(samples) if (rate := counter_rate(pair)) is not None]
    return max(rates, default=None)


def increase(series: Iterable[Sequence[Sample]], window: Window) -> float | None:
    """Return how much counters grew together from the first chosen sample to the last; None where none can tell."""
    chosen = [samples for one in series if len(samples := chosen_samples(one, window)) > 1]
    return sum(max(0.0, samples[-1][1] - samples[0][1]) for samples in chosen) if chosen else None


def too_few(points: int, window: Window, interval_s: float | None) -> str:
    """Say why so many samples in the window carry no peak, and what gives more; empty where they are enough."""
    if points >= LEAST_FOR_PEAK:
        return ""
    text = f"{points} samples in a window of {window.duration_s:g} s; a peak needs at least {LEAST_FOR_PEAK}"
    if interval_s is None:
        return text
    least_s = LEAST_FOR_PEAK * interval_s
    if window.duration_s < least_s:
        return f"{text}: with a sample every {interval_s:g} s the window must last {least_s:g} s or longer"
    return (
        f"{text}: with a sample every {interval_s:g} s some are missing; what has just started is first scraped some "
        "seconds later, which a longer warm-up leaves time for"
    )
