"""Analysis of traces, against cases worked by hand and a slow, obvious reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_aefm.collectors.forest import Forest
from pytest_aefm.collectors.intervals import union_ns
from pytest_aefm.collectors.spans import INTERNAL, SERVER, Spans
from pytest_aefm.collectors.traces import analyse, self_times_ns
from tests.unit.trace_reference import ALWAYS, EXAMPLES, Reference, Row, client, columns, rows, server, ticks


def self_us(spans: Spans, service: str) -> list[float]:
    """Return the self times of a service's requests in nanoseconds (the rows' unit)."""
    return [float(value) for value in np.round(analyse(spans, *ALWAYS).services[service].self_time_us * 1e3)]


def test_overlapping_children_are_subtracted_once() -> None:
    """A parent of 100 with children 10-60 and 20-70 has 40 of its own."""
    spans = columns(server(1, 0, "a", 0, 100), server(2, 1, "b", 10, 60), server(3, 1, "b", 20, 70))
    assert [40, 50, 50] == self_times_ns(Forest.of(spans)).tolist()
    assert [40.0] == self_us(spans, "a")


def test_children_are_clipped_to_their_parent() -> None:
    """What a child does before or after its parent is not the parent's time."""
    spans = columns(server(1, 0, "a", 10, 20), server(2, 1, "b", 0, 12), server(3, 1, "b", 18, 99))
    assert [6.0] == self_us(spans, "a")


def test_waiting_for_a_call_is_not_own_time() -> None:
    """The client span counts, with the network in it: neither side's self time, but the callee's transit."""
    spans = columns(server(1, 0, "a", 0, 100), client(2, 1, "a", 20, 80), server(3, 2, "b", 30, 70))
    analysis = analyse(spans, *ALWAYS)
    assert [40.0] == self_us(spans, "a")
    assert [40.0] == self_us(spans, "b")
    assert [pytest.approx(0.020)] == analysis.services["b"].transit_us.tolist()


def test_a_call_that_nobody_answered_is_still_not_own_time() -> None:
    """A client span without a server span, as of a store that is not traced, is remote work."""
    assert [40.0] == self_us(columns(server(1, 0, "a", 0, 100), client(2, 1, "a", 20, 80)), "a")


def test_internal_spans_are_own_time_and_calls_beneath_them_are_not() -> None:
    """The owner of a call is found through internal spans."""
    spans = columns(
        server(1, 0, "a", 0, 100),
        Row(1, 2, 1, "a", INTERNAL, 10, 90),
        client(3, 2, "a", 20, 50),
        server(4, 3, "b", 20, 50),
    )
    assert [70.0] == self_us(spans, "a")


def test_a_service_that_calls_itself_serves_two_requests() -> None:
    """A server span is a request of its own even where the caller is the same service."""
    spans = columns(server(1, 0, "a", 0, 100), client(2, 1, "a", 20, 80), server(3, 2, "a", 30, 70))
    assert [40.0, 40.0] == self_us(spans, "a")


def test_traces_belong_to_the_window_of_their_roots_start() -> None:
    """The start is inside, the end is not; what the trace does later belongs to it."""
    spans = columns(*(Row(trace, 1, 0, "a", SERVER, trace, 1000) for trace in (9, 10, 19, 20)))
    assert 2 == analyse(spans, 10, 20).traces


def test_errors_are_counted_by_service_and_at_the_root() -> None:
    """A failed call is an error of the service that failed it."""
    spans = columns(server(1, 0, "a", 0, 9), Row(1, 2, 1, "b", SERVER, 1, 2, error=True))
    analysis = analyse(spans, *ALWAYS)
    assert (0, 1, 0) == (analysis.services["a"].errors, analysis.services["b"].errors, analysis.errors)


def test_an_orphan_is_a_request_whose_caller_is_unknown() -> None:
    """A span whose parent is missing is counted, measured, and subtracted from nobody."""
    spans = columns(server(1, 0, "a", 0, 100), server(3, 2, "b", 20, 50))
    assert 1 == analyse(spans, *ALWAYS).orphans
    assert ([100.0], [30.0]) == (self_us(spans, "a"), self_us(spans, "b"))


def test_a_trace_without_root_is_in_no_window() -> None:
    """Its start is not known."""
    analysis = analyse(columns(server(3, 2, "b", 20, 50)), *ALWAYS)
    assert (0, 1, {}) == (analysis.traces, analysis.rootless, analysis.services)


def test_a_duplicate_is_counted_and_left_out() -> None:
    """A span exported twice is one span; the same span id in another trace is another span."""
    row = server(1, 0, "a", 0, 10)
    analysis = analyse(columns(row, row, Row(2, 1, 0, "a", SERVER, 0, 10)), *ALWAYS)
    assert (2, 1) == (analysis.services["a"].count, analysis.duplicates)


@pytest.mark.parametrize("shift", [0, 32, 40, 56])
def test_any_ids_find_their_parents(shift: int) -> None:
    """Ids that are alike in most of their bits are told apart, and those that are not there are not found."""
    rows = [
        Row(trace, span << shift, (span - 1) << shift, "a", SERVER, 0, 1) for trace in (1, 2) for span in range(1, 200)
    ]
    forest = Forest.of(
        columns(*rows, Row(1, 7 << shift, 250 << shift, "a", SERVER, 0, 1), Row(2, 300, 299, "a", 1, 0, 1))
    )
    assert [-1, *range(198), -1, *range(199, 397), -1] == forest.parent.tolist()
    assert ([1, 0], [398]) == (forest.duplicates.tolist(), np.flatnonzero(forest.orphan).tolist())


def test_a_cycle_is_counted_and_left_out() -> None:
    """Spans that are each other's ancestors, and those beneath them, have no time that means anything."""
    spans = columns(
        server(1, 0, "a", 0, 9),
        server(2, 3, "b", 1, 2),
        server(3, 2, "b", 1, 2),
        server(4, 2, "c", 1, 2),
        server(5, 5, "c", 1, 2),
    )
    analysis = analyse(spans, *ALWAYS)
    assert (4, ["a"]) == (analysis.cyclic, list(analysis.services))


def test_children_outside_their_parent_are_counted() -> None:
    """A child that starts before its parent tells of clocks that disagree."""
    spans = columns(
        server(1, 0, "a", 10, 20), server(2, 1, "b", 9, 15), server(3, 1, "b", 12, 21), server(4, 1, "b", 10, 20)
    )
    assert 2 == analyse(spans, *ALWAYS).skewed


def test_a_span_that_ends_before_it_starts_is_empty() -> None:
    """It is counted, and takes no time."""
    analysis = analyse(columns(server(1, 0, "a", 50, 10)), *ALWAYS)
    assert (1, [0.0]) == (analysis.inverted, analysis.services["a"].duration_us.tolist())


def test_no_spans_are_no_traces() -> None:
    """The empty store is analysed like any other."""
    analysis = analyse(columns(), *ALWAYS)
    assert (0, 0, {}, 0) == (analysis.traces, analysis.spans, analysis.services, len(analysis.end_to_end_us))


def test_times_of_any_size_do_not_overflow() -> None:
    """A span without a start (0) that ends now lasts 50 years; a union of many is exact all the same."""
    now = 1_800_000_000 * 10**9
    ends = np.full(1000, now, np.int64)
    group = np.arange(1000) // 2
    assert [now] * 500 == union_ns(np.zeros(1000, np.int64), ends, group, 500).tolist()


def test_parts_with_other_names_are_joined() -> None:
    """Bodies of different services keep their names when their columns are joined."""
    joined = Spans.concatenate([columns(server(1, 0, "a", 0, 9)), columns(server(2, 1, "b", 1, 2))])
    assert ["a", "b"] == [joined.services[number] for number in joined.service]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(rows, max_size=24), st.integers(0, 30), st.integers(0, 30))
def test_analysis_equals_the_reference(given_rows: list[Row], start: int, end: int) -> None:
    """Parallel, nested, overlapping, empty, orphaned, duplicate, cyclic and skewed spans: all the same numbers."""
    expected, actual = Reference(given_rows, (start, end)), analyse(columns(*given_rows), start, end)
    assert len(expected.roots) == actual.traces
    assert expected.rootless == actual.rootless
    assert len(expected.rows) == actual.spans
    assert expected.duplicates == actual.duplicates
    assert sum(map(expected.cyclic, expected.rows)) == actual.cyclic
    assert sum(r.parent > 0 and expected.parent(r) is None for r in expected.rows) == actual.orphans
    assert sum(r.end < r.start for r in expected.rows) == actual.inverted
    assert sum(r.error for r in expected.roots) == actual.errors
    assert sorted(len(ticks(r)) for r in expected.roots) == sorted(np.round(actual.end_to_end_us * 1e3).tolist())
    for service in "abc":
        found = actual.services.get(service)
        pairs = zip(found.duration_us, found.self_time_us, strict=True) if found else ()
        assert expected.requests(service) == sorted((round(d * 1e3), round(s * 1e3)) for d, s in pairs)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(rows, max_size=24))
def test_self_times_equal_the_reference(given_rows: list[Row]) -> None:
    """Duration minus the union of all children, for every span that is in no cycle."""
    reference, forest = Reference(given_rows, ALWAYS), Forest.of(columns(*given_rows))
    expected = []
    for row in reference.all.values():
        children = [c for c in reference.all.values() if reference.parent(c) is row and not reference.cyclic(c)]
        expected.append(len(ticks(row) - set().union(*map(ticks, children))))
    assert expected == self_times_ns(forest).tolist()
