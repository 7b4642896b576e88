"""From what was observed of a trial to its verdict: metrics, doses, self-checks, SLOs, blame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_aefm.collectors import Collector, Observations
from pytest_aefm.collectors.blame import find_blame
from pytest_aefm.decision import Latency
from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.judgement import abort_findings, dose_checks, findings_of, judge_slos, load_checks, verdict_of
from pytest_aefm.model import Case, Dose, LoadResult, Trial
from pytest_aefm.slo import labels

__all__ = ["assess"]


def assess(
    trial: Trial,
    load: LoadResult,
    seen: Mapping[str, Observations],
    states: Mapping[str, Mapping[str, Any]],
    collectors: Sequence[Collector],
    confidence: float,
) -> Trial:
    """Judge a trial by its load and by what each collector has ``seen``; ``states`` tell what became of each.

    ``confidence`` 0 judges percentiles by their point value.
    """
    metrics: dict[str, float | Latency | LatencyHistogram] = load.all_metrics()
    unfit: dict[str, str] = {}
    for observations in seen.values():
        unfit |= observations.unfit
        metrics.update((name, value) for name, value in observations.metrics.items() if name not in observations.unfit)
    doses = tuple(dose for observations in seen.values() for dose in observations.doses)
    proven = {dose.kind for dose in doses}
    doses += tuple(
        Dose(spec.kind, spec.count, 0.0, False, f"{spec.kind}: nothing proves that the dose was delivered")
        for spec in trial.case.interference
        if spec.kind not in proven
    )
    checks = (
        *trial.checks,
        *load_checks(load),
        *(item for observations in seen.values() for item in observations.checks),
        *dose_checks(doses),
    )
    missing = {
        name: f"collector {collector.name!r} failed: {states[collector.name].get('reason', '')}"
        for collector in collectors
        if collector.name not in seen
        for name in collector.provides
    }
    if "testbed" not in seen:
        reason = f"the testbed's own counters could not be read: {states['testbed'].get('reason', '')}"
        missing |= dict.fromkeys(("cpu", "cpu_cores", "memory", "restarts"), reason)
    unknown = {**load.unknown, **_cover(trial.case, load, seen, metrics), **unfit}
    slos = judge_slos(trial.case.slos, metrics, confidence, unknown)
    findings = findings_of(checks, slos, missing, load.overloaded, unfit, abort_findings(load))
    effect = {key: value for observations in seen.values() for key, value in observations.effect.items()}
    analysis = next((one.traces for one in seen.values() if one.traces is not None), None)
    return replace(
        trial,
        verdict=verdict_of(findings),
        findings=findings,
        metrics=_numbers(load, metrics),
        slos=slos,
        checks=checks,
        doses=doses,
        effect=effect,
        blame=find_blame(slos, analysis, metrics, effect),
        collectors=states,
        artifacts=tuple(path for observations in seen.values() for path in observations.artifacts),
    )


def _cover(
    case: Case,
    load: LoadResult,
    seen: Mapping[str, Observations],
    metrics: dict[str, float | Latency | LatencyHistogram],
) -> dict[str, str]:
    """Add the traces' coverage to the metrics; below the case's least, take out what traces say, and return why."""
    sent = load.achieved if load.sent is None else load.sent
    traces = [one.traces.traces for one in seen.values() if one.traces is not None]
    if not traces or not sent:
        return {}
    coverage = metrics["trace_coverage"] = max(traces) / sent
    if coverage >= case.min_trace_coverage:
        return {}
    reason = f"traces of {coverage:.1%} of the requests sent, min_trace_coverage {case.min_trace_coverage:.1%}"
    dropped = [name for name in metrics if name.startswith("self_time(")]
    return {name: reason for name in dropped if metrics.pop(name) is not None}


def _numbers(load: LoadResult, metrics: Mapping[str, float | Latency | LatencyHistogram]) -> dict[str, Any]:
    """Return the metrics as plain numbers: percentiles in ms, shares of 1, cores, bytes, counts."""
    latency = load.observed_latency()
    numbers: dict[str, Any] = {"goodput": load.goodput, "error_rate": load.error_rate}
    if latency is not None and latency.count:
        numbers |= {f"p{q:g}": round(latency.percentile_ms(q), 3) for q in (50, 90, 95, 99, 99.9)}
        everything = latency.exact.merge(latency.at_least)
        numbers |= {"mean": round(everything.mean_us / 1e3, 3), "max": round(everything.max_us / 1e3, 3)}
    for tag, account in load.tags.items():
        of_tag = account.observed_latency()
        if of_tag is not None and of_tag.count:
            numbers |= {f"p{q:g}{labels(tag)}": round(of_tag.percentile_ms(q), 3) for q in (50, 95, 99)}
    numbers["achieved_rps"] = round(load.achieved / load.window.duration_s, 3)
    numbers["overloaded"] = load.overloaded
    for key, value in metrics.items():
        if isinstance(value, LatencyHistogram):
            name = key.removesuffix(")")
            numbers |= {f"{name}, p{q})": round(value.percentile_us(q) / 1e3, 3) for q in (50, 95, 99)}
        elif not isinstance(value, Latency):
            numbers[key] = value
    return numbers
