"""Service level objectives: one condition on one metric of a trial, parsed and decided without side effects.

Percentile conditions are decided by an exact one-sided binomial test, everything else as it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from operator import eq, ge, gt, le, lt, ne

from pytest_aefm.errors import ConfigurationError, did_you_mean
from pytest_aefm.histogram import LatencyHistogram

__all__ = [
    "DEFAULT_SLOS",
    "OUTCOMES",
    "SLO",
    "Latency",
    "Metrics",
    "SLOResult",
    "binomial_cdf",
    "check",
    "parse",
    "requests_needed",
    "with_defaults",
]

DEFAULT_SLOS = ("goodput >= 99%", "error_rate < 1%", "restarts == 0")

OUTCOMES = (
    "success",
    "4xx",
    "5xx",
    "other_status",
    "mismatch",
    "timeout",
    "connect_error",
    "read_error",
    "malformed",
    "unanswered",
    "unsent",
)

# name -> (unit, takes a service: never | may | must, meaning)
_METRICS: dict[str, tuple[str, str, str]] = {
    "max": ("ms", "never", "longest latency of successes"),
    "mean": ("ms", "never", "mean latency of successes"),
    "goodput": ("share", "never", "successes / offered"),
    "error_rate": ("share", "never", "failures of all kinds / attempted"),
    "restarts": ("count", "may", "services that ended in the window, all of them or one"),
    "cpu": ("share", "must", "CPU that a service used, of its limit"),
    "cpu_cores": ("cores", "must", "cores that a service used, mean over the window"),
    "memory": ("bytes", "must", "resident memory of a service, at that edge of the window where it was larger"),
    "self_time": ("ms", "must", "a service's own time per request, from traces; a percentile of it"),
}
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": le, ">=": ge, "==": eq, "!=": ne, "<": lt, ">": gt,
}  # fmt: skip
_UNITS: dict[str, dict[str, float]] = {
    "ms": {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3},
    "share": {"%": 0.01, "": 1.0},
    "count": {"": 1.0},
    "cores": {"": 1.0, "m": 1e-3},
    "bytes": {"": 1.0, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 1e3, "M": 1e6, "G": 1e9},
}
_CONDITION = re.compile(
    r"^\s*(?P<name>[A-Za-z_]+[\d.]*)\s*"
    r"(?:\(\s*(?P<arguments>[^)]*)\))?\s*"
    r"(?:\{\s*outcome\s*=\s*(?P<outcome>\w+)\s*\})?\s*"
    r"(?P<operator><=|>=|==|!=|<|>)\s*"
    r"(?P<number>[-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*(?P<unit>%|[A-Za-z]*)\s*$"
)
_PERCENTILE = re.compile(r"^p(\d+(?:\.\d+)?)$")
_GRAMMAR = (
    "METRIC OPERATOR LIMIT such as 'p99 < 250ms', 'p(99.9) < 1s', 'error_rate <= 0.1%', 'goodput >= 99%', "
    "'max < 2s', 'restarts == 0', 'cpu(search) < 80%', 'self_time(rate, p95) < 20ms' or 'p99{outcome=5xx} < 1s'"
)


@dataclass(frozen=True, slots=True)
class Latency:
    """Latencies of one kind of outcome: those known exactly, and lower bounds of those that never ended."""

    exact: LatencyHistogram
    at_least: LatencyHistogram

    @property
    def count(self) -> int:
        """Number of requests, known and bounded."""
        return self.exact.count + self.at_least.count

    def percentile_ms(self, percent: float) -> float:
        """Return the percentile in milliseconds, lower bounds counted at their bound."""
        return self.exact.merge(self.at_least).percentile_us(percent) / 1e3

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
        upper = math.inf if high > self.exact.count else self.exact.percentile_us(100 * high / self.exact.count)
        return self.percentile_ms(100 * low / n), upper / 1e3


Metrics = Mapping[str, "float | Latency | LatencyHistogram"]
"""What a trial measured: ``latency`` and ``latency{outcome=5xx}`` as Latency, ``self_time(service)`` as
LatencyHistogram, everything else as a number in base units (share of 1, ms, cores, bytes, count)."""


@dataclass(frozen=True, slots=True)
class SLO:
    """One condition. ``limit`` is in ``unit``: ms, share (of 1), count, cores or bytes."""

    text: str
    name: str
    operator: str
    limit: float
    unit: str
    service: str | None = None
    percentile: float | None = None
    outcome: str | None = None

    @property
    def metric(self) -> str:
        """The left side in its normal form, as reports show it: ``p99``, ``self_time(rate, p95)``."""
        percentile = f"p{self.percentile:g}" if self.percentile is not None else None
        if self.name == "latency":
            return f"{percentile}{{outcome={self.outcome}}}" if self.outcome else str(percentile)
        arguments = ", ".join(part for part in (self.service, percentile) if part)
        return f"{self.name}({arguments})" if arguments else self.name

    @property
    def source(self) -> str:
        """The key in :data:`Metrics` that decides it."""
        if self.name == "latency" and self.outcome:
            return f"latency{{outcome={self.outcome}}}"
        if self.name in ("latency", "max", "mean"):
            return "latency"
        return f"{self.name}({self.service})" if self.service else self.name

    @property
    def over_successes(self) -> bool:
        """Whether it is a percentile of the successful requests' latency, which rate x duration must decide."""
        return self.name == "latency" and self.outcome in (None, "success")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class SLOResult:
    """What became of an SLO: ``verdict`` is passed, violated, no_data or inconclusive; values in ``unit``."""

    slo: str
    metric: str
    verdict: str
    operator: str
    limit: float
    unit: str
    observed: float | None = None
    n: int | None = None
    above: int | None = None
    interval: tuple[float, float] | None = None
    reason: str = ""


def parse(text: str, where: str = "slos") -> SLO:
    """Parse one condition.

    Raises:
        ConfigurationError: it is malformed, or names an unknown metric; the message begins with ``where``.
    """
    found = _CONDITION.match(text) if isinstance(text, str) else None
    if found is None:
        raise ConfigurationError(where, f"malformed SLO {text!r}", _GRAMMAR)
    name, percentile, service = _metric(found["name"], found["arguments"], where, text)
    unit = "ms" if name == "latency" else _METRICS[name][0]
    limit = _limit(found["number"], found["unit"], unit, where, text)
    outcome = found["outcome"]
    if outcome is not None and name != "latency":
        raise ConfigurationError(
            where, f"{{outcome=...}} does not apply to {name!r} in {text!r}", "a percentile such as p99"
        )
    if outcome is not None and outcome not in OUTCOMES:
        raise ConfigurationError(where, f"unknown outcome {outcome!r} in {text!r}", "one of " + ", ".join(OUTCOMES))
    if percentile is not None and found["operator"] not in ("<", "<="):
        raise ConfigurationError(where, f"{found['operator']!r} in {text!r}", "'<' or '<=' for a percentile")
    return SLO(text.strip(), name, found["operator"], limit, unit, service, percentile, outcome)


def _metric(name: str, arguments: str | None, where: str, text: str) -> tuple[str, float | None, str | None]:
    """Return (name, percentile, service) of the left side."""
    parts = [part.strip() for part in arguments.split(",")] if arguments is not None else []
    if name == "p" and len(parts) == 1:
        return "latency", _percentile(f"p{parts[0]}", where, text), None
    if _PERCENTILE.match(name):
        if parts:
            raise ConfigurationError(
                where, f"{name!r} takes no arguments in {text!r}", "p99, or self_time(service, p99)"
            )
        return "latency", _percentile(name, where, text), None
    if name not in _METRICS:
        known = ["p50", "p95", "p99", *_METRICS]
        raise ConfigurationError(
            where,
            f"unknown metric {name!r} in {text!r}",
            "one of " + ", ".join(["pNN", *_METRICS]),
            did_you_mean(name, known),
        )
    percentile = None
    if name == "self_time":
        if len(parts) != 2:
            raise ConfigurationError(where, f"malformed {name!r} in {text!r}", "self_time(service, p95)")
        percentile = _percentile(parts.pop(), where, text)
    takes = _METRICS[name][1]
    if len(parts) > 1 or (parts and takes == "never") or (takes == "must" and not any(parts)):
        wanted = {
            "never": f"{name} without arguments",
            "may": f"{name} or {name}(service)",
            "must": f"{name}(service)",
        }
        raise ConfigurationError(where, f"wrong arguments of {name!r} in {text!r}", wanted[takes])
    return name, percentile, parts[0] if parts else None


def _percentile(text: str, where: str, whole: str) -> float:
    found = _PERCENTILE.match(text)
    if found is None or not 0 < float(found[1]) < 100:
        raise ConfigurationError(
            where, f"bad percentile {text!r} in {whole!r}", "a percentile between p0 and p100, such as p99.9"
        )
    return float(found[1])


def _limit(number: str, unit: str, kind: str, where: str, text: str) -> float:
    units = _UNITS[kind]
    if unit not in units:
        shown = ", ".join(repr(name) if name else "no unit" for name in units)
        raise ConfigurationError(where, f"bad unit {unit!r} in {text!r}" if unit else f"no unit in {text!r}", shown)
    try:
        value = float(Decimal(number) * Decimal(str(units[unit])))  # 95% is 0.95, not 0.9500000000000001
    except InvalidOperation:
        raise ConfigurationError(where, f"bad number {number!r} in {text!r}", "a number") from None
    if value < 0 or (kind == "share" and value > 1 and unit == ""):
        raise ConfigurationError(
            where,
            f"limit out of range in {text!r}",
            "a share such as 1% or 0.01" if kind == "share" else "a limit of at least 0",
        )
    return value


def with_defaults(slos: tuple[SLO, ...]) -> tuple[SLO, ...]:
    """Add the default SLOs for each metric that the experiment's own SLOs do not speak of."""
    named = {slo.name for slo in slos if slo.service is None}
    return slos + tuple(slo for slo in map(parse, DEFAULT_SLOS) if slo.name not in named)


def requests_needed(percent: float, confidence: float) -> int:
    """Return the least number of requests that can pass a percentile SLO: ``q^n <= 1 - confidence``."""
    if confidence <= 0:
        return 1
    return math.ceil(math.log(1 - confidence) / math.log(percent / 100) - 1e-9)


def check(slo: SLO, metrics: Metrics, confidence: float = 0.95) -> SLOResult:
    """Decide one SLO. ``confidence`` 0 judges the point value of a percentile."""
    value = metrics.get(slo.source)
    if slo.percentile is not None:
        latency = value if isinstance(value, Latency) else None
        if isinstance(value, LatencyHistogram):
            latency = Latency(value, LatencyHistogram())
        return _check_percentile(slo, latency, confidence)
    if isinstance(value, Latency):
        return _check_extreme(slo, value)
    if not isinstance(value, int | float) or math.isnan(value):
        return _result(slo, "no_data", reason=f"no samples of {slo.source}")
    verdict = "passed" if _OPERATORS[slo.operator](value, slo.limit) else "violated"
    return _result(slo, verdict, observed=float(value), reason=_which_restarted(slo, metrics))


def _which_restarted(slo: SLO, metrics: Metrics) -> str:
    """Name the services behind a sum of restarts."""
    if slo.source != "restarts":
        return ""
    named = [key for key, value in metrics.items() if key.startswith("restarts(") and value]
    return ", ".join(key.removeprefix("restarts(").removesuffix(")") for key in named)


def _check_extreme(slo: SLO, latency: Latency) -> SLOResult:
    """Decide ``max`` and ``mean``: a lower bound can violate them, but never lets them pass."""
    if not latency.count:
        return _result(slo, "no_data", reason="no request succeeded")
    everything = latency.exact.merge(latency.at_least)
    observed = (everything.max_us if slo.name == "max" else everything.mean_us) / 1e3
    holds = _OPERATORS[slo.operator](observed, slo.limit)
    unknown = latency.at_least.count if slo.operator in ("<", "<=") else 0
    verdict = "violated" if not holds else "inconclusive" if unknown else "passed"
    reason = f"{unknown} requests never ended: {slo.name} is at least this" if unknown else ""
    return _result(slo, verdict, observed=observed, n=latency.count, reason=reason)


def _check_percentile(slo: SLO, latency: Latency | None, confidence: float) -> SLOResult:
    assert slo.percentile is not None
    if latency is None or not latency.count:
        if slo.outcome not in (None, "success") and latency is not None:
            return _result(slo, "passed", n=0, reason=f"no {slo.outcome} answers")
        return _result(slo, "no_data", reason=f"no samples of {slo.source}")
    n = latency.count
    surely = _above(slo, latency.exact) + _above(slo, latency.at_least)
    perhaps = _above(slo, latency.exact) + latency.at_least.count  # a lower bound has no upper end
    tail = 1 - slo.percentile / 100
    if confidence <= 0:
        violated, passed = surely > tail * n, perhaps <= tail * n
    else:
        alpha = 1 - confidence
        passed = binomial_cdf(perhaps, n, tail) <= alpha
        violated = not passed and 1 - binomial_cdf(surely - 1, n, tail) <= alpha
    verdict = "passed" if passed else "violated" if violated else "inconclusive"
    reason = f"{surely} of {n} above the limit" + (f", {perhaps - surely} unknown" if perhaps > surely else "")
    return _result(
        slo,
        verdict,
        observed=latency.percentile_ms(slo.percentile),
        n=n,
        above=surely,
        interval=latency.interval_ms(slo.percentile),
        reason=reason,
    )


def _above(slo: SLO, histogram: LatencyHistogram) -> int:
    """Count what does not hold: values above the limit, for ``<`` also those that equal it to 3 digits."""
    limit_us = slo.limit * 1e3
    return histogram.count_above_us(limit_us if slo.operator == "<=" else limit_us * (1 - 1e-9))


def _result(slo: SLO, verdict: str, **values: object) -> SLOResult:
    return SLOResult(slo.text, slo.metric, verdict, slo.operator, slo.limit, slo.unit, **values)  # type: ignore[arg-type]


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Return P(X <= k) for X ~ Binomial(n, p), exactly: the regularized incomplete beta I_{1-p}(n - k, k + 1)."""
    if k < 0:
        return 0.0
    if k >= n or p <= 0:
        return 1.0
    if p >= 1:
        return 0.0
    return _incomplete_beta(n - k, k + 1, 1 - p)


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
