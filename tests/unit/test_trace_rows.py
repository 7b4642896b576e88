"""The rows behind an analysis: AEFM's columns."""

from __future__ import annotations

import numpy as np

from pytest_aefm.collectors.spans import SERVER, SpanRows
from pytest_aefm.collectors.trace_rows import call_columns, trace_columns
from pytest_aefm.collectors.traces import TraceAnalysis, analyse
from tests.unit.trace_reference import columns, server


def analysed() -> TraceAnalysis:
    """Return the analysis of a request with two calls at once and one after them, in pods."""
    made = SpanRows()
    spans = [(1, 0, "a", 0, 100), (2, 1, "b", 10, 60), (3, 1, "b", 20, 70), (4, 1, "c", 80, 90)]
    for span, parent, name, start, end in spans:
        made.add(0xAB, span, parent, name, f"do {name}", SERVER, start * 1000, end * 1000, pod=f"{name}-0")
    return analyse(made.build())


def test_each_child_is_a_row_with_its_parent() -> None:
    """A parent of 100 us with children 10-60, 20-70 and 80-90 has 30 us of its own, in two steps."""
    rows = {name: list(column) for name, column in call_columns(analysed()).items()}
    assert ["0" * 30 + "ab"] * 3 == rows["trace_id"]
    assert [f"{number:016x}" for number in (2, 3, 4)] == rows["child_id"]
    assert {"0" * 15 + "1"} == set(rows["parent_id"])
    assert (["b", "b", "c"], ["a"] * 3) == (rows["child_ms"], rows["parent_ms"])
    assert (["b-0", "b-0", "c-0"], ["a-0"] * 3) == (rows["child_pod"], rows["parent_pod"])
    assert (["do b", "do b", "do c"], ["do a"] * 3) == (rows["child_operation"], rows["parent_operation"])
    assert ([10, 20, 80], [60, 70, 90], [0] * 3) == (rows["start_time"], rows["end_time"], rows["trace_time"])
    assert ([50, 50, 10], [100] * 3) == (rows["child_duration"], rows["parent_duration"])
    assert ([30] * 3, [0, 0, 1]) == (rows["exact_parent_duration"], rows["step"])


def test_each_trace_is_a_row() -> None:
    """Its duration is the root's."""
    found = trace_columns(analysed())
    assert (["0" * 30 + "ab"], [100.0]) == (found["trace_id"], found["trace_duration"].tolist())


def test_rows_are_of_the_windows_traces() -> None:
    """What began before it is not in the tables either."""
    spans = columns(server(1, 0, "a", 5, 90), server(2, 1, "b", 20, 30))
    outside = analyse(spans, 10, 99)
    assert (0, 0) == (len(call_columns(outside)["child_id"]), len(trace_columns(outside)["trace_id"]))


def test_children_that_touch_are_one_step() -> None:
    """A call that begins when the one before ends; one that begins later is the next step."""
    spans = columns(
        server(1, 0, "a", 0, 90), server(2, 1, "b", 0, 10), server(3, 1, "b", 10, 20), server(4, 1, "b", 21, 22)
    )
    assert [0, 0, 1] == np.asarray(call_columns(analyse(spans))["step"]).tolist()
