"""The kernel's counters of processes, cpus and pressure, read from /proc; a process that is gone is None."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "TICKS_PER_S",
    "CpuTicks",
    "ProcessReading",
    "Ticks",
    "cpu_clock_s",
    "place",
    "pressure_us",
    "read_process",
    "read_threads",
    "read_ticks",
    "steal_share",
    "waited_s",
]

_PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """A living process at one moment.

    ``cpu_s`` counts ended threads, too; ``threads`` maps each living thread to (ran, waited for a core) in
    seconds, empty where the kernel keeps no such statistics. ``started`` is in the kernel's ticks since boot;
    ``asleep`` whether its first thread neither runs nor wants to.
    """

    pid: int
    started: int
    cpu_s: float
    rss_bytes: int
    threads: Mapping[int, tuple[float, float]]
    asleep: bool = False

    @property
    def run_s(self) -> float:
        """Seconds that its living threads ran."""
        return sum(ran for ran, _ in self.threads.values())

    @property
    def wait_s(self) -> float:
        """Seconds that its living threads waited for a core."""
        return sum(waited for _, waited in self.threads.values())


class Ticks(NamedTuple):
    """What a cpu has counted since boot: ticks that a hypervisor took, that processes ran, and all of them."""

    stolen: int
    busy: int
    all: int


CpuTicks = Mapping[int, Ticks]
"""By cpu."""

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def read_process(pid: int) -> ProcessReading | None:
    """Read a process; None if it is gone or a zombie."""
    try:
        # The name in parentheses may hold anything, parentheses included: fields count from the last one.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        if fields[0] in "ZX":
            return None
        resident = int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return None
    cpu_s = cpu_clock_s(pid)
    if cpu_s is None:
        cpu_s = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return ProcessReading(pid, int(fields[19]), cpu_s, resident, read_threads(pid), fields[0] == "S")


def read_threads(pid: int) -> dict[int, tuple[float, float]]:
    """Return (ran, waited for a core) in seconds of each living thread."""
    threads: dict[int, tuple[float, float]] = {}
    with contextlib.suppress(OSError):
        for thread in os.listdir(_PROC / str(pid) / "task"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (_PROC / str(pid) / "task" / thread / "schedstat").read_text().split()
                threads[int(thread)] = (int(fields[0]) / 1e9, int(fields[1]) / 1e9)
    return threads


def waited_s(before: ProcessReading, after: ProcessReading) -> float | None:
    """Return how long a process's threads waited for a core between two readings; None where that is unknown.

    A thread that ended between the two is left out, for the kernel forgets it.
    """
    if not before.threads or not after.threads:
        return None
    return sum(waited - before.threads.get(thread, (0.0, 0.0))[1] for thread, (_, waited) in after.threads.items())


def cpu_clock_s(pid: int) -> float | None:
    """Return a process's CPU time by its clock, to the nanosecond (/proc/PID/stat counts in ticks of 10 ms).

    None if it is gone. The clock's number is made as ``clock_getcpuclockid`` makes it: ~pid in the high bits, 2 for
    CPU time.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except (OSError, OverflowError):
        return None


def read_ticks(cpus: Collection[int], stat: Path = _PROC / "stat") -> CpuTicks:
    """Return the ticks of the given cpus. Interrupts serve whoever is there, and no process ran in them."""
    found: dict[int, Ticks] = {}
    for line in stat.read_text().splitlines():
        match = re.match(r"cpu(\d+) ", line)
        if match and int(match[1]) in cpus:
            ticks = list(map(int, line.split()[1:9]))  # guest time, what follows, is in user time already
            found[int(match[1])] = Ticks(ticks[7] if len(ticks) > 7 else 0, sum(ticks[:3]), sum(ticks))
    return found


def steal_share(before: CpuTicks, after: CpuTicks) -> float:
    """Return the largest share of a cpu's time between two readings that a hypervisor took."""
    shares = [
        (after[cpu].stolen - first.stolen) / (after[cpu].all - first.all)
        for cpu, first in before.items()
        if cpu in after and after[cpu].all > first.all
    ]
    return max(shares, default=0.0)


def pressure_us(folder: Path = _PROC / "pressure") -> dict[str, int]:
    """Return the totals of pressure stall information in microseconds: ``cpu.some``, ``memory.full``, ...

    Empty where the kernel keeps none. ``cpu.full`` of a whole machine is undefined, and left out.
    """
    totals: dict[str, int] = {}
    for resource in ("cpu", "memory", "io"):
        with contextlib.suppress(OSError):
            for line in (folder / resource).read_text().splitlines():
                kind, total = line.split()[0], line.rpartition("total=")[2]
                if (resource, kind) != ("cpu", "full"):
                    totals[f"{resource}.{kind}"] = int(total)
    return totals


def place(pid: int, cpus: Collection[int], nice: int | None = None) -> None:
    """Put all threads of a process on ``cpus``, and at ``nice`` where that is allowed.

    A thread started meanwhile by one that was not yet moved is found on another turn.
    """
    wanted, moved = set(cpus), set[str]()
    for _ in range(10):
        threads = set(os.listdir(_PROC / str(pid) / "task")) - moved
        if not threads:
            return
        for thread in threads:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread), wanted)
                if nice is not None:
                    with contextlib.suppress(PermissionError):
                        os.setpriority(os.PRIO_PROCESS, int(thread), nice)
        moved |= threads
