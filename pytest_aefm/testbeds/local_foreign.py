"""What runs on the services' cores without being part of the experiment: it disturbs them, and nobody asked for it."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_aefm.model import CheckResult
from pytest_aefm.testbeds.local_counters import TICKS_PER_S, CpuTicks, cpu_clock_s

__all__ = ["CpuUse", "foreign_check", "read_cpu_use"]

FOREIGN_WARN, FOREIGN_LIMIT = 0.03, 0.10

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class CpuUse:
    """Who has used how much CPU since boot or its start, in seconds.

    ``busy_s`` is the time that the services' ``cpus`` cores ran processes; ``own_s`` what each process of the
    experiment used that may run there, ``others_s`` what every other process of the machine did, both by pid.
    """

    cpus: int
    busy_s: float
    own_s: Mapping[int, float]
    others_s: Mapping[int, float]


def read_cpu_use(own: Iterable[int], cpus: Collection[int], ticks: CpuTicks) -> CpuUse:
    """Read the counters now: ``own`` are the processes of the experiment, ``cpus`` the cores of its services.

    ``ticks`` are those of these cores at least, read just now.
    """
    ours: dict[int, float] = {}
    mine = set(own)
    for pid in mine:
        with contextlib.suppress(OSError):
            if not os.sched_getaffinity(pid).isdisjoint(cpus) and (used_s := cpu_clock_s(pid)) is not None:
                ours[pid] = used_s
    others = {int(name) for name in os.listdir(_PROC) if name.isdigit()} - mine
    known = {pid: used_s for pid in others if (used_s := cpu_clock_s(pid)) is not None}
    busy = sum(counted.busy for cpu, counted in ticks.items() if cpu in cpus)
    return CpuUse(len(cpus), busy / TICKS_PER_S, ours, known)


def foreign_check(before: CpuUse, after: CpuUse, elapsed_s: float) -> CheckResult | None:
    """Return the self-check that nobody else used the services' cores; None where that cannot be known.

    A core's time is counted in ticks, and so is known to some share only (three standard deviations of sampling); what
    a process that ended had used since the first reading is not known at all.
    """
    if elapsed_s <= 0 or not before.own_s.keys() <= after.own_s.keys():
        return None
    offered_s = after.cpus * elapsed_s
    own_s = sum(used_s - before.own_s.get(pid, 0.0) for pid, used_s in after.own_s.items())
    share = round(max(0.0, after.busy_s - before.busy_s - own_s) / offered_s, 4)
    doubt = 1.5 / math.sqrt(TICKS_PER_S * offered_s)
    warned = FOREIGN_WARN + doubt < share <= FOREIGN_LIMIT + doubt
    limit = round((FOREIGN_WARN if warned else FOREIGN_LIMIT) + doubt, 4)
    message = f"processes that are not of the experiment took {share:.1%} of the services' cores, limit {limit:.1%}"
    if share > FOREIGN_WARN + doubt and (name := _busiest(before, after)):
        message += f" (the busiest of this machine: {name}); end what else runs here"
    return CheckResult("foreign load", share <= FOREIGN_WARN + doubt, share, limit, "share", message, warning=warned)


def _busiest(before: CpuUse, after: CpuUse) -> str:
    """Name the process that used most since the first reading; empty where it was one that is gone already."""
    used = {pid: used_s - before.others_s.get(pid, 0.0) for pid, used_s in after.others_s.items()}
    pid = max(used, key=lambda pid: used[pid], default=0)
    with contextlib.suppress(OSError):
        return f"{(_PROC / str(pid) / 'comm').read_text().strip()}, pid {pid}"
    return ""
