"""The kinds of interference, and the programs that make each of them on this machine (definitions: the dose).

A kind is one entry of a table: a function that turns a spec into the arguments of one stressor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_aefm.errors import ConfigurationError, did_you_mean
from pytest_aefm.model import InterferenceSpec

__all__ = ["KINDS", "Stressor", "check", "plan"]

KINDS = ("cpu", "mem_capacity", "mem_bandwidth", "network")
"""Every kind that there is, available on the local testbed or not."""


@dataclass(frozen=True, slots=True)
class Stressor:
    """One program to run: the ``index``-th of its ``spec``.

    It runs ``workers`` worker processes, each asking for ``worker_cores`` cores (at most 1).
    """

    spec: InterferenceSpec
    index: int
    argv: tuple[str, ...]
    workers: int
    worker_cores: float

    @property
    def name(self) -> str:
        """Its name in logs and messages, such as ``cpu-1``."""
        return f"{self.spec.kind}-{self.index + 1}"


@dataclass(frozen=True, slots=True)
class _Recipe:
    arguments: tuple[str, ...]
    workers: int
    worker_cores: float


def _cpu(spec: InterferenceSpec) -> _Recipe:
    """Without a quota, a share of a core is a duty cycle of 50 ms slices (definitions: cpu)."""
    workers = math.ceil(spec.cpu_size)
    percent = max(1, round(100 * spec.cpu_size / workers))
    load = () if percent == 100 else ("--cpu-load", str(percent), "--cpu-load-slice", "50")
    return _Recipe(("--cpu", str(workers), "--cpu-method", "loop", *load), workers, percent / 100)


_LOCAL: Mapping[str, Callable[[InterferenceSpec], _Recipe]] = {"cpu": _cpu}


def check(spec: InterferenceSpec) -> None:
    """Refuse what is no interference, or none that the local testbed has.

    Raises:
        ConfigurationError: says what is available, or the nearest right name.
    """
    subject = f"interference {spec.kind!r}"
    available = ", ".join(_LOCAL)
    if spec.kind not in KINDS:
        near = did_you_mean(spec.kind, KINDS)
        raise ConfigurationError(subject, "unknown kind", f"one of {', '.join(KINDS)}", near)
    if spec.kind not in _LOCAL:
        what = f"kind {spec.kind!r} is not available on the local testbed yet"
        raise ConfigurationError(subject, what, None, f"available: {available}")
    if spec.count < 0:
        raise ConfigurationError(subject, f"count {spec.count}", "0 or more stressors")
    if not 0 < spec.cpu_size < math.inf:
        raise ConfigurationError(subject, f"cpu_size {spec.cpu_size:g}", "a positive number of cores")


def plan(specs: Iterable[InterferenceSpec], program: Path, backstop_s: float) -> tuple[Stressor, ...]:
    """Return the programs that make these disturbances, one per count; they end by themselves after ``backstop_s``.

    Raises:
        ConfigurationError: a kind is unknown or not available.
    """
    stressors: list[Stressor] = []
    for spec in specs:
        check(spec)
        recipe = _LOCAL[spec.kind](spec)
        argv = (str(program), *recipe.arguments, "--timeout", f"{backstop_s:.0f}s")
        stressors += [Stressor(spec, index, argv, recipe.workers, recipe.worker_cores) for index in range(spec.count)]
    return tuple(stressors)
