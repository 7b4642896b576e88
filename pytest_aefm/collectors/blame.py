"""Where the time of a violated latency went: the services that hold the most of the critical path, and their state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pytest_aefm.collectors.critical_path import CriticalPaths
from pytest_aefm.collectors.traces import TraceAnalysis, critical_by_service
from pytest_aefm.decision import SLOResult
from pytest_aefm.model import Blame, Suspect

__all__ = ["find_blame"]

_MOST = 3


def find_blame(
    slos: Iterable[SLOResult], analysis: TraceAnalysis | None, metrics: Mapping[str, Any], effect: Mapping[str, Any]
) -> Blame | None:
    """Return who holds the critical path where an SLO on latency is violated; None where none is, or without traces.

    It is that of the traces that took longer than the lowest of the limits; of all where none did, for then requests
    waited before the entry. ``metrics`` and ``effect`` are the trial's: usage, restarts and run delay are told as
    far as they are known.
    """
    limits = [one.limit for one in slos if one.verdict == "violated" and one.unit == "ms"]
    if not limits or analysis is None or not analysis.traces:
        return None
    slow = analysis.end_to_end_us > min(limits) * 1e3
    shares = _shares(analysis, slow if slow.any() else np.ones_like(slow))
    most = sorted(shares, key=lambda one: one.share, reverse=True)[:_MOST]
    suspects = tuple(replace(one, **_state(one.service, metrics, effect)) for one in most)
    return Blame(min(limits), int(slow.sum()), analysis.traces, suspects)


def _shares(analysis: TraceAnalysis, chosen: Any) -> list[Suspect]:
    """Return each service's share of the critical paths of the chosen traces, transit to it included."""
    forest = analysis.forest
    marked = np.zeros(forest.traces, np.bool_)
    marked[forest.trace[analysis.roots[chosen]]] = True
    on = analysis.critical.on & marked[forest.trace]
    part = CriticalPaths(on, np.where(on, analysis.critical.own_ns, 0))
    own_ns, transit_ns = critical_by_service(forest, analysis.requests, part)
    total, traces = max(1, int(part.own_ns.sum())), int(chosen.sum())
    return [
        Suspect(name, (own + transit) / total, round(own / traces / 1e6, 3), round(transit / traces / 1e6, 3))
        for name, own, transit in zip(forest.spans.services, own_ns.tolist(), transit_ns.tolist(), strict=True)
        if own + transit
    ]


def _state(service: str, metrics: Mapping[str, Any], effect: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: metrics.get(f"{name}({service})") for name in ("cpu", "throttled", "restarts")}
    found["run_delay_ms_per_s"] = (effect.get("run_delay_ms_per_s") or {}).get(service)
    return {name: float(value) for name, value in found.items() if value is not None}
