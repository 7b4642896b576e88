"""Traces of the local testbed: a receiver beside the generator stores them raw, decoded after the window."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_aefm.collectors import Observations
from pytest_aefm.collectors.otlp_store import decode_store
from pytest_aefm.collectors.trace_figures import trace_observations
from pytest_aefm.errors import CollectorError
from pytest_aefm.model import Window
from pytest_aefm.supervisor import Process, Supervisor
from pytest_aefm.testbeds.local_app import PYTHON_ENVIRONMENT, free_ports, python_program
from pytest_aefm.testbeds.local_probe import flush

__all__ = ["LocalReceiver", "TraceCollector", "start_receiver"]


@dataclass(frozen=True, slots=True)
class LocalReceiver:
    """A running receiver and its store."""

    process: Process
    port: int
    store: Path

    @property
    def endpoint(self) -> str:
        """The full URL that takes traces."""
        return f"http://127.0.0.1:{self.port}/v1/traces"


def start_receiver(supervisor: Supervisor, folder: Path, cpus: Collection[int]) -> LocalReceiver:
    """Start the receiver on ``cpus`` at nice 10, with its store in ``folder``; does not wait for it.

    Raises:
        SupervisorError: it cannot be started. OSError: ``folder`` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store, (port,) = folder / "traces.otlp", free_ports(1)
    argv = python_program("pytest_aefm.collectors.receiver", "--store", store.absolute(), "--port", port)
    log = folder / "receiver.log"
    process = supervisor.spawn(argv, name="receiver", log=log, cpus=cpus, nice=10, env=PYTHON_ENVIRONMENT)
    return LocalReceiver(process, port, store)


@dataclass(slots=True)
class TraceCollector:
    """Has the services flush their spans, reads what came since the last time, and analyses one window of it.

    :meth:`watch` says which services there are; the store is read on from where the last collection ended.
    """

    receiver: LocalReceiver
    name: str = "traces"
    provides: frozenset[str] = frozenset({"self_time", "trace_coverage"})
    _ports: dict[str, int] = field(default_factory=dict)
    _offset: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, ports: Mapping[str, int]) -> None:
        """Flush these services from now on."""
        self._ports = dict(ports)

    def collect(self, window: Window) -> Observations:
        """Return self times per service; see :class:`pytest_aefm.collectors.Collector`.

        Raises:
            CollectorError: the receiver has ended, or its store cannot be read.
        """
        if not self.receiver.process.alive:
            raise CollectorError("traces", f"the receiver has ended; {self.receiver.process.log_tail(3)}")
        with self._lock:
            flushed = flush(self._ports)
            if flushed and all("error" in answer for answer in flushed.values()):
                reasons = "; ".join(f"{name}: {answer['error']}" for name, answer in flushed.items())
                raise CollectorError("traces", f"no service could be flushed: {reasons}"[:400])
            spans, self._offset = decode_store(self.receiver.store, self._offset)
        return trace_observations(spans, window, _delivery(flushed))


def _delivery(flushed: Mapping[str, Mapping[str, object]]) -> dict[str, Any]:
    """Return what services say they did not deliver."""
    dropped = {name: answer["spans_dropped"] for name, answer in flushed.items() if answer.get("spans_dropped")}
    failed = {name: answer.get("error", "not complete") for name, answer in flushed.items() if _incomplete(answer)}
    return {"dropped_since_start": dropped, "not_flushed": failed}


def _incomplete(answer: Mapping[str, object]) -> bool:
    return "error" in answer or not answer.get("complete", True)
