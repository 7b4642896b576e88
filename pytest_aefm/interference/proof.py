"""Proof of a dose over a window, from readings of the stressors at its two edges (definitions: the dose).

A worker that waits for a core has delivered as much as one that runs: ten stressors on one core cannot use ten.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_aefm.interference.kinds import Stressor
from pytest_aefm.model import Dose, InterferenceSpec

__all__ = ["MINIMUM_SHARE", "StressorReading", "WorkerReading", "prove"]

MINIMUM_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class WorkerReading:
    """One worker process: since its start it ran ``run_s`` seconds and waited ``wait_s`` for a core.

    ``started`` is the kernel's start time, which tells it from a later process of the same number; ``cpus``
    are those it may run on; ``rss_bytes`` is its resident memory.
    """

    pid: int
    started: int
    cpus: frozenset[int]
    run_s: float
    wait_s: float
    rss_bytes: int = 0


@dataclass(frozen=True, slots=True)
class StressorReading:
    """One stressor at one moment (monotonic seconds): whether it lives, and its living workers by pid."""

    stressor: Stressor
    pid: int
    alive: bool
    mono_s: float
    workers: Mapping[int, WorkerReading]


@dataclass(frozen=True, slots=True)
class _Delivery:
    """What one stressor delivered: core-seconds asked, run and waited (at most what was asked, per worker)."""

    asked_s: float
    run_s: float
    wait_s: float
    counted_s: float
    faults: tuple[str, ...]
    workers: tuple[Mapping[str, Any], ...]


def prove(
    before: Iterable[StressorReading], after: Iterable[StressorReading], cpus: Collection[int]
) -> tuple[Dose, ...]:
    """Return one Dose for each spec that is running, in order; ``cpus`` are those where stressors belong."""
    later = {reading.stressor: reading for reading in after}
    groups: dict[InterferenceSpec, list[_Delivery]] = {}
    for first in before:
        delivery = _compare(first, later.get(first.stressor), frozenset(cpus))
        groups.setdefault(first.stressor.spec, []).append(delivery)
    return tuple(_dose(spec, deliveries) for spec, deliveries in groups.items())


def _compare(before: StressorReading, after: StressorReading | None, cpus: frozenset[int]) -> _Delivery:
    stressor = before.stressor
    if after is None:
        return _Delivery(0.0, 0.0, 0.0, 0.0, (f"stressor {stressor.name} was not read at the end",), ())
    elapsed_s = after.mono_s - before.mono_s
    share_s = stressor.worker_cores * elapsed_s
    faults = list(_faults(before, after, cpus))
    rows: list[Mapping[str, Any]] = []
    run = wait = counted = 0.0
    for pid, first in before.workers.items():
        last = after.workers.get(pid)
        if last is None or last.started != first.started:
            continue
        ran, waited = last.run_s - first.run_s, last.wait_s - first.wait_s
        run, wait, counted = run + ran, wait + waited, counted + min(ran + waited, share_s)
        rows.append({"pid": pid, "run_s": round(ran, 4), "wait_s": round(waited, 4)})
        if ran + waited < MINIMUM_SHARE * share_s:
            part = (ran + waited) / share_s if share_s else 0.0
            faults.append(f"worker pid {pid} of {stressor.name} gave {part:.0%} of its load")
    return _Delivery(share_s * stressor.workers, run, wait, counted, tuple(faults), tuple(rows))


def _faults(before: StressorReading, after: StressorReading, cpus: frozenset[int]) -> Iterable[str]:
    """Yield what is wrong with who is there: ended, replaced, missing, out of place."""
    name = before.stressor.name
    if not before.alive:
        yield f"stressor {name} (pid {before.pid}) had ended before the window"
    elif not after.alive or after.pid != before.pid:
        yield f"stressor {name} (pid {before.pid}) ended in the window"
    if len(before.workers) != before.stressor.workers:
        yield f"stressor {name} had {len(before.workers)} of {before.stressor.workers} workers when the window began"
    for pid, worker in before.workers.items():
        last = after.workers.get(pid)
        if last is None or last.started != worker.started:
            yield f"stressor pid {pid} ({name}) ended in the window"
        elif not (worker.cpus <= cpus and last.cpus <= cpus):
            where = ",".join(map(str, sorted(worker.cpus | last.cpus)))
            yield f"stressor pid {pid} ({name}) could run on cpus {where}, outside {','.join(map(str, sorted(cpus)))}"
    for pid in after.workers.keys() - before.workers.keys():
        yield f"stressor pid {pid} ({name}) began in the window"


def _dose(spec: InterferenceSpec, deliveries: Sequence[_Delivery]) -> Dose:
    asked = sum(item.asked_s for item in deliveries)
    share = sum(item.counted_s for item in deliveries) / asked if asked > 0 else 0.0
    faults = [fault for item in deliveries for fault in item.faults]
    if share < MINIMUM_SHARE:
        faults.append(f"{share:.0%} of the dose was delivered, at least {MINIMUM_SHARE:.0%} is needed")
    message = f"{spec.kind}: " + ("; ".join(faults) if faults else f"{share:.0%} of the dose was delivered")
    details = {
        "cpu_size": spec.cpu_size,
        "asked_core_s": round(asked, 4),
        "run_s": round(sum(item.run_s for item in deliveries), 4),
        "waiting_s": round(sum(item.wait_s for item in deliveries), 4),
        "workers": [row for item in deliveries for row in item.workers],
    }
    return Dose(spec.kind, spec.count, round(share, 4), not faults, message, details)
