"""An application as processes of this machine: one for each replica of each service of its topology."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_aefm.errors import DeploymentError
from pytest_aefm.mesh.topology import Topology
from pytest_aefm.supervisor import Process, Supervisor, SupervisorError
from pytest_aefm.testbeds import local_probe as probe

__all__ = [
    "PYTHON_ENVIRONMENT",
    "DeployPlan",
    "LocalApp",
    "PortTakenError",
    "ServiceProcess",
    "deploy",
    "describe_status",
    "free_ports",
    "python_program",
    "service_program",
]

PYTHON_ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
}
"""Lets a Python of ours find this very package, whatever the working directory."""

_POLL_S = 0.02
_TAIL_LINES = 15
_REACH_S = 1.0


@dataclass(frozen=True, slots=True)
class ServiceProcess:
    """A replica of a service that runs: its process, its port, and the cores that it is meant to use at most."""

    name: str
    service: str
    process: Process
    port: int
    cpu_limit: float

    def obituary(self) -> str:
        """Say how it ended, with the last lines of its log."""
        status = self.process.poll()
        how = "ended with the supervisor" if status is None else f"ended with {describe_status(status)}"
        tail = self.process.log_tail(_TAIL_LINES)
        return f"{how}\n{tail}" if tail else f"{how}, without a word in {self.process.log}"


@dataclass(frozen=True, slots=True)
class LocalApp:
    """A deployed application, by its replicas' names; ``generation`` counts the deployments of this testbed."""

    topology: Topology
    services: Mapping[str, ServiceProcess]
    generation: int

    @property
    def entry(self) -> ServiceProcess:
        """The service that users reach: its first replica."""
        return self.services[self.topology.replicas(self.topology.entry)[0]]

    @property
    def ports(self) -> dict[str, int]:
        """The port of every replica."""
        return {name: service.port for name, service in self.services.items()}

    def dead(self) -> list[ServiceProcess]:
        """Return the services that have ended."""
        return [service for service in self.services.values() if not service.process.alive]

    def in_flight(self) -> int:
        """Return how many requests all services have in flight; see :class:`pytest_aefm.testbeds.settling.Probed`."""
        return probe.in_flight(self.ports.values())

    def probe_p50_ms(self, count: int) -> float:
        """Return the median of ``count`` first smoke requests in ms."""
        return probe.probe_p50_ms(self.entry.port, self.topology.smoke[0], count)

    def ended(self) -> str:
        """Say which service has ended, empty if none."""
        return next((f"service {service.name!r} has ended" for service in self.dead()), "")

    def stop(self) -> None:
        """End all services, those that are slow to go at the same time."""
        for service in self.services.values():
            if service.process.alive:
                service.process.signal(15)
        for service in self.services.values():
            service.process.stop()


@dataclass(frozen=True, slots=True)
class DeployPlan:
    """What a deployment needs beside its topology: where, how, how long."""

    program: Path
    supervisor: Supervisor
    folder: Path
    cpus: Collection[int]
    iterations_per_us: float
    otlp_endpoint: str | None
    ready_timeout_s: float


class PortTakenError(DeploymentError):
    """Another program took a port between its choice and its use: worth another attempt."""


def deploy(topology: Topology, plan: DeployPlan, ports: Mapping[str, int], generation: int) -> LocalApp:
    """Start all services, wait until they are ready, and see that the application works.

    Raises:
        DeploymentError: names the service that ended or never got ready, with the tail of its log;
            PortTakenError where one of ``ports`` is in use.
    """
    app = _start(topology, plan, ports, generation)
    try:
        _wait_ready(app, plan.ready_timeout_s)
        _functional(app)
    except BaseException:
        _stop_quietly(app)
        raise
    return app


def _start(topology: Topology, plan: DeployPlan, ports: Mapping[str, int], generation: int) -> LocalApp:
    configs = topology.resolve(
        ports,
        iterations_per_us=plan.iterations_per_us,
        otlp_endpoint=plan.otlp_endpoint,
        labels={"aefm.generation": str(generation)},
        faults=True,
    )
    folder = plan.folder / f"{topology.app}-{generation}"
    folder.mkdir(parents=True, exist_ok=True)
    services: dict[str, ServiceProcess] = {}
    for name, config in configs.items():
        path, log = folder / f"{name}.json", folder / f"{name}.log"
        path.write_text(json.dumps(config, indent=1), encoding="utf-8")
        argv = service_program(plan.program, path.absolute())
        try:
            process = plan.supervisor.spawn(argv, name=name, log=log, cpus=plan.cpus)
        except SupervisorError as error:
            raise DeploymentError(f"app {topology.app!r}", f"service {name!r} cannot be started: {error}") from error
        service = topology.services[config["service"]]
        services[name] = ServiceProcess(name, config["service"], process, ports[name], service.cpu_limit)
    return LocalApp(topology, services, generation)


def _wait_ready(app: LocalApp, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    waiting: dict[str, str] = dict.fromkeys(app.services, "not asked yet")
    while waiting:
        _refuse_dead(app)
        for name in list(waiting):
            seen = probe.is_ready(app.services[name].port)
            if seen is None:
                del waiting[name]
            else:
                waiting[name] = seen
        if waiting and time.monotonic() >= deadline:
            name, seen = next(iter(waiting.items()))
            tail = app.services[name].process.log_tail(_TAIL_LINES)
            ready = f"{len(app.services) - len(waiting)}/{len(app.services)} services ready"
            what = f"not ready after {timeout_s:g} s: {ready}; service {name!r}: {seen}"
            raise DeploymentError(f"app {app.topology.app!r}", f"{what}\n{tail}".rstrip())
        if waiting:
            time.sleep(_POLL_S)


def _refuse_dead(app: LocalApp) -> None:
    for service in app.dead():
        tail = service.process.log_tail(_TAIL_LINES)
        if "address already in use" in tail.lower():
            raise PortTakenError(f"app {app.topology.app!r}", f"service {service.name!r}: port {service.port} is taken")
        raise DeploymentError(f"app {app.topology.app!r}", f"service {service.name!r} {service.obituary()}")


def _functional(app: LocalApp) -> None:
    try:
        probe.smoke(app.entry.port, app.topology.smoke)
    except DeploymentError as error:
        _refuse_dead(app)
        raise DeploymentError(f"app {app.topology.app!r}", str(error)) from error


def _stop_quietly(app: LocalApp) -> None:
    # What went wrong before is what the caller must hear; closing the testbed ends the rest.
    with contextlib.suppress(SupervisorError, TimeoutError):
        app.stop()


def service_program(program: Path, config: Path) -> list[str]:
    """Return the command line of a service."""
    return [str(program), "--config", str(config)]


def python_program(module: str, *arguments: object) -> list[str]:
    """Return the command line of a module of ours; ``-P``: no file of the working directory hides another."""
    return [sys.executable, "-P", "-m", module, *map(str, arguments)]


def describe_status(status: int) -> str:
    """Return an exit status in words: ``exit status 3``, ``signal 9``."""
    return f"exit status {status}" if status >= 0 else f"signal {-status}"


def free_ports(count: int, preferred: Iterable[int] = ()) -> list[int]:
    """Return different free ports of 127.0.0.1: ``preferred`` ones first as far as they are free.

    The others lie outside the range that outgoing connections take theirs from. A port is free if it can be listened
    on and be reached: a Kubernetes node refuses connections to its NodePorts, whoever listens there.
    """
    first, last = _ephemeral_range()
    candidates = [port for port in range(15_000, 65_000) if not first <= port <= last]
    if len(candidates) < 10 * count:
        candidates = list(range(15_000, 65_000))
    random.Random(os.urandom(8)).shuffle(candidates)
    found: list[int] = []
    for port in dict.fromkeys([*preferred, *candidates]):
        if len(found) == count:
            break
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
                listener.listen()
                socket.create_connection(("127.0.0.1", port), timeout=_REACH_S).close()
            except OSError:
                continue
        found.append(port)
    return found


def _ephemeral_range() -> tuple[int, int]:
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        return int(first), int(last)
    except (OSError, ValueError):
        return 32_768, 60_999
