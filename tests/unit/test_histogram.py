"""Latency histograms: counts, percentiles, merging and the exchange format."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aefm.histogram import LatencyHistogram

latencies = st.lists(st.integers(1, 3_000_000_000), max_size=50)


@given(latencies)
def test_exchange_format_loses_nothing(values: list[int]) -> None:
    """Encoding and decoding gives the same histogram."""
    histogram = LatencyHistogram.of(values)
    assert histogram == LatencyHistogram.decode(histogram.encode())


@given(latencies, latencies)
def test_merge_is_the_histogram_of_both(first: list[int], second: list[int]) -> None:
    """Merging equals recording everything in one."""
    merged = LatencyHistogram.of(first).merge(LatencyHistogram.of(second))
    assert LatencyHistogram.of(first + second) == merged


@given(st.lists(st.integers(1, 3_000_000_000), min_size=1, max_size=50), st.floats(0.1, 100))
def test_percentile_is_the_nearest_rank(values: list[int], percent: float) -> None:
    """A percentile is the value of its rank, to three significant digits."""
    import math

    rank = max(1, math.ceil(percent / 100 * len(values) - 1e-9))
    near = {sorted(values)[min(max(rank - 1 + step, 0), len(values) - 1)] for step in (-1, 0, 1)}
    observed = LatencyHistogram.of(values).percentile_us(percent)
    assert any(value * 0.998 <= observed <= value * 1.002 + 1 for value in near)


@given(latencies, st.integers(1, 3_000_000_000))
def test_count_above(values: list[int], limit: int) -> None:
    """Values clearly above a limit are counted, values clearly below it are not."""
    count = LatencyHistogram.of(values).count_above_us(limit)
    assert sum(value > limit * 1.002 + 1 for value in values) <= count
    assert count <= sum(value > limit * 0.998 - 1 for value in values)


def test_extremes_are_kept_in_range() -> None:
    """Values outside 1 us .. 1 h are counted at the ends, never lost."""
    assert LatencyHistogram.of([0.0, 1e12]).count == 2


def test_garbage_is_refused() -> None:
    """What is no histogram raises ValueError."""
    with pytest.raises(ValueError, match="not an HdrHistogram"):
        LatencyHistogram.decode("HISTFAAAnonsense")


def test_empty_has_no_percentile() -> None:
    """An empty histogram has count 0 and zeros."""
    assert (0, 0.0, 0.0) == (LatencyHistogram().count, LatencyHistogram().max_us, LatencyHistogram().percentile_us(99))
