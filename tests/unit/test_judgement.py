"""From evidence to a verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.judgement import (
    abort_findings,
    dose_checks,
    findings_of,
    format_value,
    judge_slos,
    load_checks,
    slo_table,
    verdict_of,
)
from pytest_aefm.model import CheckResult, Dose, Finding, LoadResult, Verdict, Window
from pytest_aefm.slo import parse

WINDOW = Window(1_000.0, 10.0, 5.0)


def load(**changes: object) -> LoadResult:
    """A run of 200 good requests at 10 ms, with changes."""
    good = LoadResult(
        driver="aefm-wrk",
        version="1",
        window=WINDOW,
        drain_s=0.01,
        offered=200,
        sent=200,
        attempted=200,
        achieved=200,
        outcomes={"success": 200},
        latency={"success": LatencyHistogram.of([10_000.0] * 200)},
        pacer_lag=LatencyHistogram.of([50.0] * 200),
        backlog=LatencyHistogram(),
        backlog_quarters=(0.0, 0.0, 0.0, 0.0),
        backlog_at_end=0,
        connections_asked=20,
        connections_reached=20,
        open_failures=0,
        threads_cpu=(0.02,),
        clock_step_s=0.0,
    )
    return replace(good, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, set()),
        ({"pacer_lag": LatencyHistogram.of([50.0] * 190 + [1_500.0] * 10)}, {"pacer lag p99"}),
        ({"threads_cpu": (0.2, 0.9)}, {"generator cpu"}),
        ({"connections_reached": 19}, {"connections"}),
        ({"connections_reached": 0, "outcomes": {"success": 100, "connect_error": 100}}, set()),
        ({"open_failures": 1}, {"local open failures"}),
        ({"clock_step_s": -0.02}, {"clock step"}),
        ({"interrupted": True}, {"load complete"}),
    ],
)
def test_self_checks_of_the_load(changes: dict[str, object], failed: set[str]) -> None:
    """Each fault of the apparatus fails its own self-check, a refusing application none."""
    assert failed == {item.name for item in load_checks(load(**changes)) if not item.ok}


def test_lag_may_be_a_tenth_of_p50() -> None:
    """A slow application allows more pacer lag: 10 % of its p50."""
    slow = {"success": LatencyHistogram.of([100_000.0] * 200)}
    lagging = load(latency=slow, pacer_lag=LatencyHistogram.of([5_000.0] * 200))
    assert all(item.ok for item in load_checks(lagging))


def test_what_a_driver_cannot_know_has_no_check() -> None:
    """Absent figures give no self-check rather than a good one."""
    blind = load(pacer_lag=None, connections_reached=None, open_failures=None, threads_cpu=(), clock_step_s=None)
    assert () == load_checks(blind)


def test_a_driver_may_say_what_it_cannot_know_and_why() -> None:
    """Such a self-check is listed as not judged, with the reason and without a figure."""
    (check,) = load_checks(load(pacer_lag=None, threads_cpu=(), open_failures=None, clock_step_s=None,
                                connections_reached=None, unknown={"pacer lag p99": "wrk2 does not tell"}))  # fmt: skip
    assert (True, None) == (check.ok, check.observed)
    assert "not judged: wrk2 does not tell" in check.message


def test_latencies_that_are_not_known_are_no_data() -> None:
    """An outcome that was counted, and whose latencies are not known, decides nothing: neither passed nor violated."""
    mixed = load(
        outcomes={"success": 190, "5xx": 10},
        latency={"answered": LatencyHistogram.of([10_000.0] * 200)},
        unknown={"latency": "not by outcome"},
    )
    slos = [parse("p95 < 1s"), parse("max < 1s"), parse("p50{outcome=5xx} < 1s"), parse("p50{outcome=4xx} < 1s")]
    results = judge_slos(slos, mixed.metrics(), 0.95, mixed.unknown)
    assert ["no_data", "no_data", "no_data", "passed"] == [result.verdict for result in results]
    assert ["not by outcome"] * 3 == [result.reason for result in results[:3]]


def test_an_error_rate_without_attempts_is_no_data() -> None:
    """Where it is not known how many requests were attempted, the error rate is not judged."""
    (result,) = judge_slos([parse("error_rate < 1%")], load(attempted=None, sent=None).metrics(), 0.95)
    assert "no_data" == result.verdict


def test_growing_backlog_is_overload_not_invalid() -> None:
    """Requests that wait for a connection are the system's failure: overloaded, and all self-checks hold."""
    flooded = load(backlog_quarters=(2.0, 10.0, 20.0, 30.0), backlog_at_end=35)
    assert flooded.overloaded
    assert all(item.ok for item in load_checks(flooded))


def test_a_passing_burst_is_no_overload() -> None:
    """A backlog that shrinks again is none."""
    assert not load(backlog_quarters=(2.0, 30.0, 3.0, 0.0), backlog_at_end=1).overloaded


def test_precedence() -> None:
    """The gravest finding is the verdict, whatever the order of findings."""
    found = [Finding(verdict, "", "") for verdict in (Verdict.INCONCLUSIVE, Verdict.VIOLATED, Verdict.NO_DATA)]
    assert Verdict.VIOLATED == verdict_of(found)
    assert Verdict.INVALID == verdict_of([*found, Finding(Verdict.INVALID, "", "")])
    assert Verdict.PASSED == verdict_of([])


def test_errors_and_goodput_are_judged_before_latency() -> None:
    """A run whose requests fail fast is told by its goodput first."""
    slos = [parse("p95 < 1ms"), parse("restarts == 0"), parse("error_rate < 1%"), parse("goodput >= 99%")]
    failing = load(outcomes={"success": 100, "5xx": 100})
    results = judge_slos(slos, {**failing.metrics(), "restarts": 0.0}, 0.95)
    assert ["goodput", "error_rate", "restarts", "p95"] == [result.metric for result in results]
    assert "goodput" == findings_of((), results, {})[0].subject


def test_failed_collector_is_broken_and_an_empty_series_is_no_data() -> None:
    """No data is the application's matter unless the collector that would have it failed."""
    results = judge_slos([parse("self_time(rate, p95) < 20ms")], {}, 0.95)
    assert Verdict.NO_DATA == verdict_of(findings_of((), results, {}))
    found = findings_of((), results, {"self_time": "collector 'traces' failed: refused"})
    assert Verdict.BROKEN == verdict_of(found)
    assert "refused" in found[0].message


def test_an_unfit_metric_is_invalid() -> None:
    """A metric that carries no verdict, for which there are too few points, is the apparatus's failure."""
    reason = {"memory(rate)": "2 samples; a peak needs at least 4"}
    results = judge_slos([parse("memory(rate) < 1Gi")], {}, 0.95, reason)
    (found,) = findings_of((), results, {}, unfit=reason)
    assert (Verdict.INVALID, "memory(rate)") == (found.verdict, found.subject)
    assert "memory(rate) < 1Gi: 2 samples; a peak needs at least 4" == found.message


def test_warnings_do_not_invalidate() -> None:
    """A self-check that only warns gives no finding."""
    assert () == findings_of([CheckResult("steal", False, warning=True)], (), {})


def test_absent_dose_is_invalid() -> None:
    """A dose that was not delivered makes the trial invalid and names it."""
    checks = dose_checks([Dose("cpu", 1, 0.4, False, "cpu: 40 % of the dose was delivered")])
    found = findings_of(checks, (), {})
    assert [(Verdict.INVALID, "dose cpu")] == [(item.verdict, item.subject) for item in found]


def test_message_has_metric_observed_and_limit() -> None:
    """A finding's sentence can stand alone, and says overloaded where the backlog grew."""
    result = judge_slos([parse("p95 < 5ms")], load().metrics(), 0.95)
    (found,) = findings_of((), result, {}, overloaded=True)
    assert found.message.startswith("p95 10 ms, limit < 5 ms (200 of 200 above the limit, independence assumed)")
    assert "overloaded" in found.message


def test_table_says_by_how_much() -> None:
    """The table of SLOs has metric, limit, observed, the bounds of a percentile's test, and the distance."""
    results = judge_slos([parse("p95 < 5ms"), parse("goodput >= 99%")], load().metrics(), 0.95)
    table = slo_table(results)
    assert "+5 ms (+100%)" in table.replace("+5.01", "+5").replace("+5.0 ", "+5 ")
    assert table.splitlines()[1].split() == ["goodput", ">=", "99", "%", "100", "%", "-", "-", "passed"]
    assert "10 to 10 ms" in table
    assert "bounds" not in slo_table(results[:1])


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12.34, "ms", "12.3 ms"),
        (1234.0, "ms", "1.23 s"),
        (0.995, "share", "99.5 %"),
        (None, "ms", "-"),
        (2**20, "bytes", "1 MiB"),
    ],
)
def test_values_are_written_for_people(value: float | None, unit: str, text: str) -> None:
    """Figures carry their unit and three digits."""
    assert text == format_value(value, unit)


ABORT = {"error_rate_limit": 0.5, "over_ns": 5_000_000_000, "error_rate": 0.83, "aborted": True}


def test_an_aborted_run_is_violated_whatever_slos_say() -> None:
    """Its beginning may have been fine; the reason that is shown is the abort."""
    hopeless = abort_findings(load(ended_by="abort", abort=ABORT))
    slos = judge_slos([parse("goodput >= 1%"), parse("p50 < 1ms")], load().all_metrics(), 0.95)
    found = findings_of((), slos, {}, others=hopeless)
    assert [Verdict.VIOLATED] * 2 == [finding.verdict for finding in found]
    assert found[0].message == ("hopeless, ended 5 s after its start: error_rate 83 % over 5 s, abort > 50 %")
    assert Verdict.VIOLATED == verdict_of(findings_of((), (), {}, others=hopeless))


@pytest.mark.parametrize("ended_by", ["duration", "precision", "interrupt"])
def test_an_abort_that_did_not_happen_is_no_finding(ended_by: str) -> None:
    """What was asked for and not needed says nothing."""
    assert () == abort_findings(load(ended_by=ended_by, abort={**ABORT, "aborted": False}))


@pytest.mark.parametrize(
    ("ended_by", "width", "warned"),
    [("duration", 0.07, True), ("duration", None, True), ("duration", 0.05, False), ("precision", 0.05, False)],
)
def test_a_precision_that_was_not_reached_is_warned_of(ended_by: str, width: float | None, warned: bool) -> None:
    """The duration was the upper limit; the figures are what they are."""
    asked = {"percentile": 99.0, "asked": 0.05, "width": width, "reached": ended_by == "precision"}
    checks = load_checks(load(ended_by=ended_by, precision=asked))
    assert warned == any(item.warning and not item.ok for item in checks)
    assert all(item.ok or item.warning for item in checks)
