"""Whether an SLO holds for what a trial measured. Pure.

A percentile is decided by an exact one-sided binomial test on how many requests were above the limit; everything else,
percentiles of services' own times included, is judged as it is.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.slo import SLO, holds

__all__ = ["Latency", "Metrics", "SLOResult", "binomial_cdf", "binomial_tail", "check", "requests_needed"]


@dataclass(frozen=True, slots=True)
class Latency:
    """Latencies of one kind of outcome: those known exactly, and lower bounds of those that never ended.

    ``n_eff`` maps a limit in whole microseconds to the effective sample size of the indicator "above the limit"; a
    limit that it lacks is decided as if requests were independent.
    """

    exact: LatencyHistogram
    at_least: LatencyHistogram
    n_eff: Mapping[int, float] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of requests, known and bounded."""
        return self.exact.count + self.at_least.count

    def percentile_ms(self, percent: float) -> float:
        """Return the percentile in milliseconds, lower bounds counted at their bound."""
        return self.exact.merge(self.at_least).percentile_us(percent) / 1e3

    def rank_ms(self, rank: int, *, endless: bool) -> float:
        """Return the latency of this rank (from 1) in ms, with lower bounds as they are or, ``endless``, infinite."""
        if endless and rank > self.exact.count:
            return math.inf
        known = self.exact if endless else self.exact.merge(self.at_least)
        return known.percentile_us(100 * rank / known.count) / 1e3

    def interval_ms(self, percent: float, z: float = 1.96) -> tuple[float, float] | None:
        """Return a two-sided interval by order statistics, in milliseconds, for information only.

        Ranks ``n q +- z sqrt(n q (1 - q))`` (Conover, *Practical Nonparametric Statistics*, 3.2); the upper
        end is infinite where it falls among lower bounds; None where ``n`` is too small to have both ends.
        """
        n, q = self.count, percent / 100
        spread = z * math.sqrt(n * q * (1 - q))
        low, high = math.floor(n * q - spread), math.ceil(n * q + spread)
        if low < 1 or high > n:
            return None
        return self.rank_ms(low, endless=False), self.rank_ms(high, endless=True)


Metrics = Mapping[str, "float | Latency | LatencyHistogram"]
"""What a trial measured: ``latency``, ``latency{outcome=5xx}`` and ``latency{tag=search}`` as Latency,
``self_time(service)`` as LatencyHistogram, everything else as a number in base units (share of 1, ms, cores, bytes,
count)."""


@dataclass(frozen=True, slots=True)
class SLOResult:
    """What became of an SLO: ``verdict`` is passed, violated, no_data or inconclusive; values in ``unit``.

    Of a percentile's test: ``n`` requests, ``above`` of them surely above the limit, ``n_eff`` the effective sample
    size (None: independence assumed). A limit below the first of ``bounds`` would be violated, one above the second
    passed; None where there is no such limit. ``interval`` is two-sided, for information.
    """

    slo: str
    metric: str
    verdict: str
    operator: str
    limit: float
    unit: str
    observed: float | None = None
    n: int | None = None
    above: int | None = None
    n_eff: float | None = None
    bounds: tuple[float | None, float | None] | None = None
    interval: tuple[float, float] | None = None
    reason: str = ""


def requests_needed(percent: float, confidence: float) -> int:
    """Return the least number of requests that can pass a percentile SLO: ``q^n <= 1 - confidence``."""
    if confidence <= 0:
        return 1
    return math.ceil(math.log(1 - confidence) / math.log(percent / 100) - 1e-9)


def check(slo: SLO, metrics: Metrics, confidence: float = 0.95) -> SLOResult:
    """Decide one SLO. ``confidence`` 0 judges the point value of a percentile."""
    value = metrics.get(slo.source)
    if isinstance(value, LatencyHistogram):
        return _check_self_time(slo, value)
    if slo.percentile is not None:
        return _check_percentile(slo, value if isinstance(value, Latency) else None, confidence)
    if isinstance(value, Latency):
        return _check_extreme(slo, value)
    if not isinstance(value, int | float) or math.isnan(value):
        return _result(slo, "no_data", reason=f"no samples of {slo.source}")
    return _judged(slo, float(value), reason=_which_restarted(slo, metrics))


def _judged(slo: SLO, observed: float, **values: object) -> SLOResult:
    return _result(slo, "passed" if holds(slo, observed) else "violated", observed=observed, **values)


def _which_restarted(slo: SLO, metrics: Metrics) -> str:
    """Name the services behind a sum of restarts."""
    if slo.source != "restarts":
        return ""
    named = [key for key, value in metrics.items() if key.startswith("restarts(") and value]
    return ", ".join(key.removeprefix("restarts(").removesuffix(")") for key in named)


def _check_self_time(slo: SLO, times: LatencyHistogram) -> SLOResult:
    assert slo.percentile is not None
    if not times.count:
        return _result(slo, "no_data", reason=f"no samples of {slo.source}")
    return _judged(slo, times.percentile_us(slo.percentile) / 1e3, n=times.count)


def _check_extreme(slo: SLO, latency: Latency) -> SLOResult:
    """Decide ``max`` and ``mean``: a lower bound can violate them, but never lets them pass."""
    if not latency.count:
        return _result(slo, "no_data", reason="no request succeeded")
    everything = latency.exact.merge(latency.at_least)
    found = _judged(slo, (everything.max_us if slo.name == "max" else everything.mean_us) / 1e3, n=latency.count)
    unknown = latency.at_least.count if slo.operator in ("<", "<=") else 0
    if not unknown:
        return found
    verdict = "inconclusive" if found.verdict == "passed" else found.verdict
    return replace(found, verdict=verdict, reason=f"{unknown} requests never ended: {slo.name} is at least this")


def _check_percentile(slo: SLO, latency: Latency | None, confidence: float) -> SLOResult:
    assert slo.percentile is not None
    if latency is None or not latency.count:
        if slo.outcome not in (None, "success") and latency is not None:
            return _result(slo, "passed", n=0, reason=f"no {slo.outcome} answers")
        return _result(slo, "no_data", reason=f"no samples of {slo.source}")
    surely = _above(slo, latency.exact) + _above(slo, latency.at_least)
    perhaps = _above(slo, latency.exact) + latency.at_least.count  # a lower bound has no upper end
    n_eff = latency.n_eff.get(round(slo.limit * 1e3))
    test = _Test(latency.count, latency.count if n_eff is None else n_eff, 1 - slo.percentile / 100, confidence)
    verdict = "passed" if test.passes(perhaps) else "violated" if test.fails(surely) else "inconclusive"
    return _result(
        slo,
        verdict,
        observed=latency.percentile_ms(slo.percentile),
        n=latency.count,
        above=surely,
        n_eff=n_eff,
        bounds=test.bounds_ms(latency) if confidence > 0 else None,
        interval=latency.interval_ms(slo.percentile),
        reason=_counts(latency.count, surely, perhaps, n_eff),
    )


def _counts(n: int, surely: int, perhaps: int, n_eff: float | None) -> str:
    """Say what the test was given."""
    unknown = f", {perhaps - surely} unknown" if perhaps > surely else ""
    worth = ", independence assumed" if n_eff is None else f", n_eff {n_eff:.0f}"
    return f"{surely} of {n} above the limit{unknown}{worth if perhaps else ''}"


@dataclass(frozen=True, slots=True)
class _Test:
    """One-sided tests of whether a share ``tail`` of requests is above a limit, on ``n_eff`` of ``n`` requests.

    Counts are scaled by n_eff / n, and the binomial distribution is continued between whole numbers.
    """

    n: int
    n_eff: float
    tail: float
    confidence: float

    def passes(self, above: int) -> bool:
        """Return whether so few above show that the percentile is below the limit."""
        if self.confidence <= 0:
            return above <= self.tail * self.n
        return binomial_cdf(above * self.n_eff / self.n, self.n_eff, self.tail) <= 1 - self.confidence

    def fails(self, above: int) -> bool:
        """Return whether so many above show that the percentile is above the limit."""
        if self.confidence <= 0:
            return above > self.tail * self.n
        return binomial_tail(above * self.n_eff / self.n, self.n_eff, self.tail) <= 1 - self.confidence

    def bounds_ms(self, latency: Latency) -> tuple[float | None, float | None]:
        """Return the limits in ms below which it fails, and above which it passes; None where there is none."""
        most = bisect_left(range(self.n + 1), True, key=lambda above: not self.passes(above)) - 1
        least = bisect_left(range(self.n + 1), True, key=self.fails)
        low = latency.rank_ms(self.n - least + 1, endless=False) if 0 < least <= self.n else None
        high = latency.rank_ms(self.n - most, endless=True) if 0 <= most < self.n else None
        return low, None if high == math.inf else high


def _above(slo: SLO, histogram: LatencyHistogram) -> int:
    """Count what does not hold: values above the limit, for ``<`` also those that equal it to 3 digits."""
    limit_us = slo.limit * 1e3
    return histogram.count_above_us(limit_us if slo.operator == "<=" else limit_us * (1 - 1e-9))


def _result(slo: SLO, verdict: str, **values: object) -> SLOResult:
    return SLOResult(slo.text, slo.metric, verdict, slo.operator, slo.limit, slo.unit, **values)  # type: ignore[arg-type]  # fields of SLOResult


def binomial_cdf(k: float, n: float, p: float) -> float:
    """Return P(X <= k) for X ~ Binomial(n, p): the regularized incomplete beta I_{1-p}(n - k, k + 1).

    Exact for whole numbers, continued between them by the same function (DLMF 8.17.5).
    """
    if k < 0:
        return 0.0
    if k >= n or p <= 0:
        return 1.0
    return 0.0 if p >= 1 else _incomplete_beta(n - k, k + 1, 1 - p)


def binomial_tail(k: float, n: float, p: float) -> float:
    """Return P(X >= k) for X ~ Binomial(n, p): the regularized incomplete beta I_p(k, n - k + 1)."""
    if k <= 0 or p >= 1:
        return 1.0
    return 0.0 if k > n or p <= 0 else _incomplete_beta(k, n - k + 1, p)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularized incomplete beta function by its continued fraction (DLMF 8.17.22, Lentz's algorithm)."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    tiny = 1e-300
    c, d = 1.0, 1 / max(1 - (a + b) * x / (a + 1), tiny)
    fraction = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / (1 + term * d or tiny)
            c = 1 + term / c or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return math.exp(front) * fraction / a
