"""Traces of too few of the requests decide nothing."""

from __future__ import annotations

import pytest

from pytest_aefm.assessment import assess
from pytest_aefm.collectors import Observations
from pytest_aefm.collectors.spans import SERVER, SpanRows
from pytest_aefm.collectors.trace_figures import trace_observations
from pytest_aefm.errors import ConfigurationError
from pytest_aefm.experiment import from_options
from pytest_aefm.model import AppSpec, Case, LoadResult, LoadSpec, Trial, Verdict, Window
from pytest_aefm.slo import parse

WINDOW = Window(1_700_000_000.0, 0.0, 10.0)


def observed(traces: int) -> Observations:
    """Return what a collector saw: requests at ``rate`` of 1 ms each, all in the window."""
    made = SpanRows()
    for number in range(1, traces + 1):
        start = 1_700_000_000_000_000_000 + number * 1000
        made.add(number, number, 0, "rate", "/", SERVER, start, start + 10**6)
    return trace_observations(made.build(), WINDOW, {})


def judged(traces: int, sent: int | None, least: float) -> Trial:
    """Return a trial with an SLO on self time and one on coverage, judged by point values."""
    load = LoadSpec("x.lua", 10.0, 10.0)
    slos = (parse("self_time(rate, p95) < 20ms"), parse("trace_coverage >= 50%"))
    app = AppSpec("hotel")
    case = Case("x", "x", "local", app, (), load, {}, slos, min_trace_coverage=least)
    result = LoadResult(
        driver="aefm-wrk",
        version="1",
        window=WINDOW,
        drain_s=0.0,
        offered=100,
        sent=sent,
        attempted=sent,
        achieved=100,
        outcomes={"success": 100},
        latency={},
    )
    seen = {"testbed": Observations(), "traces": observed(traces)}
    return assess(Trial(case, Verdict.BROKEN), result, seen, {}, (), 0.0)


def test_coverage_is_the_share_of_requests_sent() -> None:
    """90 traces of 100 requests; where the driver does not know what it sent, of those answered."""
    assert (0.9, 0.9) == (
        judged(90, 100, 0.0).metrics["trace_coverage"],
        judged(90, None, 0.0).metrics["trace_coverage"],
    )


def test_slos_on_traces_hold_where_coverage_suffices() -> None:
    """And coverage can be an SLO itself."""
    trial = judged(90, 100, 0.9)
    assert ["passed", "passed"] == [result.verdict for result in trial.slos]


def test_too_little_coverage_is_no_data() -> None:
    """With how much there was, and how much was to be."""
    trial = judged(89, 100, 0.9)
    assert ["no_data", "passed"] == [result.verdict for result in trial.slos]
    assert "traces of 89.0% of the requests sent, min_trace_coverage 90.0%" in trial.findings[0].message
    assert not [name for name in trial.metrics if name.startswith("self_time")]


@pytest.mark.parametrize(("written", "share"), [("90%", 0.9), (0.25, 0.25), (1, 1.0), ("12.5 %", 0.125)])
def test_the_least_coverage_is_a_key_of_the_experiment(written: object, share: float) -> None:
    """As percent or as a share of 1."""
    options = {"app": "hotel", "script": "hotel/search.lua", "rate": 10, "duration": 60, "min_trace_coverage": written}
    chosen = from_options({**options, "slos": "none"}, where="test", name="x")
    assert {share} == {case.min_trace_coverage for case in chosen.cases()}


@pytest.mark.parametrize("written", ["90", "101%", 1.5, -0.1, True])
def test_a_coverage_that_means_nothing_is_refused(written: object) -> None:
    """Before anything is deployed."""
    options = {"app": "hotel", "script": "hotel/search.lua", "rate": 10, "duration": 60, "min_trace_coverage": written}
    with pytest.raises(ConfigurationError, match="min_trace_coverage: expected a share from 0 to 1, or such as 90%"):
        from_options(options, where="test", name="x")
