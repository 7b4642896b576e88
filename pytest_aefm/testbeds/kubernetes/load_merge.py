"""The results of several generators as one: histograms merged, counts summed, the worst of each self-check. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.load.parts import Part
from pytest_aefm.model import Account, CheckResult, LoadResult, Window
from pytest_aefm.testbeds.kubernetes.load_clock import Clock

__all__ = ["PodResult", "merge"]

_SKEW_LIMIT_S = 0.050


@dataclass(frozen=True, slots=True)
class PodResult:
    """What one pod measured; its clock differs from the first pod's by ``offset_ns`` (its own - the first one's).

    ``tcp`` is what its kernel counted of TCP meanwhile, as far as it did: see :mod:`pytest_aefm.load.network`.
    """

    part: Part
    pod: str
    node: str
    result: LoadResult
    offset_ns: int = 0
    uncertainty_ns: int = 0
    tcp: Mapping[str, int] = field(default_factory=dict)

    def late_s(self, start_ns: int) -> float:
        """Return how much later than planned its window began; ``start_ns`` is the common start, on the first clock."""
        began_s = self.result.window.start_mono_s - self.offset_ns / 1e9
        return began_s - start_ns / 1e9 - self.part.window_after_s


def merge(pods: Sequence[PodResult], planned: Window, start_ns: int, clock: Clock, asked: int) -> LoadResult:
    """Merge what all pods of a load measured.

    ``planned`` is the window on our clocks, ``start_ns`` the common start on the first pod's clock, which ``clock``
    reads on ours; ``asked`` is how many pods were asked for.
    """
    results = [pod.result for pod in pods]
    late = [pod.late_s(start_ns) for pod in pods]
    skew_s = max(late) - min(late) + max(pod.uncertainty_ns for pod in pods) / 1e9
    began_late_s = max(late, key=abs)
    # A single pod may have ended its window early.
    duration_s = planned.duration_s if len(pods) > 1 else results[0].window.duration_s
    window = Window(planned.start_wall_s + began_late_s, planned.start_mono_s + began_late_s, duration_s)
    lags = [result.pacer_lag for result in results if result.pacer_lag is not None]
    return LoadResult(
        driver=results[0].driver,
        version=", ".join(sorted({result.version for result in results})),
        window=window,
        drain_s=max(result.drain_s for result in results),
        **_together(results),
        n_eff={limit: _effective(results, limit) for limit in results[0].n_eff},
        tags={
            name: Account(**_together([result.tags[name] for result in results if name in result.tags]))
            for name in dict.fromkeys(name for result in results for name in result.tags)
        },
        pacer_lag=max(lags, key=lambda lag: lag.percentile_us(99)) if lags else None,
        backlog=reduce(
            LatencyHistogram.merge, (one.backlog for one in results if one.backlog is not None), LatencyHistogram()
        ),
        backlog_quarters=tuple(
            sum(quarter) for quarter in zip(*(one.backlog_quarters for one in results), strict=True)
        ),
        backlog_at_end=_total(result.backlog_at_end for result in results),
        connections_asked=_total(result.connections_asked for result in results),
        connections_reached=_total(result.connections_reached for result in results),
        connections_opened=_total(result.connections_opened for result in results),
        open_failures=_total(result.open_failures for result in results),
        threads_cpu=tuple(share for result in results for share in result.threads_cpu),
        clock_step_s=max((one.clock_step_s for one in results if one.clock_step_s is not None), key=abs, default=None),
        interrupted=any(result.interrupted for result in results),
        ended_by=next((one.ended_by for one in results if one.ended_by != "duration"), "duration"),
        precision=results[0].precision,
        abort=results[0].abort,
        unknown={name: reason for result in results for name, reason in result.unknown.items()},
        checks=(*_checks(skew_s, clock, planned, len(pods), asked), *_worst(results)),
        details={
            "pods": [_figures(pod, late_s) for pod, late_s in zip(pods, late, strict=True)],
            "start_skew_ms": round(skew_s * 1e3, 3),
            "clock_uncertainty_ms": round(clock.uncertainty_s * 1e3, 3) if math.isfinite(clock.uncertainty_s) else None,
        },
    )


def _together(accounts: Sequence[Account]) -> dict[str, Any]:
    """Return the fields of an Account of all requests."""
    return {
        "offered": sum(one.offered for one in accounts),
        "sent": _total(one.sent for one in accounts),
        "attempted": _total(one.attempted for one in accounts),
        "achieved": sum(one.achieved for one in accounts),
        "outcomes": _sums(one.outcomes for one in accounts),
        "latency": _histograms(one.latency for one in accounts),
    }


def _effective(results: Sequence[LoadResult], limit_us: int) -> float:
    """Return the effective sample size of all generators' requests, from each one's own.

    A generator of p sends every p-th request. What it finds correlated, ``n / n_eff - 1 = 2 * sum(rho)`` over its own
    lags, is about p times as much over those of the whole: requests between its own resemble one another no less.
    """
    seen = [found for result in results if (found := result.observed_latency()) is not None and found.count]
    excess = max((found.count / found.n_eff[limit_us] - 1 for found in seen), default=0.0)
    return sum(found.count for found in seen) / (1 + len(results) * max(0.0, excess))


def _worst(results: Sequence[LoadResult]) -> list[CheckResult]:
    """Return of each generator's own checks one that did not hold, or any."""
    worst: dict[str, CheckResult] = {}
    for check in (check for result in results for check in result.checks):
        if check.name not in worst or (worst[check.name].ok and not check.ok):
            worst[check.name] = check
    return list(worst.values())


def _total(values: Iterable[int | None]) -> int | None:
    """Return the sum, None where a part of it is not known."""
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)


def _sums(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            sums[name] = sums.get(name, 0) + count
    return sums


def _histograms(latencies: Iterable[Mapping[str, LatencyHistogram]]) -> dict[str, LatencyHistogram]:
    merged: dict[str, LatencyHistogram] = {}
    for one in latencies:
        for name, histogram in one.items():
            merged[name] = merged[name].merge(histogram) if name in merged else histogram
    return merged


def _checks(skew_s: float, clock: Clock, planned: Window, pods: int, asked: int) -> tuple[CheckResult, ...]:
    limit_s = max(0.02, 0.01 * planned.duration_s)  # as far as a window may lie off its plan
    known = math.isfinite(clock.uncertainty_s)
    off_ms = round(clock.uncertainty_s * 1e3, 3) if known else None
    skew = f"the load's pods started within {skew_s * 1e3:.2f} ms of one another, limit {_SKEW_LIMIT_S * 1e3:.0f} ms"
    shown = f"to {off_ms:.1f} ms" if off_ms is not None else "not at all, their log was not read in time"
    told = f"the clock of the load's pods is known {shown}; limit {limit_s * 1e3:.0f} ms"
    checks = [
        CheckResult(
            "load start skew", skew_s <= _SKEW_LIMIT_S, round(skew_s * 1e3, 3), _SKEW_LIMIT_S * 1e3, "ms", skew
        ),
        CheckResult("load clock", clock.uncertainty_s <= limit_s, off_ms, round(limit_s * 1e3, 3), "ms", told),
    ]
    if pods < asked:
        message = f"{pods} of {asked} pods sent load: each has at least one connection and one request"
        checks.append(CheckResult("load pods", True, pods, asked, "count", message, warning=True))
    return tuple(checks)


def _figures(pod: PodResult, late_s: float) -> dict[str, Any]:
    result, load = pod.result, pod.part.load
    lag, success = result.pacer_lag, result.latency.get("success")
    return {
        "pod": pod.pod,
        "node": pod.node,
        "rate_rps": load.rate_rps,
        "connections": load.connections,
        "threads": load.threads,
        "seed": load.seed,
        "shift_ms": round(pod.part.shift_s * 1e3, 3),
        "offered": result.offered,
        "achieved": result.achieved,
        "successes": result.successes,
        "p50_ms": _percentile_ms(success, 50),
        "p99_ms": _percentile_ms(success, 99),
        "pacer_lag_p99_ms": _percentile_ms(lag, 99),
        "threads_cpu": list(result.threads_cpu),
        "tcp": dict(pod.tcp),
        "start_late_ms": round(late_s * 1e3, 3),
        "clock_uncertainty_ms": round(pod.uncertainty_ns / 1e6, 3),
    }


def _percentile_ms(histogram: LatencyHistogram | None, percent: float) -> float | None:
    """Return a percentile, None where there is nothing to take it of."""
    if histogram is None or not histogram.count:
        return None
    return round(histogram.percentile_us(percent) / 1e3, 3)
