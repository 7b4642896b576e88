"""Proof of doses on a cluster: what the logs of stressors say of a window, beside what became of their pods. Pure.

The log's moments are the node's uptime; how far that is from our monotonic clock is measured by when lines come to be
seen, so that nobody's wall clock takes part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_aefm.interference import MINIMUM_SHARE, Stressor, StressorReading, prove
from pytest_aefm.model import Dose, InterferenceSpec, Window
from pytest_aefm.testbeds.kubernetes.losses import disruption
from pytest_aefm.testbeds.kubernetes.stress_sampler import Sample

__all__ = ["NodeClock", "PodFate", "Stressing", "fate", "judge"]

Json = dict[str, Any]

_EDGE_S = 5.0
"""How far from an edge of the window a moment may be that stands for it: a node that is busy writes late."""


@dataclass(frozen=True, slots=True)
class NodeClock:
    """How far our monotonic clock is ahead of a node's uptime, and how well that is known."""

    offset_s: float
    uncertainty_s: float


@dataclass(frozen=True, slots=True)
class PodFate:
    """A stressor's pod as the API server tells of it; ``trouble`` says why it does not run, empty while it does."""

    name: str
    uid: str
    node: str
    job: str
    address: str = ""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Stressing:
    """One pod: what it was to do, what became of it (None: gone), and the moments of its log."""

    stressor: Stressor
    before: PodFate | None
    after: PodFate | None
    samples: Sequence[Sample] = ()
    trouble: str = ""


def fate(pod: Json) -> PodFate:
    """Read a pod: running, or why it is not."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    job = next((one["name"] for one in metadata.get("ownerReferences") or () if one.get("kind") == "Job"), "")
    node = (pod.get("spec") or {}).get("nodeName", "")
    return PodFate(metadata["name"], metadata["uid"], node, job, status.get("podIP", ""), _trouble(pod))


def _trouble(pod: Json) -> str:
    if why := disruption(pod):
        return why
    metadata, status = pod["metadata"], pod.get("status") or {}
    for container in status.get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated") or (container.get("lastState") or {}).get("terminated")
        if ended:
            return f"{ended.get('reason', 'ended')}, exit status {ended.get('exitCode')}"
    if status.get("reason"):
        return f"{status['reason']}: {status.get('message', '')}".strip(": ")
    if "deletionTimestamp" in metadata:
        return "it is being deleted"
    phase = str(status.get("phase", "not seen by a kubelet"))
    return "" if phase == "Running" else phase


def judge(
    specs: Iterable[InterferenceSpec],
    pods: Sequence[Stressing],
    clocks: Mapping[str, NodeClock],
    window: Window,
    nodes: Sequence[str],
) -> tuple[tuple[Dose, ...], dict[str, Any]]:
    """Return a dose for each spec, and the effect: the pressure of nodes, where their kernels tell it."""
    first: list[StressorReading] = []
    last: list[StressorReading] = []
    faults: dict[Stressor, list[str]] = {}
    edges: dict[str, tuple[Sample, Sample]] = {}
    throttled: dict[InterferenceSpec, float] = {}
    for pod in pods:
        node = pod.before.node if pod.before else ""
        found = _edges(pod.samples, clocks.get(node), window)
        told = list(_faults(pod, found is not None))
        if found is None:
            gone = [StressorReading(pod.stressor, 0, False, edge, {}) for edge in (0.0, window.duration_s)]
            first, last = [*first, gone[0]], [*last, gone[1]]
            faults[pod.stressor] = told or ["its log tells nothing of the window"]
            continue
        inside, offset_s = found, clocks[node].offset_s
        told += _inside(pod.stressor, inside)
        if told:
            faults[pod.stressor] = told
        first.append(inside[0].reading(pod.stressor, offset_s))
        last.append(inside[-1].reading(pod.stressor, offset_s))
        edges.setdefault(node, (inside[0], inside[-1]))
        held_back = _difference(inside[0].throttled_s, inside[-1].throttled_s)
        if held_back is not None:
            throttled[pod.stressor.spec] = throttled.get(pod.stressor.spec, 0.0) + held_back
    cpus = {cpu for reading in (*first, *last) for worker in reading.workers.values() for cpu in worker.cpus}
    doses = prove(first, last, cpus, path="between nodes", faults=faults)
    shown = tuple(_with_place(dose, list(specs), throttled, clocks, nodes) for dose in doses)
    return shown, _effect(edges)


def _faults(pod: Stressing, told: bool) -> Iterable[str]:
    """Yield what is wrong with a pod as such."""
    where = f"pod {pod.stressor.name}" + (f" on {pod.before.node}" if pod.before else "")
    if pod.before is None:
        yield f"{where} was not there when the window began"
    elif pod.before.trouble:
        yield f"{where}: {pod.before.trouble} when the window began"
    elif pod.after is None or pod.after.uid != pod.before.uid:
        yield f"{where} was gone when the window ended" + (f": {pod.trouble}" if pod.trouble else "")
    elif pod.after.trouble:
        yield f"{where}: {pod.after.trouble} in the window"
    elif not told:
        yield f"{where}: its log does not cover the window" + (f": {pod.trouble}" if pod.trouble else "")


def _edges(samples: Sequence[Sample], clock: NodeClock | None, window: Window) -> list[Sample] | None:
    """Return the moments of a window, one before and one after it among them; None where there are none near."""
    if clock is None:
        return None
    start, end = (edge - clock.offset_s for edge in (window.start_mono_s, window.end_mono_s))
    before = [one for one in samples if one.uptime_s <= start - clock.uncertainty_s]
    after = [one for one in samples if one.uptime_s >= end + clock.uncertainty_s]
    if not before or not after:
        return None
    if start - before[-1].uptime_s > _EDGE_S + clock.uncertainty_s or after[0].uptime_s - end > _EDGE_S:
        return None
    return [one for one in samples if before[-1].uptime_s <= one.uptime_s <= after[0].uptime_s]


def _inside(stressor: Stressor, samples: Sequence[Sample]) -> Iterable[str]:
    """Yield what went wrong between the edges, and is not to be seen at them."""
    kills = samples[-1].oom_kills - samples[0].oom_kills
    if kills:
        yield f"the kernel killed {kills} processes of pod {stressor.name} for want of memory (OOM) in the window"
    before, after = samples[0].reading(stressor), samples[-1].reading(stressor)
    if before.pid != after.pid or before.workers.keys() != after.workers.keys():
        yield f"workers of pod {stressor.name} ended or began in the window"
    least = min(sample.reading(stressor).held_bytes for sample in samples)
    if stressor.resident_bytes and least < MINIMUM_SHARE * stressor.resident_bytes:
        yield f"{stressor.name} held only {least >> 20} of {stressor.resident_bytes >> 20} MiB once in the window"


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _with_place(
    dose: Dose,
    specs: Sequence[InterferenceSpec],
    throttled: Mapping[InterferenceSpec, float],
    clocks: Mapping[str, NodeClock],
    nodes: Sequence[str],
) -> Dose:
    """Add where a dose was given, how often its own quota held it back, and how well the time is known."""
    uncertainty_s = max((clocks[node].uncertainty_s for node in nodes if node in clocks), default=None)
    details = {**dose.details, "nodes": list(nodes), "clock_uncertainty_s": uncertainty_s}
    spec = next((one for one in specs if (one.kind, one.count) == (dose.kind, dose.count)), None)
    if spec is not None and spec in throttled:
        details["throttled_s"] = round(throttled[spec], 3)
    return replace(dose, details=details)


def _effect(edges: Mapping[str, tuple[Sample, Sample]]) -> dict[str, Any]:
    """Return each node's pressure in ms of waiting per second; absent where its kernel tells none, never zero."""
    pressure = {}
    for node, (first, last) in edges.items():
        elapsed_s, before, after = last.uptime_s - first.uptime_s, first.pressure_us, last.pressure_us
        if elapsed_s > 0 and before and after:
            pressure[node] = {
                name: round((total - before[name]) / 1e3 / elapsed_s, 3)
                for name, total in after.items()
                if name in before
            }
    return {"node_pressure_ms_per_s": pressure} if pressure else {}
