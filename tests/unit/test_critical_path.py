"""Critical paths, against cases worked by hand and a slow, obvious reference."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_aefm.collectors.spans import Spans
from pytest_aefm.collectors.traces import analyse
from tests.unit.trace_reference import ALWAYS, EXAMPLES, Reference, Row, client, columns, rows, server


def path(spans: Spans) -> dict[int, int]:
    """Return the own nanoseconds of each span on the critical path, by span id."""
    analysis = analyse(spans, *ALWAYS)
    on = analysis.critical.on
    ids = analysis.forest.spans.span_id[on].tolist()
    return dict(zip(ids, analysis.critical.own_ns[on].tolist(), strict=True))


def test_calls_in_turn_are_all_on_the_path() -> None:
    """What lies between them is the caller's own."""
    spans = columns(server(1, 0, "a", 0, 100), server(2, 1, "b", 10, 40), server(3, 1, "c", 40, 90))
    assert {1: 20, 2: 30, 3: 50} == path(spans)


def test_of_parallel_calls_the_last_to_end_is_on_the_path() -> None:
    """The other one could take longer without anybody noticing."""
    spans = columns(server(1, 0, "a", 0, 100), server(2, 1, "b", 10, 60), server(3, 1, "c", 20, 80))
    assert {1: 40, 3: 60} == path(spans)


def test_beneath_a_call_that_is_not_on_the_path_nothing_is() -> None:
    """However long that took."""
    spans = columns(
        server(1, 0, "a", 0, 100), server(2, 1, "b", 10, 60), server(3, 2, "d", 10, 60), server(4, 1, "c", 20, 80)
    )
    assert {1: 40, 4: 60} == path(spans)


def test_a_span_that_outlives_its_caller_is_cut_off_there() -> None:
    """And so is what lies beneath it."""
    spans = columns(server(1, 0, "a", 0, 50), server(2, 1, "b", 20, 90), server(3, 2, "c", 40, 80))
    assert {1: 20, 2: 20, 3: 10} == path(spans)


def test_a_span_outside_its_parent_is_on_no_path() -> None:
    """Nothing is left of it."""
    spans = columns(server(1, 0, "a", 0, 50), server(2, 1, "b", 60, 90), server(3, 1, "b", 20, 20))
    assert {1: 50} == path(spans)


def test_the_path_begins_at_the_first_root() -> None:
    """Orphans and further roots have paths that nobody waited for."""
    spans = columns(server(1, 0, "a", 0, 50), server(2, 0, "b", 1, 99), server(3, 9, "c", 1, 99))
    assert {1: 50} == path(spans)


def test_waiting_for_an_answer_is_the_callees_transit() -> None:
    """A call that nobody answered is the caller's own."""
    spans = columns(
        server(1, 0, "a", 0, 100), client(2, 1, "a", 10, 60), server(3, 2, "b", 20, 50), client(4, 1, "a", 70, 90)
    )
    a, b = (analyse(spans, *ALWAYS).services[name] for name in "ab")
    assert (0.05, 0.0) == (a.critical_us, a.critical_transit_us)
    assert (0.03, 0.02) == (b.critical_us, b.critical_transit_us)
    assert (0.5, 0.5) == (a.critical_share, b.critical_share)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(rows, max_size=24), st.integers(0, 30), st.integers(0, 30))
def test_critical_paths_equal_the_reference(given_rows: list[Row], start: int, end: int) -> None:
    """Parallel, nested, overlapping, empty, orphaned, duplicate, cyclic and skewed spans: all the same paths."""
    reference, analysis = Reference(given_rows, (start, end)), analyse(columns(*given_rows), start, end)
    expected = {row: own for root in reference.roots for row, own in reference.path(root).items()}
    on, own = analysis.critical.on.tolist(), analysis.critical.own_ns.tolist()
    found = zip(reference.all.values(), on, own, strict=True)
    assert expected == {row: time for row, there, time in found if there}


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(rows, max_size=24))
def test_own_times_add_up_to_the_end_to_end_latency(given_rows: list[Row]) -> None:
    """Nothing on a path is counted twice, and nothing is missing."""
    analysis = analyse(columns(*given_rows), *ALWAYS)
    assert pytest.approx(analysis.end_to_end_us.sum()) == analysis.critical.own_ns.sum() / 1e3
    shares = [service.critical_share for service in analysis.services.values()]
    assert not analysis.end_to_end_us.sum() or pytest.approx(1.0) == sum(shares)
