"""Collectors: each turns a Window, its only time input, into observations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pytest_aefm.decision import Latency
from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.model import CheckResult, Dose, Window

if TYPE_CHECKING:
    from pytest_aefm.collectors.traces import TraceAnalysis

__all__ = ["Collector", "Observations"]


@dataclass(frozen=True, slots=True)
class Observations:
    """What was seen of one window.

    ``metrics`` can be named in SLOs: numbers in base units (``cpu(rate)`` share of 1, ``cpu_cores(rate)`` cores,
    ``memory(rate)`` bytes, ``restarts``, ``restarts(rate)`` counts) or histograms (``self_time(rate)``).
    ``checks`` are self-checks of the apparatus, ``doses`` proofs of interference, ``effect`` what it did to the
    services and the machine, ``details`` whatever else belongs in the report, ``traces`` the analysis behind, of which
    only figures are reported.
    """

    metrics: Mapping[str, float | Latency | LatencyHistogram] = field(default_factory=dict)
    checks: tuple[CheckResult, ...] = ()
    doses: tuple[Dose, ...] = ()
    effect: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    artifacts: tuple[str, ...] = ()
    traces: TraceAnalysis | None = None


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
