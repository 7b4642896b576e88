"""Unions of many groups of intervals at once, exact in integers of nanoseconds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Flags", "Rows", "merged_steps", "union_ns"]

Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]


def union_ns(start_ns: Rows, end_ns: Rows, group: Rows, groups: int) -> Rows:
    """Return for each group 0..groups-1 the length of the union of its intervals [start, end), nanoseconds."""
    covered = np.zeros(groups, np.int64)
    order = np.flatnonzero(end_ns > start_ns)
    order = order[np.lexsort((start_ns[order], group[order]))]
    if not len(order):
        return covered
    start_ns, end_ns, group = start_ns[order], end_ns[order], group[order]
    reached, first = _reached_before(end_ns, group)
    uncovered = np.maximum(0, end_ns - np.where(first, start_ns, np.maximum(start_ns, reached)))
    heads = np.flatnonzero(first)
    covered[group[heads]] = np.add.reduceat(uncovered, heads)
    return covered


def merged_steps(start_ns: Rows, end_ns: Rows, group: Rows) -> Rows:
    """Return for each interval which step of its group it belongs to, from 0 in order of time.

    Intervals that overlap or touch are one step, directly or through others.
    """
    order = np.lexsort((start_ns, group))
    steps = np.zeros(len(order), np.int64)
    if not len(order):
        return steps
    ordered = group[order]
    reached, first = _reached_before(end_ns[order], ordered)
    begins = np.cumsum(first | (start_ns[order] > reached))
    heads = np.flatnonzero(first)
    steps[order] = begins - np.repeat(begins[heads], np.diff(np.append(heads, len(order))))
    return steps


def _reached_before(end_ns: Rows, group: Rows) -> tuple[Rows, Flags]:
    """Return the latest end among the rows before each in its group, and which rows are a group's first.

    Rows are sorted by group; a first row's value means nothing.
    """
    first = np.diff(group, prepend=-1) != 0
    # A running maximum that starts anew with each group: over ranks, so that nothing can overflow.
    ends, rank = np.unique(end_ns, return_inverse=True)
    reached = np.maximum.accumulate(np.cumsum(first) * len(ends) + rank)
    return ends[np.roll(reached, 1) % len(ends)], first
