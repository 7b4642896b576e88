"""What this machine is: its cores and who gets which, and the facts that a reader of a report needs.

Reads /proc and /sys below ``root`` and changes nothing. What the kernel does not tell is None, never zero.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "CorePlan",
    "assign_cores",
    "cache_bytes",
    "machine_facts",
    "memory_bytes",
    "memory_room_bytes",
    "parse_cpu_list",
    "plan_cores",
    "quota_cores",
]

_ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class CorePlan:
    """Who runs where: cpus of the generator's physical core and of the services; ``shared`` if they are the same."""

    generator: frozenset[int]
    services: frozenset[int]
    shared: bool

    @property
    def used(self) -> frozenset[int]:
        """Every cpu that takes part."""
        return self.generator | self.services

    @property
    def warning(self) -> str:
        """What a reader must know of this plan, empty where there is nothing."""
        if not self.shared:
            return ""
        return "generator and services share one physical core: latencies include the generator's own work"

    def as_json(self) -> dict[str, Any]:
        """Return the plan for a report."""
        plain = {"generator": sorted(self.generator), "services": sorted(self.services), "shared": self.shared}
        return plain | ({"warning": self.warning} if self.warning else {})


def assign_cores(cpus: Collection[int], siblings: Callable[[int], Collection[int]]) -> CorePlan:
    """Give the generator the physical core of the lowest cpu, the services all others.

    ``siblings`` returns the cpus of a cpu's physical core. With one physical core everything shares.
    """
    available = frozenset(cpus)
    first = min(available)
    generator = available & (frozenset(siblings(first)) | {first})
    rest = available - generator
    if not rest:
        return CorePlan(available, available, True)
    return CorePlan(generator, rest, False)


def plan_cores(root: Path = _ROOT) -> CorePlan:
    """Plan with the cpus that this process may use."""

    def siblings(cpu: int) -> Collection[int]:
        text = _read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        return parse_cpu_list(text) if text else {cpu}

    return assign_cores(os.sched_getaffinity(0), siblings)


def parse_cpu_list(text: str) -> frozenset[int]:
    """Read the kernel's lists of cpus: ``0-2,5``."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def machine_facts(root: Path = _ROOT) -> dict[str, Any]:
    """Return the facts of this machine for a report."""
    info = _read(root / "proc/cpuinfo") or ""
    memory = memory_bytes(root)
    return {
        "cpu_model": _field(info, "model name") or platform.machine(),
        "hypervisor": "hypervisor" in (_field(info, "flags") or "").split(),
        "cpus": os.cpu_count(),
        "cpus_allowed": sorted(os.sched_getaffinity(0)),
        "governor": _read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "turbo": _turbo(root),
        "kernel": platform.release(),
        "quota_cores": quota_cores(root),
        "memory_bytes": memory.get("MemTotal"),
        "memory_available_bytes": memory.get("MemAvailable"),
        "psi": (root / "proc/pressure/cpu").exists(),
        "schedstat": (root / "proc/self/schedstat").exists(),
        "steal_since_boot": _steal_since_boot(root),
        "loadavg_1min": _load(root),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }


def memory_bytes(root: Path = _ROOT) -> Mapping[str, int]:
    """Return /proc/meminfo in bytes by name."""
    lines = (_read(root / "proc/meminfo") or "").splitlines()
    fields = (line.replace(":", " ").split() for line in lines)
    return {parts[0]: int(parts[1]) * 1024 for parts in fields if len(parts) == 3 and parts[2] == "kB"}


def memory_room_bytes(root: Path = _ROOT) -> int:
    """Return how much memory may still be taken: what is available, less where a cgroup of this process sets a limit.

    Pages of files that were not used for long count as free, for the kernel gives them up first.
    """
    available = memory_bytes(root).get("MemAvailable", 0)
    return min([available, *_cgroup_rooms(root)])


def _cgroup_rooms(root: Path) -> Iterator[int]:
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, limit, usage, idle = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount, limit, usage = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            idle = "total_inactive_file"
        else:
            continue
        for folder in _upwards(root / mount, path):
            most, used = _read(folder / limit), _read(folder / usage)
            if most and used and most != "max":
                counters = dict(row.split() for row in (_read(folder / "memory.stat") or "").splitlines())
                yield max(0, int(most) - int(used) + int(counters.get(idle, 0)))


def cache_bytes(root: Path = _ROOT) -> int | None:
    """Return the size of the first cpu's last-level cache; None where that is unknown."""
    sizes: dict[int, int] = {}
    for folder in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*"):
        level, size = _read(folder / "level"), _read(folder / "size")
        if level and size and _read(folder / "type") != "Instruction":
            sizes[int(level)] = int(size.rstrip("KM")) << (20 if size.endswith("M") else 10)
    return sizes[max(sizes)] if sizes else None


def quota_cores(root: Path = _ROOT) -> float | None:
    """Return the CPU quota that a cgroup sets on this process, in cores; None where there is none."""
    quotas = [quota for quota in _quotas(root) if quota is not None]
    return min(quotas, default=None)


def _quotas(root: Path) -> Iterator[float | None]:
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            for folder in _upwards(root / "sys/fs/cgroup", path):
                yield _quota(_read(folder / "cpu.max"))
        elif "cpu" in controllers.split(","):
            for folder in _upwards(root / "sys/fs/cgroup/cpu", path):
                quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
                yield _quota(f"{quota} {period}" if quota and period else None)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """Yield a cgroup's folder and those of its ancestors: each of them may limit it."""
    folder = mount / path.lstrip("/")
    while folder != mount:
        yield folder
        folder = folder.parent
    yield mount


def _quota(text: str | None) -> float | None:
    quota, _, period = (text or "max").partition(" ")
    if quota == "max" or int(quota) <= 0:
        return None
    return int(quota) / int(period)


def _turbo(root: Path) -> bool | None:
    off = _read(root / "sys/devices/system/cpu/intel_pstate/no_turbo")
    if off is not None:
        return off == "0"
    boost = _read(root / "sys/devices/system/cpu/cpufreq/boost")
    return None if boost is None else boost == "1"


def _steal_since_boot(root: Path) -> float | None:
    """Return the share of all CPU time that a hypervisor took since the machine started."""
    numbers = list(map(int, (_read(root / "proc/stat") or "cpu").splitlines()[0].split()[1:]))
    if len(numbers) < 8:
        return None
    return round(numbers[7] / max(1, sum(numbers[:8])), 5)


def _load(root: Path) -> float | None:
    text = _read(root / "proc/loadavg")
    return float(text.split()[0]) if text else None


def _field(text: str, name: str) -> str | None:
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), None)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
