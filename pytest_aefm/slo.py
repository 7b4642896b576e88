"""Service level objectives: one condition on one metric of a trial. Parsing only; decision.py decides them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from operator import eq, ge, gt, le, lt, ne

from pytest_aefm.errors import ConfigurationError, did_you_mean

__all__ = [
    "DEFAULT_SLOS",
    "OUTCOMES",
    "OWN_NAME",
    "OWN_UNIT",
    "SLO",
    "holds",
    "is_known",
    "labels",
    "parse",
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
    "cpu_peak": ("share", "must", "most CPU that a service used between two samples, of its limit; from Prometheus"),
    "throttled": ("share", "must", "periods in which a service's own CPU limit stopped it; on a cluster"),
    "memory": ("bytes", "must", "memory of a service: the larger of both edges, on a cluster the highest sample"),
    "memory_share": ("share", "must", "highest sample of a service's memory, of its limit; on a cluster"),
    "trace_coverage": ("share", "never", "requests of which there is a trace / requests sent"),
    "self_time": ("ms", "must", "a service's own time per request, from traces; a percentile of it"),
}
_LABELLED = {"outcome": ("latency",), "tag": ("latency", "max", "mean", "goodput", "error_rate")}
"""What braces may say, and of which metrics."""

OWN_UNIT = "number"
"""The unit of metrics of the user's own: whatever the query gives."""

OWN_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_RESERVED = ("p", "latency", "achieved_rps", "overloaded")

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
    r"^\s*(?P<name>[A-Za-z_][\w.]*)\s*"
    r"(?:\(\s*(?P<arguments>[^)]*)\))?\s*"
    r"(?:\{(?P<labels>[^{}]*)\})?\s*"
    r"(?P<operator><=|>=|==|!=|<|>)\s*"
    r"(?P<number>[-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*(?P<unit>%|[A-Za-z]*)\s*$"
)
_PERCENTILE = re.compile(r"^p(\d+(?:\.\d+)?)$")
_GRAMMAR = (
    "METRIC OPERATOR LIMIT such as 'p99 < 250ms', 'p(99.9) < 1s', 'error_rate <= 0.1%', 'goodput >= 99%', "
    "'max < 2s', 'restarts == 0', 'cpu(search) < 80%', 'self_time(rate, p95) < 20ms', 'p99{outcome=5xx} < 1s' or "
    "'p99{tag=search} < 200ms'"
)


@dataclass(frozen=True, slots=True)
class SLO:
    """One condition. ``limit`` is in ``unit``: ms, share (of 1), count, cores, bytes or number (the user's own)."""

    text: str
    name: str
    operator: str
    limit: float
    unit: str
    service: str | None = None
    percentile: float | None = None
    outcome: str | None = None
    tag: str | None = None

    @property
    def metric(self) -> str:
        """The left side in its normal form, as reports show it: ``p99``, ``self_time(rate, p95)``."""
        percentile = f"p{self.percentile:g}" if self.percentile is not None else None
        if self.name == "latency":
            return f"{percentile}{self.labels}"
        arguments = ", ".join(part for part in (self.service, percentile) if part)
        return f"{self.name}({arguments})" if arguments else f"{self.name}{self.labels}"

    @property
    def labels(self) -> str:
        """Which requests it speaks of, as metrics are called."""
        return labels(self.tag, self.outcome)

    @property
    def source(self) -> str:
        """The key among a trial's metrics that decides it."""
        if self.name in ("latency", "max", "mean"):
            return f"latency{self.labels}"
        return f"{self.name}({self.service})" if self.service else f"{self.name}{self.labels}"

    @property
    def over_successes(self) -> bool:
        """Whether it is a percentile of the successful requests' latency, which rate x duration must decide."""
        return self.name == "latency" and self.outcome in (None, "success")

    def __str__(self) -> str:
        return self.text


def parse(text: str, where: str = "slos", own: Collection[str] | None = ()) -> SLO:
    """Parse one condition.

    ``own`` are the user's own metrics. Where they are not known yet (None) a condition on another name than ours is
    of the unit ``number`` and the limit NaN, to be parsed again.

    Raises:
        ConfigurationError: it is malformed, or names an unknown metric; the message begins with ``where``.
    """
    found = _CONDITION.match(text) if isinstance(text, str) else None
    if found is None:
        raise ConfigurationError(where, f"malformed SLO {text!r}", _GRAMMAR)
    if own is None and not is_known(found["name"]):
        return SLO(text.strip(), found["name"], found["operator"], math.nan, OWN_UNIT)
    if found["name"] in (own or ()):
        return _own(found, where, text)
    name, percentile, service = _metric(found["name"], found["arguments"], where, text, own or ())
    unit = "ms" if name == "latency" else _METRICS[name][0]
    limit = _limit(found["number"], found["unit"], unit, where, text)
    labels = _labels(found["labels"], name, where, text)
    if percentile is not None and found["operator"] not in ("<", "<="):
        raise ConfigurationError(where, f"{found['operator']!r} in {text!r}", "'<' or '<=' for a percentile")
    return SLO(text.strip(), name, found["operator"], limit, unit, service, percentile, **labels)


def _labels(written: str | None, name: str, where: str, text: str) -> dict[str, str]:
    """Return the outcome and the tag that braces name."""
    labels: dict[str, str] = {}
    for part in written.split(",") if written is not None else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in _LABELLED or not equals or not value or key in labels:
            what = f"malformed {{{written}}} in {text!r}"
            raise ConfigurationError(where, what, "{outcome=5xx}, {tag=search} or both with a comma between")
        if name not in _LABELLED[key]:
            expected = (
                "a percentile such as p99" if key == "outcome" else f"one of pNN, {', '.join(_LABELLED[key][1:])}"
            )
            raise ConfigurationError(where, f"{{{key}=...}} does not apply to {name!r} in {text!r}", expected)
        labels[key] = value
    outcome = labels.get("outcome", OUTCOMES[0])
    if outcome not in OUTCOMES:
        raise ConfigurationError(where, f"unknown outcome {outcome!r} in {text!r}", "one of " + ", ".join(OUTCOMES))
    return labels


def _own(found: re.Match[str], where: str, text: str) -> SLO:
    """Return a condition on a metric of the user's own, whose unit is its own."""
    name = found["name"]
    if found["arguments"] is not None or found["labels"] is not None:
        raise ConfigurationError(where, f"{name!r} takes no arguments in {text!r}", f"{name} alone")
    try:
        limit = float(found["number"])
    except ValueError:
        raise ConfigurationError(where, f"bad number {found['number']!r} in {text!r}", "a number") from None
    if found["unit"]:
        raise ConfigurationError(where, f"bad unit {found['unit']!r} in {text!r}", "a number as the query gives it")
    return SLO(text.strip(), name, found["operator"], limit, OWN_UNIT)


def is_known(name: str) -> bool:
    """Return whether a name is that of a metric of ours."""
    return name in (*_METRICS, *_RESERVED) or bool(_PERCENTILE.match(name))


def _metric(
    name: str, arguments: str | None, where: str, text: str, own: Collection[str]
) -> tuple[str, float | None, str | None]:
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
        known = [*_METRICS, *own]
        expected = "one of " + ", ".join(["pNN", *known])
        hint = did_you_mean(name, ["p50", "p95", "p99", *known])
        raise ConfigurationError(where, f"unknown metric {name!r} in {text!r}", expected, hint)
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


def labels(tag: str | None = None, outcome: str | None = None) -> str:
    """Return which requests are meant, as metrics are called: ``{tag=search,outcome=5xx}``, empty for all."""
    given = {"tag": tag, "outcome": outcome}
    said = ",".join(f"{key}={value}" for key, value in given.items() if value is not None)
    return f"{{{said}}}" if said else ""


def with_defaults(slos: tuple[SLO, ...]) -> tuple[SLO, ...]:
    """Add the default SLOs for each metric that the experiment's own SLOs do not speak of."""
    named = {slo.name for slo in slos if slo.service is None and slo.tag is None}
    return slos + tuple(slo for slo in map(parse, DEFAULT_SLOS) if slo.name not in named)


def holds(slo: SLO, value: float) -> bool:
    """Return whether the condition holds for a value in its unit."""
    return _OPERATORS[slo.operator](value, slo.limit)
