"""Interference as processes on the services' cores: started, confirmed to run, read, and gone after."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_aefm.errors import InterferenceError
from pytest_aefm.interference import Stressor, StressorReading, WorkerReading, lacking, prove
from pytest_aefm.supervisor import Process, Supervisor, SupervisorError, descendants
from pytest_aefm.testbeds.local_app import describe_status
from pytest_aefm.testbeds.local_counters import read_process
from pytest_aefm.testbeds.local_sockets import is_listening, read_traffic

__all__ = ["BACKSTOP_S", "Stressors"]

BACKSTOP_S = 24 * 3600.0
"""Seconds after which a stressor would end by itself; one older than half of that is replaced."""

_START_S = 10.0
_FILL_FACTOR, _FILL_S = 3.0, 30.0  # a memory dose may take so many times as long as is expected, and so long at least
_POLL_S = 0.01
_FLOW_S = 0.25  # streams have begun once they carried what they offer over so long


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

    def converge(self, wanted: Sequence[Stressor], filling_s: float = 0.0) -> None:
        """Run exactly these; those that run already stay, unless one of their disturbance is not sound.

        Memory is expected to be filled after ``filling_s`` seconds.

        Raises:
            InterferenceError: a stressor did not start in time, or another is not to be got rid of.
        """
        try:
            unsound = {item.spec for item, running in self._running.items() if not self._sound(running)}
            for stressor, running in list(self._running.items()):
                if stressor not in wanted or stressor.spec in unsound:
                    self._stop(running)
            fresh = [stressor for stressor in wanted if stressor not in self._running]
            # Memory is filled before anything else wants the cores.
            self._begin([one for one in fresh if one.resident_bytes], max(_FILL_S, _FILL_FACTOR * filling_s))
            self._begin([one for one in fresh if not one.resident_bytes], _START_S)
        except SupervisorError as error:
            raise InterferenceError("interference", str(error)) from error

    def _begin(self, fresh: Sequence[Stressor], patience_s: float) -> None:
        """Start stressors, and return when all of them are at work."""
        for stressor in fresh:
            running = self._start(stressor)
            if stressor.part:  # what follows connects to it
                self._confirm(running, patience_s)
        for stressor in fresh:
            self._confirm(self._running[stressor], patience_s)

    @property
    def held_bytes(self) -> int:
        """Memory that all stressors hold now."""
        return sum(reading.held_bytes for reading in self.read())

    def read(self) -> tuple[StressorReading, ...]:
        """Read every stressor as it is now."""
        return tuple(_read(running) for running in self._running.values())

    def _sound(self, running: _Running) -> bool:
        """Whether a stressor is at work, and will not end by its own backstop for long."""
        fresh = time.monotonic() - running.since_mono_s < BACKSTOP_S / 2
        return fresh and not self._lacking(_read(running))

    def _start(self, stressor: Stressor) -> _Running:
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / f"{stressor.name}.log"
        process = self._supervisor.spawn(stressor.argv, name=stressor.name, log=log, cpus=self._cpus)
        self._running[stressor] = _Running(stressor, process, time.monotonic())
        return self._running[stressor]

    def _confirm(self, running: _Running, patience_s: float) -> None:
        """Wait until a stressor is at work in its place; time in which it waited for a core does not count."""
        deadline = running.since_mono_s + patience_s
        while lacking := self._lacking(reading := _read(running)):
            waited_s = sum(worker.wait_s for worker in reading.workers.values())
            _expect(running, deadline + waited_s, lacking)
            time.sleep(_POLL_S)
        while running.stressor.streams:
            before = _read(running)
            time.sleep(_FLOW_S)
            (dose,) = prove([before], [_read(running)], self._cpus)
            if dose.ok:
                return
            _expect(running, deadline, dose.message)

    def _lacking(self, reading: StressorReading) -> str:
        """Say what a stressor lacks to be at work in its place; empty if nothing."""
        stressor, workers = reading.stressor, reading.workers.values()
        if what := lacking(reading):
            return what
        if not all(worker.cpus <= self._cpus for worker in workers):
            return "a worker is out of its place"
        if stressor.part:
            return _unconnected(reading)
        return ""

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


def _expect(running: _Running, deadline: float, lacking: str) -> None:
    """Go on waiting for a stressor that lacks something.

    Raises:
        InterferenceError: it has ended, or its time is up.
    """
    process, subject = running.process, f"interference {running.stressor.name}"
    if not process.alive:
        status = process.poll()
        how = "with the supervisor" if status is None else f"with {describe_status(status)}"
        raise InterferenceError(subject, f"ended {how}\n{process.log_tail(10)}".rstrip())
    if time.monotonic() > deadline:
        patience_s = deadline - running.since_mono_s
        what = f"not at work after {patience_s:.3g} s: {lacking}\n{process.log_tail(10)}"
        raise InterferenceError(subject, what.rstrip())


def _unconnected(reading: StressorReading) -> str:
    """Say what a server or a client lacks: one listens, the other's streams flow."""
    stressor, traffic = reading.stressor, reading.traffic
    if not stressor.streams:
        try:
            return "" if is_listening(stressor.port) else f"it does not listen on port {stressor.port}"
        except OSError as error:
            return f"the kernel does not tell who listens: {error}"
    if traffic is None:
        return "the kernel does not tell of its connections"
    if len(traffic.connections) <= stressor.streams:  # one more controls them
        return f"{len(traffic.connections)} connections, expected {stressor.streams + 1}"
    return ""


def _read(running: _Running) -> StressorReading:
    """Read a stressor with its workers: its descendants, or itself where it works alone."""
    pid, stressor = running.process.pid, running.stressor
    workers: dict[int, WorkerReading] = {}
    alive = running.process.alive and read_process(pid) is not None
    for worker in (descendants(pid) if stressor.workers else [pid]) if alive else ():
        reading = read_process(worker)
        try:
            cpus = frozenset(os.sched_getaffinity(worker))
        except OSError:
            continue
        if reading is not None:
            # A kernel without these statistics cannot tell of waiting: then only what ran is proven.
            run_s = reading.run_s if reading.threads else reading.cpu_s
            workers[worker] = WorkerReading(
                worker, reading.started, cpus, run_s, reading.wait_s, reading.rss_bytes, reading.asleep
            )
    traffic = read_traffic(stressor.port) if alive and stressor.streams else None
    return StressorReading(stressor, pid, alive, time.monotonic(), workers, traffic)
