"""The smallest real testbed: an HTTP server in a thread, driven by the real generator.

Imported by the conftest files that plugin tests write; ``/ok`` answers, ``/fail`` is a 500, ``/slow`` takes 500 ms.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pytest_aefm.collectors import Collector, Observations
from pytest_aefm.errors import CollectorError, DeploymentError, DisruptionError, InterferenceError
from pytest_aefm.load import Driver, LoadRun
from pytest_aefm.model import AppSpec, Case, CheckResult, Dose, InterferenceSpec, LoadSpec, Window
from pytest_aefm.supervisor import Supervisor
from pytest_aefm.testbeds import Deployment


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds, for a client that neither asks nor leaves

    def do_GET(self) -> None:
        """Answer by path."""
        # Not at once: a slow answer allows more pacer lag, and tests run on busy machines.
        time.sleep(0.5 if self.path == "/slow" else 0.15)
        self.send_response(500 if self.path == "/fail" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # closing it waits for them: a socket that is left open is a warning on the terminal
    request_queue_size = 256  # the usual 5 lets a generator's connections wait for a second

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of generators that were interrupted."""


class FailingCollector:
    """A collector whose source is gone."""

    name = "failing"
    provides = frozenset({"self_time"})

    def collect(self, window: Window) -> Observations:
        """Fail."""
        raise CollectorError("failing", "connection refused")


class SmallTestbed:
    """Implements pytest_aefm.testbeds.Testbed. ``faults`` make it misbehave as tests need it."""

    kind = "local"

    def __init__(self, folder: Path, faults: Sequence[str] = (), log: Path | None = None) -> None:
        self._faults, self._log = set(faults), log
        self._interference: tuple[InterferenceSpec, ...] = ()
        self._generation = 1
        self._supervisor = Supervisor(folder / "supervisor.log")
        self._server = _Server(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _note(self, text: str) -> None:
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(f"{text}\n")

    def describe(self) -> Mapping[str, Any]:
        """Return the kind, which is all that there is to know."""
        return {"kind": self.kind}

    def check(self, case: Case) -> None:
        """Accept every case."""
        self._note(f"check {case.id}")

    def ensure_app(self, app: AppSpec) -> Deployment:
        """Return the server, or fail if asked to."""
        self._note(f"app {app.name}")
        if "deploy" in self._faults:
            raise DeploymentError(f"app {app.name!r}", "not ready after 1 s", None, "see its log")
        if "exit-on-deploy" in self._faults:
            os._exit(3)
        details = {"where": Path.cwd()} if "no-json" in self._faults else {}
        services = {"frontend": {"pid": os.getpid()}}
        return Deployment(app.name, self.url, services, "a thread", self._generation, details)

    def ensure_interference(self, specs: tuple[InterferenceSpec, ...]) -> None:
        """Remember what is asked for, or fail if asked to."""
        self._interference = specs
        self._note(f"interference {[(spec.kind, spec.count) for spec in specs]}")
        if "disturb" in self._faults and specs:
            raise InterferenceError("cpu", "stress-ng did not start")
        if "lost-stressor" in self._faults and specs:
            raise DisruptionError("interference pod p", "is taken away: PreemptionByScheduler")

    def settle(self) -> None:
        """Be quiet at once or, if asked to, raise something unforeseen, or deploy anew the first time."""
        if "restless" in self._faults:
            self._faults.remove("restless")
            self._generation += 1
        if "bug" in self._faults:
            raise ZeroDivisionError("a bug in the testbed")

    def start_load(self, driver: Driver, load: LoadSpec, script: Path, artifacts: Path) -> LoadRun:
        """Start the driver against the server."""
        self._note(f"load {load.rate_rps:g}")
        return driver.start(load, script, self.url, supervisor=self._supervisor, cpus=(), artifacts=artifacts)

    def mark(self) -> Any:
        """Read the clock."""
        if "exit-in-window" in self._faults:
            os._exit(3)
        if "lost-load" in self._faults:
            raise DisruptionError("load from the cluster", "pod p is taken away: EvictionByEvictionAPI")
        return time.monotonic()

    def observe(self, before: Any, after: Any, window: Window) -> Observations:
        """Report no restarts, and an untrustworthy apparatus if asked to."""
        message = "a hypervisor took 20% of a used core, limit 10%"
        checks = (CheckResult("steal", "steal" not in self._faults, 0.2, 0.1, "share", message),)
        proven = () if "no-dose" in self._faults else self._interference
        doses = tuple(Dose(spec.kind, spec.count, 1.0, True) for spec in proven)
        return Observations(metrics={"restarts": 0.0}, checks=checks, doses=doses)

    def collectors(self, case: Case) -> Sequence[Collector]:
        """Offer none, or a failing one if asked to."""
        return [FailingCollector()] if "collector" in self._faults else []

    def vacate(self) -> None:
        """Have nothing to stop, or fail to if asked to."""
        self._note("vacate")
        if "vacate" in self._faults:
            raise OSError("it does not stop")

    def close(self) -> tuple[str, ...]:
        """End everything; claim a leftover if asked to."""
        if "vacate" in self._faults:
            self._note("close")
        self._supervisor.close()
        self._server.shutdown()
        self._server.server_close()
        return ("process 4711 would not end",) if "leftover" in self._faults else ()
