"""From evidence to a verdict: self-checks, SLOs, findings. Pure.

``broken > invalid > violated > no_data > inconclusive > passed``: the first that applies; all are listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pytest_aefm.decision import Metrics, SLOResult, check
from pytest_aefm.errors import DisruptionError
from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.model import Blame, CheckResult, Dose, Finding, LoadResult, Suspect, Verdict, Window
from pytest_aefm.slo import SLO

__all__ = [
    "abort_findings",
    "blame_lines",
    "dose_checks",
    "findings_of",
    "format_value",
    "judge_slos",
    "lag_limit_ms",
    "load_checks",
    "slo_table",
    "verdict_of",
    "verdict_of_error",
]

_CPU_LIMIT = 0.85
_CLOCK_STEP_S = 0.010


def load_checks(load: LoadResult) -> tuple[CheckResult, ...]:
    """Return the self-checks of a load run; what the driver cannot know is not judged, and says so if it says why."""
    checks = [
        CheckResult(name, True, message=f"{name}: not known, not judged: {reason}")
        for name, reason in load.unknown.items()
    ]
    if load.interrupted:
        checks.append(CheckResult("load complete", False, message="the load run was interrupted"))
    if load.pacer_lag is not None and load.pacer_lag.count:
        limit, lag = lag_limit_ms(load.latency.get("success")), load.pacer_lag.percentile_us(99) / 1e3
        message = f"pacer lag p99 {lag:.2f} ms, limit {limit:.2f} ms: requests left late although a connection was free"
        checks.append(CheckResult("pacer lag p99", lag <= limit, round(lag, 4), round(limit, 4), "ms", message))
    if load.threads_cpu:
        busiest = max(load.threads_cpu)
        message = f"a generator thread used {busiest:.0%} of its core, limit {_CPU_LIMIT:.0%}"
        checks.append(
            CheckResult("generator cpu", busiest <= _CPU_LIMIT, round(busiest, 4), _CPU_LIMIT, "share", message)
        )
    if load.connections_reached is not None and load.connections_asked is not None:
        # Connections that the application refuses are its failure, and counted as such.
        refused = load.outcomes.get("connect_error", 0) > 0
        reached, asked = load.connections_reached, load.connections_asked
        message = f"{reached} of {asked} connections were open"
        checks.append(CheckResult("connections", reached >= asked or refused, reached, asked, "count", message))
    if load.open_failures is not None:
        message = (
            f"{load.open_failures} connections could not be opened on this machine's side (files or ports exhausted)"
        )
        checks.append(
            CheckResult("local open failures", load.open_failures == 0, load.open_failures, 0, "count", message)
        )
    if load.clock_step_s is not None:
        step = abs(load.clock_step_s)
        message = f"the wall clock stepped by {step * 1e3:.1f} ms in the window, limit {_CLOCK_STEP_S * 1e3:.0f} ms"
        checks.append(CheckResult("clock step", step <= _CLOCK_STEP_S, round(step * 1e3, 4), 10.0, "ms", message))
    if load.precision is not None and load.ended_by == "duration":
        checks.append(_precision_check(load.precision))
    return (*checks, *load.checks)


def _precision_check(precision: Mapping[str, Any]) -> CheckResult:
    """Return the warning that the duration was over before a percentile was known as well as asked."""
    asked, width = precision["asked"], precision["width"]
    known = "is not bounded" if width is None else f"is {width:.1%} of its value wide"
    message = f"the interval of p{precision['percentile']:g} {known}, asked {asked:.1%}: the duration was over before"
    ok = width is not None and width <= asked
    return CheckResult("precision", ok, width, asked, "share", message, warning=True)


def lag_limit_ms(success: LatencyHistogram | None) -> float:
    """Return how late p99 of the requests may leave: 1 ms, or a tenth of the successes' p50 if that is more."""
    return max(1.0, 0.1 * success.percentile_us(50) / 1e3 if success else 0.0)


def start_check(planned: Window, actual: Window) -> CheckResult:
    """Return the self-check that the window lay where the testbed's counters were read: within 1 % or 20 ms."""
    off, limit = abs(actual.start_mono_s - planned.start_mono_s), max(0.02, 0.01 * planned.duration_s)
    message = (
        f"the window began {off * 1e3:.0f} ms off its plan, limit {limit * 1e3:.0f} ms: the generator started late"
    )
    return CheckResult("start on time", off <= limit, round(off * 1e3, 3), limit * 1e3, "ms", message)


def dose_checks(doses: Iterable[Dose]) -> tuple[CheckResult, ...]:
    """Return one self-check for each dose: an absent dose is the apparatus's failure."""
    return tuple(
        CheckResult(f"dose {dose.kind}", dose.ok, round(dose.share, 4), 0.9, "share", dose.message) for dose in doses
    )


def judge_slos(
    slos: Iterable[SLO], metrics: Metrics, confidence: float, unknown: Mapping[str, str] | None = None
) -> tuple[SLOResult, ...]:
    """Decide every SLO: errors and goodput first, latency after them.

    ``unknown`` maps a metric that cannot be told (``latency``, ``error_rate`` by the driver, ``memory(rate)`` by too
    few samples) to the reason.
    """
    order, reasons, results = {"goodput": 0, "error_rate": 1, "restarts": 2}, unknown or {}, []
    for slo in sorted(slos, key=lambda slo: order.get(slo.name, 3)):
        result = check(slo, metrics, confidence)
        reason = reasons.get(slo.source.partition("{")[0])
        results.append(replace(result, reason=reason) if result.verdict == "no_data" and reason else result)
    return tuple(results)


def findings_of(
    checks: Iterable[CheckResult],
    slos: Iterable[SLOResult],
    missing: Mapping[str, str],
    overloaded: bool = False,
    unfit: Mapping[str, str] | None = None,
    others: Iterable[Finding] = (),
) -> tuple[Finding, ...]:
    """Return every reason for a verdict other than passed.

    ``missing`` maps a metric's name (``self_time``) to why the collector that gives it failed, ``unfit`` a metric
    (``memory(rate)``) to why it carries no verdict: an SLO without data is then the experiment's failure, not the
    application's. ``others`` come before those of SLOs.
    """
    unfit = unfit or {}
    found = [*others]
    found += [Finding(Verdict.INVALID, item.name, item.message) for item in checks if not item.ok and not item.warning]
    for result in slos:
        if result.verdict == "passed":
            continue
        name = result.metric.partition("(")[0]
        if result.verdict == "no_data" and result.metric in unfit:
            found.append(Finding(Verdict.INVALID, result.metric, f"{result.slo}: {unfit[result.metric]}"))
        elif result.verdict == "no_data" and name in missing:
            found.append(Finding(Verdict.BROKEN, result.metric, f"{result.slo}: no data because {missing[name]}"))
        else:
            found.append(Finding(Verdict(result.verdict), result.metric, _sentence(result, overloaded)))
    severity = list(Verdict)
    return tuple(sorted(found, key=lambda finding: severity.index(finding.verdict)))


def abort_findings(load: LoadResult) -> tuple[Finding, ...]:
    """Return that a run was hopeless, where it was ended for that: a violation, whatever SLOs say of its beginning."""
    if load.ended_by != "abort" or load.abort is None:
        return ()
    seen, limit, over_s = load.abort["error_rate"], load.abort["error_rate_limit"], load.abort["over_ns"] / 1e9
    message = (
        f"hopeless, ended {load.window.duration_s:.3g} s after its start: error_rate {format_value(seen, 'share')} "
        f"over {over_s:g} s, abort > {format_value(limit, 'share')}"
    )
    return (Finding(Verdict.VIOLATED, "error_rate", message),)


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """Return the gravest verdict among the findings, passed where there is none."""
    found = {finding.verdict for finding in findings}
    return next((verdict for verdict in Verdict if verdict in found), Verdict.PASSED)


def verdict_of_error(error: BaseException | None) -> Verdict:
    """Return the verdict of a trial that an error ended: broken, but invalid where the apparatus was taken away."""
    return Verdict.INVALID if isinstance(error, DisruptionError) else Verdict.BROKEN


def _sentence(result: SLOResult, overloaded: bool) -> str:
    observed = format_value(result.observed, result.unit)
    text = f"{result.metric} {observed}, limit {result.operator} {format_value(result.limit, result.unit)}"
    if result.verdict == "no_data":
        text = f"{result.metric}: no data, limit {result.operator} {format_value(result.limit, result.unit)}"
    if result.reason:
        text += f" ({result.reason})"
    return text + (
        ", overloaded: the backlog grew over the window" if overloaded and result.verdict == "violated" else ""
    )


def blame_lines(blame: Blame) -> list[str]:
    """Say where to look: a line for each service that holds the critical path."""
    limit = format_value(blame.limit_ms, "ms")
    whose = f"the {blame.slow} of {blame.traces} traces slower than {limit}"
    if not blame.slow:
        whose = f"all {blame.traces} traces; none took longer than {limit}, so requests waited before the entry"
    return [f"on the critical path of {whose}:", *(f"  {_suspicion(one)}" for one in blame.suspects)]


def _suspicion(one: Suspect) -> str:
    said = [f"{one.share:.0%}, {one.own_ms:.3g} ms of its own in a trace and {one.transit_ms:.3g} ms on the way to it"]
    said += [f"CPU {one.cpu:.0%} of its limit"] if one.cpu is not None else []
    said += [f"run delay {one.run_delay_ms_per_s:.3g} ms/s"] if one.run_delay_ms_per_s is not None else []
    said += [f"throttled {one.throttled:.0%}"] if one.throttled is not None else []
    said += [f"restarts {one.restarts:g}"] if one.restarts is not None else []
    return f"{one.service}: {'; '.join(said)}"


def slo_table(results: Iterable[SLOResult]) -> str:
    """Return a plain table of SLOs: metric, limit, observed, bounds of a percentile's test, by how much, verdict."""
    results = list(results)
    rows: list[tuple[str, ...]] = [("metric", "limit", "observed", "bounds", "off by", "verdict")]
    for item in results:
        limit = f"{item.operator} {format_value(item.limit, item.unit)}"
        observed = format_value(item.observed, item.unit)
        rows.append((item.metric, limit, observed, _bounds(item), _off_by(item), item.verdict))
    if all(item.bounds is None for item in results):
        rows = [(*row[:3], *row[4:]) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _bounds(item: SLOResult) -> str:
    """Return between which limits the test leaves a percentile open: ``112 to 131 ms``."""
    if item.bounds is None:
        return "-"
    low, high = (format_value(bound, item.unit) for bound in item.bounds)
    if item.bounds[0] is None or item.bounds[1] is None:
        return (
            f"over {low}" if item.bounds[0] is not None else f"under {high}" if item.bounds[1] is not None else "none"
        )
    number, _, unit = low.partition(" ")
    return f"{number if high.endswith(f' {unit}') else low} to {high}"


def _off_by(item: SLOResult) -> str:
    if item.observed is None or item.verdict != "violated":
        return "-"
    difference = item.observed - item.limit
    share = f" ({difference / item.limit:+.0%})" if item.limit and item.unit != "share" else ""
    if item.unit == "share":
        return f"{difference * 100:+.2f} points"
    return f"{'+' if difference > 0 else '-'}{format_value(abs(difference), item.unit)}{share}"


def format_value(value: float | None, unit: str) -> str:
    """Return a value as a person would write it: ``12.3 ms``, ``1.20 s``, ``99.5 %``, ``-`` for None."""
    if value is None:
        return "-"
    if unit == "ms":
        return f"{value / 1e3:.3g} s" if value >= 1000 else f"{value:.3g} ms"
    if unit == "share":
        return f"{value * 100:.4g} %"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    return f"{value:.4g}" + (" cores" if unit == "cores" else "")
