"""Blame: which services a violated latency is laid to, and what the message says of them."""

from __future__ import annotations

from typing import Any

from pytest_aefm.collectors.blame import find_blame
from pytest_aefm.collectors.spans import CLIENT, SERVER, SpanRows
from pytest_aefm.collectors.traces import TraceAnalysis, analyse
from pytest_aefm.decision import SLOResult
from pytest_aefm.judgement import blame_lines

VIOLATED = SLOResult("p50 < 50ms", "p50", "violated", "<", 50.0, "ms", 80.0)


def traces(*slow_ms: int) -> TraceAnalysis:
    """Return traces of front (10 ms of its own), which calls back by a client span; back takes so many ms."""
    rows = SpanRows()
    for number, back in enumerate(slow_ms, 1):
        start = number * 10**9
        end = start + (10 + back) * 10**6
        rows.add(number, 1, 0, "front", "GET /", SERVER, start, end)
        rows.add(number, 2, 1, "front", "GET /back", CLIENT, start + 5 * 10**6, end - 5 * 10**6)
        rows.add(number, 3, 2, "back", "GET /back", SERVER, start + 7 * 10**6, end - 5 * 10**6)
    return analyse(rows.build(), 0, 10**12)


def test_the_service_with_the_most_of_the_critical_path_comes_first() -> None:
    """In the traces that are slower than the limit, with the way to it apart."""
    blame = find_blame([VIOLATED], traces(5, 90), {}, {})
    assert blame is not None
    assert (50.0, 1, 2) == (blame.limit_ms, blame.slow, blame.traces)
    first, second = blame.suspects
    assert ("back", 0.9, 88.0, 2.0) == (first.service, first.share, first.own_ms, first.transit_ms)
    assert ("front", 10.0) == (second.service, second.own_ms)


def test_its_state_is_told_where_it_is_known() -> None:
    """CPU of its limit, run delay, throttling and restarts; what is not known is left out."""
    metrics = {"cpu(back)": 0.97, "throttled(back)": 0.4, "restarts(back)": 0.0}
    blame = find_blame([VIOLATED], traces(90), metrics, {"run_delay_ms_per_s": {"back": 123.4}})
    assert blame is not None
    assert [
        "on the critical path of the 1 of 1 traces slower than 50 ms:",
        "  back: 90%, 88 ms of its own in a trace and 2 ms on the way to it; CPU 97% of its limit; run delay 123 ms/s; "
        "throttled 40%; restarts 0",
        "  front: 10%, 10 ms of its own in a trace and 0 ms on the way to it",
    ] == blame_lines(blame)


def test_without_a_slow_trace_requests_waited_before_the_entry() -> None:
    """What lies before the entry is in no trace, and is said so."""
    blame = find_blame([VIOLATED], traces(5), {}, {})
    assert blame is not None
    assert "none took longer than 50 ms, so requests waited before the entry" in blame_lines(blame)[0]


def test_only_violated_latencies_are_laid_to_somebody() -> None:
    """Neither a share, nor what holds, nor a violation without traces."""
    others: list[Any] = [
        SLOResult("p50 < 50ms", "p50", "passed", "<", 50.0, "ms", 10.0),
        SLOResult("goodput >= 99%", "goodput", "violated", ">=", 0.99, "share", 0.5),
    ]
    assert find_blame(others, traces(90), {}, {}) is None
    assert find_blame([VIOLATED], None, {}, {}) is None
    assert find_blame([VIOLATED], traces(), {}, {}) is None
