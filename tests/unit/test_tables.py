"""AEFM's tables: what their columns hold, and where AEFM 0.2.0 differs."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest

from pytest_aefm.collectors import Observations
from pytest_aefm.collectors.spans import CLIENT, SERVER, SpanRows, Spans
from pytest_aefm.collectors.tables import call_graph, hardware_data, statistical_data, tables_of, timeseries
from pytest_aefm.collectors.traces import TraceAnalysis, analyse
from pytest_aefm.model import AppSpec, Case, LoadResult, LoadSpec, Trial, Verdict, Window

WINDOW = Window(0.0, 0.0, 10.0)


def spans(*rows: tuple[int, int, str, int, int, int]) -> Spans:
    """Return spans of (id, parent, service, kind, start, end), in milliseconds, each trace by its first digit."""
    made = SpanRows()
    for span, parent, service, kind, start, end in rows:
        made.add(span // 10 + 1, span, parent, service, "GET", kind, start * 10**6, end * 10**6)
    return made.build()


PARALLEL = (
    (1, 0, "front", SERVER, 1000, 1100),
    (2, 1, "a", SERVER, 1010, 1060),
    (3, 1, "b", SERVER, 1020, 1070),
)
"""Parent 100, children 10-60 and 20-70."""


def analysis(*rows: Any) -> TraceAnalysis:
    """Return the analysis of spans in a window of ten seconds."""
    return analyse(spans(*rows), 0, 10 * 10**9)


def made(name: str, *rows: Any) -> dict[str, Any]:
    """Return a table's columns as lists."""
    seen = {"traces": Observations(traces=analysis(*rows))}
    columns = tables_of(load(), seen)[name]()
    return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in columns.items()}


def load() -> LoadResult:
    """Return a load of 100 answered requests in ten seconds."""
    return LoadResult(
        driver="aefm-wrk",
        version="1",
        window=WINDOW,
        drain_s=0.0,
        offered=100,
        sent=100,
        attempted=100,
        achieved=100,
        outcomes={"success": 100},
        latency={},
    )


def test_throughput_is_what_was_answered() -> None:
    """Requests a second of the window."""
    assert {"real_throughput": [10.0]} == dict(tables_of(load(), {})["throughput_data"]())


def test_tables_are_those_of_what_was_collected() -> None:
    """Without traces there are no tables of them; a collector may bring its own."""
    own = Observations(tables={"own": lambda: {"x": [1]}})
    assert ["throughput_data", "own"] == list(tables_of(load(), {"own": own}))


def test_parallel_calls_are_subtracted_once() -> None:
    """Parent 100, children 10-60 and 20-70: self time 40, where AEFM gets -20 and drops the rows."""
    rows = made("raw_data", *PARALLEL)
    assert [40_000.0, 40_000.0] == rows["exact_parent_duration"]
    assert rows["step"][0] == rows["step"][1]


def test_raw_data_has_aefms_columns() -> None:
    """In AEFM's order of them, trace and both ends of each call, in microseconds."""
    names = (
        "trace_id trace_time start_time end_time parent_id child_id child_operation parent_operation child_ms "
        "child_pod parent_ms parent_pod parent_duration child_duration exact_parent_duration step"
    )
    rows = made("raw_data", *PARALLEL)
    assert names.split() == list(rows)
    assert (["a", "b"], ["front", "front"], [50_000.0, 50_000.0]) == (
        rows["child_ms"],
        rows["parent_ms"],
        rows["child_duration"],
    )


def test_end_to_end_data_is_of_roots() -> None:
    """One row a trace."""
    rows = made("end_to_end_data", *PARALLEL)
    assert (["trace_id", "trace_duration"], [100_000.0]) == (list(rows), rows["trace_duration"])


def test_statistical_data_is_over_requests() -> None:
    """Two calls of 10 and 90 ms in one trace are two requests; AEFM takes their mean for one of 50."""
    rows = statistical_data(
        analysis(
            (1, 0, "front", SERVER, 1000, 1200),
            (2, 1, "a", SERVER, 1000, 1010),
            (3, 1, "a", SERVER, 1100, 1190),
        )
    )
    assert ["front", "a"] == sorted(rows["microservice"], reverse=True)
    place = rows["microservice"].index("a")
    assert (2, 10_000.0, 90_000.0) == (rows["requests"][place], rows["p50"][place], rows["p95"][place])


def test_the_call_graph_says_who_called_whom() -> None:
    """Latency is what the caller saw, the client's span where there is one; entries are no calls."""
    rows = call_graph(
        analysis(
            (1, 0, "front", SERVER, 1000, 1100),
            (2, 1, "front", CLIENT, 1010, 1060),
            (3, 2, "a", SERVER, 1020, 1050),
            (11, 0, "front", SERVER, 2000, 2100),
        )
    )
    edges = list(zip(rows["caller"], rows["callee"], rows["calls"], rows["rate_rps"], rows["p50"], strict=True))
    assert [("front", "a", 1, 0.1, 50_000.0)] == edges


def test_no_traces_are_no_rows() -> None:
    """An empty analysis gives tables with their columns and without rows."""
    empty = analysis()
    assert [] == statistical_data(empty)["microservice"]
    assert [] == call_graph(empty)["caller"]


def test_the_time_series_has_a_row_a_second() -> None:
    """What was due, what came, latencies in microseconds; a second without success has none."""
    second = {"offered": 10, "sent": 10, "completed": 9, "backlog": 0.5, "p50_us": 5, "p99_us": 9, "max_us": 9}
    empty = dict.fromkeys(("p50_us", "p99_us", "max_us"))
    outcomes = {"success": 8, "5xx": 2}
    rows = timeseries([{**second, "outcomes": outcomes}, {**second, **empty, "outcomes": {"5xx": 10}}])
    assert ([0, 1], [8, 0], [2, 10], 5.0) == (rows["second"], rows["success"], rows["failed"], rows["p50"][0])
    assert math.isnan(rows["p50"][1])


def test_hardware_data_is_percent_of_limits_at_the_peak() -> None:
    """Of a peak that is not known, and of what has no limit, there is no number."""
    pod = {"samples": 5, "cpu_peak": 0.5, "memory_share": 0.25, "memory_max_bytes": 100.0, "cpu_cores": 0.1}
    services: dict[str, Any] = {"geo": {"pods": {"geo-1": pod}}, "rate": {"pods": {"rate-1": {"samples": 0}}}}
    rows = hardware_data(services, {"memory_share(geo)": "too few"})
    assert ["microservice", "pod", "cpu_usage", "mem_usage"] == list(rows)[:4]
    assert (50.0, 0.1) == (rows["cpu_usage"][0], rows["cpu_cores"][0])
    assert all(math.isnan(one) for one in (rows["mem_usage"][0], rows["cpu_usage"][1]))


def trial(**tables: Any) -> Trial:
    """Return a trial with tables."""
    spec = LoadSpec("x.lua", 100, 10)
    case = Case("hotel-100rps", "hotel", "local", AppSpec("hotel"), (), spec, {"rate": 100.0, "step": 2})
    return Trial(case, Verdict.PASSED, tables={name: partial(dict, columns) for name, columns in tables.items()})


def test_each_row_has_the_factors() -> None:
    """With the case and the attempt; a factor that is called as a column is told apart."""
    found = trial(raw_data={"step": [0, 1]}).table("raw_data")
    expected = {
        "step": [0, 1],
        "rate": [100.0] * 2,
        "factor_step": [2, 2],
        "case": ["hotel-100rps"] * 2,
        "attempt": [1, 1],
    }
    assert expected == found


def test_frames_are_the_tables() -> None:
    """One DataFrame a table."""
    pytest.importorskip("pandas")
    frame = trial(raw_data={"x": [1.5, 2.5]}).frames()["raw_data"]
    assert ([1.5, 2.5], [100.0, 100.0]) == (frame["x"].tolist(), frame["rate"].tolist())
