"""Latency histograms: recorded in microseconds, merged exactly, exchanged as HdrHistogram V2.

Percentiles are always read off a (merged) histogram, never averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from hdrh.histogram import HdrHistogram

__all__ = ["LatencyHistogram"]

_LOWEST_US = 1
_HIGHEST_US = 3_600_000_000  # one hour
_DIGITS = 3


class LatencyHistogram:
    """Counts of latencies from 1 us to 1 h at 3 significant digits (relative error at most 0.1 %).

    Values outside the range are recorded at its ends, so that no request is lost from the counts.
    """

    def __init__(self, hdr: Any = None) -> None:
        self._hdr = HdrHistogram(_LOWEST_US, _HIGHEST_US, _DIGITS) if hdr is None else hdr

    @classmethod
    def of(cls, values_us: Iterable[float]) -> LatencyHistogram:
        """Build one from latencies in microseconds."""
        histogram = cls()
        for value in values_us:
            histogram.record_us(value)
        return histogram

    @classmethod
    def decode(cls, text: str) -> LatencyHistogram:
        """Read HdrHistogram V2 compressed base64 (``HISTFAAA...``), in microseconds.

        Raises:
            ValueError: the text is no such histogram.
        """
        try:
            decoded = HdrHistogram.decode(text)
        except Exception as error:  # hdrh raises what its C part, zlib or base64 raise
            raise ValueError(f"not an HdrHistogram V2: {error}") from error
        histogram = cls()
        histogram._hdr.add(decoded)
        return histogram

    def encode(self) -> str:
        """Return HdrHistogram V2 compressed base64, readable by every HdrHistogram implementation."""
        return str(self._hdr.encode().decode("ascii"))

    def record_us(self, value_us: float, count: int = 1) -> None:
        """Count ``count`` latencies of ``value_us`` microseconds."""
        clamped = min(max(round(value_us), _LOWEST_US), _HIGHEST_US)
        self._hdr.record_value(clamped, count)

    def merge(self, other: LatencyHistogram) -> LatencyHistogram:
        """Return a new histogram that holds the counts of both."""
        merged = LatencyHistogram()
        merged._hdr.add(self._hdr)
        merged._hdr.add(other._hdr)
        return merged

    @property
    def count(self) -> int:
        """Number of values recorded."""
        return int(self._hdr.get_total_count())

    @property
    def max_us(self) -> float:
        """Largest value in microseconds, 0 when empty."""
        return float(self._hdr.get_max_value()) if self.count else 0.0

    @property
    def min_us(self) -> float:
        """Smallest value in microseconds, 0 when empty."""
        return float(self._hdr.get_min_value()) if self.count else 0.0

    @property
    def mean_us(self) -> float:
        """Mean in microseconds, 0 when empty."""
        return sum(value * count for value, count in self.buckets()) / self.count if self.count else 0.0

    def percentile_us(self, percent: float) -> float:
        """Return the smallest recorded value that ``percent`` % of the values do not exceed (0 when empty).

        ``percent`` is in (0, 100]; nearest rank, as HdrHistogram defines it.
        """
        return float(self._hdr.get_value_at_percentile(percent)) if self.count else 0.0

    def count_above_us(self, limit_us: float) -> int:
        """Return how many values are above ``limit_us`` microseconds, each bucket at its middle."""
        return sum(count for value, count in self.buckets() if value > limit_us)

    def buckets(self) -> Iterator[tuple[float, int]]:
        """Yield (middle of the bucket in microseconds, count) of each non-empty bucket, ascending."""
        import numpy as np  # not needed to collect tests

        # The library's own iterators step through every empty bucket in Python: 70 ms for what takes 0.1 ms here.
        counts = np.ctypeslib.as_array(self._hdr.counts)
        for index in np.flatnonzero(counts).tolist():
            low = self._hdr.get_value_from_index(index)
            yield (low + self._hdr.get_highest_equivalent_value(low)) / 2, int(counts[index])

    def summary_ms(self) -> dict[str, float]:
        """Return count and min, mean, p50, p90, p95, p99, p99.9, max in milliseconds."""
        points = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9}
        return {
            "count": self.count,
            "min_ms": round(self.min_us / 1e3, 3),
            "mean_ms": round(self.mean_us / 1e3, 3),
            **{f"{name}_ms": round(self.percentile_us(q) / 1e3, 3) for name, q in points.items()},
            "max_ms": round(self.max_us / 1e3, 3),
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LatencyHistogram):
            return NotImplemented
        return list(self.buckets()) == list(other.buckets())

    def __hash__(self) -> int:
        return hash((self.count, self.max_us))

    def __repr__(self) -> str:
        return f"LatencyHistogram(count={self.count}, p50={self.percentile_us(50) / 1e3:g} ms)"
