"""The kinds of interference, and the programs that make each of them on this machine (definitions: the dose).

A kind is one entry of a table: a function that turns a spec into programs, and says what each of them must deliver.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_aefm.errors import ConfigurationError, did_you_mean
from pytest_aefm.model import InterferenceSpec

__all__ = [
    "KINDS",
    "RESERVE_BYTES",
    "Host",
    "Stressor",
    "asked_for",
    "bits_per_s",
    "check",
    "filling_s",
    "made_by_programs",
    "memory_bytes",
    "plan",
    "program_of",
    "unfit",
]

KINDS = ("cpu", "mem_capacity", "mem_bandwidth", "network", "fault", "chaos")
"""Every kind that there is; all but the last two are made by programs beside the services."""

RESERVE_BYTES = 2**30
"""Memory that a dose leaves to everything else on this machine."""

_MEMORY_SHARE = 0.9  # of mem_size; the rest is for stress-ng itself
_FILL_BYTES_PER_S = 2 * 2**30  # what one core fills and verifies
_STREAM_CACHE_BYTES = 4 * 2**20
_STREAM_ARRAYS = 12  # stream has three arrays of four times the cache size that it is told
_OVERHEAD_BYTES = 16 * 2**20  # stress-ng itself
_SMALLEST_BYTES = 64 * 2**20  # below, stress-ng itself would pass for a part of the dose
_MOST_STREAMS = 128
_BLOCKS_PER_S, _SMALLEST_BLOCK, _LARGEST_BLOCK = 100, 128, 128 * 2**10  # the largest is iperf3's own
_BITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True, slots=True)
class Host:
    """What recipes need to know of a machine: programs by name, a free port, its last-level cache (None: unknown).

    ``quota``: each program runs under a CPU quota of its spec's ``cpu_size``, as pods do. Traffic goes to ``address``,
    where servers listen; without one on all they have.
    """

    programs: Mapping[str, Path] = field(default_factory=dict)
    port: int = 0
    cache_bytes: int | None = None
    quota: bool = False
    address: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Stressor:
    """One program to run: the ``index``-th of its ``spec``, or its ``part``; what is 0 is not asked of it.

    It starts ``workers`` worker processes at least (0: it works itself), each asking for ``worker_cores`` cores (at
    most 1). One of them holds ``resident_bytes`` of memory. ``streams`` connections carry ``bits_per_s`` together to
    ``port``, where the part without streams listens. ``place`` is the pod that it runs in, if it is one.
    """

    spec: InterferenceSpec
    index: int
    argv: tuple[str, ...]
    workers: int = 1
    worker_cores: float = 0.0
    resident_bytes: int = 0
    bits_per_s: float = 0.0
    streams: int = 0
    port: int = 0
    part: str = ""
    place: str = ""

    @property
    def name(self) -> str:
        """Its name in logs and messages, such as ``cpu-1`` or ``network-client``: that of its pod, if it has one."""
        return self.place or f"{self.spec.kind}-{self.part or self.index + 1}"


def asked_for(specs: Iterable[InterferenceSpec]) -> tuple[InterferenceSpec, ...]:
    """Return those that disturb: a level of 0 asks for nothing."""
    return tuple(spec for spec in specs if spec.count)


def made_by_programs(specs: Iterable[InterferenceSpec]) -> tuple[InterferenceSpec, ...]:
    """Return those that programs beside the services make: the services make faults, and Chaos Mesh chaos."""
    return tuple(spec for spec in specs if spec.kind not in ("fault", "chaos"))


def check(spec: InterferenceSpec, cache_bytes: int | None = None, *, quota: bool = False) -> None:
    """Refuse what is no interference, or none that this machine can make.

    ``cache_bytes`` is the size of its last-level cache, None where that is unknown; ``quota``: see :class:`Host`.

    Raises:
        ConfigurationError: says what would be right.
    """
    subject = f"interference {spec.kind!r}"
    if spec.kind not in KINDS:
        near = did_you_mean(spec.kind, KINDS)
        raise ConfigurationError(subject, "unknown kind", f"one of {', '.join(KINDS)}", near)
    if spec.count < 0:
        raise ConfigurationError(subject, f"count {spec.count}", "0 or more stressors")
    if not 0 < spec.cpu_size < math.inf:
        raise ConfigurationError(subject, f"cpu_size {spec.cpu_size:g}", "a positive number of cores")
    if spec.kind in _CHECKS:
        _CHECKS[spec.kind](subject, spec, cache_bytes, quota)


def plan(specs: Iterable[InterferenceSpec], host: Host, backstop_s: float) -> tuple[Stressor, ...]:
    """Return the programs that make these disturbances, in starting order; they end by themselves after ``backstop_s``.

    Raises:
        ConfigurationError: a disturbance is none, or none that this machine can make.
    """
    stressors: list[Stressor] = []
    for spec in specs:
        check(spec, host.cache_bytes, quota=host.quota)
        if spec.count and spec.kind in _RECIPES:
            stressors += _RECIPES[spec.kind](spec, host, f"{backstop_s:.0f}")
    return tuple(stressors)


def program_of(spec: InterferenceSpec) -> str:
    """Return the name of the program that makes a disturbance."""
    return "iperf3" if spec.kind == "network" else "stress-ng"


def memory_bytes(spec: InterferenceSpec, cache_bytes: int | None = None) -> int:
    """Return how much memory one stressor of a spec holds, 0 where it asks for none."""
    if spec.kind == "mem_capacity":
        return int(_MEMORY_SHARE * spec.mem_size)
    if spec.kind == "mem_bandwidth":
        return _STREAM_ARRAYS * ((cache_bytes or 0) if spec.dram else _STREAM_CACHE_BYTES)
    return 0


def filling_s(specs: Iterable[InterferenceSpec], cores: int, cache_bytes: int | None = None) -> float:
    """Return how many seconds memory doses take until they are full, on ``cores`` cores: 2 GiB/s with each core.

    A stressor fills with ``cpu_size`` cores, one at most, and all of them together have ``cores``.
    """
    asked = [(spec, memory_bytes(spec, cache_bytes)) for spec in specs if spec.count]
    slowest = max((size / min(1.0, spec.cpu_size) for spec, size in asked), default=0.0)
    together = sum(spec.count * size for spec, size in asked) / max(1, cores)
    return max(slowest, together) / _FILL_BYTES_PER_S


def unfit(specs: Iterable[InterferenceSpec], room_bytes: int, cache_bytes: int | None = None) -> str:
    """Say why doses do not fit into memory, of which ``room_bytes`` may still be taken; empty if they do."""
    asked = {spec: memory_bytes(spec, cache_bytes) for spec in specs if spec.count}
    needed = sum(spec.count * size for spec, size in asked.items())
    if not needed or needed <= room_bytes - RESERVE_BYTES:
        return ""
    parts = " + ".join(f"{spec.count} x {_gib(size)}" for spec, size in asked.items() if size)
    room = max(0, room_bytes - RESERVE_BYTES) // 2**30
    return f"the dose does not fit: {parts} GiB of memory are asked for, and there is room for {room} GiB"


def bits_per_s(throughput: str) -> float:
    """Return iperf3's ``100M`` as a number: its letters are powers of 1000."""
    number = throughput.rstrip("KMGTkmgt")
    return float(number) * _BITS[throughput[len(number) :].upper()]


def _gib(size: int) -> str:
    return f"{size / 2**30:.2g}" if size < 2**30 else f"{size / 2**30:.1f}"


def _check_capacity(subject: str, spec: InterferenceSpec, cache_bytes: int | None, quota: bool) -> None:
    if spec.mem_size < _SMALLEST_BYTES:
        raise ConfigurationError(subject, f"mem_size {spec.mem_size}", "at least 64Mi, for stress-ng itself takes some")


def _check_bandwidth(subject: str, spec: InterferenceSpec, cache_bytes: int | None, quota: bool) -> None:
    if spec.cpu_size < 1 and not quota:
        what = f"cpu_size {spec.cpu_size:g} cannot be kept: nothing limits a stream on the local testbed"
        raise ConfigurationError(subject, what, "1: it takes one core")
    if spec.dram and not cache_bytes:
        who = (
            "nodes of a cluster do not tell the size of their"
            if quota
            else "this machine does not tell the size of its"
        )
        what = f"dram is not available: {who} last-level cache"
        raise ConfigurationError(subject, what, None, "leave dram out, which takes 50 MB")
    needed = memory_bytes(spec, cache_bytes) + _OVERHEAD_BYTES
    if spec.mem_size < needed:
        why = f"twelve times the last-level cache of {(cache_bytes or 0) >> 20} MiB" if spec.dram else "three arrays"
        expected = f"at least {math.ceil(needed / 2**20)}Mi: {why}, and stress-ng itself"
        raise ConfigurationError(subject, f"mem_size {spec.mem_size >> 20}Mi is too small", expected)


def _check_fault(subject: str, spec: InterferenceSpec, cache_bytes: int | None, quota: bool) -> None:
    if not spec.service:
        raise ConfigurationError(subject, "service is missing", "the service that is to be slow, or to fail")
    if not spec.delay_ms and not spec.fail_rate:
        raise ConfigurationError(subject, "it does nothing", "delay_ms or fail_rate")
    if spec.delay_ms < 0 or not 0 <= spec.count * spec.fail_rate <= 1:
        what = f"delay_ms {spec.delay_ms:g}, fail_rate {spec.count} x {spec.fail_rate:g}"
        raise ConfigurationError(subject, what, "a positive delay, a share of at most 1")


def _check_network(subject: str, spec: InterferenceSpec, cache_bytes: int | None, quota: bool) -> None:
    if spec.throughput is None:
        raise ConfigurationError(subject, "throughput is missing", "bits per second of one stream, such as 100M")
    if spec.count > _MOST_STREAMS:
        raise ConfigurationError(subject, f"count {spec.count}", f"at most {_MOST_STREAMS} streams, as iperf3 has it")


def _check_chaos(subject: str, spec: InterferenceSpec, cache_bytes: int | None, quota: bool) -> None:
    if not quota:
        raise ConfigurationError(subject, "is made by Chaos Mesh", "a cluster that has it", "--aefm-testbed kubernetes")
    if not spec.manifest:
        expected = "objects of Chaos Mesh, under interference.chaos.manifest"
        raise ConfigurationError(subject, "manifest is missing", expected)


_CHECKS: Mapping[str, Callable[[str, InterferenceSpec, int | None, bool], None]] = {
    "mem_capacity": _check_capacity,
    "mem_bandwidth": _check_bandwidth,
    "network": _check_network,
    "fault": _check_fault,
    "chaos": _check_chaos,
}


def _cpu(spec: InterferenceSpec, host: Host, backstop: str) -> list[Stressor]:
    """Without a quota, a share of a core is a duty cycle of 50 ms slices (definitions: cpu).

    Under one a worker that is held back waits, as the kernel counts it: none gets less than its part of the quota.
    """
    workers = math.ceil(spec.cpu_size)
    if host.quota:
        argv = _stress_ng(host, backstop, "--cpu", str(workers), "--cpu-method", "loop")
        return [Stressor(spec, index, argv, workers, spec.cpu_size / workers) for index in range(spec.count)]
    percent = max(1, round(100 * spec.cpu_size / workers))
    load = () if percent == 100 else ("--cpu-load", str(percent), "--cpu-load-slice", "50")
    argv = _stress_ng(host, backstop, "--cpu", str(workers), "--cpu-method", "loop", *load)
    return [Stressor(spec, index, argv, workers, percent / 100) for index in range(spec.count)]


def _mem_capacity(spec: InterferenceSpec, host: Host, backstop: str) -> list[Stressor]:
    """Fill once, verify, and hold: --vm-hang 0 sleeps for ever, --oomable does not respawn what the kernel killed."""
    size = memory_bytes(spec)
    what = ("--vm", "1", "--vm-bytes", str(size), "--vm-keep", "--vm-populate", "--vm-hang", "0")
    argv = _stress_ng(host, backstop, *what, "--vm-method", "zero-one", "--oomable")
    return [Stressor(spec, index, argv, resident_bytes=size) for index in range(spec.count)]


def _mem_bandwidth(spec: InterferenceSpec, host: Host, backstop: str) -> list[Stressor]:
    """A stream takes one core, for its loads and stores are what it does."""
    cache = f"{host.cache_bytes}b" if spec.dram else "4M"
    argv = _stress_ng(host, backstop, "--stream", "1", "--stream-l3-size", cache, "--oomable")
    size, cores = memory_bytes(spec, host.cache_bytes), min(1.0, spec.cpu_size)
    return [Stressor(spec, index, argv, worker_cores=cores, resident_bytes=size) for index in range(spec.count)]


def _network(spec: InterferenceSpec, host: Host, backstop: str) -> list[Stressor]:
    """One server, and one client with ``count`` streams; interval reports would pile up in both.

    iperf3 paces whole blocks: small ones make a slow stream an even one.
    """
    assert spec.throughput is not None, "checked"
    each, port, iperf3 = bits_per_s(spec.throughput), str(host.port), str(host.programs["iperf3"])
    bound = ("--bind", host.address) if host.address else ()
    server = (iperf3, "--server", *bound, "--port", port, "--interval", "0")
    block = max(_SMALLEST_BLOCK, min(_LARGEST_BLOCK, int(each / 8 / _BLOCKS_PER_S)))
    streams = ("--time", backstop, "--bitrate", f"{each:.0f}", "--parallel", str(spec.count), "--length", str(block))
    client = (iperf3, "--client", host.address, "--port", port, "--interval", "0", *streams)
    total = spec.count * each
    return [
        Stressor(spec, 0, server, workers=0, port=host.port, part="server"),
        Stressor(spec, 1, client, 0, bits_per_s=total, streams=spec.count, port=host.port, part="client"),
    ]


def _stress_ng(host: Host, backstop: str, *arguments: str) -> tuple[str, ...]:
    return (str(host.programs["stress-ng"]), *arguments, "--timeout", f"{backstop}s")


_RECIPES: Mapping[str, Callable[[InterferenceSpec, Host, str], list[Stressor]]] = {
    "cpu": _cpu,
    "mem_capacity": _mem_capacity,
    "mem_bandwidth": _mem_bandwidth,
    "network": _network,
}
