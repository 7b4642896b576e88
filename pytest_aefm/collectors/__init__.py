"""Collectors: each turns a Window, its only time input, into observations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol

from pytest_aefm.decision import Latency
from pytest_aefm.errors import CollectorError
from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.model import CheckResult, Dose, MakeColumns, Window, as_json

if TYPE_CHECKING:
    from pytest_aefm.collectors.traces import TraceAnalysis

__all__ = ["Collector", "Observations", "checked"]


@dataclass(frozen=True, slots=True)
class Observations:
    """What was seen of one window.

    ``metrics`` can be named in SLOs: numbers in base units (``cpu(rate)`` share of 1, ``cpu_cores(rate)`` cores,
    ``memory(rate)`` bytes, ``restarts``, ``restarts(rate)`` counts) or histograms (``self_time(rate)``).
    ``unfit`` maps those of the metrics that carry no verdict to the reason: an SLO on one makes the trial invalid.
    ``checks`` are self-checks of the apparatus, ``doses`` proofs of interference, ``effect`` what it did to the
    services and the machine, ``details`` whatever else belongs in the report, ``traces`` the analysis behind, of which
    only figures are reported. ``tables`` make columns by the name of a table, when they are wanted.
    """

    metrics: Mapping[str, float | Latency | LatencyHistogram] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[CheckResult, ...] = ()
    doses: tuple[Dose, ...] = ()
    effect: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    artifacts: tuple[str, ...] = ()
    traces: TraceAnalysis | None = None
    tables: Mapping[str, MakeColumns] = field(default_factory=dict)


class Collector(Protocol):
    """A source of observations."""

    @property
    def name(self) -> str:
        """Its name in the report."""
        ...

    @property
    def provides(self) -> frozenset[str]:
        """Names of the metrics it gives, without arguments: ``self_time``; an SLO on one needs this collector."""
        ...

    def collect(self, window: Window) -> Observations:
        """Return what it saw of the window, which has ended; called from a thread of its own.

        Raises:
            CollectorError: the source failed (an empty series is not a failure).
        """
        ...


def checked(name: str, answer: Any) -> Observations:
    """Return a collector's answer, which a trial and its report can hold.

    Raises:
        CollectorError: it is something else, or has a value that is none of JSON.
    """
    if not isinstance(answer, Observations):
        raise CollectorError(name, f"its answer is of type {type(answer).__name__}", "Observations")
    values = answer.metrics.values()
    wrong = next((value for value in values if not isinstance(value, Real | Latency | LatencyHistogram)), None)
    if wrong is not None:
        raise CollectorError(name, f"a metric is of type {type(wrong).__name__}", "a number or a histogram")
    told = (answer.checks, answer.doses, answer.effect, answer.details, answer.artifacts)
    try:
        json.dumps(as_json(told), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CollectorError(name, f"its answer is no JSON: {error}", "numbers, texts, lists and mappings") from error
    return answer
