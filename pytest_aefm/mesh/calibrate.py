"""How many iterations of the work function take one microsecond of CPU: measured once, on an idle machine.

``python -m pytest_aefm.mesh.calibrate DIR`` prints the calibration that ``DIR/calibration.json`` keeps.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.mesh.work import WORK_VERSION, work

__all__ = ["CALM", "Calibration", "calibrate", "cpu_model", "measure"]

CALM = 0.1
"""The spread up to which a measurement counts as one of an idle machine."""

_RUNS = 9
_RUN_US = 50_000.0
_TRIES = 3


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


def calibrate(cache_dir: Path, *, model: str | None = None, version: str = WORK_VERSION) -> Calibration:
    """Return the calibration of this CPU model and program version, measuring it (0.5 s) if it is not kept.

    Where the machine is not idle it is measured up to three times, and again the next time: the calmest is kept.
    ``model`` defaults to this machine's. Kept in ``cache_dir/calibration.json``; an unreadable file is replaced.

    Raises:
        ConfigurationError: the calibration cannot be written.
    """
    model = cpu_model() if model is None else model
    path = cache_dir / "calibration.json"
    kept = _read(path)
    known = next((entry for entry in kept if (entry.cpu_model, entry.version) == (model, version)), None)
    best = known
    for _ in range(_TRIES):
        if best is not None and best.spread <= CALM:
            break
        median, spread = measure()
        if best is None or spread < best.spread:
            best = Calibration(median, model, version, spread, time.time())
    assert best is not None, "measured at least once"
    if best != known:
        _write(path, [*(entry for entry in kept if entry != known), best])
    return best


def measure(function: Callable[[int], object] = work) -> tuple[float, float]:
    """Return (iterations per CPU-microsecond, spread): the median of short runs on process CPU time."""
    probe = 20_000
    function(probe)  # the interpreter specialises the loop on its first turns
    rate = probe / _cpu_us(function, probe)
    rates = []
    for _ in range(_RUNS):
        iterations = max(1, round(rate * _RUN_US))
        rate = iterations / _cpu_us(function, iterations)
        rates.append(rate)
    median = statistics.median(rates)
    return median, (max(rates) - min(rates)) / median


def cpu_model() -> str:
    """Return the processor's name as the kernel gives it, or the machine's architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return os.uname().machine


def _cpu_us(function: Callable[[int], object], iterations: int) -> float:
    start_ns = time.process_time_ns()
    function(iterations)
    return max(1.0, (time.process_time_ns() - start_ns) / 1e3)


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


def main(arguments: list[str]) -> int:
    """Print the calibration kept in the directory named by the one argument, as JSON."""
    if len(arguments) != 1:
        print("usage: python -m pytest_aefm.mesh.calibrate DIR", file=sys.stderr)
        return 2
    print(json.dumps(asdict(calibrate(Path(arguments[0]))), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
