"""What an analysis says in figures, as rows of plain values: services, operations, pods, edges, oddities.

Percentiles are by nearest rank, the smallest value that so many percent do not exceed, as HdrHistogram has them.
Units are in the names: milliseconds, shares of 1, requests per second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_aefm.collectors.intervals import Moments, Rows
from pytest_aefm.collectors.traces import TraceAnalysis

__all__ = ["audit", "edge_rows", "end_to_end", "operation_rows", "pod_rows", "service_rows", "skew_rows"]

PERCENTS = (50, 90, 95, 99)

Row = dict[str, Any]


def service_rows(analysis: TraceAnalysis) -> list[Row]:
    """Return a row per service, those with most of the critical path first.

    ``fan_out`` is how many calls a request makes, ``parallelism`` how many are under way at a time while there are
    any (1: one after the other), ``critical_share`` the service's part of all end-to-end latency, transit included.
    """
    rows = _request_rows(analysis, ("service",))
    for row in rows:
        seen = analysis.services[row["service"]]
        row["critical_share"] = round(seen.critical_share, 5)
        row["critical_transit_share"] = round(
            seen.critical_share * seen.critical_transit_us / max(1e-9, seen.critical_us + seen.critical_transit_us), 5
        )
    return sorted(rows, key=lambda row: -row["critical_share"])


def pod_rows(analysis: TraceAnalysis) -> list[Row]:
    """Return a row per service and pod; the pod is "" where spans do not name it."""
    return _request_rows(analysis, ("service", "pod"))


def operation_rows(analysis: TraceAnalysis) -> list[Row]:
    """Return a row per service and operation, of all spans: also of those within a service.

    Self time is the duration minus the union of all children; ``critical_share`` as for services, transit not counted.
    """
    forest = analysis.forest
    rows = np.flatnonzero(analysis.inside)
    groups = _Groups(analysis, rows, ("service", "operation"))
    total = max(1, int(analysis.critical.own_ns.sum()))
    critical = groups.sums(analysis.critical.own_ns[rows])
    table = groups.rows(
        spans=groups.counts,
        error_share=groups.sums(forest.spans.error[rows]) / groups.counts,
        **_percentiles("duration", groups, forest.duration_ns[rows]),
        **_percentiles("self", groups, analysis.self_ns[rows]),
        critical_share=critical / total,
    )
    return sorted(table, key=lambda row: -row["critical_share"])


def edge_rows(analysis: TraceAnalysis) -> list[Row]:
    """Return a row per caller and callee: how often, how long as the caller sees it, and how much of that is transit.

    Entries into the application have no caller, and are no edges. The most frequent ones come first.
    """
    forest, requests = analysis.forest, analysis.requests
    rows = np.flatnonzero(analysis.inside & requests.entry & (requests.caller >= 0))
    groups = _Groups(analysis, rows, ("service",), caller=forest.spans.service[requests.caller[rows]])
    transit = requests.transit_ns[rows]
    table = groups.rows(
        calls=groups.counts,
        rate_rps=groups.counts / analysis.duration_s if analysis.duration_s else None,
        error_share=groups.sums(forest.spans.error[rows]) / groups.counts,
        **_percentiles("latency", groups, requests.seen_ns[rows]),
        transit_p50_ms=groups.percentile(np.where(transit >= 0, transit, 0), 50) / 1e6,
    )
    return sorted(table, key=lambda row: -row["calls"])


def skew_rows(analysis: TraceAnalysis) -> list[Row]:
    """Return a row per caller's and callee's pod where spans begin before those above them: clocks that disagree.

    ``behind_ms`` is the least by which the callee's clock must be behind, over all of these spans.
    """
    forest = analysis.forest
    early = analysis.inside & forest.has_parent()
    early &= forest.start_ns < forest.start_ns[forest.parent]
    rows = np.flatnonzero(early)
    groups = _Groups(analysis, rows, ("service", "pod"), caller=forest.spans.service[forest.parent[rows]])
    lead = forest.start_ns[forest.parent[rows]] - forest.start_ns[rows]
    return groups.rows(spans=groups.counts, behind_ms=groups.percentile(lead, 100) / 1e6)


def end_to_end(analysis: TraceAnalysis) -> Row:
    """Return the end-to-end latency of the traces: count, percentiles and maximum in ms, and the share of errors."""
    values, count = np.sort(analysis.end_to_end_us) / 1e3, analysis.traces
    ranks = {f"p{percent}_ms": max(0, math.ceil(percent / 100 * count) - 1) for percent in PERCENTS}
    figures = {name: round(float(values[rank]), 4) for name, rank in ranks.items()} if count else {}
    most = {"max_ms": round(float(values[-1]), 4)} if count else {}
    return {"traces": count, "error_share": analysis.errors / count if count else None, **figures, **most}


def audit(analysis: TraceAnalysis) -> Row:
    """Return how far the traces can be trusted: what they lack, and what is odd about them."""
    names = ("traces", "spans", "rootless", "orphans", "duplicates", "cyclic", "skewed", "inverted", "errors")
    return {name: getattr(analysis, name) for name in names}


def _request_rows(analysis: TraceAnalysis, by: Sequence[str]) -> list[Row]:
    forest, requests = analysis.forest, analysis.requests
    rows = np.flatnonzero(analysis.inside & requests.entry)
    groups = _Groups(analysis, rows, by)
    waited = groups.sums(requests.waited_ns[rows])
    parallelism = np.full(len(waited), np.nan)
    np.divide(groups.sums(requests.called_ns[rows]), waited, out=parallelism, where=waited > 0)
    return groups.rows(
        requests=groups.counts,
        rate_rps=groups.counts / analysis.duration_s if analysis.duration_s else None,
        error_share=groups.sums(forest.spans.error[rows]) / groups.counts,
        **_percentiles("duration", groups, forest.duration_ns[rows]),
        **_percentiles("self", groups, requests.self_ns[rows]),
        fan_out=groups.sums(requests.calls[rows]) / groups.counts,
        parallelism=parallelism,
    )


def _percentiles(name: str, groups: _Groups, values_ns: Rows) -> dict[str, NDArray[Any]]:
    return {f"{name}_p{percent}_ms": groups.percentile(values_ns, percent) / 1e6 for percent in PERCENTS}


class _Groups:
    """Rows of a forest that agree in some names: sums and percentiles of each group, sorted once per column."""

    def __init__(
        self, analysis: TraceAnalysis, rows: Rows, by: Sequence[str], caller: NDArray[np.int32] | None = None
    ) -> None:
        spans = analysis.forest.spans
        columns = [(name, getattr(spans, f"{name}s"), getattr(spans, name)[rows]) for name in by]
        if caller is not None:
            columns = [("caller", spans.services, caller), ("callee", *columns[0][1:]), *columns[1:]]
        shape = tuple(max(1, len(names)) for _, names, _ in columns)
        key = np.zeros(len(rows), np.int64)
        for (_, _, numbers), count in zip(columns, shape, strict=True):
            key = key * count + numbers
        keys, self._group = _numbered(key, math.prod(shape))
        self.counts = np.bincount(self._group, minlength=len(keys))
        self._ends = np.cumsum(self.counts)
        of_names = zip(columns, np.unravel_index(keys, shape), strict=True)
        self._names = {name: [names[number] for number in numbers] for (name, names, _), numbers in of_names}
        self._sorted: tuple[Rows | None, Rows] = (None, np.zeros(0, np.int64))

    def sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the sum of each group, exact up to 2**53."""
        return np.asarray(np.bincount(self._group, values, minlength=len(self.counts)), np.float64)

    def percentile(self, values: Rows, percent: float) -> Rows:
        """Return a percentile of each group, by nearest rank."""
        if self._sorted[0] is not values:
            moments = Moments.of(values, len(self.counts))
            ordered = np.sort(self._group * moments.width + moments.numbers)
            base = np.repeat(np.arange(len(self.counts)) * moments.width, self.counts)
            self._sorted = values, moments.times(ordered - base)
        # In integers: 0.95 * 20 is more than 19 in floating point.
        rank = -(-self.counts * round(percent * 1000) // 100_000)
        chosen: Rows = self._sorted[1][self._ends - self.counts + np.maximum(rank, 1) - 1]
        return chosen

    def rows(self, **columns: NDArray[Any] | None) -> list[Row]:
        """Return a row per group with its names and these figures, rounded; what is not known is None."""
        names = {**self._names, **{name: _plain(values, len(self.counts)) for name, values in columns.items()}}
        return [dict(zip(names, row, strict=True)) for row in zip(*names.values(), strict=True)]


def _numbered(key: Rows, many: int) -> tuple[Rows, Rows]:
    """Return the keys that there are, rising, and for each row the place of its own; all are below ``many``."""
    if many > len(key) + 1000:
        return np.unique(key, return_inverse=True)
    there = np.bincount(key, minlength=many) > 0
    return np.flatnonzero(there), (np.cumsum(there) - 1)[key]


def _plain(values: NDArray[Any] | None, count: int) -> list[Any]:
    if values is None:
        return [None] * count
    if values.dtype.kind == "f":
        return [None if math.isnan(value) else round(value, 5) for value in values.tolist()]
    return list(values.tolist())
