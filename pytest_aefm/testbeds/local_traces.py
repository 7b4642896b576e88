"""Traces of the local testbed: a receiver beside the generator stores them raw, decoded after the window."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pytest_aefm.collectors import Observations
from pytest_aefm.collectors.otlp_store import decode_store
from pytest_aefm.collectors.traces import TraceAnalysis, analyse
from pytest_aefm.errors import CollectorError
from pytest_aefm.histogram import LatencyHistogram
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
    provides: frozenset[str] = frozenset({"self_time"})
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
        start_ns, length_ns = round(window.start_wall_s * 1e9), round(window.duration_s * 1e9)
        analysis = analyse(spans, start_ns, start_ns + length_ns)
        return Observations(metrics=_metrics(analysis), details=_details(analysis, flushed), traces=analysis)


def _metrics(analysis: TraceAnalysis) -> dict[str, LatencyHistogram]:
    return {
        f"self_time({name})": LatencyHistogram.of(service.self_time_us.tolist())
        for name, service in analysis.services.items()
    }


def _details(analysis: TraceAnalysis, flushed: Mapping[str, Mapping[str, object]]) -> dict[str, Any]:
    """Return the figures that say how far the traces can be trusted, and per service what else they tell."""
    dropped = {name: answer["spans_dropped"] for name, answer in flushed.items() if answer.get("spans_dropped")}
    failed = {name: answer.get("error", "not complete") for name, answer in flushed.items() if _incomplete(answer)}
    return {
        "traces": analysis.traces,
        "spans": analysis.spans,
        "spans_per_trace": round(analysis.spans / analysis.traces, 3) if analysis.traces else None,
        "orphans": analysis.orphans,
        "rootless": analysis.rootless,
        "skewed": analysis.skewed,
        "errors": analysis.errors,
        "dropped_since_start": dropped,
        "not_flushed": failed,
        "services": {
            name: {
                "requests": service.count,
                "self_time_p50_ms": _median_ms(service.self_time_us),
                "duration_p50_ms": _median_ms(service.duration_us),
                "transit_p50_ms": _median_ms(service.transit_us),
                "errors": service.errors,
            }
            for name, service in sorted(analysis.services.items())
        },
    }


def _incomplete(answer: Mapping[str, object]) -> bool:
    return "error" in answer or not answer.get("complete", True)


def _median_ms(values_us: Any) -> float | None:
    return round(float(np.median(values_us)) / 1e3, 4) if len(values_us) else None
