"""From spans of whatever source to what a trial reports of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_aefm.collectors import Observations
from pytest_aefm.collectors.spans import Spans
from pytest_aefm.collectors.trace_statistics import skew_rows
from pytest_aefm.collectors.traces import TraceAnalysis, analyse
from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.model import Window

__all__ = ["trace_observations"]


def trace_observations(spans: Spans, window: Window, details: Mapping[str, Any]) -> Observations:
    """Analyse the window's traces; return self times as metrics, and what tells how far they can be trusted."""
    start_ns, length_ns = round(window.start_wall_s * 1e9), round(window.duration_s * 1e9)
    analysis = analyse(spans, start_ns, start_ns + length_ns)
    metrics = {f"self_time({name})": _histogram(service.self_time_us) for name, service in analysis.services.items()}
    return Observations(metrics=metrics, details={**_figures(analysis), **details}, traces=analysis)


def _histogram(values_us: NDArray[np.float64]) -> LatencyHistogram:
    """Record equal values, which are many, at once: a histogram takes microseconds for each that it is given."""
    histogram = LatencyHistogram()
    for value, count in zip(*np.unique(np.rint(values_us), return_counts=True), strict=True):
        histogram.record_us(float(value), int(count))
    return histogram


def _figures(analysis: TraceAnalysis) -> dict[str, Any]:
    return {
        "traces": analysis.traces,
        "spans": analysis.spans,
        "spans_per_trace": round(analysis.spans / analysis.traces, 3) if analysis.traces else None,
        "orphans": analysis.orphans,
        "rootless": analysis.rootless,
        "duplicates": analysis.duplicates,
        "cyclic": analysis.cyclic,
        "skewed": analysis.skewed,
        "clocks_behind": skew_rows(analysis),
        "errors": analysis.errors,
        "services": {
            name: {
                "requests": service.count,
                "self_time_p50_ms": _median_ms(service.self_time_us),
                "duration_p50_ms": _median_ms(service.duration_us),
                "transit_p50_ms": _median_ms(service.transit_us),
                "critical_share": round(service.critical_share, 4),
                "errors": service.errors,
            }
            for name, service in sorted(analysis.services.items())
        },
    }


def _median_ms(values_us: Any) -> float | None:
    return round(float(np.median(values_us)) / 1e3, 4) if len(values_us) else None
