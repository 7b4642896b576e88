"""Spans joined into trees by trace, span and parent id; whatever is odd is marked, nothing is lost or guessed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_aefm.collectors.intervals import Flags, Rows
from pytest_aefm.collectors.spans import Spans

__all__ = ["Forest", "trace_numbers"]


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
        trace, traces = trace_numbers(spans)
        ids = _Ids(trace, traces, spans.span_id)
        parent = np.where(spans.parent_id == 0, -1, ids.find(trace, spans.parent_id))
        duplicates = np.zeros(traces, np.int64)
        if not (kept := ids.first == np.arange(len(spans))).all():
            duplicates = np.bincount(trace[~kept], minlength=traces)
            row = np.cumsum(kept) - 1
            spans, trace, parent = spans.take(kept), trace[kept], parent[kept]
            parent = np.where(parent < 0, -1, row[parent])
        root = spans.parent_id == 0
        return cls(
            spans,
            trace,
            traces,
            parent,
            root,
            ~root & (parent < 0),
            _cyclic(parent),
            spans.start_ns,
            np.maximum(spans.start_ns, spans.end_ns),
            spans.end_ns < spans.start_ns,
            duplicates,
        )

    @property
    def duration_ns(self) -> Rows:
        """Duration of each span in nanoseconds; 0 where it ends before it starts."""
        return self.end_ns - self.start_ns

    def first_roots(self) -> Rows:
        """Return the row of each trace's root, of several the one that starts first; traces without one have none."""
        rows = np.flatnonzero(self.root)
        rows = rows[np.lexsort((self.start_ns[rows], self.trace[rows]))]
        _, first = np.unique(self.trace[rows], return_index=True)
        return rows[first]

    def has_parent(self) -> Flags:
        """Mark the spans whose parent is there, and whose chain of parents ends."""
        return (self.parent >= 0) & ~self.cyclic

    def outside(self, tolerance_ns: int = 0) -> Flags:
        """Mark the spans that start before their parent or end after it, by more than the tolerance."""
        parent = self.parent
        early = self.start_ns < self.start_ns[parent] - tolerance_ns
        late = self.end_ns > self.end_ns[parent] + tolerance_ns
        return self.has_parent() & (early | late)


class _Ids:
    """Finds spans by their id within a trace: hash tables with open addressing, all traces' side by side in one array.

    A trace's table is at most half full, and lies where its neighbours' do, so that looking up hardly leaves the cache.
    ``first`` is for each row the first one of its trace and id.
    """

    def __init__(self, trace: Rows, traces: int, span_id: NDArray[np.uint64]) -> None:
        bits = 1 + np.ceil(np.log2(np.bincount(trace, minlength=traces))).astype(np.int64)
        sizes = 1 << bits
        self._span_id, self._base, self._mask, self._shift = span_id, np.cumsum(sizes) - sizes, sizes - 1, 64 - bits
        self._rows = np.full(int(sizes.sum()), -1)
        self.first = np.arange(len(span_id))
        rows, base, mask, at = self.first, *self._places(trace, span_id)
        while len(rows):
            empty = self._rows[base + at] < 0
            self._rows[(base + at)[empty][::-1]] = rows[empty][::-1]  # of several the last that is written stays
            holder = self._rows[base + at]
            other = span_id[holder] != span_id[rows]
            self.first[rows] = np.where(other, rows, holder)
            rows, base, mask = rows[other], base[other], mask[other]
            at = (at[other] + 1) & mask

    def find(self, trace: Rows, wanted: NDArray[np.uint64]) -> Rows:
        """Return for each trace and id the first row that has them, -1 for none."""
        found = np.full(len(wanted), -1)
        rows, base, mask, at = np.arange(len(wanted)), *self._places(trace, wanted)
        while len(rows):
            holder = self._rows[base + at]
            same = (holder >= 0) & (self._span_id[holder] == wanted[rows])
            found[rows[same]] = holder[same]
            on = (holder >= 0) & ~same
            rows, base, mask = rows[on], base[on], mask[on]
            at = (at[on] + 1) & mask
        return found

    def _places(self, trace: Rows, ids: NDArray[np.uint64]) -> tuple[Rows, Rows, Rows]:
        """Return where the table of each trace begins, its mask, and where in it an id is looked for first."""
        first = (ids * _GOLDEN) >> self._shift[trace].astype(np.uint64)
        return self._base[trace], self._mask[trace], first.astype(np.int64)


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: Fibonacci hashing (Knuth, volume 3, 6.4)


def trace_numbers(spans: Spans) -> tuple[Rows, int]:
    """Number the traces in order of their ids; rows of one trace mostly follow one another, so runs are sorted."""
    new = np.ones(len(spans), np.bool_)
    new[1:] = (spans.trace_high[1:] != spans.trace_high[:-1]) | (spans.trace_low[1:] != spans.trace_low[:-1])
    heads = np.flatnonzero(new)
    high, low = spans.trace_high[heads], spans.trace_low[heads]
    order = np.lexsort((low, high))
    high, low = high[order], low[order]
    step = np.zeros(len(order), np.int64)
    step[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    of_run = np.empty(len(order), np.int64)
    of_run[order] = np.cumsum(step)
    return of_run[np.cumsum(new) - 1], int(step.sum()) + 1


def _cyclic(parent: Rows) -> Flags:
    """Mark rows whose chain of parents never ends, in as many jumps as the deepest chain has bits."""
    none = len(parent)
    link = np.append(np.where(parent < 0, none, parent), none)
    for _ in range(none.bit_length()):
        if (link == none).all():
            break
        link = link[link]
    return np.asarray(link[:-1] != none)
