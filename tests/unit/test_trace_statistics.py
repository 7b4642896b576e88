"""Figures of an analysis: percentiles equal those of a plain list, calls and clocks those worked by hand."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_aefm.collectors.spans import SERVER, SpanRows
from pytest_aefm.collectors.trace_statistics import (
    PERCENTS,
    edge_rows,
    end_to_end,
    operation_rows,
    pod_rows,
    service_rows,
    skew_rows,
)
from pytest_aefm.collectors.traces import analyse
from tests.unit.trace_reference import ALWAYS, EXAMPLES, Reference, Row, client, columns, rows, server


def percentile(values: list[int], percent: int) -> int:
    """Return the smallest value that so many percent do not exceed."""
    return sorted(values)[ceil(Fraction(percent * len(values), 100)) - 1]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(rows, max_size=24))
def test_percentiles_equal_the_reference(given_rows: list[Row]) -> None:
    """Of durations and self times, per service and per operation, in nanoseconds (shown as ms, rounded)."""
    reference = Reference(given_rows, ALWAYS)
    # A thousand times as long, so that rounding to five digits of a millisecond loses nothing.
    analysis = analyse(columns(*(row.times(1000) for row in given_rows)), *ALWAYS)
    for row in service_rows(analysis):
        requests = reference.requests(row["service"])
        for name, column in (("duration", 0), ("self", 1)):
            values = [request[column] for request in requests]
            expected = [percentile(values, percent) / 1e3 for percent in PERCENTS]
            assert expected == [row[f"{name}_p{percent}_ms"] for percent in PERCENTS]
        assert len(requests) == row["requests"]
    for row in operation_rows(analysis):
        own = [one for one in reference.rows if (one.service, f"op {one.kind}") == (row["service"], row["operation"])]
        durations = [max(0, one.end - one.start) for one in own if not reference.cyclic(one)]
        expected = [percentile(durations, percent) / 1e3 for percent in PERCENTS]
        assert expected == [row[f"duration_p{percent}_ms"] for percent in PERCENTS]


def test_fan_out_and_parallelism_tell_how_calls_are_made() -> None:
    """Two calls of 40 that overlap for 20: 80 called in 60 waited."""
    spans = columns(server(1, 0, "a", 0, 100), server(2, 1, "b", 10, 50), server(3, 1, "b", 30, 70))
    row = next(row for row in service_rows(analyse(spans, *ALWAYS)) if row["service"] == "a")
    assert (2.0, pytest.approx(80 / 60, abs=1e-4)) == (row["fan_out"], row["parallelism"])
    assert next(row for row in service_rows(analyse(spans, *ALWAYS)) if row["service"] == "b")["parallelism"] is None


def test_an_edge_has_the_latency_that_the_caller_sees() -> None:
    """The client span's 60, of which 20 are transit; through an internal span the caller is the same."""
    spans = columns(server(1, 0, "a", 0, 100), client(2, 1, "a", 20, 80), server(3, 2, "b", 30, 70))
    (edge,) = edge_rows(analyse(spans, 0, 10**9))
    assert ("a", "b", 1, 1.0) == (edge["caller"], edge["callee"], edge["calls"], edge["rate_rps"])
    assert (0.00006, 0.00002) == (edge["latency_p50_ms"], edge["transit_p50_ms"])


def test_an_orphan_is_called_by_nobody() -> None:
    """No edge is made up."""
    assert [] == edge_rows(analyse(columns(server(1, 0, "a", 0, 9), server(3, 2, "b", 1, 2)), *ALWAYS))


def test_pods_are_told_apart() -> None:
    """Each replica has its own row."""
    made = SpanRows()
    for span, pod in enumerate(("geo-0", "geo-1", "geo-1"), 1):
        made.add(span, span, 0, "geo", "op", SERVER, 0, span * 10**6, pod=pod)
    found = {row["pod"]: (row["requests"], row["duration_p50_ms"]) for row in pod_rows(analyse(made.build()))}
    assert {"geo-0": (1, 1.0), "geo-1": (2, 2.0)} == found


def test_a_clock_that_is_behind_is_named() -> None:
    """A callee that begins 3 ms before it is called, once: its pod's clock is at least that much behind."""
    made = SpanRows()
    made.add(1, 1, 0, "a", "op", SERVER, 10**7, 2 * 10**7, pod="a-0")
    made.add(1, 2, 1, "b", "op", SERVER, 7 * 10**6, 10**7, pod="b-0")
    (row,) = skew_rows(analyse(made.build()))
    assert ("a", "b", "b-0", 1, 3.0) == (row["caller"], row["callee"], row["pod"], row["spans"], row["behind_ms"])


def test_the_end_to_end_latency_is_that_of_the_roots() -> None:
    """Nearest rank, in ms; no traces have none."""
    roots = [Row(number, 1, 0, "a", SERVER, 0, number * 10**6) for number in range(1, 21)]
    found = end_to_end(analyse(columns(*roots)))
    assert (20, 10.0, 19.0, 20.0, 20.0) == tuple(found[k] for k in ("traces", "p50_ms", "p95_ms", "p99_ms", "max_ms"))
    assert {"traces": 0, "error_share": None} == end_to_end(analyse(columns()))
