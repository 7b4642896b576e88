"""What requests ask of services, and what those can carry: the utilisation law, before anything runs.

Demand = visits x service time; a service carries (servers / demand) requests per second at most, and the least of all
is the bottleneck (Denning and Buzen 1978). Nothing fails and nothing waits for its turn in these figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_aefm.mesh.model import Endpoint, Service
from pytest_aefm.mesh.steps import Step, leaves
from pytest_aefm.mesh.topology import Topology

__all__ = ["Demand", "RequestDemand", "bottleneck", "demands", "request_demand"]


@dataclass(frozen=True, slots=True)
class Demand:
    """What one request of the entry asks of a service on average: visits, CPU (ms), time that a worker is held (ms)."""

    service: str
    visits: float
    cpu_ms: float
    held_ms: float
    capacity_rps: float
    limit: str

    @property
    def bounded(self) -> bool:
        """Whether anything limits the requests that it carries."""
        return math.isfinite(self.capacity_rps)


@dataclass(frozen=True, slots=True)
class RequestDemand:
    """One endpoint of the entry: its time in ms without any queueing, the demand at each service that it visits."""

    endpoint: Endpoint
    time_ms: float
    services: tuple[Demand, ...]

    @property
    def cpu_ms(self) -> float:
        """CPU of all services together."""
        return sum(demand.cpu_ms for demand in self.services)


def demands(topology: Topology) -> tuple[RequestDemand, ...]:
    """Return the demand of each endpoint of the entry."""
    return tuple(request_demand(topology, endpoint) for endpoint in topology.services[topology.entry].endpoints)


def request_demand(topology: Topology, endpoint: Endpoint) -> RequestDemand:
    """Return what one request of an endpoint of the entry asks of all services."""
    visits: dict[str, float] = {}
    cpu_ms: dict[str, float] = {}
    held_ms: dict[str, float] = {}

    def visit(service: str, at: Endpoint, often: float) -> None:
        visits[service] = visits.get(service, 0.0) + often
        cpu_ms[service] = cpu_ms.get(service, 0.0) + often * _cpu_ms(at.steps)
        held_ms[service] = held_ms.get(service, 0.0) + often * _time_ms(topology, at.steps)
        for share, call in at.calls():
            visit(call.service, topology.target(call), often * share)

    visit(topology.entry, endpoint, 1.0)
    found = tuple(
        Demand(name, visits[name], cpu_ms[name], held_ms[name], *_capacity(service, cpu_ms[name], held_ms[name]))
        for name, service in topology.services.items()
        if visits.get(name)
    )
    return RequestDemand(endpoint, _time_ms(topology, endpoint.steps), found)


def bottleneck(request: RequestDemand) -> Demand | None:
    """Return the service that saturates first, None where nothing limits any."""
    bounded = [demand for demand in request.services if demand.bounded]
    return min(bounded, key=lambda demand: demand.capacity_rps, default=None)


def _capacity(service: Service, cpu_ms: float, held_ms: float) -> tuple[float, str]:
    """Return (requests per second, what limits them): the cores or the workers of all replicas."""
    cores = service.replicas * min(service.threads, service.cpu_limit)
    workers = service.replicas * (service.workers or math.inf)
    by_cpu = 1e3 * cores / cpu_ms if cpu_ms else math.inf
    by_workers = 1e3 * workers / held_ms if held_ms else math.inf
    if by_workers < by_cpu:
        return by_workers, f"{workers:g} worker{'s' if workers > 1 else ''}"
    return by_cpu, f"{cores:g} core{'s' if cores > 1 else ''}" if cpu_ms else ""


def _cpu_ms(steps: Iterable[Step]) -> float:
    """Return the CPU work of steps and of those inside them."""
    return sum(often * _own_cpu_us(step) for often, step in leaves(steps)) / 1e3


def _time_ms(topology: Topology, steps: Iterable[Step]) -> float:
    """Return how long steps take, calls included; of groups side by side, the longest by its mean."""
    total = 0.0
    for step in steps:
        inside = [share * _time_ms(topology, group) for _, group, share in step.groups()]
        if step.parallel is not None:
            one = max(inside)
        elif step.wait is not None:
            one = step.wait.mean_ms
        elif step.call is not None:
            one = _time_ms(topology, topology.target(step.call).steps)
        else:
            one = sum(inside) if inside else _own_cpu_us(step) / 1e3
        total += step.probability * one
    return total


def _own_cpu_us(step: Step) -> float:
    """Return the CPU work of one step alone; data that is kept counts as full."""
    scan = step.state.scan_us_per_mib * step.state.limit / 2**20 if step.state is not None else 0.0
    return (step.cpu_us or 0.0) + scan
