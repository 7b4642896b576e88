"""Spans joined into trees by trace, span and parent id; whatever is odd is marked, nothing is lost or guessed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
        ids = np.unique(spans.span_id)
        own = trace * len(ids) + np.searchsorted(ids, spans.span_id)
        keys, first = np.unique(own, return_index=True)
        duplicates = np.zeros(traces, np.int64)
        if len(keys) < len(spans):
            kept = np.sort(first)
            duplicates = np.bincount(trace, minlength=traces) - np.bincount(trace[kept], minlength=traces)
            row = np.empty(len(spans), np.int64)
            row[kept] = np.arange(len(kept))
            spans, trace, first = spans.take(kept), trace[kept], row[first]
        root = spans.parent_id == 0
        place = np.minimum(np.searchsorted(ids, spans.parent_id), len(ids) - 1)
        above = trace * len(ids) + place
        at = np.minimum(np.searchsorted(keys, above), len(keys) - 1)
        found = (keys[at] == above) & (ids[place] == spans.parent_id) & ~root
        parent = np.where(found, first[at], -1)
        return cls(
            spans,
            trace,
            traces,
            parent,
            root,
            ~root & ~found,
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
