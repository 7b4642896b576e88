"""How many iterations of the program's work take one microsecond of CPU: measured once, on an idle machine."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from pytest_aefm.errors import ConfigurationError

__all__ = ["CALM", "Calibrated", "Calibration", "calibrate", "cpu_model"]

CALM = 0.1
"""The spread up to which a measurement counts as one of an idle machine."""

_TRIES = 3


class Calibrated(Protocol):
    """A program with a work loop, such as :class:`pytest_aefm.mesh.program.MeshProgram`."""

    def version(self) -> str:
        """Return the version of the loop."""
        ...

    def measure(self) -> tuple[float, float]:
        """Return (iterations per CPU-microsecond, spread)."""
        ...


@dataclass(frozen=True)
class Calibration:
    """Iterations of the work function per CPU-microsecond, and for what they hold.

    ``spread`` is (largest - smallest) / median over the runs: above 0.1 the machine was not idle.
    """

    iterations_per_us: float
    cpu_model: str
    version: str
    spread: float
    measured_unix_s: float


def calibrate(program: Calibrated, cache_dir: Path, *, model: str | None = None) -> Calibration:
    """Return the calibration of this CPU model and program version, measuring it (0.5 s) if it is not kept.

    Where the machine is not idle it is measured up to three times, and again the next time: the calmest is kept.
    ``model`` defaults to this machine's. Kept in ``cache_dir/calibration.json``; an unreadable file is replaced.

    Raises:
        ConfigurationError: the calibration cannot be written.
        DeploymentError: the program cannot be run.
    """
    model, version = cpu_model() if model is None else model, program.version()
    path = cache_dir / "calibration.json"
    kept = _read(path)
    known = next((entry for entry in kept if (entry.cpu_model, entry.version) == (model, version)), None)
    best = known
    for _ in range(_TRIES):
        if best is not None and best.spread <= CALM:
            break
        median, spread = program.measure()
        if best is None or spread < best.spread:
            best = Calibration(median, model, version, spread, time.time())
    assert best is not None, "measured at least once"
    if best != known:
        _write(path, [*(entry for entry in kept if entry != known), best])
    return best


def cpu_model() -> str:
    """Return the processor's name as the kernel gives it, or the machine's architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return os.uname().machine


def _read(path: Path) -> list[Calibration]:
    try:
        entries = [Calibration(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []
    return [entry for entry in entries if _is_rate(entry.iterations_per_us)]


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < float("inf")


def _write(path: Path, entries: list[Calibration]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps([asdict(entry) for entry in entries], indent=2), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise ConfigurationError(str(path), f"cannot keep the calibration: {error.strerror}") from error
