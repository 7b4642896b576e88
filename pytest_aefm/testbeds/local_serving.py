"""A topology served on this machine for whoever wants to try it: from start to Ctrl-C, without any experiment."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_aefm.errors import ConfigurationError, DeploymentError
from pytest_aefm.mesh.calibrate import calibrate
from pytest_aefm.mesh.program import find_mesh
from pytest_aefm.mesh.topology import Topology
from pytest_aefm.supervisor import Supervisor
from pytest_aefm.testbeds.local_app import DeployPlan, LocalApp, PortTakenError, deploy, free_ports

__all__ = ["serve"]

_READY_S, _LOOK_S = 30.0, 0.2


def serve(
    topology: Topology,
    cache_dir: Path,
    *,
    port: int = 0,
    otlp_endpoint: str | None = None,
    tell: Callable[[str], None],
) -> None:
    """Serve a topology, its entry on ``port`` (0: a free one), until SIGINT or SIGTERM; ``tell`` gets its URLs.

    Raises:
        ConfigurationError: ``port`` is no port, or taken.
        DeploymentError: it cannot be started, or a service ended.
    """
    program = find_mesh()
    names = list(topology.processes())
    entry = topology.replicas(topology.entry)[0]
    if not 0 <= port < 65_536:
        raise ConfigurationError("--port", f"got {port}", "a port, or 0 for a free one")
    with tempfile.TemporaryDirectory(prefix="aefm-mesh-") as folder, _until_signalled() as stopped:
        supervisor = Supervisor(Path(folder) / "supervisor.log")
        try:
            plan = DeployPlan(
                program=program.path,
                supervisor=supervisor,
                folder=Path(folder),
                cpus=os.sched_getaffinity(0),
                iterations_per_us=calibrate(program, cache_dir).iterations_per_us,
                otlp_endpoint=otlp_endpoint,
                ready_timeout_s=_READY_S,
            )
            ports = dict(zip(names, free_ports(len(names)), strict=True)) | ({entry: port} if port else {})
            try:
                app = deploy(topology, plan, ports, 1)
            except PortTakenError as error:
                raise ConfigurationError(error.subject, error.what, None, "choose another --port") from error
            _announce(app, tell)
            while not stopped.wait(_LOOK_S):
                if app.dead():
                    raise DeploymentError(f"app {topology.app!r}", app.ended(), None, app.dead()[0].obituary())
        finally:
            supervisor.close()


def _announce(app: LocalApp, tell: Callable[[str], None]) -> None:
    for name, service in app.services.items():
        if service is not app.entry:
            tell(f"{name:24} http://127.0.0.1:{service.port}")
    request = app.topology.smoke[0]
    tell(f"{app.topology.app} answers at http://127.0.0.1:{app.entry.port}, such as {request.method} {request.path}")
    tell("Ctrl-C ends it")


@contextmanager
def _until_signalled() -> Iterator[threading.Event]:
    """Yield an event that SIGINT or SIGTERM sets."""
    stopped = threading.Event()
    old = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
