"""Analysis of traces, pure: self time and duration per service, end-to-end latency, and what is odd about them.

A *request at a service* is an entry span: the root of a trace, an orphan, a span of kind server or consumer, or
one whose parent belongs to another service. Its **remote work** is what runs beneath it on behalf of another
service: client and producer spans (a client span belongs to the service that calls) and, where calls are not
traced on the client's side, the entry spans of the callees. Its **self time** is its duration minus the union of
its remote work, clipped to it and subtracted once. Internal spans are the service's own time.

So the time between a client span and the server span beneath it (the network, and waiting in the callee's socket
until the callee gets a CPU and reads the request) is nobody's self time: it is the callee's **transit**, kept apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_aefm.collectors.spans import CLIENT, CONSUMER, PRODUCER, SERVER, Spans

__all__ = ["Forest", "ServiceTraces", "TraceAnalysis", "analyse", "self_times_ns", "union_ns"]

Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Forest:
    """Spans joined into trees: duplicates dropped, every other row kept.

    ``parent`` is the row of the parent, -1 for none; ``trace`` numbers the traces from 0; ``orphan`` marks spans whose
    parent is missing, ``cyclic`` those whose chain of parents never ends.
    """

    spans: Spans
    trace: Rows
    traces: int
    parent: Rows
    root: Flags
    orphan: Flags
    cyclic: Flags
    start_ns: Rows
    end_ns: Rows
    inverted: Flags
    duplicates: Rows  # per trace

    @classmethod
    def of(cls, spans: Spans) -> Forest:
        """Join spans by trace, span and parent id; of duplicates the first row counts."""
        if not len(spans):
            none, no = np.zeros(0, np.int64), np.zeros(0, np.bool_)
            return cls(spans, none, 0, none, no, no, no, none, none, no, none)
        trace = _trace_numbers(spans)
        traces = int(np.max(trace)) + 1
        names, number = np.unique(np.concatenate([spans.span_id, spans.parent_id]), return_inverse=True)
        own = trace * len(names) + number[: len(spans)]
        above = trace * len(names) + number[len(spans) :]

        keys, first = np.unique(own, return_index=True)
        kept = np.sort(first)
        duplicates = np.bincount(trace, minlength=traces) - np.bincount(trace[kept], minlength=traces)
        row = np.empty(len(spans), np.int64)
        row[kept] = np.arange(len(kept))
        spans, trace, above = spans.take(kept), trace[kept], above[kept]

        place = np.minimum(np.searchsorted(keys, above), len(keys) - 1)
        root = spans.parent_id == 0
        found = (keys[place] == above) & ~root
        parent = np.where(found, row[first[place]], -1)
        end_ns = np.maximum(spans.start_ns, spans.end_ns)
        inverted = spans.end_ns < spans.start_ns
        return cls(
            spans,
            trace,
            traces,
            parent,
            root,
            ~root & ~found,
            _cyclic(parent),
            spans.start_ns,
            end_ns,
            inverted,
            duplicates,
        )

    @property
    def duration_ns(self) -> Rows:
        """Duration of each span in nanoseconds; 0 where it ends before it starts."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True, eq=False)
class ServiceTraces:
    """The requests at one service, microseconds each: duration, self time, and for called ones the transit."""

    duration_us: NDArray[np.float64]
    self_time_us: NDArray[np.float64]
    transit_us: NDArray[np.float64]
    errors: int

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


def analyse(spans: Spans, window_start_ns: int, window_end_ns: int) -> TraceAnalysis:
    """Analyse the traces whose root starts in [start, end), wall-clock nanoseconds since 1970.

    Where a trace has several roots the one that starts first counts.
    """
    forest = Forest.of(spans)
    roots = _first_roots(forest)
    start = forest.start_ns[roots]
    roots = roots[(window_start_ns <= start) & (start < window_end_ns)]
    chosen = np.zeros(forest.traces, np.bool_)
    chosen[forest.trace[roots]] = True
    inside = chosen[forest.trace]
    with_root = len(np.unique(forest.trace[forest.root]))
    return TraceAnalysis(
        traces=len(roots),
        spans=int(inside.sum()),
        rootless=forest.traces - with_root,
        orphans=int((inside & forest.orphan).sum()),
        duplicates=int(forest.duplicates[chosen].sum()),
        cyclic=int((inside & forest.cyclic).sum()),
        skewed=int((inside & _skewed(forest)).sum()),
        inverted=int((inside & forest.inverted).sum()),
        services=_by_service(forest, inside & ~forest.cyclic),
        end_to_end_us=forest.duration_ns[roots] / 1e3,
        errors=int(forest.spans.error[roots].sum()),
    )


def self_times_ns(forest: Forest) -> Rows:
    """Return each span's duration minus the union of its children, whatever their service; nanoseconds."""
    rows = np.flatnonzero((forest.parent >= 0) & ~forest.cyclic)
    return forest.duration_ns - _covered_ns(forest, rows, forest.parent[rows])


def union_ns(start_ns: Rows, end_ns: Rows, group: Rows, groups: int) -> Rows:
    """Return for each group 0..groups-1 the length of the union of its intervals [start, end), nanoseconds."""
    covered = np.zeros(groups, np.int64)
    order = np.lexsort((start_ns, group))
    order = order[end_ns[order] > start_ns[order]]
    if not len(order):
        return covered
    start_ns, end_ns, group = start_ns[order], end_ns[order], group[order]
    # A running maximum that starts anew with each group: over ranks, so that nothing can overflow.
    ends, rank = np.unique(end_ns, return_inverse=True)
    reached = np.maximum.accumulate(group * len(ends) + rank)
    before = np.where(np.diff(group, prepend=-1) != 0, start_ns, ends[np.roll(reached, 1) % len(ends)])
    np.add.at(covered, group, np.maximum(0, end_ns - np.maximum(start_ns, before)))
    return covered


def _covered_ns(forest: Forest, rows: Rows, within: Rows) -> Rows:
    """Return for every span how much of it the given rows cover; row i counts towards span ``within[i]``."""
    start = np.clip(forest.start_ns[rows], forest.start_ns[within], forest.end_ns[within])
    end = np.clip(forest.end_ns[rows], forest.start_ns[within], forest.end_ns[within])
    return union_ns(start, end, within, len(forest.spans))


def _by_service(forest: Forest, inside: Flags) -> dict[str, ServiceTraces]:
    spans, parent = forest.spans, forest.parent
    has_parent = (parent >= 0) & ~forest.cyclic
    other_service = has_parent & (spans.service != spans.service[parent])
    entry = ~has_parent | other_service | np.isin(spans.kind, (SERVER, CONSUMER))
    remote = has_parent & (entry | np.isin(spans.kind, (CLIENT, PRODUCER)))
    owner = _owners(forest, entry, remote)
    rows = np.flatnonzero(remote)
    rows = rows[owner[parent[rows]] >= 0]
    self_ns = forest.duration_ns - _covered_ns(forest, rows, owner[parent[rows]])

    called = entry & has_parent & np.isin(spans.kind[parent], (CLIENT, PRODUCER))
    caller = np.where(called, parent, 0)
    overlap = np.minimum(forest.end_ns, forest.end_ns[caller]) - np.maximum(forest.start_ns, forest.start_ns[caller])
    transit_ns = forest.duration_ns[caller] - np.maximum(0, overlap)
    result = {}
    for number, name in enumerate(spans.services):
        own = inside & entry & (spans.service == number)
        if own.any():
            result[name] = ServiceTraces(
                duration_us=forest.duration_ns[own] / 1e3,
                self_time_us=self_ns[own] / 1e3,
                transit_us=transit_ns[own & called] / 1e3,
                errors=int(spans.error[own].sum()),
            )
    return result


def _owners(forest: Forest, entry: Flags, remote: Flags) -> Rows:
    """Return for each span the entry span whose service works in it; -1 in and beneath a call, and in cycles."""
    none = len(entry)
    rows = np.arange(none)
    link = np.where(entry, rows, np.where(remote | forest.cyclic, none, forest.parent))
    link = np.append(link, none)
    while not np.array_equal(further := link[link], link):
        link = further
    return np.where(link[:-1] == none, -1, link[:-1])


def _trace_numbers(spans: Spans) -> Rows:
    order = np.lexsort((spans.trace_low, spans.trace_high))
    high, low = spans.trace_high[order], spans.trace_low[order]
    new = np.ones(len(order), np.int64)
    new[0] = 0
    new[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new)
    return number


def _cyclic(parent: Rows) -> Flags:
    """Mark rows whose chain of parents never ends, in as many jumps as the deepest chain has bits."""
    none = len(parent)
    link = np.append(np.where(parent < 0, none, parent), none)
    for _ in range(none.bit_length()):
        link = link[link]
    return np.asarray(link[:-1] != none)


def _first_roots(forest: Forest) -> Rows:
    rows = np.flatnonzero(forest.root)
    rows = rows[np.lexsort((forest.start_ns[rows], forest.trace[rows]))]
    _, first = np.unique(forest.trace[rows], return_index=True)
    return rows[first]


def _skewed(forest: Forest) -> Flags:
    parent = forest.parent
    outside = (forest.start_ns < forest.start_ns[parent]) | (forest.end_ns > forest.end_ns[parent])
    return (parent >= 0) & ~forest.cyclic & outside
