"""Interference as processes on the services' cores: started, confirmed to run, read, and gone after."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_aefm.errors import InterferenceError
from pytest_aefm.interference import Stressor, StressorReading, WorkerReading
from pytest_aefm.supervisor import Process, Supervisor, SupervisorError, descendants
from pytest_aefm.testbeds.local_app import describe_status
from pytest_aefm.testbeds.local_counters import read_process

__all__ = ["BACKSTOP_S", "Stressors"]

BACKSTOP_S = 24 * 3600.0
"""Seconds after which a stressor would end by itself; one older than half of that is replaced."""

_START_S = 10.0
_POLL_S = 0.01
_WARM_S = 0.02  # a worker has begun once it ran or waited this long


@dataclass(frozen=True, slots=True)
class _Running:
    stressor: Stressor
    process: Process
    since_mono_s: float


class Stressors:
    """The stressors that run now; :meth:`converge` makes them those that a case asks for."""

    def __init__(self, supervisor: Supervisor, folder: Path, cpus: Collection[int]) -> None:
        self._supervisor, self._folder, self._cpus = supervisor, folder, frozenset(cpus)
        self._running: dict[Stressor, _Running] = {}

    def converge(self, wanted: Sequence[Stressor]) -> None:
        """Run exactly these; those that run already and are sound stay.

        Raises:
            InterferenceError: a stressor did not start in time, or another is not to be got rid of.
        """
        try:
            for stressor, running in list(self._running.items()):
                if stressor not in wanted or not self._sound(running):
                    self._stop(running)
            fresh = [stressor for stressor in wanted if stressor not in self._running]
            for stressor in fresh:
                self._start(stressor)
            self._confirm([self._running[stressor] for stressor in fresh])
        except SupervisorError as error:
            raise InterferenceError("interference", str(error)) from error

    def read(self) -> tuple[StressorReading, ...]:
        """Read every stressor as it is now."""
        return tuple(_read(running) for running in self._running.values())

    def _sound(self, running: _Running) -> bool:
        """Whether a stressor has all its workers, and will not end by its own backstop for long."""
        reading = _read(running)
        fresh = time.monotonic() - running.since_mono_s < BACKSTOP_S / 2
        return fresh and reading.alive and len(reading.workers) == running.stressor.workers

    def _start(self, stressor: Stressor) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / f"{stressor.name}.log"
        process = self._supervisor.spawn(stressor.argv, name=stressor.name, log=log, cpus=self._cpus)
        self._running[stressor] = _Running(stressor, process, time.monotonic())

    def _confirm(self, fresh: Sequence[_Running]) -> None:
        """Wait until each worker of each stressor runs, or waits for a core, in its place."""
        deadline = time.monotonic() + _START_S
        for running in fresh:
            while not self._begun(reading := _read(running)):
                process, name = running.process, running.stressor.name
                if not process.alive:
                    status = process.poll()
                    how = "with the supervisor" if status is None else f"with {describe_status(status)}"
                    raise InterferenceError(f"interference {name}", f"ended {how}\n{process.log_tail(10)}")
                if time.monotonic() > deadline:
                    seen = f"{len(reading.workers)}/{running.stressor.workers} workers"
                    what = f"not running after {_START_S:g} s: {seen}\n{process.log_tail(10)}"
                    raise InterferenceError(f"interference {name}", what.rstrip())
                time.sleep(_POLL_S)

    def _begun(self, reading: StressorReading) -> bool:
        workers = reading.workers.values()
        begun = all(worker.run_s + worker.wait_s > _WARM_S and worker.cpus <= self._cpus for worker in workers)
        return reading.alive and begun and len(workers) == reading.stressor.workers

    def _stop(self, running: _Running) -> None:
        workers = {worker.pid: worker.started for worker in _read(running).workers.values()}
        name = running.stressor.name
        try:
            running.process.stop()
        except TimeoutError as error:
            raise InterferenceError(f"interference {name}", f"does not end: {error}") from error
        del self._running[running.stressor]
        deadline = time.monotonic() + _START_S
        for pid, started in workers.items():
            while (left := read_process(pid)) is not None and left.started == started:
                if time.monotonic() > deadline:
                    raise InterferenceError(f"interference {name}", f"worker pid {pid} does not end")
                time.sleep(_POLL_S)


def _read(running: _Running) -> StressorReading:
    pid = running.process.pid
    workers: dict[int, WorkerReading] = {}
    alive = running.process.alive and read_process(pid) is not None
    for worker in descendants(pid) if alive else ():
        reading = read_process(worker)
        try:
            cpus = frozenset(os.sched_getaffinity(worker))
        except OSError:
            continue
        if reading is not None:
            # A kernel without these statistics cannot tell of waiting: then only what ran is proven.
            run_s = reading.run_s if reading.threads else reading.cpu_s
            workers[worker] = WorkerReading(worker, reading.started, cpus, run_s, reading.wait_s, reading.rss_bytes)
    return StressorReading(running.stressor, pid, alive, time.monotonic(), workers)
