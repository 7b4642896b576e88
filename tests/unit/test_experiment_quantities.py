"""Single values of an experiment: numbers with units, and the values of factors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_aefm.experiment.quantities import (
    Wrong,
    cores,
    duration_s,
    expand,
    number,
    scalar,
    size_bytes,
    throughput,
)


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (duration_s, 5, 5.0),
        (duration_s, 5.5, 5.5),
        (duration_s, "5s", 5.0),
        (duration_s, "500ms", 0.5),
        (duration_s, "1.5m", 90.0),
        (duration_s, "2 h", 7200.0),
        (duration_s, 0, 0.0),
        (size_bytes, 4096, 4096),
        (size_bytes, "200Mi", 200 * 2**20),
        (size_bytes, "0.5Gi", 2**29),
        (size_bytes, "1k", 1000),
        (size_bytes, "3GB", 3 * 10**9),
        (cores, 1, 1.0),
        (cores, 0.01, 0.01),
        (cores, "100m", 0.1),
        (throughput, "1G", "1G"),
        (throughput, 1000, "1000"),
    ],
)
def test_quantities_are_read_in_base_units(read: Callable[[Any], Any], value: Any, expected: Any) -> None:
    """Seconds, bytes, cores and bits per second come from numbers or from numbers with a unit."""
    assert expected == read(value)


@pytest.mark.parametrize("read", [duration_s, size_bytes, cores, throughput])
@pytest.mark.parametrize(
    "value", ["", "5 x", "m", "-1", -1, True, None, [], {}, float("inf"), float("nan"), "\N{ARABIC-INDIC DIGIT ONE}s"]
)
def test_other_quantities_are_refused(read: Callable[[Any], Any], value: Any) -> None:
    """What is no quantity is told with what would be one."""
    with pytest.raises(Wrong, match=r"^expected .*, got "):
        read(value)


@given(st.integers(-50, 50), st.integers(0, 40), st.sampled_from(["0.1", "0.25", "0.3", "1", "7"]))
@settings(deadline=None)
def test_ranges_hold_both_ends(first: int, count: int, step: str) -> None:
    """A range whose length is a multiple of its step has both ends and equal steps, also in decimal fractions."""
    low = Decimal(first) / 10
    exact = [low + Decimal(step) * position for position in range(count + 1)]
    values = expand({"min": float(low), "max": float(exact[-1]), "step": float(step)}, number)
    assert [float(value) for value in exact] == list(values)


def test_ranges_end_before_their_end() -> None:
    """A step that does not meet the end stays below it; a step is 1 unless given."""
    assert (1, 3) == expand({"min": 1, "max": 4, "step": 2}, number)
    assert (1, 2, 3) == expand({"min": 1, "max": 3}, number)


@given(st.lists(st.integers() | st.floats() | st.text() | st.booleans() | st.none(), max_size=4))
@settings(deadline=None)
def test_lists_keep_their_order_or_are_refused(values: list[Any]) -> None:
    """A list of scalars stands for its values as written; anything else is Wrong, never another exception."""
    with contextlib.suppress(Wrong):
        assert values == list(expand(values, scalar))


def test_the_way_to_a_wrong_value_is_known() -> None:
    """Wrong says which element of a list or which key of a range it is."""
    with pytest.raises(Wrong) as in_list:
        expand([1, 2, "x"], number)
    with pytest.raises(Wrong) as in_range:
        expand({"min": 1, "max": "x"}, number)
    assert ((2,), ("max",)) == (in_list.value.at, in_range.value.at)
