"""Analysis of the traces of one window, pure: requests at services, critical paths, and what is odd about them.

What a request, its self time and its transit are is said in :mod:`pytest_aefm.collectors.requests`, what a critical
path is in :mod:`pytest_aefm.collectors.critical_path`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_aefm.collectors.critical_path import CriticalPaths, find_critical_paths
from pytest_aefm.collectors.forest import Forest
from pytest_aefm.collectors.intervals import Flags, Rows, union_ns
from pytest_aefm.collectors.requests import Requests, find_requests
from pytest_aefm.collectors.spans import CLIENT, PRODUCER, Spans

__all__ = ["ServiceTraces", "TraceAnalysis", "analyse", "critical_by_service", "self_times_ns"]


@dataclass(frozen=True, eq=False)
class ServiceTraces:
    """The requests at one service, microseconds each: duration, self time, and for called ones the transit.

    ``critical_us`` is the service's own time on the critical paths of all traces together, ``critical_transit_us``
    that of the transit to it; ``critical_share`` is their sum, of the traces' end-to-end latency.
    """

    duration_us: NDArray[np.float64]
    self_time_us: NDArray[np.float64]
    transit_us: NDArray[np.float64]
    errors: int
    critical_us: float = 0.0
    critical_transit_us: float = 0.0
    critical_share: float = 0.0

    @property
    def count(self) -> int:
        """Number of requests."""
        return len(self.duration_us)


@dataclass(frozen=True, eq=False)
class TraceAnalysis:
    """The traces of one window: those whose root starts in it.

    ``rootless`` counts traces without a root (of unknown start, so of no window); the other counts are of spans in the
    window's traces: ``spans`` without duplicates, ``orphans``, ``duplicates``, ``cyclic`` (left out of all times),
    ``skewed`` (not inside their parent), ``inverted`` (ending before they start: taken as empty).

    The columns behind: ``forest`` has all spans, ``roots`` the row of each trace's root, in the order of
    ``end_to_end_us``, ``inside`` marks the rows of the window's traces without those in cycles; ``requests``,
    ``critical`` and ``self_ns`` (duration minus the union of all children) are per row of the forest.
    """

    traces: int
    spans: int
    rootless: int
    orphans: int
    duplicates: int
    cyclic: int
    skewed: int
    inverted: int
    services: dict[str, ServiceTraces]
    end_to_end_us: NDArray[np.float64]
    errors: int
    duration_s: float
    forest: Forest
    roots: Rows
    inside: Flags
    requests: Requests
    critical: CriticalPaths
    self_ns: Rows


def analyse(spans: Spans, window_start_ns: int | None = None, window_end_ns: int | None = None) -> TraceAnalysis:
    """Analyse the traces whose root starts in [start, end), wall-clock nanoseconds since 1970; all of them by default.

    Where a trace has several roots the one that starts first counts. Without a window it lasts from the first root's
    start to the last one's.
    """
    forest = Forest.of(spans)
    roots = forest.first_roots()
    with_root, start = len(roots), forest.start_ns[roots]
    if window_start_ns is None or window_end_ns is None:
        length_ns = int(start.max() - start.min()) if len(start) else 0
    else:
        length_ns = window_end_ns - window_start_ns
        roots = roots[(window_start_ns <= start) & (start < window_end_ns)]
    chosen = np.zeros(forest.traces, np.bool_)
    chosen[forest.trace[roots]] = True
    inside = chosen[forest.trace]
    timed = inside & ~forest.cyclic
    requests, critical = find_requests(forest), find_critical_paths(forest, roots)
    return TraceAnalysis(
        traces=len(roots),
        spans=int(inside.sum()),
        rootless=forest.traces - with_root,
        orphans=int((inside & forest.orphan).sum()),
        duplicates=int(forest.duplicates[chosen].sum()),
        cyclic=int((inside & forest.cyclic).sum()),
        skewed=int((inside & forest.outside(rounding_ns(spans))).sum()),
        inverted=int((inside & forest.inverted).sum()),
        services=_by_service(forest, requests, critical, timed),
        end_to_end_us=forest.duration_ns[roots] / 1e3,
        errors=int(forest.spans.error[roots].sum()),
        duration_s=length_ns / 1e9,
        forest=forest,
        roots=roots,
        inside=timed,
        requests=requests,
        critical=critical,
        self_ns=self_times_ns(forest),
    )


def self_times_ns(forest: Forest) -> Rows:
    """Return each span's duration minus the union of its children, whatever their service; nanoseconds."""
    rows = np.flatnonzero(forest.has_parent())
    parent = forest.parent[rows]
    start = np.clip(forest.start_ns[rows], forest.start_ns[parent], forest.end_ns[parent])
    end = np.clip(forest.end_ns[rows], forest.start_ns[parent], forest.end_ns[parent])
    return forest.duration_ns - union_ns(start, end, parent, len(forest.spans))


def rounding_ns(spans: Spans) -> int:
    """Return by how much times may be off for having been rounded: 1 us where all are in whole microseconds, as
    Jaeger's JSON has them, else nothing.
    """
    return 1000 * int(not ((spans.start_ns % 1000).any() or (spans.end_ns % 1000).any()))


def critical_by_service(forest: Forest, requests: Requests, critical: CriticalPaths) -> tuple[Rows, Rows]:
    """Return per service its own nanoseconds on the critical paths, and those of transit to it.

    A client span's own time there is transit to the service that answered, and the caller's where none is known.
    """
    spans, count = forest.spans, len(forest.spans.services)
    target = np.full(len(spans), -1, np.int64)
    answers = np.flatnonzero(requests.entry & forest.has_parent())
    for rows in (answers, answers[critical.on[answers]]):  # of several answers, one on the path
        target[forest.parent[rows]] = spans.service[rows]
    transit = critical.on & (target >= 0) & np.isin(spans.kind, (CLIENT, PRODUCER))
    own, sums = critical.on & ~transit, (np.zeros(count, np.int64), np.zeros(count, np.int64))
    np.add.at(sums[0], spans.service[own], critical.own_ns[own])
    np.add.at(sums[1], target[transit], critical.own_ns[transit])
    return sums


def _by_service(forest: Forest, requests: Requests, critical: CriticalPaths, inside: Flags) -> dict[str, ServiceTraces]:
    spans = forest.spans
    own_ns, transit_ns = critical_by_service(forest, requests, critical)
    total = max(1, int(critical.own_ns.sum()))
    rows = np.flatnonzero(inside & requests.entry)
    rows = rows[np.argsort(spans.service[rows], kind="stable")]
    bounds = np.searchsorted(spans.service[rows], np.arange(len(spans.services) + 1))
    result = {}
    for number, name in enumerate(spans.services):
        own = rows[bounds[number] : bounds[number + 1]]
        if len(own):
            transit = requests.transit_ns[own]
            result[name] = ServiceTraces(
                duration_us=forest.duration_ns[own] / 1e3,
                self_time_us=requests.self_ns[own] / 1e3,
                transit_us=transit[transit >= 0] / 1e3,
                errors=int(spans.error[own].sum()),
                critical_us=int(own_ns[number]) / 1e3,
                critical_transit_us=int(transit_ns[number]) / 1e3,
                critical_share=(int(own_ns[number]) + int(transit_ns[number])) / total,
            )
    return result
