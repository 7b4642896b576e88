"""Unions of many groups of intervals at once, exact in integers of nanoseconds.

What is sorted by group and time is sorted by one integer made of both, which is several times faster than by two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Flags", "Moments", "Rows", "merged_steps", "union_ns"]

Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Moments:
    """Times as ``numbers`` in the same order, from 0 to below ``width``.

    They count from the earliest time; where times lie so far apart that group and number would not fit into one
    integer, they are ranks.
    """

    numbers: Rows
    width: int
    _origin: int | Rows

    @classmethod
    def of(cls, times: Rows, groups: int) -> Moments:
        """Number the times so that ``group * width + number`` is an int64 for each of so many groups."""
        first, last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        if (last - first + 1) * groups < 2**63:
            return cls(times - first, last - first + 1, first)
        values, ranks = np.unique(times, return_inverse=True)
        return cls(ranks, len(values), values)

    def times(self, numbers: Rows) -> Rows:
        """Return the times that have these numbers."""
        return numbers + self._origin if isinstance(self._origin, int) else self._origin[numbers]


def union_ns(start_ns: Rows, end_ns: Rows, group: Rows, groups: int) -> Rows:
    """Return for each group 0..groups-1 the length of the union of its intervals [start, end), nanoseconds."""
    covered = np.zeros(groups, np.int64)
    rows = np.flatnonzero(end_ns > start_ns)
    if not len(rows):
        return covered
    moments = Moments.of(np.concatenate([start_ns[rows], end_ns[rows]]), groups)
    began, ended = np.split(moments.numbers, 2)
    order = np.argsort(group[rows] * moments.width + began)
    group = group[rows[order]]
    reached, first = _reached_before(ended[order], group, moments)
    start, end = moments.times(began[order]), moments.times(ended[order])
    uncovered = np.maximum(0, end - np.where(first, start, np.maximum(start, reached)))
    heads = np.flatnonzero(first)
    covered[group[heads]] = np.add.reduceat(uncovered, heads)
    return covered


def merged_steps(start_ns: Rows, end_ns: Rows, group: Rows) -> Rows:
    """Return for each interval which step of its group it belongs to, from 0 in order of time.

    Intervals that overlap or touch are one step, directly or through others.
    """
    steps = np.zeros(len(group), np.int64)
    if not len(group):
        return steps
    moments = Moments.of(np.concatenate([start_ns, end_ns]), int(group.max()) + 1)
    began, ended = np.split(moments.numbers, 2)
    order = np.argsort(group * moments.width + began)
    ordered = group[order]
    reached, first = _reached_before(ended[order], ordered, moments)
    begins = np.cumsum(first | (moments.times(began[order]) > reached))
    heads = np.flatnonzero(first)
    steps[order] = begins - np.repeat(begins[heads], np.diff(np.append(heads, len(order))))
    return steps


def _reached_before(ended: Rows, group: Rows, moments: Moments) -> tuple[Rows, Flags]:
    """Return the latest end among the rows before each in its group, and which rows are a group's first.

    Rows are sorted by group; a first row's value means nothing.
    """
    first = np.diff(group, prepend=-1) != 0
    base = group * moments.width  # rises with the group, so that one running maximum serves all
    reached = np.roll(np.maximum.accumulate(base + ended), 1) - base
    return moments.times(np.where(first, 0, reached)), first
