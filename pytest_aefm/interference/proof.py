"""Proof of a dose over a window, from readings of the stressors at its two edges (definitions: the dose).

A worker that waits for a core has delivered as much as one that runs: ten stressors on one core cannot use ten.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_aefm.interference.kinds import Stressor
from pytest_aefm.model import Dose, InterferenceSpec

__all__ = ["MINIMUM_SHARE", "StressorReading", "Traffic", "WorkerReading", "lacking", "prove"]

MINIMUM_SHARE = 0.9

_WARM_S = 0.02  # a worker has begun once it ran or waited this long
_FULL = 0.99  # of the memory asked for: what is resident beyond that is stress-ng itself

_NO_RATE = "stress-ng tells a stream's rate only when it ends, in its log"


@dataclass(frozen=True, slots=True)
class WorkerReading:
    """One worker process: since its start it ran ``run_s`` seconds and waited ``wait_s`` for a core.

    ``started`` is the kernel's start time, which tells it from a later process of the same number; ``cpus``
    are those it may run on; ``rss_bytes`` is its resident memory; ``asleep`` whether it wants no core just now.
    """

    pid: int
    started: int
    cpus: frozenset[int]
    run_s: float
    wait_s: float
    rss_bytes: int = 0
    asleep: bool = False


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the connections to one port have done since they were made; ``connections`` are their local ports."""

    connections: frozenset[int]
    acked_bytes: int
    retransmits: int


@dataclass(frozen=True, slots=True)
class StressorReading:
    """One stressor at one moment (monotonic seconds): whether it lives, and its living workers by pid.

    ``traffic`` is that of a stressor with streams, None where the kernel does not tell.
    """

    stressor: Stressor
    pid: int
    alive: bool
    mono_s: float
    workers: Mapping[int, WorkerReading]
    traffic: Traffic | None = None

    @property
    def held_bytes(self) -> int:
        """Resident memory of the worker that has most of it."""
        return max((worker.rss_bytes for worker in self.workers.values()), default=0)


def lacking(reading: StressorReading) -> str:
    """Say what a stressor lacks to be at work, apart from its traffic; empty if nothing.

    Memory is full once it is resident and, where it is held only, its holder is at rest.
    """
    stressor, workers = reading.stressor, reading.workers.values()
    if not reading.alive:
        return "it has ended"
    if len(workers) < stressor.workers:
        return f"{len(workers)}/{stressor.workers} workers"
    busy = sorted((worker.run_s + worker.wait_s for worker in workers), reverse=True)
    if stressor.worker_cores and min(busy[: stressor.workers]) <= _WARM_S:
        return "a worker has not run yet"
    asked, held = stressor.resident_bytes, reading.held_bytes
    resting = stressor.worker_cores or all(worker.asleep for worker in workers)
    if asked and (held < _FULL * asked or not resting):
        return f"{held >> 20} of {asked >> 20} MiB are resident, and it is still filling"
    return ""


@dataclass(frozen=True, slots=True)
class _Delivery:
    """What one stressor delivered: for each measure (asked, delivered), what is wrong, and figures to add up."""

    measures: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    workers: tuple[Mapping[str, Any], ...] = ()


def prove(
    before: Iterable[StressorReading],
    after: Iterable[StressorReading],
    cpus: Collection[int],
    *,
    path: str = "loopback",
    faults: Mapping[Stressor, Sequence[str]] | None = None,
) -> tuple[Dose, ...]:
    """Return one Dose for each spec that is running, in order; ``cpus`` are those where stressors belong.

    ``path`` is where traffic goes. ``faults`` say of stressors what is known to be wrong and why, better than readings
    can.
    """
    known = faults or {}
    later = {reading.stressor: reading for reading in after}
    groups: dict[InterferenceSpec, list[_Delivery]] = {}
    for first in before:
        deliveries = groups.setdefault(first.stressor.spec, [])
        last = later.get(first.stressor)
        if last is None:
            deliveries.append(_Delivery(faults=(f"stressor {first.stressor.name} was not read at the end",)))
            continue
        stressor = first.stressor
        told = known.get(stressor)
        deliveries.append(_Delivery(faults=tuple(told or _faults(first, last, frozenset(cpus)))))
        asked: tuple[tuple[float, _Measure], ...] = (
            (stressor.worker_cores, _core_time),
            (stressor.resident_bytes, _memory),
            (stressor.bits_per_s, _traffic),
        )
        measured = [measure(first, last) for wanted, measure in asked if wanted]
        deliveries += [replace(one, faults=()) for one in measured] if told else measured
    return tuple(_dose(spec, deliveries, path) for spec, deliveries in groups.items())


_Measure = Callable[[StressorReading, StressorReading], _Delivery]


def _faults(before: StressorReading, after: StressorReading, cpus: frozenset[int]) -> Iterable[str]:
    """Yield what is wrong with who is there: ended, replaced, missing, out of place."""
    name, wanted = before.stressor.name, before.stressor.workers
    if not before.alive:
        yield f"stressor {name} (pid {before.pid}) had ended before the window"
    elif not after.alive or after.pid != before.pid:
        yield f"stressor {name} (pid {before.pid}) ended in the window"
    if len(before.workers) < wanted:
        yield f"stressor {name} had {len(before.workers)} of {wanted} workers when the window began"
    for pid, worker in before.workers.items():
        last = after.workers.get(pid)
        if last is None or last.started != worker.started:
            if pid != before.pid:
                yield f"stressor pid {pid} ({name}) ended in the window"
        elif not (worker.cpus <= cpus and last.cpus <= cpus):
            where = ",".join(map(str, sorted(worker.cpus | last.cpus)))
            yield f"stressor pid {pid} ({name}) could run on cpus {where}, outside {','.join(map(str, sorted(cpus)))}"
    for pid in after.workers.keys() - before.workers.keys():
        yield f"stressor pid {pid} ({name}) began in the window"


def _core_time(before: StressorReading, after: StressorReading) -> _Delivery:
    """Measure how long the busiest workers, as many as were asked for, ran or waited: each counts its share at most."""
    stressor, elapsed_s = before.stressor, after.mono_s - before.mono_s
    share_s = stressor.worker_cores * elapsed_s
    spent = []
    for pid, first in before.workers.items():
        last = after.workers.get(pid)
        if last is not None and last.started == first.started:
            spent.append((last.run_s - first.run_s, last.wait_s - first.wait_s, pid))
    spent = sorted(spent, key=lambda item: item[0] + item[1], reverse=True)[: stressor.workers]
    faults = [
        f"worker pid {pid} of {stressor.name} gave {(ran + waited) / share_s if share_s else 0.0:.0%} of its load"
        for ran, waited, pid in spent
        if ran + waited < MINIMUM_SHARE * share_s
    ]
    counted = sum(min(ran + waited, share_s) for ran, waited, _ in spent)
    asked = share_s * stressor.workers
    run_s, waiting_s = sum(item[0] for item in spent), sum(item[1] for item in spent)
    rows = tuple(
        {**_whose(stressor, pid), "run_s": round(ran, 4), "wait_s": round(waited, 4)} for ran, waited, pid in spent
    )
    figures = {"asked_core_s": asked, "run_s": run_s, "waiting_s": waiting_s}
    return _Delivery({"core time": (asked, counted)}, tuple(faults), figures, rows)


def _memory(before: StressorReading, after: StressorReading) -> _Delivery:
    """Measure what was resident at both edges: the smaller of the two was held, as far as one can know."""
    stressor, asked = before.stressor, before.stressor.resident_bytes
    faults = [
        f"{stressor.name} held {reading.held_bytes >> 20} of {asked >> 20} MiB when the window {when}"
        for reading, when in ((before, "began"), (after, "ended"))
        if reading.held_bytes < MINIMUM_SHARE * asked
    ]
    held = min(before.held_bytes, after.held_bytes)
    holders = {pid: worker for pid, worker in before.workers.items() if worker.rss_bytes == before.held_bytes}
    rows = tuple({**_whose(stressor, pid), "rss_bytes": worker.rss_bytes} for pid, worker in holders.items())
    return _Delivery(
        {"memory": (asked, min(held, asked))}, tuple(faults), {"asked_bytes": asked, "held_bytes": held}, rows
    )


def _traffic(before: StressorReading, after: StressorReading) -> _Delivery:
    """Measure what the other end acknowledged, and how often it had to be sent again."""
    stressor, elapsed_s = before.stressor, after.mono_s - before.mono_s
    asked = stressor.bits_per_s * elapsed_s
    figures = {"streams": stressor.streams, "offered_gbit_per_s": stressor.bits_per_s / 1e9}
    if before.traffic is None or after.traffic is None:
        fault = f"the kernel does not tell of the connections of {stressor.name} (sock_diag)"
        return _Delivery({"traffic": (asked, 0.0)}, (fault,), figures)
    faults = []
    if len(before.traffic.connections) <= stressor.streams:  # one more controls them
        made = max(0, len(before.traffic.connections) - 1)
        faults.append(f"{stressor.name} had {made} of {stressor.streams} streams when the window began")
    if before.traffic.connections != after.traffic.connections:
        faults.append(f"connections of {stressor.name} ended or began in the window")
    bits = 8.0 * (after.traffic.acked_bytes - before.traffic.acked_bytes)
    figures |= {
        "achieved_gbit_per_s": bits / elapsed_s / 1e9 if elapsed_s else 0.0,
        "retransmits": after.traffic.retransmits - before.traffic.retransmits,
    }
    return _Delivery({"traffic": (asked, max(0.0, min(bits, asked)))}, tuple(faults), figures)


def _whose(stressor: Stressor, pid: int) -> dict[str, Any]:
    return {"pod": stressor.place, "pid": pid} if stressor.place else {"pid": pid}


def _dose(spec: InterferenceSpec, deliveries: Sequence[_Delivery], path: str) -> Dose:
    """Add up what the stressors of one spec delivered: its share is that of the measure that came off worst."""
    measures: dict[str, tuple[float, float]] = {}
    figures: dict[str, float] = {}
    for item in deliveries:
        for name, (asked, delivered) in item.measures.items():
            sums = measures.get(name, (0.0, 0.0))
            measures[name] = sums[0] + asked, sums[1] + delivered
        for name, figure in item.figures.items():
            figures[name] = figures.get(name, 0) + figure
    share = min((given / asked if asked > 0 else 0.0 for asked, given in measures.values()), default=0.0)
    faults = [fault for item in deliveries for fault in item.faults]
    if share < MINIMUM_SHARE:
        faults.append(f"{share:.0%} of the dose was delivered, at least {MINIMUM_SHARE:.0%} is needed")
    told = "; ".join(faults) if faults else f"{share:.0%} of the dose was delivered{_figures_text(figures)}"
    details: dict[str, Any] = {"cpu_size": spec.cpu_size}
    details |= {name: round(figure, 4) for name, figure in figures.items()}
    details |= _remarks(spec, path)
    workers: dict[tuple[Any, int], dict[str, Any]] = {}
    for row in (row for item in deliveries for row in item.workers):
        workers.setdefault((row.get("pod"), row["pid"]), {}).update(row)
    if workers:
        details["workers"] = list(workers.values())
    where = f" ({path})" if spec.kind == "network" else ""
    return Dose(spec.kind, spec.count, round(share, 4), not faults, f"{spec.kind}{where}: {told}", details)


def _figures_text(figures: Mapping[str, float]) -> str:
    if "achieved_gbit_per_s" in figures:
        achieved, offered = figures["achieved_gbit_per_s"], figures["offered_gbit_per_s"]
        return f": {achieved:.3g} of {offered:.3g} Gbit/s, {figures['retransmits']:.0f} retransmits"
    if "held_bytes" in figures:
        return f": {figures['held_bytes'] / 2**20:.0f} MiB resident"
    return ""


def _remarks(spec: InterferenceSpec, path: str) -> dict[str, Any]:
    """Return what a reader of a dose's details must know of its kind."""
    if spec.kind == "network":
        return {"path": path}
    return {"rate_mb_per_s": None, "rate_reason": _NO_RATE} if spec.kind == "mem_bandwidth" else {}
