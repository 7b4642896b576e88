"""The rows behind an analysis, as columns of names and numbers: every child span, and every trace."""

from __future__ import annotations

from typing import Any

import numpy as np

from pytest_aefm.collectors.intervals import merged_steps
from pytest_aefm.collectors.spans import hexadecimal
from pytest_aefm.collectors.traces import TraceAnalysis

__all__ = ["call_columns", "trace_columns"]


def call_columns(analysis: TraceAnalysis) -> dict[str, Any]:
    """Return one row per span that has a parent, under AEFM's names of ``raw_data``; times in microseconds.

    ``exact_parent_duration`` is the parent's duration minus the union of its children. ``step`` numbers, from 0, the
    children of a parent that run at the same time as one step. ``trace_time`` is the start of the trace's root.
    """
    forest, spans = analysis.forest, analysis.forest.spans
    child = np.flatnonzero(analysis.inside & forest.has_parent())
    parent = forest.parent[child]
    began = np.zeros(forest.traces, np.int64)
    began[forest.trace[analysis.roots]] = forest.start_ns[analysis.roots]
    names = {name: np.array(getattr(spans, name), object) for name in ("services", "operations", "pods")}
    children, parents = spans.take(child), spans.take(parent)
    return {
        "trace_id": children.trace_ids(),
        "trace_time": began[forest.trace[child]] / 1e3,
        "start_time": forest.start_ns[child] / 1e3,
        "end_time": forest.end_ns[child] / 1e3,
        "parent_id": hexadecimal(parents.span_id),
        "child_id": hexadecimal(children.span_id),
        "child_operation": names["operations"][children.operation],
        "parent_operation": names["operations"][parents.operation],
        "child_ms": names["services"][children.service],
        "child_pod": names["pods"][children.pod],
        "parent_ms": names["services"][parents.service],
        "parent_pod": names["pods"][parents.pod],
        "parent_duration": forest.duration_ns[parent] / 1e3,
        "child_duration": forest.duration_ns[child] / 1e3,
        "exact_parent_duration": analysis.self_ns[parent] / 1e3,
        "step": merged_steps(forest.start_ns[child], forest.end_ns[child], parent),
    }


def trace_columns(analysis: TraceAnalysis) -> dict[str, Any]:
    """Return one row per trace, under AEFM's names of ``end_to_end_data``: ``trace_duration`` in microseconds."""
    roots = analysis.forest.spans.take(analysis.roots)
    return {"trace_id": roots.trace_ids(), "trace_duration": analysis.end_to_end_us}
