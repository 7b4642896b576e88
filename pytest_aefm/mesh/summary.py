"""A topology in words for people: who calls whom, what a request asks of each service, what they carry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_aefm.mesh.demand import Demand, RequestDemand, bottleneck, demands
from pytest_aefm.mesh.model import Endpoint
from pytest_aefm.mesh.topology import Topology

__all__ = ["summary"]

_HEAD = ("service", "visits", "CPU", "held", "carries", "with")


def summary(topology: Topology) -> Iterator[str]:
    """Yield lines: for each endpoint of the entry its call graph, the demand at each service, the bottleneck.

    Endpoints that do the same are told once.
    """
    count, replicas = len(topology.services), len(topology.processes())
    more = f", {replicas} processes" if replicas > count else ""
    yield f"{topology.app}: {count} service{'s' if count > 1 else ''}{more}, entry {topology.entry}"
    told: dict[tuple[object, ...], list[RequestDemand]] = {}
    for request in demands(topology):
        told.setdefault(request.endpoint.steps, []).append(request)
    for alike in told.values():
        request = alike[0]
        yield ""
        yield ", ".join(one.endpoint.name for one in alike)
        yield from _tree(topology, topology.entry, request.endpoint)
        yield from _table(request)
        yield _verdict(request)


def _tree(topology: Topology, service: str, endpoint: Endpoint, lead: str = "  ", often: float = 1.0) -> Iterator[str]:
    share = "" if often == 1.0 else f"  x {often:.3g}"
    yield f"{lead}{service} {endpoint.name}{share}"
    for share_of, call in endpoint.calls():
        yield from _tree(topology, call.service, topology.target(call), f"{lead}  ", share_of)


def _table(request: RequestDemand) -> Iterator[str]:
    rows = [_HEAD, *(_row(demand) for demand in request.services)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    yield ""
    for row in rows:
        first, *others = row
        cells = [f"{first:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))]
        yield f"  {'  '.join(cells)}".rstrip()


def _row(demand: Demand) -> Sequence[str]:
    carries = f"{demand.capacity_rps:,.0f}/s" if demand.bounded else "-"
    return (
        demand.service,
        f"{demand.visits:.3g}",
        f"{demand.cpu_ms:.3g} ms" if demand.cpu_ms else "-",
        f"{demand.held_ms:.3g} ms" if demand.held_ms else "-",
        carries,
        demand.limit,
    )


def _verdict(request: RequestDemand) -> str:
    least = f"  unloaded {request.time_ms:.3g} ms"
    narrowest = bottleneck(request)
    if narrowest is None:
        return f"{least}; nothing in the file limits how many are carried"
    shared = f"; on one core all services together {1e3 / request.cpu_ms:,.0f}/s" if request.cpu_ms else ""
    return f"{least}; bottleneck {narrowest.service}: {narrowest.capacity_rps:,.0f}/s{shared}"
