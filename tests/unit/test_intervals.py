"""Unions of intervals by group equal those of an obvious set of moments, also where times lie centuries apart."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pytest_aefm.collectors.intervals import Moments, Rows, merged_steps, union_ns

Intervals = list[tuple[int, int, int]]
GROUPS = 3
FAR = 2**61
intervals = st.lists(st.tuples(st.integers(0, GROUPS - 1), st.integers(0, 20), st.integers(0, 20)), max_size=12)


def columns(given_intervals: Intervals, far: bool) -> tuple[Rows, Rows, Rows]:
    """Return groups, starts and ends; ``far`` lays times from 10 on centuries after the others."""
    rows = [(group, *(time + FAR * (far and time >= 10) for time in times)) for group, *times in given_intervals]
    group, start, end = np.array(rows, np.int64).reshape(-1, 3).T
    return group, start, end


def moments(group: int, given_intervals: Intervals) -> set[int]:
    """Return each unit of time that a group's intervals cover."""
    return {t for one, start, end in given_intervals if one == group for t in range(start, end)}


@given(intervals, st.booleans())
def test_a_union_counts_each_moment_once(given_intervals: Intervals, far: bool) -> None:
    """Exactly, whether the times are numbered from the first one or, lying too far apart for that, by rank."""
    group, start, end = columns(given_intervals, far)
    covered = [moments(one, given_intervals) for one in range(GROUPS)]
    expected = [len(one) + FAR * (far and 9 in one) for one in covered]  # the unit from 9 on spans what lies between
    assert expected == union_ns(start, end, group, GROUPS).tolist()


@given(intervals)
def test_steps_are_the_same_however_far_apart_times_are(given_intervals: Intervals) -> None:
    """Only the order of the times decides what overlaps."""
    near, far = (columns(given_intervals, far) for far in (False, True))
    assert merged_steps(near[1], near[2], near[0]).tolist() == merged_steps(far[1], far[2], far[0]).tolist()


def test_numbers_of_moments_fit_beside_the_group() -> None:
    """The greatest key of the last group is still an int64, and the times come back."""
    times = np.array([5, 2**62, 7, 5], np.int64)
    for groups in (1, 3, 10**6):
        made = Moments.of(times, groups)
        assert (groups - 1) * made.width + int(made.numbers.max()) < 2**63
        assert times.tolist() == made.times(made.numbers).tolist()
