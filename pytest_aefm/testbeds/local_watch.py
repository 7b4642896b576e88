"""What watches the services from beside the generator: the receiver of traces, and a Prometheus if there is one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pytest_aefm.collectors import Collector
from pytest_aefm.collectors.figures import Limits
from pytest_aefm.collectors.own_metrics import query_collectors
from pytest_aefm.collectors.prometheus import Layout, PrometheusCollector
from pytest_aefm.errors import ConfigurationError
from pytest_aefm.model import Case
from pytest_aefm.queries import LOCAL, fill
from pytest_aefm.supervisor import Supervisor, SupervisorError
from pytest_aefm.testbeds.local_prometheus import JOB, LocalPrometheus, find_prometheus, start_prometheus
from pytest_aefm.testbeds.local_traces import TraceCollector, start_receiver

__all__ = ["Watch", "refuse_unwatched"]

_READY_S = 15.0
_POLL_S = 0.02
_MISSING = "no Prometheus on PATH or beside the interpreter; apt-get install prometheus (or unpack its package)"


class Watch:
    """The watchers of a testbed. Without a Prometheus ``prometheus`` is None, and ``reason`` says why."""

    def __init__(
        self,
        traces: TraceCollector,
        prometheus: LocalPrometheus | None,
        reason: str = "",
        version: str = "",
        interval_s: float = 1.0,
    ) -> None:
        self.traces, self.prometheus = traces, prometheus
        self._reason, self._version, self._interval_s, self._confirmed = reason, version, interval_s, False

    @classmethod
    def start(
        cls,
        supervisor: Supervisor,
        folder: Path,
        cpus: Collection[int],
        scrape_interval_s: float,
        ports: Mapping[str, int],
    ) -> Watch:
        """Start the watchers on ``cpus`` at nice 10, soon to watch services on ``ports``; does not wait for them.

        Raises:
            SupervisorError: the receiver cannot be started. OSError: ``folder`` cannot be written.
        """
        traces = TraceCollector(start_receiver(supervisor, folder, cpus))
        program = find_prometheus()
        if program is None:
            return cls(traces, None, _MISSING)
        try:
            where = folder / "prometheus"
            prometheus = start_prometheus(program, supervisor, where, cpus, scrape_interval_s, ports)
        except SupervisorError as error:
            return cls(traces, None, str(error))
        return cls(traces, prometheus, "", _version(program), scrape_interval_s)

    def follow(self, ports: Mapping[str, int]) -> None:
        """Watch the services on these ports from now on, whether they are up or not."""
        self.traces.watch(ports)
        if self.prometheus is not None:
            self.prometheus.watch(ports)

    def collectors(self, case: Case, since_s: float, limits: Mapping[str, Limits]) -> tuple[Collector, ...]:
        """Return the collectors of services that were deployed at ``since_s``, Unix time, with these limits."""
        if self.prometheus is None:
            return (self.traces,)
        templates = {**LOCAL, **{name: query for name, query in case.queries.items() if name in LOCAL}}
        return (
            PrometheusCollector(
                self.prometheus.url,
                {name: fill(template, job=JOB) for name, template in templates.items()},
                Layout("service", limits=lambda: limits),
                since_s,
                margin_s=2.5 * self._interval_s,
                waits=False,  # what the kernel says is asked, too
                provides=frozenset({"cpu_peak"}),
            ),
            *query_collectors(self.prometheus.url, case.metrics),
            self.traces,
        )

    def confirm(self) -> None:
        """The first time, wait until Prometheus is up, or leave it out."""
        deadline = time.monotonic() + _READY_S
        while self.prometheus is not None and not self._confirmed:
            trouble = self.prometheus.trouble()
            if trouble is None:
                self._confirmed = True
            elif not self.prometheus.process.alive or time.monotonic() > deadline:
                self.prometheus, self._reason = None, trouble
            else:
                time.sleep(_POLL_S)

    def describe(self) -> Mapping[str, Any]:
        """Return which Prometheus takes part, or why none does."""
        if self.prometheus is None:
            return {"prometheus": None, "prometheus_reason": self._reason}
        return {"prometheus": {"program": self.prometheus.process.argv[0], "version": self._version}}


def refuse_unwatched(case: Case) -> None:
    """Refuse what is asked of a Prometheus where there is none.

    Raises:
        ConfigurationError: it says how to get one.
    """
    asked = [f"SLO {slo.text}" for slo in case.slos if slo.name == "cpu_peak"]
    asked += [f"metric {name!r}" for name, query in case.metrics.items() if query is not None]
    if asked and find_prometheus() is None:
        raise ConfigurationError(asked[0], _MISSING)


def _version(program: Path) -> str:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    words = (done.stdout + done.stderr).split()  # "prometheus, version 2.42.0+ds (branch: ...": older ones on stderr
    return words[2] if len(words) > 2 else ""
