"""AEFM's tables and two more, as columns: what each row is, from what a trial's load and collectors saw. Pure.

Times are microseconds, shares percent, as in AEFM; what is not known is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pytest_aefm.collectors import Observations
from pytest_aefm.collectors.trace_rows import call_columns, trace_columns
from pytest_aefm.collectors.trace_statistics import edge_rows, pod_rows
from pytest_aefm.collectors.traces import TraceAnalysis
from pytest_aefm.model import Columns, LoadResult, MakeColumns

__all__ = ["call_graph", "hardware_data", "statistical_data", "tables_of", "timeseries"]


def tables_of(load: LoadResult, seen: Mapping[str, Observations]) -> dict[str, MakeColumns]:
    """Return the tables of a trial, each as a function that makes its columns when they are wanted."""
    tables: dict[str, MakeColumns] = {"throughput_data": partial(_throughput_data, load)}
    if load.series:
        tables["timeseries"] = partial(timeseries, load.series)
    for observations in seen.values():
        if observations.traces is not None:
            analysis = observations.traces
            tables |= {
                "raw_data": partial(call_columns, analysis),
                "end_to_end_data": partial(trace_columns, analysis),
                "statistical_data": partial(statistical_data, analysis),
                "call_graph": partial(call_graph, analysis),
            }
        tables |= observations.tables
    return tables


def _throughput_data(load: LoadResult) -> Columns:
    """Return the requests that were answered, a second of the window."""
    return {"real_throughput": [load.achieved / load.window.duration_s]}


def timeseries(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Return what was due and what came in each second of the window; latencies of successes, by due time."""
    success = [row["outcomes"].get("success", 0) for row in rows]

    def figure(name: str) -> list[float]:
        return [math.nan if row[name] is None else float(row[name]) for row in rows]

    return {
        "second": list(range(len(rows))),
        **{name: [row[name] for row in rows] for name in ("offered", "sent", "completed")},
        "success": success,
        "failed": [sum(row["outcomes"].values()) - good for row, good in zip(rows, success, strict=True)],
        **{name: figure(f"{name}_us") for name in ("p50", "p99", "max")},
        "backlog": figure("backlog"),
    }


def statistical_data(analysis: TraceAnalysis) -> Columns:
    """Return the median and the 95th percentile of self times by service and pod.

    They are over requests. AEFM has them over each trace's mean, in which what a few slow calls took is lost.
    """
    rows = pod_rows(analysis)
    return {
        "microservice": [row["service"] for row in rows],
        "pod": [row["pod"] for row in rows],
        "p50": [1e3 * row["self_p50_ms"] for row in rows],
        "p95": [1e3 * row["self_p95_ms"] for row in rows],
        "requests": [row["requests"] for row in rows],
    }


def call_graph(analysis: TraceAnalysis) -> Columns:
    """Return who called whom, how often, and with which latency as the caller saw it."""
    rows = edge_rows(analysis)
    return {
        "caller": [row["caller"] for row in rows],
        "callee": [row["callee"] for row in rows],
        "calls": [row["calls"] for row in rows],
        "rate_rps": [math.nan if row["rate_rps"] is None else row["rate_rps"] for row in rows],
        "p50": [1e3 * row["latency_p50_ms"] for row in rows],
        "p95": [1e3 * row["latency_p95_ms"] for row in rows],
        "error_share": [row["error_share"] for row in rows],
    }


def hardware_data(services: Mapping[str, Mapping[str, Any]], unfit: Mapping[str, str]) -> Columns:
    """Return what each pod used at its peak, in percent of its limits, from Prometheus' figures by service.

    A peak that too few samples stand behind is not known.
    """
    rows = [(service, pod, one) for service, figures in services.items() for pod, one in figures["pods"].items()]

    def figure(name: str, factor: float = 1.0, peak: str = "") -> list[float]:
        return [
            math.nan if f"{peak}({service})" in unfit else factor * one.get(name, math.nan) for service, _, one in rows
        ]

    return {
        "microservice": [service for service, _, _ in rows],
        "pod": [pod for _, pod, _ in rows],
        "cpu_usage": figure("cpu_peak", 100, "cpu_peak"),
        "mem_usage": figure("memory_share", 100, "memory_share"),
        "cpu_cores": figure("cpu_cores"),
        "memory_bytes": figure("memory_max_bytes", peak="memory"),
        "throttled": figure("throttled_share", 100),
        "samples": [one["samples"] for _, _, one in rows],
    }
