"""What two readings of all counters, at the window's edges, say of the window. Pure, apart from taking them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_aefm.collectors import Observations
from pytest_aefm.interference import StressorReading, prove
from pytest_aefm.model import CheckResult, Window
from pytest_aefm.testbeds.faults import FaultReading, prove_faults
from pytest_aefm.testbeds.local_app import LocalApp, ServiceProcess
from pytest_aefm.testbeds.local_counters import (
    CpuTicks,
    ProcessReading,
    pressure_us,
    read_process,
    read_ticks,
    steal_share,
    waited_s,
)
from pytest_aefm.testbeds.local_foreign import CpuUse, foreign_check, read_cpu_use
from pytest_aefm.testbeds.machine import CorePlan, memory_bytes

__all__ = ["Mark", "ServiceMark", "observations", "steal_check", "take_mark"]

STEAL_WARN, STEAL_LIMIT = 0.03, 0.10


@dataclass(frozen=True, slots=True)
class ServiceMark:
    """A replica of a service at one moment: None once it has ended, then with what is known of its end."""

    service: str
    pid: int
    cpu_limit: float
    reading: ProcessReading | None
    end: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """All counters at one moment."""

    wall_s: float
    mono_s: float
    services: Mapping[str, ServiceMark]
    stressors: Sequence[StressorReading]
    faults: Sequence[FaultReading]
    ticks: CpuTicks
    cpu_use: CpuUse
    pressure_us: Mapping[str, int]
    available_bytes: int | None = None


def take_mark(
    app: LocalApp | None,
    stressors: Sequence[StressorReading],
    faults: Sequence[FaultReading],
    cores: CorePlan,
    own: Iterable[int] = (),
) -> Mark:
    """Read the counters of an application's services and of the machine now (some milliseconds).

    ``own`` are all processes of the experiment.
    """
    wall_s, mono_s = time.time(), time.monotonic()
    services = {name: _service_mark(service) for name, service in app.services.items()} if app else {}
    available = memory_bytes().get("MemAvailable")
    ticks = read_ticks(cores.used)
    cpu_use = read_cpu_use(own, cores.services, ticks)
    return Mark(wall_s, mono_s, services, stressors, faults, ticks, cpu_use, pressure_us(), available)


def _service_mark(service: ServiceProcess) -> ServiceMark:
    reading = read_process(service.process.pid)
    end = "" if reading is not None else service.obituary()
    return ServiceMark(service.service, service.process.pid, service.cpu_limit, reading, end)


def observations(before: Mark, after: Mark, window: Window, cores: CorePlan, facts: Mapping[str, Any]) -> Observations:
    """Return usage, restarts, doses with proof and effect, and self-checks; ``facts`` go with the details."""
    elapsed_s = after.mono_s - before.mono_s
    delays: dict[str, float] = {}
    services: dict[str, dict[str, Any]] = {}
    for name, last in after.services.items():
        first = before.services.get(name)
        ended = last.reading is None
        services[name] = {"pid": last.pid, "ended": ended} | ({"end": last.end} if ended else {})
        delay = _run_delay_ms_per_s(first, last, elapsed_s)
        if delay is not None:
            delays[name] = delay
    details = {
        "services": services,
        "cores": cores.as_json(),
        "marks": {
            "seconds": round(elapsed_s, 4),
            "start_late_s": round(before.mono_s - window.start_mono_s, 4),
            "end_late_s": round(after.mono_s - window.end_mono_s, 4),
        },
        **facts,
    }
    return Observations(
        metrics=_usage(before, after, elapsed_s),
        checks=tuple(_checks(before, after, cores)),
        doses=(*prove(before.stressors, after.stressors, cores.services), *prove_faults(before.faults, after.faults)),
        effect=_effect(delays, before, after, elapsed_s),
        details=details,
    )


def _usage(before: Mark, after: Mark, elapsed_s: float) -> dict[str, float]:
    """Return the metrics of all services, each over its replicas; where one has ended, restarts alone."""
    replicas: dict[str, list[tuple[ServiceMark | None, ServiceMark]]] = {}
    for name, last in after.services.items():
        replicas.setdefault(last.service, []).append((before.services.get(name), last))
    ended = {service: sum(last.reading is None for _, last in pairs) for service, pairs in replicas.items()}
    metrics = {"restarts": float(sum(ended.values()))}
    for service, pairs in replicas.items():
        metrics[f"restarts({service})"] = float(ended[service])
        read = [(first.reading, last.reading) for first, last in pairs if first and first.reading and last.reading]
        if len(read) < len(pairs) or elapsed_s <= 0:
            continue
        cores = sum(last.cpu_s - first.cpu_s for first, last in read) / elapsed_s
        metrics[f"cpu_cores({service})"] = round(cores, 6)
        metrics[f"cpu({service})"] = round(cores / sum(last.cpu_limit for _, last in pairs), 6)
        metrics[f"memory({service})"] = float(sum(max(first.rss_bytes, last.rss_bytes) for first, last in read))
    return metrics


def _run_delay_ms_per_s(first: ServiceMark | None, last: ServiceMark, elapsed_s: float) -> float | None:
    if first is None or first.reading is None or last.reading is None or elapsed_s <= 0:
        return None
    waited = waited_s(first.reading, last.reading)
    return None if waited is None else round(waited * 1e3 / elapsed_s, 3)


def _effect(delays: Mapping[str, float], before: Mark, after: Mark, elapsed_s: float) -> dict[str, Any]:
    """Return what the kernel tells of waiting and of memory; what it does not tell is absent, never zero."""
    effect: dict[str, Any] = {"run_delay_ms_per_s": dict(delays)} if delays else {}
    if elapsed_s > 0 and after.pressure_us and before.pressure_us:
        effect["node_pressure_ms_per_s"] = {
            name: round((total - before.pressure_us[name]) / 1e3 / elapsed_s, 3)
            for name, total in after.pressure_us.items()
            if name in before.pressure_us
        }
    if before.available_bytes is not None and after.available_bytes is not None:
        effect["memory_available_bytes"] = min(before.available_bytes, after.available_bytes)
    return effect


def steal_check(before: CpuTicks, after: CpuTicks) -> CheckResult:
    """Return the self-check that no hypervisor took the used cores away."""
    steal = round(steal_share(before, after), 5)
    warned = STEAL_WARN < steal <= STEAL_LIMIT
    limit = STEAL_WARN if warned else STEAL_LIMIT
    message = f"a hypervisor took {steal:.1%} of a used core, limit {limit:.0%}"
    return CheckResult("steal", steal <= STEAL_WARN, steal, limit, "share", message, warning=warned)


def _checks(before: Mark, after: Mark, cores: CorePlan) -> Iterable[CheckResult]:
    yield steal_check(before.ticks, after.ticks)
    foreign = foreign_check(before.cpu_use, after.cpu_use, after.mono_s - before.mono_s)
    if foreign is not None:
        yield foreign
    if cores.shared:
        yield CheckResult("cores of its own", False, message=cores.warning, warning=True)
